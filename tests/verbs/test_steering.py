"""``omokage directions``, ``steer`` and ``select`` on a tiny model, with a network that reads patches."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from seeing import READ, Reader

from omokage import attributes
from omokage.__main__ import main
from omokage.explore.directions import read_directions
from omokage.explore.latents import is_latent_file
from omokage.explore.provenance import read_provenance
from omokage.models.stylegan2 import Generator
from omokage.recipe import read_recipe
from omokage.snapshot import write_snapshot

TEXT = """title = "t"
source = "s"
[model]
name = "stylegan2"
latent = 8
style = 8
depth = 1
resolution = [16, 16]
channels = [16, 16, 16]
[objective]
name = "stylegan2"
"""


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    torch.manual_seed(0)
    recipe = read_recipe(TEXT, "test")
    generator = Generator(**{key: value for key, value in recipe.model.items() if key != "name"})
    tensors = {f"average.{name}": tensor for name, tensor in generator.state_dict().items()}
    path = tmp_path_factory.mktemp("run") / "small.safetensors"
    write_snapshot(path, tensors, recipe, {"images": 1})
    return path


@pytest.fixture(autouse=True)
def reader(monkeypatch):
    monkeypatch.setattr(attributes, "attribute_network", lambda: Reader(60.0))


@pytest.fixture(scope="module")
def ways(snapshot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ways")
    patch = pytest.MonkeyPatch()
    patch.setattr(attributes, "attribute_network", lambda: Reader(60.0))
    arguments = ["directions", str(snapshot), "-o", str(folder), "--samples", "600", "--check", "8"]
    assert main([*arguments, "--least", "40", "--unnamed", "2"]) == 0
    patch.undo()
    return folder


def test_directions_are_written_with_a_run_file(ways, snapshot):
    found = read_directions(ways)
    assert found.space == "w"
    assert set(READ) & set(found.names)
    assert {"sefa 1", "sefa 2", "pca 1", "pca 2"} <= set(found.names)
    assert "hair" in " ".join(found.refused)
    record = json.loads((ways / "directions.safetensors.json").read_text())
    assert record["arguments"]["samples"] == 600
    assert record["command"].startswith("omokage directions")


def steerable(ways):
    return next(name for name in READ if name in read_directions(ways).names)


def test_steer_writes_before_and_after(ways, snapshot, tmp_path, capsys):
    name = steerable(ways)
    out, latents = tmp_path / "steered.png", tmp_path / "new.safetensors"
    arguments = ["steer", "0-3", "-m", str(snapshot), "-d", str(ways), f"--{name}", "2", "-o", str(out)]
    assert main([*arguments, "--save-latents", str(latents)]) == 0
    said = capsys.readouterr().out
    assert f"{name} 2: all faces moved by 2 steps" in said
    assert "seed 0: " in said
    assert is_latent_file(latents)
    told = read_provenance(out)
    assert told.kind == "steer"
    assert told.faces[0]["edits"] == [{name: 2.0}]
    assert told.faces[0]["parents"] == [{"seed": 0}]
    record = json.loads((tmp_path / "steered.png.json").read_text())
    assert record["arguments"]["wants"] == [f"{name} 2"]
    assert record["arguments"]["edits"] == [{name: 2.0}] * 4
    assert record["outputs"] == ["steered.png", "new.safetensors"]
    assert main(["show", str(out), "-m", str(snapshot)]) == 0
    assert "made again: the same, bit for bit" in capsys.readouterr().out


def test_steered_faces_can_be_steered_back(ways, snapshot, tmp_path, capsys):
    name = steerable(ways)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    common = ["-m", str(snapshot), "-d", str(ways), "-o", str(tmp_path / "x.png")]
    assert main(["steer", "5", f"--{name}", "1.5", *common, "--save-latents", str(there)]) == 0
    assert main(["steer", str(there), f"--{name}", "-1.5", *common, "--save-latents", str(back)]) == 0
    from safetensors.torch import load_file

    from omokage.explore.points import of_seeds
    from omokage.model import load_model
    from omokage.settings import Settings

    start = of_seeds(load_model(snapshot), [5], Settings(), "w").values
    assert torch.allclose(load_file(back)["w"], start, atol=1e-5)


def test_steer_along_a_direction_without_labels(ways, snapshot, tmp_path, capsys):
    arguments = ["steer", "1", "-m", str(snapshot), "-d", str(ways), "--along", "sefa 1=2"]
    assert main([*arguments, "-o", str(tmp_path / "a.png")]) == 0
    assert "sefa 1 2: all faces moved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["steer", "1"], "nothing to change"),
        (["steer", "1", "--hair", "blu"], "choose from aqua"),
        (["steer", "1", "--hair", "blue"], "samples are surely blue"),
        (["steer", "1", "--along", "sefa 1"], "write NAME=STEPS"),
        (["steer", "1", "--along", "sefa 99=1"], "no direction 'sefa 99'"),
        (["steer", "1", "--mouth", "open", "--keep", "mouth"], "--keep mouth"),
        (["select"], "nothing to select by"),
        (["select", "3", "--hair", "blue"], "give no seeds"),
        (["select", "--lids", "shut", "--most", "40"], "none of 40 samples"),
    ],
)
def test_one_line_says_what_is_wrong(arguments, told, ways, snapshot, tmp_path, capsys):
    more = ["-d", str(ways)] if arguments[0] == "steer" else []
    assert main([*arguments, "-m", str(snapshot), *more, "-o", str(tmp_path / "x.png")]) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert told in err
    assert not list(tmp_path.glob("*.png"))


def test_directions_of_another_model_are_refused(ways, tmp_path, capsys):
    assert main(["steer", "1", "--glasses", "1", "-d", str(ways), "-o", str(tmp_path / "x.png")]) == 2
    assert "error: " in capsys.readouterr().err


def test_select_draws_until_there_are_enough(snapshot, tmp_path, capsys):
    out = tmp_path / "selected.png"
    wants = ["--glasses", "yes", "--mouth", "closed", "-n", "4"]
    assert main(["select", *wants, "-m", str(snapshot), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "4 faces with glasses yes, mouth closed among" in said
    told = read_provenance(out)
    assert len(told.seeds) == 4
    record = json.loads((tmp_path / "selected.png.json").read_text())
    assert [face["seed"] for face in record["faces"]] == told.seeds
    assert record["arguments"]["wants"] == {"glasses": "yes", "mouth": "closed"}
    assert record["arguments"]["among"] == told.arguments["among"] >= 4
    assert main(["show", str(out), "-m", str(snapshot)]) == 0
    assert "made again: the same, bit for bit" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5


def test_select_says_when_there_are_too_few(snapshot, tmp_path, capsys):
    wants = ["--glasses", "yes", "-n", "500", "--most", "64"]
    assert main(["select", *wants, "-m", str(snapshot), "-o", str(tmp_path / "s.png")]) == 0
    assert "fewer than the 500 asked for" in capsys.readouterr().out


def test_attributes_of_a_face_set(tagged_faces, tmp_path, capsys):
    out = tmp_path / "attributes.csv"
    assert main(["faces", "attributes", str(tagged_faces.path), "-o", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0].startswith("key,hair,hair_confidence,eyes,eyes_confidence,glasses,")
    assert len(lines) == 41
    assert "glasses: " in capsys.readouterr().out
