"""The pictures of the model that ships in the docs, for any model, and how long a walk of ten seconds takes.

    python bench/exploration.py pictures docs/images --model RUN [--runs RUN...] [--beside RUN]
    python bench/exploration.py walk --model RUN

``pictures`` writes the model's samples for README and model card, and those of docs/exploration.md, 800 px
wide and in 256 colours: walk, traversal, truncation; of a model with styles also mixing and path lengths;
if it has a direction of hair, steered faces and faces in all colours of hair; of ``--runs`` the last frame
of the montage; of ``--beside`` the traversal of that model beside this one's, at one scale. ``walk`` prints
how long a film of ten seconds takes in each format, and the largest memory in use.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from omokage.__main__ import main as omokage
from omokage.abilities import HasStyles
from omokage.errors import UserError
from omokage.explore.directions import directions_of, moved
from omokage.explore.faces import Faces
from omokage.explore.inputs import gather
from omokage.explore.points import drawn, of_seeds
from omokage.exploring import mix, montage, traverse, truncate, walk
from omokage.model import Model, load_model
from omokage.pages.figures import table
from omokage.samples import write_grid, write_sheet
from omokage.settings import Settings

WIDTH = 800
WIDE = 1200  # of two tables side by side
COLOURED = (0, 3, 10, 13, 17, 36)  # seeds of the faces in every colour of hair
HAIR = ("hair=blue", "hair=pink", "hair=blonde")  # steered to the first of these that has a slider


def reduced(path: Path, out: Path, width: int = WIDTH) -> None:
    """Write a picture for a page: at most ``width`` wide, 256 colours, no text chunks."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    if image.width > width:
        size = (width, round(image.height * width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    print(out, f"{out.stat().st_size:,} bytes")


def side_by_side(left: Path, right: Path) -> Image.Image:
    """Two pages in one, as large as they are, on the colour of their margins."""
    pages = [Image.open(path).convert("RGB") for path in (left, right)]
    size = (sum(page.width for page in pages), max(page.height for page in pages))
    both = Image.new("RGB", size, pages[0].getpixel((0, 0)))
    both.paste(pages[0], (0, 0))
    both.paste(pages[1], (pages[0].width, 0))
    return both


def command(model: str | None, *words: str | Path) -> None:
    """Run a command of omokage on the model; RuntimeError if it fails."""
    named = [] if model is None else ["--model", model]
    if code := omokage([*map(str, words), *named]):
        raise RuntimeError(f"omokage {words[0]} ended with exit code {code}")


def pictures(model: Model, name: str | None, folder: Path, runs: list[Path], beside: Path | None) -> None:
    """Write the pictures of the pages into ``folder``; ``name``: the model's, as for `load_model`."""
    write_grid(model, range(64), folder / "shipped-grid.png", columns=8)
    write_sheet(model, range(100, 124), folder / "shipped-sheet.png", settings=Settings(psi=0.8))
    print(folder / "shipped-grid.png", folder / "shipped-sheet.png")
    settings = Settings(psi=0.8)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary) / "page.png"

        def faces(text: str, how: Settings = settings, space: str | None = None):  # type: ignore[no-untyped-def]
            return gather([text], model, settings=how, space=space)

        walk(model, faces("102,107,115"), scratch, settings=settings)
        reduced(scratch, folder / "exploration-walk.png")
        traverse(model, faces("107", Settings(), "z"), scratch)
        reduced(scratch, folder / "exploration-traverse.png")
        if beside is not None:
            other, second = load_model(beside), Path(temporary) / "other.png"
            traverse(other, gather(["107"], other, space="z"), second)
            side_by_side(second, scratch).save(scratch)
            reduced(scratch, folder / "exploration-traverse-beside.png", WIDE)
            print(f"left: {other.about.line()}")
        truncate(model, faces("100-103", Settings()), scratch)
        reduced(scratch, folder / "exploration-truncate.png")
        if model.can(HasStyles):
            mix(model, faces("100-105"), faces("200-204"), scratch, settings=settings)
            reduced(scratch, folder / "exploration-mix.png")
            command(name, "explain", "entanglement", "-o", scratch, "--pairs", "80")
            reduced(scratch, folder / "explain-entanglement.png")
        colour = slider(model)
        if colour is None:
            print("steered.png stays: the model has no directions of hair")
        else:
            out = folder / "steered.png"
            command(name, "steer", "0-5", "--psi", "0.8", "--hair", colour, "-o", out)
            out.with_name(out.name + ".json").unlink()  # the run file
            hair_colours(model, scratch)
            reduced(scratch, folder / "hair-colours.png", WIDE)
        if runs:
            film = Path(temporary) / "montage.mp4"
            montage(runs, film)
            last_frame(film).save(scratch)
            reduced(scratch, folder / "exploration-montage.png")


def hair_colours(model: Model, out: Path) -> None:
    """Some faces in every colour of hair that has a slider: each at its goal, or at half of the range."""
    directions, settings = directions_of(model), Settings(psi=0.8)
    ways = [row for row in directions.rows if row.offered and row.attribute == "hair"]
    points = of_seeds(model, COLOURED, settings, directions.space)
    stacks = [points, *(moved(points, way, way.chosen) for way in ways)]
    columns = [np.concatenate([pixels for pixels, _ in drawn(model, each, settings)]) for each in stacks]
    rows = [
        Faces(np.stack([column[row] for column in columns]), heading=str(seed))
        for row, seed in enumerate(COLOURED)
    ]
    headings, line = ["as drawn", *(way.value for way in ways)], model.about.line("psi 0.8")
    table([rows], out, title="Colours of hair", line=line, columns=headings, text={}, rows="seed")


def slider(model: Model) -> str | None:
    """The first colour of `HAIR` with a slider among the directions beside a model; None: there is none."""
    try:
        rows = directions_of(model, None).rows
    except UserError:
        return None
    offered = {row.name for row in rows if row.offered}
    return next((name.partition("=")[2] for name in HAIR if name in offered), None)


def last_frame(film: Path) -> Image.Image:
    """The last frame of a film."""
    import av

    with av.open(str(film)) as container:
        for frame in container.decode(video=0):  # noqa: B007 - only the last is wanted
            pass
    return frame.to_image()


def measured(model: Model) -> None:
    """Print how long a film of ten seconds takes, by its format."""
    given = gather(["0-7"], model)
    with tempfile.TemporaryDirectory() as temporary:
        for suffix in (".mp4", ".webp", ".gif"):
            began, used = time.perf_counter(), time.process_time()
            made = walk(model, given, Path(temporary) / f"walk{suffix}", seconds=10)
            seconds, processor = time.perf_counter() - began, time.process_time() - used
            size = made.path.stat().st_size
            print(f"{suffix}: {seconds:.1f} s, {processor:.1f} s of the processor, {size:,} bytes")
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pictures", "walk"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"))
    parser.add_argument("--model", default=None, help="a run or snapshot; default: the one that ships")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="runs for the montage")
    parser.add_argument("--beside", type=Path, help="another model, whose traversal stands on the left")
    given = parser.parse_args()
    model = load_model(given.model)
    if given.what == "pictures":
        pictures(model, given.model, given.folder, given.runs, given.beside)
    else:
        measured(model)


if __name__ == "__main__":
    main()
