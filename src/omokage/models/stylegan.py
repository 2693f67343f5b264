"""StyleGAN (Karras et al. 2019, "A Style-Based Generator Architecture for GANs", arXiv 1812.04948).

The discriminator is that of ``progan`` with ``smooth``: the paper filters when the size changes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, NotNegative, Positive, Share
from ..errors import UserError
from .layers import (
    SLOPE,
    EqualisedConv2d,
    EqualisedLinear,
    Noise,
    Noises,
    StyleSpace,
    full_precision,
    one_a_layer,
    sides,
    widths,
)
from .progan import HE, Growing, to_images


def adaptive_instance_norm(x: Tensor, deviation: Tensor, mean: Tensor) -> Tensor:
    """Equation 1: each channel of each image gets this standard deviation and mean.

    ``x`` (B, C, H, W); ``deviation`` and ``mean`` (B, C). It is computed as a batch norm of one image with
    B·C channels. That takes one pass and keeps only ``x`` for the backward pass.
    """
    batch, channels, height, width = x.shape
    flat = x.reshape(1, batch * channels, height, width)
    return F.batch_norm(
        flat, None, None, deviation.flatten(), mean.flatten(), training=True, eps=1e-8
    ).view_as(x)


class Layer(nn.Module):
    """Noise, bias, activation and style after a convolution (figure 1b)."""

    def __init__(self, channels: int, style: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.noise_strength = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = EqualisedLinear(style, 2 * channels)
        self.register_buffer("noise", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        """``x`` (B, channels, H, W), which is overwritten, and ``w`` (B, style)."""
        bias = self.bias[:, None, None]
        if noise != "none":
            constant = self.get_buffer("noise")
            drawn = constant if noise == "constant" else torch.randn(len(x), 1, *constant.shape).to(constant)
            bias = torch.addcmul(bias, drawn, self.noise_strength[:, None, None])
        x = F.leaky_relu_(x.add_(bias.to(x.dtype)), SLOPE)
        with full_precision(w):
            scale, shift = self.style(w).chunk(2, 1)
        return adaptive_instance_norm(x, scale + 1, shift)


class Block(nn.Module):
    """All layers of one size: an upsampling convolution or the constant input, then another convolution."""

    def __init__(
        self,
        channels_in: int,  # 0: the constant input
        channels_out: int,
        style: int,
        size: tuple[int, int],
        smooth: bool,
    ) -> None:
        super().__init__()
        self.constant = None if channels_in else nn.Parameter(torch.ones(channels_out, *size))
        self.up = (
            EqualisedConv2d(channels_in, channels_out, bias=False, resample="up", smooth=smooth, gain=HE)
            if channels_in
            else None
        )
        self.first = Layer(channels_out, style, size)
        self.convolution = EqualisedConv2d(channels_out, channels_out, bias=False, gain=HE)
        self.second = Layer(channels_out, style, size)

    def forward(self, x: Tensor | None, w: Tensor, noise: Sequence[Noise]) -> Tensor:
        """Features of half the size (None in the first block) and styles (B, 2, style) to features."""
        if x is None:
            assert self.constant is not None
            x = self.constant.expand(w.shape[0], -1, -1, -1).clone()
        else:
            assert self.up is not None
            x = self.up(x)
        x = self.first(x, w[:, 0], noise[0])
        return self.second(self.convolution(x), w[:, 1], noise[1])


class Generator(StyleSpace, Growing):
    """Latents to styles to images. In training, the image size depends on the images seen.

    >>> generator = Generator(latent=8, style=8, depth=2, channels=[8, 8, 4], resolution=[16, 16])
    >>> generator.decode(torch.randn(2, 8)).shape, generator.mapping(torch.randn(2, 8)).shape
    (torch.Size([2, 3, 16, 16]), torch.Size([2, 6, 8]))
    >>> generator.grow(0)
    >>> generator(torch.randn(2, 8)).shape, generator.decode(torch.randn(2, 8)).shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 16, 16]))
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
        smooth: bool = True,  # double sizes with a filter; false: only by nearest neighbours, for speed
        mixing: Share = 0.9,  # share of the images in training that have two styles
        # How fast the mapping network learns, as a multiple of the others' rate.
        mapping_rate: Positive = 0.01,
        truncated: CountOrNone = 0,  # how many layers psi truncates, from the base up; 0: all
        start: CountOrNone = 1,  # number of times the base is doubled for the first images
        stable_kimg: NotNegative = 600.0,  # how long each size is trained alone ...
        # ... and how long it fades in before that; if both are 0, the last size is drawn from the start.
        fade_kimg: NotNegative = 600.0,
        image_channels: Channels = 3,
    ) -> None:
        super().__init__(latent, style, depth, mixing, mapping_rate)
        self.set_growth(sides(resolution, base, "model"), start, stable_kimg, fade_kimg)
        if base[0] * base[1] == 1:
            raise UserError("model.base: got [1, 1], must have two pixels or more: AdaIN makes one its mean")
        wide = widths(self.sizes, channels, capacity, most, "model")
        self.layers = 2 * len(self.sizes)
        if not 0 <= truncated <= self.layers:
            raise UserError(
                f"model.truncated: got {truncated}, must be 0 to {self.layers}, the layers there are"
            )
        self.truncated, self.image_channels = truncated, image_channels
        self.layer_sizes = [size for size in self.sizes for _ in range(2)]
        self.blocks = nn.ModuleList(
            Block(wide[i - 1] if i else 0, wide[i], style, size, smooth) for i, size in enumerate(self.sizes)
        )
        self.to_images = to_images(wide, start, image_channels)

    @property
    def layers_in_use(self) -> int:
        """The number of layers of the sizes up to the current one."""
        return 2 * (self.stage[0] + 1)

    def mapping(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """As `StyleSpace.mapping`; with ``cutoff`` None, ``truncated`` layers are truncated."""
        return super().mapping(z, psi, (self.truncated or None) if cutoff is None else cutoff)

    def image(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles (B, layers, style) to images of the current stage, about in [-1, 1]."""
        level, alpha = self.stage
        kinds = one_a_layer(noise, self.layers)
        x: Tensor | None = None
        before = x
        for i, block in enumerate(self.blocks[: level + 1]):
            before, x = x, block(x, w[:, 2 * i : 2 * i + 2], kinds[2 * i : 2 * i + 2])
        image = self.to_images[str(level)](x)
        if alpha < 1:
            image = self.faded(self.to_images[str(level - 1)](before), image)
        return image.float()

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles (B, layers, style) to images (B, image_channels, H, W) of the last size, at every stage."""
        return self.full_size(self.image(w, noise))

    def forward(self, z: Tensor) -> Tensor:
        """Images of the current stage for training, with mixed styles and new noise."""
        return self.image(self.styles(z), "random" if self.training else "constant")
