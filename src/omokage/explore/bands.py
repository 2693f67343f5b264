"""A page of faces in bands: each band has a heading, and each face a caption."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from omokage.explore.contact_sheet import FAINT_INK, INK, PAPER, SHOWN_SIZE, font_that_fits, rounded_mask
from omokage.explore.pictures import checked_file, checked_size, enlarged, model_text, save_png


@dataclass(frozen=True)
class Band:
    """Faces that belong together.

    heading: one line above them.
    faces: uint8 (N, H, W, 3), of the same size in all bands of a page.
    captions: one a face, below it.
    """

    heading: str
    faces: np.ndarray
    captions: Sequence[str] = field(default=())


def write_bands(
    model: Any, bands: Sequence[Band], out: str | Path, *, title: str, columns: int, text: dict[str, str]
) -> Path:
    """Write a PNG: ``bands`` one below the other, ``columns`` faces a row, a title and a model line above.

    ``text`` joins what the text chunks say of the model. Returns the path written.

    UserError: a name that does not end in .png or cannot be written, a picture too large to open.
    """
    face_height, face_width = bands[0].faces.shape[1:3]
    factor = ceil(SHOWN_SIZE / min(face_height, face_width))
    height, width = face_height * factor, face_width * factor
    # All measures follow from the width of a face, so that pages of every resolution look alike.
    margin, gap, label, heading_size = width * 3 // 8, width // 8, width // 4, width // 6
    title_size, line_size = width * 5 // 16, width // 8
    head = title_size + line_size * 2
    rows = [ceil(len(band.faces) / columns) for band in bands]
    page_width = max(2 * margin + columns * (width + gap) - gap, 5 * width)
    page_height = 2 * margin + head + sum(2 * heading_size + n * (height + label) for n in rows)
    checked_size(page_width, page_height, out)
    path = checked_file(out, ".png")

    page = Image.new("RGB", (page_width, page_height), PAPER)
    draw = ImageDraw.Draw(page)
    inner = page_width - 2 * margin

    def write(
        words: str, x: float, y: float, size: int, room: int, ink: tuple[int, int, int], at: str
    ) -> None:
        draw.text((x, y), words, ink, font_that_fits(draw, words, size, room), anchor=at)

    line = (
        f"{model.recipe.name}  ·  {model.images_seen:,} images seen  ·  snapshot {model.snapshot_hash[:12]}"
    )
    write(title, margin, margin, title_size, inner, INK, "lt")
    write(line, margin, margin + title_size + line_size // 2, line_size, inner, FAINT_INK, "lt")
    corners = rounded_mask(width, height, radius=width // 16)
    top = margin + head
    for band, count in zip(bands, rows, strict=True):
        write(band.heading, margin, top + 3 * heading_size // 2, heading_size, inner, INK, "ls")
        top += 2 * heading_size
        for i, face in enumerate(band.faces):
            x, y = margin + (i % columns) * (width + gap), top + (i // columns) * (height + label)
            page.paste(Image.fromarray(enlarged(face, factor)), (x, y), corners)
            if i < len(band.captions):
                below = y + height + label * 3 // 8
                write(band.captions[i], x + width // 2, below, line_size, width + gap // 2, FAINT_INK, "mm")
        top += count * (height + label)
    save_png(page, path, model_text(model) | {"Title": title} | text)
    return path
