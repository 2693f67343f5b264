"""Cuts faces out of their background: a small network trained on drawn faces, whose masks are known.

``bench/train_cutout.py`` trains it; ``docs/cutout.md`` says how well it does and what it does badly.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UserError
from .files import shipped
from .models.residual import Residual, convolution

WEIGHTS = "cutout.safetensors"
WEIGHTS_SHA256 = "f4397fa91ef05e3b25eca933801414ab857585dabac121f59590221067ace645"
SMALLEST, LARGEST = 16, 4096
WORKING = 128
"""Side in pixels at which the network looks at a face; smaller faces are enlarged to it, larger reduced."""

UNCLEAN = 0.03
"""A cut-out is not clean if the network doubts more than this share of the face's pixels."""


class CutoutNetwork(nn.Module):
    """RGB in [-1, 1] (B, 3, H, W), sides divisible by 32 -> logits (B, 2, H, W): alpha, and doubt about it.

    A U-Net (Ronneberger et al. 2015). At its lowest level the mean of the whole picture is added, so that
    every place knows what the background looks like elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down1 = convolution(3, 16)
        self.down2 = nn.Sequential(convolution(16, 24, 2), Residual(24))
        self.down4 = nn.Sequential(convolution(24, 40, 2), Residual(40))
        self.down8 = nn.Sequential(convolution(40, 64, 2), Residual(64))
        self.down16 = nn.Sequential(convolution(64, 80, 2), Residual(80))
        self.down32 = nn.Sequential(convolution(80, 96, 2), Residual(96))
        self.whole = nn.Linear(96, 96)
        self.up16, self.merge16 = convolution(96, 80, kernel=1), convolution(80, 80)
        self.up8, self.merge8 = convolution(80, 64, kernel=1), convolution(64, 64)
        self.up4, self.merge4 = convolution(64, 40, kernel=1), convolution(40, 40)
        self.up2, self.merge2 = convolution(40, 24, kernel=1), convolution(24, 24)
        self.up1, self.merge1 = convolution(24, 16, kernel=1), convolution(16, 16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.down1(x)
        x2 = self.down2(x1)
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x32 = self.down32(x16)
        x32 = x32 + self.whole(x32.mean((2, 3)))[:, :, None, None]
        x16 = self.merge16(x16 + _twice(self.up16(x32)))
        x8 = self.merge8(x8 + _twice(self.up8(x16)))
        x4 = self.merge4(x4 + _twice(self.up4(x8)))
        x2 = self.merge2(x2 + _twice(self.up2(x4)))
        x1 = self.merge1(x1 + _twice(self.up1(x2)))
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x1.float())


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Cutout:
    """A face without its background.

    Attributes:
        rgba: uint8 (H, W, 4). The colours of soft edges are those of the face alone: nothing of the old
            background shines through.
        alpha: float32 (H, W) in 0 to 1: how much of each pixel is the face.
        doubt: float32 (H, W) in 0 to 1: how unsure the network is.
        clean: False: it is unsure of so much that one should look at the edges.
    """

    rgba: np.ndarray
    alpha: np.ndarray
    doubt: np.ndarray
    clean: bool


def cut_out(face: np.ndarray) -> Cutout:
    """Cut a face out of its background. ``face``: uint8 (H, W, 3), sides of 16 to 4096 pixels.

    The face is a crop as face sets and models have it. Hair may reach the borders.

    Raises:
        UserError: another size, or the weights are missing or altered.
        ValueError: another array.

    >>> from omokage.data.drawn import draw_face
    >>> cut_out(draw_face(3, 64).image).rgba.shape
    (64, 64, 4)
    """
    if face.ndim != 3 or face.shape[2] != 3 or face.dtype != np.uint8:
        raise ValueError(f"expected uint8 (H, W, 3), got {face.dtype} {face.shape}")
    if min(face.shape[:2]) < SMALLEST or max(face.shape[:2]) > LARGEST:
        height, width = face.shape[:2]
        raise UserError(f"faces of {SMALLEST} to {LARGEST} px a side can be cut out, got {width}×{height}")
    alpha, doubt = _looked_at(face)
    alpha = _without_islands(alpha)
    colours = foreground(face, alpha)
    rgba = np.dstack([colours, (alpha * 255).round().astype(np.uint8)])
    return Cutout(rgba, alpha, doubt, bool((doubt > 0.5).mean() < UNCLEAN * max(alpha.mean(), 0.05)))


@torch.no_grad()
def _looked_at(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alpha and doubt, float32 (H, W) each, of the face and its mirror image together."""
    height, width = face.shape[:2]
    scale = WORKING / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    x = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None].float() / 127.5 - 1
    if size != (height, width):
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
    x = F.pad(x, (0, -size[1] % 32, 0, -size[0] % 32), mode="replicate")
    x = torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last)
    out = _network()(x)[..., : size[0], :].sigmoid()
    both = torch.stack([out[0, :, :, : size[1]], out[1].flip(2)[:, :, : size[1]]])
    alpha = both[:, 0].mean(0)
    # Where the face and its mirror image give another alpha, the network does not know either.
    doubt = torch.maximum(both[:, 1].mean(0), (both[0, 0] - both[1, 0]).abs())
    maps = torch.stack([alpha, doubt])[None]
    maps = F.interpolate(maps, size=(height, width), mode="bilinear", antialias=True).clamp(0, 1)
    found = maps[0, 0].numpy()
    if scale < 0.75:
        found = _guided(found, face)
    # Nearly nothing is nothing and nearly all is all, so that no veil stays.
    return ((found - 0.06) / 0.88).clip(0, 1).astype(np.float32), maps[0, 1].numpy()


def _guided(alpha: np.ndarray, face: np.ndarray) -> np.ndarray:
    """``alpha`` with the edges of the picture: the guided filter with colours as the guide.

    He, Sun and Tang 2013, equations 14 to 16. What it finds on a reduced picture is enlarged and applied to
    the whole one (He and Sun 2015, arXiv:1505.00996), so that large pictures take no more memory.
    """
    import cv2

    height, width = alpha.shape
    scale = min(1.0, 3 * WORKING / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    guide = cv2.resize(face, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    coarse = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    radius = max(1, round(1.5 * max(size) / WORKING))
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, window, borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(coarse)
    products = np.einsum("hwi,hwj->hwij", guide, guide).reshape(*guide.shape[:2], 9)
    spread = np.stack([mean(products[..., i]) for i in range(9)], 2).reshape(*guide.shape[:2], 3, 3)
    spread = spread - np.einsum("hwi,hwj->hwij", middle, middle) + 1e-3 * np.eye(3, dtype=np.float32)
    together = mean(guide * coarse[..., None]) - middle * level[..., None]
    slope = np.linalg.solve(spread, together[..., None])[..., 0].astype(np.float32)
    offset = level - (slope * middle).sum(2)
    along, above = (cv2.resize(mean(each), (width, height)) for each in (slope, offset))
    refined = (along * (face.astype(np.float32) / 255)).sum(2) + above
    # Only edges are refined: elsewhere the filter would let the drawing shine through.
    soft = np.clip(6 * alpha * (1 - alpha), 0, 1)
    return alpha * (1 - soft) + refined.clip(0, 1) * soft


def _without_islands(alpha: np.ndarray) -> np.ndarray:
    """``alpha`` without specks: areas apart from the largest one, and smaller than a fiftieth of it, go."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.1).astype(np.uint8), connectivity=8)
    if count <= 1:
        return alpha
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.concatenate([[False], areas >= areas.max() / 50])[labels].astype(np.uint8)
    kept = cv2.dilate(kept, np.ones((5, 5), np.uint8))  # with their soft edges
    return np.where(kept > 0, alpha, 0).astype(np.float32)


def foreground(face: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours of the face alone, uint8 (H, W, 3), also where the old background shines through.

    Means of near pixels of the face and of the background, weighted by alpha, say what both look like around
    a pixel; what is left over is corrected (Germer et al. 2021, "Fast Multi-Level Foreground Estimation",
    and Forte 2021, arXiv:2109.11818, equations 2 to 5). Without any of the face nearby, the colour is that of
    the nearest part of it, so that enlarging mixes nothing else in.

    >>> face = np.full((32, 32, 3), 255, np.uint8)
    >>> face[:, :16] = 0
    >>> face[:, 16] = 127  # half of this column is the face
    >>> alpha = np.zeros((32, 32), np.float32)
    >>> alpha[:, :16], alpha[:, 16] = 1, 0.5
    >>> int(foreground(face, alpha)[5, 16].max()) < 16
    True
    """
    import cv2

    picture, weight = face.astype(np.float32), alpha[..., None].astype(np.float32)
    own, behind = picture, picture
    side = max(face.shape[:2])
    for radius in (side // 3, side // 16, max(1, side // 64)):
        window = (2 * radius + 1, 2 * radius + 1)

        def mean(values: np.ndarray, window: tuple[int, int] = window) -> np.ndarray:
            found = cv2.boxFilter(values, -1, window, borderType=cv2.BORDER_REPLICATE)
            return found.reshape(*alpha.shape, -1)

        share, rest = mean(weight), mean(1 - weight)
        near, far = mean(own * weight), mean(behind * (1 - weight))
        own = np.where(share > 1e-3, near / np.maximum(share, 1e-3), own)
        behind = np.where(rest > 1e-3, far / np.maximum(rest, 1e-3), behind)
        left = picture - weight * own - (1 - weight) * behind
        own, behind = (own + weight * left).clip(0, 255), (behind + (1 - weight) * left).clip(0, 255)
    return np.where(weight > 0.999, picture, own).round().astype(np.uint8)


def available() -> bool:
    """Whether the weights are there."""
    return (resources.files("omokage") / "assets" / WEIGHTS).is_file()


@lru_cache(maxsize=1)
def _network() -> CutoutNetwork:
    return with_weights(shipped(WEIGHTS, WEIGHTS_SHA256, "the network that cuts faces out"))


def with_weights(data: bytes) -> CutoutNetwork:
    """The network with the weights of a safetensors file, in evaluation mode."""
    network = CutoutNetwork()
    weights = {name: value.float() for name, value in safetensors.torch.load(data).items()}
    network.load_state_dict(weights, strict=False)  # batch norm counts steps, which sampling does not need
    return network.eval().requires_grad_(False)
