"""ProGAN (Karras et al. 2018, "Progressive Growing of GANs", arXiv 1710.10196).

Differences from the paper: truncation moves the first features towards their running average (the paper has
no truncation), and the optimisers keep their moments when a new size begins.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, NotNegative
from ..errors import UserError
from .flow import in_range
from .layers import EqualisedConv2d, EqualisedLinear, activate, minibatch_deviation, normalised, sides, widths

HE = math.sqrt(2)  # gain of weights before a leaky ReLU; the papers apply it there and not after the ReLU
GROWN = -1  # value for a network that is not in training: it draws its last size


def stage_at(images: int, start: int, last: int, stable_kimg: float, fade_kimg: float) -> tuple[int, float]:
    """The index of the size drawn after ``images`` images, and how far it has faded in, 0 to 1.

    Figure 2 and appendix A: the first size is drawn alone. Then each next size fades in and is drawn alone.

    >>> [stage_at(images, 0, 2, 800, 400) for images in (0, 799_999, 800_000, 900_000, 1_300_000, 9_000_000)]
    [(0, 1.0), (0, 1.0), (1, 0.0), (1, 0.25), (1, 1.0), (2, 1.0)]
    """
    kimg = images / 1000 - stable_kimg
    if images == GROWN or stable_kimg + fade_kimg == 0:
        return last, 1.0
    if kimg < 0:
        return start, 1.0
    turn, within = divmod(kimg, stable_kimg + fade_kimg)
    level = start + 1 + int(turn)
    if level > last:
        return last, 1.0
    return level, min(1.0, within / fade_kimg) if fade_kimg else 1.0


class Growing(nn.Module):
    """A generator that grows with the images seen.

    It keeps that number in a buffer, so that its average and its snapshots know which sizes they can draw.
    """

    images_seen: Tensor
    sizes: list[tuple[int, int]]
    resolution: tuple[int, int]

    def set_growth(
        self, sizes: list[tuple[int, int]], start: int, stable_kimg: float, fade_kimg: float
    ) -> None:
        """Store the settings. Raises `UserError` if they are impossible."""
        if not 0 <= start < len(sizes):
            raise UserError(
                f"model.start: got {start}, must be 0 to {len(sizes) - 1}, the doublings of the base"
            )
        for name, kimg in (("stable_kimg", stable_kimg), ("fade_kimg", fade_kimg)):
            if kimg < 0:
                raise UserError(f"model.{name}: got {kimg}, must be 0 or more")
        self.sizes, self.resolution = sizes, sizes[-1]
        self.start, self.stable_kimg, self.fade_kimg = start, stable_kimg, fade_kimg
        self.register_buffer("images_seen", torch.tensor(GROWN))

    def grow(self, images: int) -> None:
        """Set the stage for ``images`` images seen."""
        self.images_seen.fill_(images)

    @property
    def stage(self) -> tuple[int, float]:
        """The index in ``sizes`` of the size it draws, and how far that has faded in, 0 to 1."""
        return stage_at(
            int(self.images_seen), self.start, len(self.sizes) - 1, self.stable_kimg, self.fade_kimg
        )

    def shown(self, images: Tensor) -> Tensor:
        """Real images (B, C, H, W) of the last size to this stage: smaller, and faded in the same way."""
        level, alpha = self.stage
        small = (
            F.avg_pool2d(images, 2 ** (len(self.sizes) - 1 - level))
            if level < len(self.sizes) - 1
            else images
        )
        return small if alpha == 1 else torch.lerp(doubled(F.avg_pool2d(small, 2)), small, alpha)

    def faded(self, old: Tensor, new: Tensor) -> Tensor:
        """The blend of the previous size's image and this size's image at this stage (figure 2b)."""
        return torch.lerp(doubled(old), new, self.stage[1])

    def full_size(self, images: Tensor) -> Tensor:
        """Images of this stage enlarged to the last size; each pixel becomes a square."""
        return F.interpolate(images, self.resolution, mode="nearest")


def to_images(wide: Sequence[int], start: int, image_channels: int) -> nn.ModuleDict:
    """A 1x1 convolution to colours for each size that is drawn; the key is the number of doublings."""
    return nn.ModuleDict(
        {str(i): EqualisedConv2d(wide[i], image_channels, 1) for i in range(start, len(wide))}
    )


def doubled(images: Tensor) -> Tensor:
    """Double the size by nearest neighbours."""
    return F.interpolate(images, scale_factor=2.0, mode="nearest")


class _Up(nn.Module):
    """Double the size by nearest neighbours, then two convolutions (table 2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = EqualisedConv2d(channels_in, channels_out, resample="up", smooth=False, gain=HE)
        self.second = EqualisedConv2d(channels_out, channels_out, gain=HE)

    def forward(self, x: Tensor) -> Tensor:
        x = normalised(activate(self.first(x), 1.0))
        return normalised(activate(self.second(x), 1.0))


class Generator(Growing):
    """Latents on the sphere to images; the features of every pixel are normalised.

    >>> generator = Generator(latent=8, channels=[8, 8, 4], resolution=[16, 16])
    >>> generator.decode(torch.randn(2, 8)).shape
    torch.Size([2, 3, 16, 16])
    >>> generator.grow(0)
    >>> generator(torch.randn(2, 8)).shape, generator.decode(torch.randn(2, 8)).shape
    (torch.Size([2, 3, 4, 4]), torch.Size([2, 3, 16, 16]))
    """

    feature_average: Tensor
    batches_averaged: Tensor

    def __init__(
        self,
        latent: Count = 512,  # entries of a latent; it is scaled to length sqrt(latent)
        resolution: Sequence[Count] = (64, 64),  # height and width: base, doubled a number of times
        base: Sequence[Count] = (4, 4),  # height and width of the smallest features
        channels: Sequence[Count] = (),  # at base and each size up to resolution; empty: as in the paper:
        capacity: Count = 16384,  # ... this number divided by the longer side,
        most: Count = 512,  # ... and not more than this
        start: CountOrNone = 0,  # number of times the base is doubled for the first images
        stable_kimg: NotNegative = 800.0,  # how long each size is trained alone ...
        # ... and how long it fades in before that; if both are 0, the last size is drawn from the start.
        fade_kimg: NotNegative = 800.0,
        image_channels: Channels = 3,
    ) -> None:
        super().__init__()
        self.set_growth(sides(resolution, base, "model"), start, stable_kimg, fade_kimg)
        wide = widths(self.sizes, channels, capacity, most, "model")
        self.latent_shape = (latent,)
        self.image_channels = image_channels
        self.dense = EqualisedLinear(latent, wide[0] * base[0] * base[1], bias=None, gain=HE)
        self.dense_bias = nn.Parameter(torch.zeros(wide[0]))
        self.first = EqualisedConv2d(wide[0], wide[0], gain=HE)
        self.blocks = nn.ModuleList(_Up(wide[i], wide[i + 1]) for i in range(len(wide) - 1))
        self.to_images = to_images(wide, start, image_channels)
        self.register_buffer("feature_average", torch.zeros(wide[0], *base))
        self.register_buffer("batches_averaged", torch.tensor(0))

    def _beginning(self, z: Tensor, psi: float) -> Tensor:
        """The smallest features (B, C, h, w)."""
        x = self.dense(normalised(z)).unflatten(1, (-1, *self.sizes[0]))
        x = activate(x + self.dense_bias.to(x.dtype)[:, None, None], 1.0)
        if self.training:
            with torch.no_grad():
                self.batches_averaged += 1
                share = max(1 / int(self.batches_averaged), 0.005)
                self.feature_average.lerp_(x.detach().to(self.feature_average).mean(0), share)
        if psi != 1:
            x = torch.lerp(self.feature_average.to(x.dtype), x, psi)
        return normalised(activate(self.first(normalised(x)), 1.0))

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """(B, latent) to images of the current stage, about in [-1, 1]."""
        level, alpha = self.stage
        x = before = self._beginning(z, psi)
        for block in self.blocks[:level]:
            before, x = x, block(x)
        image = self.to_images[str(level)](x)
        if alpha < 1:
            image = self.faded(self.to_images[str(level - 1)](before), image)
        return image.float()

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """(B, latent) to (B, image_channels, H, W) in [-1, 1], in the last size at every stage.

        ``psi`` below 1 moves the first features towards their average.
        """
        return in_range(self.full_size(self.forward(z, psi)))


class _Down(nn.Module):
    """Two convolutions, then half the size by means of 2x2 px (table 2) or by the filter of StyleGAN."""

    def __init__(self, channels_in: int, channels_out: int, smooth: bool) -> None:
        super().__init__()
        self.first = EqualisedConv2d(channels_in, channels_in, gain=HE)
        self.second = EqualisedConv2d(channels_in, channels_out, resample="down", smooth=smooth, gain=HE)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.second(activate(self.first(x), 1.0)), 1.0)


class Discriminator(nn.Module):
    """Images of any of its sizes to logits.

    Attributes:
        alpha: how far the size of the images has faded in, 0 to 1.
    """

    def __init__(
        self,
        resolution: Sequence[Count] = (64, 64),  # height and width: base doubled a number of times
        base: Sequence[Count] = (4, 4),
        channels: Sequence[Count] = (),  # at base and each size up to resolution; empty: as in the paper:
        capacity: Count = 16384,  # ... this number divided by the longer side,
        most: Count = 512,  # ... and not more than this
        start: CountOrNone = 0,  # the same as for the model; there are no smaller images
        smooth: bool = False,  # halve sizes with [1, 3, 3, 1], as in StyleGAN; false: by means of 2x2 px
        group: CountOrNone = 4,  # images that the minibatch deviation compares; 0: it is left out
        image_channels: Channels = 3,
    ) -> None:
        super().__init__()
        self.sizes = sides(resolution, base, "discriminator")
        self.resolution = self.sizes[-1]
        wide = widths(self.sizes, channels, capacity, most, "discriminator")
        self.start, self.group, self.alpha = start, group, 1.0
        self.from_images = nn.ModuleDict(
            {str(i): EqualisedConv2d(image_channels, wide[i], 1, gain=HE) for i in range(start, len(wide))}
        )
        self.blocks = nn.ModuleList(_Down(wide[i + 1], wide[i], smooth) for i in range(len(wide) - 1))
        self.last = EqualisedConv2d(wide[0] + (1 if group else 0), wide[0], gain=HE)
        self.dense = EqualisedLinear(wide[0] * base[0] * base[1], wide[0], gain=HE)
        self.logit = EqualisedLinear(wide[0], 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, image_channels, h, w) to logits (B,); (h, w) is one of ``sizes`` from ``start`` on."""
        height, width = images.shape[2:]
        level = self.sizes.index((height, width))
        x = activate(self.from_images[str(level)](images), 1.0)
        for i in reversed(range(level)):
            x = self.blocks[i](x)
            if i == level - 1 and self.alpha < 1:
                old = self.from_images[str(i)](F.avg_pool2d(images, 2))
                x = torch.lerp(activate(old, 1.0), x, self.alpha)
        if self.group:
            x = minibatch_deviation(x, self.group)
        x = activate(self.last(x), 1.0)
        return self.logit(activate(self.dense(x.flatten(1)), 1.0))[:, 0]
