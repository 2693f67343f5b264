"""Perceptual path length: how evenly faces change on the way from one latent to another.

Karras, Laine & Aila 2019 (arXiv 1812.04948), section 4.1. Two latents are drawn, and a point on the way
between them. The perceptual distance of the faces at t and at t + ε is divided by ε². The mean over many
pairs is low where a step changes a face a little, everywhere and in every direction, and high where something
appears or vanishes within a small step. In z the way is on the sphere, in w it is straight. A space of styles
is useful if its path length is below that of z: it is less entangled.

Protocol ``ppl1k-full-efficientnet-lite0``: 1,000 pairs; t anywhere on the way ("full" in the paper), ε =
1e-4; the feature maps of EfficientNet-Lite0 at 128 pixels (`metrics.perceptual`) where the paper has LPIPS,
so values cannot be compared with published ones; the whole face, no crop. As in the authors' program, the
lowest and the highest hundredth of the distances are left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..abilities import HasStyles
from ..explore.walks import slerp
from ..progress import Progress, opened
from ..sampling import BATCH, in_batches, latents
from ..settings import Settings
from .metric import LOWER, Column, Metric
from .perceptual import NAME, Perceptual

if TYPE_CHECKING:
    from .context import Context

EPSILON = 1e-4
PAIRS = 1_000
LEFT_OUT = 0.01  # share of the distances at each end that the mean leaves out
FIRST_SEED = 2**40  # of the pairs: far from the seeds that people use


@dataclass(frozen=True)
class PathLength:
    """The mean path length of one space.

    Attributes:
        each: (N,), the distance of each pair divided by ε²; not finite if an image was not.
    """

    each: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """The finite ones without the lowest and the highest hundredth."""
        finite = np.sort(self.each[np.isfinite(self.each)])
        cut = int(LEFT_OUT * len(finite))
        return finite[cut : len(finite) - cut]

    @property
    def mean(self) -> float:
        """The path length; NaN if no distance is finite."""
        return float(self.kept.mean()) if len(self.kept) else math.nan

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; NaN for fewer than two pairs."""
        return float(self.kept.std(ddof=1) / len(self.kept) ** 0.5) if len(self.kept) > 1 else math.nan


def protocol(pairs: int, psi: float = 1.0) -> str:
    """The name of the protocol.

    >>> protocol(1_000), protocol(50, 0.7)
    ('ppl1k-full-efficientnet-lite0', 'ppl50-full-efficientnet-lite0-psi0.7')
    """
    count = f"{pairs // 1000}k" if pairs % 1000 == 0 else str(pairs)
    return f"ppl{count}-full-{NAME}" + ("" if psi == 1 else f"-psi{psi:g}")


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at ``t`` on the straight way from ``a`` to ``b``."""
    return a + t * (b - a)


def path_length(
    draw: Callable[[Tensor], Tensor],
    starts: Tensor,
    ends: Tensor,
    way: Callable[[Tensor, Tensor, float], Tensor],
    perceptual: Perceptual,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    label: str = "path length",
) -> PathLength:
    """The path length of the ways from ``starts`` to ``ends``, both (N, ...).

    ``draw``: points (B, ...) to images (B, 3, H, W) in [-1, 1]. ``way``: `linear` or
    `omokage.explore.walks.slerp`. ``seed``: of the places t on the way.

    >>> maps = lambda images: [torch.cat([images.flatten(1), torch.ones(len(images), 1)], 1)[..., None, None]]
    >>> class Plain(Perceptual):
    ...     def maps(self, images): return maps(images)
    >>> points = torch.zeros(4, 1, 1, 1), torch.full((4, 1, 1, 1), 3.0)
    >>> found = path_length(lambda x: x, *points, linear, Plain(network=maps))
    >>> round(found.mean, 1)  # a way of length 3, so 9
    9.0
    """
    places = np.random.default_rng(seed).uniform(0, 1 - EPSILON, len(starts))
    found = []
    half = BATCH // 2
    with torch.no_grad(), opened(progress, label, len(starts)) as task:
        for first in range(0, len(starts), half):
            rows = slice(first, min(first + half, len(starts)))
            points = [
                way(a[None], b[None], t + step)
                for step in (0.0, EPSILON)
                for a, b, t in zip(starts[rows], ends[rows], places[rows].tolist(), strict=True)
            ]
            images = next(in_batches(draw, torch.cat(points)))
            maps = perceptual.maps(images)
            count = len(points) // 2
            far = perceptual.between([m[:count] for m in maps], [m[count:] for m in maps])
            found.append(far.double().cpu().numpy() / EPSILON**2)
            task.advance(count)
    return PathLength(np.concatenate(found))


def path_lengths(
    model: Any,
    perceptual: Perceptual,
    *,
    pairs: int = PAIRS,
    settings: Settings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, PathLength]:
    """The path length of a model in z, and in w if it has styles.

    ``model``: a `omokage.model.Model`. The pairs have seeds of their own, `FIRST_SEED` + 2 ``seed`` ``pairs``
    and following; both spaces use the same pairs and places.
    """
    settings = settings or Settings()
    first = FIRST_SEED + 2 * pairs * seed
    z = latents(range(first, first + 2 * pairs), model.latent_shape)
    starts, ends = z[:pairs], z[pairs:]
    found = {
        "z": path_length(
            lambda points: model.decode(points, settings),
            starts,
            ends,
            slerp,
            perceptual,
            seed=seed,
            progress=progress,
            label="path length in z",
        )
    }
    if model.can(HasStyles):

        def styles(z: Tensor) -> Tensor:
            return torch.cat(list(in_batches(lambda part: model.mapping(part, settings), z)))

        found["w"] = path_length(
            lambda points: model.synthesis(points, settings.noise),
            styles(starts),
            styles(ends),
            linear,
            perceptual,
            seed=seed,
            progress=progress,
            label="path length in w",
        )
    return found


def record(found: dict[str, PathLength], psi: float = 1.0) -> dict[str, Any]:
    """The table of a record: the protocol, and for each space the mean and its standard error."""
    table: dict[str, Any] = {"protocol": protocol(len(found["z"].each), psi)}
    for space, one in found.items():
        if math.isfinite(one.mean):
            table |= {space: one.mean, f"{space}_standard_error": one.standard_error}
        lost = int((~np.isfinite(one.each)).sum())
        table |= {f"{space}_not_finite": lost} if lost else {}
    if "w" in table and table.get("z"):
        table["w_over_z"] = table["w"] / table["z"]
    return table


def check(context: "Context") -> None:
    """Refuse before sampling if the feature network is missing."""
    context.once("perceptual", lambda: Perceptual(device=context.device))


def measure(context: "Context") -> dict[str, Any]:
    """The table ``path_length`` for a record."""
    perceptual = context.once("perceptual", lambda: Perceptual(device=context.device))
    psi = context.asked.psi
    found = path_lengths(
        context.samples.model, perceptual, settings=Settings(psi=psi), progress=context.progress
    )
    return {"path_length": record(found, psi)}


def _column(space: str) -> Column:
    ways = {"z": "the sphere in z", "w": "straight lines in w (styles); below that in z: less entangled"}
    return Column(
        f"path length in {space}",
        f"path_length.{space}",
        "{:.1f}",
        LOWER,
        f"how unevenly faces change along {ways[space]}",
        "Karras et al. 2019",
        error=f"path_length.{space}_standard_error",
    )


METRIC = Metric(
    "path_length",
    (_column("z"), _column("w")),
    measure,
    check,
    of_pixels=True,
    option="--path-length",
)
