"""A sheet of faces from a face set, each with its key or a label below it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from omokage import __version__
from omokage.data.derive.choose import known_column
from omokage.data.store.columns import as_text
from omokage.data.store.faceset import FaceSet
from omokage.data.text import one_line
from omokage.pages.files import checked_file, checked_size, save_png
from omokage.pages.sheet import FAINT_INK, INK, PAPER, chosen_columns, font

CELL = 128
_MARGIN, _GAP, _LABEL, _HEAD = 48, 16, 28, 92


def write_face_sheet(
    faces: FaceSet,
    rows: Sequence[Sequence[int]] | Sequence[int] | np.ndarray,
    out: str | Path,
    *,
    title: str | None = None,
    line: str = "",
    label: str | None = None,
    columns: int | None = None,
) -> Path:
    """Write a PNG with faces of a face set, a title and a line of small print. Returns its path.

    Args:
        rows: row numbers of the face set, laid out near a square or in ``columns``; or lists of row numbers,
            one list for each line of the sheet.
        label: the column that is written below each face; None: the key.
    """
    known_column(faces.index, label or "key")
    groups: list[Any] = list(rows)
    if groups and isinstance(groups[0], Sequence):
        lines = [[int(row) for row in group] for group in groups]
        columns = max(map(len, lines))
    else:
        columns = chosen_columns(max(len(groups), 1), columns)
        lines = [[int(row) for row in groups[i : i + columns]] for i in range(0, len(groups), columns)]
    width = 2 * _MARGIN + max(columns * (CELL + _GAP) - _GAP, 4 * CELL)
    height = 2 * _MARGIN + _HEAD + len(lines) * (CELL + _LABEL) - _LABEL // 2
    checked_size(width, height, out)
    path = checked_file(out, ".png")
    flat = [row for group in lines for row in group]
    texts = as_text(faces.index[label or "key"].take(flat)).to_pylist() if flat else []

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    title = title or f"{len(flat):,} faces of {faces.path.name}"
    for text, top, size, ink in ((title, 0, 40, INK), (line, 50, 16, FAINT_INK)):
        draw.text((_MARGIN, _MARGIN + top), _cut(draw, text, size, width - 2 * _MARGIN), ink, font(size))
    place = iter(texts)
    for y, group in enumerate(lines):
        for x, row in enumerate(group):
            left, top = _MARGIN + x * (CELL + _GAP), _MARGIN + _HEAD + y * (CELL + _LABEL)
            face = _fitted(faces.image(row))
            sheet.paste(face, (left + (CELL - face.width) // 2, top + (CELL - face.height) // 2))
            text = next(place)
            text = text.rsplit("/", 1)[-1] if label is None else text
            centre = (left + CELL // 2, top + CELL + _LABEL * 3 // 8)
            draw.text(centre, _cut(draw, text, 12, CELL), FAINT_INK, font(12), anchor="mm")
    save_png(sheet, path, {"Software": f"omokage {__version__}", "Title": title, "faces": faces.content_hash})
    return path


def _fitted(face: Image.Image) -> Image.Image:
    scale = CELL / max(face.size)
    size = (max(1, round(face.width * scale)), max(1, round(face.height * scale)))
    return face if face.size == size else face.resize(size, Image.Resampling.LANCZOS)


def _cut(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    """``text`` in one line, cut and ended with dots if it is wider than ``width``."""
    text = one_line(text)
    if draw.textlength(text, font(size)) <= width:
        return text
    while text and draw.textlength(text + "…", font(size)) > width:
        text = text[:-1]
    return text + "…"
