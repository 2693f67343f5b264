"""What is looked at and told before a training begins."""

import fcntl
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from omokage.__main__ import main
from omokage.data.build import build
from omokage.errors import UserError
from omokage.progress import TerminalProgress
from omokage.recipe import load_recipe
from omokage.running import check, train
from omokage.training import preflight
from omokage.training.fitting import fitted
from omokage.training.preflight import Forecast

SMALL = [
    "model.channels=[16, 8]",
    "model.latent=8",
    "discriminator.channels=[8, 16]",
    "training.batch=4",
    "training.log_kimg=0.004",
]

SKIP = ["model.latent=4", "discriminator.seen_at=32", "discriminator.width=4"]


def small(*overrides: str):
    return load_recipe("dcgan", [*SMALL, *overrides])


def told(recipe, **how) -> str:
    """What a terminal would show."""
    screen = io.StringIO()
    check(recipe, progress=TerminalProgress(Console(file=screen, width=400)), **how)
    return screen.getvalue()


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        (
            "dcgan",
            ["model.channels=[64,32]"],
            "model dcgan draws 16 px, the discriminator dcgan takes 64 px; "
            r"for 16 px: discriminator.channels=\[64,128\] or for 64 px: model.channels=\[64,32,16,8\]",
        ),
        (
            "fast",
            ["resolution=128"],
            r"draws 64 px, the discriminator projected takes 128 px; .* or for 128 px: "
            r"model.channels=\[256,256,128,64,48,24\]",
        ),
        ("sagan", ["model.channels=[8,8]", "discriminator.channels=[8,8]"], "draws 8 px.* takes 64 px"),
        ("illustration-gan", ["model.channels=[8,8]", "model.dense=[8]"], "draws 16 px.* takes 64 px"),
        ("yao2021-dcgan-dropout", ["model.first_size=8"], "draws 128 px.* takes 64 px"),
        ("stylegan2-64", ["model.resolution=[32,64]", "model.base=[4,8]"], "draws 32x64 px.* takes 64 px"),
        ("wu2020-stylegan", ["model.resolution=[32,32]"], "draws 32 px.* takes 64 px"),
        ("dcgan", ["model.image_channels=1"], "1 channels.* takes 3; give both the same image_channels"),
        ("yao2021-wgan", ["model.strides=[2,2]"], r"model.strides: got \[2, 2\], must be 3 numbers"),
        ("yao2021-vae", ["model.channels=[8,8]"], "must be four numbers"),
        ("tarflow-32", ["patch=5"], "must be a multiple of model.patch"),
        ("glow-32", ["scale_penalty=1"], "no weight norms"),
        ("glow-32", ["objective.name=elbo"], "model with a posterior"),
        ("yao2021-vae", ["objective.name=likelihood"], "model with a density"),
        ("yao2021-vae", ["objective.name=gan"], r"needs a table \[discriminator\]"),
        ("dcgan", ["learning_rate={ default = 1e-3, encoder = 1 }"], "no phase 'encoder'; there are default"),
        (
            "illustration-gan",
            [f"discriminator.channels={[8] * 7}"],
            "illustration cannot be trained with these settings .*too small.*channels = ",
        ),
        ("yao2021-dcgan-dropout", ["micro_batch=3", "batch=4"], "batch: 1 image at a time is too few"),
    ],
)
def test_networks_that_do_not_fit_are_one_line(name, overrides, said):
    with pytest.raises(UserError, match=said) as caught:
        check(load_recipe(name, overrides))
    assert "\n" not in str(caught.value)


def test_what_is_proposed_fits():
    assert fitted(load_recipe("dcgan", ["model.channels=[64,32]", "discriminator.channels=[64,128]"]))
    grown = ["model.channels=[8, 8, 8, 8]", *SKIP, "discriminator.resolution=32"]
    fit = fitted(load_recipe("fast", grown))
    assert (fit.resolution, fit.groups) == ((32, 32), ("discriminator", "generator", "encoder"))


def test_looking_changes_no_random_numbers():
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fitted(small("seed=7"))
    assert torch.equal(torch.rand(2), expected)


def set_of(folder: Path, *sizes: tuple[int, int]) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(pictures / f"{i}.png")
    build([pictures], folder / "faces", as_faces=True, workers=1)
    return folder / "faces"


def test_the_size_of_the_faces_is_told_where_it_is_not_the_models(tmp_path):
    large = set_of(tmp_path, (32, 32), (32, 32))
    assert "faces of 32 px are trained at 16 px" in told(small(), data=large)
    (tmp_path / "b").mkdir()
    mixed = set_of(tmp_path / "b", (16, 16), (40, 24), (10, 10), (8, 8))
    said = told(small(), data=mixed)
    assert "1 of 4 faces, of 40x24 px are trained at 16 px" in said
    assert "2 of 4 faces, of 8 px to 10 px are smaller than the model's 16 px and are enlarged: they" in said
    (tmp_path / "c").mkdir()
    said = told(small(), data=set_of(tmp_path / "c", (16, 16)))
    assert "enlarged" not in said
    assert "trained at" not in said


def test_few_faces_and_a_recipe_for_a_gpu_are_told(faces, monkeypatch):
    assert "10 faces are few" in told(small(), data=faces)
    monkeypatch.setattr(preflight, "FEW", 10)
    assert "few" not in told(small(), data=faces)
    monkeypatch.setattr(preflight, "HEAVY", 1e-6)
    monkeypatch.setattr(preflight, "best_device", lambda: __import__("torch").device("cpu"))
    assert "dcgan is made for a GPU" in told(small())
    monkeypatch.setattr(preflight, "best_device", lambda: __import__("torch").device("cuda"))
    assert "GPU" not in told(small())


def test_published_sizes_are_heavy_and_recipes_for_two_cores_are_not():
    assert fitted(load_recipe("dcgan")).cost < preflight.HEAVY
    assert fitted(load_recipe("stylegan2-64-small")).cost < preflight.HEAVY
    assert fitted(load_recipe("stylegan2-64")).cost > preflight.HEAVY


def test_the_time_a_training_would_take_is_told_once_after_its_first_steps():
    screen = io.StringIO()
    checked = preflight.Checked(None, fitted(small()), (), heavy=True)
    recipe = small("images=100000")
    forecast = Forecast(recipe, checked, TerminalProgress(Console(file=screen, width=400)))
    forecast.step(4, 9.0)  # warming up
    for step in range(1, 9):
        forecast.step(4 + 4 * step, 9.0 + 2 * step)
    assert screen.getvalue().count("images a second") == 1
    forecast = "at 2 images a second, dcgan needs 14 hours on this machine for its 100,000 images"
    assert forecast in screen.getvalue()
    silent = Forecast(recipe, preflight.Checked(None, fitted(small()), (), heavy=False), None)
    assert silent.silent


def test_a_run_folder_that_cannot_be_one(faces, tmp_path):
    with pytest.raises(UserError, match="is a face set"):
        train(small(), faces, faces)
    with pytest.raises(UserError, match="is in the face set"):
        train(small(), faces, faces / "run")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        train(small(), faces, tmp_path / "file")
    with pytest.raises(UserError, match="is a file"):
        train(small(), faces, tmp_path / "file" / "run")
    assert not (faces / "run").exists()
    for i in range(5):
        (tmp_path / f"{i}.png").write_text("x")
    said = told(small(), data=faces, out=tmp_path)
    assert "holds 6 other files (0.png, 1.png, 2.png, ...); the run is written beside" in said
    assert "other files" not in told(small(), data=faces, out=tmp_path / "new")


REFUSED = {
    "conditions": (["condition=hair"], {}, "has no labels"),
    "sizes": (["model.channels=[16, 8, 8]"], {}, "do not fit"),
    "heldout": ([], {"heldout": "same"}, "has the training faces"),
    "no set": ([], {"heldout": "nowhere"}, "no face set"),
    "rates": (["learning_rate={ default = 1e-3, other = 1 }"], {}, "no phase 'other'"),
    "protocol": (["fid_kimg=1", "fid_protocol=fid1k-full-nothing"], {}, "fid1k-full-nothing"),
    "critic": (["fid_kimg=1", "fid_protocol=fid1k-full-tags-critic3"], {}, "leave -critic3 out"),
    "start": ([], {"start": "shipped"}, "does not fit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_run_leaves_no_folder_and_a_dry_run_refuses_it_too(faces, tmp_path, name):
    overrides, how, said = REFUSED[name]
    how = {
        key: {"same": faces, "nowhere": tmp_path / "nowhere"}.get(value, value) for key, value in how.items()
    }
    out = tmp_path / "runs" / "new"
    with pytest.raises(UserError, match=said) as real:
        train(small(*overrides), faces, out, images=8, **how)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError) as dry:
        check(small(*overrides), faces, out, **how)
    assert str(dry.value) == str(real.value)
    assert not (tmp_path / "runs").exists()


def test_what_goes_wrong_late_takes_its_folder_back_and_nothing_else(faces, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise UserError("the disk coughs")

    monkeypatch.setattr("omokage.training.loop.Batches", broken)
    with pytest.raises(UserError, match="coughs"):
        train(small(), faces, tmp_path / "runs" / "new")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="coughs"):
        train(small(), faces, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_run_that_began_stays_when_its_going_on_is_refused(faces, tmp_path):
    out = tmp_path / "run"
    train(small(), faces, out, images=8)
    before = {path.name: path.stat().st_size for path in out.iterdir()}
    for recipe, data, said in (
        (small("seed=5"), faces, "other settings"),
        (small(), set_of(tmp_path, (16, 16)), "another face set"),
    ):
        with pytest.raises(UserError, match=said):
            train(recipe, data, out, images=16)
        with pytest.raises(UserError, match=said):
            check(recipe, data, out)
    assert {path.name: path.stat().st_size for path in out.iterdir()} == before
    with open(out / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being trained by another process"):
            check(small(), faces, out)
    check(small(), faces, out)


def test_the_command_line(faces, tmp_path, capsys):
    run = ["train", "dcgan", *SMALL, "--data", str(faces), "--out", str(tmp_path / "run"), "--dry-run"]
    assert main(run) == 0
    shown = capsys.readouterr()
    assert shown.out == small().to_toml()
    assert "10 faces are few" in " ".join(shown.err.split())
    assert os.listdir(tmp_path) == []
    assert main(["train", "dcgan", "model.channels=[64,32]", "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: model and discriminator do not fit")
    assert main([*run[:-4], "--out", str(faces), "--dry-run"]) == 2


def test_large_faces_are_told_of_the_recipe_for_them(tmp_path):
    said = told(load_recipe("fast"), data=set_of(tmp_path, (128, 128), (140, 128)))
    assert "are trained at 64 px; `fast-128` draws 128 px, and with --from shipped" in said
    (tmp_path / "b").mkdir()
    assert "fast-128" not in told(load_recipe("fast"), data=set_of(tmp_path / "b", (96, 96)))
