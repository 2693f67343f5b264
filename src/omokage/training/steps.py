"""Turns a batch of pixels into the inputs of a step's phases."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models.conditional import unconditioned
from ..objectives.phase import Step
from .batches import Order
from .conditions import ConditionLabels


class Steps:
    """Makes the steps of one face set. All randomness comes from PyTorch's generator; the caller seeds it.

    Args:
        model: gives the shape of latents, and whether images have one channel.
        labels: the conditions of the faces, or None.
        mirror: whether to mirror half of the images.
        augment: see `Step`.
    """

    def __init__(
        self,
        batches: Order,
        model: Any,
        labels: ConditionLabels | None,
        mirror: bool,
        augment: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self.batches, self.labels, self.mirror = batches, labels, mirror
        self.model: Any = unconditioned(model)
        self.latent_shape: tuple[int, ...] = model.latent_shape
        self.grey = getattr(model, "image_channels", 3) == 1
        self.augment, self.device = augment, device

    def pixels(self, images: int) -> Tensor:
        """The batch after ``images`` images, uint8 (B, 3, H, W)."""
        return self.batches.at(images)

    def real(self, pixels: Tensor) -> Tensor:
        """What a batch of ``pixels`` is to the networks: images (B, C, H, W) in [-1, 1]."""
        real = normalised(pixels, self.mirror, self.device)
        return grey(real) if self.grey else real

    def step(self, pixels: Tensor, images: int) -> Step:
        """The step for a batch of ``pixels``."""
        real = self.real(pixels)
        z = torch.randn(len(real), *self.latent_shape).to(self.device)
        if self.labels is None:
            return Step(real, z, self.augment, images)
        given = self.labels.drawn(self.batches.indices(images)).to(self.device)
        return Step(real, z, self.augment, images, (given,))


def normalised(pixels: Tensor, mirror: bool, device: torch.device) -> Tensor:
    """uint8 (B, 3, H, W) to float in [-1, 1], half of them mirrored."""
    real = pixels.to(device).float() / 127.5 - 1
    if mirror:
        flipped = torch.rand(len(real), 1, 1, 1) < 0.5
        real = torch.where(flipped.to(device), real.flip(3), real)
    return real.contiguous(memory_format=torch.channels_last)


def grey(real: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 1, H, W): luma as in ITU-R BT.601, like Pillow's "L"."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=real.device)[:, None, None]
    return (real * weights).sum(1, keepdim=True)
