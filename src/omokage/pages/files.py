"""Checks of output names, text chunks of pictures, and writing files whole or not at all."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from omokage import __version__, files
from omokage.errors import UserError
from omokage.explore.provenance import PAGE, Provenance, settings_json
from omokage.model import About, Model
from omokage.sampling import seed_ranges
from omokage.settings import Settings

# Whether pictures and films get text that says how they were made; `metadata` sets it.
_METADATA: ContextVar[bool] = ContextVar("metadata", default=True)

# Pillow, which most Python programs read pictures with, refuses a larger picture as a decompression bomb.
MAX_PIXELS = 178_000_000


@contextmanager
def metadata(wanted: bool) -> Iterator[None]:
    """If not ``wanted``, pictures and films in this block are written without text about their making."""
    token = _METADATA.set(wanted)
    try:
        yield
    finally:
        _METADATA.reset(token)


def told_text(text: dict[str, str]) -> dict[str, str]:
    """``text``, or nothing within a block of ``metadata(False)``."""
    return text if _METADATA.get() else {}


def about_text(about: About) -> dict[str, str]:
    """Which model made a picture, for text chunks."""
    return {
        "Software": f"omokage {__version__}",
        "recipe": about.recipe,
        "snapshot": about.snapshot_hash,
        "images seen": str(about.images_seen),
    }


def provenance(
    about: About,
    seeds: Sequence[int],
    settings: Settings,
    finite: Sequence[bool] | np.ndarray | None = None,
    *,
    kind: str = PAGE,
    arguments: Mapping[str, Any] | None = None,
    size: tuple[int, int] = (0, 0),
    upscale: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """What is needed to make the same faces again, and which seeds were not finite, for text chunks.

    ``size``: height and width of a face. The rest is as in `omokage.explore.provenance.Provenance`.
    """
    faces = [{"seed": int(seed)} for seed in seeds]
    told = Provenance(kind, about, faces, settings, arguments or {}, upscale or {}, (size[1], size[0]))
    return recipe_text(told, finite)


def recipe_text(told: Provenance, finite: Sequence[bool] | np.ndarray | None = None) -> dict[str, str]:
    """All text chunks of a picture's recipe; ``finite``: which of its faces are finite, one each."""
    text = about_text(told.about) | told.settings.text() | told.text()
    if told.faces and len(told.seeds) == len(told.faces):
        text["seeds"] = seed_ranges(told.seeds)
    if finite is not None and not all(finite):
        names = [face.get("seed", face.get("name", row)) for row, face in enumerate(told.faces)]
        lost = [name for name, whole in zip(names, finite, strict=True) if not whole]
        whole_numbers = all(isinstance(name, int) for name in lost)
        text["not finite"] = seed_ranges(lost) if whole_numbers else ", ".join(map(str, lost))
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
    for key, value in told_text(text).items():
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


def run_file(
    outputs: Sequence[Path],
    *,
    command: str,
    model: Model | None,
    settings: Settings,
    faces: Sequence[Mapping[str, Any]],
    arguments: Mapping[str, Any],
    told: Sequence[str] = (),
) -> Path:
    """Write a JSON file beside the first output with everything that made the outputs. Returns its path.

    Its name is that of the output with ``.json`` added, such as ``walk.mp4.json``.
    """
    path = outputs[0].with_name(outputs[0].name + ".json")
    record = {
        "omokage": __version__,
        "command": command,
        "outputs": [output.name for output in outputs],
        "model": model
        and {
            "recipe": model.about.recipe,
            "images": model.about.images_seen,
            "snapshot": model.about.snapshot_hash,
            "file": None if model.path is None else str(model.path),
        },
        "settings": settings_json(settings),
        "arguments": dict(arguments),
        "faces": [dict(face) for face in faces],
        "told": list(told),
    }
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
