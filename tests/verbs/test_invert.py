"""`omokage invert`, `neighbours` and `explain` as a user types them."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from standins import small_model

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.derive.split import split
from omokage.data.drawn import draw_face
from omokage.data.store.faceset import FaceSet
from omokage.metrics import path_length
from omokage.snapshot import write_snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of four families, drawn pictures, and a face set with its split."""
    folder = tmp_path_factory.mktemp("invert")
    (folder / "pictures").mkdir()
    for seed in range(48):
        Image.fromarray(draw_face(seed, 32).image).save(folder / "pictures" / f"{seed:02d}.png")
    build([folder / "pictures"], folder / "faces", as_faces=True, workers=1)
    split(folder / "faces", folder / "split", holdout=0.4, workers=1)
    Image.fromarray(draw_face(5, 160).image).save(folder / "face.png")
    Image.fromarray(np.full((60, 60, 3), 90, np.uint8)).save(folder / "grey.png")
    trained_on = FaceSet.open(folder / "split" / "train").content_hash
    for name in ("dcgan", "stylegan2", "vae", "glow"):
        model = small_model(name)
        tensors = {f"average.{key}": value for key, value in model.network.state_dict().items()}
        progress = {"images": 64, "face_set": trained_on}
        write_snapshot(folder / f"{name}.safetensors", tensors, model.recipe, progress)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path))


SHORT = ["--steps", "2", "--more", "1", "--samples", "16"]


def test_invert_writes_the_pair_the_latents_and_the_run_file(capsys, folder):
    film = ["--film", "out/pair.mp4"]
    files = ["face.png", "pictures/03.png", "--whole"]
    assert main(["invert", *files, "-m", "stylegan2.safetensors", "-o", "out/pair.png", *SHORT, *film]) == 0
    said = capsys.readouterr().out
    assert "face.png: in w+, started from seed" in said
    assert "nearer to the picture than" in said
    assert "of samples in w+" in said
    page = Image.open("out/pair.png")
    assert page.text["recipe"] == "stylegan2"
    assert page.width > 1000
    record = json.loads((folder / "out" / "pair.png.json").read_text())
    assert record["arguments"]["space"] == "w+"
    assert [fit["name"] for fit in record["arguments"]["fits"]] == ["face.png", "03.png"]
    assert record["outputs"] == ["pair.png", "pair.safetensors", "pair.mp4"]
    assert record["command"].startswith("omokage invert face.png")
    # The latents give the faces again.
    assert main(["sample", "out/pair.safetensors", "-m", "stylegan2.safetensors", "-o", "out/again.png"]) == 0
    again = np.asarray(Image.open("out/again.png"))
    assert again.shape[0] >= 16
    av = pytest.importorskip("av")
    with av.open("out/pair.mp4") as written:
        frames = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
    assert len(frames) == 3 + 2 + 2 * 15


def test_ordinary_pictures_are_taken_where_faces_go_in(capsys):
    assert main(["sample", "7", "face.png", "-m", "glow.safetensors", "-o", "out/mixed.png"]) == 0
    assert "face.png: exact: the largest error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["grey.png"], "grey.png: no face found; --whole takes the whole picture as a face"),
        (["missing.png"], "missing.png: no such file"),
        (["glow.safetensors"], "glow.safetensors: "),
        (["face.png", "--space", "w"], "dcgan has no styles"),
        (["face.png", "-o", "out/x.jpg"], "must end in .png"),
    ],
)
def test_what_cannot_be_inverted_is_refused_in_one_line(capsys, folder, arguments, told):
    before = sorted((folder / "out").glob("*")) if (folder / "out").exists() else []
    given = arguments if "-o" in arguments else [*arguments, "-o", "out/refused.png"]
    assert main(["invert", *given, "-m", "dcgan.safetensors", *SHORT]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert sorted((folder / "out").glob("*")) == before


def test_a_flow_has_no_search_to_film(capsys):
    assert main(["invert", "face.png", "-m", "glow.safetensors", "--film", "out/a.mp4"]) == 2
    assert "this model encodes without a search, so there is nothing to film" in capsys.readouterr().err


def test_neighbours_of_samples_against_held_out_faces(capsys, folder):
    command = ["neighbours", "dcgan.safetensors", "--data", "split", "-n", "20", "-o", "out/near.png"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert re.search(r"held-out faces: \S*split/heldout", said.err)
    lines = said.out.strip().splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["efficientnet-lite0", "tags", "pixels-32"]
    assert all("held-out faces; without memorising it is about 1%" in line for line in lines[:3])
    record = json.loads((folder / "out" / "near.png.json").read_text())
    assert [space["samples"] for space in record["spaces"]] == [20] * 3
    assert record["spaces"][0]["reference"] == "held-out faces"
    assert Image.open("out/near.png").height > 16 * 96


def test_training_faces_given_as_pictures_are_found(capsys, folder):
    train = FaceSet.open(folder / "split" / "train")
    files = [f"pictures/{name.split('/')[-1]}.png" for name in train.keys[:3]]
    given = ["-m", "dcgan.safetensors", "--data", "split/train", "-o", "out/c.png"]
    assert main(["neighbours", *files, *given]) == 0
    record = json.loads((folder / "out" / "c.png.json").read_text())
    assert record["spaces"][2]["copied"] == 1.0
    assert record["spaces"][2]["nearer"] > 0.9
    low, high = record["spaces"][2]["copied_interval"]
    assert 0.2 < low < 0.4
    assert high == 1.0


def test_neighbours_needs_a_training_set(capsys):
    assert main(["neighbours", "dcgan.safetensors"]) == 2
    assert "--data is missing" in capsys.readouterr().err
    assert main(["neighbours", "dcgan.safetensors", "--data", "faces", "-n", "6", "-o", "out/d.png"]) == 0
    said = capsys.readouterr()
    assert "is not the face set that the model was trained on" in said.err
    assert "no held-out faces: training faces are compared with each other" in said.err
    seen = ["--data", "split/train", "--heldout", "split/train", "-o", "out/e.png"]
    assert main(["neighbours", "dcgan.safetensors", *seen]) == 2
    assert "memorising is measured on held-out faces" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figure", "model", "more"),
    [
        ("truncation", "dcgan", ["--samples", "100"]),
        ("entanglement", "stylegan2", ["--pairs", "20"]),
        ("blur", "vae", ["--data", "faces"]),
        ("inverse", "glow", ["--data", "faces"]),
    ],
)
def test_explain_draws_a_figure_with_three_sentences(capsys, folder, figure, model, more):
    out = f"out/{figure}.png"
    assert main(["explain", figure, f"{model}.safetensors", "-o", out, *more]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 5
    assert lines[3:] == [out, f"{out}.json"]
    assert all(line.endswith(".") for line in lines[:3])
    record = json.loads((folder / f"{out}.json").read_text())
    assert record["sentences"] == lines[:3]
    assert Image.open(out).text["recipe"] == model


@pytest.mark.parametrize(
    ("figure", "model", "told"),
    [
        ("entanglement", "dcgan", "dcgan has no styles"),
        ("blur", "glow", "glow is no variational autoencoder"),
        ("inverse", "vae", "vae cannot undo its encoding exactly"),
        ("blur", "vae", "needs pictures: --data faces/"),
    ],
)
def test_explain_refuses_by_name_what_a_model_lacks(capsys, folder, figure, model, told):
    assert main(["explain", figure, f"{model}.safetensors", "-o", "out/none.png"]) == 2
    assert told in capsys.readouterr().err
    assert not (folder / "out" / "none.png").exists()


def test_evaluate_measures_path_lengths(capsys, folder):
    command = ["evaluate", "stylegan2.safetensors", "--data", "faces", "--protocol", "fid100-full-tags"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_length, "path_lengths", partial(path_length.path_lengths, pairs=10))
        assert main([*command, "--path-length", "-o", "out/lines.jsonl"]) == 0
    record = json.loads((folder / "out" / "lines.jsonl").read_text())
    assert record["path_length"]["protocol"] == "ppl10-full-efficientnet-lite0"
    assert record["path_length"]["z"] > 0
    assert record["path_length"]["w_over_z"] == record["path_length"]["w"] / record["path_length"]["z"]
    assert torch.isfinite(torch.tensor(record["path_length"]["w_standard_error"]))
