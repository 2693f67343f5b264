"""The face detector's network: a small U-shaped convolutional network that marks the centres of faces.

After "Objects as Points" (Zhou, Wang, Krähenbühl 2019, arXiv:1904.07850): one map of centres, and at every
centre its position within the cell, the size, and here also the tilt of the head. It finds faces of
`SMALLEST` to `LARGEST` pixels; an image pyramid brings every face into that range.
"""

import torch
from torch import Tensor, nn

STRIDE = 4
SMALLEST, LARGEST = 12, 72
"""Smallest and largest side, in pixels, of the faces it was trained to find."""

OUTPUTS = 7
"""Channels: centre (logit), offset x and y (cells), log width and height (of `UNIT` pixels), sine, cosine."""

UNIT = 32.0


def _conv(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class DetectorNetwork(nn.Module):
    """RGB in [-1, 1] (B, 3, H, W), sides divisible by 16 -> (B, `OUTPUTS`, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.down2 = _conv(3, 24, 2)
        self.down4 = nn.Sequential(_conv(24, 32, 2), _Residual(32))
        self.down8 = nn.Sequential(_conv(32, 64, 2), _Residual(64), _Residual(64))
        self.down16 = nn.Sequential(_conv(64, 96, 2), _Residual(96), _Residual(96))
        self.up8 = _conv(96, 64, kernel=1)
        self.merge8 = _conv(64, 64)
        self.up4 = _conv(64, 32, kernel=1)
        self.merge4 = _conv(32, 48)
        self.head = nn.Conv2d(48, OUTPUTS, 1)
        nn.init.zeros_(self.head.weight)
        # Few cells are centres of faces, so start from a low probability (focal loss, Lin et al. 2017).
        self.head.bias = nn.Parameter(torch.tensor([-4.0] + [0.0] * (OUTPUTS - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x4 = self.down4(self.down2(x))
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x8 = self.merge8(x8 + self._larger(self.up8(x16)))
        x4 = self.merge4(x4 + self._larger(self.up4(x8)))
        # In float32: with fewer digits, neighbours would have equal scores and all be maxima.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x4.float())

    @staticmethod
    def _larger(x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
