"""Seeds to latents to images, for every family."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# Every decode has this many latents, the last ones repeated where fewer are left: kernels are chosen by
# shape and differ in the last bit, and a seed must give the same pixels alone and among others.
BATCH = 16


class Decoder(Protocol):
    """What sampling asks of a model."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents to images (B, 3, H, W) in [-1, 1]."""


def latents(seeds: Sequence[int], latent_shape: Sequence[int]) -> Tensor:
    """One standard normal latent a seed, (N, *latent_shape), each from a generator of its own.

    >>> bool((latents([3, 17], (4,))[1] == latents([17], (4,))[0]).all())
    True
    """
    if len(seeds) == 0:
        return torch.zeros(0, *latent_shape)
    return torch.stack(
        [torch.randn(*latent_shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    )


def decoded(model: Decoder, z: Tensor, psi: float = 1.0) -> Iterator[Tensor]:
    """Images of latents (N, *latent_shape), in order, as float (B, 3, H, W) in [-1, 1]; NaN is left in."""
    for part in z.split(BATCH):
        missing = BATCH - len(part)
        padded = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
        yield model.decode(padded, psi)[: len(part)]


def sampled(model: Decoder, seeds: Sequence[int], psi: float = 1.0) -> Iterator[Tensor]:
    """Images of ``seeds`` in order, as batches float (B, 3, H, W) in [-1, 1]; NaN is left in."""
    for start in range(0, len(seeds), BATCH):
        yield from decoded(model, latents(seeds[start : start + BATCH], model.latent_shape), psi)


def sample(model: Decoder, seeds: Sequence[int], psi: float = 1.0) -> Iterator[np.ndarray]:
    """Faces of ``seeds`` in order, as batches uint8 (B, H, W, 3)."""
    for images in sampled(model, seeds, psi):
        yield to_pixels(images)


def to_pixels(images: Tensor) -> np.ndarray:
    """(B, C, H, W) in [-1, 1] to uint8 (B, H, W, 3), rounded; NaN becomes black, grey is repeated."""
    pixels = ((images.float() + 1) * 127.5).round().nan_to_num(0.0).clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
