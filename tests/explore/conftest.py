"""A model that obeys the contract and draws something: a disk whose colour and place follow the latent."""

import hashlib
from types import SimpleNamespace

import pytest
import torch


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
