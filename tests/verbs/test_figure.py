"""The verb ``figure``: what it writes, what it tells and how it refuses."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from omokage.__main__ import main
from omokage.exploring import same_pixels
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


def test_a_figure_without_text_shows_the_same(snapshot, tmp_path):
    with_text, without = tmp_path / "with.png", tmp_path / "without.png"
    words = ["figure", "uncurated", str(snapshot), "--rows", "1", "--sizes", "0"]
    assert main([*words, "-o", str(with_text)]) == 0
    assert main([*words, "-o", str(without), "--no-metadata"]) == 0
    assert same_pixels(with_text, without) == "the same, bit for bit"
    assert "seeds" in Image.open(with_text).text
    assert Image.open(without).text == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["uncurated", "--sizes", "0,half"], "write numbers with commas between"),
        (["uncurated", "--sizes", "0.5"], "--sizes: got 0.5"),
        (["truncation", "SNAPSHOT", "--psi", "1,-1"], "has no styles; give psi of 0 or more"),
        (["mixing", "SNAPSHOT"], "with dcgan, use omokage truncate, traverse, walk or figure uncurated"),
        (["noise-detail", "SNAPSHOT"], "dcgan has no styles; these families can: stylegan, stylegan2"),
        (["noise-components", "SNAPSHOT"], "dcgan has no styles; these families can: stylegan, stylegan2"),
        (["noise-detail", "SNAPSHOT", "--psi", "3"], "allowed is -2 to 2"),
        (["uncurated", "SNAPSHOT", "--psi", "-1"], "has no styles; give psi of 0 or more"),
        (["uncurated", "SNAPSHOT", "-o", "u.gif"], "must end in .png"),
        (["truncation", "SNAPSHOT", "--psi", "1,x"], "'--psi': got 'x', write a number, like 0.7"),
        (["uncurated", "--rows", "x"], "'--rows': got 'x', write a whole number, like 8"),
        (["progression", "SNAPSHOT"], "no run folder"),
        (["mixing", "nowhere"], "nowhere"),
        (["uncurated", "--model", "nowhere"], "nowhere"),
        (["uncurated", "SNAPSHOT", "-m", "shipped"], "several models"),
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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a small StyleGAN2 that has learnt nothing, with two snapshots."""
    settings = ["resolution=[8, 8]", "channels=[8, 8]", "latent=8", "style=8", "depth=1"]
    recipe = load_recipe(
        "stylegan2-64",
        [f"model.{setting}" for setting in settings]
        + ["discriminator.resolution=[8, 8]", "discriminator.channels=[8, 8]"],
    )
    torch.manual_seed(0)
    weights = MODELS["stylegan2"].build(recipe.model).state_dict()
    folder = tmp_path_factory.mktemp("styled") / "run"
    folder.mkdir()
    for images in (64, 128):
        tensors = {f"average.{name}": tensor for name, tensor in weights.items()}
        path = folder / f"snapshot-{images:012d}.safetensors"
        write_snapshot(path, tensors, recipe, {"images": images})
    return folder


# Each figure, and how many faces it draws.
FIGURES = {
    "uncurated --rows 1 --sizes 0,1": 3,
    "mixing --a 0-2 --b 3": 3 + 1 + 3,
    "truncation --seeds 0-1 --psi 1,0": 4,
    "noise-detail --seeds 1": 1 + 100,
    "noise-components --seeds 0-1": 4 * 2,
    "progression --seeds 0-1 --video film.mp4": 2 * 2,
}


@pytest.mark.parametrize("words", FIGURES)
def test_each_figure_in_one_command(run, tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    name, *rest = words.split()
    assert main(["figure", name, str(run), *rest]) == 0
    told = capsys.readouterr()
    assert told.out.split()[0] == f"{name}.png"
    assert "finite" not in told.err
    text = Image.open(f"{name}.png").text
    assert text["recipe"] == "stylegan2-64"
    assert text["images seen"] == "128"
    assert "not finite" not in text
    assert (tmp_path / "film.mp4").exists() == ("film.mp4" in words)


@pytest.mark.parametrize("words", FIGURES)
def test_faces_that_are_not_finite_are_told(run, tmp_path, capsys, monkeypatch, words):
    def broken(self, w, noise="constant"):
        return torch.full((len(w), 3, 8, 8), torch.nan)

    monkeypatch.setattr(MODELS["stylegan2"].load(), "synthesis", broken)
    monkeypatch.chdir(tmp_path)
    name, *rest = words.split()
    assert main(["figure", name, str(run), *rest]) == 0
    assert f"{FIGURES[words]} faces are not finite and shown black" in capsys.readouterr().err
    told = Image.open(f"{name}.png").text["not finite"]
    assert told == ("0-2" if name == "uncurated" else f"{FIGURES[words]} faces")


def test_one_face_that_is_not_finite_is_told(run, tmp_path, capsys, monkeypatch):
    synthesis = MODELS["stylegan2"].load().synthesis

    def broken(self, w, noise="constant"):
        images = synthesis(self, w, noise)
        return torch.where((w == w[1]).flatten(1).all(1)[:, None, None, None], torch.inf, images)

    monkeypatch.setattr(MODELS["stylegan2"].load(), "synthesis", broken)
    out = tmp_path / "u.png"
    assert main(["figure", "uncurated", str(run), "--rows", "1", "--sizes", "0,1", "-o", str(out)]) == 0
    assert "1 face is not finite and shown black" in capsys.readouterr().err
    assert Image.open(out).text["not finite"] == "1"


def test_help_lists_the_figures_without_importing_torch():
    code = (
        "import sys; from omokage.__main__ import main; main(['figure', '-h']); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("uncurated", "mixing", "truncation", "noise-detail", "noise-components", "progression"):
        assert name in told
    assert told.split()[-1] == "False"
