"""Types of settings that say what a setting may be.

A constructor or an objective writes them in its signature; `recipe` checks what a recipe gives against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Len, Lt, Predicate

Count = Annotated[int, Ge(1)]
"""How many there are of something, or how large it is: 1 or more."""

CountOrNone = Annotated[int, Ge(0)]
"""The same where 0 has a meaning, mostly that there is none."""

Counts = Annotated[Sequence[Count], Len(1)]
"""One or more of them."""

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]

Share = Annotated[float, Ge(0), Le(1)]
"""Of a whole: 0 to 1."""

ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
"""Of what is dropped, of what a moving mean keeps: never all of it."""

@dataclass(frozen=True)
class Allowed:
    """What a setting may be, in words, where its type says it badly."""

    words: str


Channels = Annotated[int, Predicate(lambda number: number in (1, 3)), Allowed("1 (grey) or 3 (colours)")]
"""Of an image."""
