"""The command line. Each verb is a plain function; a notebook can call it with the same arguments.

Exit codes:

* 0: done.
* 1: ``doctor`` found that something essential is missing, or output was cut off for a verb whose only result
  is what it prints.
* 2: an error that the user can fix (one line on standard error).
* 130: interrupted.

Output that nobody reads (a closed pipe or stream) does not stop the work. A traceback is a bug.
"""

from . import starting  # noqa: F401  isort: skip - before all that takes long

import errno
import gc
import io
import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from . import __version__, interrupts, streams
from .errors import UserError
from .verbs import explain, explore, figure, imports
from .verbs.build import build
from .verbs.critic import critic
from .verbs.evaluate import evaluate
from .verbs.exploring import mix, montage, show, traverse, truncate, walk
from .verbs.faces import app as faces
from .verbs.fid import fid
from .verbs.helptexts import Group, shaped
from .verbs.invert import invert
from .verbs.neighbours import neighbours
from .verbs.options import WORKERS, progress, within
from .verbs.recipes import recipes
from .verbs.report import card, report
from .verbs.sample import sample
from .verbs.sharing import export, publish
from .verbs.sheet import sheet
from .verbs.steering import directions, select, steer
from .verbs.studio import studio
from .verbs.study import app as study

# The exception that typer raises for a wrong call. Typer has its own copy of click, so click's class differs.
_Complaint: type[Exception] = typer.TyperException

# Verbs whose only result is what they print.
_PRINTED = (("recipes",), ("doctor",), ("faces", "stats"))


class _Interrupted(Exception):
    """Ctrl-C with its message; typer would lose the message."""


class _Verbs(Group):
    def invoke(self, ctx: Any) -> Any:
        gc.enable()  # `starting` disabled it for the imports
        _check_folder()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted(*error.args) from error


app = typer.Typer(
    name="omokage",
    cls=_Verbs,
    help="Anime faces: build the data set, train generative models, measure, explore.",
    rich_markup_mode=None,  # help is plain text, and quick
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(explore.app, name="explore")
app.add_typer(faces, name="faces")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"omokage {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Anime faces: build the data set, train generative models, measure, explore."""
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(build)


@app.command()
def draw(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    number: Annotated[
        int, typer.Option("-n", "--number", callback=within(1, 10**9), help="How many.")
    ] = 2000,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side. Default: 64, for illustrations 720 by 960.")
    ] = None,
    seed: Annotated[int, typer.Option(callback=within(0, 2**63 - 1), help="Another seed, other faces.")] = 0,
    illustrations: Annotated[
        bool, typer.Option("--illustrations", help="Draw whole pictures, with face boxes.")
    ] = False,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Draw anime faces by program; their parameters are in factors.csv."""
    from .data.drawn import draw as run

    run(number, out, size=size, seed=seed, illustrations=illustrations, workers=workers, progress=progress())
    print(f"{number:,} {'illustrations' if illustrations else 'faces'} in {out}")
    folder = shlex.quote(str(out))
    how = "--size 64" if illustrations else f"--as-faces --labels {shlex.quote(str(out / 'factors.csv'))}"
    print(f"next: omokage build {folder} {how} -o faces/")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name (see omokage recipes) or a TOML file.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The face set.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 10_000_000), help="Stop after this many minutes, all sessions together."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(callback=within(1, 10**12), help="Stop after this many images seen.")
    ] = None,
    heldout: Annotated[
        Path | None, typer.Option(help="A face set that is not trained on; the log has its losses.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN|SNAPSHOT|shipped",
            help="Begin with the weights of another model (fine-tuning); optimisers and counters start anew.",
        ),
    ] = None,
    autoencoder: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|SNAPSHOT",
            help="The autoencoder that latent-flow-64 draws with; omokage train autoencoder-64 makes one.",
        ),
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Train on these faces only, like hair=blonde or 'year>=2005'; may be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the resolved recipe and stop.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print the resolved recipe, then train.")
    ] = False,
) -> None:
    """Train a recipe on a face set; the same command again resumes."""
    from .abilities import Maps
    from .families import MODELS
    from .running import check, resolve, summary
    from .running import train as run

    resolved = resolve(recipe, overrides)
    if conditions:
        resolved.training.where = [*resolved.training.where, *conditions]
    if dry_run:
        check(
            resolved, data, out, heldout=heldout, start=start, autoencoder=autoencoder, progress=progress()
        )
        print(resolved.to_toml(), end="")
        return
    if data is None:
        raise UserError("train: --data is missing, for example --data faces/")
    if out is None:
        raise UserError(f"train: --out is missing, for example --out runs/{resolved.name}")
    print(resolved.to_toml() if verbose else summary(resolved, out), flush=True)
    told = progress()
    print(
        run(
            resolved,
            data,
            out,
            minutes=minutes,
            images=images,
            heldout=heldout,
            start=start,
            autoencoder=autoencoder,
            progress=told,
        )
    )
    folder = shlex.quote(str(out))
    if MODELS[resolved.model["name"]].can(Maps):
        print(f"next: omokage train latent-flow-64 --autoencoder {folder} --data faces/ --out runs/latent")
    else:
        print(f"next: omokage sample {folder} --seeds 0-63 -o faces.png")


app.command()(sample)
app.command()(sheet)
app.command()(walk)
app.command()(traverse)
app.command()(truncate)
app.command()(mix)
app.command()(montage)
app.command()(show)
app.command()(directions)
app.command()(steer)
app.command()(select)


app.command()(critic)
app.command()(evaluate)

app.command()(fid)

app.command()(report)

app.command()(card)

app.command()(recipes)


@app.command()
def doctor() -> None:
    """Say what works on this machine, what is missing, and how to install it."""
    from .doctor import examine, show

    findings = examine()
    raise typer.Exit(show(findings))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("demo"),
) -> None:
    """Run every step on drawn faces in minutes; ends with a page, index.html."""
    from .demo import demo as run

    run(out, progress=progress())


app.command()(studio)
app.add_typer(study, name="study")
app.command()(invert)

app.command()(neighbours)

app.add_typer(explain.app, name="explain")
app.add_typer(figure.app, name="figure")
app.command("import")(imports.import_model)
app.command()(export)
app.command()(publish)
shaped(app)


def _complain(message: str) -> None:
    red = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    label = "\x1b[31merror:\x1b[0m" if red else "error:"
    print(label, " ".join(message.split()), file=sys.stderr)


# Typer's messages about wrong values, and ours.
_WORDS = {
    "Input should be a valid integer, unable to parse string as an integer": "write a whole number, like 8",
    "Input should be a valid number, unable to parse string as a number": "write a number, like 0.7",
}


def _usage(error: Exception) -> str:
    """One line for a usage error of typer: what is wrong, the nearest right option, where the help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "omokage"
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    option = getattr(error, "option_name", None)
    if context and option and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.params for name in parameter.opts]
        nearest = get_close_matches(option, known, n=1)
        message = f"No such option {option}" + (f". Did you mean {nearest[0]}?" if nearest else "")
    faults: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    got = f"got {faults[0]['input']!r}, " if faults else ""
    for said, meant in _WORDS.items():
        message = message.replace(said, got + meant)
    message = message[:1].lower() + message[1:]
    return f"{message}{'' if message.endswith('?') else '.'} See {command} --help"


# Refusals of the operating system, which are not bugs: they get one line instead of a traceback.
_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
}


def _drop_output() -> None:
    """Drop output that cannot be written; otherwise Python would report the error again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with ``arguments`` (None: those of the process) and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a letter that the terminal cannot show becomes "?"
    try:
        code = app(
            args=None if arguments is None else list(arguments), prog_name="omokage", standalone_mode=False
        )
        sys.stdout.flush()
    except UserError as error:
        _complain(str(error))
        return 2
    except _Complaint as error:
        _complain(_usage(error))
        return 2
    except (_Interrupted, KeyboardInterrupt, typer.Abort) as error:
        interrupts.end()
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return interrupts.CODE
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _complain(_REFUSALS[error.errno] + (f": {error.filename}" if error.filename else ""))
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return 2
    interrupts.end()
    done = code is None and _makes_something(sys.argv[1:] if arguments is None else arguments)
    if (lost := streams.output_lost()) and not done:
        if lost == "closed":
            _complain("standard output is closed, so the result cannot be printed")
            return 2
        return 1
    code = code if isinstance(code, int) else 0
    if arguments is None and "TORCHELASTIC_RUN_ID" in os.environ:
        _end_at_once(code)
    return code


def _end_at_once(code: int) -> NoReturn:
    """End a process that torchrun started, without tidying up Python.

    There, threads of PyTorch's can abort a process whose work is done and written. torchrun then reports a
    failure and stops the others.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _makes_something(arguments: Sequence[str]) -> bool:
    """Whether a verb has results other than what it prints."""
    words = tuple(word for word in arguments if not word.startswith("-"))
    return "--dry-run" not in arguments and not any(words[: len(verb)] == verb for verb in _PRINTED)


def _check_folder() -> None:
    """Raise `UserError` if the working folder was deleted: relative paths and libraries would fail."""
    try:
        os.getcwd()
    except OSError:
        raise UserError("the current folder has been deleted; change into another one") from None


if __name__ == "__main__":
    sys.exit(main())
