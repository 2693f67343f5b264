"""A small face encoder trained from scratch on hair and eye tags of anime faces.

`metrics.tag_features` uses its features to compare faces, `data.colours` to estimate hair and eye colours.
``bench/train_tag_encoder.py`` trains it.
"""

from functools import lru_cache

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .files import shipped

WEIGHTS = "tag-encoder.safetensors"
WEIGHTS_SHA256 = "5c1534ab89e8a8955ffab5890139c693eb31d5d73a249481cfc6816051f6cda2"
SIDE = 64


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


class Down(nn.Module):
    """A convolution that halves the sides, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride=2, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class TagEncoder(nn.Module):
    """Images in [-1, 1], (B, 3, 64, 64), to features (B, ``dimensions``).

    Args:
        widths: channels at 32, 16, 8 and 4 pixels. The features are the spatial means of the last three
            feature maps, concatenated. The first describes strokes and texture, the last the layout of the
            face.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 64, 128, 224)) -> None:
        super().__init__()
        first, second, third, last = widths
        self.stem = nn.Sequential(Down(3, first, kernel=5), ResidualBlock(first))
        self.at16 = nn.Sequential(Down(first, second), ResidualBlock(second))
        self.at8 = nn.Sequential(Down(second, third), ResidualBlock(third))
        self.at4 = Down(third, last)
        self.dimensions = second + third + last

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The feature maps at 16, 8 and 4 pixels."""
        at16 = self.at16(self.stem(images))
        at8 = self.at8(at16)
        return at16, at8, self.at4(at8)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([m.mean(dim=(2, 3)) for m in self.maps(images)], dim=1)


def network_input(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, 64, 64) in [-1, 1], by the rule ``antialiased-bilinear-64``.

    The rule: both sides are resized to 64 with a triangle filter that is widened by the scale factor
    (PyTorch's antialiased bilinear interpolation, pixel centres at halves). 64x64 images are not changed.

    >>> network_input(np.full((1, 96, 80, 3), 255, np.uint8)).mean()
    tensor(1.)
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
    x = torch.from_numpy(np.require(images, requirements=("C", "W"))).permute(0, 3, 1, 2).float()
    if x.shape[2:] != (SIDE, SIDE):
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return (x / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def encoder_bytes() -> bytes:
    """The shipped weight file; UserError if it is missing or its SHA-256 is not the pinned one."""
    return shipped(WEIGHTS, WEIGHTS_SHA256, "the tag encoder")


@lru_cache(maxsize=1)
def tag_encoder() -> TagEncoder:
    """The shipped encoder in evaluation mode, checked against its pinned SHA-256.

    Raises:
        UserError: the weight file is missing or altered.
    """
    weights = safetensors.torch.load(encoder_bytes())
    encoder = TagEncoder()
    encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return encoder.eval().requires_grad_(False)
