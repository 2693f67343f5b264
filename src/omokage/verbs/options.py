"""Options and checks that several verbs of the command line share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from ..errors import UserError

if TYPE_CHECKING:
    from ..progress import TerminalProgress
    from ..snapshot import Model

MAX_SEEDS = 1_000_000


def within(low: float, high: float) -> Callable[[float | None], float | None]:
    """A check that names the value got and what is allowed; NaN is outside of every range."""

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"got {value:g}, allowed is {low:,} to {high:,}")
        return value

    return check


def each_within(low: float, high: float) -> Callable[[list[float] | None], list[float] | None]:
    """The check `within` for an option that may be given several times."""

    def check(values: list[float] | None) -> list[float] | None:
        for value in values or []:
            within(low, high)(value)
        return values

    return check


class SeveralPsi(TyperCommand):
    """A verb whose option ``--psi`` takes as many numbers as follow it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--psi 1 0.5`` as ``--psi 1 --psi 0.5``."""
        return super().parse_args(ctx, repeated(args, "--psi"))


def repeated(arguments: Sequence[str], option: str) -> list[str]:
    """The arguments with ``option`` before each of the numbers that follow it.

    >>> repeated(["run", "--psi", "1", "-0.5", "-n", "8"], "--psi")
    ['run', '--psi', '1', '--psi', '-0.5', '-n', '8']
    """
    found: list[str] = []
    following = 0  # how many numbers of the option came just before; 0: none
    for argument in arguments:
        if following > 1 and _is_number(argument):
            found.append(option)
        found.append(argument)
        if argument == option:
            following = 1
        elif argument.startswith(f"{option}=") or (following and _is_number(argument)):
            following = 2
        else:
            following = 0
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_psi(model: "Model", psi: float) -> None:
    """UserError for ``psi`` below 0 where a model has no styles, whose average could be passed."""
    from ..families import MODELS

    name = model.recipe.model["name"]
    if psi < 0 and "style" not in MODELS[name].can:
        able = ", ".join(known for known, row in MODELS.items() if "style" in row.can)
        raise UserError(f"--psi {psi:g}: {name} has no styles, so 0 to 2 is allowed; below 0 go {able}")


def check_temperature(model: "Model") -> None:
    """UserError where a model is no flow: only those draw by temperature."""
    from ..families import MODELS

    name = model.recipe.model["name"]
    if "log_prob" not in MODELS[name].can:
        able = ", ".join(known for known, row in MODELS.items() if "log_prob" in row.can)
        raise UserError(f"--temperature: {name} draws by none, these do: {able}; with {name}, --psi")


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


def tell_finite(model: "Model", number: int, broken: list[int]) -> None:
    """Say which of ``number`` images are not finite; of a flow, whose inverse can overflow, also if none."""
    from ..families import MODELS

    if not broken and "log_prob" in MODELS[model.recipe.model["name"]].can:
        print(f"all {number:,} images are finite")
    tell_broken(f"of {number:,} images are", "seeds", broken)
