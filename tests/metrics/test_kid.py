import numpy as np
import pytest
import torch

from omokage.errors import UserError
from omokage.metrics.kid import kid, squared_mmd


def _draw(generator: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    return (generator.normal(size=(count, 16)) + shift).astype(np.float32)


def test_the_estimate_agrees_with_the_sums_written_out() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(5, 3)), generator.normal(size=(4, 3)) + 0.5

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    across = sum(k(a, b) for a in x for b in y) / 20
    found = squared_mmd(torch.from_numpy(x), torch.from_numpy(y))
    assert found == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def _measured(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors of independent measurements."""
    found = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        x, y = _draw(generator, 600), _draw(generator, 400, shift)
        found.append(kid(x, y, subsets=40, subset_size=100, seed=seed))
    return np.array([one.value for one in found]), np.array([one.standard_error for one in found])


def test_one_distribution_gives_nothing_within_its_error() -> None:
    values, errors = _measured(0.0)
    # Unbiased: the mean of many independent measurements vanishes.
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (abs(values) < 3 * errors).mean() > 0.9


def test_the_error_is_the_spread_of_independent_measurements() -> None:
    values, errors = _measured(0.3)
    assert 0.6 < errors.mean() / values.std() < 1.6


def test_a_shift_is_seen() -> None:
    generator = np.random.default_rng(1)
    found = kid(_draw(generator, 500), _draw(generator, 500, 0.5), subsets=20, subset_size=100)
    assert found.value > 5 * found.standard_error > 0


def test_it_depends_on_its_seed_alone() -> None:
    generator = np.random.default_rng(2)
    x, y = _draw(generator, 300), _draw(generator, 300)
    assert kid(x, y, subsets=5, seed=1) == kid(x, y, subsets=5, seed=1) != kid(x, y, subsets=5, seed=2)


def test_few_images_give_smaller_subsets() -> None:
    generator = np.random.default_rng(3)
    found = kid(_draw(generator, 40), _draw(generator, 1000))
    assert found.subset_size == 10
    assert found.protocol == "kid-100x10"
    whole = np.zeros((2000, 4), np.float32)
    assert kid(whole, whole, subsets=2).protocol == "kid-2x1000"  # as papers have it
    assert found.standard_error > 0


def test_a_single_image_is_refused() -> None:
    with pytest.raises(UserError, match="at least two"):
        kid(np.zeros((1, 4), np.float32), np.zeros((9, 4), np.float32))
