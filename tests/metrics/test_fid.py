import numpy as np
import pytest
import scipy.linalg

from omokage.errors import UserError
from omokage.metrics.fid import Moments, fid, statistics


def _features(seed: int, count: int = 400, dimensions: int = 24) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(dimensions, dimensions))
    return (generator.normal(size=(count, dimensions)) @ mixing + generator.normal(size=dimensions)).astype(
        "f4"
    )


def test_closed_form_of_gaussians_that_share_axes() -> None:
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    variances1, variances2 = generator.uniform(0.1, 5, (2, 8))
    mean1, mean2 = generator.normal(size=(2, 8))
    found = fid(mean1, axes * variances1 @ axes.T, mean2, axes * variances2 @ axes.T)
    expected = ((mean1 - mean2) ** 2).sum() + ((np.sqrt(variances1) - np.sqrt(variances2)) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-12)


def test_agrees_with_the_matrix_square_root_of_scipy() -> None:
    (mean1, covariance1), (mean2, covariance2) = statistics(_features(1)), statistics(_features(2))
    root = scipy.linalg.sqrtm(covariance1 @ covariance2).real
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(covariance1 + covariance2 - 2 * root)
    assert fid(mean1, covariance1, mean2, covariance2) == pytest.approx(expected, rel=1e-9)


def test_a_distance_to_itself_is_nothing_even_with_fewer_images_than_dimensions() -> None:
    mean, covariance = statistics(_features(3, count=10))
    assert abs(fid(mean, covariance, mean, covariance)) < 1e-6 * np.trace(covariance)


def test_singular_covariances_in_orthogonal_subspaces() -> None:
    one, other = np.diag([4.0, 0, 0]), np.diag([0, 9.0, 0])
    assert fid(np.zeros(3), one, np.zeros(3), other) == pytest.approx(13.0)


def test_it_is_symmetric() -> None:
    one, other = statistics(_features(4)), statistics(_features(5))
    assert fid(*one, *other) == pytest.approx(fid(*other, *one), rel=1e-10)


def test_statistics_agree_with_numpy_in_blocks_of_any_size_and_far_from_zero() -> None:
    features = _features(6).astype(np.float64) + 1e5
    moments = Moments(features.shape[1])
    for block in np.array_split(features, [0, 3, 4, 250]):
        moments.add(block)
    mean, covariance = moments.result()
    np.testing.assert_allclose(mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.T), rtol=1e-7)
    np.testing.assert_allclose(statistics(features)[1], covariance, rtol=1e-9)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(UserError, match="at least two"):
        statistics(np.zeros((1, 4)))


def test_values_that_are_not_finite_are_refused() -> None:
    mean, covariance = np.zeros(2), np.eye(2)
    with pytest.raises(UserError, match="not finite"):
        fid(np.array([0, np.nan]), covariance, mean, covariance)
