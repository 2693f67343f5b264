"""Options and checks that several verbs of the command line share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from ..errors import UserError

if TYPE_CHECKING:
    from ..progress import TerminalProgress

MAX_SEEDS = 1_000_000


def within(low: float, high: float) -> Callable[[float | None], float | None]:
    """A check that names the value got and what is allowed; NaN is outside of every range."""

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"got {value:g}, allowed is {low:,} to {high:,}")
        return value

    return check


WORKERS = typer.Option(callback=within(1, 1024), help="Processes; default: one a core.")


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``0-63,100,200-210``: single numbers and inclusive ranges, in the order given.

    Raises UserError for anything else, for a range that runs backwards and for more than a million seeds.

    >>> parse_seeds("0-3,17,8-9")
    [0, 1, 2, 3, 17, 8, 9]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            raise UserError(
                f"--seeds: {part.strip()!r} is neither a number nor a range; write it like 0-63,100,200-210"
            )
        low, high = int(first), int(last or first)
        if high >= 2**63:
            raise UserError(f"--seeds: {high} is too large; seeds are below 2**63")
        if high < low:
            raise UserError(f"--seeds: {part.strip()!r} runs backwards; write {high}-{low}")
        if len(seeds) + high - low + 1 > MAX_SEEDS:
            raise UserError(f"--seeds: more than {MAX_SEEDS:,} seeds; ask for them in several calls")
        seeds.extend(range(low, high + 1))
    return seeds


def parse_conditions(pairs: Sequence[str], **short: str | None) -> dict[str, str]:
    """Conditions by name from ``NAME=VALUE`` and from options that are called like them.

    Raises UserError for anything else, and for two values of one condition.

    >>> parse_conditions(["mouth=open"], hair="blue", eyes=None)
    {'hair': 'blue', 'mouth': 'open'}
    """
    given = {name: value for name, value in short.items() if value is not None}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise UserError(f"--condition: {pair!r} is not NAME=VALUE, for example hair=blue")
        if given.setdefault(name, value) != value:
            raise UserError(f"--condition: {name} is {given[name]} and {value} at once; give one of them")
    return given


def progress() -> "TerminalProgress":
    """Bars on the terminal."""
    from ..progress import TerminalProgress

    return TerminalProgress()


def tell_broken(of_what: str, named: str, broken: list[int]) -> None:
    """Say which images are not finite, if any; their pixels are shown black."""
    if broken:
        from ..explore.pictures import seed_ranges

        told = f"{len(broken):,} {of_what} not finite and shown black: {named} {seed_ranges(broken)}"
        typer.echo(told if len(told) < 300 else told[:299] + "…", err=True)
