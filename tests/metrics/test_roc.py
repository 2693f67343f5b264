import numpy as np
import pytest

from omokage.metrics.roc import CONFIDENT, roc_area


def test_it_counts_pairs():
    rng = np.random.default_rng(0)
    bad, good = rng.integers(0, 8, 30).astype(float), rng.integers(0, 6, 50).astype(float)
    bad[0] = np.inf
    pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    found = roc_area(bad, good)
    assert found.value == pytest.approx(np.mean(pairs))
    assert (found.bad, found.good) == (30, 50)
    assert roc_area(-bad, -good).value == pytest.approx(1 - found.value)


def test_the_bounds_are_where_newcombe_puts_them():
    """Each bound is a value from which the area lies exactly so many of its own standard deviations away."""
    rng = np.random.default_rng(1)
    m, n = 20, 35
    area, interval, *_ = roc_area(rng.normal(0.8, 1, m), rng.normal(0, 1, n))
    for bound in interval:
        more = (m + n) / 2 - 1
        variance = bound * (1 - bound) * (1 + more * (1 - bound) / (2 - bound) + more * bound / (1 + bound))
        assert abs(bound - area) == pytest.approx(CONFIDENT * (variance / (m * n)) ** 0.5, rel=1e-6)
    assert 0 < interval[0] < area < interval[1] < 1


def test_two_that_are_wholly_apart_still_have_an_interval():
    area, (low, high), *_ = roc_area(np.arange(10.0) + 10, np.arange(10.0))
    assert (area, high) == (1.0, 1.0)
    assert 0.6 < low < 0.95
    assert roc_area(np.arange(100.0) + 100, np.arange(100.0)).interval[0] > low


def test_it_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.7602499389  # two normal distributions, 1 apart
    held = 0
    for _ in range(300):
        low, high = roc_area(rng.normal(1, 1, 40), rng.normal(0, 1, 60)).interval
        held += low <= truth <= high
    assert 0.91 <= held / 300 <= 0.99


def test_nothing_to_compare_is_an_error():
    for bad, good in (([], [1.0]), ([1.0], []), ([np.nan], [1.0])):
        with pytest.raises(ValueError, match="both sides"):
            roc_area(np.array(bad), np.array(good))
