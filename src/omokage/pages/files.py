"""Checks of output names, text chunks of pictures, and writing files whole or not at all."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from omokage import __version__, files
from omokage.errors import UserError
from omokage.model import About
from omokage.sampling import seed_ranges
from omokage.settings import Settings

# Pillow, which most Python programs read pictures with, refuses a larger picture as a decompression bomb.
MAX_PIXELS = 178_000_000


def about_text(about: About) -> dict[str, str]:
    """Which model made a picture, for text chunks."""
    return {
        "Software": f"omokage {__version__}",
        "recipe": about.recipe,
        "snapshot": about.snapshot_hash,
        "images seen": str(about.images_seen),
    }


def provenance(
    about: About, seeds: Sequence[int], settings: Settings, finite: Sequence[bool] | np.ndarray | None = None
) -> dict[str, str]:
    """What is needed to make the same faces again, and which seeds were not finite, for text chunks."""
    text = about_text(about) | {"seeds": seed_ranges(seeds)} | settings.text()
    if finite is not None and not all(finite):
        lost = [seed for seed, whole in zip(seeds, finite, strict=True) if not whole]
        text["not finite"] = seed_ranges(lost)
    return text


def count_not_finite(number: int) -> dict[str, str]:
    """How many faces were not finite, if any, for text chunks of pictures whose faces have no seeds."""
    return {"not finite": f"{number} faces"} if number else {}


def checked_size(width: int, height: int, out: str | Path) -> None:
    """Raise UserError if a picture would be too large for programs to open."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{out}: the picture would be {width}×{height} px, more than readers open;"
            " give fewer seeds, or write one file a seed"
        )


def checked_file(out: str | Path, suffix: str) -> Path:
    """``out`` as a path; its folder is made if missing. UserError if it cannot be such a file."""
    path = Path(out)
    if path.suffix.lower() != suffix:
        example = path.with_suffix(suffix).name if path.name else f"faces{suffix}"
        raise UserError(f"{path}: the name must end in {suffix}, for example {example}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file that ends in {suffix}")
    checked_folder(path.parent)
    return path


def checked_folder(folder: str | Path) -> Path:
    """``folder``, made with its parents if missing; UserError if that is impossible."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{path} is a file, and a folder is needed there; give another name") from None
    except NotADirectoryError:
        raise UserError(f"{path}: one of its parents is a file; give another name") from None
    except OSError as error:
        raise UserError(f"{path}: cannot make this folder: {error.strerror}") from None
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``: renamed to it if the block succeeds, deleted if it fails.

    OSError inside the block (disk full, no permission) becomes a UserError.
    """
    try:
        with files.replacing(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror or error}") from error


def save_png(image: Image.Image | np.ndarray, path: Path, text: dict[str, str]) -> Path:
    """Write a PNG with ``text`` in its text chunks, whole or not at all; returns its path."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    chunks = PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    with replacing(path) as unfinished:
        picture.save(unfinished, format="PNG", optimize=True, pnginfo=chunks)
    return path


def save_table(header: Sequence[str], rows: Iterable[Sequence[object]], path: Path) -> Path:
    """Write a CSV, whole or not at all; returns its path."""
    with replacing(path) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(header)
        lines.writerows(rows)
    return path
