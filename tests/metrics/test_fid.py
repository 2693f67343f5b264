import numpy as np
import pytest
import scipy.linalg

from omokage.errors import UserError
from omokage.metrics.fid import Moments, fid, fid_infinity, statistics, trace_of_root


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


def _covariance(seed: int, count: int, power: float, dimensions: int = 150, dead: int = 0) -> np.ndarray:
    """Of rectified features whose spectrum falls by ``power``, as that of Inception; ``dead`` stay."""
    axes = np.linalg.qr(np.random.default_rng(9).normal(size=(dimensions, dimensions)))[0]
    sizes = np.arange(1, dimensions + 1.0) ** -power * np.random.default_rng(seed).uniform(0.5, 2, dimensions)
    drawn = np.random.default_rng((seed, 1)).normal(size=(count, dimensions)) * sizes @ axes.T
    features = np.maximum(drawn + 0.1, 0)
    features[:, :dead] = 0.5
    return np.cov(features.T)


def _exact(one: np.ndarray, other: np.ndarray) -> float:
    """tr((Σ₁Σ₂)^½) in another way, without a loss of digits where a covariance is singular."""
    roots = []
    for covariance in (one, other):
        values, vectors = scipy.linalg.eigh(covariance)
        kept = values > 1e-13 * values[-1]
        roots.append(vectors[:, kept] * np.sqrt(values[kept]))
    return scipy.linalg.svdvals(roots[0].T @ roots[1]).sum()


@pytest.mark.parametrize("power", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("counts", [(1000, 1200), (149, 152), (60, 1000), (70, 40), (2, 1000), (2, 2)])
def test_the_trace_agrees_with_scipy_and_with_singular_values(counts, power) -> None:
    one, other = (_covariance(seed, count, power) for seed, count in enumerate(counts))
    found = trace_of_root(one, other)
    assert found == pytest.approx(_exact(one, other), rel=1e-8)
    assert trace_of_root(1e8 * one, 1e-8 * other) == pytest.approx(found, rel=1e-8)
    if min(counts) > 200:  # scipy's square root is not reliable for singular matrices
        assert found == pytest.approx(np.trace(scipy.linalg.sqrtm(one @ other)).real, rel=1e-8)


def test_features_that_never_change() -> None:
    one, other = _covariance(1, 1000, 0.8, dead=30), _covariance(2, 1000, 0.8, dead=50)
    assert trace_of_root(one, other) == pytest.approx(_exact(one, other), rel=1e-8)
    nothing = np.zeros_like(one)
    assert trace_of_root(one, nothing) == trace_of_root(nothing, nothing) == 0
    mean = np.zeros(len(one))
    assert fid(mean, one, mean, nothing) == pytest.approx(np.trace(one))


@pytest.mark.parametrize("count", [1000, 60])
def test_equal_sets_have_no_distance(count) -> None:
    covariance = _covariance(3, count, 2.0)
    mean = np.zeros(len(covariance))
    found = fid(mean, covariance, mean, covariance)
    assert 0 <= found < 1e-11 * np.trace(covariance)
    assert f"{found:.2f}" == "0.00"  # never -0.00


def test_no_eigenvectors_and_no_singular_values_are_computed(monkeypatch) -> None:
    """They take five to ten times as long as eigenvalues alone, for 2048 dimensions half a minute."""
    real = scipy.linalg.eigh
    asked = []

    def eigh(a, **how):
        asked.append(how)
        return real(a, **how)

    monkeypatch.setattr(scipy.linalg, "eigh", eigh)
    for name in ("svdvals", "svd", "sqrtm", "eig", "eigvals"):
        monkeypatch.delattr(scipy.linalg, name)
    trace_of_root(_covariance(1, 300, 0.8), _covariance(2, 300, 0.8))
    assert [how["eigvals_only"] for how in asked] == [True]


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


def test_the_bias_of_few_samples_is_taken_away() -> None:
    """Two Gaussians whose distance is known: 4 from the means, 8 (1.5 - 1)² from the spreads."""
    mean, covariance, true = np.zeros(8), np.eye(8), 4 + 8 * 0.25
    whole, endless = [], []
    for seed in range(40):
        x = 1.5 * np.random.default_rng(seed).normal(size=(90, 8))
        x[:, 0] += 2
        whole.append(fid(*statistics(x), mean, covariance))
        endless.append(fid_infinity(x, mean, covariance, whole[-1], seed))
    error = np.std(whole) / np.sqrt(len(whole))
    assert np.mean(whole) - true > 3 * error
    assert abs(np.mean(endless) - true) < 3 * np.std(endless) / np.sqrt(len(endless))
    assert abs(np.mean(endless) - true) < (np.mean(whole) - true) / 2


def test_the_line_goes_through_the_subsets_and_is_drawn_by_seed() -> None:
    x = np.random.default_rng(0).normal(size=(400, 5))
    faces = np.zeros(5), 2 * np.eye(5)
    known = fid_infinity(x, *faces, seed=1)
    assert known == fid_infinity(x, *faces, fid(*statistics(x), *faces), seed=1)
    assert known != fid_infinity(x, *faces, seed=2)
    sizes = [400, 267, 200, 160, 133]
    rng, found = np.random.default_rng(1), []
    for size in sizes:
        found.append(fid(*statistics(x[np.sort(rng.choice(400, size, replace=False))]), *faces))
    inverse = 1 / np.array(sizes)
    slope = np.cov(inverse, found, ddof=0)[0, 1] / np.var(inverse)
    assert known == pytest.approx(np.mean(found) - slope * inverse.mean(), rel=1e-6)


def test_without_enough_samples_there_is_no_estimate() -> None:
    x = np.random.default_rng(0).normal(size=(24, 8))
    assert fid_infinity(x[:23], np.zeros(8), np.eye(8)) is None
    assert fid_infinity(x, np.zeros(8), np.eye(8)) is not None
