"""A model, faces and a feature network that need no file and no time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from omokage.sampling import PLAIN, latents, to_pixels
from omokage.settings import Settings


class Noise:
    """A model whose latents are its images; from the latent of a seed in ``broken`` it makes NaN."""

    resolution = (8, 8)
    latent_shape = (3, 8, 8)
    device = torch.device("cpu")
    snapshot_hash = "5" * 64
    images_seen = 1234

    def __init__(self, broken: Sequence[int] = (), shift: float = 0.0) -> None:
        self.broken = latents(broken, self.latent_shape)
        self.shift = shift

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        images = (z * settings.psi * 0.3 + self.shift).clamp(-1, 1)
        for latent in self.broken:
            images[(z == latent).flatten(1).all(1)] = torch.nan
        return images


class Faces:
    """Noise of the same kind from other seeds."""

    path = Path("faces")
    content_hash = "f" * 64

    def __init__(self, count: int = 200) -> None:
        self.images = to_pixels(Noise().decode(latents(range(10_000, 10_000 + count), (3, 8, 8))))
        self.index = pa.table({"sha256": [image.tobytes() for image in self.images]})

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        assert size == (8, 8)
        return self.images[indices]


class Quarters:
    """Mean colours of quarters."""

    file_hash = "e" * 64
    dimensions = 12
    resize_rule = "none"
    precision = "fp32"

    def __init__(self, name: str = "quarters") -> None:
        self.name = name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        quarters = images.reshape(len(images), 2, height // 2, 2, width // 2, 3).mean((2, 4))
        return quarters.reshape(len(images), 12).astype(np.float32) / 255
