"""Exploration: the pictures of docs/exploration.md for any model, and how long a walk of ten seconds takes.

    python bench/exploration.py pictures docs/images --model RUN [--runs RUN...]
    python bench/exploration.py walk --model RUN

``pictures`` writes the pictures of the page, 800 px wide and in 256 colours: walk, traversal, truncation; of
a model with styles also mixing; of ``--runs`` the last frame of the montage. ``walk`` prints how long a film
of ten seconds takes in each format, and the largest memory in use.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from PIL import Image

from omokage.abilities import HasStyles
from omokage.explore.inputs import gather
from omokage.exploring import mix, montage, traverse, truncate, walk
from omokage.model import Model, load_model
from omokage.settings import Settings

WIDTH = 800


def reduced(path: Path, out: Path) -> None:
    """Write a picture for a page: at most `WIDTH` wide, 256 colours, no text chunks."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    if image.width > WIDTH:
        size = (WIDTH, round(image.height * WIDTH / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    print(out, f"{out.stat().st_size:,} bytes")


def pictures(model: Model, folder: Path, runs: list[Path]) -> None:
    """Write the pictures of the page into ``folder``."""
    settings = Settings(psi=0.8)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary) / "page.png"

        def faces(text: str, how: Settings = settings, space: str | None = None):  # type: ignore[no-untyped-def]
            return gather([text], model, settings=how, space=space)

        walk(model, faces("102,107,115"), scratch, settings=settings)
        reduced(scratch, folder / "exploration-walk.png")
        traverse(model, faces("107", Settings(), "z"), scratch)
        reduced(scratch, folder / "exploration-traverse.png")
        truncate(model, faces("100-103", Settings()), scratch)
        reduced(scratch, folder / "exploration-truncate.png")
        if model.can(HasStyles):
            mix(model, faces("100-105"), faces("200-204"), scratch, settings=settings)
            reduced(scratch, folder / "exploration-mix.png")
        if runs:
            film = Path(temporary) / "montage.mp4"
            montage(runs, film)
            last_frame(film).save(scratch)
            reduced(scratch, folder / "exploration-montage.png")


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
    given = parser.parse_args()
    model = load_model(given.model)
    if given.what == "pictures":
        pictures(model, given.folder, given.runs)
    else:
        measured(model)


if __name__ == "__main__":
    main()
