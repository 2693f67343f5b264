"""The Inception network of 2015 as the Fréchet Inception Distance uses it, written for speed.

Structure: Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision", with the details of
the graph of December 2015 that Heusel et al. 2017 measured with: averages do not count padding, the pool branch
of the last block takes the maximum, batch norm has no gain and an epsilon of 1e-3. The weights are read from the
usual TorchScript file; batch norm is folded into the convolutions, once, in float64. All convolutions work on
channels-last tensors, in bfloat16 where the hardware multiplies it (see `best_precision`), else in float32.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omokage.errors import UserError

TORCHSCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
DIMENSIONS = 2048
SIDE = 299
RESIZE_RULE = "bilinear-tf1-299"  # pixel j of the result lies at j * width / 299; no antialiasing, edge repeated

Precision = Literal["bf16", "fp32"]
Fold = dict[str, tuple[Tensor, Tensor]]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def best_precision(device: torch.device) -> Precision:
    """``bf16`` where ``device`` multiplies bfloat16 in hardware, else ``fp32``."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_amx_tile_supported", None), getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return "bf16" if any(test is not None and test() for test in supported) else "fp32"
    return "fp32"


@lru_cache(maxsize=16)
def bilinear_matrix(size: int, out: int = SIDE) -> Tensor:
    """The bilinear resize of one axis as a matrix of shape (out, size), by the rule of TensorFlow 1.

    Row j mixes the two pixels around ``j * size / out``; beyond the last pixel it is repeated.

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
    """Images (B, H, W, 3) of 0..255 as network input (B, 3, 299, 299), channels-last, in [-1, 1).

    Two matrix products, as the bilinear rule is separable.
    """
    batch, height, width, channels = images.shape
    x = (images.float() - 128) / 128
    x = bilinear_matrix(height).to(x.device) @ x.reshape(batch, height, width * channels)
    x = bilinear_matrix(width).to(x.device) @ x.reshape(batch * SIDE, width, channels)
    return x.reshape(batch, SIDE, SIDE, channels).permute(0, 3, 1, 2)


def folded_weights(torchscript: Path) -> Fold:
    """Weight and bias of every convolution of the TorchScript file, batch norm folded in; float32.

    Raises `UserError` if the file is not the one whose SHA-256 is pinned: loading TorchScript runs its code.
    """
    found = file_sha256(torchscript)
    if found != TORCHSCRIPT_SHA256:
        raise UserError(
            f"{torchscript} is not the 2015 Inception (SHA-256 {found[:12]}…, expected "
            f"{TORCHSCRIPT_SHA256[:12]}…): remove it or give another file"
        )
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


class Convolution(nn.Module):
    """Convolution, bias, rectifier. ``padding`` "same" keeps the size, "valid" adds nothing."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, padding: str = "same") -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride = stride
        self.padding = (weight.shape[2] // 2, weight.shape[3] // 2) if padding == "same" else (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(F.conv2d(x, self.weight, self.bias, self.stride, self.padding))


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _chain(fold: Fold, *names: str) -> nn.Sequential:
    return nn.Sequential(*(Convolution(*fold[name]) for name in names))


class BlockA(nn.Module):
    """1×1 | 1×1, 5×5 | 1×1, 3×3, 3×3 | average, 1×1 (figure 5 of the paper, with the 5×5 kept)."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.one = _chain(fold, f"{name}.conv")
        self.five = _chain(fold, f"{name}.tower.conv", f"{name}.tower.conv_1")
        self.three = _chain(fold, *(f"{name}.tower_1.{part}" for part in ("conv", "conv_1", "conv_2")))
        self.pooled = _chain(fold, f"{name}.tower_2.conv")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.five(x), self.three(x), self.pooled(_average(x))], 1)


class BlockB(nn.Module):
    """Halves the size: 3×3 | 1×1, 3×3, 3×3 | maximum (figure 10)."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.one = Convolution(*fold[f"{name}.conv"], 2, "valid")
        self.two = _chain(fold, f"{name}.tower.conv", f"{name}.tower.conv_1")
        self.two.append(Convolution(*fold[f"{name}.tower.conv_2"], 2, "valid"))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x), _max_pool(x)], 1)


class BlockC(nn.Module):
    """1×1 | 1×1, 1×7, 7×1 | 1×1, 7×1, 1×7, 7×1, 1×7 | average, 1×1 (figure 6, n = 7)."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.one = _chain(fold, f"{name}.conv")
        self.two = _chain(fold, *(f"{name}.tower.{part}" for part in ("conv", "conv_1", "conv_2")))
        parts = ("conv", "conv_1", "conv_2", "conv_3", "conv_4")
        self.four = _chain(fold, *(f"{name}.tower_1.{part}" for part in parts))
        self.pooled = _chain(fold, f"{name}.tower_2.conv")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x), self.four(x), self.pooled(_average(x))], 1)


class BlockD(nn.Module):
    """Halves the size: 1×1, 3×3 | 1×1, 1×7, 7×1, 3×3 | maximum."""

    def __init__(self, fold: Fold, name: str) -> None:
        super().__init__()
        self.short = _chain(fold, f"{name}.tower.conv")
        self.short.append(Convolution(*fold[f"{name}.tower.conv_1"], 2, "valid"))
        self.long = _chain(fold, *(f"{name}.tower_1.{part}" for part in ("conv", "conv_1", "conv_2")))
        self.long.append(Convolution(*fold[f"{name}.tower_1.conv_3"], 2, "valid"))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.short(x), self.long(x), _max_pool(x)], 1)


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
        self.pooled = _chain(fold, f"{name}.tower_2_conv")
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        short, long = self.short(x), self.long(x)
        pool = _average(x) if self.pool == "average" else F.max_pool2d(x, 3, 1, 1)
        branches = [
            self.one(x),
            self.short_wide(short),
            self.short_high(short),
            self.long_wide(long),
            self.long_high(long),
            self.pooled(pool),
        ]
        return torch.cat(branches, 1)


class Inception(nn.Module):
    """The network without its classifier: images (B, H, W, 3), 0..255 → features (B, 2048), float32."""

    def __init__(self, fold: Fold, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        # The first convolution sees pixels: rounding those to bfloat16 would blur 8-bit levels, and it is cheap.
        self.first = Convolution(*fold["conv"], 2, "valid")
        self.rest = nn.Sequential(
            Convolution(*fold["conv_1"], 1, "valid"),
            Convolution(*fold["conv_2"]),
            nn.MaxPool2d(3, 2),
            Convolution(*fold["conv_3"]),
            Convolution(*fold["conv_4"], 1, "valid"),
            nn.MaxPool2d(3, 2),
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
        ).to(dtype)
        self.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(resized(images)).to(self.dtype)
        return self.rest(x).float().mean((2, 3))
