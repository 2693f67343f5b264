"""``omokage sample`` at several psi, and below 0."""

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.__main__ import main
from omokage.models.stylegan2 import Generator
from omokage.recipe import read_recipe
from omokage.snapshot import write_snapshot
from omokage.verbs.helptexts import repeated

TEXT = """title = "t"
source = "s"
[model]
name = "stylegan2"
latent = 8
style = 8
depth = 1
resolution = [8, 8]
channels = [8, 8]
[objective]
name = "stylegan2"
"""


@pytest.fixture
def snapshot(tmp_path):
    torch.manual_seed(0)
    recipe = read_recipe(TEXT, "test")
    generator = Generator(**{key: value for key, value in recipe.model.items() if key != "name"})
    generator.w_average.normal_()
    tensors = {f"average.{name}": tensor for name, tensor in generator.state_dict().items()}
    path = tmp_path / "small.safetensors"
    write_snapshot(path, tensors, recipe, {"images": 1})
    return path


def pixels(path):
    return np.array(Image.open(path))


def test_a_folder_a_psi(snapshot, tmp_path, capsys):
    out = tmp_path / "samples"
    arguments = ["sample", str(snapshot), "--psi", "1.2", "0.5", "0", "-1", "-n", "5", "-o", str(out)]
    assert main(arguments) == 0
    assert [line.split(" files")[0] for line in capsys.readouterr().out.splitlines()] == ["5"] * 4
    folders = sorted(folder.name for folder in out.iterdir())
    assert folders == sorted(["psi+1.20", "psi+0.50", "psi+0.00", "psi-1.00"])
    faces = {name: [pixels(path) for path in sorted((out / name).iterdir())] for name in folders}
    assert all(len(found) == 5 for found in faces.values())
    assert all((face == faces["psi+0.00"][0]).all() for face in faces["psi+0.00"])
    assert not (faces["psi-1.00"][0] == faces["psi-1.00"][1]).all()
    one = tmp_path / "one"
    assert main(["sample", str(snapshot), "--psi", "-1", "-n", "2", "--each", "-o", str(one)]) == 0
    assert (pixels(one / "seed-000001.png") == faces["psi-1.00"][1]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--psi", "1", "0.5"], "-o"),
        (["--psi", "2.5"], "allowed is -2 to 2"),
        (["--psi", "nan"], "allowed is -2 to 2"),
        (["--seeds", "0-3", "-n", "4"], "exclude each other"),
    ],
)
def test_what_is_refused(snapshot, capsys, arguments, words):
    assert main(["sample", str(snapshot), *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--sheet"], ["--psi", "0.5"]])
@pytest.mark.parametrize("name", ["there", "samples/", "samples"])
def test_a_folder_for_one_picture_names_each(tmp_path, capsys, name, options):
    (tmp_path / "there").mkdir()
    assert main(["sample", "none.safetensors", "-o", f"{tmp_path}/{name}", *options]) == 2
    said = capsys.readouterr().err
    assert "--each" in said
    assert "faces.png" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "samples").exists()


def test_below_0_needs_styles(tmp_path, capsys):
    assert main(["sample", "-m", "fast-64", "--psi", "-0.5", "-o", str(tmp_path / "faces.png")]) == 2
    told = capsys.readouterr().err
    assert "skipgan has no styles" in told
    assert "stylegan2" in told


def test_numbers_that_follow_an_option():
    assert repeated(["--psi=1", "2", "run", "3"], "--psi") == ["--psi", "1", "--psi", "2", "run", "3"]
    assert repeated(["-n", "3", "--psi", "1"], "--psi") == ["-n", "3", "--psi", "1"]
    assert repeated(["--psi", "-o", "x"], "--psi") == ["--psi", "-o", "x"]
