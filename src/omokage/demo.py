"""A short demo: every step of the work on drawn faces, and a page about it."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from .errors import UserError
from .progress import Progress

FACES = 700
IMAGES = 7000  # images of the fine-tuning; in a trial, nearly all faces had the new style and two eyes then
MINUTES = 2.5  # ... or this long, whichever comes first
PSI = 0.7  # of the faces shown: fewer of them are broken than without truncation
# Inception sees the style of a picture, which is what changes; the tag features see hair and eyes instead.
PROTOCOL = "fid300-full-inception2015"
# It begins with fast-64, whose faces had the new style soonest. That model has no encoder, and one that
# begins anew would lead the generator astray: in a trial with reconstruction, faces were smeared after 3,000
# images. From a half-trained style-64, with its encoder, most cheeks were smeared by then. The discriminator
# begins anew too, so the generator learns more slowly. Seen at 64 px a step is quick, and drawn faces have no
# dots that need a larger size.
TUNED = (
    "objective.name=gan",
    "objective.loss=hinge",
    "discriminator.seen_at=[[0, 64]]",
    "learning_rate={ default = 4e-4, generator = 2e-4 }",
    "average_kimg=0.5",
    "average_ramp=0.3",
    "log_kimg=0.25",
    "grid_kimg=0.5",
)


@dataclass(frozen=True)
class Made:
    """One result of the demo: what it is, its path, and the seconds it took."""

    what: str
    where: Path
    seconds: float


class _Steps:
    """Announces each step, measures its time and stores its result."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.made: list[Made] = []

    @contextmanager
    def step(self, title: str, what: str, where: Path) -> Iterator[None]:
        if title:
            self.console.print(Rule(Text(title, style="bold"), align="left", style="dim"))
        start = time.monotonic()
        yield
        self.made.append(Made(what, where, time.monotonic() - start))

    def tell_broken(self, named: str, broken: list[int]) -> None:
        """Print which faces or frames are not finite, if any."""
        from .sampling import seed_ranges

        if broken:
            self.console.print(Text(f"not finite and shown black: {named} {seed_ranges(broken)}", "red"))


def demo(
    out: str | Path,
    *,
    faces: int = FACES,
    images: int = IMAGES,
    minutes: float = MINUTES,
    protocol: str = PROTOCOL,
    overrides: tuple[str, ...] = (),
    frames_per_leg: int = 45,
    progress: Progress | None = None,
    console: Console | None = None,
) -> list[Made]:
    """Draw faces, build a face set, teach the shipped model their style, measure; write a page about it.

    Everything is written to the folder ``out``; ``index.html`` in it shows faces before and after, a walk,
    the measurements and what to type next. Run again, the demo continues where it stopped: finished parts are
    kept, pictures and measurements are made again. ``overrides`` change the recipe.

    Args:
        images: the fine-tuning ends after this many images ...
        minutes: ... or after this time, so that it also ends on a slow machine.
        frames_per_leg: frames of the walk from one face to the next.

    If ``protocol`` needs the file of the Inception network and it is missing, the demo says so first and does
    not measure. Returns the results.

    Raises:
        UserError: ``out`` has other files under the names of the demo, or is a face set.
    """
    # Imported here so that the command line starts without PyTorch.
    from .data.build import build
    from .data.drawn import draw
    from .data.store.faceset import FaceSet
    from .data.store.format import MANIFEST
    from .metrics.report import evaluate, print_results
    from .model import load_model
    from .recipe import load_recipe
    from .running import train
    from .samples import write_grid, write_sheet, write_walk
    from .settings import Settings

    out = Path(out)
    if (out / MANIFEST).is_file():
        raise UserError(f"{out} is a face set: name another folder for the demo with -o")
    console = console or Console(highlight=False)
    steps = _Steps(console)
    started = time.monotonic()

    # Tell it now, not after minutes of training.
    without = _missing_for(protocol)
    if without is not None:
        console.print(Text(f"FID will be skipped: {without}"), soft_wrap=True)

    broken: list[int] = []
    drawn, face_set, run = out / "drawn", out / "faces", out / "run"
    with steps.step(f"Draw {faces:,} faces", f"{faces:,} drawn faces, factors.csv", drawn):
        draw(faces, drawn, progress=progress)
    with steps.step("Build a face set", "face set", face_set):
        build([drawn], face_set, as_faces=True, labels=drawn / "factors.csv", progress=progress)
    title = f"Teach the model fast-64 this style: {images:,} images, at most {minutes:g} minutes"
    with steps.step(title, "run: snapshots, logs", run):
        recipe = load_recipe("fast", (*TUNED, *overrides))
        train(recipe, face_set, run, images=images, minutes=minutes, start="fast-64", progress=progress)
    shipped, first, tuned = load_model(None), load_model("fast-64"), load_model(run)
    with steps.step("The same seeds before and after", "before: the model fast-64", out / "before.png"):
        write_grid(first, range(64), out / "before.png", settings=Settings(psi=PSI), progress=progress)
    with steps.step("", "after: 64 samples of that run", out / "samples.png"):
        write_grid(
            tuned,
            range(64),
            out / "samples.png",
            settings=Settings(psi=PSI),
            progress=progress,
            broken=broken,
        )
        steps.tell_broken("seeds", broken)
    records = []
    if without is None:
        lines = out / "evaluations.jsonl"
        with steps.step(f"Evaluate both by {protocol}", "figures, as JSON lines", lines):
            data = FaceSet.open(face_set)
            records = [evaluate(model, data, protocol, lines, progress) for model in (first, tuned)]
        print_results(records, console, ["before", "after"])

    sheet, walk = out / "shipped-sheet.png", out / "shipped-walk.mp4"
    with steps.step("The shipped model: a contact sheet", "contact sheet with seeds", sheet):
        write_sheet(shipped, range(100, 124), sheet, settings=Settings(psi=0.8), progress=progress)
    with steps.step("The shipped model: a walk through its latents", "latent walk, MP4", walk):
        write_walk(
            shipped,
            range(8),
            walk,
            settings=Settings(psi=0.8),
            frames_per_leg=frames_per_leg,
            tiles=(2, 2),
            progress=progress,
        )
    with steps.step("A page about it", "page: open this first", out / "index.html"):
        _write_page(out, faces, tuned, records, protocol)

    _show(console, steps.made, time.monotonic() - started, out)
    if without is not None:
        command = f"{_typed('omokage')} evaluate {run} --data {face_set} --protocol {protocol}"
        console.print(Text(f"  {command}  # once the Inception file is here"), soft_wrap=True)
    return steps.made


def _write_page(out: Path, faces: int, tuned: Any, records: list[dict[str, Any]], protocol: str) -> None:
    """index.html: before, after, the walk, the measurements, what to type next."""
    from markupsafe import Markup

    from . import __version__
    from .files import replacing
    from .report.page import templates

    environment = templates()
    page = environment.get_template("demo.html").render(
        style=Markup(environment.get_template("style.css").render()),
        version=__version__,
        faces=faces,
        images=tuned.about.images_seen,
        minutes=tuned.progress.get("seconds", 0) / 60,
        records=[(name, record["fid"]) for name, record in zip(("before", "after"), records, strict=False)],
        protocol=protocol,
        psi=PSI,
        next=_next(out),
    )
    with replacing(out / "index.html") as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _missing_for(protocol: str) -> str | None:
    """Why ``protocol`` cannot be measured on this machine; None if it can."""
    from .metrics.features import inception_file
    from .metrics.protocol import parse_protocol

    if parse_protocol(protocol).extractor != "inception2015":
        return None
    try:
        inception_file()
    except UserError as error:
        return str(error)
    return None


def _show(console: Console, made: list[Made], seconds: float, out: Path) -> None:
    console.print(Rule(Text("Done", style="bold"), align="left", style="dim"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("made")
    table.add_column("where", overflow="fold")
    table.add_column("seconds", justify="right")
    for item in made:
        table.add_row(Text(item.what), Text(str(item.where), style="bold"), f"{item.seconds:.0f}")
    table.add_row("", "", f"{seconds:.0f}")
    console.print(table)
    console.print(Text("\nNext", style="bold"))
    for line, _ in _next(out):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _next(out: Path) -> list[tuple[str, str]]:
    """Commands to type next, and what each does."""
    omokage, tensorboard = _typed("omokage"), _typed("tensorboard")
    return [
        (f"{omokage} studio", "a page in the browser: roll, steer and keep faces"),
        (f"{omokage} sample {out / 'run'} --seeds 64-127 -o more.png", "more faces of the tuned model"),
        (f"{omokage} sample --seeds 17 --psi 0.7 -o face.png", "a face of the shipped model"),
        (f"{omokage} build YOUR-FACES/ -o faces/ --as-faces", "a face set of your own pictures"),
        (
            f"{omokage} train fast-style --from shipped --data faces/ --out runs/mine --minutes 10",
            "the shipped model in the style of your pictures",
        ),
        (f"{omokage} train fast --data faces/ --out runs/fast --minutes 60", "a model from the start"),
        (f"{tensorboard} --logdir {out / 'run'}", "the curves of the training"),
    ]


def _typed(command: str) -> str:
    """How a user types ``command`` here: its name, or its path if the environment is not activated."""
    beside = Path(sys.argv[0]).parent / command
    if shutil.which(command) or not beside.exists():
        return command
    return os.path.relpath(beside)
