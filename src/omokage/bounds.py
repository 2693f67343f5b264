"""Types for settings, with their allowed ranges.

Models and objectives use them in their signatures, and `recipe` checks the values of a recipe against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Len, Lt, Predicate

Count = Annotated[int, Ge(1)]
"""A number or size: a whole number of 1 or more."""

CountOrNone = Annotated[int, Ge(0)]
"""A whole number of 0 or more; 0 usually means none."""

Counts = Annotated[Sequence[Count], Len(1)]
"""One or more whole numbers of 1 or more."""

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]

Share = Annotated[float, Ge(0), Le(1)]
"""A share of a whole: 0 to 1."""

ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
"""A share below 1, for dropout and for the decay of a moving mean."""

@dataclass(frozen=True)
class Allowed:
    """The allowed values in words, for types that do not say it clearly."""

    words: str


Channels = Annotated[int, Predicate(lambda number: number in (1, 3)), Allowed("1 (grey) or 3 (colours)")]
"""Channels of an image."""
