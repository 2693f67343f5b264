"""StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", arXiv 1912.04958).

Differences from the paper: the images of a group in the minibatch deviation are consecutive. Resampling may
use nearest neighbours and means in place of the paper's filter (``smooth``), which takes half the time on two
CPU cores.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, NotNegative, Positive, Share
from .layers import (
    SLOPE,
    ChromaFilter,
    EqualisedConv2d,
    EqualisedLinear,
    Noise,
    Noises,
    StyleSpace,
    activate,
    chroma_to_halve,
    convolution_up,
    downsample,
    full_precision,
    minibatch_deviation,
    one_a_layer,
    sides,
    single,
    upsample,
    widths,
    with_halved_chroma,
)

Architecture = Literal["orig", "skip", "resnet"]
Start = Literal["constant", "style"]
Normalisation = Literal["style", "batch"]


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """Equation 3: factors (B, out) that give the outputs variance 1 if the inputs have variance 1.

    ``weight`` (out, in, k, k), ``style`` (B, in).
    """
    with full_precision(style):
        squares = single(weight).square().sum((2, 3))
        return (F.linear(single(style).square(), squares) + 1e-8).rsqrt()


def modulated_by_scaling(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False, smooth: bool = True
) -> Tensor:
    """Modulated convolution with shared weights: the style scales ``x``, the demodulation the result.

    ``x`` (B, in, H, W), ``weight`` (out, in, k, k), ``style`` (B, in); ``up`` as `convolution_up`.
    """
    x = x * style.to(x.dtype)[:, :, None, None]
    x = _convolution(x, weight, up, smooth)
    return x * demodulation(weight, style).to(x.dtype)[:, :, None, None] if demodulate else x


def modulated_by_groups(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False, smooth: bool = True
) -> Tensor:
    """The same, as one grouped convolution with weights for each image (section 2.2, last paragraph)."""
    batch, _, height, width = x.shape
    weights = weight[None] * style[:, None, :, None, None]
    if demodulate:
        weights = weights * demodulation(weight, style)[:, :, None, None, None]
    weights = weights.flatten(0, 1).to(x.dtype)
    joined = _convolution(x.reshape(1, -1, height, width), weights, up, smooth, groups=batch)
    return joined.view(batch, -1, *joined.shape[2:])


def _convolution(x: Tensor, weight: Tensor, up: bool, smooth: bool, groups: int = 1) -> Tensor:
    if up:
        return convolution_up(x, weight, smooth, groups)
    return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups)


class StyledConvolution(nn.Module):
    """A modulated convolution, noise, bias and activation (figure 2d)."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        style: int,  # entries of w
        size: tuple[int, int],  # height and width of the output
        up: bool = False,
        smooth: bool = True,
        noise: bool = True,
        kernel: int = 3,
        normalised_by: Normalisation = "style",
    ) -> None:
        super().__init__()
        self.style = EqualisedLinear(style, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.scale = 1 / math.sqrt(channels_in * kernel**2)
        self.up, self.smooth = up, smooth
        # No scale of its own, because the next style scales the features.
        self.norm = nn.BatchNorm2d(channels_out, affine=False) if normalised_by == "batch" else None
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        if noise:
            self.register_buffer("noise", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor, noise: Noise, gain: float = 1.0) -> Tensor:
        """``x`` (B, in, H, W) and ``w`` (B, style)."""
        with full_precision(w):
            style = self.style(w)
        weight = self.weight * self.scale
        gain *= math.sqrt(2)  # the activation's gain; leaky ReLU commutes with positive factors
        bias = (self.bias * gain)[:, None, None]
        if self.norm is not None:
            x = self.norm(modulated_by_scaling(x, weight, style, False, self.up, self.smooth))
            x = torch.add(bias.to(x.dtype), x, alpha=gain)
        elif x.is_cuda and not torch.is_grad_enabled():
            x = modulated_by_groups(x, weight, style, True, self.up, self.smooth)
            x = torch.add(bias.to(x.dtype), x, alpha=gain)
        else:
            x = modulated_by_scaling(x, weight, style, False, self.up, self.smooth)
            factor = (demodulation(weight, style) * gain)[:, :, None, None]
            x = torch.addcmul(bias.to(x.dtype), x, factor.to(x.dtype))
        if self.noise_strength is not None and noise != "none":
            x = x.add_((self._noise(x.shape[0], noise) * (self.noise_strength * gain)).to(x.dtype))
        return F.leaky_relu_(x, SLOPE)

    def _noise(self, batch: int, noise: Noise) -> Tensor:
        constant: Tensor = self.get_buffer("noise")
        if noise == "constant":
            return constant
        return torch.randn(batch, 1, *constant.shape, device=constant.device)


class ToImage(nn.Module):
    """A modulated 1x1 convolution without demodulation, to colours."""

    def __init__(self, channels_in: int, image_channels: int, style: int) -> None:
        super().__init__()
        self.style = EqualisedLinear(style, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, channels_in))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.scale = 1 / math.sqrt(channels_in)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``x`` (B, in, H, W) and ``w`` (B, style) to (B, image_channels, H, W)."""
        with full_precision(w):
            weights = self.style(w)[:, :, None] * (self.weight.T * self.scale)
        # One matrix for each image saves the pass that scales x. Channels last, so that its gradient is too.
        image = x.permute(0, 2, 3, 1).flatten(1, 2) @ weights.to(x.dtype) + self.bias.to(x.dtype)
        return image.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class Block(nn.Module):
    """All layers of one size: one or two convolutions, and an image if the architecture has one."""

    def __init__(
        self,
        channels_in: int,  # 0: it begins with ``start``
        channels_out: int,
        style: int,
        image_channels: int,
        size: tuple[int, int],
        refined: bool,  # whether a second convolution follows the one that doubles the size
        architecture: Architecture,
        last: bool,
        smooth: bool,
        noise: bool,
        clamp: float,
        start: Start,
        normalised_by: Normalisation,
    ) -> None:
        super().__init__()
        self.resnet, self.clamp = architecture == "resnet", clamp
        self.size, first = size, channels_in == 0
        self.constant = (
            nn.Parameter(torch.randn(channels_out, *size)) if first and start == "constant" else None
        )
        # At a tenth of the rate: the common part of all styles moves every entry in the same direction.
        self.start = (
            EqualisedLinear(style, channels_out * math.prod(size), rate=0.1)
            if first and start == "style"
            else None
        )
        self.convolutions = nn.ModuleList()
        if channels_in:
            self.convolutions.append(
                StyledConvolution(
                    channels_in, channels_out, style, size, True, smooth, noise, normalised_by=normalised_by
                )
            )
        if refined:
            self.convolutions.append(
                StyledConvolution(
                    channels_out, channels_out, style, size, False, smooth, noise, normalised_by=normalised_by
                )
            )
        self.skip = (
            EqualisedConv2d(channels_in, channels_out, 1, bias=False, resample="up", smooth=smooth)
            if channels_in and self.resnet
            else None
        )
        self.to_image = (
            ToImage(channels_out, image_channels, style) if architecture == "skip" or last else None
        )
        self.smooth = smooth

    def forward(
        self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: Sequence[Noise]
    ) -> tuple[Tensor, ...]:
        """Features and image of half the size, with styles (B, layers here + 1, style), to this size."""
        if x is None:
            if self.start is not None:
                x = self.start(w[:, 0]).unflatten(1, (-1, *self.size))
            else:
                assert self.constant is not None
                x = self.constant.expand(w.shape[0], -1, -1, -1)
            assert x is not None
            x = x.to(_working_dtype(x)).contiguous(memory_format=torch.channels_last)
        around = None if self.skip is None else self.skip(x) * math.sqrt(0.5)
        for i, convolution in enumerate(self.convolutions):
            joins = i == len(self.convolutions) - 1 and self.skip is not None
            gain = math.sqrt(0.5) if joins else 1.0
            x = self._within(convolution(x, w[:, i], noise[i], gain), gain)
            if joins:
                x = x + around  # type: ignore[operator]
        if image is not None:
            image = upsample(image) if self.smooth else F.interpolate(image, scale_factor=2.0)
        if self.to_image is not None:
            new = single(self._within(self.to_image(x, w[:, len(self.convolutions)])))
            image = new if image is None else image + new
        return x, image  # type: ignore[return-value]

    def _within(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return x.clamp(-self.clamp * gain, self.clamp * gain) if self.clamp else x


def _working_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class Generator(StyleSpace):
    """Latents to styles to images (figure 7; by default with skip connections for the image).

    >>> Generator(latent=8, style=8, depth=2, channels=[8, 8, 4], resolution=[16, 16]).decode(
    ...     torch.randn(2, 8)
    ... ).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        latent: Count = 512,  # entries of z
        style: Count = 512,  # entries of w
        depth: Count = 8,  # layers of the mapping network
        resolution: Sequence[Count] = (64, 64),  # height and width: base doubled a number of times
        base: Sequence[Count] = (4, 4),  # height and width of the constant input
        channels: Sequence[Count] = (),  # at base and each size up to resolution; empty: as in the paper:
        capacity: Count = 16384,  # ... this number divided by the longer side,
        most: Count = 512,  # ... and not more than this
        refined: CountOrNone = 99,  # how many sizes, from base up, have a second convolution
        architecture: Architecture = "skip",
        smooth: bool = True,  # resampling by [1, 3, 3, 1]; false: by nearest neighbours, for speed
        noise: bool = True,  # added in every layer
        mixing: Share = 0.9,  # share of the images in training that have two styles
        # How fast the mapping network learns, as a multiple of the others' rate.
        mapping_rate: Positive = 0.01,
        # Activations are clamped to ± this (for networks trained in half precision); 0: not clamped.
        clamp: NotNegative = 0.0,
        start: Start = "constant",  # the first features: learned numbers, or computed from the first style
        # How features are scaled to variance 1: by the variance that their style predicts (equation 3), or by
        # that of the batch. In short trainings against a projected discriminator, "batch" gives images of
        # different shapes sooner.
        normalised_by: Normalisation = "style",
        squashed: bool = False,  # tanh maps images into [-1, 1]; false: they are clamped when drawn
        halved_chroma: bool = False,  # whether colour has half the resolution of brightness, as in most JPEGs
        chroma_filter: ChromaFilter = "box",  # how colour is halved; "smooth" leaves no fine pattern
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
        classes: CountOrNone = 0,  # further entries; the largest of them chooses a class; 0: none
        located: bool = False,  # whether latents are mapped to where a trained encoder puts real faces
    ) -> None:
        super().__init__(latent, style, depth, mixing, mapping_rate, joined, classes, located)
        sizes = sides(resolution, base, "model")
        wide = widths(sizes, channels, capacity, most, "model")
        self.resolution = sizes[-1]
        self.image_channels, self.squashed = image_channels, squashed
        self.halved_chroma = chroma_to_halve(halved_chroma, image_channels)
        self.chroma_filter = chroma_filter
        self.blocks = nn.ModuleList(
            Block(
                wide[i - 1] if i else 0,
                wide[i],
                style,
                image_channels,
                size,
                i == 0 or i < refined,
                architecture,
                i == len(sizes) - 1,
                smooth,
                noise,
                clamp,
                start,
                normalised_by,
            )
            for i, size in enumerate(sizes)
        )
        self.counts = [len(block.convolutions) for block in self.blocks]  # type: ignore[arg-type]
        self.layers = sum(self.counts) + 1  # the last one belongs to the last image only
        self.layer_sizes = [
            size for size, count in zip(sizes, self.counts, strict=True) for _ in range(count)
        ]
        self.layer_sizes.append(self.resolution)

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles (B, layers, style) to images (B, image_channels, H, W), about in [-1, 1]."""
        x: Tensor | None = None
        image: Tensor | None = None
        kinds = one_a_layer(noise, self.layers)
        first = 0
        for block, count in zip(self.blocks, self.counts, strict=True):
            x, image = block(x, image, w[:, first : first + count + 1], kinds[first:])
            first += count
        assert image is not None
        # The image is a sum over all sizes; each summand has variance 1 at the start.
        image = (image / math.sqrt(len(self.blocks))).tanh() if self.squashed else image
        return with_halved_chroma(image, self.chroma_filter) if self.halved_chroma else image


class _Down(nn.Module):
    """One size of the discriminator; the output has half the size."""

    def __init__(self, channels_in: int, channels_out: int, residual: bool, smooth: bool) -> None:
        super().__init__()
        self.first = EqualisedConv2d(channels_in, channels_in, 3)
        self.second = EqualisedConv2d(channels_in, channels_out, 3, resample="down", smooth=smooth)
        self.skip = (
            EqualisedConv2d(channels_in, channels_out, 1, bias=False, resample="down", smooth=smooth)
            if residual
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(activate(self.first(x)))
        return activate(y) if self.skip is None else activate(y, 1.0) + self.skip(x) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Images to logits (figure 7; by default with residual blocks)."""

    def __init__(
        self,
        resolution: Sequence[Count] = (64, 64),  # height and width: base doubled a number of times
        base: Sequence[Count] = (4, 4),
        channels: Sequence[Count] = (),  # at base and each size up to resolution; empty: as in the paper:
        capacity: Count = 16384,  # ... this number divided by the longer side,
        most: Count = 512,  # ... and not more than this
        architecture: Architecture = "resnet",
        smooth: bool = True,  # resampling by [1, 3, 3, 1]; false: by means of 2x2 px, for speed
        group: CountOrNone = 4,  # images that the minibatch deviation compares; 0: it is left out
        image_channels: Channels = 3,
        outputs: Count = 1,  # logits for each image; conditions add one for each of their values
    ) -> None:
        super().__init__()
        sizes = sides(resolution, base, "discriminator")
        self.resolution = sizes[-1]
        wide = widths(sizes, channels, capacity, most, "discriminator")
        self.group, self.smooth = group, smooth
        seen = len(sizes) if architecture == "skip" else 1  # the number of sizes at which it takes the image
        self.from_images = nn.ModuleList(
            EqualisedConv2d(image_channels, wide[-1 - i], 1) for i in range(seen)
        )
        self.blocks = nn.ModuleList(
            _Down(wide[i], wide[i - 1], architecture == "resnet", smooth)
            for i in reversed(range(1, len(sizes)))
        )
        self.last = EqualisedConv2d(wide[0] + (1 if group else 0), wide[0], 3)
        self.dense = EqualisedLinear(wide[0] * base[0] * base[1], wide[0])
        self.logit = EqualisedLinear(wide[0], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B,), or (B, outputs)."""
        x = activate(self.from_images[0](images))
        for i, block in enumerate(self.blocks, 1):
            x = block(x)
            if len(self.from_images) > 1:
                images = downsample(images, self.smooth)
                x = x + activate(self.from_images[i](images))
        if self.group:
            x = minibatch_deviation(x, self.group)
        x = activate(self.last(x))
        return self.logit(activate(self.dense(x.flatten(1)))).squeeze(1)
