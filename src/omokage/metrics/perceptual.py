"""How different two images look: distances in feature maps of a frozen network (EfficientNet-Lite0).

As LPIPS (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv
1801.03924), but with another network, and without weights learned from judgements of people: every entry of a
map counts the same. So its values cannot be compared with those of LPIPS. Colour changes these features
little, so a distance of pixels belongs beside it where colour matters.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.efficientnet_lite import WEIGHTS_SHA256, EfficientNetLite0
from .features import check_images

NAME = "efficientnet-lite0"
SIDE = 128  # images are resized to this, because the network finds few details in smaller ones
SEARCHED = 64  # to this for feature vectors, of which there are many
GRID = 2  # a feature vector holds the means of this many by this many parts of each map


class Perceptual:
    """Feature maps of images and distances between them; differentiable in the images.

    Args:
        network: images (B, 3, ``side``, ``side``) in [-1, 1] to maps (B, C, H, W), with frozen weights; None:
            EfficientNet-Lite0 with the weights that are installed with the package.
        side: height and width to which images are resized; None: images stay as they are.

    Raises:
        UserError: the weights of EfficientNet-Lite0 are missing.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Sequence[Tensor]] | None = None,
        side: int | None = SIDE,
        device: str | torch.device = "cpu",
    ) -> None:
        self.network = EfficientNetLite0.pretrained().to(device) if network is None else network
        self.side = side

    def maps(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3 or 1, H, W) in [-1, 1] to maps (B, C, H, W) whose vectors have length 1."""
        x = images.expand(-1, 3, -1, -1).float()
        if self.side is not None and x.shape[2:] != (self.side, self.side):
            smaller = min(x.shape[2:]) > self.side
            size = (self.side, self.side)
            x = F.interpolate(x, size=size, mode="bilinear", antialias=smaller)
        # A tiny constant under the root keeps the gradient of a zero vector finite.
        return [m / (m.square().sum(1, keepdim=True) + 1e-10).sqrt() for m in self.network(x)]

    @staticmethod
    def between(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Distances (B,) of maps from `maps`: squared differences, averaged over places, added over maps.

        Each map adds 0 for equal images, up to 2 if no feature is shared.

        >>> Perceptual.between([torch.tensor([[[[1.0]], [[0.0]]]])], [torch.tensor([[[[0.0]], [[1.0]]]])])
        tensor([2.])
        """
        parts = [(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
        return torch.stack(parts).sum(0)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of images (B, 3 or 1, H, W) in [-1, 1]."""
        return self.between(self.maps(a), self.maps(b))


class PerceptualExtractor:
    """The maps as feature vectors, to search neighbours with: means of `GRID` x `GRID` parts of each map.

    A projected discriminator uses the same network, so these features are not for FID: it would be too low.
    """

    name = NAME
    file_hash = WEIGHTS_SHA256
    resize_rule = f"bilinear-{SEARCHED}"
    precision = "fp32"
    dimensions = GRID**2 * sum(EfficientNetLite0.channels)

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.perceptual = Perceptual(side=SEARCHED, device=device)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) to float32 (B, ``dimensions``)."""
        check_images(images)
        if len(images) == 0:
            return np.empty((0, self.dimensions), np.float32)
        x = torch.tensor(images, device=self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        pooled = [F.adaptive_avg_pool2d(m, GRID).flatten(1) for m in self.perceptual.maps(x)]
        return torch.cat(pooled, 1).cpu().numpy()


@lru_cache(maxsize=2)
def perceptual_extractor(device: str = "cpu") -> PerceptualExtractor:
    """The extractor on a device; UserError if the weights of EfficientNet-Lite0 are missing."""
    return PerceptualExtractor(device)
