"""A page of samples beside the training faces nearest to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from omokage.metrics.neighbours import HELDOUT, SpaceReport
from omokage.pages.files import checked_file, save_png
from omokage.pages.sheet import font


def neighbour_sheet(
    samples: np.ndarray,
    faces: np.ndarray,
    spaces: Sequence[SpaceReport],
    out: str | Path,
    *,
    labels: Sequence[str] | None = None,
    tile: int = 96,
    text: dict[str, str] | None = None,
) -> Path:
    """Write a PNG with one row for each sample: the sample, then its neighbours in each space with distances.

    It shows training faces: keep it in the run folder, do not publish it. ``samples``, ``faces``: uint8
    (N, H, W, 3). ``labels``: a short text for each sample, such as its seed; None: its position. A distance
    of 1 is the median distance from a reference face (`SpaceReport.reference`) to its nearest training face.
    Distances at or below the copy threshold are red. ``text``: text chunks. Returns the path written.

    Raises:
        UserError: the name does not end in .png or cannot be written.
    """
    gap, caption, margin, head = 6, 18, 24, 52
    ink, faint, alarm = (40, 40, 46), (120, 120, 128), (196, 30, 40)
    plain, bold = font(12), font(15)
    k = spaces[0].indices.shape[1]
    group = k * (tile + gap) - gap
    lefts = [margin + tile + 2 * margin + s * (group + 2 * margin) for s in range(len(spaces))]
    pitch = tile + caption + gap
    width, height = lefts[-1] + group + margin, head + len(samples) * pitch + margin
    sheet = Image.new("RGB", (width, height), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)

    def put(image: np.ndarray, x: int, y: int, text: str, colour: tuple[int, int, int]) -> None:
        fitted = Image.fromarray(image)
        fitted.thumbnail((tile, tile))
        if max(fitted.size) < tile:
            scale = tile / max(fitted.size)
            size = round(fitted.width * scale), round(fitted.height * scale)
            fitted = fitted.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(fitted, (x + (tile - fitted.width) // 2, y + (tile - fitted.height) // 2))
        draw.text((x + tile / 2, y + tile + 2), text, fill=colour, font=plain, anchor="ma")

    draw.text((margin, 14), "sample", fill=ink, font=bold)
    for space, left in zip(spaces, lefts, strict=True):
        title = f"nearest training faces by {space.space}"
        real = "held-out" if space.reference == HELDOUT else "training"
        limit = f"{space.threshold / space.unit:.2f}, as for {space.percentile:g}% of them"
        note = f"1.00: the median of {real} faces; red: at most {limit}"
        draw.text((left, 8), title, fill=ink, font=bold)
        draw.text((left, 29), note, fill=faint, font=plain)
    for row, sample in enumerate(samples):
        y = head + row * pitch
        put(sample, margin, y, str(row) if labels is None else labels[row], ink)
        for space, left in zip(spaces, lefts, strict=True):
            for column, index in enumerate(space.indices[row]):
                distance = space.distances[row, column]
                colour = alarm if distance <= space.threshold else faint
                put(faces[index], left + column * (tile + gap), y, f"{distance / space.unit:.2f}", colour)
    return save_png(sheet, checked_file(out, ".png"), text or {})
