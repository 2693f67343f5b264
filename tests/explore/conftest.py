"""A model that obeys the contract and draws something: a disk whose colour and place follow the latent."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.data.build import build
from omokage.data.faceset import FaceSet
from omokage.families import MODELS
from omokage.model import Model
from omokage.recipe import load_recipe


class DiskModel:
    latent_shape = (6,)
    recipe = SimpleNamespace(name="disk")
    images_seen = 12_345
    snapshot_hash = hashlib.sha256(b"disk").hexdigest()

    def __init__(self, resolution: tuple[int, int] = (32, 32)) -> None:
        self.resolution = resolution

    def decode(self, z: torch.Tensor, psi: float = 1.0) -> torch.Tensor:
        height, width = self.resolution
        z = z * psi
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        distance = torch.hypot(x - z[:, 3, None, None] / 4, y - z[:, 4, None, None] / 4)
        inside = torch.sigmoid((0.7 - distance) * 10)[:, None]
        colour, background = torch.tanh(z[:, :3, None, None]), torch.tanh(z[:, 5, None, None, None])
        return inside * colour + (1 - inside) * background


@pytest.fixture
def disk_model() -> DiskModel:
    return DiskModel()


SMALL_FAMILIES = {
    "glow": ["glow-32", "model.size=16", "model.levels=2", "model.steps=2", "model.hidden=8"],
    "realnvp": ["realnvp-32", "model.size=16", "model.scales=2", "model.hidden=4"],
    "tarflow": ["tarflow-32", "model.size=16", "model.patch=4", "model.width=16", "model.heads=1"],
    "noisy tarflow": ["tarflow-32", "model.size=16", "model.patch=4", "model.width=16", "model.noise=0.05"],
    "vae": ["yao2021-vae", "model.channels=[4,4,4,4]"],
    "dcgan": ["dcgan", "model.channels=[4,4,4,4]"],
}


@pytest.fixture(scope="session")
def family_model():
    """A small model of a family, off its start, as from a snapshot."""

    def build(name: str) -> Model:
        recipe = load_recipe(SMALL_FAMILIES[name][0], SMALL_FAMILIES[name][1:])
        torch.manual_seed(0)
        network = MODELS[recipe.model["name"]].build(recipe.model)
        with torch.no_grad():
            if "log_prob" in MODELS[recipe.model["name"]].can:
                network.log_prob(torch.rand(8, 3, *network.resolution) * 2 - 1)
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        network = network.eval().requires_grad_(False)
        return Model(network, recipe, {"images": 96, "face_set": "e" * 64}, None, "0" * 64)

    return build


@pytest.fixture(scope="session")
def picture_files(tmp_path_factory) -> list[Path]:
    """Three smooth pictures of other sizes than any model has."""
    folder = tmp_path_factory.mktemp("own")
    files = []
    for i, size in enumerate([(50, 40), (33, 64), (48, 48)]):
        corners = np.random.default_rng(i).integers(0, 256, (3, 3, 3), np.uint8)
        files.append(folder / f"own-{i}.png")
        Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC).save(files[-1])
    return files


@pytest.fixture(scope="session")
def tagged_faces(tmp_path_factory) -> FaceSet:
    """40 faces of 16 px: the hair of the first half red, of the second half blue; some of both or unknown."""
    folder = tmp_path_factory.mktemp("tagged")
    rng, lines = np.random.default_rng(0), ["file,hair,eyes"]
    for i in range(40):
        pixels = rng.integers(90, 110, (16, 16, 3), np.uint8)
        pixels[:8, :, 0 if i < 20 else 2] = 220
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        hair = {3: "red|blue", 4: ""}.get(i, "red" if i < 20 else "blue")
        lines.append(f"{i:02d}.png,{hair},green")
    labels = folder.parent / "labels.csv"
    labels.write_text("\n".join(lines) + "\n")
    build([folder], folder.parent / "tagged-set", as_faces=True, labels=labels, workers=1)
    return FaceSet.open(folder.parent / "tagged-set")
