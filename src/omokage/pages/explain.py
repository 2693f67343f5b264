"""The layout of figures that explain a latent space: sentences, rows of faces, charts."""

from pathlib import Path
from typing import Any

import numpy as np

from omokage.explore.explain import Explained
from omokage.model import About
from omokage.pages.chart import draw_chart
from omokage.pages.files import about_text, checked_file, count_not_finite, save_png
from omokage.pages.sheet import FAINT_INK, INK, Sheet, font

UNIT = 9  # pixels
WIDTH = 1120
GAP = 6
TEXT = 2.0  # size of the sentences, in units
CHART = 320  # height of a chart in pixels


def write_explained(about: About, shown: Explained, out: str | Path) -> Path:
    """Write the figure as a PNG. Returns its path.

    Raises:
        UserError: the name does not end in .png or cannot be written.
    """
    path = checked_file(out, ".png")
    lines = [line for sentence in shown.sentences for line in wrapped(sentence, WIDTH)]
    most = max(len(band) for band in shown.bands)
    height, width = shown.bands[0].pixels.shape[1:3]
    wide = min((WIDTH - (most - 1) * GAP) // most, 2 * WIDTH // 15)
    tall = round(wide * height / width)
    caption = 2 * UNIT
    rows = [
        (3 * UNIT if band.heading else GAP) + tall + (caption if band.captions else 0) + GAP
        for band in shown.bands
    ]
    text = round(len(lines) * 1.45 * TEXT * UNIT) + UNIT
    size = (text + sum(rows) + 2 * UNIT + CHART, WIDTH)
    sheet = Sheet.around(size, UNIT, shown.title, about.line(), out)
    y = 0.0
    for line in lines:
        sheet.text(line, 0, y, anchor="lt", width=WIDTH, size=TEXT)
        y += 1.45 * TEXT * UNIT
    y += UNIT
    for band, step in zip(shown.bands, rows, strict=True):
        head = 3 * UNIT if band.heading else GAP
        if band.heading:
            sheet.text(band.heading, 0, y + 1.6 * UNIT, anchor="lm", width=WIDTH, ink=FAINT_INK, size=1.7)
        for number, face in enumerate(band.pixels):
            x = number * (wide + GAP)
            sheet.face(np.ascontiguousarray(face), x, y + head, (tall, wide))
            if number < len(band.captions):
                middle = y + head + tall + caption / 2
                sheet.text(band.captions[number], x + wide / 2, middle, width=wide, ink=INK, size=1.4)
        y += step
    y += 2 * UNIT
    each = WIDTH / len(shown.charts) if len(shown.charts) > 1 else WIDTH * 0.7
    for number, chart in enumerate(shown.charts):
        draw_chart(sheet, chart, number * each, y, each - 2 * UNIT, CHART)
    chunks = about_text(about) | {"Title": shown.title, "Description": " ".join(shown.sentences)}
    return save_png(sheet.image, path, chunks | count_not_finite(shown.not_finite))


def wrapped(sentence: str, width: int) -> list[str]:
    """A sentence broken into lines of at most ``width`` pixels."""
    plain: Any = font(round(TEXT * UNIT))
    lines, line = [], ""
    for word in sentence.split():
        longer = f"{line} {word}".strip()
        if line and plain.getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]
