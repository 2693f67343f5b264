"""Settings of sampling: `Settings` holds their values, and a `Setting` describes each of them.

A family lists its settings in its row of `omokage.families.MODELS`. The options of the command line,
``omokage recipes NAME`` and the text in PNG files follow from that list. A new setting needs a field of
`Settings`, a `Setting` that describes it, its name in the rows of the families that have it, and its effect
in `omokage.model.Model`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from .errors import UserError

MAX_SEEDS = 1_000_000
SEEDS = re.compile(r"[\d\s,-]+")  # text that can only be meant as seeds

Noises = str | Sequence[str]  # "constant", "random" or "none", for all layers; or a list, one for each layer


@dataclass(frozen=True)
class Setting:
    """The description of one setting.

    Attributes:
        name: the field of `Settings`.
        option: its name on the command line.
        help: one sentence.
        default: its value unless the user sets it.
        low, high: the allowed range; None if the value is one of ``choices``.
        choices: the allowed values; empty: a range.
        told: its name in text chunks.
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
        """The allowed values, in words.

        >>> GUIDANCE.allowed, NOISE.allowed
        ('0 to 20', 'constant or none')
        """
        return " or ".join(self.choices) if self.choices else f"{self.low:,g} to {self.high:,g}"

    def check(self, value: Any) -> None:
        """UserError for a value that is not allowed; the error names the option."""
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
    "Truncation: 1 full variety, 0 the average face, below 0 opposite faces (models with styles).",
    1.0,
    -2,
    2,
    told="psi",
)
SHRINKING = replace(TRUNCATION, low=0, help="Truncation: 1 full variety, 0 the most typical face.")
TEMPERATURE = replace(
    SHRINKING,
    option="--temperature",
    help="Temperature of a flow, its form of --psi; 0.7 gives cleaner faces and less variety.",
)
GUIDANCE = Setting(
    "guidance",
    "--guidance",
    "Classifier-free guidance (some models with conditions): higher follows them more strongly; 0: off.",
    0.0,
    0,
    20,
    told="guidance",
)
JACOBI = Setting(
    "jacobi",
    "--jacobi",
    "TarFlow: Jacobi iterations per block; faster, nearly the same faces; 0: token by token, exact.",
    0,
    0,
    65_536,
    told="Jacobi iterations",
)
SAMPLER = Setting(
    "sampler",
    "--sampler",
    "Denoisers: how noise is taken off; ancestral adds fresh noise on the way.",
    "heun",
    choices=("heun", "euler", "dpm-solver-2", "ancestral"),
    told="sampler",
)
STEPS = Setting(
    "sampler_steps",
    "--sampler-steps",
    "Denoisers: steps in which noise is taken off; more: slower and more exact; 0: as in the recipe.",
    0,
    0,
    1000,
    told="sampler steps",
)
NOISE = Setting(
    "noise",
    "--noise",
    "Models with styles: constant noise, or none, which leaves out the finest detail.",
    "constant",
    choices=("constant", "none"),
    told="noise",
)
LAYERS = Setting(
    "layers",
    "--layers",
    "Models with styles: --psi applies to this many layers, from the coarsest on; 0: all.",
    0,
    0,
    64,
    told="layers truncated",
)

CRITIC = Setting(
    "critic",
    "--critic",
    "Faces tried for each one kept, on average, by the model's critic: lower FID; 1: all are kept.",
    1.0,
    1,
    20,
    told="critic",
)

# All settings, in the order in which commands list them. A family has some of them.
OFFERED = (TRUNCATION, TEMPERATURE, GUIDANCE, SAMPLER, STEPS, JACOBI, NOISE, LAYERS, CRITIC)


@dataclass(frozen=True)
class Settings:
    """The settings of sampling. Every family supports the defaults.

    Attributes:
        psi: truncation, or the temperature of a flow; 1: full variety. One number for all rows of a batch, or
            a tuple with one number for each row.
        conditions: the value of a condition for all images, by name. Conditions not listed here get random
            values, which follow from the latents.
        guidance: weight of classifier-free guidance; 0 is plain conditional sampling, larger values follow
            the conditions more strongly.
        jacobi: Jacobi iterations for each block of a model that draws token by token; 0: exact sampling, one
            token after the other.
        noise: for models with styles, see `Noises`. "random" is drawn anew at every call.
        layers: for models with styles, the number of layers that psi applies to, from the coarsest on; 0:
            all.
        critic: how many latents of a seed are tried, on average, until the model's critic accepts one; 1: no
            critic. See `omokage.critic`. It chooses the latents of seeds only.
        sampler: for denoisers, the name of a sampler of `omokage.models.samplers`.
        sampler_steps: for denoisers, how many levels of noise a sampler passes; 0: the model's own number.

    >>> Settings(psi=0.7, conditions={"hair": "red"}).text()
    {'psi': '0.7', 'conditions': 'hair=red'}
    """

    psi: float | tuple[float, ...] = 1.0
    conditions: Mapping[str, str] = field(default_factory=dict)
    guidance: float = 0.0
    jacobi: int = 0
    noise: Noises = "constant"
    layers: int = 0
    critic: float = 1.0
    sampler: str = "heun"
    sampler_steps: int = 0

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
        """Return the settings if psi has one value or ``points`` values; UserError otherwise.

        >>> Settings(psi=(1.0, 0.5)).of(3)
        Traceback (most recent call last):
        omokage.errors.UserError: psi: 2 numbers for 3 points; give one, or one for each point
        """
        if isinstance(self.psi, tuple) and len(self.psi) != points:
            numbers = "1 number" if len(self.psi) == 1 else f"{len(self.psi)} numbers"
            raise UserError(f"psi: {numbers} for {points} points; give one, or one for each point")
        return self

    def rows(self, start: int, stop: int, padded: int) -> "Settings":
        """The settings of rows ``start`` to ``stop`` of a batch. The last row is repeated up to ``padded``.

        >>> Settings(psi=(1.0, 0.5, 0.7)).rows(1, 3, 4).psi
        (0.5, 0.7, 0.7, 0.7)
        """
        if not isinstance(self.psi, tuple):
            return self
        psi = self.psi[start:stop]
        return replace(self, psi=psi + psi[-1:] * (padded - len(psi)))

    def text(self) -> dict[str, str]:
        """The settings for text chunks, to sample the same again; defaults other than psi are left out."""
        psis = self.psi if isinstance(self.psi, tuple) else (self.psi,)
        told = {TRUNCATION.told: ",".join(f"{psi:g}" for psi in psis)}
        if self.conditions:
            told["conditions"] = ", ".join(f"{name}={value}" for name, value in self.conditions.items())
        for setting in (GUIDANCE, SAMPLER, STEPS, JACOBI, NOISE, LAYERS, CRITIC):
            value = getattr(self, setting.name)
            if value != setting.default:
                told[setting.told] = f"{value:g}" if isinstance(value, float | int) else _words(value)
        return told


def _words(value: Noises) -> str:
    return value if isinstance(value, str) else ",".join(value)


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Seeds from ``0-63,100,200-210``: single numbers and inclusive ranges, in the order given.

    PyTorch draws on the CPU from the last 32 bits of a seed. So seeds n and n + 2**32 give the same face.

    Raises UserError for anything else, for a range that runs backwards and for more than a million seeds. The
    error names ``option``.

    >>> parse_seeds("0-3,17,8-9")
    [0, 1, 2, 3, 17, 8, 9]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            raise UserError(
                f"{option}: {part.strip()!r} is neither a number nor a range; write it like 0-63,100,200-210"
            )
        low, high = int(first), int(last or first)
        if high >= 2**63:
            raise UserError(f"{option}: {high} is too large; seeds are below 2**63")
        if high < low:
            raise UserError(f"{option}: {part.strip()!r} runs backwards; write {high}-{low}")
        if len(seeds) + high - low + 1 > MAX_SEEDS:
            raise UserError(f"{option}: more than {MAX_SEEDS:,} seeds; ask for them in several calls")
        seeds.extend(range(low, high + 1))
    return seeds
