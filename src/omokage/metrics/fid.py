"""Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017, section 2, equation 6)."""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from ..errors import UserError
from .metric import LOWER, Column, Metric

# Samples are divided by these for the sizes of the subsets of FID∞; so 1/N rises in even steps.
PARTS = (1, 1.5, 2, 2.5, 3)
LARGEST_PART = 3

if TYPE_CHECKING:
    from .context import Context


class Moments:
    """Mean and covariance of features that arrive in blocks, in float64; memory use is constant.

    Sums are taken around the mean of the first block, which avoids cancellation.
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self._centre = np.zeros(dimensions)
        self._sum = np.zeros(dimensions)
        self._products = np.zeros((dimensions, dimensions))

    def add(self, features: np.ndarray) -> None:
        """Take in features (N, D)."""
        if len(features) == 0:
            return
        if self.count == 0:
            self._centre = features.mean(0, dtype=np.float64)
        centred = features.astype(np.float64) - self._centre
        self.count += len(centred)
        self._sum += centred.sum(0)
        self._products += centred.T @ centred

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D); the covariance divides by N - 1.

        Raises:
            UserError: fewer than two vectors were added.
        """
        if self.count < 2:
            raise UserError(f"mean and covariance need at least two feature vectors, got {self.count}")
        offset = self._sum / self.count
        covariance = (self._products - np.outer(offset, self._sum)) / (self.count - 1)
        return self._centre + offset, covariance


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D) of features (N, D), float64; the covariance divides by N - 1.

    >>> mean, covariance = statistics(np.array([[0.0, 1.0], [2.0, 1.0]]))
    >>> mean.tolist(), covariance.tolist()
    ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])
    """
    moments = Moments(features.shape[1])
    for start in range(0, len(features), 4096):
        moments.add(features[start : start + 4096])
    return moments.result()


def _factor(covariance: np.ndarray) -> np.ndarray:
    """A matrix L (D, rank) with L Lᵀ = covariance, by Cholesky decomposition with pivoting.

    It stops when the largest remaining variance is below D times the rounding error; the rest counts as zero.
    """
    packed, pivots, rank, _ = lapack.dpstrf(np.asarray(covariance, np.float64).T, lower=1)
    factor = np.empty((len(packed), rank))
    factor[pivots - 1] = np.tril(packed)[:, :rank]
    return factor


def trace_of_root(covariance1: np.ndarray, covariance2: np.ndarray) -> float:
    """tr((Σ₁Σ₂)^½) of two covariances (D, D).

    With Σᵢ = LᵢLᵢᵀ this is the sum of the singular values of K = L₂ᵀL₁. They are the square roots of the
    eigenvalues of KᵀK, so the eigenvalues of one symmetric matrix are enough; eigenvectors or a singular
    value decomposition would take many times as long. Forming KᵀK loses no accuracy that matters: pivoting
    sorts the columns of L₁ by size, and the small eigenvalues of such a graded matrix stay accurate. A
    covariance may be singular (fewer samples than dimensions, or features that never change). L then has as
    many columns as the rank, so no spurious zeros appear.

    >>> round(trace_of_root(np.diag([4.0, 9.0, 0.0]), np.diag([1.0, 1.0, 1.0])), 12)
    5.0
    """
    less, more = sorted((_factor(covariance1), _factor(covariance2)), key=lambda factor: factor.shape[1])
    if less.shape[1] == 0:
        return 0.0
    product = more.T @ less
    squares = scipy.linalg.eigh(
        product.T @ product, eigvals_only=True, overwrite_a=True, check_finite=False, driver="ev"
    )
    return float(np.sqrt(squares.clip(min=0)).sum())


def fid(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """Squared Fréchet distance ‖μ₁-μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) of two Gaussians.

    It is exact for singular covariances too: it needs no complex numbers and adds nothing to the diagonal. A
    result that rounding makes negative is returned as zero.

    Raises:
        UserError: a value is not finite.

    >>> eye = np.eye(2)
    >>> round(fid(np.zeros(2), eye, np.array([3.0, 4.0]), 4 * eye), 9)  # 25 + 2 (2 - 1)²
    27.0
    """
    if not all(np.isfinite(x).all() for x in (mean1, covariance1, mean2, covariance2)):
        raise UserError("the feature statistics hold values that are not finite: leave such images out first")
    difference = np.asarray(mean1, np.float64) - np.asarray(mean2, np.float64)
    spread = np.trace(covariance1) + np.trace(covariance2) - 2 * trace_of_root(covariance1, covariance2)
    return max(0.0, float(difference @ difference + spread))


def fid_infinity(
    features: np.ndarray, mean: np.ndarray, covariance: np.ndarray, whole: float | None = None, seed: int = 0
) -> float | None:
    """FID of infinitely many samples, extrapolated (Chong & Forsyth 2020, "Effectively unbiased FID").

    FID is too high with few samples, by an amount that is nearly proportional to 1/N. So it is computed for
    random subsets of the sizes N/1, N/1.5, N/2, N/2.5 and N/3, and a straight line in 1/N is continued to 0.

    Args:
        features: of the samples, (N, D).
        mean, covariance: of the faces, (D,) and (D, D); their number is taken as it is.
        whole: FID of all samples, if it is known already.
        seed: of the subsets.

    Returns:
        The estimate; None if there are fewer than ``3 * D`` samples: with fewer samples than dimensions, FID
        does not follow that line.

    >>> x = np.random.default_rng(0).normal(size=(3000, 8))
    >>> abs(fid_infinity(x, np.zeros(8), np.eye(8))) < fid(*statistics(x), np.zeros(8), np.eye(8))
    True
    """
    count, dimensions = features.shape
    if count < LARGEST_PART * dimensions:
        return None
    rng, inverse, found = np.random.default_rng(seed), [], []
    for part in PARTS:
        size = round(count / part)
        chosen = np.sort(rng.choice(count, size, replace=False))
        known = whole if part == 1 else None
        found.append(fid(*statistics(features[chosen]), mean, covariance) if known is None else known)
        inverse.append(1 / size)
    return float(np.polynomial.polynomial.polyfit(inverse, found, 1)[0])


def measure(context: "Context") -> dict[str, Any]:
    """``fid`` and ``fid_infinity`` of a record."""
    whole = fid(*context.fake.moments, *context.real.moments)
    endless = fid_infinity(context.fake.features, *context.real.moments, whole, context.seed)
    return {"fid": whole} | ({} if endless is None else {"fid_infinity": endless})


METRIC = Metric(
    "fid",
    (
        Column(
            "FID",
            "fid",
            "{:.2f}",
            LOWER,
            "distance between two Gaussians fitted to the features: quality and variety in one number",
            "Heusel et al. 2017",
            error="fid_half_width",
        ),
        Column(
            "FID∞",
            "fid_infinity",
            "{:.2f}",
            LOWER,
            "FID extrapolated to infinitely many samples, so without the bias that their number brings",
            "Chong & Forsyth 2020",
            error="fid_infinity_half_width",
        ),
    ),
    measure,
)
