"""Intervals and tests of a study against statsmodels, scipy and calculation by hand."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from omokage.study import signal_detection, simulate, statistics
from omokage.study.statistics import Clusters, Interval


def by_pairs(influence, people, pictures):
    """The variance before the correction: products over all pairs of answers that share something."""
    total = 0.0
    for i, j in product(range(len(influence)), repeat=2):
        if people[i] == people[j] or set(pictures[i]) & set(pictures[j]):
            total += influence[i] * influence[j]
    return total


@pytest.fixture(scope="module")
def single():
    return simulate.single(np.random.default_rng(5), 1, 25, 16, 20, 0.65, simulate.Effects(0.6, 0.7, 0.3))


def test_the_interval_of_a_mean_is_that_of_statsmodels(single):
    sm = pytest.importorskip("statsmodels.api")
    y, clusters = single.correct[0].reshape(-1), single.clusters(0)
    groups = np.column_stack([clusters.people, clusters.pictures[:, 0]])
    fitted = sm.OLS(y, np.ones(len(y))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    found = statistics.proportion(y, clusters)
    least = min(clusters.counts)
    assert found.se == pytest.approx(fitted.bse[0] * np.sqrt(least / (least - 1)), rel=1e-10)
    assert found.df == least - 1
    reach = stats.t.ppf(0.975, least - 1) * found.se
    assert (found.low, found.high) == pytest.approx((y.mean() - reach, y.mean() + reach))


def test_with_two_pictures_a_trial_all_answers_that_share_one_are_alike():
    batch = simulate.pairs(np.random.default_rng(1), 1, 12, 6, 9, 0.6, simulate.Effects(0.8, 0.8))
    y, clusters = batch.correct[0].reshape(-1), batch.clusters(0)
    influence = (y - y.mean()) / len(y)
    by_hand = by_pairs(influence, clusters.people, clusters.pictures.tolist())
    (se,), df = statistics.standard_errors(influence, clusters)
    people = sum(influence[clusters.people == p].sum() ** 2 for p in range(12))
    pictures = by_pairs(influence, np.arange(len(y)), clusters.pictures.tolist())
    assert df == 8
    assert se**2 == pytest.approx(max(by_hand, people, pictures) * 9 / 8)


def test_pairs_that_are_always_the_same_count_as_one_picture():
    rng = np.random.default_rng(0)
    people, pair = np.repeat(np.arange(20), 12), np.tile(np.arange(12), 20)
    y = rng.integers(0, 2, 240)
    one = statistics.proportion(y, Clusters.of(people, pair))
    two = statistics.proportion(y, Clusters.of(people, pair, pair + 100))
    assert two.se == pytest.approx(one.se)
    assert two.df == one.df == 11


def test_a_difference_and_an_average_are_those_of_a_regression(single):
    sm = pytest.importorskip("statsmodels.api")
    y, real, clusters = single.correct[0].reshape(-1), single.truth[0].reshape(-1), single.clusters(0)
    # A number of its own for each side, or people would be the only thing shared; the factor is the same.
    groups = np.column_stack([clusters.people, clusters.pictures[:, 0]])
    fitted = sm.OLS(y, np.column_stack([real, 1 - real])).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    least = min(clusters.counts)
    for weights in ((1.0, -1.0), (0.5, 0.5)):
        found = statistics.difference(y, real == 1, real == 0, clusters, weights=weights)
        w = np.array(weights)
        variance = w @ fitted.cov_params() @ w * least / (least - 1)
        assert found.value == pytest.approx(w @ fitted.params)
        assert found.se**2 >= variance - 1e-12
        assert found.se**2 == pytest.approx(variance, rel=0.35)  # or the larger of people or pictures alone


@pytest.mark.parametrize("right", [0, 1])
def test_answers_that_are_all_alike_get_a_cautious_interval_and_say_so(right):
    clusters = Clusters.of(np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12))
    found = statistics.proportion(np.full(120, right), clusters)
    low, high = statistics.exact_interval(10 * right, 10)
    assert (found.low, found.high) == (low, high)
    assert "10 independent answers" in found.notes[-1]
    assert np.isnan(statistics.p_value(found, 0.5))
    told = statistics.equivalence(found, 0.5, 0.05)
    assert told.verdict == "different"


def test_one_person_one_picture_and_nobody_say_what_they_cannot_tell():
    y = np.array([1, 0, 1, 1, 0, 1])
    one_person = statistics.proportion(y, Clusters.of(["a"] * 6, range(6)))
    assert one_person.known
    assert one_person.df == 5
    assert "nothing about people" in one_person.notes[0]
    one_picture = statistics.proportion(y, Clusters.of(range(6), ["p"] * 6))
    assert "nothing about pictures" in one_picture.notes[0]
    both = statistics.proportion(y, Clusters.of(["a"] * 6, ["p"] * 6))
    assert not both.known
    assert both.value == pytest.approx(4 / 6)
    assert statistics.equivalence(both, 0.5, 0.05).verdict == "undecided"
    nobody = statistics.mean([], Clusters.of([], []))
    assert np.isnan(nobody.value)
    assert nobody.notes == ("There are no answers.",)
    assert statistics.difference(y, y > 5, y < 5, Clusters.of(range(6), range(6))).notes


def test_equivalence_is_two_one_sided_t_tests():
    found = Interval(0.52, 0.48, 0.56, 0.015, 20, answers=1000, people=40, pictures=21)
    told = statistics.equivalence(found, 0.5, 0.05)
    upper = stats.t.cdf((0.52 - 0.55) / 0.015, 20)
    lower = stats.t.sf((0.52 - 0.45) / 0.015, 20)
    assert told.p == pytest.approx(max(upper, lower))
    assert told.verdict == "equivalent"
    assert told.provable == pytest.approx(0.02 + stats.t.ppf(0.95, 20) * 0.015)
    # Just at the margin that it proves, the p value is 5%.
    assert statistics.equivalence(found, 0.5, told.provable).p == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("value", "se", "verdict"),
    [
        (0.50, 0.010, "equivalent"),
        (0.53, 0.005, "different but within the margin"),
        (0.60, 0.010, "different"),
        (0.52, 0.060, "undecided"),
    ],
)
def test_all_four_verdicts(value, se, verdict):
    found = Interval(value, value - 2 * se, value + 2 * se, se, 40, answers=1000, people=50, pictures=41)
    assert statistics.equivalence(found, 0.5, 0.05).verdict == verdict


def test_the_exact_test_of_one_person_is_fishers():
    said = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0])
    real = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    table = [[(said & real).sum(), (said & (1 - real)).sum()], [((1 - said) & real).sum(), 0]]
    table[1][1] = 12 - sum(map(sum, table))
    found = statistics.exact_labels(said, real, ["a"] * 12)
    assert found.p == pytest.approx(stats.fisher_exact(table).pvalue)


def test_the_exact_test_of_two_people_is_that_of_all_orders():
    said = {"a": [1, 1, 0, 0, 1], "b": [0, 1, 1, 0]}
    real = {"a": [1, 1, 0, 0, 0], "b": [1, 1, 0, 0]}
    counts = {}
    for a in combinations(range(5), 2):
        for b in combinations(range(4), 2):
            hits = sum(said["a"][i] for i in a) + sum(said["b"][i] for i in b)
            counts[hits] = counts.get(hits, 0) + 1
    seen = sum(s * r for who in "ab" for s, r in zip(said[who], real[who], strict=True))
    expected = sum(n for n in counts.values() if n <= counts[seen]) / sum(counts.values())
    who = ["a"] * 5 + ["b"] * 4
    found = statistics.exact_labels([*said["a"], *said["b"]], [*real["a"], *real["b"]], who)
    assert found.p == pytest.approx(expected)
    assert found.hits == seen


def test_wilson_and_clopper_pearson_are_those_of_scipy():
    low, high = statistics.wilson([7], [20])
    its = stats.binomtest(7, 20).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((its.low, its.high))
    its = stats.binomtest(7, 20).proportion_ci(method="exact")
    assert statistics.exact_interval(7, 20) == pytest.approx((its.low, its.high))


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = [0.01, 0.2, 0.03, 0.04, 0.9]
    assert statistics.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert np.isnan(statistics.holm([0.1, float("nan")])[1])


def test_a_trend_is_least_squares():
    rng = np.random.default_rng(0)
    people, x = np.repeat(np.arange(30), 12), np.tile(np.arange(12), 30)
    y = 0.3 * x + rng.normal(size=360)
    found = statistics.trend(y, x, Clusters.of(people, rng.integers(0, 40, 360)))
    assert found.value == pytest.approx(stats.linregress(x, y).slope)
    assert found.low < 0.3 < found.high


def test_the_spread_between_people_is_found_and_is_none_where_there_is_none():
    rng = np.random.default_rng(2)
    n = np.full(4000, 20)
    differ = rng.binomial(n, rng.beta(8, 8, 4000))
    assert statistics.between(differ, n).sd == pytest.approx(stats.beta(8, 8).std(), rel=0.06)
    same = statistics.between(rng.binomial(n, 0.5), n)
    assert same.sd < 0.03
    assert same.p > 0.001
    assert np.isnan(statistics.between([3], [5]).p)


def test_d_prime_is_that_of_the_book():
    # Macmillan and Creelman (2005): d' = z(H) - z(F), c = -(z(H) + z(F)) / 2, with Hautus's correction.
    said = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    real = np.array([1] * 25 + [0] * 25)
    clusters = Clusters.of(np.arange(50) % 10, np.arange(50))
    found = signal_detection.sensitivity(said, real, clusters)
    z_hit, z_false = stats.norm.ppf([20.5 / 26, 10.5 / 26])
    assert found.d_prime.value == pytest.approx(z_hit - z_false)
    assert found.bias.value == pytest.approx(-(z_hit + z_false) / 2)
    two = signal_detection.sensitivity(said, real, clusters, pictures=2)
    assert two.d_prime.value == pytest.approx((z_hit - z_false) / np.sqrt(2))
    assert two.d_prime.se == pytest.approx(found.d_prime.se / np.sqrt(2))


def test_the_standard_error_of_d_prime_is_that_of_independent_answers_where_they_are():
    rng = np.random.default_rng(3)
    batch = simulate.single(rng, 1, 400, 20, 400, 0.7, simulate.Effects(0, 0, 0, 0))
    said, real = batch.response[0].reshape(-1), batch.truth[0].reshape(-1)
    found = signal_detection.sensitivity(said, real, batch.clusters(0)).d_prime
    h, f = said[real == 1].mean(), said[real == 0].mean()
    # Gourevitch and Galanter (1967).
    variance = h * (1 - h) / (4000 * stats.norm.pdf(stats.norm.ppf(h)) ** 2)
    variance += f * (1 - f) / (4000 * stats.norm.pdf(stats.norm.ppf(f)) ** 2)
    assert found.se == pytest.approx(np.sqrt(variance), rel=0.15)


def test_d_prime_without_one_kind_of_picture_is_not_known():
    found = signal_detection.sensitivity([1, 0, 1], [1, 1, 1], Clusters.of([0, 1, 2], [0, 1, 2]))
    assert np.isnan(found.d_prime.value)
    assert "both" in found.d_prime.notes[0]
    everyone = signal_detection.sensitivity([1, 1, 0, 0], [1, 1, 0, 0], Clusters.of([0, 1, 0, 1], range(4)))
    assert np.isfinite(everyone.d_prime.value)  # the correction keeps rates off 0 and 1


def test_d_prime_of_each_person_uses_the_persons_own_answers():
    names, d_prime, bias = signal_detection.d_prime_of_people(
        [1, 0, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], ["b", "b", "b", "a", "a", "a"]
    )
    assert names == ["a", "b"]
    z = stats.norm.ppf
    assert d_prime == pytest.approx([z(1.5 / 2) - z(2.5 / 3), z(2.5 / 3) - z(0.5 / 2)])
    assert len(bias) == 2
