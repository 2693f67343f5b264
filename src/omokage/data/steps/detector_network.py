"""The face detector's network: a small U-shaped convolutional network that marks the centres of faces.

After "Objects as Points" (Zhou, Wang, Krähenbühl 2019, arXiv:1904.07850): one map of centres, and at every
centre its position within the cell, the size, and here also the tilt of the head. It finds faces of
`SMALLEST` to `LARGEST` pixels; an image pyramid brings every face into that range.
"""

import torch
from torch import Tensor, nn

from omokage.models.residual import Residual, convolution

STRIDE = 4
SMALLEST, LARGEST = 12, 72
"""Smallest and largest side, in pixels, of the faces it was trained to find."""

OUTPUTS = 7
"""Channels: centre (logit), offset x and y (cells), log width and height (of `UNIT` pixels), sine, cosine."""

UNIT = 32.0


class DetectorNetwork(nn.Module):
    """RGB in [-1, 1] (B, 3, H, W), sides divisible by 16 -> (B, `OUTPUTS`, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.down2 = convolution(3, 24, 2)
        self.down4 = nn.Sequential(convolution(24, 32, 2), Residual(32))
        self.down8 = nn.Sequential(convolution(32, 64, 2), Residual(64), Residual(64))
        self.down16 = nn.Sequential(convolution(64, 96, 2), Residual(96), Residual(96))
        self.up8 = convolution(96, 64, kernel=1)
        self.merge8 = convolution(64, 64)
        self.up4 = convolution(64, 32, kernel=1)
        self.merge4 = convolution(32, 48)
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
