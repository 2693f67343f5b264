"""Differentiable augmentation of the discriminator's images (Zhao et al. 2020, "DiffAugment").

Each function takes images (B, C, H, W) and returns the same shape. Parameters are drawn for each image from
PyTorch's generator. The training loop seeds it from the number of images seen.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def colour(images: Tensor) -> Tensor:
    """Brightness ±0.5, saturation times 0 to 2, contrast times 0.5 to 1.5 (appendix of the paper)."""

    def uniform() -> Tensor:
        return torch.rand(len(images), 1, 1, 1).to(images)

    images = images + (uniform() - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (uniform() * 2) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (uniform() + 0.5) + mean


def translation(images: Tensor, share: float = 0.125) -> Tensor:
    """Shift by up to ``share`` of each side; the new border is 0."""
    batch, _, height, width = images.shape
    rows, columns = (
        (torch.arange(side) + torch.randint(-int(side * share), int(side * share) + 1, (batch, 1)) + 1)
        .clamp(0, side + 1)
        .to(images.device)
        for side in (height, width)
    )
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    each = torch.arange(batch, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, share: float = 0.5) -> Tensor:
    """Set a rectangle at a random place to 0; its sides are ``share`` of the image's."""
    inside = None
    for axis in (2, 3):
        side = images.shape[axis]
        half = int(side * share) // 2
        centre = torch.randint(0, side, (len(images), 1))
        hit = (torch.arange(side) - centre).abs() < half
        hit = hit[:, :, None] if axis == 2 else hit[:, None, :]
        inside = hit if inside is None else inside & hit
    return images.masked_fill(inside[:, None].to(images.device), 0.0)  # type: ignore[index]


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


def augmenter(names: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """The named augmentations, one after the other; without names, images stay unchanged."""

    def augment(images: Tensor) -> Tensor:
        for name in names:
            images = AUGMENTATIONS[name](images)
        return images

    return augment
