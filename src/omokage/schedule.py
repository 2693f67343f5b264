"""Values that change with the images seen."""

from bisect import bisect_right
from collections.abc import Sequence

from .errors import UserError

# A constant, or points [kimg, value] with straight lines between them.
Schedule = float | Sequence[Sequence[float]]


def check_schedule(schedule: Schedule, where: str) -> None:
    """UserError unless it is a finite number of 0 or more, or points with rising kimg."""
    points = [(0.0, schedule)] if isinstance(schedule, int | float) else schedule
    try:
        kimgs, values = zip(*((float(kimg), float(value)) for kimg, value in points), strict=True)
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: got {schedule!r}; write a number or points like [[0, 2e-4], [500, 1e-4]]"
        ) from None
    if not all(0 <= value < float("inf") for value in (*kimgs, *values)) or list(kimgs) != sorted(set(kimgs)):
        raise UserError(f"{where}: got {schedule!r}; values must be 0 or more and kimg must rise")


def value_at(schedule: Schedule, images: int) -> float:
    """The schedule's value after ``images`` images.

    >>> value_at(2e-4, 10_000)
    0.0002
    >>> value_at([[0, 1.0], [10, 0.0]], 5_000)
    0.5
    """
    if isinstance(schedule, int | float):
        return float(schedule)
    kimg = images / 1000
    after = bisect_right([point[0] for point in schedule], kimg)
    if after == 0 or after == len(schedule):
        return float(schedule[min(after, len(schedule) - 1)][1])
    (k0, v0), (k1, v1) = schedule[after - 1], schedule[after]
    return v0 + (v1 - v0) * (kimg - k0) / (k1 - k0)
