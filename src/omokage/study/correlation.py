"""Do metrics rank the runs as people do? Correlation of people's judgement with FID and others, over runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .statistics import LEVEL

Floats = NDArray[np.float64]

LOWER_IS_BETTER = ("fid", "kid", "neighbour", "bits", "loss", "lpips")
"""A metric whose name has one of these in it is better when lower; for all others higher is better."""

ENOUGH = 5
"""With fewer runs no metric is named: a perfect order of four arises by chance in 1 of 24 cases."""


@dataclass(frozen=True)
class Agreement:
    """How well a metric agrees with people; 1: the same order and spacing, -1: the opposite.

    Attributes:
        metric: its name.
        lower_is_better: how it was read.
        runs: how many runs have it.
        r, low, high: Pearson's correlation with Fisher's interval over runs; NaN with fewer than 4 runs.
        rho, p: Spearman's rank correlation and its exact two-sided p value.
        people: the range of r if other people had been asked (bootstrap over persons), low and high.
        leads: the share of these resamples in which this metric agrees best.
    """

    metric: str
    lower_is_better: bool
    runs: int
    r: float
    low: float
    high: float
    rho: float
    p: float
    people: tuple[float, float]
    leads: float


@dataclass(frozen=True)
class Correlation:
    """All metrics, the one that agrees best first.

    Attributes:
        rows: one for each metric.
        runs: names of the runs.
        judged: the judgement of people on each run; higher: taken for better.
        best: the name of the metric that agrees best, or None if that cannot be told.
        sentence: what can be said, in words.
        values: metric to its values, in the order of ``runs``; NaN: missing.
    """

    rows: list[Agreement]
    runs: list[str]
    judged: list[float]
    best: str | None
    sentence: str
    values: dict[str, list[float]]


def lower_is_better(metric: str) -> bool:
    """Whether a metric of this name is better when lower.

    >>> lower_is_better("FID"), lower_is_better("recall")
    (True, False)
    """
    return any(word in metric.lower() for word in LOWER_IS_BETTER)


def exact_rank_test(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Spearman's correlation and its exact two-sided p; two values have none.

    With more than 8 values p is approximate.

    >>> rho, p = exact_rank_test([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    >>> round(rho, 6), round(p * 120)
    (1.0, 2)
    """
    a, b = (stats.rankdata(values) for values in (x, y))
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan")
    rho = float(np.corrcoef(a, b)[0, 1])
    if len(a) > 8:
        return rho, float(stats.spearmanr(a, b).pvalue)
    b = b - b.mean()
    orders = np.array(list(permutations(a - a.mean())))
    seen = np.abs(orders @ b)
    return rho, float((seen >= abs((a - a.mean()) @ b) - 1e-9).sum() / factorial(len(a)))


def pearson(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> tuple[float, float, float]:
    """Pearson's correlation with the interval of Fisher's z; no interval with fewer than 4 values.

    Two values always lie on a line, so they have no correlation here.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan"), float("nan")
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    if len(a) < 4 or abs(r) >= 1 - 1e-12:
        return r, float("nan"), float("nan")
    reach = float(stats.norm.ppf(0.5 + level / 2)) / np.sqrt(len(a) - 3)
    return r, float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach))


def correlate(
    judged: Mapping[str, float],
    metrics: Mapping[str, Mapping[str, float]],
    resampled: Mapping[str, ArrayLike] | None = None,
    *,
    level: float = LEVEL,
) -> Correlation | None:
    """Compare people's judgement of runs with metrics.

    Args:
        judged: for each run how good people found it, like the share of its faces taken for real.
        metrics: for each run its metrics.
        resampled: for each run the same judgement in bootstrap resamples of persons.

    Returns:
        None if no metric is known for two of the runs.
    """
    runs = [name for name, value in judged.items() if np.isfinite(value)]
    names = sorted({metric for run in runs for metric in metrics.get(run, {})})
    rows, boots, values = [], [], {}
    for metric in names:
        found = [_number(metrics.get(run, {}).get(metric)) for run in runs]
        have = [i for i, value in enumerate(found) if np.isfinite(value)]
        if len(have) < 2:
            continue
        lower = lower_is_better(metric)
        x = np.array([found[i] for i in have]) * (-1 if lower else 1)
        y = np.array([judged[runs[i]] for i in have])
        r, low, high = pearson(x, y, level)
        rho, p = exact_rank_test(x, y)
        boot = np.zeros(0)
        if resampled is not None and len(have) > 2:
            draws = np.column_stack([np.asarray(resampled[runs[i]], np.float64) for i in have])
            boot = _correlations(x, draws)
        usable = boot[np.isfinite(boot)]
        ends = (
            tuple(float(end) for end in np.quantile(usable, [0.5 - level / 2, 0.5 + level / 2]))
            if len(usable) > 1
            else (float("nan"),) * 2
        )
        nobody = float("nan")
        rows.append(Agreement(metric, lower, len(have), r, low, high, rho, p, (ends[0], ends[1]), nobody))
        boots.append(boot)
        values[metric] = found
    if not rows:
        return None
    if len({len(boot) for boot in boots}) == 1 and len(boots[0]):
        together = np.nan_to_num(np.column_stack(boots), nan=-2.0).round(9)
        ahead = together == together.max(1, keepdims=True)  # a tie counts for each by its part
        leads = (ahead / ahead.sum(1, keepdims=True)).mean(0)
        rows = [replace(row, leads=float(share)) for row, share in zip(rows, leads, strict=True)]
    rows.sort(key=lambda row: -row.r if np.isfinite(row.r) else 2.0)
    best, sentence = _verdict(rows, level)
    return Correlation(rows, runs, [judged[run] for run in runs], best, sentence, values)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _correlations(x: Floats, draws: Floats) -> Floats:
    """Pearson's correlation of x, shape (m,), with each row of draws, shape (b, m)."""
    a = x - x.mean()
    b = draws - draws.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = b @ a / np.sqrt((a @ a) * (b * b).sum(1))
    return found


def _verdict(rows: Sequence[Agreement], level: float) -> tuple[str | None, str]:
    first = rows[0]
    most = max(row.runs for row in rows)
    if most < ENOUGH:
        chance = 2 / factorial(most)
        why = (
            "Two runs are always in the same or in the opposite order"
            if most == 2
            else f"With so few, the very same order or its opposite arises by chance in {chance:.0%} of cases"
        )
        return None, (
            f"Only {most} runs have metrics. {why}. So no metric can be named as the one that agrees with "
            f"people best; this needs {ENOUGH} runs or more."
        )
    if not np.isfinite(first.r) or first.r <= 0:
        return None, "No metric agrees with people: none has a correlation above 0."
    ends = f"{level:.0%} interval {first.low:.2f} to {first.high:.2f}".replace("-", "−")
    interval = ends if np.isfinite(first.low) else "no interval"
    sentence = (
        f"{first.metric} agrees with people best over {first.runs} runs: r = {first.r:.2f} ({interval}), "
        f"rank correlation {first.rho:.2f} (exact p = {first.p:.3f})."
    )
    if np.isfinite(first.low) and first.low <= 0:
        sentence += " The interval takes in 0, so even this agreement may be chance."
    if len(rows) > 1 and np.isfinite(first.leads):
        sentence += (
            f" If other people had been asked, it would lead the {len(rows)} metrics in {first.leads:.0%} of "
            "cases."
        )
    return first.metric, sentence
