"""Moments of features: generated images are to have the mean and the covariance of real ones."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


def _in_full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Differences of moments drown in the rounding of autocast's products."""

    @wraps(method)
    def plain(self: nn.Module, *features: Tensor, **settings: Any) -> Any:
        with torch.autocast(features[0].device.type, enabled=False):
            return method(self, *features, **settings)

    return plain


class FrechetMatching(nn.Module):
    """The Fréchet distance between Gaussians of two streams of features, as a loss for one of them.

    A discriminator judges images one by one; this sees whether some kinds are too many or missing. Of
    N(m, C) and N(n, D) it is |m - n|² + tr(C + D - 2 (CD)^½) (Dowson and Landau 1982), and it is what the
    map that carries one Gaussian to the other with least effort costs: T(x) = n + A (x - m) with
    A = C^-½ (C^½ D C^½)^½ C^-½. So ``loss`` draws each generated feature to where T sends it, which has the
    distance's own gradient (Mathiasen and Hvilshøj 2020, arXiv 2009.14075, take it through the matrix root).
    A batch is far too small for a covariance: both are running averages, as the moments of dos Santos et al.
    2019 (arXiv 1904.02762, section 3.2).

    Each feature is divided by the standard deviation that it has over real images, and the loss is a mean
    over features: 1 is as far as real images differ.
    """

    real_mean: Tensor
    real_square: Tensor
    real_weight: Tensor
    mean: Tensor
    square: Tensor
    weight: Tensor
    scale: Tensor
    carry: Tensor
    source: Tensor
    distance: Tensor
    steps: Tensor
    images: Tensor
    kind: Tensor
    target: Tensor

    def __init__(
        self,
        dimensions: int,
        half_life: float = 4.0,  # of the averages over generated images, in thousands of images
        half_life_real: float = 50.0,  # ... over real ones
        every: int = 16,  # steps from one map to the next
        first: float = 4.0,  # thousands of images before the first map
        ridge: float = 1e-2,  # added to variances: where features hardly vary the map would stretch endlessly
    ) -> None:
        super().__init__()
        self.half_lives, self.every = (half_life_real, half_life), every
        self.first, self.ridge = first, ridge
        for prefix in ("real_", ""):
            self.register_buffer(f"{prefix}mean", torch.zeros(dimensions))
            self.register_buffer(f"{prefix}square", torch.zeros(dimensions, dimensions))
            self.register_buffer(f"{prefix}weight", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(dimensions))  # 0: no map yet
        self.register_buffer("distance", torch.zeros(()))
        self.register_buffer("carry", torch.zeros(dimensions, dimensions))
        self.register_buffer("source", torch.zeros(dimensions))
        self.register_buffer("target", torch.zeros(dimensions))
        for name in ("steps", "images", "kind"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    @_in_full_precision
    def observe(self, real: Tensor, generated: Tensor, kind: int = 0) -> None:
        """Take a batch of both, each (B, dimensions), into the averages; another ``kind`` begins anew."""
        if int(self.kind) != kind:
            for buffer in self.buffers():
                buffer.zero_()
            self.kind.fill_(kind)
        for prefix, x, half_life in zip(("real_", ""), (real, generated), self.half_lives, strict=True):
            keep = 0.5 ** (len(x) / (1000 * half_life))
            x = x.float()
            getattr(self, f"{prefix}mean").lerp_(x.mean(0), 1 - keep)
            getattr(self, f"{prefix}square").lerp_(x.T @ x / len(x), 1 - keep)
            getattr(self, f"{prefix}weight").lerp_(torch.ones_like(self.weight), 1 - keep)
        self.steps += 1
        self.images += len(generated)
        if int(self.steps) % self.every == 0 and int(self.images) >= 1000 * self.first:
            self._map()

    def _map(self) -> None:
        """The map of now (equations above), in double precision."""
        mean, covariance = _moments(self.mean, self.square, self.weight)
        target, wanted = _moments(self.real_mean, self.real_square, self.real_weight)
        scale = 1 / wanted.diagonal().clamp_min(1e-12).sqrt()
        ridge = self.ridge * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        covariance = covariance * scale.outer(scale) + ridge
        wanted = wanted * scale.outer(scale) + ridge
        root, inverse = _roots(covariance)
        middle, _ = _roots(root @ wanted @ root)
        self.carry.copy_(inverse @ middle @ inverse)
        self.source.copy_(mean)
        self.target.copy_(target)
        self.scale.copy_(scale)
        self.distance.copy_(
            ((mean - target) * scale).square().mean() + (covariance + wanted - 2 * middle).diagonal().mean()
        )

    @_in_full_precision
    def loss(self, generated: Tensor) -> Tensor:
        """How far the map would carry features (B, dimensions), squared, a mean; 0 before the first map."""
        x = (generated.float() - self.source) * self.scale
        with torch.no_grad():
            aim = (self.target - self.source) * self.scale + x @ self.carry
        return (x - aim).square().mean()


def _moments(mean: Tensor, square: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    mean, square = mean.double() / weight, square.double() / weight
    return mean, square - mean.outer(mean)


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The root of a symmetric positive matrix, and its inverse."""
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp_min(1e-12 * values[-1]).sqrt()
    return vectors * values @ vectors.T, vectors / values @ vectors.T
