"""Precision, recall, density and coverage: how good and how varied, told apart.

Improved precision and recall: Kynkäänniemi et al. 2019. Density and coverage: Naeem et al. 2020. All four
look at balls around feature vectors that reach to their k-th neighbour. Distances are computed block by
block, so that memory does not grow with the product of the counts.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from omokage.errors import UserError
from omokage.progress import Progress, Task, opened

K_PRECISION_RECALL = 3
K_DENSITY_COVERAGE = 5
BLOCK = 2048
MILLION = 1e6  # pairs, which progress is told in


class Manifold(NamedTuple):
    """What `precision_recall` found.

    Attributes:
        precision: share of generated images that lie within a ball of a real one.
        recall: share of real images that lie within a ball of a generated one.
        density: in how many real balls a generated image lies, on average, over k; may exceed 1.
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
        UserError: a side has no more vectors than neighbours are asked for.
    """
    most = max(k, k_density)
    if min(len(real), len(fake)) <= most:
        raise UserError(
            f"precision and recall need more than {most} images on each side, got {len(real)} and {len(fake)}"
        )
    # Distances do not change under a shift; around their mean the vectors are short and float32 loses less.
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
