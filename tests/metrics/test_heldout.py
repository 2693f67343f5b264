import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.families import MODELS
from omokage.metrics.heldout import check_unseen, evaluate_heldout
from omokage.metrics.likelihood import bits_per_dimension
from omokage.metrics.protocol import parse_bits
from omokage.metrics.records import read_lines
from omokage.metrics.report import print_results
from omokage.model import Model
from omokage.recipe import load_recipe

WHOLE = "a" * 64


def say_split(folder: Path, **split) -> FaceSet:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["split"] = {"of": WHOLE, "holdout": 0.3, "seed": 0, "groups": "near-duplicates"} | split
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return FaceSet.open(folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A training part and a held-out part, side by side, as a split leaves them."""
    folder, rng, made = tmp_path_factory.mktemp("split"), np.random.default_rng(0), {}
    for part, count in (("train", 8), ("heldout", 20)):
        pictures = tmp_path_factory.mktemp(part)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(pictures / f"{i}.png")
        build([pictures], folder / part, as_faces=True, workers=1)
        made[part] = say_split(folder / part, part=part)
    return made


def model(trained_on, *overrides):
    settings = ["model.size=8", "model.levels=1", "model.steps=1", "model.hidden=4", *overrides]
    recipe = load_recipe("glow-32", settings)
    torch.manual_seed(0)
    flow = MODELS["glow"].build(recipe.model)
    flow.log_prob(torch.rand(16, 3, 8, 8) * 2 - 1)  # fits mean and scale
    progress = {"images": 64} | ({} if trained_on is None else {"face_set": trained_on})
    return Model(flow.eval().requires_grad_(False), recipe, progress, None, "5" * 64)


@pytest.mark.parametrize("bits", [8, 5])
def test_the_record_says_what_made_the_number(parts, bits, tmp_path):
    trained = model(parts["train"].content_hash)
    record = evaluate_heldout(
        trained, parts["heldout"], f"bpd-heldout-{bits}bit", tmp_path / "e.jsonl", seed=3
    )
    expected = bits_per_dimension(trained, parts["heldout"].everything(8), bits=bits, seed=3)
    assert record["bits_per_dimension"] == expected.value
    assert record["interval"] == pytest.approx(expected.interval)  # no face is there twice
    assert record["different_faces"] == 20
    assert record["interval"][0] < record["bits_per_dimension"] < record["interval"][1]
    said = {
        "protocol": f"bpd-heldout-{bits}bit",
        "bits": bits,
        "dequantisation": "uniform",
        "bound": "upper",
        "draws": 1,
        "seed": 3,
        "faces": 20,
        "faces_not_finite": 0,
        "trained_on": parts["train"].content_hash,
        "trained_on_the_other_part": True,
        "trained_bits": 8,
        "face_set_hash": parts["heldout"].content_hash,
        "resolution": [8, 8],
        "snapshot_hash": "5" * 64,
        "images_seen": 64,
    }
    assert said.items() <= record.items()
    assert record["split"]["part"] == "heldout"
    assert record["split"]["groups"] == "near-duplicates"
    assert read_lines(tmp_path / "e.jsonl") == [record]
    # Uniform noise of so many bits needs so many, and the bound lies above.
    assert bits - 0.05 < record["bits_per_dimension"] < bits + 1.5


def test_faces_that_the_model_may_have_seen_are_refused(parts, tmp_path):
    heldout, train = parts["heldout"], parts["train"]
    with pytest.raises(UserError, match=r"is the train part of a split.*omokage faces split"):
        check_unseen(train, None)
    with pytest.raises(UserError, match="trained on this face set"):
        check_unseen(heldout, heldout.content_hash)
    with pytest.raises(UserError, match="trained on the set that it was split from"):
        check_unseen(heldout, WHOLE)
    shutil.copytree(heldout.path, tmp_path / "plain")
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    del manifest["split"]
    (tmp_path / "plain" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is not part of a split"):
        check_unseen(FaceSet.open(tmp_path / "plain"), None)


def test_what_is_not_known_is_said(parts, tmp_path):
    heldout = parts["heldout"]
    assert check_unseen(heldout, parts["train"].content_hash)
    assert not check_unseen(heldout, "b" * 64)
    assert not check_unseen(heldout, None)
    # A training part beside it, but of another split.
    for part in ("train", "heldout"):
        shutil.copytree(parts[part].path, tmp_path / part)
    say_split(tmp_path / "train", part="train", of="c" * 64)
    assert not check_unseen(FaceSet.open(tmp_path / "heldout"), parts["train"].content_hash)
    record = evaluate_heldout(model(None), heldout)
    assert record["trained_on"] is None
    console = Console(width=200, record=True, file=io.StringIO())
    print_results([record], console)
    assert "not known whether the model has seen these faces" in console.export_text()


def test_the_table_shows_number_and_interval(parts):
    record = evaluate_heldout(model(parts["train"].content_hash), parts["heldout"])
    console = Console(width=200, record=True, file=io.StringIO())
    print_results([record, {"protocol": "fid10-full-tags", "fid": 1.0}], console)
    told = console.export_text()
    low, high = record["interval"]
    assert f"{record['bits_per_dimension']:.4f} ({low:.4f} to {high:.4f})" in told
    assert "uniform dequantisation" in told
    assert "FID" in told
    assert "2 ways of measuring" in told


def test_copies_of_a_face_do_not_make_the_interval_narrower(parts, tmp_path):
    """Every face four times: the number stays nearly, and the interval does not shrink to a half."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(20):
        for copy in "abcd":
            (pictures / f"{i:02d}{copy}.png").write_bytes(parts["heldout"].image_bytes(i))
    build([pictures], tmp_path / "heldout", as_faces=True, workers=1)
    copied = say_split(tmp_path / "heldout", part="heldout")
    once, often = (evaluate_heldout(model(None), faces) for faces in (parts["heldout"], copied))
    assert (often["faces"], often["different_faces"]) == (80, 20)
    assert often["bits_per_dimension"] == pytest.approx(once["bits_per_dimension"], abs=0.05)
    assert often["standard_error"] > 0.75 * once["standard_error"]


def test_faces_without_a_finite_likelihood_are_counted_and_told(parts, monkeypatch):
    flow = model(parts["train"].content_hash)
    log_prob = flow.network.log_prob

    def broken(images):
        found = log_prob(images)
        return torch.where(found == found.max(), math.nan, found)

    monkeypatch.setattr(flow.network, "log_prob", broken)
    record = evaluate_heldout(flow, parts["heldout"])
    assert record["faces_not_finite"] == 2  # one a batch
    console = Console(width=200, record=True, file=io.StringIO())
    print_results([record], console)
    assert "likelihood was not finite for 2 of 20 faces" in console.export_text()


@pytest.mark.parametrize("name", ["bpd-heldout", "bpd-heldout-9bit", "bpd-heldout-0bit", "bpd-train-8bit"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match=f"unknown protocol '{name}': did you mean 'bpd-heldout-8bit'"):
        parse_bits(name)


def test_a_family_without_likelihood_is_refused_by_name(parts):
    recipe = load_recipe("dcgan")
    with pytest.raises(
        UserError, match="dcgan has no likelihood; these families can: glow, pixel-"
    ):
        evaluate_heldout(Model(None, recipe, {"images": 0}, None, ""), parts["heldout"])
