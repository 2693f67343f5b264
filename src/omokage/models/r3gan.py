"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", arXiv 2501.05441): a plain modern GAN.

Residual blocks as in ConvNeXt's forerunners, with grouped convolutions, and nothing else: no normalisation,
no styles, no minibatch statistics. Section 4 builds it up from StyleGAN2 step by step. The discriminator is
the mirror image of the generator. The defaults are the published widths for 64 px.

Difference from the paper: at the border, resampling repeats the last pixel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, Counts
from ..errors import UserError
from .flow import in_range

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance after a leaky ReLU (He et al. 2015)
WIDTHS = (768, 768, 768, 768, 384)  # at 4, 8, 16, 32 and 64 px


def _initialised(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Module:
    """Weights from N(0, gain² / inputs)."""
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(inputs))
    return layer


def _pointwise(channels_in: int, channels_out: int, gain: float = 1.0) -> nn.Module:
    return _initialised(nn.Conv2d(channels_in, channels_out, 1, bias=False), gain)


class _Activation(nn.Module):
    """A bias for each channel, then a leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias.to(x.dtype)[:, None, None], SLOPE)


class _Block(nn.Sequential):
    """1x1, grouped 3x3, 1x1, with a skip; the last one starts at zero (section 4, and Zhang et al. 2019).

    Without normalisation, weights start smaller the more blocks there are (Fixup, arXiv 1901.09321).
    """

    def __init__(self, channels: int, expansion: int, group: int, blocks: int, where: str) -> None:
        inner = channels * expansion
        groups = max(1, inner // group)
        if inner % groups:
            raise UserError(
                f"{where}.group: got {group}, does not fit {channels} channels times {expansion}; take "
                "channels that are multiples of it"
            )
        gain = GAIN * blocks ** (-1 / 4)  # three layers: exponent -1 / (2 · 3 - 2)
        super().__init__(
            _pointwise(channels, inner, gain),
            _Activation(inner),
            _initialised(nn.Conv2d(inner, inner, 3, padding=1, groups=groups, bias=False), gain),
            _Activation(inner),
            _pointwise(inner, channels, 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) to twice the size, with the filter [1, 2, 1]: pixels stay, and means stand between them.

    >>> doubled(torch.tensor([[[[0.0, 2.0]]]]))[0, 0, 0].tolist()
    [0.0, 1.0, 2.0, 2.0]
    """
    for dim in (2, 3):
        side = x.shape[dim]
        after = torch.cat([x.narrow(dim, 1, side - 1), x.narrow(dim, side - 1, 1)], dim)
        x = torch.stack([x, (x + after) / 2], dim + 1).flatten(dim, dim + 1)
    return x


def halved(x: Tensor) -> Tensor:
    """(B, C, H, W) to half the size, with the filter [1, 2, 1].

    >>> halved(torch.tensor([[[[0.0, 4.0, 8.0, 0.0]]]]).expand(1, 1, 2, 4))[0, 0, 0].tolist()
    [1.0, 5.0]
    """
    for dim in (2, 3):
        even, odd = x.unflatten(dim, (-1, 2)).unbind(dim + 1)
        before = torch.cat([even.narrow(dim, 0, 1), odd.narrow(dim, 0, odd.shape[dim] - 1)], dim)
        x = even / 2 + (before + odd) / 4
    return x


class Generator(nn.Module):
    """Latents to images.

    >>> Generator(latent=8, channels=(16, 8, 8), blocks=1, group=8).decode(torch.randn(2, 8)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        latent: Count = 64,  # entries of a latent, each N(0, 1)
        channels: Counts = WIDTHS,  # of the 4x4, 8x8, ... features; n of them give 4·2ⁿ⁻¹ px
        blocks: Count = 2,  # at each size
        expansion: Count = 2,  # channels within a block, as a multiple of those between blocks
        group: Count = 16,  # channels in a group of the grouped convolutions
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
    ) -> None:
        super().__init__()
        self.latent_shape = (latent + joined,)
        self.image_channels = image_channels
        self.resolution = (2 ** (len(channels) + 1),) * 2
        every = blocks * len(channels)
        self.basis = nn.Parameter(torch.randn(channels[0], 4, 4))
        self.weights = _initialised(nn.Linear(latent + joined, channels[0], bias=False), 1.0)
        self.stages, self.widen = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(channels):
            same = i == 0 or channels[i - 1] == width
            self.widen.append(nn.Identity() if same else _pointwise(channels[i - 1], width))
            self.stages.append(
                nn.Sequential(*(_Block(width, expansion, group, every, "model") for _ in range(blocks)))
            )
        self.out = _pointwise(channels[-1], image_channels)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, image_channels, H, W), about in [-1, 1]."""
        x = self.weights(z)[:, :, None, None] * self.basis
        for i, (widen, stage) in enumerate(zip(self.widen, self.stages, strict=True)):
            x = stage(doubled(widen(x)) if i else x)
        return self.out(x)

    def decode(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, image_channels, H, W) in [-1, 1]."""
        return in_range(self(z))


class Discriminator(nn.Module):
    """Images to logits, the mirror image of the generator.

    >>> Discriminator(channels=(16, 8, 8), blocks=1, group=8)(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        channels: Counts = WIDTHS,  # of the 4x4, 8x8, ... features; n of them take 4·2ⁿ⁻¹ px
        blocks: Count = 2,  # at each size
        expansion: Count = 2,  # channels within a block, as a multiple of those between blocks
        group: Count = 16,  # channels in a group of the grouped convolutions
        image_channels: Channels = 3,
        outputs: Count = 1,  # logits for each image; conditions add one for each of their values
    ) -> None:
        super().__init__()
        self.resolution = (2 ** (len(channels) + 1),) * 2
        every = blocks * len(channels)
        widths = channels[::-1]
        self.into = _pointwise(image_channels, widths[0])
        self.stages, self.narrow = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            self.stages.append(
                nn.Sequential(
                    *(_Block(width, expansion, group, every, "discriminator") for _ in range(blocks))
                )
            )
            same = i + 1 == len(widths) or widths[i + 1] == width
            self.narrow.append(nn.Identity() if same else _pointwise(width, widths[i + 1]))
        last = widths[-1]
        self.basis = _initialised(nn.Conv2d(last, last, 4, groups=last, bias=False), 1.0)
        self.out = _initialised(nn.Linear(last, outputs, bias=False), 1.0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, image_channels, H, W) in [-1, 1] to logits (B,) or (B, outputs), higher if they look real."""
        x = self.into(images)
        for i, (stage, narrow) in enumerate(zip(self.stages, self.narrow, strict=True)):
            x = stage(x)
            x = narrow(halved(x)) if i + 1 < len(self.stages) else x
        return self.out(self.basis(x)[:, :, 0, 0]).squeeze(1)
