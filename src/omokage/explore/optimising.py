"""Gradient descent from a picture to a point of latent space.

The point is searched in coordinates in which the model's own points are standard normal: z itself, or w after
its mean and covariance are taken out. The mean square of these coordinates is then the squared Mahalanobis
distance from the average style, divided by the number of coordinates: about 1 for styles that the model
draws. It is the penalty that keeps a point among them, where faces can be edited.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omokage.metrics.perceptual import Perceptual
from omokage.model import Model
from omokage.settings import Settings

STYLES = 10_000  # latents whose styles give the mean and the covariance of w
LEAST_VARIANCE = 1e-5  # of the largest; in directions of less variance, styles do not differ
# Brightness, and the two axes of colour, from red, green and blue (ITU-R BT.601).
OPPONENT = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))
WARM_UP = 0.1  # share of the steps in which the rate rises


@dataclass(frozen=True)
class Normal:
    """A normal distribution: points are ``centre`` + ``axes`` u, and u is standard normal.

    Attributes:
        centre: (D,).
        axes: (D, R), R at most D; the columns are orthogonal, the first is the longest.
    """

    centre: Tensor
    axes: Tensor

    def point(self, u: Tensor) -> Tensor:
        """Coordinates (..., R) to points (..., D)."""
        return self.centre + u @ self.axes.T

    def coordinates(self, points: Tensor) -> Tensor:
        """Points (..., D) to coordinates (..., R); what no coordinate describes is left out.

        >>> normal = fitted(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1)
        >>> u = torch.tensor([[0.5, -1.0, 2.0]])
        >>> torch.allclose(normal.coordinates(normal.point(u)), u, atol=1e-5)
        True
        """
        lengths = self.axes.square().sum(0)
        return (points - self.centre) @ (self.axes / lengths)


def fitted(points: Tensor) -> Normal:
    """The normal distribution with the mean and covariance of ``points`` (N, D)."""
    x = points.double()
    centre = x.mean(0)
    variances, directions = torch.linalg.eigh((x - centre).T @ (x - centre) / max(1, len(x) - 1))
    kept = variances > LEAST_VARIANCE * variances[-1].clamp_min(1e-12)
    axes = directions[:, kept] * variances[kept].sqrt()
    return Normal(centre.to(points.dtype), axes.flip(1).to(points.dtype))


def styles_of(model: Model, settings: Settings, count: int = STYLES) -> Normal:
    """The distribution of the first layer's style over ``count`` latents, drawn with a fixed seed.

    Raises:
        UserError: the family has no styles.
    """
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, *model.latent_shape, generator=generator)
    return fitted(torch.cat([model.mapping(part, settings)[:, 0] for part in z.split(1000)]))


@dataclass(frozen=True)
class Aim:
    """What a face is compared by: the loss of an image.

    Attributes:
        perceptual: the feature maps.
        pixels: weight of the mean squared difference of pixels: of brightness, and of the two axes of colour.
        colour: how much more the axes of colour weigh than brightness.
        eyes: how much more the pixels around the eyes weigh than others (`eyes_of`). Eyes are few pixels, and
            without this a search spends nothing on their colour.
        prior: weight of the mean square of the coordinates, see the module.
        apart: in w+, weight of the mean square of the layers' coordinates around their mean over the layers.
    """

    perceptual: Perceptual
    pixels: float = 10.0
    colour: float = 3.0
    eyes: float = 30.0
    prior: float = 0.003
    apart: float = 0.003

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (B, 3, H, W)."""
        return self.perceptual.maps(images)

    def likeness(
        self, images: Tensor, targets: Tensor, maps: list[Tensor], eyes: Tensor | None = None
    ) -> Tensor:
        """(B,), how far images are from ``targets``, whose feature maps are ``maps``.

        ``eyes``: (B, H, W), how much each pixel belongs to the eyes, 0 to 1; None: nothing is known of them.
        """
        difference = self.differences(images, targets)
        if eyes is not None:
            difference = difference * (1 + self.eyes * eyes)
        return self.perceptual.between(self.maps(images), maps) + self.pixels * difference.flatten(1).mean(1)

    def differences(self, images: Tensor, targets: Tensor) -> Tensor:
        """(B, H, W), the squared difference at each pixel; of grey images, (B, 1, H, W), that of the values.

        Axes of colour are compared as means of 2x2 pixels. Finer colour is hardly seen, and a generator that
        draws colour at half the size cannot make it.
        """
        change = images - targets
        if change.shape[1] != 3:
            return change.square().mean(1)
        parts = torch.einsum("kc,bchw->bkhw", change.new_tensor(OPPONENT), change)
        colour = F.avg_pool2d(parts[:, 1:], 2, ceil_mode=True, count_include_pad=False).square().sum(1)
        height, width = change.shape[2:]
        fine = colour.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
        return parts[:, 0].square() + self.colour * fine

    def penalty(self, u: Tensor) -> Tensor:
        """(B,) for coordinates (B, R), or in w+ (B, layers, R)."""
        found = self.prior * u.square().flatten(1).mean(1)
        if u.dim() > 2:
            found = found + self.apart * (u - u.mean(1, keepdim=True)).square().flatten(1).mean(1)
        return found


def rate_at(step: int, steps: int, rate: float) -> float:
    """The rate of a step: it rises over the first tenth, then falls to 0 along a cosine.

    >>> [round(rate_at(step, 100, 1.0), 2) for step in (0, 9, 50, 99)]
    [0.1, 0.98, 0.5, 0.0]
    """
    rising = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rate * rising * 0.5 * (1 + math.cos(math.pi * step / steps))


def descended(
    render: Callable[[Tensor], Tensor],
    targets: Tensor,
    u: Tensor,
    aim: Aim,
    *,
    steps: int,
    rate: float,
    eyes: Tensor | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Coordinates whose images are like ``targets``, by Adam (Kingma & Ba 2015) from ``u``.

    Every picture has a loss of its own, so pictures do not influence each other.

    Args:
        render: coordinates (B, ...) to images (B, 3, H, W) in [-1, 1], with gradients.
        targets: (B, 3, H, W).
        u: coordinates to start from, (B, R) or (B, layers, R).
        eyes: (B, H, W), see `Aim.likeness`.
        watch: called after each step with the images before it, (B, 3, H, W).

    Returns:
        The coordinates with the lowest loss on the way, like ``u``; and their loss, (B,).
    """
    u = u.detach().clone().requires_grad_()
    with torch.no_grad():
        maps = aim.maps(targets)
    adam = torch.optim.Adam([u], lr=rate, betas=(0.9, 0.99))
    best = u.detach().clone()
    lowest = torch.full((len(u),), torch.inf, device=u.device)
    with torch.enable_grad():
        for step in range(steps + 1):
            images = render(u)
            losses = aim.likeness(images, targets, maps, eyes) + aim.penalty(u)
            with torch.no_grad():
                better = losses < lowest  # False for NaN
                lowest = torch.where(better, losses, lowest)
                best[better] = u.detach()[better]
            if watch is not None:
                watch(images.detach())
            if step == steps:
                break
            for group in adam.param_groups:
                group["lr"] = rate_at(step, steps, rate)
            adam.zero_grad()
            losses.sum().backward()
            # A point whose image overflowed stays where it is, and does not stop the others.
            assert u.grad is not None
            u.grad.nan_to_num_(0.0, 0.0, 0.0)
            adam.step()
    return best, lowest
