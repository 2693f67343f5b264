"""Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017, section 2, equation 6)."""

import numpy as np
import scipy.linalg

from omokage.errors import UserError


class Moments:
    """Mean and covariance of features that arrive in blocks, in float64; memory does not grow with them.

    Sums are taken around the mean of the first block, so that nothing cancels.
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
        """Mean (D,) and covariance (D, D), which divides by N - 1.

        Raises:
            UserError: fewer than two vectors came in.
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


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R Rᵀ = covariance; rounding below zero is taken as zero."""
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    return vectors * np.sqrt(values.clip(min=0))


def fid(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """Squared Fréchet distance ‖μ₁-μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) of two Gaussians.

    The trace of the square root is the sum of the singular values of R₁ᵀR₂ with Σᵢ = RᵢRᵢᵀ: exact for
    singular covariances too (fewer samples than dimensions), no complex part and no added diagonal.

    >>> eye = np.eye(2)
    >>> round(fid(np.zeros(2), eye, np.array([3.0, 4.0]), 4 * eye), 9)  # 25 + 2 (2 - 1)²
    27.0
    """
    if not all(np.isfinite(x).all() for x in (mean1, covariance1, mean2, covariance2)):
        raise UserError("the feature statistics hold values that are not finite: leave such images out first")
    product = _root(covariance1).T @ _root(covariance2)
    root_trace = scipy.linalg.svdvals(product, check_finite=False, overwrite_a=True).sum()
    difference = np.asarray(mean1, np.float64) - np.asarray(mean2, np.float64)
    return float(difference @ difference + np.trace(covariance1) + np.trace(covariance2) - 2 * root_trace)
