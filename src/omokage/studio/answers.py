"""What the studio answers, as the API's description shows it; tests check the answers against it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .bodies import Document


class Answer(BaseModel):
    """An answer; it has no other names than these."""

    model_config = ConfigDict(extra="forbid")


class SettingTold(Answer):
    """A setting that a model has: a range, or choices."""

    name: str
    help: str
    default: float | str
    low: float | None = None
    high: float | None = None
    choices: list[str] | None = None


class DirectionTold(Answer):
    """A direction along which faces are steered; numbers are steps of a standard deviation.

    A click on the value goes ``chosen`` steps: to its goal, or half of the range.
    """

    name: str
    attribute: str
    value: str
    low: float
    high: float
    chosen: float
    reach: float | None
    leakage: float | None
    swatch: str | None


class ModelTold(Answer):
    """A model: what it has, and why it lacks what it lacks."""

    id: str
    name: str
    title: str
    resolution: list[int]
    images_seen: int
    terms: str
    terms_url: str
    shipped: bool
    can: dict[str, bool]
    why_not: dict[str, str]
    settings: list[SettingTold]
    layers: dict[str, list[int]]
    directions: list[DirectionTold]
    choices: dict[str, list[str]]
    conditions: dict[str, list[str]]
    keeps: list[str]
    seeds_start: int


class StudioTold(Answer):
    """What the page must know first."""

    models: list[ModelTold]
    language: str
    version: str
    upscalers: list[int]
    token_needed: bool


class FaceTold(Answer):
    """A face that was drawn."""

    key: str
    seed: int | None
    finite: bool
    score: float | None


class DrawnTold(Answer):
    """Faces in one picture, row by row."""

    sprite: str
    columns: int
    tile: list[int]
    faces: list[FaceTold]
    told: list[str]


class WallTold(Answer):
    """A page of new faces; without a picture if none shows what is fixed."""

    sprite: str | None
    columns: int
    tile: list[int]
    faces: list[Document]
    keys: list[str]
    finite: list[bool]
    scores: list[float | None]
    next: int
    replaced: int
    told: list[str]
    notes: list[dict[str, Any]]


class GridTold(DrawnTold):
    """A grid: its faces row by row, and the documents of its cells."""

    row_names: list[str]
    column_names: list[str]
    documents: list[Document]


class FacesTold(Answer):
    """Face documents."""

    faces: list[Document]


class DescriptionTold(Answer):
    """How a face was made."""

    lines: list[str]
    parents: list[Document]
    recipe: dict[str, Any]


class FileTold(Answer):
    """A file to download."""

    name: str
    url: str


class CommandTold(Answer):
    """A command line, and the files that must lie beside it."""

    command: str
    files: list[FileTold]


class FoundTold(Answer):
    """A face in a picture that was brought: x, y, width and height in its pixels."""

    box: list[float]
    score: float


class RestoredTold(Answer):
    """What one of Omokage's own pictures says about itself."""

    faces: list[Document]
    settings: dict[str, Any]
    lines: list[str]
    model_here: bool


class UploadTold(Answer):
    """A picture that was brought."""

    upload: str
    width: int
    height: int
    faces: list[FoundTold]
    told: list[str]
    restored: RestoredTold | None = None


class JobStarted(Answer):
    """The name of a job."""

    job: str


class JobTold(Answer):
    """How far a job is."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: float
    total: float | None
    text: str
    result: dict[str, Any] | None
    error: str | None


class BoardName(Answer):
    """A board in the list of boards."""

    id: str
    name: str
    pins: int


class PinTold(Answer):
    """A face on a board."""

    id: str
    face: Document
    key: str
    note: str
    favourite: bool
    parents: list[str]
    made_by: str
    at: str
    position: int


class BoardTold(Answer):
    """A board with its pins in order."""

    id: str
    name: str
    pins: list[PinTold]
    can_undo: bool
    can_redo: bool
    version: int
