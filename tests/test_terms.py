import re
from dataclasses import replace
from pathlib import Path

import pytest

import omokage
from omokage.model import load_model
from omokage.terms import LANGUAGES, generated, terms

ROOT = Path(omokage.__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    return load_model("shipped", "cpu")


def test_what_ships_and_what_came_from_it_may_not_be_sold(model):
    own = {"images": 1, "face_set": "0" * 64}
    of_others = replace(model, snapshot_hash="1" * 64, progress=own)
    tuned = replace(of_others, progress={**own, "origin": {"snapshot": model.snapshot_hash}})
    same_faces = replace(of_others, progress={**own, "face_set": model.progress["face_set"]})
    for language in LANGUAGES:
        told = {terms(each, language).sentence for each in (model, tuned, same_faces)}
        assert len(told) == 1
        assert terms(of_others, language).sentence not in told
        assert len(generated(language)) > 10
    assert terms(model).shipped
    assert not terms(of_others).shipped
    assert re.match(r"May I sell this\? No", terms(model).sentence)
    assert re.match(r"May I sell this\? Only if", terms(of_others).sentence)
    assert terms(model, "fr") == terms(model, "en")


@pytest.mark.skipif(not (ROOT / "LICENSE-WEIGHTS.md").exists(), reason="not in a checkout")
def test_every_file_of_weights_has_its_terms():
    told = (ROOT / "LICENSE-WEIGHTS.md").read_text(encoding="utf-8")
    for file in (Path(omokage.__file__).parent / "assets").glob("*.safetensors"):
        assert f"`{file.name}`" in told
