"""Shared parts of the style-based families: scaled weights, resampling, minibatch deviation, style space."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .flow import full_precision, in_range

SLOPE = 0.2  # slope of every leaky ReLU for negative values
Noise = Literal["constant", "random", "none"]
Noises = Noise | Sequence[Noise]  # one for all layers, or one for each layer


class EqualisedLinear(nn.Module):
    """Karras et al. 2017, section 4.1: weights start with variance 1 and are scaled at each use.

    So Adam changes every weight by the same fraction. ``rate`` multiplies the effect of an optimiser step
    (Karras et al. 2019, appendix C: 0.01 in the mapping network).
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        bias: float | None = 0.0,  # initial value of the bias; None: no bias
        rate: float = 1.0,
        gain: float = 1.0,  # sqrt(2) if no gain follows the activation (He et al. 2015)
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features_out, features_in) / rate)
        self.bias = None if bias is None else nn.Parameter(torch.full((features_out,), bias / rate))
        self.scale, self.rate = rate * gain / math.sqrt(features_in), rate

    def forward(self, x: Tensor) -> Tensor:
        """(..., features_in) to (..., features_out)."""
        return F.linear(x, self.weight * self.scale, None if self.bias is None else self.bias * self.rate)


class EqualisedConv2d(nn.Module):
    """A convolution with weights of variance 1 that are scaled at each use; see `EqualisedLinear`.

    ``resample`` "up" doubles the size before the convolution, "down" halves it afterwards. With ``smooth``,
    resampling uses the filter [1, 3, 3, 1] (Karras et al. 2020, appendix B). Otherwise it uses nearest
    neighbours and means of 2x2 px, which are merged into the kernel and cost nothing.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,  # 1 or 3; padding keeps the size
        bias: bool = True,
        resample: Literal["", "up", "down"] = "",
        smooth: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.scale = gain / math.sqrt(channels_in * kernel**2)
        self.resample, self.smooth = resample, smooth

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, H', W')."""
        weight = self.weight * self.scale
        if self.resample == "":
            return F.conv2d(x, weight, self.bias, padding=weight.shape[2] // 2)
        if self.resample == "up":
            x = convolution_up(x, weight, self.smooth)
            return x if self.bias is None else x + self.bias.to(x.dtype)[:, None, None]
        return convolution_down(x, weight, self.bias, self.smooth)


# Resampling. The filter is [1, 3, 3, 1] / 8 in both directions. Outside the image, pixels are 0.


class _Blur(torch.autograd.Function):
    """Each channel filtered with [1, 3, 3, 1] in both directions.

    The filter is symmetric, so the backward pass is the same operation. This avoids oneDNN's gradient of
    depthwise convolutions, which is slow in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int, gain: float) -> Tensor:
        ctx.padding, ctx.gain = padding, gain
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device) / 8
        kernel = (taps[:, None] * taps * gain).to(x.dtype).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Blur.apply(gradient, 3 - ctx.padding, ctx.gain), None, None


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter (B, C, H, W) with [1, 3, 3, 1]; the sides become H + 2 padding - 3. Twice differentiable.

    >>> blur(torch.ones(1, 1, 5, 5), 0)[0, 0, 0].tolist()
    [1.0, 1.0]
    """
    return _Blur.apply(x, padding, gain)


def upsample(x: Tensor) -> Tensor:
    """Double the size with the filter [1, 3, 3, 1]: linear interpolation, with 0 outside.

    >>> upsample(torch.ones(1, 1, 2, 2))[0, 0, 0].tolist()
    [0.5625, 0.75, 0.75, 0.5625]
    """
    padded = F.pad(x, (1, 1, 1, 1))
    doubled = F.interpolate(padded, scale_factor=2.0, mode="bilinear", align_corners=False)
    return doubled[:, :, 2:-2, 2:-2]


def downsample(x: Tensor, smooth: bool = True) -> Tensor:
    """Halve the size with the filter [1, 3, 3, 1], or by means of 2x2 px."""
    # A copy: a view, if saved for the backward pass, would keep the whole tensor in memory.
    return blur(x, 1)[:, :, ::2, ::2].clone() if smooth else F.avg_pool2d(x, 2)


def convolution_up(x: Tensor, weight: Tensor, smooth: bool = True, groups: int = 1) -> Tensor:
    """Double the size, then convolve with ``weight`` (out, in, k, k), k 1 or 3, in half the work.

    Smooth: a transposed convolution, then the filter [1, 3, 3, 1]. Otherwise: nearest neighbours, then the
    convolution. These two are merged into one transposed convolution with a kernel that is larger by one: the
    weights of neighbours that are copies of one pixel are added. The kernel is flipped, because a transposed
    convolution flips it again.
    """
    size = weight.shape[2]
    if smooth:
        if size == 1:
            return upsample(F.conv2d(x, weight, groups=groups))
        spread = F.conv_transpose2d(x, _transposed(weight, groups), stride=2, groups=groups)
        return blur(spread, 1, gain=4.0)
    if size == 1:
        return F.interpolate(F.conv2d(x, weight, groups=groups), scale_factor=2.0, mode="nearest")
    kernel = _transposed(_widened(weight.to(x.dtype)), groups)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=groups)


def _transposed(weight: Tensor, groups: int) -> Tensor:
    """(groups · out, in, k, k) to (groups · in, out, k, k), the layout of transposed convolutions."""
    if groups == 1:
        return weight.transpose(0, 1)
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def convolution_down(x: Tensor, weight: Tensor, bias: Tensor | None = None, smooth: bool = True) -> Tensor:
    """Convolve with ``weight`` (out, in, k, k), k 1 or 3, then halve the size, in a quarter of the work.

    Smooth: the filter [1, 3, 3, 1], then a convolution with stride 2. Otherwise: the convolution, then means
    of 2x2 px, merged into one convolution with stride 2 and a kernel that is larger by one.
    """
    if weight.shape[2] == 1:
        return F.conv2d(downsample(x, smooth), weight, bias)
    if smooth:
        return F.conv2d(blur(x, 2), weight, bias, stride=2)
    return F.conv2d(x, _widened(weight) / 4, bias, stride=2, padding=1)


def _widened(weight: Tensor) -> Tensor:
    """A kernel of 3 px followed by a sum over 2x2 px, as one kernel of 4 px."""
    padded = F.pad(weight, (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., 1:, :-1] + padded[..., :-1, 1:] + padded[..., :-1, :-1]


def activate(x: Tensor, gain: float = math.sqrt(2)) -> Tensor:
    """Leaky ReLU, then multiplication by ``gain``; sqrt(2) keeps the variance after `EqualisedLinear`.

    ``x`` is overwritten, so the backward pass needs only the result.
    """
    return F.leaky_relu_(x if gain == 1 else x * gain, SLOPE)


def normalised(x: Tensor) -> Tensor:
    """Entries along dimension 1 scaled to a mean square of 1 (Karras et al. 2017, section 4.2)."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """``x`` (B, C, H, W) with one more channel: how much the images of a group differ.

    Karras et al. 2017, section 3: the standard deviation of every feature over the group, averaged over
    features. A group is ``group`` consecutive images, or the largest smaller number that divides B. So a
    batch that is split into parts, each a multiple of ``group``, gives the same result as the whole batch.
    """
    batch, _, height, width = x.shape
    size = next(number for number in range(min(group, batch), 0, -1) if batch % number == 0)
    groups = single(x).unflatten(0, (batch // size, size))
    deviation = (groups.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    channel = deviation.repeat_interleave(size).to(x.dtype)[:, None, None, None]
    return torch.cat([x, channel.expand(batch, 1, height, width)], 1)


def single(x: Tensor) -> Tensor:
    """``x`` in float32 if it has half precision, else unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Location(nn.Module):
    """An affine map, z to ``centre`` + ``axes`` z: it maps normal latents to the latents of real faces.

    It is the identity until `move` is called.
    """

    centre: Tensor
    axes: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("axes", torch.eye(latent))

    def move(self, centre: Tensor, axes: Tensor) -> None:
        """Set the map: ``centre`` (latent,) and ``axes`` (latent, latent)."""
        self.centre.copy_(centre)
        self.axes.copy_(axes)

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """(B, latent + joined) to the same shape; joined entries stay the same. ``psi`` truncates."""
        z, joined = z[:, : self.latent], z[:, self.latent :]
        return torch.cat([self.centre + psi * z @ self.axes.T, joined], 1)


class MappingNetwork(nn.Module):
    """Latents to styles w (Karras et al. 2019, figure 1b; for labels, Karras et al. 2020b, appendix D)."""

    def __init__(
        self,
        latent: int,
        width: int,  # of w and of all layers
        depth: int = 8,
        joined: int = 0,  # entries of a label, after those of the latent; 0: none
        rate: float = 0.01,  # its learning rate, as a multiple of the others'
    ) -> None:
        super().__init__()
        self.latent = latent
        self.label = EqualisedLinear(joined, width) if joined else None
        widths = [latent + (width if joined else 0), *[width] * depth]
        self.layers = nn.ModuleList(
            EqualisedLinear(widths[i], widths[i + 1], rate=rate) for i in range(depth)
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, width)."""
        with full_precision(z):
            x = normalised(single(z[:, : self.latent]))
            if self.label is not None:
                x = torch.cat([x, normalised(self.label(single(z[:, self.latent :])))], 1)
            for layer in self.layers:
                x = activate(layer(x))
            return x


class StyleSpace(nn.Module):
    """The part of a style-based generator before its synthesis: z to w, average, truncation, mixing.

    A subclass sets ``layers`` and ``resolution`` and has ``synthesis``. The last ``classes`` entries of a
    latent choose a class: the largest entry wins. The ``joined`` entries before them are used as labels
    directly.
    """

    w_average: Tensor
    layers: int
    resolution: tuple[int, int]

    def __init__(
        self,
        latent: int,
        width: int,  # of w
        depth: int,  # layers of the mapping network
        mixing: float,  # share of the images in training that have two styles
        mapping_rate: float = 0.01,  # learning rate of the mapping network, as a multiple of the others'
        joined: int = 0,
        classes: int = 0,
        located: bool = False,  # whether latents are mapped to where a trained encoder puts real faces
        average: float = 0.995,  # share of the average style that each batch keeps
    ) -> None:
        super().__init__()
        self.latent_shape = (latent + joined + classes,)
        self.mapping_network = MappingNetwork(latent, width, depth, joined + classes, mapping_rate)
        self.latent, self.classes, self.mixing, self.average = latent, classes, mixing, average
        self.location = Location(latent) if located else None
        self.register_buffer("w_average", torch.zeros(width))

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles (B, layers, width) to images (B, C, H, W), about in [-1, 1]."""
        raise NotImplementedError

    @property
    def layers_in_use(self) -> int:
        """The number of layers in use for style mixing; fewer than ``layers`` while a generator grows."""
        return self.layers

    def mapping(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """(B, *latent_shape) to styles (B, layers, width), truncated: ``psi`` 1 keeps them, 0 is the average.

        ``psi`` below 0 mirrors styles through the average. Only the first ``cutoff`` layers are truncated
        (None: all). In training mode the running average is updated.
        """
        return self._mapped(z if self.location is None else self.location(z), psi, cutoff)

    def first_features(self, z: Tensor) -> Tensor:
        """(B, *latent_shape) to styles (B, width): they decide the whole image and cost next to nothing."""
        return self.mapping(z)[:, 0]

    def _mapped(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """As `mapping`, without the shift by `Location`."""
        if self.classes:
            chosen = F.one_hot(z[:, -self.classes :].argmax(1), self.classes)
            z = torch.cat([z[:, : -self.classes], chosen.to(z)], 1)
        w = self.mapping_network(z)
        if self.training:
            with torch.no_grad():
                self.w_average.lerp_(w.detach().mean(0), 1 - self.average)
        w = w[:, None].expand(-1, self.layers, -1)
        if psi == 1:
            return w
        truncated = self.w_average.lerp(w, psi)
        return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], w[:, cutoff:]], 1)

    def styles(self, z: Tensor) -> Tensor:
        """Styles for training: a share ``mixing`` of the images have two, one before and one after a layer.

        Mixing regularisation (Karras et al. 2019, section 3.1). Both styles have the same label. The last
        images of a batch are mixed, because the first may be reconstructions of real faces.
        """
        w = self._mapped(z)
        if not self.training or self.mixing == 0:
            return w
        fresh = torch.randn(len(z), self.latent).to(z)
        # Labels are given, not learned, so they need no gradient.
        others = self.mapping(torch.cat([fresh, z[:, self.latent :].detach()], 1))
        crossover = torch.randint(1, self.layers_in_use, (len(z), 1))
        whole = int((1 - self.mixing) * len(z) + torch.rand(()))
        mixed = torch.arange(len(z))[:, None] >= whole
        second = (torch.arange(self.layers) >= crossover) & mixed
        return torch.where(second.to(w.device)[:, :, None], others, w)

    def forward(self, z: Tensor) -> Tensor:
        """Images for training: styles are mixed, noise is drawn anew, values are not clamped to [-1, 1].

        Latents are not shifted by `Location`: the training loop has done that already.
        """
        return self.synthesis(self.styles(z), "random" if self.training else "constant")

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """(B, *latent_shape) to (B, C, H, W) in [-1, 1]; a latent gives one image."""
        return in_range(self.synthesis(self.mapping(z, psi)))


def one_a_layer(noise: Noises, layers: int) -> list[Noise]:
    """The noise of each layer.

    >>> one_a_layer("none", 2)
    ['none', 'none']
    """
    return [noise] * layers if isinstance(noise, str) else list(noise)


def widths(
    sizes: Sequence[tuple[int, int]], channels: Sequence[int], capacity: int, most: int, where: str
) -> list[int]:
    """The channels at each size: ``channels``, or those of the papers if ``channels`` is empty."""
    if not channels:
        return [max(1, min(most, capacity // max(size))) for size in sizes]
    if len(channels) != len(sizes) or min(channels) < 1:
        named = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise UserError(f"{where}.channels: got {list(channels)}, must be {len(sizes)} numbers, for {named}")
    return list(channels)


def sides(resolution: Sequence[int], base: Sequence[int], where: str) -> list[tuple[int, int]]:
    """Every size from ``base`` to ``resolution`` (height, width); each is twice the one before.

    Raises:
        UserError: ``resolution`` is not ``base`` doubled; the message gives the two nearest sizes that are.

    >>> sides([96, 128], [3, 4], "model")
    [(3, 4), (6, 8), (12, 16), (24, 32), (48, 64), (96, 128)]
    """
    for name, pair in (("resolution", resolution), ("base", base)):
        if len(pair) != 2 or min(pair) < 1:
            raise UserError(
                f"{where}.{name}: got {list(pair)}, must be [height, width], for example [64, 64]"
            )
    found = [(base[0], base[1])]
    while found[-1][0] < resolution[0] or found[-1][1] < resolution[1]:
        found.append((2 * found[-1][0], 2 * found[-1][1]))
    if len(found) < 2:
        found.append((2 * base[0], 2 * base[1]))
    if found[-1] != tuple(resolution):
        below, above = (f"[{height}, {width}]" for height, width in found[-2:])
        raise UserError(
            f"{where}.resolution: got {list(resolution)}, must be {list(base)} doubled a number of times; "
            f"the nearest are {below} and {above}, or choose another {where}.base"
        )
    return found


ChromaFilter = Literal["box", "smooth"]


def with_halved_chroma(images: Tensor, way: ChromaFilter = "box") -> Tensor:
    """(B, 3, H, W) with chroma at half the resolution, as in JPEG's 4:2:0; luma does not change.

    Chroma is the colour minus its luma (ITU-R BT.601). It is reduced by a filter ``way`` and upsampled
    bilinearly, like the "fancy upsampling" of libjpeg. Values may go slightly beyond the images' range.

    "box" averages 2x2 pixels, as libjpeg does. It lets through part of what is finer than the reduced chroma
    can hold, folded down to a pattern of about four pixels. A generator is not punished for such fine colour,
    so it may have much of it. "smooth" weighs 4x4 pixels by 1 3 3 1 and lets far less through.
    """
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    luma = (images * weights).sum(1, keepdim=True)
    chroma = images - luma
    if way == "smooth":  # averages of neighbours twice, then of pairs: 1 2 1 and 1 1 make 1 3 3 1
        chroma = F.pad(chroma, (1, 1, 1, 1), mode="replicate")
        chroma = F.avg_pool2d(F.avg_pool2d(chroma, 2, 1), 2, 1)
    chroma = F.avg_pool2d(chroma, 2)
    return luma + F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)


def chroma_to_halve(wanted: bool, image_channels: int) -> bool:
    """Returns ``wanted``. Raises `UserError` if it is true and images have no chroma."""
    if wanted and image_channels != 3:
        raise UserError(
            f"model.halved_chroma: images of {image_channels} channel(s) have no chroma; leave it out"
        )
    return wanted


def added_over_processes(tensor: Tensor) -> int:
    """Sum ``tensor`` in place over all processes of a training. Returns the number of processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    torch.distributed.all_reduce(tensor)
    return torch.distributed.get_world_size()
