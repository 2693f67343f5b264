"""The area under a receiver operating characteristic, with a confidence interval."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

CONFIDENT = 1.959964  # standard normal deviations of a two-sided 95% interval


class RocArea(NamedTuple):
    """The probability that a bad one scores above a good one (a tie counts half), and its 95% interval."""

    value: float
    interval: tuple[float, float]
    bad: int
    good: int


def roc_area(bad: np.ndarray, good: np.ndarray) -> RocArea:
    """Area under the ROC curve: ``bad`` (m,) are scores of what should be found, ``good`` (n,) of the rest.

    The area is the Mann-Whitney statistic. The interval is method 5 of Newcombe 2006 ("Confidence intervals
    for an effect size measure based on the Mann-Whitney statistic", part 2). It stays within 0 and 1, and its
    width is not zero even if the two sides do not overlap. Infinite scores are the highest.

    >>> roc_area(np.array([3.0, 4.0]), np.array([1.0, 2.0, 3.0])).value
    0.9166666666666666

    Raises:
        ValueError: a side has no scores, or a score is NaN.
    """
    m, n = len(bad), len(good)
    if not m or not n or np.isnan(bad).any() or np.isnan(good).any():
        raise ValueError("scores are needed on both sides, none of them NaN")
    ranks = rankdata(np.concatenate([bad, good]))
    area = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    return RocArea(area, (_bound(area, m, n, 0.0), _bound(area, m, n, 1.0)), m, n)


def _bound(area: float, m: int, n: int, end: float) -> float:
    """The value between ``area`` and ``end`` at which ``area`` is `CONFIDENT` standard deviations away."""

    def too_far(value: float) -> bool:
        more = (m + n) / 2 - 1
        spread = 1 + more * (1 - value) / (2 - value) + more * value / (1 + value)
        return (value - area) ** 2 > CONFIDENT**2 * value * (1 - value) * spread / (m * n)

    near, far = area, end
    for _ in range(60):
        middle = (near + far) / 2
        near, far = (near, middle) if too_far(middle) else (middle, far)
    return (near + far) / 2
