"""Schedules: values that change with the number of images seen."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import UserError

# A number (constant); points [kimg, value] with straight lines between them, where two points with the same
# kimg make a jump; or a table with the settings of CURVE. kimg: thousands of images seen.
Schedule = float | Sequence[Sequence[float]] | Mapping[str, float]

# A straight rise from 0, then half a cosine down. These are the defaults of its settings.
CURVE = {
    "peak": 0.0,  # the largest value; must be given
    "warm_up": 0.0,  # kimg at which the peak is reached
    "cosine": 0.0,  # kimg at which the last value is reached, counted from the start; 0: stay at the peak
    "last": 0.0,  # the last value
}


def check_schedule(schedule: Schedule, where: str) -> None:
    """UserError unless it is a finite number of 0 or more, points with rising kimg, or a curve."""
    if isinstance(schedule, Mapping):
        _check_curve(schedule, where)
        return
    points = [(0.0, schedule)] if isinstance(schedule, int | float) else schedule
    try:
        kimgs, values = zip(*((float(kimg), float(value)) for kimg, value in points), strict=True)
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: got {schedule!r}; write a number, points like [[0, 2e-4], [500, 1e-4]] or a curve "
            "like { peak = 2e-4, warm_up = 10, cosine = 500 }"
        ) from None
    if not all(0 <= value < float("inf") for value in (*kimgs, *values)) or not _rising(kimgs):
        raise UserError(
            f"{where}: got {schedule!r}; values must be 0 or more and kimg must rise (twice the same: a jump)"
        )


def _rising(kimgs: Sequence[float]) -> bool:
    """Whether kimg rises. A kimg above 0 may occur twice: there the value jumps."""
    each_twice_at_most = all(kimgs.count(kimg) <= (2 if kimg > 0 else 1) for kimg in set(kimgs))
    return list(kimgs) == sorted(kimgs) and each_twice_at_most


def _check_curve(curve: Mapping[str, float], where: str) -> None:
    unknown = [key for key in curve if key not in CURVE]
    if unknown or "peak" not in curve:
        wrong = f"no setting {unknown[0]!r} in a curve" if unknown else "a curve needs its peak"
        raise UserError(f"{where}: {wrong}; there are {', '.join(CURVE)}")
    for key, value in curve.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UserError(f"{where}.{key}: got {value!r}, must be a number of 0 or more")
    if curve.get("cosine") and curve["cosine"] <= curve.get("warm_up", 0):
        raise UserError(f"{where}.cosine: got {curve['cosine']}, must be above warm_up")


def value_at(schedule: Schedule, images: int) -> float:
    """The schedule's value after ``images`` images.

    >>> value_at(2e-4, 10_000)
    0.0002
    >>> value_at([[0, 1.0], [10, 0.0]], 5_000)
    0.5
    >>> [value_at([[0, 1.0], [10, 1.0], [10, 3.0]], images) for images in (9_999, 10_000)]
    [1.0, 3.0]
    >>> curve = {"peak": 2.0, "warm_up": 10, "cosine": 110, "last": 1.0}
    >>> [round(value_at(curve, 1000 * kimg), 3) for kimg in (0, 5, 10, 35, 60, 110, 500)]
    [0.0, 1.0, 2.0, 1.854, 1.5, 1.0, 1.0]
    """
    kimg = images / 1000
    if isinstance(schedule, int | float):
        return float(schedule)
    if isinstance(schedule, Mapping):
        peak, warm_up, cosine, last = (float(schedule.get(key, default)) for key, default in CURVE.items())
        if kimg < warm_up:
            return peak * kimg / warm_up
        if not cosine:
            return peak
        share = min(1.0, (kimg - warm_up) / (cosine - warm_up))
        return last + (peak - last) * (1 + math.cos(math.pi * share)) / 2
    after = bisect_right([point[0] for point in schedule], kimg)
    if after == 0 or after == len(schedule):
        return float(schedule[min(after, len(schedule) - 1)][1])
    (k0, v0), (k1, v1) = schedule[after - 1], schedule[after]
    return v0 + (v1 - v0) * (kimg - k0) / (k1 - k0)


def largest(schedule: Schedule) -> float:
    """The largest value that a schedule takes.

    >>> largest(0.9), largest([[0, 0.9], [5, 0.99]]), largest({"peak": 0.9, "cosine": 5, "last": 0.99})
    (0.9, 0.99, 0.99)
    """
    if isinstance(schedule, int | float):
        return float(schedule)
    if isinstance(schedule, Mapping):
        return max(schedule["peak"], schedule.get("last", 0.0))
    return max(value for _, value in schedule)


# Images per step: a whole number, or points [kimg, images] as in a schedule.
Batch = int | Sequence[Sequence[float]]


def check_batch(batch: Any, where: str) -> None:
    """UserError unless it is a whole number of at least 1, or points of them."""
    if isinstance(batch, list):
        check_schedule(batch, where)
        numbers = [value for _, value in batch]
    elif type(batch) is int:
        numbers = [batch]
    else:
        raise UserError(
            f"{where}: got {batch!r}, must be a whole number, or points like [[0, 64], [500, 64], [500, 32]]"
        )
    for number in numbers:
        if number < 1 or number != int(number):
            raise UserError(f"{where}: got {batch!r}, must be whole numbers of at least 1")


def batch_at(batch: Batch, images: int, processes: int = 1) -> int:
    """Batch size, over all processes, of the step that starts after ``images`` images.

    A value between two points is rounded to a multiple of ``processes``; a plain number is not changed.

    >>> batch_at(48, 0), [batch_at([[0, 16], [1, 16], [1, 8]], images) for images in (999, 1_000)]
    (48, [16, 8])
    >>> batch_at([[0, 8], [10, 16]], 4_000, processes=4)
    12
    """
    if isinstance(batch, int):
        return batch
    return max(1, round(value_at(batch, images) / processes)) * processes
