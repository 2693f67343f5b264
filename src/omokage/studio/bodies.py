"""What requests to the studio have in their bodies, as the API's description shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, WithJsonSchema

MOST_FACES = 64  # of one request
MOST_EXPORTED = 500

FACE = "Face"
FACE_SCHEMA: dict[str, Any] = {
    "title": FACE,
    "type": "object",
    "description": "Where a face comes from, its truncation and its edits. The same document is always the "
    "same picture. Documents are nested at most 12 deep.",
    "properties": {
        "model": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
        "from": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}},
                    "required": ["seed"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {
                        "mix": {"type": "array", "items": {"x-face": True}, "minItems": 2, "maxItems": 2},
                        "layers": {"type": "string", "examples": ["coarse", "1-3,8"]},
                    },
                    "required": ["mix", "layers"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {
                        "between": {
                            "type": "array", "items": {"x-face": True}, "minItems": 1, "maxItems": 16
                        },
                        "weights": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
                    },
                    "required": ["between", "weights"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {
                        "near": {"x-face": True},
                        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
                        "distance": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                    "required": ["near", "seed", "distance"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"point": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
                    "required": ["point"],
                    "additionalProperties": False,
                },
            ]
        },
        "psi": {"type": "number", "minimum": -2, "maximum": 2, "default": 1},
        "settings": {
            "type": "object",
            "properties": {
                "noise": {"enum": ["constant", "none"]},
                "guidance": {"type": "number", "minimum": 0},
                "jacobi": {"type": "integer", "minimum": 0},
                "sampler": {"enum": ["heun", "euler", "dpm-solver-2", "ancestral"]},
                "sampler_steps": {"type": "integer", "minimum": 0, "maximum": 1000},
                "layers": {"type": "integer", "minimum": 0},
                "critic": {"type": "number", "minimum": 1, "maximum": 20},
            },
            "additionalProperties": False,
        },
        "conditions": {"type": "object", "additionalProperties": {"type": "string"}},
        "edits": {
            "type": "object", "additionalProperties": {"type": "number", "minimum": -20, "maximum": 20}
        },
        "keep": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["model", "from"],
    "additionalProperties": False,
}  # fmt: skip


def with_faces(description: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI description in which the schema of a face stands once and is referred to."""

    def linked(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("x-face"):
                return {"$ref": f"#/components/schemas/{FACE}"}
            return {name: linked(one) for name, one in value.items()}
        return [linked(one) for one in value] if isinstance(value, list) else value

    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    schemas[FACE] = FACE_SCHEMA
    return linked(description)


def _plain(text: str) -> str:
    if any((ord(letter) < 32 and letter not in "\n\t") or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("control characters are not allowed")
    return text


Document = Annotated[Any, WithJsonSchema({"x-face": True})]
Short = Annotated[str, Field(max_length=100), AfterValidator(_plain)]
Long = Annotated[str, Field(max_length=2000), AfterValidator(_plain)]
Id = Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")]
Random = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
Psi = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Side = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
Order = Annotated[int, Field(ge=0, le=2**62)]
Settings = Annotated[dict[Short, Any], WithJsonSchema(FACE_SCHEMA["properties"]["settings"])]


class Body(BaseModel):
    """A body; names that it does not know are refused."""

    model_config = ConfigDict(extra="forbid")


class Draw(Body):
    """Faces to draw into one sprite."""

    faces: list[Document] = Field(min_length=1, max_length=MOST_FACES)
    size: Literal["wall", "full"] = "wall"
    channel: Short | None = None
    order: Order = 0
    exact: StrictBool = False


class Wall(Body):
    """New faces to roll; ``start`` is the first seed to try."""

    model: Id
    start: int = Field(0, ge=0, lt=2**62)
    count: int = Field(24, ge=1, le=MOST_FACES)
    psi: Psi = 1.0
    settings: Settings = Field(default_factory=dict)
    fixed: dict[Short, Short] = Field(default_factory=dict, max_length=20)
    broken: Literal["replace", "show"] = "show"
    channel: Short | None = None
    order: Order = 0


class Axis(Body):
    """One side of a grid: what changes, and its values."""

    what: Short
    values: list[float | Short] = Field(min_length=1, max_length=16)


class Grid(Body):
    """A face with two things changed."""

    face: Document
    rows: Axis
    columns: Axis
    channel: Short | None = None
    order: Order = 0


class Flatten(Body):
    """Faces that are to be written without nesting."""

    faces: list[Document] = Field(min_length=1, max_length=MOST_FACES)


class OneFace(Body):
    """A face."""

    face: Document


class Command(Body):
    """What is to be repeated by a command."""

    action: Short
    face: Document | None = None
    faces: list[Document] = Field(default_factory=list, max_length=MOST_FACES)
    name: Short = ""


class NewBoard(Body):
    """A board to make."""

    name: Short
    request: Random | None = None


class Edit(Body):
    """An edit of a board; which fields it needs depends on ``edit``."""

    edit: Literal["pin", "note", "favourite", "remove", "clear", "move", "rename"]
    request: Random | None = None
    face: Document | None = None
    parents: list[Id] = Field(default_factory=list, max_length=16)
    made_by: Short = "roll"
    pin: Id | None = None
    pins: list[Id] = Field(default_factory=list, max_length=2000)
    text: Long | None = None
    note: Long | None = None
    on: StrictBool | None = None
    keep: Short | None = None
    position: int | None = Field(None, ge=0, le=100_000)
    name: Short | None = None


class Step(Body):
    """Undo or redo; a repeated ``request`` is done once."""

    request: Random | None = None


class Export(Body):
    """A file to make of faces, or of a board."""

    kind: Literal["png", "sheet", "contact", "folder", "board", "film"]
    faces: list[Document] = Field(default_factory=list, max_length=MOST_EXPORTED)
    board: Id | None = None
    scale: Literal[1, 2, 4, 8] = 1
    transparent: StrictBool = False
    format: Literal["png", "pdf"] = "png"
    name: Short = ""
    notes: Long = ""
    recipe: StrictBool = True
    language: Literal["en", "ja"] = "en"
    seconds: float | None = Field(None, gt=0, le=300, allow_inf_nan=False)
    loop: StrictBool = True
    size: int | None = Field(None, ge=16, le=1024)


class Invert(Body):
    """A drawing to find the face for."""

    kind: Literal["invert"]
    upload: Id
    box: Annotated[list[Side], Field(min_length=4, max_length=4)] | None = None
    model: Id


class ExportJob(Export):
    """An export as a job."""


Job = Annotated[Invert | ExportJob, Field(discriminator="kind")]
