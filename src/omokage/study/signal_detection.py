"""Sensitivity and bias: d′ and c of signal detection theory, with clustered intervals.

Signal is "real". A hit is a real picture called real, a false alarm a generated picture called real. So d′ is
0 if people cannot tell, and below 0 if they take generated pictures for real more often than real ones.
Source: Macmillan and Creelman, 2005, *Detection Theory: A User's Guide*, chapters 1, 2 and 7; the log-linear
correction is that of Hautus (1995).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .statistics import LEVEL, Clusters, Interval, interval, proportion


def corrected_rate(hits: ArrayLike, answers: ArrayLike) -> NDArray[np.float64]:
    """The rate with the log-linear correction: half a hit more and one answer more; never 0 or 1.

    >>> corrected_rate([0, 10], [10, 10]).round(3).tolist()
    [0.045, 0.955]
    """
    return (np.asarray(hits, np.float64) + 0.5) / (np.asarray(answers, np.float64) + 1.0)


@dataclass(frozen=True)
class Sensitivity:
    """What signal detection says about a set of answers.

    Attributes:
        hit_rate, false_alarm_rate: uncorrected, with clustered intervals.
        d_prime: sensitivity; 0: cannot tell.
        bias: c; above 0: a leaning towards "generated" (for two pictures: towards the right side).
    """

    hit_rate: Interval
    false_alarm_rate: Interval
    d_prime: Interval
    bias: Interval


def sensitivity(
    says_signal: ArrayLike,
    is_signal: ArrayLike,
    clusters: Clusters,
    *,
    pictures: int = 1,
    level: float = LEVEL,
) -> Sensitivity:
    """d′ and c of all answers together, with clustered intervals by the delta method.

    Args:
        says_signal, is_signal: shape (n,), 0 or 1. For two pictures: says left, real is left.
        pictures: pictures in a trial. With two, d′ is divided by √2 (two-alternative forced choice).

    The rates of all answers together are corrected, not those of each person. d′ from rates taken together is
    somewhat smaller than the mean of the d′ of persons who differ.

    >>> says, real = np.array([1, 1, 1, 0, 1, 0, 0, 0]), np.array([1, 1, 1, 1, 0, 0, 0, 0])
    >>> found = sensitivity(says, real, Clusters.of([0, 0, 1, 1, 0, 0, 1, 1], range(8)))
    >>> round(found.d_prime.value, 3), round(found.bias.value, 3)
    (1.049, 0.0)
    """
    said, signal = np.asarray(says_signal, bool), np.asarray(is_signal, bool)
    hit_rate = proportion(said[signal], clusters[signal], level=level)
    false_alarm_rate = proportion(said[~signal], clusters[~signal], level=level)
    reals, others = int(signal.sum()), int((~signal).sum())
    if not reals or not others:
        note = "This needs answers about both real and generated pictures."
        unknown = Interval(np.nan, level=level, notes=(note,))
        return Sensitivity(hit_rate, false_alarm_rate, unknown, unknown)
    high = float(corrected_rate(said[signal].sum(), reals))
    low = float(corrected_rate(said[~signal].sum(), others))
    z_high, z_low = stats.norm.ppf(high), stats.norm.ppf(low)
    # The influence of an answer on z(rate) is its influence on the rate, over the normal density at z.
    on_high = signal * (said - said[signal].mean()) / (reals + 1.0) / stats.norm.pdf(z_high)
    on_low = ~signal * (said - said[~signal].mean()) / (others + 1.0) / stats.norm.pdf(z_low)
    scale = 1.0 if pictures == 1 else 1.0 / np.sqrt(2.0)
    d_prime = interval((z_high - z_low) * scale, (on_high - on_low) * scale, clusters, level=level)
    bias = interval(-(z_high + z_low) / 2, -(on_high + on_low) / 2, clusters, level=level)
    return Sensitivity(hit_rate, false_alarm_rate, d_prime, bias)


def d_prime_of_people(
    says_signal: ArrayLike, is_signal: ArrayLike, people: ArrayLike, *, pictures: int = 1
) -> tuple[list, NDArray[np.float64], NDArray[np.float64]]:
    """The people, and d′ and c of each from the person's own corrected rates.

    Returns:
        Identifiers in order, and two arrays of their length; NaN where a person saw only one kind.
    """
    said, signal = np.asarray(says_signal, bool), np.asarray(is_signal, bool)
    names, who = np.unique(np.asarray(people), return_inverse=True)
    count = len(names)

    def z(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        answers = np.bincount(who[rows], minlength=count)
        hits = np.bincount(who[rows & said], minlength=count)
        rate: NDArray[np.float64] = stats.norm.ppf(corrected_rate(hits, answers))
        return np.where(answers > 0, rate, np.nan)

    high, low = z(signal), z(~signal)
    scale = 1.0 if pictures == 1 else 1.0 / np.sqrt(2.0)
    return list(names), (high - low) * scale, -(high + low) / 2
