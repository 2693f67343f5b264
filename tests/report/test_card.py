"""The model card, from the pictures' own labels to Markdown."""

import json

import pytest

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.derive.provenance import FACES, provenance
from omokage.data.drawn import draw
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.recipe import load_recipe
from omokage.report.card import write_card
from omokage.running import train

SMALL = ("model.channels=[8, 4]", "model.latent=4", "discriminator.channels=[4, 8]", "training.batch=4")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Six pictures taken as faces: two by an artist, one by two, one of an artist who opted out."""
    folder = draw(6, tmp_path_factory.mktemp("card") / "in", size=(32, 32), workers=1)
    pictures = sorted(folder.glob("*.png"))
    labels = [
        {"artist": "Mori", "license": "CC-BY 4.0", "rating": "general"},
        {"artist": "Mori", "license": "CC-BY 4.0"},
        {"artist": ["Mori", "b* [x](y)"], "license": "CC0"},
        {"artist": "Hayashi"},
    ]
    for picture, label in zip(pictures, labels, strict=False):
        picture.with_suffix(".json").write_text(json.dumps(label))
    (folder.parent / "out.txt").write_text("hayashi\n")
    options = Options(detector=None, clean=False, duplicates=False, opt_out=str(folder.parent / "out.txt"))
    build([folder], folder.parent / "faces", size=16, workers=1, options=options)
    return folder.parent / "faces"


def test_a_run_knows_where_its_faces_came_from(faces, tmp_path):
    told = provenance(FaceSet.open(faces))
    assert told["faces"] == 5
    assert told["licenses"] == {"named": {"CC-BY 4.0": 2, "CC0": 1}, "others": 0, "unknown": 2}
    assert told["artists"]["named"]["Mori"] == 3
    assert told["ratings"]["unknown"] == 4
    assert (told["opt_out"]["entries"], told["opted_out"]) == (1, 1)

    run = tmp_path / "run"
    train(load_recipe("dcgan", SMALL), faces, run, images=8)
    assert json.loads((run / FACES).read_text()) == told
    card = write_card(run)
    assert FaceSet.open(faces).content_hash in card
    assert "CC-BY 4.0 (2), CC0 (1); unknown of 2 faces" in card
    assert "Mori (3), b\\* \\[x\\](y) (1)" in card
    assert "pictures left out by it: 1" in card
    assert "Not measured" in card
    record = {"protocol": "fid10k-full-inception2015", "fid": 38.1379, "kid": 0.028192, "images_seen": 8}
    (run / "evaluations.jsonl").write_text(json.dumps(record) + "\n")
    assert "| `fid10k-full-inception2015` | 8 | 38.14 | – | 28.19 | – |" in write_card(run)


def test_the_verb_writes_a_file(faces, tmp_path, capsys):
    run = tmp_path / "run"
    train(load_recipe("dcgan", SMALL), faces, run, images=4)
    assert main(["card", str(run), "-o", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text() == write_card(run)
    (run / FACES).unlink()
    capsys.readouterr()
    assert main(["card", str(run)]) == 0
    assert "Not known" in capsys.readouterr().out
    (run / FACES).write_text("[]")
    assert main(["card", str(run)]) == 2


def test_no_run_no_card(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        write_card(tmp_path / "none")
    (tmp_path / "recipe.toml").write_text(load_recipe("dcgan").to_toml())
    with pytest.raises(UserError, match="train it first"):
        write_card(tmp_path)
