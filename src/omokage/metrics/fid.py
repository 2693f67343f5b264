"""Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017, section 2, equation 6)."""

import numpy as np
import scipy.linalg

from omokage.errors import UserError


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D) of features (N, D), float64; the covariance divides by N - 1.

    >>> mean, covariance = statistics(np.array([[0.0, 1.0], [2.0, 1.0]]))
    >>> mean.tolist(), covariance.tolist()
    ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])
    """
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"statistics need at least two feature vectors, got an array of shape {features.shape}")
    mean = features.mean(0, dtype=np.float64)
    centred = features.astype(np.float64) - mean
    return mean, centred.T @ centred / (len(features) - 1)


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R Rᵀ = covariance; rounding below zero is taken as zero."""
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    return vectors * np.sqrt(values.clip(min=0))


def fid(
    mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray
) -> float:
    """Squared Fréchet distance ‖μ₁-μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) of two Gaussians.

    The trace of the square root is the sum of the singular values of R₁ᵀR₂ with Σᵢ = RᵢRᵢᵀ: exact for singular
    covariances too (fewer samples than dimensions), no complex part and no added diagonal.

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
