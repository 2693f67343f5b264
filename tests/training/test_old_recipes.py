"""Runs of earlier versions go on."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from omokage.listing import snapshots
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot

SMALL = [
    "model.channels=[8, 8, 8]",
    "model.latent=4",
    "discriminator.seen_at=32",
    "discriminator.width=8",
    "discriminator.resolution=16",
    "training.batch=4",
    "training.keep=0",
]

# What `gan` had before `vae-gan` was an objective of its own.
LATER = ("reconstruction_kimg", "reconstructed", "kl_weight")
OF_OLD = "reconstruction_kimg = [4.0, 20.0]\nreconstructed = 0.5\nkl_weight = 0.005\n"


def aged(text: str, weight: float) -> str:
    """A resolved recipe as the earlier version wrote it."""
    head, table, rest = text.partition("[objective]\n")
    kept = "\n".join(line for line in rest.splitlines() if line.partition(" = ")[0] not in LATER)
    kept = kept.replace('name = "vae-gan"', 'name = "gan"')
    kept = kept.replace(f"reconstruction_weight = {weight}\n", "")
    return f"{head}{table}reconstruction_weight = {weight}\n{OF_OLD}{kept}\n"


def age(run: Path, weight: float) -> None:
    for path in snapshots(run):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        save_file(load_file(path), path, metadata | {"recipe": aged(metadata["recipe"], weight)})
    recipe = run / "recipe.toml"
    recipe.write_text(aged(recipe.read_text(), weight))


@pytest.mark.parametrize("weight", [3.0, 0.0])
def test_a_run_from_before_vae_gan_was_an_objective_loads_and_goes_on(faces, tmp_path, weight):
    recipe = load_recipe("fast", [*SMALL, f"objective.reconstruction_weight={weight}"])
    assert recipe.objective["name"] == ("vae-gan" if weight else "gan")
    train(recipe, faces, tmp_path / "old", images=8)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    age(tmp_path / "old", weight)
    assert 'name = "gan"' in (tmp_path / "old" / "recipe.toml").read_text()
    z = torch.randn(2, 4)
    old, new = (load_model(tmp_path / name, device="cpu") for name in ("old", "new"))
    assert torch.equal(old.decode(z), new.decode(z))
    for name in ("old", "new"):
        train(recipe, faces, tmp_path / name, images=16)
    old, new = (read_snapshot(newest_snapshot(tmp_path / name))[0] for name in ("old", "new"))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert any(name.startswith("networks.reconstruction") for name in new) == (weight > 0)
