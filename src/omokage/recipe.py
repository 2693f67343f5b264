"""Recipes: one short TOML file names a model, an objective and settings."""

import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len

from . import families
from .abilities import TakesConditions
from .bounds import Allowed, Count, CountOrNone, NotNegative, Positive, ShareBelowOne
from .errors import UserError
from .listing import recipe_names
from .schedule import check_batch, check_schedule, largest

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass
class Training:
    """Settings of the training. Progress is counted in images seen; kimg are thousands of them."""

    images: Count = 10_000_000  # images seen at the end; --minutes and --images can stop earlier
    batch: Any = 64  # images per step, all processes together; a number or points [kimg, images]
    micro_batch: CountOrNone = 0  # images at a time within a step, to save memory; 0: the whole batch
    # For initial weights, order of images, latents and augmentation.
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0
    # "auto": bf16 if the hardware is faster in it, else fp32.
    precision: Annotated[Literal["auto", "fp32", "bf16"], Allowed('"auto", "fp32" or "bf16"')] = "auto"
    mirror: bool = True  # mirror half of the real images
    # Augmentations of training/augment.py; empty: none.
    augment: list[Literal["colour", "translation", "cutout"]] = field(default_factory=list)
    condition: list[str] = field(default_factory=list)  # labels of the face set as conditions; empty: none
    # Only faces that meet all of these are trained on, like hair=blue or year>=2005 (omokage train --where).
    where: list[str] = field(default_factory=list)
    balance: list[str] = field(default_factory=list)  # labels whose rare values are drawn more often
    # Share of the faces to train on; the seed chooses them.
    share: Annotated[float, Gt(0), Le(1), Allowed("above 0 and at most 1")] = 1.0
    # For "rmsprop" the betas are its momentum and its smoothing constant.
    optimiser: Annotated[Literal["adam", "rmsprop"], Allowed("adam or rmsprop")] = "adam"
    learning_rate: dict[str, Any] = field(
        default_factory=lambda: {"default": 2e-4}
    )  # by phase; a number, points or a curve
    betas: Annotated[  # of Adam
        list[ShareBelowOne], Len(2, 2), Allowed("two numbers from 0 up to below 1, like [0.5, 0.999]")
    ] = field(default_factory=lambda: [0.5, 0.999])
    second_beta: Any = 0.0  # of Adam, as points or a curve over the images seen; 0: the second of betas
    clip_gradients: NotNegative = 0.0  # largest gradient norm of a phase, clipped above it; 0: no clipping
    freeze: list[str] = field(default_factory=list)  # beginnings of names of generator weights that wait
    freeze_kimg: NotNegative = 0.0  # thousands of images until these learn too; 0: never
    # Half-life of the averaged weights, a number, points or a curve; 0: use the last weights.
    average_kimg: Any = 10.0
    average_ramp: NotNegative = 0.05  # the half-life is at most this share of the images seen
    log_kimg: Positive = 2.0  # interval between lines of the log
    grid_kimg: Positive = 20.0  # interval between grids of samples, which show fixed seeds
    # A small picture of fixed seeds for omokage montage, each time the images seen have grown by this share.
    film: NotNegative = 0.03  # 0: none
    fid_kimg: NotNegative = 0.0  # interval between measurements by `fid_protocol`; 0: never
    fid_protocol: str = "fid1k-full-inception2015"  # a protocol of omokage evaluate
    snapshot_minutes: Positive = 3.0  # interval between snapshots: the most that a power cut can lose
    keep: CountOrNone = 2  # number of newest snapshots to keep; 0: all
    patience_kimg: Positive = 50.0  # how long signs of trouble may last before the watchdog acts
    rollbacks: CountOrNone = 3  # how often the watchdog may return to the last good snapshot; 0: never


@dataclass
class Recipe:
    """A resolved recipe. ``model``, ``discriminator`` and ``objective`` are tables with a ``name``."""

    name: str
    title: str
    source: str
    model: dict[str, Any]
    objective: dict[str, Any]
    discriminator: dict[str, Any] = field(default_factory=dict)  # empty if the objective needs none
    training: Training = field(default_factory=Training)
    # The values of each label in `training.condition`. Training fills them in from the face set.
    conditions: dict[str, list[str]] = field(default_factory=dict)

    def to_toml(self) -> str:
        """The recipe as TOML with every setting, which ``load_recipe`` can read again."""
        plain = asdict(self)
        lines = [f"{key} = {_toml(value)}" for key, value in plain.items() if not isinstance(value, dict)]
        for table, settings in plain.items():
            if isinstance(settings, dict) and settings:
                lines += [
                    "",
                    f"[{table}]",
                    *(f"{_key(key)} = {_toml(value)}" for key, value in settings.items()),
                ]
        return "\n".join(lines) + "\n"

    def trained_alike(self, other: "Recipe") -> bool:
        """Whether this one may continue a run of ``other``: they differ only where no result changes."""
        mine, theirs = asdict(self), asdict(other)
        for plain in (mine, theirs):
            for free in FREE:
                del plain["training"][free]
            del plain["title"], plain["source"], plain["name"]
        return mine == theirs


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by its name or from a TOML file, apply ``key=value`` overrides, check and complete it.

    A key is a path like ``training.batch`` or ``model.latent``. A key without a table, as in ``batch=32``, is
    looked up in all tables. ``resolution=128`` sets the image size of model and discriminator. Another name
    in a table (``model.name=dcgan``) replaces the table by that name's defaults. Values are TOML; what is not
    TOML is a string. A list of strings may be written with commas, as in ``condition=hair,eyes``.

    Raises:
        UserError: no such recipe, key or setting (the error names the nearest one), or an impossible value.

    >>> load_recipe("fast", ["batch=32"]).training.batch
    32
    """
    text, origin, name = _read(str(name_or_path))
    recipe = read_recipe(text, origin, name)
    if overrides:
        plain = asdict(recipe)
        for override in overrides:
            _override(plain, override)
        recipe = _checked(plain, "key=value")
    return recipe


def overriding(key: str, value: Any) -> str:
    """The override for `load_recipe` that sets ``key`` to a Python value.

    >>> overriding("model.channels", [64, 32]), overriding("objective.loss", "hinge")
    ('model.channels=[64, 32]', 'objective.loss="hinge"')
    """
    return f"{key}={_toml(value)}"


def read_recipe(text: str, origin: str, name: str = "unnamed") -> Recipe:
    """Read a recipe from ``text``; errors name it ``origin``."""
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{origin}: not a TOML file: {error}") from None
    return _checked({"name": name, **plain}, origin)


def _read(name_or_path: str) -> tuple[str, str, str]:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        try:
            return path.read_text(encoding="utf-8"), str(path), path.stem
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise UserError(f"recipe {path}: {reason}; omokage recipes lists those that ship") from None
    known = recipe_names()
    if name_or_path not in known:
        raise UserError(
            f"no recipe {name_or_path!r}{_nearest(name_or_path, known)}; omokage recipes lists them"
        )
    file = resources.files("omokage") / "recipes" / f"{name_or_path}.toml"
    return file.read_text(encoding="utf-8"), f"recipe {name_or_path}", name_or_path


def _override(plain: dict[str, Any], override: str) -> None:
    key, equals, written = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"{override!r} is not key=value, for example training.batch=32")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written
    tables = {table: settings for table, settings in plain.items() if isinstance(settings, dict)}
    table, dot, setting = key.partition(".")
    if key == "resolution":
        if not _resized(plain, value):
            raise UserError(
                f"resolution: {plain['model']['name']} has no such setting; the size of its images follows "
                "from the number of its channels, see docs/recipes.md"
            )
        return
    if setting == "name" and table in ROWS and value != tables[table].get("name"):
        # Settings of one network do not apply to another.
        plain[table] = _completed({"name": value}, ROWS[table], table)
        return
    if not dot:
        having = [table for table, settings in tables.items() if key in settings and key != "name"]
        if len(having) != 1:
            paths = [f"{table}.{one}" for table in tables for one in tables[table] if one != "name"]
            why = (
                f"which one: {' or '.join(f'{table}.{key}' for table in having)}" if having else "no such key"
            )
            near = "" if having else _nearest(key, [*paths, *(path.partition(".")[2] for path in paths)])
            raise UserError(f"{key}: {why}{near}; --dry-run shows every key")
        table, setting = having[0], key
    if table not in tables:
        raise UserError(f"{key}: no such table{_nearest(table, list(tables))}; --dry-run shows every key")
    *path, last = setting.split(".")
    target = tables[table]
    for part in path:
        if not isinstance(target.get(part), dict):
            raise UserError(f"{key}: no such key; --dry-run shows every key")
        target = target[part]
    if not path and last not in target:
        raise UserError(f"{key}: no such key{_nearest(last, list(target))}; --dry-run shows every key")
    target[last] = value


# Settings that the objective `gan` had before `vae-gan` became a separate objective.
_REDRAWING = ("reconstruction_weight", "reconstruction_kimg", "reconstructed", "kl_weight")
_SINCE = ("frechet_weight", "frechet_kimg", "details", "details_weight")  # what `vae-gan` has had since


def _todays(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert a recipe of an earlier version, from a snapshot or run folder, to today's names.

    `gan` with a ``reconstruction_weight`` becomes `vae-gan`; `vae-gan` with weight 0 becomes `gan`.
    """
    table = plain.get("objective")
    if not isinstance(table, Mapping) or "reconstruction_weight" not in table:
        return plain
    if table.get("name") not in ("gan", "vae-gan"):
        return plain
    if table["reconstruction_weight"] == 0 and not table.get("frechet_weight"):
        kept = {key: value for key, value in table.items() if key not in _REDRAWING + _SINCE}
        return {**plain, "objective": {**kept, "name": "gan"}}
    return {**plain, "objective": {**table, "name": "vae-gan"}}


def _resized(plain: dict[str, Any], side: Any) -> bool:
    """Set the image size of all networks that have a setting for it. Returns whether there is one.

    ``side`` is one number, or [height, width]. Generator and discriminator get the same size.
    """
    pair = side if isinstance(side, list) else [side, side]
    found = False
    for table in ("model", "discriminator"):
        for key in ("resolution", "size"):
            if key in plain[table]:
                square = pair[0] if len(set(map(str, pair))) == 1 else side
                plain[table][key] = pair if isinstance(plain[table][key], list) else square
                found = True
    return found


def _checked(plain: Mapping[str, Any], origin: str) -> Recipe:
    plain = _todays(plain)
    known = {entry.name: entry for entry in fields(Recipe)}
    _refuse_unknown(plain, list(known), origin)
    for name, entry in known.items():
        if name not in plain and entry.default is entry.default_factory is MISSING:
            raise UserError(f"{origin}: {name} is missing")
        if name in plain and not isinstance(plain[name], Mapping if name in TABLES else str):
            wanted = f"a table, [{name}]" if name in TABLES else "a text"
            raise UserError(f"{origin}: {name}: got {plain[name]!r}, must be {wanted}")
    training = Training(**_valid(Training, plain.get("training", {}), f"{origin}: training"))
    _check_training(training, f"{origin}: training")
    tables = {
        table: _completed(plain[table], rows, f"{origin}: {table}")
        for table, rows in ROWS.items()
        if table != "discriminator" or plain.get(table)
    }
    conditions = _valid(Recipe, {"conditions": plain.get("conditions", {})}, f"{origin}: recipe")
    name, title, source = (plain[text] for text in ("name", "title", "source"))
    recipe = Recipe(name, title, source, **tables, training=training, **conditions)
    _check_conditions(recipe, origin)
    return recipe


# Settings of the training that do not change its result.
FREE = (
    "images",
    "log_kimg",
    "grid_kimg",
    "film",
    "fid_kimg",
    "fid_protocol",
    "snapshot_minutes",
    "keep",
    "patience_kimg",
    "rollbacks",
)
TABLES = ("model", "objective", "discriminator", "training", "conditions")

# The tables with a name, and the names that each may have.
ROWS = {"model": families.MODELS, "objective": families.OBJECTIVES, "discriminator": families.DISCRIMINATORS}


def _completed(table: Mapping[str, Any], rows: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The table completed with defaults. Each setting is checked against the signature of what it names."""
    if "name" not in table:
        raise UserError(f"{where}.name is missing; there are {', '.join(rows)}")
    name = table["name"]
    if not isinstance(name, str) or name not in rows:
        raise UserError(f"{where}.name: {name!r} is not known{_nearest(str(name), list(rows))}")
    build = rows[name].load()
    signature = inspect.signature(build).parameters
    given = {key: value for key, value in table.items() if key != "name"}
    settings = {key: given.get(key, signature[key].default) for key in _hints(build)}
    return {"name": name, **_valid(build, {**settings, **given}, where)}


@cache
def _hints(build: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the settings of ``build``: its arguments with a default."""
    signature = inspect.signature(build).parameters
    hints = get_type_hints(build.__init__ if inspect.isclass(build) else build, include_extras=True)  # type: ignore[misc]
    return {key: hints[key] for key, one in signature.items() if one.default is not one.empty}


@cache
def _adapter(build: Callable[..., Any]) -> "TypeAdapter[dict[str, Any]]":
    from pydantic import TypeAdapter  # imported late, because listing recipes does not need it
    from typing_extensions import TypedDict

    table = TypedDict("table", _hints(build), total=False)  # type: ignore[misc]
    # Strict types: "3" is not a number, and true is not 1.
    table.__pydantic_config__ = {"strict": True, "allow_inf_nan": False}  # type: ignore[attr-defined]
    return TypeAdapter(table)  # type: ignore[arg-type]


def _valid(build: Callable[..., Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings of ``build`` in the types of its annotations: lists for tuples, floats for numbers.

    Raises:
        UserError: the first setting that is unknown or has a wrong value.
    """
    from pydantic import ValidationError

    hints = _hints(build)
    _refuse_unknown(given, list(hints), where)
    plain = {key: _listed(value, hints[key]) for key, value in given.items()}
    try:
        return _adapter(build).validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, *path = first["loc"]
        hint, value = hints[str(key)], plain[str(key)]
        named = [f".{part}" for part in path[:1] if isinstance(value, Mapping)]
        raise UserError(f"{where}.{key}{''.join(named)}: {_wrong(first, hint, value)}") from None


def _listed(value: Any, hint: Any) -> Any:
    """``value`` with lists instead of tuples; if a list of texts is wanted, a text is split at commas."""
    if isinstance(value, str) and _of_texts(hint):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [_listed(entry, None) for entry in value] if isinstance(value, list | tuple) else value


def _of_texts(hint: Any) -> bool:
    """Whether an annotation is a list of texts, either any texts or given ones."""
    inner = get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint)
    return get_origin(hint) is not Literal and (
        inner == (str,) or (len(inner) == 1 and get_origin(inner[0]) is Literal)
    )


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_LIST, _TEXTS = "a list like [1, 2]", "a list of texts, or texts with commas between them"

# What a value must be, by pydantic's error type.
_MUST = {
    "bool_type": _KINDS[bool],
    "dict_type": "a table like {{default = 2e-4}}",
    "finite_number": "a finite number",
    "float_type": _KINDS[float],
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_type": _KINDS[int],
    "is_instance_of": _LIST,
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le}",
    "list_type": _LIST,
    "literal_error": "{expected}",
    "sequence_str": _LIST,
    "string_type": _KINDS[str],
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
}


def _wrong(error: Any, hint: Any, value: Any) -> str:
    """A message from an error of pydantic: the value of a setting, and what it must be."""
    entry, kind = error["input"], error["type"]
    must = _MUST[kind].format(**error.get("ctx", {})) if kind in _MUST else f"right: {error['msg']}"
    if isinstance(hint, UnionType):
        entry, must = value, " or ".join(_KINDS.get(one, _LIST) for one in get_args(hint))
    elif must == _LIST and _of_texts(hint):
        must = _TEXTS
    for allowed in get_args(hint):
        if isinstance(allowed, Allowed):
            entry, must = value, allowed.words
    if kind == "literal_error" and isinstance(entry, str):
        known = error["ctx"]["expected"].split("'")[1::2]
        return f"{entry!r} is not known{_nearest(entry, known)}, must be {must}"
    return f"got {entry!r}, must be {must}"


def _check_training(training: Training, where: str) -> None:
    """Checks that the types do not cover."""
    check_batch(training.batch, f"{where}.batch")
    if len(set(training.condition)) < len(training.condition):
        raise UserError(f"{where}.condition: got {training.condition}, must name each label once")
    if len(set(training.balance)) < len(training.balance):
        raise UserError(f"{where}.balance: got {training.balance}, must name each label once")
    if "default" not in training.learning_rate:
        raise UserError(f"{where}.learning_rate: needs an entry default, like {{default = 2e-4}}")
    average = training.average_kimg
    if (isinstance(average, int | float) and not (0 <= average < float("inf"))) or isinstance(average, bool):
        raise UserError(f"{where}.average_kimg: got {average!r}, must be a finite number of 0 or more")
    check_schedule(average, f"{where}.average_kimg")
    if training.second_beta:
        check_schedule(training.second_beta, f"{where}.second_beta")
        if training.optimiser != "adam":
            raise UserError(f"{where}.second_beta: {training.optimiser} has none; leave it out")
        if largest(training.second_beta) >= 1:
            raise UserError(f"{where}.second_beta: got {training.second_beta!r}, must be below 1")
    for phase, schedule in training.learning_rate.items():
        check_schedule(schedule, f"{where}.learning_rate.{phase}")


def _check_conditions(recipe: Recipe, origin: str) -> None:
    wanted = recipe.training.condition
    if recipe.conditions and list(recipe.conditions) != wanted:
        raise UserError(
            f"{origin}: conditions: names {', '.join(recipe.conditions)}, but training.condition says "
            f"{', '.join(wanted) or 'none'}; leave the table out, training fills it in"
        )
    if not wanted:
        return
    for table, settings in (("model", recipe.model), ("discriminator", recipe.discriminator)):
        known: Mapping[str, families.Row] = ROWS[table]
        if settings and not known[settings["name"]].can(TakesConditions):
            able = ", ".join(name for name, row in known.items() if row.can(TakesConditions))
            raise UserError(
                f"{origin}: training.condition: the {table} {settings['name']} takes no conditions; "
                f"these do: {able}"
            )


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise UserError(
                f"{where}: no setting {key!r}{_nearest(key, known)}; there are {', '.join(known)}"
            )


def _nearest(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    return repr(value)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else _toml(key)
