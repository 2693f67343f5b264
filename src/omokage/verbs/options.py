"""Options and checks that several verbs of the command line share."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import UserError
from ..hub import is_address
from ..settings import OFFERED, SEEDS, TEMPERATURE, TRUNCATION, Setting, Settings, parse_seeds
from .helptexts import TYPED

if TYPE_CHECKING:
    from ..explore.inputs import Gathered
    from ..explore.points import Points
    from ..model import Model
    from ..pages.upscale import Upscale
    from ..progress import TerminalProgress

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
        from ..abilities import Exact
        from ..families import able

        for settings in self.each:
            model.check(settings)
        if self.temperature and not model.can(Exact):
            name = model.recipe.model["name"]
            raise UserError(
                f"--temperature: {name} has none, these do: {able(Exact)}; with {name}, use --psi"
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

# For commands whose RUN is positional.
Named = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="RUN|SNAPSHOT|NAME", help="The same as RUN, or a model that ships."
    ),
]


def one_model(positional: str | Path | None, named: str | None) -> str | Path | None:
    """The model that a command names, by position or by option; None: neither.

    Raises:
        UserError: both are given.
    """
    if positional is not None and named is not None:
        raise UserError(f"several models: {positional}, {named}; give one")
    return named if positional is None else positional


def need(command: str, extra: str, *packages: str) -> None:
    """UserError if one of the ``packages`` is missing; it names the ``extra`` of omokage that brings them."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f"{command} needs {', '.join(missing)}: pip install 'omokage[{extra}]'")


WORKERS = typer.Option(callback=within(1, 1024), help="Processes; default: one for each core.")


# The options that every command that takes faces has, in the order of its help. See `face_options`.
FACES_HELP = "Seeds like 3 or 1-3, latent files, pictures; mixed."
_FACES = {
    "seeds": Annotated[
        str | None,
        typer.Option(
            metavar="SEEDS", help="The same as seeds among FACES. Seeds n and n + 2**32 give the same face."
        ),
    ],
    "model": Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="RUN|SNAPSHOT|NAME",
            help="The model: a run, a snapshot, style-64 or fast-64. Default: style-64, which ships.",
        ),
    ],
    "space": Annotated[
        Literal["z", "w"] | None,
        typer.Option("--in", help="Latent space to work in. Default: w if the model has styles, else z."),
    ],
    "save_latents": Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the faces' latents, as .safetensors.")
    ],
    "upscale": Annotated[
        int | None, typer.Option(metavar="2|4|8", help="Enlarge faces with waifu2x; Lanczos without it.")
    ],
    "no_metadata": Annotated[
        bool, typer.Option("--no-metadata", help="Write no text into pictures and films about their making.")
    ],
}  # fmt: skip


def metadata_option(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the option --no-metadata to a verb, for those that do not take faces (see `face_options`)."""
    signature = inspect.signature(verb)
    name, kind = "no_metadata", inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = inspect.Parameter(name, kind, default=False, annotation=_FACES[name])

    @wraps(verb)
    def called(no_metadata: bool = False, **given: Any) -> None:
        from ..pages.files import metadata

        with metadata(not no_metadata):
            verb(**given)

    parameters = [*signature.parameters.values(), own]
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


@dataclass(frozen=True)
class Given:
    """The common options of a command that takes faces, as typed.

    Attributes:
        faces: positional faces; a run or snapshot among them is the model, as in earlier versions.
        seeds, model, space, save_latents, upscale, metadata: the options.
        chosen: the settings of sampling; `settings` has them if there is one psi.
    """

    faces: list[str]
    seeds: str | None
    model: str | None
    space: Literal["z", "w"] | None
    chosen: Chosen
    save_latents: Path | None
    upscale: int
    metadata: bool
    _loaded: "list[tuple[Model, list[str]]]" = field(default_factory=list)
    _enlarge: "list[Upscale]" = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """The settings of sampling. UserError: several psi were given."""
        if len(self.chosen.each) > 1:
            psis = ", ".join(f"{one.psi:g}" for one in self.chosen.each)
            raise UserError(f"--psi takes one number here, got {psis}")
        return self.chosen.each[0]

    def load(self) -> tuple["Model", list[str]]:
        """The model, checked against the settings, and the arguments that name faces.

        Raises:
            UserError: two models, no such model, or settings that it does not have.
        """
        from ..model import load_model

        if self._loaded:
            return self._loaded[0]
        models = [argument for argument in self.faces if _names_model(argument)]
        rest = [argument for argument in self.faces if not _names_model(argument)]
        named = [*models, *([self.model] if self.model is not None else [])]
        if len(named) > 1:
            raise UserError(f"several models: {', '.join(named)}; give one, with --model")
        model = load_model(named[0] if named else None)
        self.chosen.check(model)
        if self.seeds is not None:
            parse_seeds(self.seeds)
            rest.append(self.seeds)
        self._loaded.append((model, rest))
        return model, rest

    def only_seeds(self, default: str) -> list[int] | None:
        """The seeds, if nothing but seeds is named and nothing needs their points; else None."""
        _, named = self.load()
        named = named or [default]
        if self.space or self.save_latents or not all(map(SEEDS.fullmatch, named)):
            return None
        return [seed for each in named for seed in parse_seeds(each, "faces")]

    def enlarge(self) -> "Upscale":
        """What --upscale does; says which method is used if it is not the best one."""
        from ..pages.upscale import Upscale

        if not self._enlarge:
            self._enlarge.append(Upscale(self.upscale))
            for line in self._enlarge[0].told:
                typer.echo(line, err=True)
        return self._enlarge[0]

    def open(self, default: str | None = None, *, settings: Settings | None = None) -> "Opened":
        """The model and the faces. ``default``: the faces if none are named; None: then refused.

        Raises:
            UserError: as `load` and `omokage.explore.inputs.gather`.
        """
        from ..explore.provenance import fits

        settings, enlarge = settings or self.settings, self.enlarge()
        model, named = self.load()
        if not named and default is not None:
            named = [default]
        faces = gather_faces(named, model, settings=settings, space=self.space)
        if self.metadata and not fits(faces.points, faces.origins):
            told = f"the latents of {len(faces):,} faces are too many for a picture's text"
            typer.echo(f"{told}; --save-latents FILE.safetensors keeps them", err=True)
        return Opened(model, faces, settings, enlarge, self)


@dataclass(frozen=True)
class Opened:
    """A model and faces that a command works on.

    Attributes:
        model: the model.
        faces: the faces as points, with names and origins.
        settings: the settings of sampling.
        enlarge: called with faces uint8 (N, H, W, 3), it gives them at the size of --upscale.
        given: the options as typed.
    """

    model: "Model"
    faces: "Gathered"
    settings: Settings
    enlarge: "Upscale"
    given: Given

    def save(
        self,
        points: "Points | None" = None,
        names: Sequence[str] = (),
        origins: Sequence[Mapping[str, Any]] = (),
    ) -> list[Path]:
        """Write the file of --save-latents, if asked for: ``points``, or without them the faces as given.

        Returns the paths written.
        """
        if self.given.save_latents is None:
            return []
        from ..explore.latents import write_latents

        if points is None:
            points, names, origins = self.faces.points, self.faces.names, self.faces.origins
        path = write_latents(
            self.given.save_latents, points, names, self.model.about, origins=origins, settings=self.settings
        )
        print(path)
        return [path]

    def record(self, *outputs: Path, **arguments: Any) -> Path:
        """Write the run file beside the first of ``outputs``: everything that made them. Returns its path."""
        from ..explore.provenance import faces_of, settings_for
        from ..pages.files import run_file

        return run_file(
            outputs,
            command=TYPED.get(),
            model=self.model,
            settings=settings_for(self.faces.points, self.settings),
            faces=faces_of(self.faces.points, self.faces.origins),
            arguments={**arguments, "in": self.faces.points.space, **self.enlarge.text},
            told=self.faces.told,
        )


def _names_model(argument: str) -> bool:
    """Whether a positional argument is a run, a snapshot or the name of a model that ships."""
    from ..model import SHIPPED_MODELS

    path = Path(argument)
    if path.is_dir() or is_address(argument):
        return True
    if path.exists() or SEEDS.fullmatch(argument):
        from ..explore.latents import is_latent_file

        return path.is_file() and path.suffix == ".safetensors" and not is_latent_file(path)
    return argument in SHIPPED_MODELS or not path.suffix or path.suffix == ".safetensors"


def gather_faces(
    arguments: Sequence[str], model: "Model", *, settings: Settings, space: str | None
) -> "Gathered":
    """`omokage.explore.inputs.gather`, with what it has to say on standard error."""
    from functools import partial

    from ..explore.inputs import gather
    from ..explore.inversion import invert_pictures

    invert = partial(invert_pictures, progress=progress())
    faces = gather(arguments, model, settings=settings, space=space, invert=invert)
    for line in faces.told:
        typer.echo(line, err=True)
    return faces


def face_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace a verb's parameter ``given`` by positional FACES and their common options, see `Given`.

    The options of sampling come after them. Other parameters of the verb stand where they stood; those after
    ``given`` need defaults.
    """
    signature = inspect.signature(verb)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    argument = Annotated[list[str] | None, typer.Argument(metavar="FACES", help=FACES_HELP)]
    common = [inspect.Parameter("faces", kind, default=None, annotation=argument)] + [
        inspect.Parameter(name, kind, default=False if name == "no_metadata" else None, annotation=annotation)
        for name, annotation in _FACES.items()
    ]
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name == "given":
            chosen = inspect.Parameter("chosen", kind, default=None, annotation=Chosen)
            parameters += [*common, chosen]
        else:
            parameters.append(parameter)

    def called(**values: Any) -> None:
        from ..pages.files import metadata

        named = values.pop("faces") or []
        common = {name: values.pop(name) for name in _FACES}
        given = Given(
            faces=[str(face) for face in named],
            seeds=common["seeds"],
            model=common["model"],
            space=common["space"],
            chosen=values.pop("chosen"),
            save_latents=common["save_latents"],
            upscale=1 if common["upscale"] is None else common["upscale"],
            metadata=not common["no_metadata"],
        )
        with metadata(given.metadata):
            verb(given=given, **values)

    called.__name__, called.__doc__ = verb.__name__, verb.__doc__
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return sampling_options(called)


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


def tell_finite(model: "Model", number: int, broken: list[int], named: str = "seeds") -> None:
    """Say which of ``number`` images are not finite. For a flow, whose inverse may overflow, also if none.

    ``named``: what the numbers of ``broken`` are.
    """
    from ..abilities import HasDensity

    if not broken and model.can(HasDensity):
        print(f"all {number:,} images are finite")
    tell_broken(f"of {number:,} images are", named, broken)


def tell_count(number: int) -> None:
    """Say how many faces of a figure are not finite, if any; their pixels are black."""
    if number:
        faces = "face is" if number == 1 else "faces are"
        typer.echo(f"{number:,} {faces} not finite and shown black", err=True)
