"""Recipes: one short TOML file names a model, an objective and settings."""

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import UserError
from .schedule import check_batch, check_schedule


@dataclass
class Training:
    """How a recipe is trained; progress is counted in images seen."""

    images: int = 10_000_000  # stop after so many; --minutes and --images stop earlier
    batch: Any = 64  # images a step, all processes together; a number or points [kimg, images]
    micro_batch: int = 0  # images of a step at a time, gradients added up, for less memory; 0: all
    seed: int = 0  # of weights, order of images, latents and augmentation
    precision: str = "auto"  # "auto": bf16 where the hardware has it, else fp32; or either by name
    mirror: bool = True  # half of the real images are mirrored
    augment: list[str] = field(default_factory=list)  # names of training/augment.py; empty: none
    condition: list[str] = field(default_factory=list)  # labels of the face set to generate by; empty: none
    share: float = 1.0  # of the faces that is trained on, chosen by the seed
    optimiser: str = "adam"  # or "rmsprop", whose momentum and memory of the squares are the betas
    learning_rate: dict[str, Any] = field(
        default_factory=lambda: {"default": 2e-4}
    )  # by phase; number or points
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])  # of Adam
    clip_gradients: float = 0.0  # largest norm of a phase's gradient; longer ones are shortened; 0: any
    average_kimg: float = 10.0  # half-life of the averaged weights; 0: the last weights
    average_ramp: float = 0.05  # ... which is at most this share of the images seen
    log_kimg: float = 2.0  # a line in the log
    grid_kimg: float = 20.0  # a grid of samples of fixed seeds
    fid_kimg: float = 0.0  # a measurement of `fid_protocol`; 0: never
    fid_protocol: str = "fid1k-full-inception2015"  # a protocol of omokage evaluate
    snapshot_minutes: float = 3.0  # at most so much is lost when the power goes
    keep: int = 2  # snapshots kept, the newest; 0: all
    patience_kimg: float = 50.0  # so long signs of trouble may last before the watchdog speaks
    rollbacks: int = 3  # at most so many times it goes back to the last good snapshot; 0: never


@dataclass
class Recipe:
    """A resolved recipe. ``model``, ``discriminator`` and ``objective`` are tables with a ``name``."""

    name: str
    title: str
    source: str
    model: dict[str, Any]
    objective: dict[str, Any]
    discriminator: dict[str, Any] = field(default_factory=dict)  # empty: the objective needs none
    training: Training = field(default_factory=Training)
    # The values of each label in `training.condition`: training fills this in from the face set.
    conditions: dict[str, list[str]] = field(default_factory=dict)

    def to_toml(self) -> str:
        """The recipe with every setting written out, as a file that ``load_recipe`` reads back."""
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
        """Whether this one may continue a run of ``other``: only what no result depends on differs."""
        mine, theirs = asdict(self), asdict(other)
        for plain in (mine, theirs):
            for free in FREE:
                del plain["training"][free]
            del plain["title"], plain["source"], plain["name"]
        return mine == theirs


def recipe_names() -> list[str]:
    """The names of the recipes that ship."""
    folder = resources.files("omokage") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that TOML file, with ``key=value`` overrides, checked and completed.

    A key is a path like ``training.batch`` or ``model.latent``; a bare one is looked up in the tables, so
    ``batch=32`` does. Values are TOML; anything else is a string, and in place of a list of strings one with
    commas will do, as in ``condition=hair,eyes``.

    Raises:
        UserError: no such recipe, key or setting (with the nearest right one), or an impossible value.

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


def read_recipe(text: str, origin: str, name: str = "unnamed") -> Recipe:
    """The recipe written in ``text``; ``origin`` names it in errors."""
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
    if not dot:
        having = [table for table, settings in tables.items() if key in settings and key != "name"]
        if len(having) != 1:
            paths = [f"{table}.{setting}" for table, settings in tables.items() for setting in settings]
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


# Settings that the objective `gan` had before `vae-gan` was one of its own.
_REDRAWING = ("reconstruction_weight", "reconstruction_kimg", "reconstructed", "kl_weight")


def _todays(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recipe of an earlier version, as in snapshots and run folders, in today's names.

    `gan` with a ``reconstruction_weight`` is `vae-gan`; where that weight is 0, `vae-gan` is `gan`.
    """
    table = plain.get("objective")
    if not isinstance(table, Mapping) or "reconstruction_weight" not in table:
        return plain
    if table.get("name") not in ("gan", "vae-gan"):
        return plain
    if table["reconstruction_weight"] == 0:
        kept = {key: value for key, value in table.items() if key not in _REDRAWING}
        return {**plain, "objective": {**kept, "name": "gan"}}
    return {**plain, "objective": {**table, "name": "vae-gan"}}


def _checked(plain: Mapping[str, Any], origin: str) -> Recipe:
    plain = _todays(plain)
    known = {entry.name: entry for entry in fields(Recipe)}
    _refuse_unknown(plain, list(known), origin)
    missing = [
        name
        for name, entry in known.items()
        if name not in plain and entry.default is entry.default_factory is MISSING
    ]
    if missing:
        raise UserError(f"{origin}: {missing[0]} is missing")
    for name in known:
        if name in plain and isinstance(plain[name], Mapping) != (name in TABLES):
            raise UserError(f"{origin}: {name} must be {'a table' if name in TABLES else 'a text'}")
    from . import families  # imported late: it imports this module's users' settings, and PyTorch

    settings = dict(plain.get("training", {}))
    _refuse_unknown(settings, [entry.name for entry in fields(Training)], f"{origin}: training")
    hints = get_type_hints(Training)
    for key, value in settings.items():
        settings[key] = _typed(value, hints[key], f"{origin}: training.{key}")
    training = Training(**settings)
    _check_training(training, f"{origin}: training")
    conditions = _typed(plain.get("conditions", {}), dict[str, list[str]], f"{origin}: conditions")
    tables = {
        table: _completed(plain[table], getattr(families, table.upper() + "S"), f"{origin}: {table}")
        for table in ("model", "objective", "discriminator")
        if plain.get(table)
    }
    name, title, source = (str(plain[text]) for text in ("name", "title", "source"))
    recipe = Recipe(name, title, source, **tables, training=training, conditions=conditions)
    _check_conditions(recipe, origin)
    return recipe


# Settings of the training that its result does not depend on.
FREE = (
    "images",
    "log_kimg",
    "grid_kimg",
    "fid_kimg",
    "fid_protocol",
    "snapshot_minutes",
    "keep",
    "patience_kimg",
    "rollbacks",
)
TABLES = ("model", "objective", "discriminator", "training", "conditions")


def _completed(table: Mapping[str, Any], rows: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The table with the defaults of what it names, each setting checked against that signature."""
    name = str(table.get("name"))
    if name not in rows:
        raise UserError(f"{where}.name: {name!r} is not known{_nearest(name, list(rows))}")
    build = rows[name].load()
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(build).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    given = {key: value for key, value in table.items() if key != "name"}
    _refuse_unknown(given, list(parameters), where)
    hints = get_type_hints(build.__init__ if inspect.isclass(build) else build)
    completed: dict[str, Any] = {"name": name}
    for key, parameter in parameters.items():
        value = given.get(key, parameter.default)
        completed[key] = _typed(value, hints[key], f"{where}.{key}")
    return completed


def _typed(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it fits the annotation, whole numbers made floats where floats are wanted."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(hint, UnionType):
        *others, last = get_args(hint)
        return _typed(value, next((kind for kind in others if type(value) is kind), last), where)
    if hint in (int, float, str, bool):
        if hint is float and type(value) is int:
            value = float(value)
        if type(value) is not hint:
            words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
            raise UserError(f"{where}: got {value!r}, must be {words[hint]}")
        if hint is float and not float("-inf") < value < float("inf"):
            raise UserError(f"{where}: got {value!r}, must be a finite number")
    elif get_origin(hint) is Literal:
        if value not in get_args(hint):
            choice = " or ".join(map(repr, get_args(hint)))
            raise UserError(f"{where}: got {value!r}, must be {choice}")
    elif get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: got {value!r}, must be a table like {{default = 2e-4}}")
        value = {key: _typed(entry, get_args(hint)[1], f"{where}.{key}") for key, entry in value.items()}
    elif "Sequence" in str(hint) or "list" in str(hint):
        if isinstance(value, str) and get_args(hint) == (str,):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list):
            raise UserError(f"{where}: got {value!r}, must be a list like [1, 2]")
        inner = hint.__args__[0]
        value = [_typed(entry, inner, where) for entry in value]
    return value


def _check_training(training: Training, where: str) -> None:
    check_batch(training.batch, f"{where}.batch")
    least = {"images": 1, "micro_batch": 0, "seed": 0, "average_kimg": 0, "average_ramp": 0, "keep": 0}
    least["clip_gradients"] = 0
    for key, low in least.items():
        if getattr(training, key) < low:
            raise UserError(f"{where}.{key}: got {getattr(training, key)}, must be at least {low}")
    for key in ("log_kimg", "grid_kimg", "snapshot_minutes", "patience_kimg"):
        if getattr(training, key) <= 0:
            raise UserError(f"{where}.{key}: got {getattr(training, key)}, must be above 0")
    if training.fid_kimg < 0:
        raise UserError(f"{where}.fid_kimg: got {training.fid_kimg}, must be at least 0 (never)")
    if not 0 < training.share <= 1:
        raise UserError(f"{where}.share: got {training.share}, must be above 0 and at most 1")
    if len(set(training.condition)) < len(training.condition):
        raise UserError(f"{where}.condition: got {training.condition}, must name each label once")
    if training.rollbacks < 0:
        raise UserError(f"{where}.rollbacks: got {training.rollbacks}, must be at least 0")
    if training.precision not in ("auto", "fp32", "bf16"):
        raise UserError(f'{where}.precision: got {training.precision!r}, must be "auto", "fp32" or "bf16"')
    if len(training.betas) != 2 or not all(0 <= beta < 1 for beta in training.betas):
        raise UserError(f"{where}.betas: got {training.betas}, must be two numbers from 0 up to below 1")
    from .training.optimisers import OPTIMISERS

    if training.optimiser not in OPTIMISERS:
        raise UserError(f"{where}.optimiser: got {training.optimiser!r}, must be {' or '.join(OPTIMISERS)}")
    if "default" not in training.learning_rate:
        raise UserError(f"{where}.learning_rate: needs an entry default, like {{default = 2e-4}}")
    for phase, schedule in training.learning_rate.items():
        check_schedule(schedule, f"{where}.learning_rate.{phase}")
    from .training.augment import AUGMENTATIONS

    for name in training.augment:
        if name not in AUGMENTATIONS:
            raise UserError(f"{where}.augment: {name!r} is not known{_nearest(name, list(AUGMENTATIONS))}")


def _check_conditions(recipe: Recipe, origin: str) -> None:
    wanted = recipe.training.condition
    if recipe.conditions and list(recipe.conditions) != wanted:
        raise UserError(
            f"{origin}: conditions: names {', '.join(recipe.conditions)}, but training.condition says "
            f"{', '.join(wanted) or 'none'}; leave the table out, training fills it in"
        )
    if not wanted:
        return
    from .abilities import Conditional
    from .families import DISCRIMINATORS, MODELS

    rows = [("model", recipe.model, MODELS), ("discriminator", recipe.discriminator, DISCRIMINATORS)]
    for table, settings, known in rows:
        if settings and not known[settings["name"]].can(Conditional):
            able = ", ".join(name for name, row in known.items() if row.can(Conditional))
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
