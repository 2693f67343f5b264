"""Intervals and tests for answers that share people and pictures.

Answers of one person are alike, and so are answers about one picture. All intervals here allow for both at
once: two-way cluster-robust standard errors (Cameron, Gelbach and Miller, 2011, *Robust inference with
multiway clustering*; for two pictures in a trial Aronow, Samii and Assenova, 2015, *Cluster-robust variance
estimation for dyadic data*), with quantiles of Student's t with min(people, pictures) - 1 degrees of freedom.

Everything rests on one function, `interval`. It takes an estimate and the influence of each answer on it:
by how much the estimate moves with that answer. For a mean this is ``(y - mean) / n``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Verdict = Literal["equivalent", "different", "different but within the margin", "undecided"]

LEVEL = 0.95


@dataclass(frozen=True)
class Clusters:
    """Who answered and about which pictures: what makes answers alike.

    Args:
        people: shape (n,), whole numbers from 0.
        pictures: shape (n, 1) or (n, 2), whole numbers from 0; the same number is the same picture in both
            columns.
    """

    people: NDArray[np.int64]
    pictures: NDArray[np.int64]

    @classmethod
    def of(cls, people: ArrayLike, *pictures: ArrayLike) -> "Clusters":
        """From identifiers of any kind.

        >>> Clusters.of(["a", "a", "b"], ["p", "q", "p"]).counts
        (2, 2)
        """
        columns = [np.asarray(column) for column in pictures]
        _, who = np.unique(np.asarray(people), return_inverse=True)
        _, which = np.unique(np.concatenate(columns), return_inverse=True)
        return cls(who.astype(np.int64), which.reshape(len(columns), -1).T.astype(np.int64))

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, rows: Any) -> "Clusters":
        return Clusters(self.people[rows], self.pictures[rows])

    @property
    def counts(self) -> tuple[int, int]:
        """Number of people and of pictures; with two pictures a trial, the smaller number of the two."""
        if not len(self):
            return 0, 0
        pictures = min(len(np.unique(column)) for column in self.pictures.T)
        return len(np.unique(self.people)), pictures


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; what is not known is NaN.

    Attributes:
        value, low, high: the estimate and the ends of its interval.
        se: the standard error.
        df: degrees of freedom.
        level: of confidence.
        answers, people, pictures: how many of each it rests on.
        notes: what it cannot tell, in words.
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    se: float = np.nan
    df: int = 0
    level: float = LEVEL
    answers: int = 0
    people: int = 0
    pictures: int = 0
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def scaled(self, factor: float) -> "Interval":
        """The interval of ``factor`` times the quantity."""
        low, high = sorted((self.low * factor, self.high * factor))
        return replace(self, value=self.value * factor, low=low, high=high, se=self.se * abs(factor))


def _squares(values: Floats, keys: NDArray[np.int64], size: int) -> Floats:
    """The sum over groups of the squared sum within a group, for each column of ``values``."""
    if size > 4 * len(keys) + 1024:  # few of the possible groups occur
        _, keys = np.unique(keys, return_inverse=True)
        size = len(keys)
    sums = [np.bincount(keys, weights=column, minlength=size) for column in values.T]
    return np.array([float(total @ total) for total in sums])


def standard_errors(influence: ArrayLike, clusters: Clusters) -> tuple[Floats, int]:
    """Two-way cluster-robust standard errors and their degrees of freedom.

    The variance is the sum of products of influences over all pairs of answers that share the person or a
    picture, times G / (G - 1) with G = min(people, pictures). It is never taken smaller than the variance
    from people alone or from pictures alone: the difference of the two-way formula can come out too small,
    even negative, when there are few of either.

    Args:
        influence: shape (n,) or (n, k).

    Returns:
        Shape (k,), NaN where there are fewer than two of everything; and G - 1.
    """
    values = np.asarray(influence, np.float64)
    values = values.reshape(len(values), -1)
    people, pictures = clusters.counts
    if people < 2 and pictures < 2:
        return np.full(values.shape[1], np.nan), 0
    who, shown = clusters.people, clusters.pictures
    size = int(shown.max()) + 1
    by_person = _squares(values, who, int(who.max()) + 1)
    by_picture = sum(_squares(values, column, size) for column in shown.T)
    by_both = sum(_squares(values, who * size + column, (int(who.max()) + 1) * size) for column in shown.T)
    if shown.shape[1] == 2:  # answers that share both pictures were counted twice
        pair = shown[:, 0] * size + shown[:, 1]
        by_picture = by_picture - _squares(values, pair, size * size)
        by_both = by_both - _squares(values, who * size * size + pair, (int(who.max()) + 1) * size * size)
    if people < 2:
        variance, groups = by_picture, pictures
    elif pictures < 2:
        variance, groups = by_person, people
    else:
        variance = np.maximum(by_person + by_picture - by_both, np.maximum(by_person, by_picture))
        groups = min(people, pictures)
    return np.sqrt(np.maximum(variance, 0.0) * groups / (groups - 1)), groups - 1


def interval(
    value: float,
    influence: ArrayLike,
    clusters: Clusters,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """The clustered interval of an estimate.

    Args:
        influence: shape (n,), the influence of each answer on the estimate.
        bounds: what the quantity can be at all; the interval is cut there.
    """
    people, pictures = clusters.counts
    found = Interval(float(value), level=level, answers=len(clusters), people=people, pictures=pictures)
    if not len(clusters) or not np.isfinite(value):
        return replace(found, notes=("There are no answers.",) if not len(clusters) else ())
    (se,), df = standard_errors(influence, clusters)
    notes = []
    if people < 2 and pictures < 2:
        return replace(found, notes=("One person and one picture: there is no interval.",))
    if people < 2:
        notes.append("One person answered: the interval is about pictures and says nothing about people.")
    elif pictures < 2:
        notes.append("One picture was shown: the interval is about people and says nothing about pictures.")
    elif min(people, pictures) < 10:
        notes.append(f"Only {people} people and {pictures} pictures: the interval is rough.")
    if se <= 1e-12 * max(1.0, abs(value)):
        notes.append("The answers do not differ, so their spread cannot be estimated.")
        return replace(found, se=0.0, df=df, notes=tuple(notes))
    reach = stats.t.ppf(0.5 + level / 2, df) * se
    low, high = np.clip([value - reach, value + reach], *bounds)
    return replace(found, low=float(low), high=float(high), se=float(se), df=df, notes=tuple(notes))


def mean(
    values: ArrayLike,
    clusters: Clusters,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """The mean of ``values``, shape (n,), with its clustered interval.

    >>> people, pictures = np.repeat(np.arange(20), 15), np.tile(np.arange(15), 20)
    >>> found = mean((people + pictures) % 5, Clusters.of(people, pictures))
    >>> found.value, found.df
    (2.0, 14)
    """
    y = np.asarray(values, np.float64)
    value = float(y.mean()) if len(y) else np.nan
    return interval(value, (y - value) / max(1, len(y)), clusters, level=level, bounds=bounds)


def proportion(hits: ArrayLike, clusters: Clusters, *, level: float = LEVEL) -> Interval:
    """The share of ones in ``hits``, shape (n,), with its clustered interval.

    If all answers are the same, the interval is the exact binomial one (Clopper and Pearson, 1934) of
    min(people, pictures) independent answers, which is cautious, and a note says so.

    >>> found = proportion(np.ones(60), Clusters.of(np.repeat(np.arange(12), 5), np.tile(np.arange(5), 12)))
    >>> round(found.low, 3), found.high
    (0.478, 1.0)
    """
    y = np.asarray(hits, np.float64)
    found = mean(y, clusters, level=level, bounds=(0.0, 1.0))
    if len(y) and found.se == 0.0:
        independent = max(1, min(count for count in clusters.counts if count > 1))
        low, high = exact_interval(round(found.value) * independent, independent, level)
        word = "right" if found.value > 0.5 else "wrong"
        notes = (
            *found.notes[:-1],
            f"All answers are {word}: the interval is the exact one of {independent} independent answers, "
            "which is cautious.",
        )
        found = replace(found, low=low, high=high, notes=notes)
    return found


def difference(
    values: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters,
    *,
    weights: tuple[float, float] = (1.0, -1.0),
    level: float = LEVEL,
) -> Interval:
    """The mean of the answers marked in ``first`` minus that of those in ``second``.

    Args:
        values: shape (n,).
        first, second: shape (n,), truth values. People and pictures may be in both.
        weights: of the two means; (0.5, 0.5) gives their average instead.
    """
    y = np.asarray(values, np.float64)
    one, two = np.asarray(first, bool), np.asarray(second, bool)
    if not one.any() or not two.any():
        return Interval(np.nan, level=level, notes=("One of the two groups has no answers.",))
    a, b = y[one].mean(), y[two].mean()
    influence = weights[0] * one * (y - a) / one.sum() + weights[1] * two * (y - b) / two.sum()
    rows = one | two
    value = float(weights[0] * a + weights[1] * b)
    found = interval(value, influence[rows], clusters[rows], level=level)
    # The scarcer group limits what is known: people of one group, or pictures of one source.
    people, pictures = (min(pair) for pair in zip(clusters[one].counts, clusters[two].counts, strict=True))
    df = min(people, pictures) - 1
    if not found.known or df < 1:
        note = "A group has only one person or one picture: there is no interval."
        return replace(found, low=np.nan, high=np.nan, notes=found.notes if not found.known else (note,))
    reach = stats.t.ppf(0.5 + level / 2, df) * found.se
    return replace(
        found, low=found.value - reach, high=found.value + reach, df=df, people=people, pictures=pictures
    )


def p_value(found: Interval, null: float) -> float:
    """Two-sided p of the clustered t test against ``null``; NaN if there is no standard error."""
    if not found.se > 0 or found.df < 1:
        return float("nan")
    return float(2 * stats.t.sf(abs(found.value - null) / found.se, found.df))


@dataclass(frozen=True)
class Equivalence:
    """The result of two one-sided tests (Schuirmann, 1987) on a clustered interval.

    Attributes:
        centre, margin: the value that is tested and how far from it still counts as the same.
        p: the larger of the two one-sided p values.
        narrow: the interval at level 1 - 2 * alpha; equivalent means that it lies within the margin.
        provable: the smallest margin that these answers would have proven.
        verdict: in words.
    """

    centre: float
    margin: float
    p: float
    narrow: Interval
    provable: float
    verdict: Verdict


def equivalence(found: Interval, centre: float, margin: float, alpha: float = 0.05) -> Equivalence:
    """Whether ``found`` lies within ``centre ± margin``.

    That a difference is not significant does not show that there is none. This test shows it, or says that
    the answers are too few.

    >>> Clusters.of([0], [0]).counts
    (1, 1)
    >>> found = Interval(0.51, 0.49, 0.53, 0.01, 30, answers=4000, people=50, pictures=31)
    >>> equivalence(found, 0.5, 0.05).verdict, equivalence(found, 0.5, 0.02).verdict
    ('equivalent', 'undecided')
    """
    level = 1 - 2 * alpha
    if found.se > 0 and found.df >= 1:
        reach = stats.t.ppf(1 - alpha, found.df) * found.se
        narrow = replace(found, low=found.value - reach, high=found.value + reach, level=level)
        away = abs(found.value - centre)
        p = float(stats.t.sf((margin - away) / found.se, found.df))
        differs = p_value(found, centre) < alpha
    else:
        # Without a spread the wide interval is all there is; it serves for both questions.
        narrow, p = found, float("nan")
        differs = found.known and not found.low <= centre <= found.high
    if not narrow.known:
        return Equivalence(centre, margin, p, narrow, float("nan"), "undecided")
    provable = max(abs(narrow.low - centre), abs(narrow.high - centre))
    within = provable < margin
    verdict: Verdict = (
        ("different but within the margin" if differs else "equivalent")
        if within
        else ("different" if differs else "undecided")
    )
    return Equivalence(centre, margin, p, narrow, provable, verdict)


def exact_interval(hits: int, answers: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact binomial interval of Clopper and Pearson (1934), for independent answers.

    >>> low, high = exact_interval(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.555, 0.997)
    """
    alpha = 1 - level
    low = 0.0 if hits == 0 else float(stats.beta.ppf(alpha / 2, hits, answers - hits + 1))
    high = 1.0 if hits == answers else float(stats.beta.ppf(1 - alpha / 2, hits + 1, answers - hits))
    return low, high


def wilson(hits: ArrayLike, answers: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's interval (1927) for one picture or one person, whose answers are taken as independent.

    Args:
        hits, answers: the same shape.

    Returns:
        Low and high, of that shape; NaN where there are no answers.
    """
    n = np.asarray(answers, np.float64)
    z = stats.norm.ppf(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.asarray(hits, np.float64) / n
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        reach = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - reach, centre + reach


@dataclass(frozen=True)
class ExactTest:
    """An exact test that nobody can tell at all.

    Attributes:
        name: of the test, in words.
        hits, answers: right answers (or hits) and all answers.
        expected: right answers expected if nobody can tell.
        p: two-sided.
    """

    name: str
    hits: int
    answers: int
    expected: float
    p: float


def exact_guessing(correct: ArrayLike, chance: float = 0.5) -> ExactTest:
    """The exact binomial test that all answers are independent guesses.

    It is the test that most papers report. Where right answers are spread evenly over the sides, as they are
    here, `exact_labels` is the exact one.

    >>> round(exact_guessing([1] * 9 + [0]).p, 4)
    0.0215
    """
    y = np.asarray(correct)
    hits, n = int(y.sum()), len(y)
    p = float(stats.binomtest(hits, n, chance).pvalue) if n else float("nan")
    return ExactTest("exact binomial test", hits, n, n * chance, p)


def exact_labels(says_real: ArrayLike, is_real: ArrayLike, people: ArrayLike) -> ExactTest:
    """The exact test that answers have nothing to do with what is shown.

    Which trials show what is drawn at random for each person. How often each person gives which answer is
    kept, so that a leaning towards one answer or one side does no harm. Given that, the number of hits of a
    person is hypergeometric, and the sum over people has an exact distribution (Zelen, 1971: the exact test
    in stratified 2 × 2 tables).

    Args:
        says_real, is_real: shape (n,), 0 or 1. For two pictures: says left, is left.
        people: shape (n,), identifiers.

    >>> round(exact_labels([1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], ["a"] * 8).p, 4)
    0.0286
    """
    said, real = np.asarray(says_real, bool), np.asarray(is_real, bool)
    _, who = np.unique(np.asarray(people), return_inverse=True)
    persons = int(who.max()) + 1 if len(who) else 0
    answers, reals, saids = (np.bincount(who[rows], minlength=persons) for rows in (real | True, real, said))
    hits, expected = int((said & real).sum()), float((reals * saids / np.maximum(answers, 1)).sum())
    # Persons with the same numbers have the same distribution; the sum over all is their convolution.
    distribution = np.ones(1)
    kinds, counts = np.unique(np.stack([answers, reals, saids], 1), axis=0, return_counts=True)
    for (n, ones, says), count in zip(kinds.tolist(), counts.tolist(), strict=True):
        law = stats.hypergeom(n, ones, says).pmf(np.arange(min(ones, says) + 1))
        for _ in range(count):
            distribution = np.convolve(distribution, law)
    p = float("nan")
    if len(who):
        p = float(min(1.0, distribution[distribution <= distribution[hits] * (1 + 1e-7)].sum()))
    return ExactTest("exact test within people (Zelen)", hits, len(said), expected, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number by Holm's method (1979); NaN stays NaN and is not counted.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [float("nan")] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if np.isfinite(p))
    largest = 0.0
    for place, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - place)))
        adjusted[i] = largest
    return adjusted


def trend(values: ArrayLike, over: ArrayLike, clusters: Clusters, *, level: float = LEVEL) -> Interval:
    """The slope of the least-squares line of ``values`` over ``over``, both of shape (n,)."""
    y, x = np.asarray(values, np.float64), np.asarray(over, np.float64)
    if len(np.unique(x)) < 2:
        return Interval(np.nan, level=level, notes=("There is only one value to draw a line over.",))
    centred = x - x.mean()
    total = float(centred @ centred)
    slope = float(centred @ y) / total
    residual = y - y.mean() - slope * centred
    return interval(slope, centred * residual / total, clusters, level=level)


@dataclass(frozen=True)
class Spread:
    """How much people or pictures differ beyond what guessing explains.

    Attributes:
        sd: standard deviation of the true share between groups (people or pictures); 0 if not visible.
        p: of the test that they do not differ at all; NaN if it cannot be tested.
        groups: how many.
    """

    sd: float
    p: float
    groups: int


def between(hits: ArrayLike, answers: ArrayLike) -> Spread:
    """How much shares differ between groups: moments of the beta-binomial, and Pearson's chi-square.

    Args:
        hits, answers: shape (groups,).
    """
    x, n = np.asarray(hits, np.float64), np.asarray(answers, np.float64)
    x, n = x[n > 0], n[n > 0]
    groups = len(n)
    if groups < 2 or x.sum() in (0, n.sum()):
        return Spread(float("nan") if groups < 2 else 0.0, float("nan"), groups)
    share = x.sum() / n.sum()
    chi = float(((x - n * share) ** 2 / (n * share * (1 - share))).sum())
    # E[chi] = (groups - 1) without differences; with them it grows by sd² * sum of (n - n/N...) / (pq).
    weight = float((n * (1 - n / n.sum())).sum())
    noise = share * (1 - share)
    variance = (chi - (groups - 1)) * noise / max(weight - (groups - 1), 1e-9) if n.max() > 1 else np.nan
    return Spread(
        float(np.sqrt(min(max(variance, 0.0), noise))), float(stats.chi2.sf(chi, groups - 1)), groups
    )
