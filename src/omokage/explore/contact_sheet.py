"""A sheet of faces to show and to choose from: each with its seed, under a title."""

from collections.abc import Sequence
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from omokage.explore.grid import sampled_faces
from omokage.explore.pictures import (
    checked_file,
    checked_seeds,
    checked_size,
    chosen_columns,
    enlarged,
    provenance,
    save_png,
)
from omokage.progress import Progress

PAPER = (250, 248, 245)
INK = (43, 40, 51)
FAINT_INK = (122, 116, 131)
# A face is enlarged by a whole number until its shorter side has at least this many pixels.
SHOWN_SIZE = 128


def write_contact_sheet(
    model: Any,
    seeds: Sequence[int],
    out: str | Path,
    *,
    psi: float = 1.0,
    columns: int | None = None,
    title: str | None = None,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write a PNG with the faces of ``seeds``, enlarged, each above its seed, under a title and a model line.

    ``title``: None says how many faces there are. ``columns``: None chooses a near-square sheet. Returns
    the path written. ``broken`` and UserError as `omokage.explore.grid.write_grid`.
    """
    seeds = checked_seeds(seeds, psi)
    columns = chosen_columns(len(seeds), columns)
    factor = ceil(SHOWN_SIZE / min(model.resolution))
    height, width = (side * factor for side in model.resolution)
    # All measures follow from the width of a face, so that sheets of every resolution look alike.
    margin, gap, label = width * 3 // 8, width // 8, width // 4
    title_size, line_size, seed_size = width * 5 // 16, width // 8, width // 8
    head = title_size + line_size * 3
    rows = ceil(len(seeds) / columns)
    sheet_width = max(2 * margin + columns * (width + gap) - gap, 4 * width)
    sheet_height = 2 * margin + head + rows * (height + label) - label // 2
    checked_size(sheet_width, sheet_height, out)
    path = checked_file(out, ".png")

    sheet = Image.new("RGB", (sheet_width, sheet_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    inner = sheet_width - 2 * margin
    title = title or f"{len(seeds):,} generated face{'s'[: len(seeds) > 1]}"
    model_line = (
        f"{model.recipe.name}  ·  {model.images_seen:,} images seen  ·  psi {psi:g}"
        f"  ·  snapshot {model.snapshot_hash[:12]}"
    )
    draw.text((margin, margin), title, INK, font_that_fits(draw, title, title_size, inner), anchor="lt")
    draw.text(
        (margin, margin + title_size + line_size // 2),
        model_line,
        FAINT_INK,
        font_that_fits(draw, model_line, line_size, inner),
        anchor="lt",
    )
    corners = rounded_mask(width, height, radius=width // 16)
    broken = [] if broken is None else broken
    for i, (seed, face) in enumerate(sampled_faces(model, seeds, psi, progress, broken)):
        x = margin + (i % columns) * (width + gap)
        y = margin + head + (i // columns) * (height + label)
        sheet.paste(Image.fromarray(enlarged(face, factor)), (x, y), corners)
        text = str(seed)
        font = font_that_fits(draw, text, seed_size, width)
        draw.text((x + width // 2, y + height + label * 3 // 8), text, FAINT_INK, font, anchor="mm")
    save_png(sheet, path, provenance(model, seeds, psi, broken) | {"Title": title, "columns": str(columns)})
    return path


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def font_that_fits(
    draw: ImageDraw.ImageDraw, text: str, size: int, width: int
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at ``size``, smaller where ``text`` would be wider than ``width``."""
    length = draw.textlength(text, _font(size))
    return _font(size) if length <= width else _font(max(6, int(size * width / length)))


def rounded_mask(width: int, height: int, radius: int) -> Image.Image:
    """An antialiased rectangle with rounded corners, drawn four times as large."""
    large = Image.new("L", (width * 4, height * 4), 0)
    box = (0, 0, width * 4 - 1, height * 4 - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * 4, fill=255)
    return large.resize((width, height), Image.Resampling.BOX)
