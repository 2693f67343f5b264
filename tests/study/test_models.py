"""Ranking, mixed model, correlation with metrics, and simulated studies, each against something else."""

import choix
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from omokage.errors import UserError
from omokage.study import correlation, mixed, power, ranking, simulate, statistics
from omokage.study.design import Design
from omokage.study.simulate import Effects
from omokage.study.statistics import Clusters


def test_strengths_are_the_most_likely_ones():
    wins = np.array([[0, 14, 20], [6, 0, 11], [5, 9, 0]], float)

    def loss(free):
        theta = np.array([*free, -sum(free)])
        return -sum(
            wins[a, b] * -np.logaddexp(0, theta[b] - theta[a]) for a in range(3) for b in range(3)
        )

    best = optimize.minimize(loss, [0.0, 0.0], tol=1e-12).x
    found = ranking.strengths(wins)
    assert found[:2] == pytest.approx(best, abs=1e-4)
    assert found.sum() == pytest.approx(0)


def test_many_tables_at_once_are_fitted_as_choix_fits_one():
    rng = np.random.default_rng(0)
    tables = rng.integers(1, 20, (6, 4, 4)).astype(float)
    tables[:, np.arange(4), np.arange(4)] = 0
    together = ranking.fit_many(tables)
    for table, theta in zip(tables, together, strict=True):
        one = choix.ilsr_pairwise_dense(table, alpha=0.0, tol=1e-12, max_iter=1000)
        assert theta == pytest.approx(one - one.mean(), abs=1e-6)
    tables[0, 1:, 0] = 0  # never lost
    assert np.isnan(ranking.fit_many(tables)[0]).all()
    assert np.isfinite(ranking.fit_many(tables)[1:]).all()


def test_a_source_that_always_wins_has_no_strength_but_a_share():
    found = ranking.rank(["a"] * 8, ["b"] * 8, list(range(4)) * 2, range(8), range(8, 16), resamples=50)
    assert found.rows[0].name == "a"
    assert found.rows[0].share.value == 1.0
    assert np.isnan(found.rows[0].strength.value)
    assert "always won" in found.notes[0]
    with pytest.raises(UserError, match="there are none"):
        ranking.rank([], [], [], [], [])


def test_the_standard_error_of_a_strength_is_the_models_where_answers_are_independent():
    rng = np.random.default_rng(1)
    n = 6000
    won = rng.random(n) < 0.6
    found = ranking.rank(
        np.where(won, "a", "b").tolist(),
        np.where(won, "b", "a").tolist(),
        np.arange(n),
        np.arange(n),
        np.arange(n, 2 * n),
        resamples=400,
    )
    share = won.mean()
    by_hand = np.sqrt(1 / (n * share * (1 - share))) / 2  # half the log-odds
    assert found.rows[0].strength.value == pytest.approx(np.log(share / (1 - share)) / 2, abs=1e-6)
    assert found.rows[0].strength.se == pytest.approx(by_hand, rel=1e-3)
    low, high = found.rows[0].bootstrap
    assert (high - low) / 2 == pytest.approx(1.96 * by_hand, rel=0.15)
    assert found.rows[0].first == 1.0
    assert found.matrix[0, 1] == pytest.approx(share)


def test_the_mixed_models_likelihood_is_the_integral():
    """Two people, one effect each: the integral over an effect can be taken numerically."""
    y = np.array([1, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1], float)
    who = np.repeat([0, 1], 6)
    clusters = Clusters.of(who, np.zeros(12))
    model = mixed._Model(y, clusters.people, clusters.pictures + 2, 2, 1)
    log_sd = np.log(0.8)
    # Pictures get an effect so small that it does not count.
    laplace = -model.loss(np.array([0.3, log_sd, -6.0]))
    exact = 0.0
    for person in range(2):
        mine = y[who == person]

        def joint(b, mine=mine):
            eta = 0.3 + b
            return np.exp((mine * eta - np.logaddexp(0, eta)).sum()) * stats.norm.pdf(b, 0, 0.8)

        exact += np.log(integrate.quad(joint, -8, 8)[0])
    assert laplace == pytest.approx(exact, abs=0.03)


def test_the_mixed_model_finds_what_was_put_in():
    batch = simulate.single(
        np.random.default_rng(0), 1, 60, 30, 30, 0.65, Effects(0.5, 0.5, 0.0, 0.0)
    )
    found = mixed.fit(batch.correct[0].reshape(-1), batch.clusters(0))
    assert 0.2 < found.person_sd < 1.2  # 0.5 on the probit scale is about 0.85 in log-odds
    assert found.low < stats.norm.ppf(0.65) * np.sqrt(1.5) * 1.7 < found.high
    assert found.average[1] < found.average[0] < found.average[2]
    with pytest.raises(UserError, match="right and wrong"):
        mixed.fit(np.ones(1800), batch.clusters(0))


def test_the_metric_that_agrees_best_is_named_only_with_enough_runs():
    judged = {f"run{i}": share for i, share in enumerate([0.50, 0.44, 0.40, 0.31, 0.22, 0.12])}
    good, other = [8, 11, 16, 25, 33, 60], [0.3, 0.5, 0.2, 0.4, 0.45, 0.35]
    metrics = {
        run: {"fid": fid, "recall": recall} for run, fid, recall in zip(judged, good, other, strict=True)
    }
    found = correlation.correlate(judged, metrics)
    assert found.best == "fid"
    assert found.rows[0].r == pytest.approx(stats.pearsonr(-np.array(good), list(judged.values()))[0])
    its = stats.pearsonr(-np.array(good), list(judged.values())).confidence_interval()
    assert (found.rows[0].low, found.rows[0].high) == pytest.approx((its.low, its.high))
    assert found.rows[0].rho == pytest.approx(1.0)
    assert found.rows[0].p == pytest.approx(2 / 720)
    few = correlation.correlate({name: judged[name] for name in list(judged)[:3]}, metrics)
    assert few.best is None
    assert "Only 3 runs" in few.sentence
    assert correlation.correlate(judged, {}) is None


def test_two_runs_have_no_correlation():
    found = correlation.correlate({"a": 0.4, "b": 0.3}, {"a": {"fid": 5}, "b": {"fid": 9}})
    assert np.isnan(found.rows[0].r)
    assert found.best is None


@pytest.mark.parametrize("kind", ["pairs", "single"])
def test_simulated_studies_have_the_truth_that_they_claim(kind):
    make = simulate.pairs if kind == "pairs" else simulate.single
    for truth in (0.5, 0.75):
        batch = make(np.random.default_rng(1), 150, 20, 20, 24, truth, Effects(0.5, 0.5, 0.4, 0.05))
        means = batch.correct.mean((1, 2))
        assert abs(means.mean() - truth) < 3.5 * means.std() / np.sqrt(150)


def test_simulated_ratings_and_preferences_have_the_truth_that_they_claim():
    effects = Effects(0.4, 0.4, 0.2, 0.03)
    batch = simulate.ratings(np.random.default_rng(1), 150, 15, 20, 24, [0.4, -0.5], effects)
    for source, centre in enumerate((0.4, -0.5)):
        means = np.array([r[t == source].mean() for r, t in zip(batch.response, batch.truth, strict=True)])
        assert abs(means.mean() - simulate.mean_rating(centre, effects)) < 3.5 * means.std() / np.sqrt(150)
    batch = simulate.preferences(np.random.default_rng(2), 150, 15, 12, 20, [0.5, 0.0, -0.3], effects)
    shares = np.array(
        [
            r[(a == 0) & (b == 2)].mean()
            for r, a, b in zip(batch.response, batch.truth, batch.second, strict=True)
        ]
    )
    assert abs(shares.mean() - simulate.win_share(0.8, effects)) < 3.5 * shares.std() / np.sqrt(150)
    assert (batch.pictures[..., 0] // 20 == batch.truth).all()
    assert (batch.pictures[..., 1] // 20 == batch.second).all()


def test_intervals_cover_the_truth_in_a_small_run():
    """The whole table is in bench/results/study_coverage.md; this notices when something breaks."""
    batch = simulate.pairs(np.random.default_rng(7), 400, 40, 16, 30, 0.6)
    covered = 0
    for study in range(400):
        found = statistics.proportion(batch.correct[study].reshape(-1), batch.clusters(study))
        covered += found.low <= 0.6 <= found.high
    assert 0.91 < covered / 400 < 0.985


@pytest.mark.parametrize("kind", ["pairs", "single"])
def test_many_studies_at_once_are_tested_as_one_is(kind):
    make = simulate.pairs if kind == "pairs" else simulate.single
    batch = make(np.random.default_rng(3), 4, 15, 9, 12, 0.6)
    means, ses, df = power.batch_accuracy(batch)
    for study in range(4):
        found = statistics.proportion(batch.correct[study].reshape(-1), batch.clusters(study))
        assert (found.value, found.se, found.df) == pytest.approx((means[study], ses[study], df))


def test_power_without_effects_is_that_of_the_textbook():
    step = power._simulate(
        Design(trials=20), 40, 60, 0.56, 0.05, Effects(0, 0, 0, 0), 0.05, 800, seed=0
    )
    shift = 0.06 / np.sqrt(0.25 / 800)
    textbook = stats.norm.sf(1.96 - shift)
    assert step.difference == pytest.approx(textbook, abs=0.07)
    assert step.difference < textbook + 0.03  # t and clusters make it smaller


def test_a_plan_finds_a_number_and_says_when_there_is_none():
    design = Design(trials=20)
    found = power.plan(design, 0.65, 0.8, pictures=60, studies=200, seed=1)
    assert found.people is not None
    assert found.reached[0] >= 0.8
    assert f"{found.people:,} people" in found.sentence
    assert found.people in [step.people for step in found.steps]
    few = power.plan(Design(trials=4), 0.55, 0.9, effects=Effects(0.3, 0.8), studies=100)
    assert few.people is None
    assert "No number of people" in few.sentence
    assert "--pictures" in few.notes[1]


@pytest.mark.parametrize(
    ("design", "settings", "said"),
    [
        (Design(), {"effect": 1.2}, "--effect 1.2"),
        (Design(), {"power": 80}, "--power 80"),
        (Design(), {"pictures": 3}, "--pictures 3"),
        (Design(), {"margin": 0.7}, "--margin 0.7"),
        (Design(kind="rating"), {}, "ratings"),
        (Design(), {"effect": 0.99, "effects": Effects(lapses=0.1)}, "lapses"),
    ],
)
def test_a_plan_with_an_impossible_value_is_refused(design, settings, said):
    with pytest.raises(UserError, match=said):
        power.plan(design, **settings)
