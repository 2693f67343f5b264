"""Precision, recall, density and coverage: figures that separate quality from variety.

Improved precision and recall: Kynkäänniemi et al. 2019. Density and coverage: Naeem et al. 2020. All four
use balls around feature vectors; the radius of a ball is the distance to the k-th nearest neighbour.
Distances are computed block by block, so memory does not grow with the product of the counts.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..progress import Progress, Task, opened
from .metric import HIGHER, Column, Metric

if TYPE_CHECKING:
    from .context import Context

K_PRECISION_RECALL = 3
K_DENSITY_COVERAGE = 5
BLOCK = 2048
MILLION = 1e6  # progress is counted in millions of pairs
# With fewer points, a ball that reaches the fifth neighbour would hold more than a quarter of them.
MIN_POINTS = 4 * K_DENSITY_COVERAGE
SUBSET = 500
SAME = 1e-4  # of the length of feature vectors; below this distance they differ only by rounding
COPIES = 1e-3  # of the distance between faces; below this, samples are copies of one another
ALIKE = 0.15  # of the distance between faces; below this, samples have lost nearly all variety
_NAMES = "precision, recall, density and coverage"
_TOO_FEW = f"{_NAMES} are left out: they need at least {MIN_POINTS} different faces and {MIN_POINTS} samples"


class Manifold(NamedTuple):
    """What `precision_recall` found.

    Attributes:
        precision: share of generated images that lie within a ball of a real one.
        recall: share of real images that lie within a ball of a generated one.
        density: the average number of real balls that a generated image lies in, divided by k; may exceed 1.
        coverage: share of real balls that hold a generated image.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def _squared_distances(x: Tensor, y: Tensor, x_norms: Tensor, y_norms: Tensor) -> Tensor:
    return torch.addmm(x_norms[:, None] + y_norms[None, :], x, y.T, alpha=-2).clamp_(min=0)


def _squared_radii(x: Tensor, norms: Tensor, ks: tuple[int, ...], task: Task) -> Tensor:
    """Squared distance of each row to its k-th nearest other row, shape (len(ks), N)."""
    most = max(ks)
    radii = torch.empty(len(ks), len(x), device=x.device)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        nearest: Tensor | None = None
        for other in range(0, len(x), BLOCK):
            columns = slice(other, other + BLOCK)
            found = _squared_distances(x[rows], x[columns], norms[rows], norms[columns])
            if start == other:
                found.fill_diagonal_(torch.inf)
            found = found.topk(min(most, found.shape[1]), largest=False).values
            joined = found if nearest is None else torch.cat([nearest, found], 1)
            nearest = joined.topk(min(most, joined.shape[1]), largest=False).values
            task.advance(found.shape[0] * len(x[columns]) / MILLION)
        assert nearest is not None
        nearest = nearest.sort(1).values
        for i, k in enumerate(ks):
            radii[i, rows] = nearest[:, k - 1]
    return radii


def precision_recall(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    k: int = K_PRECISION_RECALL,
    k_density: int = K_DENSITY_COVERAGE,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Manifold:
    """Precision and recall with ``k`` neighbours, density and coverage with ``k_density``.

    Args:
        real, fake: features (M, D) and (N, D).

    Raises:
        UserError: a side has too few vectors: it needs more than the number of neighbours.
    """
    most = max(k, k_density)
    if min(len(real), len(fake)) <= most:
        raise UserError(
            f"precision and recall need more than {most} images on each side, got {len(real)} and {len(fake)}"
        )
    # A shift does not change distances. Centred vectors are shorter, so float32 loses less precision.
    centre = real.mean(0, dtype=np.float64).astype(np.float32)
    x, y = (torch.from_numpy(np.asarray(side, np.float32) - centre).to(device) for side in (real, fake))
    x_norms, y_norms = (side.square().sum(1) for side in (x, y))
    pairs = len(x) ** 2 + len(y) ** 2 + len(x) * len(y)
    with opened(progress, "precision, recall, density, coverage", pairs / MILLION) as task:
        x_radii, x_radii_density = _squared_radii(x, x_norms, (k, k_density), task)
        (y_radii,) = _squared_radii(y, y_norms, (k,), task)
        precise = torch.zeros(len(y), dtype=torch.bool, device=device)
        recalled, covered = (torch.zeros(len(x), dtype=torch.bool, device=device) for _ in range(2))
        inside = 0
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            for other in range(0, len(y), BLOCK):
                columns = slice(other, other + BLOCK)
                found = _squared_distances(x[rows], y[columns], x_norms[rows], y_norms[columns])
                precise[columns] |= (found <= x_radii[rows, None]).any(0)
                recalled[rows] |= (found <= y_radii[None, columns]).any(1)
                within = found < x_radii_density[rows, None]
                covered[rows] |= within.any(1)
                inside += int(within.sum())
                task.advance(found.numel() / MILLION)
    return Manifold(
        precision=float(precise.double().mean()),
        recall=float(recalled.double().mean()),
        density=inside / (k_density * len(y)),
        coverage=float(covered.double().mean()),
    )


def neighbour_distance(features: np.ndarray, k: int = K_PRECISION_RECALL) -> float:
    """The median distance of features (N, D) to their k-th nearest neighbour, over at most `SUBSET` of them.

    It is near 0 if more than half of the pictures are copies of others, or if all look the same.

    >>> neighbour_distance(np.zeros((50, 3)))
    0.0
    """
    chosen = np.random.default_rng(0).permutation(len(features))[:SUBSET]
    x = features[np.sort(chosen)].astype(np.float64)
    points = torch.from_numpy(x - x.mean(0))
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return float(distances.fill_diagonal_(torch.inf).kthvalue(k, 1).values.median())


def _between_faces(context: "Context") -> float:
    """The median distance between different faces; copies of a file count once."""

    def measured() -> float:
        features = context.real.features
        singly = len(features) == len(context.faces)
        return neighbour_distance(features[context.different] if singly else features)

    return context.once(f"distance between faces in {context.extractor.name}", measured)


def check(context: "Context") -> None:
    """Refuse faces or samples that the figures make no sense for; warn if the figures will be left out.

    Raises:
        UserError: there are too few different faces or samples for the number of neighbours, or most faces
            look the same to the feature network.
    """
    most = max(K_PRECISION_RECALL, K_DENSITY_COVERAGE)
    for count, what in ((len(context.different), "different faces"), (context.asked.samples, "samples")):
        if count <= most:
            raise UserError(
                f"{count:,} {what} are too few to measure anything: give {MIN_POINTS} or more, "
                "some thousands for figures that can be trusted"
            )
    if min(len(context.different), context.asked.samples) < MIN_POINTS:
        context.warn(_TOO_FEW)
    if _between_faces(context) <= SAME * float(np.linalg.norm(context.real.features, axis=1).mean()):
        raise UserError(
            f"{context.faces.path}: most of its faces look the same to {context.extractor.name}, so there is "
            "nothing to compare with: give a set of different faces"
        )


def measure(context: "Context") -> dict[str, Any]:
    """``precision``, ``recall``, ``density``, ``coverage`` and their ``k``, for a record.

    There are none if they would mean nothing: with too few points, or if most samples are copies of one
    another. (A single picture, repeated, has a precision of 1 and a high density if it lies among the faces.)
    """
    real, fake = context.real.features, context.fake.features
    found: dict[str, float | None] = dict.fromkeys(Manifold._fields)
    if min(len(context.different), len(fake)) < MIN_POINTS:
        context.warn(_TOO_FEW)
    elif (spread := neighbour_distance(fake) / _between_faces(context)) <= COPIES:
        context.warn(f"{_NAMES} are left out: to {context.extractor.name} most samples are copies of others")
    else:
        if spread < ALIKE:
            context.warn(
                f"to {context.extractor.name} samples differ from one another {spread:.2g} times as much as "
                "faces do: precision and density flatter a model without variety"
            )
        found = precision_recall(real, fake, device=context.device, progress=context.progress)._asdict()
    return {**found, "k": {"precision_recall": K_PRECISION_RECALL, "density_coverage": K_DENSITY_COVERAGE}}


METRIC = Metric(
    "precision_recall",
    (
        Column(
            "precision",
            "precision",
            "{:.3f}",
            HIGHER,
            "share of samples that lie among the faces (k = 3)",
            "Kynkäänniemi et al. 2019",
        ),
        Column(
            "recall",
            "recall",
            "{:.3f}",
            HIGHER,
            "share of faces that lie among the samples: variety (k = 3)",
            "Kynkäänniemi et al. 2019",
        ),
        Column(
            "density",
            "density",
            "{:.3f}",
            HIGHER,
            "density of faces around the samples; may exceed 1 (k = 5)",
            "Naeem et al. 2020",
        ),
        Column(
            "coverage",
            "coverage",
            "{:.3f}",
            HIGHER,
            "share of faces that have a sample nearby (k = 5)",
            "Naeem et al. 2020",
        ),
    ),
    measure,
    check,
)
