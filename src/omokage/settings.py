"""How to sample: one frozen value, and what each setting of it means.

A family names the settings that it has in its row of `omokage.families.MODELS`. The options of the command
line, ``omokage recipes NAME``, the text in PNG files and the controls of a page follow from that. To add a
setting: a field of `Settings`, a `Setting` that describes it, its name in the rows of the families that have
it, and what `omokage.model.Model` does with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from .errors import UserError

Noises = str | Sequence[str]  # "constant", "random" or "none": for all layers, or a list with one for each


@dataclass(frozen=True)
class Setting:
    """One thing that can be chosen when a model draws.

    Attributes:
        name: the field of `Settings`.
        option: its name on the command line.
        help: one sentence.
        default: what it is when nobody chooses.
        low, high: the range allowed; None where it is chosen from ``choices``.
        choices: the values allowed; empty: a range.
        told: what text chunks call it.
    """

    name: str
    option: str
    help: str
    default: float | int | str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    told: str = ""

    @property
    def allowed(self) -> str:
        """The values allowed, in words.

        >>> GUIDANCE.allowed, NOISE.allowed
        ('0 to 20', 'constant or none')
        """
        return " or ".join(self.choices) if self.choices else f"{self.low:,g} to {self.high:,g}"

    def check(self, value: Any) -> None:
        """UserError, which names the option, for a value that is not allowed."""
        if self.choices:
            right = value in self.choices
        else:
            assert self.low is not None
            assert self.high is not None
            right = self.low <= value <= self.high
        if not right:
            raise UserError(f"{self.option} {value}: allowed is {self.allowed}")


TRUNCATION = Setting(
    "psi",
    "--psi",
    "Truncation: 1 all variety, 0 the average face, below 0 its opposite side (models with styles).",
    1.0,
    -2,
    2,
    told="psi",
)
SHRINKING = replace(TRUNCATION, low=0, help="Truncation: 1 all variety, 0 the most typical face.")
TEMPERATURE = replace(
    SHRINKING,
    option="--temperature",
    help="What --psi is for flows: the spread of all they draw; 0.7 gives cleaner faces, more alike.",
)
GUIDANCE = Setting(
    "guidance",
    "--guidance",
    "How far faces go beyond their conditions (a TarFlow trained with some); 0: not.",
    0.0,
    0,
    20,
    told="guidance",
)
JACOBI = Setting(
    "jacobi",
    "--jacobi",
    "TarFlow: so many Jacobi iterations a block, faster and nearly the same; 0: token by token.",
    0,
    0,
    65_536,
    told="Jacobi iterations",
)
NOISE = Setting(
    "noise",
    "--noise",
    "Models with styles: constant noise, as trained; or none, for a face without its finest detail.",
    "constant",
    choices=("constant", "none"),
    told="noise",
)
LAYERS = Setting(
    "layers",
    "--layers",
    "Models with styles: --psi is for so many layers, from the coarsest on; 0: for all.",
    0,
    0,
    64,
    told="layers truncated",
)

# As commands offer them, in this order; a family has some of them.
OFFERED = (TRUNCATION, TEMPERATURE, GUIDANCE, JACOBI, NOISE, LAYERS)


@dataclass(frozen=True)
class Settings:
    """How to sample. The defaults are what every family can do.

    Attributes:
        psi: truncation or, of a flow, temperature; 1: all variety. One number for all rows of a batch, or a
            tuple with one for each.
        conditions: values of conditions that every image has, by name; others are drawn from the latents.
        guidance: how far images go beyond their conditions, as a multiple of what these change.
        jacobi: Jacobi iterations a block of a model that draws by tokens; 0: token by token, exactly.
        noise: of a model with styles, see `Noises`. "random" is drawn anew at every call.
        layers: of a model with styles, how many layers psi is for, from the coarsest on; 0: all.

    >>> Settings(psi=0.7, conditions={"hair": "red"}).text()
    {'psi': '0.7', 'conditions': 'hair=red'}
    """

    psi: float | tuple[float, ...] = 1.0
    conditions: Mapping[str, str] = field(default_factory=dict)
    guidance: float = 0.0
    jacobi: int = 0
    noise: Noises = "constant"
    layers: int = 0

    def __post_init__(self) -> None:
        psis = self.psi if isinstance(self.psi, tuple) else (self.psi,)
        for psi in psis:
            if not isfinite(psi):
                raise UserError(f"psi must be a finite number, got {psi}")

    @property
    def psis(self) -> tuple[float, ...]:
        """The different values of psi."""
        return tuple(dict.fromkeys(self.psi)) if isinstance(self.psi, tuple) else (self.psi,)

    def of(self, points: int) -> "Settings":
        """The settings, if they are for so many points; UserError where psi has another number of values.

        >>> Settings(psi=(1.0, 0.5)).of(3)
        Traceback (most recent call last):
        omokage.errors.UserError: psi: 2 numbers for 3 points; give one, or one a point
        """
        if isinstance(self.psi, tuple) and len(self.psi) != points:
            numbers = "1 number" if len(self.psi) == 1 else f"{len(self.psi)} numbers"
            raise UserError(f"psi: {numbers} for {points} points; give one, or one a point")
        return self

    def rows(self, start: int, stop: int, padded: int) -> "Settings":
        """The settings of rows ``start`` to ``stop`` of a batch, the last row repeated up to ``padded``.

        >>> Settings(psi=(1.0, 0.5, 0.7)).rows(1, 3, 4).psi
        (0.5, 0.7, 0.7, 0.7)
        """
        if not isinstance(self.psi, tuple):
            return self
        psi = self.psi[start:stop]
        return replace(self, psi=psi + psi[-1:] * (padded - len(psi)))

    def text(self) -> dict[str, str]:
        """What is needed to sample so again, for text chunks; defaults but psi are left out."""
        psis = self.psi if isinstance(self.psi, tuple) else (self.psi,)
        told = {TRUNCATION.told: ",".join(f"{psi:g}" for psi in psis)}
        if self.conditions:
            told["conditions"] = ", ".join(f"{name}={value}" for name, value in self.conditions.items())
        for setting in (GUIDANCE, JACOBI, NOISE, LAYERS):
            value = getattr(self, setting.name)
            if value != setting.default:
                told[setting.told] = f"{value:g}" if isinstance(value, float | int) else _words(value)
        return told


def _words(value: Noises) -> str:
    return value if isinstance(value, str) else ",".join(value)
