"""The command line: one verb, one plain function that a notebook can call with the same arguments.

Exit codes: 0 done, 1 ``doctor`` found something essential missing, 2 something the user can mend (one line
on standard error), 130 interrupted. A traceback is a bug.
"""

import errno
import io
import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import __version__
from .errors import UserError
from .verbs import figure, imports
from .verbs.options import (
    MAX_SEEDS,
    WORKERS,
    SeveralPsi,
    check_psi,
    each_within,
    parse_conditions,
    parse_seeds,
    progress,
    within,
)

if TYPE_CHECKING:
    from .data.faceset import FaceSet
    from .snapshot import Model

# Click's common ancestor of usage errors, reached through typer because newer versions of it vendor click.
_Complaint: type[Exception] = typer.BadParameter.__mro__[2]


class _Interrupted(Exception):
    """Ctrl-C with what was said about it, which typer would lose."""


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted(*error.args) from error


app = typer.Typer(
    name="omokage",
    cls=_Verbs,
    help="Anime faces: build the data set, train generative models, measure, explore.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


@app.command()
def build(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Folders, tar or zip files, images.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The face set to write (a folder).")],
    as_faces: Annotated[bool, typer.Option("--as-faces", help="The images are faces already.")] = False,
    size: Annotated[
        int | None,
        typer.Option(callback=within(1, 4096), help="Resize to this many pixels; default: keep the bytes."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A CSV whose column file names the image: its columns join the index.")
    ] = None,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Turn pictures into a face set."""
    from .data.build import build as run

    report = run(
        sources, out, as_faces=as_faces, size=size, labels=labels, workers=workers, progress=progress()
    )
    if report.already:
        print(f"{out} is complete already: {report.kept:,} of {report.found:,} images")
        return
    print(f"{report.kept:,} of {report.found:,} images kept in {out} ({report.seconds:.1f} s)")
    if report.rejected:
        print(f"{report.rejected:,} left out, listed in {out / 'rejected.csv'}:")
        for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
            print(f"{count:>9,}  {reason}")


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
        bool, typer.Option("--illustrations", help="Whole pictures with face boxes.")
    ] = False,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Draw parametric anime faces, with their factors in factors.csv."""
    from .data.drawn import draw as run

    run(number, out, size=size, seed=seed, illustrations=illustrations, workers=workers, progress=progress())
    print(f"{number:,} {'illustrations' if illustrations else 'faces'} in {out}")


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
            callback=within(0, 10_000_000), help="Stop after this much training, all pieces together."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(callback=within(1, 10**12), help="Stop after this many images seen.")
    ] = None,
    heldout: Annotated[
        Path | None, typer.Option(help="A face set not trained on; the log says how its faces are judged.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train a recipe on a face set; the same command again resumes."""
    from .recipe import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    if dry_run:
        print(resolved.to_toml(), end="")
        return
    if data is None:
        raise UserError("train: --data is missing, for example --data faces/")
    if out is None:
        raise UserError(f"train: --out is missing, for example --out runs/{resolved.name}")
    from .training.loop import train as run

    print(resolved.to_toml(), flush=True)
    print(run(resolved, data, out, minutes=minutes, images=images, heldout=heldout, progress=progress()))
    print(f"next: omokage sample {shlex.quote(str(out))} --seeds 0-63 -o faces.png")


@app.command(cls=SeveralPsi)
def sample(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships with the package."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Like 0-63,100,200-210. Default: 0-63, for a video 0-7.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A PNG, or with --each a folder. Default: faces.png."),
    ] = None,
    psis: Annotated[
        list[float] | None,
        typer.Option(
            "--psi",
            callback=each_within(-2, 2),
            help="Truncation: 1 all variety, 0 the average face, below 0 its opposite side (models with "
            "styles). Several, like --psi 1 0.5 -0.5, write a folder each into the folder -o.",
        ),
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", "--number", callback=within(1, MAX_SEEDS), help="Seeds from 0 on.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="One file a seed.")] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="A contact sheet: larger, with seeds.")] = False,
    columns: Annotated[
        int | None, typer.Option(callback=within(1, 1000), help="Faces a row. Default: near a square.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="A walk from seed to seed as MP4; also -o if both are given.")
    ] = None,
    hair: Annotated[str | None, typer.Option(help="Short for --condition hair=...")] = None,
    eyes: Annotated[str | None, typer.Option(help="Short for --condition eyes=...")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only faces with this value of a condition trained with."),
    ] = None,
) -> None:
    """Draw new faces with a trained model: a picture, one file a seed, or a video."""
    if each and out is None:
        raise UserError("sample: --each needs a folder, for example -o samples/")
    if each and sheet:
        raise UserError("sample: --each and --sheet exclude each other; make two calls")
    if seeds is not None and number is not None:
        raise UserError("sample: --seeds and -n exclude each other; -n 100 is --seeds 0-99")
    chosen = parse_seeds(seeds) if seeds is not None else list(range(number)) if number else None
    psi, *others = psis or [1.0]
    if others and (out is None or sheet or video):
        raise UserError(
            "sample: several --psi write files into a folder; give it by -o, no --sheet or --video"
        )
    given = parse_conditions(condition or [], hair=hair, eyes=eyes)
    from .snapshot import load_model

    model = load_model(source).conditioned(given)
    check_psi(model, min(psi, *others) if others else psi)
    if others:
        from .explore.grid import write_each

        for value in (psi, *others):
            folder = Path(out or ".") / f"psi{value:+.2f}"
            faces = list(range(64)) if chosen is None else chosen
            print(
                f"{len(write_each(model, faces, folder, psi=value, progress=progress())):,} files in {folder}"
            )
        return
    if video is not None:
        from .explore.video import write_walk

        stops = list(range(8)) if chosen is None else chosen
        print(write_walk(model, stops, video, psi=psi, progress=progress()))
        if out is None:
            return
    from .explore.contact_sheet import write_contact_sheet
    from .explore.grid import write_each, write_grid

    faces = list(range(64)) if chosen is None else chosen
    target = Path("faces.png") if out is None else out
    if each:
        print(f"{len(write_each(model, faces, target, psi=psi, progress=progress())):,} files in {target}")
    else:
        write = write_contact_sheet if sheet else write_grid
        print(write(model, faces, target, psi=psi, columns=columns, progress=progress()))


@app.command()
def evaluate(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships with the package."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The face set to compare with.")] = None,
    protocol: Annotated[
        str, typer.Option(help="How to measure: samples, faces, feature network. Or fid2k-full-tags, ...")
    ] = "fid10k-full-inception2015",
    psi: Annotated[float, typer.Option(callback=within(0, 2), help="Truncation; 1 is the usual.")] = 1.0,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="The first seed.")] = 0,
    also: Annotated[
        list[str] | None, typer.Option(help="A further feature network for the same samples: tags.")
    ] = None,
    two_sample: Annotated[
        bool, typer.Option("--two-sample", help="Also train a network to tell real from generated.")
    ] = False,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Also show the nearest training faces of 16 samples.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="JSON lines to append to. Default: evaluations.jsonl in the run."),
    ] = None,
) -> None:
    """Measure samples against a face set: FID, KID, precision, recall, density, coverage."""
    if data is None:
        raise UserError("evaluate: --data is missing, for example --data faces/")
    if neighbours and source is None:
        raise UserError("evaluate: --neighbours writes into the run folder; name a run")
    from .data.faceset import FaceSet
    from .metrics.report import evaluate as run
    from .metrics.report import parse_protocol, print_results
    from .snapshot import load_model

    parse_protocol(protocol)
    model, faces = load_model(source), FaceSet.open(data)
    folder = Path() if source is None else model.path.parent
    lines = folder / "evaluations.jsonl" if out is None else out
    record = run(
        model,
        faces,
        protocol,
        lines,
        progress(),
        psi=psi,
        seed=seed,
        also=also or (),
        two_sample=two_sample,
    )
    print_results([record])
    print(f"appended to {lines}")
    if neighbours:
        print(_show_neighbours(model, faces, seed, folder / "neighbours.png"))


def _show_neighbours(model: "Model", faces: "FaceSet", seed: int, out: Path) -> Path:
    import numpy as np

    from .metrics.features import load_extractor
    from .metrics.neighbours import neighbours
    from .sampling import sample as sampled

    seeds = range(seed, seed + 16)
    samples = np.concatenate(list(sampled(model, seeds)))
    trained_on = faces.everything(model.resolution, progress())
    names = [str(number) for number in seeds]
    extractor = load_extractor("tags", device=model.device)
    neighbours(samples, trained_on, extractor=extractor, labels=names, out=out, progress=progress())
    return out


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one, resolved.")] = None,
) -> None:
    """List the recipes, or print one."""
    from .recipe import load_recipe, recipe_names

    if name is not None:
        print(load_recipe(name).to_toml(), end="")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("recipe", "what it is", "after"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "recipe")
    for known in recipe_names():
        recipe = load_recipe(known)
        table.add_row(Text(known, style="bold"), Text(recipe.title), Text(recipe.source, style="dim"))
    console = Console(highlight=False)
    console.print(table)
    console.print(Text("\nomokage recipes NAME prints one with all its settings"))


@app.command()
def doctor() -> None:
    """Say what this machine can do, and what to install for what is missing."""
    from .doctor import examine, show

    findings = examine()
    raise typer.Exit(show(findings))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("demo"),
) -> None:
    """The whole job on drawn faces in minutes, and pictures from the model that ships."""
    from .demo import demo as run

    run(out, progress=progress())


app.add_typer(figure.app, name="figure")
app.command("import")(imports.import_model)


def _complain(message: str) -> None:
    red = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    label = "\x1b[31merror:\x1b[0m" if red else "error:"
    print(label, " ".join(message.split()), file=sys.stderr)


def _usage(error: Exception) -> str:
    """One line for a usage error of typer: what is wrong, the nearest right option, where to read more."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "omokage"
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    option = getattr(error, "option_name", None)
    if context and option and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.params for name in parameter.opts]
        nearest = get_close_matches(option, known, n=1)
        message = f"No such option {option}" + (f". Did you mean {nearest[0]}?" if nearest else "")
    message = message[:1].lower() + message[1:]
    return f"{message}{'' if message.endswith('?') else '.'} See {command} --help"


# What the machine refuses, not what the program does wrong: one line instead of a traceback.
_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with ``arguments`` (None: those of the process) and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a letter shows "?" instead of failing
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
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone; without this Python would complain again while it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _complain(_REFUSALS[error.errno] + (f": {error.filename}" if error.filename else ""))
        return 2
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
