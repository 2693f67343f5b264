"""SAGAN (Zhang et al. 2019, arXiv 1805.08318): self-attention, and spectral norm in both networks.

The paper's networks are for classes at 128 px. These are for faces without classes: they have one block less
and half the widths, plain batch norm in the generator, and no projection in the discriminator.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..bounds import Count, CountOrNone, Counts


def _convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, 1, kernel // 2)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return spectral_norm(convolution)


def _dense(features_in: int, features_out: int) -> nn.Module:
    dense = nn.Linear(features_in, features_out)
    nn.init.xavier_uniform_(dense.weight)
    nn.init.zeros_(dense.bias)
    return spectral_norm(dense)


class SelfAttention(nn.Module):
    """Section 3: every position attends to all positions; ``gate`` (the paper's gamma) starts at 0."""

    def __init__(self, channels: int, share: int = 8) -> None:
        super().__init__()
        inner = max(1, channels // share)
        self.query = _convolution(channels, inner, 1)  # f
        self.key = _convolution(channels, inner, 1)  # g
        self.value = _convolution(channels, inner, 1)  # h
        self.out = _convolution(inner, channels, 1)  # v
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).flatten(2).transpose(1, 2).contiguous()[:, None]  # one head
            for part in (self.query, self.key, self.value)
        )
        # Equations 1 and 2. The paper does not divide by the square root of the width.
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gate * self.out(attended[:, 0].transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:]))


class _Up(nn.Module):
    """Residual block that doubles the size (Miyato et al. 2018, figure 8b)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.before, self.between = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels_out)
        self.first = _convolution(channels_in, channels_out, 3)
        self.second = _convolution(channels_out, channels_out, 3)
        self.skip = _convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.interpolate(F.relu(self.before(x)), scale_factor=2.0))
        y = self.second(F.relu(self.between(y)))
        # A 1x1 convolution gives the same result before the upsampling as after it, at a quarter of the cost.
        return y + F.interpolate(self.skip(x), scale_factor=2.0)


class _Down(nn.Module):
    """Residual block; it halves the size if ``halve`` (Miyato et al. 2018, figure 8a)."""

    def __init__(self, channels_in: int, channels_out: int, halve: bool, first: bool) -> None:
        super().__init__()
        self.halve, self.starts = halve, first  # the first block takes an image, so no ReLU comes first
        self.first = _convolution(channels_in, channels_out, 3)
        self.second = _convolution(channels_out, channels_out, 3)
        self.skip = _convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x if self.starts else F.relu(x))))
        if self.halve:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return y + self.skip(x)


class Generator(nn.Module):
    """Latents to images: residual blocks, with self-attention at one size.

    >>> Generator(latent=8, channels=(8, 8, 8), attention_at=8).decode(torch.randn(2, 8)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        latent: Count = 128,  # entries of a latent, each N(0, 1)
        channels: Counts = (512, 512, 256, 128, 64),  # at 4x4, 8x8, ...; n of them give 4·2ⁿ⁻¹ px
        attention_at: CountOrNone = 32,  # side in px of the features with self-attention; 0: none
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
    ) -> None:
        super().__init__()
        self.latent_shape = (latent + joined,)
        self.first_shape = (channels[0], 4, 4)
        self.dense = _dense(latent + joined, 16 * channels[0])
        blocks: list[nn.Module] = []
        size = 4
        for incoming, outgoing in pairwise(channels):
            blocks.append(_Up(incoming, outgoing))
            size *= 2
            if size == attention_at:
                blocks.append(SelfAttention(outgoing))
        self.resolution = (size, size)
        self.blocks = nn.Sequential(*blocks)
        self.to_image = nn.Sequential(
            nn.BatchNorm2d(channels[-1]), nn.ReLU(), _convolution(channels[-1], 3, 3), nn.Tanh()
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, 3, H, W) in [-1, 1]."""
        return self.to_image(self.blocks(self.dense(z).view(-1, *self.first_shape)))

    decode = forward


class Discriminator(nn.Module):
    """Images to logits: residual blocks, with self-attention at one size, then a sum over positions.

    >>> Discriminator(resolution=16, channels=(8, 8), attention_at=8)(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        resolution: Count = 64,  # side of the images in px
        # Of the blocks; all except the last halve the size.
        channels: Counts = (64, 128, 256, 512, 512),
        attention_at: CountOrNone = 32,  # side in px of the features with self-attention; 0: none
        outputs: Count = 1,  # logits for each image; conditions add one for each of their values
    ) -> None:
        super().__init__()
        self.resolution = (resolution, resolution)
        blocks: list[nn.Module] = []
        incoming, size = 3, resolution
        for i, outgoing in enumerate(channels):
            halve = i < len(channels) - 1
            blocks.append(_Down(incoming, outgoing, halve, first=i == 0))
            incoming, size = outgoing, size // 2 if halve else size
            if halve and size == attention_at:
                blocks.append(SelfAttention(outgoing))
        self.blocks = nn.Sequential(*blocks)
        self.to_logit = _dense(incoming, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to logits (B,), or (B, outputs), above 0 if an image looks real."""
        return self.to_logit(F.relu(self.blocks(images)).sum((2, 3))).squeeze(1)
