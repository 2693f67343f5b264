"""The design of a study: one frozen value, kept as ``design.toml`` in the study's folder.

The file may be edited by hand until the first real participant starts. From then on the hash of the design
and of its pictures stands in the study's database, and a changed file is refused by name.
"""

import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .. import files
from ..errors import UserError

REAL = "real"
"""The name of the source of real pictures."""

KINDS = ("pairs", "single", "timed", "rating", "preference")
LANGUAGES = ("en", "ja")
PARTS = ("overall", "hair", "eyes", "contour", "mouth")
RESPONSES: dict[str, tuple[str, ...]] = {
    "pairs": ("left", "right"),
    "preference": ("left", "right"),
    "single": ("real", "generated"),
    "timed": ("real", "generated"),
    "rating": ("1", "2", "3", "4", "5"),
}
"""What a participant may answer, by kind of study. Ratings are whole numbers on the page."""

MAX_BYTES = 2**20


def _plain(text: str) -> str:
    if any((ord(letter) < 32 and letter not in "\n\t") or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[str, Field(max_length=4000), AfterValidator(_plain)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
SourceName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_plain)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z]{2,4})?$")]
ByLanguage = dict[Language, Text]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Contact(_Part):
    """A person whom participants can write to. Empty: not given yet."""

    name: Text = ""
    email: Text = ""


class Statement(_Part):
    """A statement that a participant agrees to.

    id: its name. The preset statements have texts of their own; ``text`` by language replaces them.
    """

    id: Name
    text: ByLanguage = {}


class Choice(_Part):
    """One of the answers to a question of kind choice; ``label`` by language."""

    id: Name
    label: ByLanguage


class Question(_Part):
    """A question of the researcher, asked before the trials; the answers become groups in the report.

    minimum, maximum: allowed numbers of a question of kind number.
    required: whether it must be answered.
    """

    id: Name
    kind: Literal["choice", "number", "text"] = "choice"
    label: ByLanguage
    choices: tuple[Choice, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Question":
        if (self.kind == "choice") != (len(self.choices) > 1):
            raise ValueError("a question of kind choice needs two choices or more, and no other kind has any")
        if len({choice.id for choice in self.choices}) < len(self.choices):
            raise ValueError("two choices have the same id")
        return self


class Panel(_Part):
    """A recruiting service that sends participants and wants a code back.

    completed, refused, screened_out: the service's codes; empty: no code is shown.
    url: the address to return to; the code is put in the place of ``{code}``.
    """

    service: Literal["prolific"] = "prolific"
    completed: Text = ""
    refused: Text = ""
    screened_out: Text = ""
    url: Annotated[str, Field(pattern=r"^https://[^\s\"'<>]+$")] = (
        "https://app.prolific.com/submissions/complete?cc={code}"
    )


class Exclusion(_Part):
    """Who or what is left out of the analysis; fixed before the first participant. None: the rule is off.

    min_checks_passed: a participant who passed fewer attention checks is left out.
    min_rt_ms, max_rt_ms: answers quicker or slower than this are left out, in milliseconds.
    max_flagged_share: a participant with a larger share of flagged exposures is left out.
    """

    min_checks_passed: int | None = Field(default=None, ge=0)
    min_rt_ms: float | None = Field(default=None, ge=0)
    max_rt_ms: float | None = Field(default=None, gt=0)
    max_flagged_share: float | None = Field(default=None, ge=0, le=1)


class Stopping(_Part):
    """When the study ends: at this many complete participants, pilots not counted. None: closed by hand."""

    participants: int | None = Field(default=None, ge=1, le=1_000_000)


class Hypotheses(_Part):
    """What is tested: accuracy against chance, and whether it lies within chance ± the margin."""

    chance: float = Field(default=0.5, gt=0, lt=1)
    equivalence_margin: float = Field(default=0.05, gt=0, lt=0.5)


class Design(_Part):
    """Everything that decides what participants see and how their answers are analysed.

    Attributes:
        title: shown to participants.
        kind: "pairs" (one real, one generated: which is real?), "single" (real or generated?), "timed" (as
            single, shown for a short time), "rating" (1 to 5), "preference" (which of two is better?).
        preset: the name of the preset that the design began with, or None.
        seed: from it and a participant's number follow order, sides and selection.
        size: width and height of a picture on the page, in CSS pixels.
        trials: main trials of one participant. In a rating each picture is one trial for each part.
        practice: practice trials before them.
        checks: attention checks among them ("please choose the left picture").
        break_every: a break is offered after this many main trials; 0: never.
        exposures_ms: how long pictures are shown in a timed study, in milliseconds.
        mask: whether a mask follows the picture in a timed study.
        parts: what is rated.
        scale: the lowest and highest rating.
        sources: names of the sources of pictures. Real pictures are the source "real", which stands first;
            all others are generated.
        chosen_by_hand: for each source whose pictures were picked by hand, out of how many (0: not known).
        feedback: whether practice trials say what was right.
        show_score: whether participants see their score at the end.
        minimum_age: in years; 0: not asked.
        languages: of the page; the first is the default.
        withdrawal_days: for how many days after the start a participant's code deletes the data.
        consent: the statements that must all be agreed to.
    """

    title: Text = "Faces"
    kind: Literal["pairs", "single", "timed", "rating", "preference"] = "pairs"
    preset: Name | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    size: int = Field(default=256, ge=32, le=2048)
    trials: int = Field(default=24, ge=1, le=1000)
    practice: int = Field(default=2, ge=0, le=50)
    checks: int = Field(default=0, ge=0, le=50)
    break_every: int = Field(default=0, ge=0, le=1000)
    exposures_ms: tuple[Annotated[int, Field(ge=10, le=10_000)], ...] = (50, 100, 250, 500, 1000, 2000)
    mask: bool = True
    parts: tuple[Literal["overall", "hair", "eyes", "contour", "mouth"], ...] = ("overall",)
    scale: tuple[int, int] = (1, 5)
    sources: tuple[SourceName, ...] = Field(default=(), max_length=50)
    chosen_by_hand: dict[SourceName, Annotated[int, Field(ge=0)]] = {}
    feedback: bool = True
    show_score: bool = True
    minimum_age: int = Field(default=16, ge=0, le=99)
    languages: tuple[Language, ...] = Field(default=LANGUAGES, min_length=1, max_length=20)
    withdrawal_days: int = Field(default=14, ge=0, le=3650)
    researcher: Contact = Contact()
    supervisor: Contact = Contact()
    consent: tuple[Statement, ...] = Field(
        tuple(
            Statement(id=name)
            for name in ("read", "voluntary", "anonymous", "withdraw", "data_use", "publication")
        ),
        max_length=30,
    )
    questions: tuple[Question, ...] = Field(default=(), max_length=50)
    panel: Panel | None = None
    exclusion: Exclusion = Exclusion()
    stopping: Stopping = Stopping()
    hypotheses: Hypotheses = Hypotheses()

    @model_validator(mode="after")
    def _check(self) -> "Design":
        for what in ("sources", "languages", "parts", "exposures_ms"):
            values = getattr(self, what)
            if len(set(values)) < len(values):
                raise ValueError(f"{what}: a value stands there twice")
        for what in ("consent", "questions"):
            names = [one.id for one in getattr(self, what)]
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: two have the same id")
        if unknown := set(self.chosen_by_hand) - set(self.sources):
            raise ValueError(f"{', '.join(sorted(unknown))}: not among the sources")
        if self.scale != (1, 5):
            raise ValueError("scale: only 1 to 5 is possible")
        if self.kind == "timed" and not self.exposures_ms:
            raise ValueError("exposures_ms: a timed study needs one or more")
        if self.kind == "rating" and not self.parts:
            raise ValueError("parts: a rating needs one or more, like overall")
        if self.sources:
            if REAL in self.sources[1:]:
                raise ValueError(f"sources: {REAL} must stand first")
            if self.kind in ("pairs", "single", "timed") and not (self.real and self.generated):
                raise ValueError(f"sources: {self.kind} needs {REAL} and generated pictures")
            if self.kind == "preference" and len(self.sources) < 2:
                raise ValueError("sources: preference needs two or more")
        return self

    @property
    def real(self) -> tuple[str, ...]:
        """The name of the source of real pictures; empty if there is none."""
        return tuple(name for name in self.sources if name == REAL)

    @property
    def generated(self) -> tuple[str, ...]:
        """Names of the sources that are not real pictures."""
        return tuple(name for name in self.sources if name != REAL)

    @property
    def answers(self) -> int:
        """Answers that one participant gives: practice, checks and main trials.

        >>> Design(kind="rating", parts=("hair", "eyes"), trials=10, practice=1, checks=2).answers
        24
        """
        parts = len(self.parts) if self.kind == "rating" else 1
        return (self.practice + self.trials) * parts + self.checks

    def hash(self, pictures: str = "") -> str:
        """Hex SHA-256 over all settings and ``pictures``, the hash of the pictures (see `stimuli`)."""
        plain = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(f"{plain}\0{pictures}".encode()).hexdigest()

    def to_toml(self) -> str:
        """The design as TOML with every setting, which `load_design` can read again."""
        plain = self.model_dump(mode="json")
        simple = {key: value for key, value in plain.items() if not _is_table(value)}
        lines = [f"{key} = {_toml(value)}" for key, value in simple.items() if value is not None]
        for key, value in plain.items():
            if isinstance(value, dict):
                lines += ["", f"[{_key(key)}]"]
                lines += [f"{_key(one)} = {_toml(its)}" for one, its in value.items() if its is not None]
            elif _is_table(value):
                for row in value:
                    lines += ["", f"[[{_key(key)}]]"]
                    lines += [f"{_key(one)} = {_toml(its)}" for one, its in row.items() if its is not None]
        return "\n".join(lines) + "\n"

    def write(self, folder: str | Path) -> Path:
        """Write ``design.toml`` into ``folder``, whole or not at all; returns its path."""
        path = Path(folder) / "design.toml"
        with files.replacing(path, durable=True) as unfinished:
            unfinished.write_text(self.to_toml(), encoding="utf-8")
        return path


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        inner = (f"{_key(key)} = {_toml(its)}" for key, its in value.items() if its is not None)
        return "{ " + ", ".join(inner) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def design_of(plain: dict[str, Any], where: str) -> Design:
    """The design that ``plain`` describes; UserError names the setting that is wrong, and ``where``."""
    try:
        return Design.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the design"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            from difflib import get_close_matches

            near = get_close_matches(str(first["loc"][-1]), Design.model_fields, n=1)
            message = "no such setting" + (f"; did you mean {near[0]}?" if near else "")
        raise UserError(f"{where}: {place}: {message}") from None


def load_design(folder: str | Path) -> Design:
    """Read ``design.toml`` in ``folder``. UserError: no such file, not TOML, an impossible setting."""
    path = Path(folder) / "design.toml"
    return design_of(_read_toml(path), str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        told = f"{path.parent} is not a study (no {path.name}); make one: omokage study new"
        raise UserError(told) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES:,} bytes; this is not a design")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None


def preset_names() -> list[str]:
    """The names of the presets that ship."""
    folder = resources.files("omokage.study") / "presets"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset; UserError names those that exist.

    >>> preset("rai2020")["trials"]
    12
    """
    if name not in preset_names():
        raise UserError(f"no such preset: {name}; these exist: {', '.join(preset_names())}")
    file = resources.files("omokage.study") / "presets" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def check_pictures(design: Design, counts: dict[str, int]) -> None:
    """UserError if there are too few pictures for one participant, who sees every picture once at most.

    counts: pictures of each source.

    >>> design = Design(kind="pairs", sources=("real", "a"), trials=12, practice=0)
    >>> check_pictures(design, {"real": 12, "a": 12})
    """
    for name, needed in pictures_needed(design).items():
        if counts.get(name, 0) < needed:
            raise UserError(
                f"{name}: {counts.get(name, 0):,} pictures, and one participant needs {needed:,} of them "
                f"({design.trials} trials, {design.practice} for practice, {design.checks} checks); "
                "give more pictures or fewer trials"
            )


def pictures_needed(design: Design) -> dict[str, int]:
    """How many pictures of each source one participant may see at most.

    >>> pictures_needed(Design(kind="single", sources=("real", "a"), trials=5, practice=1))
    {'real': 4, 'a': 4}
    """
    others = max(1, len(design.generated))

    def most(name: str, count: int) -> int:
        if design.kind == "preference":
            rivals = len(design.sources) - 1
            return min(count, -(-count // max(1, rivals * len(design.sources) // 2)) * rivals)
        if design.kind == "rating":
            return -(-count // len(design.sources))
        of_its_kind = count if design.kind == "pairs" else -(-count // 2)
        return of_its_kind if name == REAL else -(-of_its_kind // others)

    phases = (design.trials, design.practice, design.checks)
    return {name: sum(most(name, count) for count in phases) for name in design.sources}
