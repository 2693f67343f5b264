"""The Inception network of 2015 that the Fréchet Inception Distance uses, written for speed.

Structure: Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision", with the
details of the graph of December 2015 that Heusel et al. 2017 measured with: averages do not count padding,
the pool branch of the last block takes the maximum, and batch norm has no gain and an epsilon of 1e-3. The
weights are read from the usual TorchScript file. Batch norm is folded into the convolutions once, in
float64. All convolutions use channels-last tensors.

In bfloat16 a weight keeps 8 of its 24 bits. The rounding error is the same for every image, so all features
shift together and FID comes out about one percent too low. Biases therefore stay in float32, and each one
corrects the shift at the mean input of its layer (Nagel et al. 2019, "Data-free quantization through weight
equalization and bias correction", section 4.2). The mean inputs are measured on fixed noise that has the
spectrum of photographs.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..hardware import best_precision as best_arithmetic

TORCHSCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
DIMENSIONS = 2048
SIDE = 299
# Pixel j of the result is taken at j * width / 299 of the image. No antialiasing; the edge is repeated.
RESIZE_RULE = "bilinear-tf1-299"

PRECISIONS = ("bf16", "fp32")
Fold = dict[str, tuple[Tensor, Tensor]]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def best_precision(device: torch.device) -> str:
    """``bf16`` on a CPU that multiplies bfloat16 in hardware, else ``fp32`` (on every GPU too)."""
    fast = device.type == "cpu" and best_arithmetic(device) == "bf16" and _fused_convolution_works()
    return "bf16" if fast else "fp32"


def _packed(weight: Tensor, padding: Sequence[int], stride: int, shape: Sequence[int]) -> Tensor:
    """``weight`` in the memory order that oneDNN uses for inputs of ``shape``."""
    reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
    return reorder(weight.to_mkldnn(), [*padding], [stride, stride], [1, 1], 1, [*shape])


def _fused(
    x: Tensor, packed: Tensor, bias: Tensor, padding: Sequence[int], stride: int, after: str
) -> Tensor:
    """Convolution with a float32 bias, and ``after`` ("relu" or "none") in the same pass."""
    convolution = torch.ops.mkldnn._convolution_pointwise
    return convolution(x, packed, bias, [*padding], [stride, stride], [1, 1], 1, after, [], "")


@lru_cache(maxsize=1)
def _fused_convolution_works() -> bool:
    """Whether this PyTorch has oneDNN's fused convolution (not a stable API), and its result is correct."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(*shape, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
        for shape in ((1, 16, 5, 5), (16, 16, 3, 3))
    )
    bias = torch.randn(16, generator=generator)
    try:
        found = _fused(x, _packed(weight, (1, 1), 1, x.shape), bias, (1, 1), 1, "relu")
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.conv2d(x.float(), weight.float(), bias, padding=1).relu()
    return torch.allclose(found.float(), expected, rtol=0.01, atol=0.05)


@lru_cache(maxsize=16)
def bilinear_matrix(size: int, out: int = SIDE) -> Tensor:
    """The bilinear resize of one axis as a matrix of shape (out, size), by the rule of TensorFlow 1.

    Row j mixes the two pixels around ``j * size / out``. Beyond the edge, the last pixel is repeated.

    >>> bilinear_matrix(2, 4)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 1.0000],
            [0.0000, 1.0000]])
    """
    source = torch.arange(out, dtype=torch.float64) * size / out
    below = source.floor().long()
    share = source - below
    rows = torch.arange(out)
    matrix = torch.zeros(out, size, dtype=torch.float64)
    matrix[rows, below] += 1 - share
    matrix[rows, (below + 1).clamp(max=size - 1)] += share
    return matrix.float()


def resized(images: Tensor) -> Tensor:
    """Images (B, H, W, 3) of 0..255 to network input (B, 3, 299, 299), channels-last, in [-1, 1).

    The bilinear rule is separable, so two matrix products do it: one along the rows, one along the columns.
    """
    batch, height, width, channels = images.shape
    x = (images.transpose(1, 2).reshape(batch, width, height * channels).float() - 128) / 128
    x = bilinear_matrix(width).to(x.device) @ x
    x = x.view(batch, SIDE, height, channels).transpose(1, 2).reshape(batch, height, SIDE * channels)
    x = bilinear_matrix(height).to(x.device) @ x
    return x.view(batch, SIDE, SIDE, channels).permute(0, 3, 1, 2)


def folded_weights(torchscript: Path) -> Fold:
    """Weight and bias of every convolution of the TorchScript file, float32, with batch norm folded in.

    Raises `UserError` if the file does not have the pinned SHA-256: loading TorchScript runs code in the
    file.
    """
    found = file_sha256(torchscript)
    if found != TORCHSCRIPT_SHA256:
        raise UserError(
            f"{torchscript} is not the 2015 Inception (SHA-256 {found[:12]}…, expected "
            f"{TORCHSCRIPT_SHA256[:12]}…): remove it or give another file"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the file exists in this format only
        state = torch.jit.load(str(torchscript), map_location="cpu").state_dict()
    prefix, suffix = "net.layers.", ".weight"
    fold: Fold = {}
    for key in state:
        if key.startswith(prefix) and key.endswith(suffix):
            name = key.removeprefix(prefix).removesuffix(suffix)
            weight, mean, variance, beta = (
                state[f"{prefix}{name}.{part}"].double() for part in ("weight", "mean", "var", "beta")
            )
            gain = (variance + 1e-3).rsqrt()
            fold[name] = (weight * gain[:, None, None, None]).float(), (beta - mean * gain).float()
    return fold


def rectify_(x: Tensor) -> Tensor:
    """max(x, 0) in place.

    On the CPU, bfloat16 is viewed as int16. Both have the same sign bit, and the same order for values from
    zero up, so the result is the same. It is five times as fast as the way through float32.
    """
    if x.dtype is torch.bfloat16 and x.device.type == "cpu":
        x.view(torch.int16).clamp_min_(0)
        return x
    return x.relu_()


def max_pool(x: Tensor) -> Tensor:
    """Maximum over 3×3, stride 2, no padding. Values must not be negative: on the CPU it works on int16."""
    if x.dtype is not torch.bfloat16 or x.device.type != "cpu":
        return F.max_pool2d(x, 3, 2)
    rows, columns = (x.shape[2] - 1) // 2 * 2, (x.shape[3] - 1) // 2 * 2
    bits = x.view(torch.int16)
    high = torch.maximum(bits[:, :, 0:rows:2], bits[:, :, 1:rows:2])
    torch.maximum(high, bits[:, :, 2 : rows + 1 : 2], out=high)
    wide = torch.maximum(high[..., 0:columns:2], high[..., 1:columns:2])
    torch.maximum(wide, high[..., 2 : columns + 1 : 2], out=wide)
    return wide.view(torch.bfloat16)


class Convolution(nn.Module):
    """Convolution, bias and ReLU. ``padding`` "same" keeps the size, "valid" adds no padding."""

    weight: Tensor
    bias: Tensor
    _order: Tensor | None = None  # the weight in oneDNN's memory order

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, padding: str = "same") -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride = stride
        self.padding = (weight.shape[2] // 2, weight.shape[3] // 2) if padding == "same" else (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolved(x, "relu")

    def convolved(self, x: Tensor, after: Literal["relu", "none"]) -> Tensor:
        """The convolution with bias, followed by ``after``."""
        if x.dtype is torch.bfloat16 and x.device.type == "cpu" and _fused_convolution_works():
            if self._order is None:
                self._order = _packed(self.weight, self.padding, self.stride, x.shape)
            return _fused(x, self._order, self.bias, self.padding, self.stride, after)
        if x.dtype is torch.bfloat16:
            y = F.conv2d(x, self.weight, None, self.stride, self.padding).add_(self.bias[:, None, None])
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return rectify_(y) if after == "relu" else y

    def round_(self, mean_input: Tensor) -> None:
        """Round the weight to bfloat16 and correct the bias for the shift at ``mean_input`` (channels,)."""
        rounded = self.weight.bfloat16()
        self.bias += ((self.weight - rounded).double().sum((2, 3)) @ mean_input.double()).float()
        self.weight = rounded


class AveragedConvolution(Convolution):
    """Average over 3×3 without padding in the count, then a 1×1 convolution and ReLU.

    Both are linear, and the average keeps constants. So the convolution can come first, which leaves fewer
    channels to average.
    """

    def forward(self, x: Tensor) -> Tensor:
        return rectify_(F.avg_pool2d(self.convolved(x, "none"), 3, 1, 1, count_include_pad=False))


class MaxPool(nn.Module):
    """`max_pool` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x)


def _chain(fold: Fold, *names: str) -> nn.Sequential:
    return nn.Sequential(*(Convolution(*fold[name]) for name in names))


def calibration_images(count: int = 8, side: int = 64) -> Tensor:
    """Coloured noise with the spectrum of photographs, always the same: uint8 (count, side, side, 3).

    Amplitudes fall as the inverse of the frequency (Field 1987).
    """
    generator = np.random.default_rng(2015)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(generator.normal(size=(count, side, side, 3)), axes=(1, 2))
    noise = np.fft.ifft2(spectrum / frequency[..., None] ** 1.2, axes=(1, 2)).real
    noise /= noise.std(axis=(1, 2, 3), keepdims=True)
    # Channels of photographs are correlated; contrast and mean colour differ between photographs.
    mixed = noise @ np.array([[0.8, 0.5, 0.4], [0.5, 0.8, 0.5], [0.4, 0.5, 0.8]])
    pixels = 55 * mixed + 130 + generator.normal(0, 25, (count, 1, 1, 3))
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


class BlockA(nn.Module):
    """1×1 | 1×1, 5×5 | 1×1, 3×3, 3×3 | average, 1×1 (figure 5 of the paper, with the 5×5 kept)."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.one = _chain(fold, f"{name}.conv")
        self.five = _chain(fold, f"{name}.tower.conv", f"{name}.tower.conv_1")
        self.three = _chain(fold, *(f"{name}.tower_1.{part}" for part in ("conv", "conv_1", "conv_2")))
        self.pooled = AveragedConvolution(*fold[f"{name}.tower_2.conv"])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.five(x), self.three(x), self.pooled(x)], 1)


class BlockB(nn.Module):
    """Halves the size: 3×3 | 1×1, 3×3, 3×3 | maximum (figure 10)."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.one = Convolution(*fold[f"{name}.conv"], 2, "valid")
        self.two = _chain(fold, f"{name}.tower.conv", f"{name}.tower.conv_1")
        self.two.append(Convolution(*fold[f"{name}.tower.conv_2"], 2, "valid"))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x), max_pool(x)], 1)


class BlockC(nn.Module):
    """1×1 | 1×1, 1×7, 7×1 | 1×1, 7×1, 1×7, 7×1, 1×7 | average, 1×1 (figure 6, n = 7)."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.one = _chain(fold, f"{name}.conv")
        self.two = _chain(fold, *(f"{name}.tower.{part}" for part in ("conv", "conv_1", "conv_2")))
        parts = ("conv", "conv_1", "conv_2", "conv_3", "conv_4")
        self.four = _chain(fold, *(f"{name}.tower_1.{part}" for part in parts))
        self.pooled = AveragedConvolution(*fold[f"{name}.tower_2.conv"])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x), self.four(x), self.pooled(x)], 1)


class BlockD(nn.Module):
    """Halves the size: 1×1, 3×3 | 1×1, 1×7, 7×1, 3×3 | maximum."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.short = _chain(fold, f"{name}.tower.conv")
        self.short.append(Convolution(*fold[f"{name}.tower.conv_1"], 2, "valid"))
        self.long = _chain(fold, *(f"{name}.tower_1.{part}" for part in ("conv", "conv_1", "conv_2")))
        self.long.append(Convolution(*fold[f"{name}.tower_1.conv_3"], 2, "valid"))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.short(x), self.long(x), max_pool(x)], 1)


class BlockE(nn.Module):
    """1×1 | 1×1, then 1×3 and 3×1 | 1×1, 3×3, then 1×3 and 3×1 | pool, 1×1 (figure 7)."""

    def __init__(self, fold: Fold, name: str, pool: Literal["average", "maximum"]) -> None:
        super().__init__()
        self.one = _chain(fold, f"{name}.conv")
        self.short = _chain(fold, f"{name}.tower_conv")
        self.short_wide = _chain(fold, f"{name}.tower_mixed_conv")
        self.short_high = _chain(fold, f"{name}.tower_mixed_conv_1")
        self.long = _chain(fold, f"{name}.tower_1_conv", f"{name}.tower_1_conv_1")
        self.long_wide = _chain(fold, f"{name}.tower_1_mixed_conv")
        self.long_high = _chain(fold, f"{name}.tower_1_mixed_conv_1")
        if pool == "average":
            self.pooled: nn.Module = AveragedConvolution(*fold[f"{name}.tower_2_conv"])
        else:
            self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), Convolution(*fold[f"{name}.tower_2_conv"]))

    def forward(self, x: Tensor) -> Tensor:
        short, long = self.short(x), self.long(x)
        branches = [
            self.one(x),
            self.short_wide(short),
            self.short_high(short),
            self.long_wide(long),
            self.long_high(long),
            self.pooled(x),
        ]
        return torch.cat(branches, 1)


class Inception(nn.Module):
    """The network without its classifier: images (B, H, W, 3), 0..255 → features (B, 2048), float32."""

    def __init__(self, fold: Fold, precision: str = "fp32") -> None:
        super().__init__()
        self.dtype = torch.float32
        # The first convolution reads pixels: bfloat16 would merge some of their 256 levels. It is also cheap.
        self.first = Convolution(*fold["conv"], 2, "valid")
        self.rest = nn.Sequential(
            Convolution(*fold["conv_1"], 1, "valid"),
            Convolution(*fold["conv_2"]),
            MaxPool(),
            Convolution(*fold["conv_3"]),
            Convolution(*fold["conv_4"], 1, "valid"),
            MaxPool(),
            BlockA(fold, "mixed"),
            BlockA(fold, "mixed_1"),
            BlockA(fold, "mixed_2"),
            BlockB(fold, "mixed_3"),
            BlockC(fold, "mixed_4"),
            BlockC(fold, "mixed_5"),
            BlockC(fold, "mixed_6"),
            BlockC(fold, "mixed_7"),
            BlockD(fold, "mixed_8"),
            BlockE(fold, "mixed_9", "average"),
            BlockE(fold, "mixed_10", "maximum"),
        )
        self.eval().requires_grad_(False)
        if precision == "bf16":
            convolutions = [m for m in self.rest.modules() if isinstance(m, Convolution)]
            for convolution, mean in zip(convolutions, self._mean_inputs(convolutions), strict=True):
                convolution.round_(mean)
            self.dtype = torch.bfloat16

    @torch.inference_mode()
    def _mean_inputs(self, convolutions: list[Convolution]) -> list[Tensor]:
        """The input of each convolution, averaged over the calibration images and positions: (channels,)."""
        means: dict[Convolution, Tensor] = {}

        def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
            assert isinstance(module, Convolution)
            means[module] = inputs[0].mean((0, 2, 3))

        handles = [convolution.register_forward_pre_hook(note) for convolution in convolutions]
        self(calibration_images())
        for handle in handles:
            handle.remove()
        return [means[convolution].clone() for convolution in convolutions]

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(resized(images)).to(self.dtype)
        return self.rest(x).float().mean((2, 3))
