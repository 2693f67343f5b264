"""Projected discriminator (Sauer et al. 2021, "Projected GANs Converge Faster", arXiv 2111.01007)."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..bounds import Count
from ..errors import UserError
from .efficientnet_lite import EfficientNetLite0


class _Projection(nn.Module):
    """Section 3.2: fixed random mixing of feature maps across channels (1x1) and scales (3x3)."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(len(channels))]
        self.channels = [widths[max(i - 1, 0)] for i in range(len(channels))]
        self.across_channels = nn.ModuleList(
            nn.Conv2d(a, b, 1, bias=False) for a, b in zip(channels, widths, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(a, b, 3, 1, 1, bias=False) for a, b in zip(widths, self.channels, strict=True)
        )
        for convolution in (*self.across_channels, *self.across_scales):
            nn.init.kaiming_normal_(convolution.weight)
        self.requires_grad_(False)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps, fine to coarse, each half the size of the one before, to maps of the same sizes."""
        mixed: list[Tensor] = []
        for i in reversed(range(len(features))):
            x = self.across_channels[i](features[i])
            if mixed:
                x = x + F.interpolate(mixed[0], scale_factor=2.0, mode="bilinear", align_corners=False)
            mixed.insert(0, self.across_scales[i](x))
        return mixed


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int) -> list[nn.Module]:
    # Real and generated images are batch-normalised separately; without batch norm, the generator collapses
    # to one face.
    return [
        spectral_norm(nn.Conv2d(channels_in, channels_out, kernel, stride, 1, bias=False)),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2),
    ]


def _flatten(outputs: int) -> nn.Module:
    return nn.Flatten() if outputs == 1 else nn.Flatten(2)


class _Head(nn.Sequential):
    """The head of one scale: strided convolutions down to at most ``smallest`` px, then patch logits.

    The logits are (B, patches), or (B, outputs, patches) with several ``outputs``.
    """

    def __init__(
        self, channels: int, size: int, most: int = 256, smallest: int = 6, outputs: int = 1
    ) -> None:
        layers: list[nn.Module] = []
        while size > smallest:
            wider = min(most, 2 * channels)
            layers += _layer(channels, wider, 4, 2)
            channels, size = wider, size // 2
        layers += _layer(channels, channels, 3, 1)
        super().__init__(*layers, spectral_norm(nn.Conv2d(channels, outputs, 1)), _flatten(outputs))


def _sizes(points: Sequence[Sequence[float]]) -> list[tuple[float, int]]:
    pairs = [(point[0], int(point[1])) for point in points if len(point) == 2 and point[1] > 0]
    kimgs = [kimg for kimg, _ in pairs]
    fits = len(pairs) == len(points) > 0 and kimgs[0] == 0 and kimgs == sorted(set(kimgs))
    if not fits or any(size % 32 for _, size in pairs):
        raise UserError(
            f"discriminator.seen_at: got {[list(point) for point in points]}; write a multiple of 32, or "
            "points [kimg, size] of such sizes that begin at kimg 0 and rise, like [[0, 64], [60, 128]]"
        )
    return pairs


class ProjectedDiscriminator(nn.Module):
    """Heads on projections of ImageNet features, and a head on the pixels at half size.

    `features` is frozen, but differentiable with respect to its input. Calling the discriminator on its
    result returns patch logits: for each scale a tensor (B, patches), or (B, outputs, patches).

    ImageNet features respond little to colour; the head on ``pixels`` does.
    """

    def __init__(
        self,
        resolution: Count = 64,  # of the images; a multiple of 32
        # Images are resized to this before the feature network; a multiple of 32. Points [kimg, size] change
        # the size during training: a small size is fast, a large size shows fine dots and strokes.
        seen_at: int | Sequence[Sequence[float]] = 96,
        width: Count = 64,  # channels of the finest projection; they double with each coarser one
        pixels: bool = True,  # whether a head sees the image itself
        outputs: Count = 1,  # logits for each patch; conditions add one for each of their values
        details_at: Annotated[int, Ge(0)] = 0,  # size in px at which heads of their own see crops; 0: none do
    ) -> None:
        super().__init__()
        if details_at % 32:
            raise UserError(f"discriminator.details_at: got {details_at}, must be a multiple of 32; 0: none")
        self.resolution = (resolution, resolution)
        points = [(0, seen_at)] if isinstance(seen_at, int) else seen_at
        self.sizes = _sizes(points)
        self.seen_at = self.sizes[0][1]
        self.network = EfficientNetLite0.pretrained()
        self.projection = _Projection(self.network.channels, width)
        self.heads = nn.ModuleList(
            _Head(channels, self.seen_at // stride, outputs=outputs)
            for channels, stride in zip(self.projection.channels, self.network.strides, strict=True)
        )
        self.feature_channels = [*self.projection.channels, *([3] if pixels else [])]
        self.pixels = (
            nn.Sequential(
                spectral_norm(nn.Conv2d(3, 32, 3, 1, 1)),
                nn.LeakyReLU(0.2),
                _Head(32, resolution // 2, outputs=outputs),
            )
            if pixels
            else None
        )
        self.details_at = details_at
        strides = zip(self.projection.channels, self.network.strides, strict=True) if details_at else ()
        self.details = nn.ModuleList(_Head(channels, details_at // stride) for channels, stride in strides)

    def at_images(self, images: int) -> None:
        """Apply the settings for ``images`` images of training."""
        self.seen_at = [size for kimg, size in self.sizes if kimg * 1000 <= images][-1]

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] to the projections, fine to coarse, and the image at half its size."""
        size = (self.seen_at, self.seen_at)
        scaled = images if images.shape[2:] == size else F.interpolate(images, size=size, mode="bilinear")
        scaled = scaled.to(self._frozen_precision(images)).contiguous(memory_format=torch.channels_last)
        seen = self.projection(self.network(scaled))
        return seen if self.pixels is None else [*seen, F.avg_pool2d(images, 2)]

    def detail_features(self, images: Tensor, places: Tensor) -> list[Tensor]:
        """Crops of half the height and width of ``images`` (B, 3, H, W) to the projections, fine to coarse.

        ``places`` (B, 2) are the crops' centres x and y, from 0 (left, top) to 1.
        """
        matrix = torch.zeros(len(images), 2, 3, device=images.device)
        matrix[:, 0, 0] = matrix[:, 1, 1] = 0.5
        matrix[:, :, 2] = 2 * places - 1
        grid = F.affine_grid(matrix, [len(images), 3, self.details_at, self.details_at], align_corners=False)
        crops = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        crops = crops.to(self._frozen_precision(images)).contiguous(memory_format=torch.channels_last)
        return self.projection(self.network(crops))

    def judge_details(self, features: list[Tensor]) -> list[Tensor]:
        """The result of `detail_features` to logits (B, patches), one tensor for each scale."""
        return [head(x) for head, x in zip(self.details, features, strict=True)]

    def _frozen_precision(self, images: Tensor) -> torch.dtype:
        """Autocast's dtype. The frozen part is kept in it, so that its weights are not cast at every call."""
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        if self.network.stem.weight.dtype != dtype:
            self.network.to(dtype)
            self.projection.to(dtype)
        return dtype

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The result of `features` to logits."""
        heads = [*self.heads] if self.pixels is None else [*self.heads, self.pixels]
        return [head(x) for head, x in zip(heads, features, strict=True)]
