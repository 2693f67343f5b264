"""A short demo: every step of the work on drawn faces, then pictures from the shipped model."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from .errors import UserError
from .progress import Progress

FACES = 2000
MINUTES = 2.0
PROTOCOL = "fid2k-full-inception2015"


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
    minutes: float = MINUTES,
    protocol: str = PROTOCOL,
    overrides: tuple[str, ...] = (),
    frames_per_leg: int = 45,
    progress: Progress | None = None,
    console: Console | None = None,
) -> list[Made]:
    """Draw faces, build a face set, train ``fast``, sample, evaluate; then show the shipped model.

    Everything is written to the folder ``out``. Run again, the demo continues where it stopped: finished
    parts are kept, pictures and measurements are made again. ``overrides`` change the recipe.
    ``frames_per_leg``: frames of the walk from one face to the next. If the file of the Inception network is
    missing, the demo says so first and does not measure FID. Returns the results.

    Raises:
        UserError: ``out`` has other files under the names of the demo, or is a face set.
    """
    # Imported here so that the command line starts without PyTorch.
    from .data.build import build
    from .data.drawn import draw
    from .data.faceset import MANIFEST, FaceSet
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
    with steps.step(f"Train the recipe fast for {minutes:g} minutes", "run: snapshots, logs", run):
        recipe = load_recipe(
            "fast", ("log_kimg=0.5", "grid_kimg=2", *overrides)
        )  # more often than by default
        train(recipe, face_set, run, minutes=minutes, progress=progress)
    with steps.step("Sample what was learned", "64 samples of that run", out / "samples.png"):
        write_grid(load_model(run), range(64), out / "samples.png", progress=progress, broken=broken)
        steps.tell_broken("seeds", broken)
    if without is None:
        with steps.step(f"Evaluate by {protocol}", "figures, as a JSON line", run / "evaluations.jsonl"):
            lines = run / "evaluations.jsonl"
            record = evaluate(load_model(run), FaceSet.open(face_set), protocol, lines, progress)
        print_results([record], console)

    model = load_model(None)
    grid, sheet, walk = out / "shipped-grid.png", out / "shipped-sheet.png", out / "shipped-walk.mp4"
    with steps.step("The model that ships: a grid", "64 faces of the shipped model", grid):
        write_grid(model, range(64), grid, progress=progress)
    with steps.step("The model that ships: a contact sheet", "contact sheet with seeds", sheet):
        write_sheet(model, range(100, 124), sheet, settings=Settings(psi=0.8), progress=progress)
    with steps.step("The model that ships: a walk through its latents", "latent walk, MP4", walk):
        write_walk(
            model,
            range(8),
            walk,
            settings=Settings(psi=0.8),
            frames_per_leg=frames_per_leg,
            progress=progress,
        )

    _show(console, steps.made, time.monotonic() - started, out)
    if without is not None:
        command = f"{_typed('omokage')} evaluate {run} --data {face_set} --protocol {protocol}"
        console.print(Text(f"  {command}  # once the Inception file is here"), soft_wrap=True)
    return steps.made


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
    omokage, tensorboard = _typed("omokage"), _typed("tensorboard")
    for line in (
        f"{omokage} sample {out / 'run'} --seeds 64-127 -o more.png",
        f"{omokage} sample --seeds 17 --psi 0.7 -o face.png",
        f"{omokage} build YOUR-FACES/ -o faces/ --as-faces",
        f"{omokage} train fast --data faces/ --out runs/fast --minutes 60",
        f"{tensorboard} --logdir {out / 'run'}",
    ):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _typed(command: str) -> str:
    """How a user types ``command`` here: its name, or its path if the environment is not activated."""
    beside = Path(sys.argv[0]).parent / command
    if shutil.which(command) or not beside.exists():
        return command
    return os.path.relpath(beside)
