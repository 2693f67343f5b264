"""The verb ``figure``: what it writes and how it refuses, with a model without styles."""

import subprocess
import sys

import pytest
from PIL import Image

from omokage.__main__ import main
from omokage.families import MODELS
from omokage.recipe import load_recipe
from omokage.snapshot import write_snapshot


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A small DCGAN that has learnt nothing."""
    recipe = load_recipe("dcgan", ["model.channels=[8, 4]", "discriminator.channels=[4, 8]"])
    weights = MODELS["dcgan"].build(recipe.model).state_dict()
    path = tmp_path_factory.mktemp("plain") / "snapshot-000000000064.safetensors"
    tensors = {f"average.{name}": tensor for name, tensor in weights.items()}
    write_snapshot(path, tensors, recipe, {"images": 64})
    return path


def test_uncurated_in_one_command(snapshot, tmp_path, capsys):
    out = tmp_path / "u.png"
    words = ["uncurated", str(snapshot), "--rows", "1", "--sizes", "0,1", "-o", str(out), "--title", ""]
    assert main(["figure", *words]) == 0
    assert capsys.readouterr().out.split()[-1] == str(out)
    picture = Image.open(out)
    assert picture.text["seeds"] == "0-2"
    assert picture.width > picture.height


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["uncurated", "--sizes", "0,half"], "write numbers with commas between"),
        (["uncurated", "--sizes", "0.5"], "--sizes: got 0.5"),
        (["truncation", "SNAPSHOT", "--psi", "1,-1"], "has no styles; give psi of 0 or more"),
        (["mixing", "SNAPSHOT"], "has no styles; use omokage figure uncurated, truncation or progression"),
        (["noise-detail", "SNAPSHOT", "--psi", "3"], "allowed is -2 to 2"),
        (["progression", "SNAPSHOT"], "no run folder"),
        (["mixing", "nowhere"], "nowhere"),
    ],
)
def test_refusals_are_one_line_and_code_2(snapshot, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    words = [str(snapshot) if word == "SNAPSHOT" else word for word in arguments]
    assert main(["figure", *words]) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_lists_the_figures_without_importing_torch():
    code = (
        "import sys; from omokage.__main__ import main; main(['figure', '-h']); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("uncurated", "mixing", "truncation", "noise-detail", "noise-components", "progression"):
        assert name in told
    assert told.split()[-1] == "False"
