"""Kernel Inception Distance: squared maximum mean discrepancy, cubic kernel (Bińkowski et al. 2018)."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .metric import LOWER, Column, Metric

if TYPE_CHECKING:
    from .context import Context

SUBSETS = 100
SUBSET_SIZE = 1000


class Kid(NamedTuple):
    """``value`` is the mean over subsets. The estimate is unbiased, so it can be negative. See `kid`."""

    value: float
    standard_error: float
    subsets: int
    subset_size: int

    @property
    def protocol(self) -> str:
        """How it was measured; papers have 100 subsets of 1,000.

        >>> Kid(0.01, 0.001, 100, 1000).protocol
        'kid-100x1000'
        """
        return f"kid-{self.subsets}x{self.subset_size}"


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x·y / D + 1)³ for all pairs of rows (Bińkowski et al. 2018, section 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD of features (M, D) and (N, D) (Gretton et al. 2012, equation 3).

    Pairs of a vector with itself are left out.
    """
    m, n = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within_x = (xx.double().sum() - xx.double().trace()) / (m * (m - 1))
    within_y = (yy.double().sum() - yy.double().trace()) / (n * (n - 1))
    return float(within_x + within_y - 2 * xy.double().mean())


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> Kid:
    """KID of features (M, D) and (N, D), with its standard error.

    It is the mean of the unbiased estimate over random subsets of ``subset_size`` vectors of each side. If a
    side has fewer than twice as many, subsets have a quarter of it. The subsets overlap. The standard error
    is therefore the standard deviation over subsets, divided by the square root of the number of disjoint
    subsets in the smaller side (not of the number drawn). If both sides come from one distribution, the true
    error is even smaller.

    Raises:
        UserError: a side has fewer than two vectors.
    """
    smaller = min(len(real), len(fake))
    if smaller < 2:
        raise UserError(f"KID needs at least two images on each side, got {len(real)} and {len(fake)}")
    # Subsets as large as a side would all be equal, and their spread zero.
    size = subset_size if smaller >= 2 * subset_size else max(2, smaller // 4)
    generator = np.random.default_rng(seed)
    values = np.empty(subsets)
    for i in range(subsets):
        x, y = (
            torch.from_numpy(side[np.sort(generator.choice(len(side), size, replace=False))]).float()
            for side in (real, fake)
        )
        values[i] = squared_mmd(x, y)
    independent = min(subsets, smaller // size)
    return Kid(float(values.mean()), float(values.std(ddof=1) / math.sqrt(independent)), subsets, size)


def measure(context: "Context") -> dict[str, Any]:
    """``kid``, its standard error, its subsets and the name that has their size, for a record."""
    found = kid(context.real.features, context.fake.features)
    return {
        "kid": found.value,
        "kid_standard_error": found.standard_error,
        "kid_subsets": [found.subsets, found.subset_size],
        "kid_protocol": found.protocol,
    }


METRIC = Metric(
    "kid",
    (
        Column(
            "KID × 10³",
            "kid",
            "{:.2f}",
            LOWER,
            "squared maximum mean discrepancy, cubic kernel; unbiased, with its standard error",
            "Bińkowski et al. 2018",
            scale=1e3,
            error="kid_standard_error",
            name="KID",
        ),
    ),
    measure,
)
