"""Options and checks that several verbs of the command line share."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..settings import OFFERED, TEMPERATURE, TRUNCATION, Setting, Settings

if TYPE_CHECKING:
    from ..model import Model
    from ..progress import TerminalProgress

MAX_SEEDS = 1_000_000


def within(low: float, high: float) -> Callable[[float | None], float | None]:
    """A check of a range. Its error names the value and the range; NaN is outside of every range."""

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


@dataclass(frozen=True)
class Chosen:
    """The chosen options of sampling.

    Attributes:
        each: settings, one for each psi; at least one.
        temperature: whether psi was given as a temperature, which only flows have.
    """

    each: list[Settings]
    temperature: bool

    def check(self, model: "Model") -> "Chosen":
        """Raise `UserError` if the model cannot be sampled with these settings."""
        from ..abilities import HasDensity
        from ..families import able

        for settings in self.each:
            model.check(settings)
        if self.temperature and not model.can(HasDensity):
            name = model.recipe.model["name"]
            raise UserError(
                f"--temperature: {name} has none, these do: {able(HasDensity)}; with {name}, use --psi"
            )
        return self


def sampling_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace a verb's parameter ``chosen`` by the options of sampling, from `omokage.settings.OFFERED`.

    The options take the place of ``chosen`` in the signature.
    """
    signature = inspect.signature(verb)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name == "chosen":
            parameters += [_option(setting) for setting in OFFERED] + _CONDITIONS
        else:
            parameters.append(parameter)

    @wraps(verb)
    def called(**given: Any) -> None:
        options = {_parameter_name(setting): given.pop(_parameter_name(setting)) for setting in OFFERED}
        psis, temperature = options.pop("psi"), options.pop("temperature")
        if temperature is not None:
            if psis:
                raise UserError("--temperature and --psi are the same for a flow; give one of them")
            psis = [temperature]
        hair, eyes, pairs = given.pop("hair"), given.pop("eyes"), given.pop("condition")
        conditions = parse_conditions(pairs or [], hair=hair, eyes=eyes)
        each = [Settings(psi=psi, conditions=conditions, **options) for psi in psis or [1.0]]
        verb(**given, chosen=Chosen(each, temperature is not None))

    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _parameter_name(setting: Setting) -> str:
    return setting.option.removeprefix("--").replace("-", "_")


def _option(setting: Setting) -> inspect.Parameter:
    kind: Any = type(setting.default)
    default: Any = setting.default
    text = setting.help
    check: Any = None
    if setting.choices:
        check = _one_of(setting)
    elif setting.low is not None and setting.high is not None:
        check = within(setting.low, setting.high)
    if setting is TRUNCATION:
        assert setting.low is not None
        assert setting.high is not None
        kind, default = list[float] | None, None
        check = each_within(setting.low, setting.high)
        text += " Several, like --psi 1,0.5,-0.5, write one folder each into the folder -o."
    elif setting is TEMPERATURE:
        kind, default = float | None, None
    option = typer.Option(setting.option, callback=check, help=text)
    return inspect.Parameter(
        _parameter_name(setting),
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=default,
        annotation=Annotated[kind, option],
    )


def _one_of(setting: Setting) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in setting.choices:
            raise typer.BadParameter(f"got {value}, allowed is {setting.allowed}")
        return value

    return check


_CONDITIONS = [
    inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation)
    for name, annotation in {
        "hair": Annotated[str | None, typer.Option(help="Short for --condition hair=...")],
        "eyes": Annotated[str | None, typer.Option(help="Short for --condition eyes=...")],
        "condition": Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME=VALUE", help="Only faces with this value of a condition trained with."
            ),
        ],
    }.items()
]

WORKERS = typer.Option(callback=within(1, 1024), help="Processes; default: one for each core.")


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
    """Conditions by name, from ``NAME=VALUE`` and from options that have the name of a condition.

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


def default_out(given: Path | None, name: str, *beside: str) -> Path:
    """``given``, which may be overwritten; without it, ``name`` or the next free name, with a message.

    ``beside`` are suffixes of files that are written beside it and must be free too.
    """
    if given is not None:
        return given
    return free_path(Path(name), *beside, hint=f"-o {name} overwrites it")


def free_path(wanted: Path, *beside: str, hint: str = "") -> Path:
    """``wanted`` if nothing has that name yet; otherwise the next free name, with a message.

    ``beside`` is as in `default_out`; ``hint`` says how to overwrite the file anyway.
    """
    path, number = wanted, 1
    while any(path.with_suffix(suffix).exists() for suffix in (path.suffix, *beside)):
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    if path != wanted:
        typer.echo(f"{wanted} is there already and stays" + (f"; {hint}" if hint else ""), err=True)
    return path


def progress() -> "TerminalProgress":
    """Progress bars on the terminal."""
    from ..progress import TerminalProgress

    return TerminalProgress()


def tell_broken(of_what: str, named: str, broken: list[int]) -> None:
    """Say which images are not finite, if any; their pixels are black."""
    if broken:
        from ..sampling import seed_ranges

        told = f"{len(broken):,} {of_what} not finite and shown black: {named} {seed_ranges(broken)}"
        typer.echo(told if len(told) < 300 else told[:299] + "…", err=True)


def tell_finite(model: "Model", number: int, broken: list[int]) -> None:
    """Say which of ``number`` images are not finite. For a flow, whose inverse may overflow, also if none."""
    from ..abilities import HasDensity

    if not broken and model.can(HasDensity):
        print(f"all {number:,} images are finite")
    tell_broken(f"of {number:,} images are", "seeds", broken)


def tell_count(number: int) -> None:
    """Say how many faces of a figure are not finite, if any; their pixels are black."""
    if number:
        faces = "face is" if number == 1 else "faces are"
        typer.echo(f"{number:,} {faces} not finite and shown black", err=True)
