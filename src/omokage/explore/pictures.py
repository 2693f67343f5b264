"""Arranging faces on one picture and writing pictures that say how they were made."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from omokage import __version__
from omokage.errors import UserError

# Pillow, and with it most readers in Python, refuses a picture above this as a decompression bomb.
MOST_PIXELS = 178_000_000


def near_square_columns(n: int) -> int:
    """The number of columns in which ``n`` faces leave the fewest empty places, near a square.

    >>> [near_square_columns(n) for n in (1, 8, 10, 16, 64)]
    [1, 4, 5, 4, 8]
    """
    narrowest = ceil(sqrt(n))
    widest = max(narrowest, int(1.5 * sqrt(n) + 0.5))
    return min(range(narrowest, widest + 1), key=lambda columns: (-n % columns, columns))


def chosen_columns(n: int, columns: int | None) -> int:
    """``columns`` as the user asked for, no more than ``n``; a near-square number where it is None."""
    if columns is not None and columns < 1:
        raise UserError(f"columns must be at least 1, got {columns}")
    return near_square_columns(n) if columns is None else min(columns, n)


def checked_seeds(seeds: Sequence[int], psi: float) -> list[int]:
    """``seeds`` as a list; UserError where there are none, one is negative, or psi is not a finite number."""
    if len(seeds) == 0:
        raise UserError("no seeds given; name some, for example 0-63")
    if min(seeds) < 0:
        raise UserError(f"a seed must be 0 or more, got {min(seeds)}")
    if not isfinite(psi):
        raise UserError(f"psi must be a finite number, got {psi}")
    return [int(seed) for seed in seeds]


def seed_ranges(seeds: Sequence[int]) -> str:
    """Seeds in their order, runs of neighbours shortened.

    >>> seed_ranges([0, 1, 2, 17, 5, 6])
    '0-2,17,5-6'
    """
    seeds = list(seeds)
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(seeds)) if b != a + 1), len(seeds)]
    runs = ((seeds[a], seeds[b - 1]) for a, b in pairwise(starts))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def model_text(model: Any) -> dict[str, str]:
    """Which model made a picture, for text chunks."""
    return {
        "Software": f"omokage {__version__}",
        "recipe": model.recipe.name,
        "snapshot": model.snapshot_hash,
        "images seen": str(model.images_seen),
    }


def provenance(model: Any, seeds: Sequence[int], psi: float, broken: Sequence[int] = ()) -> dict[str, str]:
    """What is needed to make the same faces again, for text chunks; and which seeds were not finite."""
    lost = set(broken)
    not_finite = [seed for seed in seeds if seed in lost]
    text = model_text(model) | {"seeds": seed_ranges(seeds), "psi": f"{psi:g}"}
    if given := getattr(model, "given", {}):
        text["conditions"] = ", ".join(f"{name}={value}" for name, value in given.items())
    if guidance := getattr(model, "guidance", 0.0):
        text["guidance"] = f"{guidance:g}"
    if jacobi := getattr(model, "jacobi", 0):
        text["Jacobi iterations"] = str(jacobi)
    return text | ({"not finite": seed_ranges(not_finite)} if not_finite else {})


def tile(
    faces: np.ndarray, columns: int, *, gutter: int, border: int = 0, background: tuple[int, int, int]
) -> np.ndarray:
    """Faces in reading order on one picture.

    ``faces``: uint8 (N, H, W, 3); ``gutter`` and ``border``: pixels between the faces and around them.
    Returns uint8 (height, width, 3); places that no face fills show ``background``.
    """
    n, height, width, _ = faces.shape
    rows = ceil(n / columns)
    picture = np.empty(
        (
            rows * (height + gutter) - gutter + 2 * border,
            columns * (width + gutter) - gutter + 2 * border,
            3,
        ),
        np.uint8,
    )
    picture[:] = background
    for i, face in enumerate(faces):
        y = border + (i // columns) * (height + gutter)
        x = border + (i % columns) * (width + gutter)
        picture[y : y + height, x : x + width] = face
    return picture


def enlarged(face: np.ndarray, factor: int) -> np.ndarray:
    """One face (H, W, 3) uint8, ``factor`` times as large, by Lanczos (3 lobes)."""
    if factor == 1:
        return face
    height, width, _ = face.shape
    image = Image.fromarray(face).resize((width * factor, height * factor), Image.Resampling.LANCZOS)
    return np.asarray(image)


def checked_size(width: int, height: int, out: str | Path) -> None:
    """UserError where a picture would be too large for readers to open."""
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{out}: the picture would be {width}×{height} px, more than readers open;"
            " give fewer seeds, or write one file a seed"
        )


def checked_file(out: str | Path, suffix: str) -> Path:
    """``out`` as a path whose folder exists, made where missing; UserError where it cannot be such a file."""
    path = Path(out)
    if path.suffix.lower() != suffix:
        example = path.with_suffix(suffix).name if path.name else f"faces{suffix}"
        raise UserError(f"{path}: the name must end in {suffix}, for example {example}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file that ends in {suffix}")
    checked_folder(path.parent)
    return path


def checked_folder(folder: str | Path) -> Path:
    """``folder``, made with its parents where missing; UserError where that is impossible."""
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
    """A temporary name beside ``path``: moved onto it when the block ends well, deleted when it does not.

    OSError inside the block (disk full, no permission) becomes a UserError.
    """
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def save_png(image: Image.Image, path: Path, text: dict[str, str]) -> None:
    """Write a PNG with ``text`` in its text chunks, whole or not at all."""
    chunks = PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    with replacing(path) as unfinished:
        image.save(unfinished, format="PNG", optimize=True, pnginfo=chunks)
