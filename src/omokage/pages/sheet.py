"""Layout of faces, text and lines for grids, sheets, bands and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.model import About
from omokage.pages.files import about_text, checked_file, checked_size, count_not_finite, save_png
from omokage.pages.fonts import font_for, plain_font

Colour = tuple[int, int, int]
PAPER: Colour = (250, 248, 245)
WHITE: Colour = (255, 255, 255)
INK: Colour = (43, 40, 51)
FAINT_INK: Colour = (122, 116, 131)
# On a sheet, a face is enlarged by a whole factor until its shorter side has at least this many pixels.
SHEET_SIZE = 128


def near_square_columns(n: int) -> int:
    """The number of columns near a square with the fewest empty places for ``n`` faces.

    >>> [near_square_columns(n) for n in (1, 8, 10, 16, 64)]
    [1, 4, 5, 4, 8]
    """
    narrowest = ceil(sqrt(n))
    widest = max(narrowest, int(1.5 * sqrt(n) + 0.5))
    return min(range(narrowest, widest + 1), key=lambda columns: (-n % columns, columns))


def chosen_columns(n: int, columns: int | None) -> int:
    """The user's ``columns``, at most ``n``; a near-square number if None. UserError if below 1."""
    if columns is not None and columns < 1:
        raise UserError(f"columns must be at least 1, got {columns}")
    return near_square_columns(n) if columns is None else min(columns, n)


def tile(faces: np.ndarray, columns: int, *, gutter: int, border: int = 0, background: Colour) -> np.ndarray:
    """Faces in reading order on one picture.

    ``faces``: uint8 (N, H, W, 3), or with alpha (N, H, W, 4); ``gutter`` and ``border``: pixels between the
    faces and around them. Returns uint8 (height, width, 3 or 4). Empty places have the colour ``background``,
    and no alpha.
    """
    n, height, width, channels = faces.shape
    rows = ceil(n / columns)
    shape = (
        rows * (height + gutter) - gutter + 2 * border,
        columns * (width + gutter) - gutter + 2 * border,
        channels,
    )
    picture = np.zeros(shape, np.uint8)
    picture[..., :3] = background
    for i, face in enumerate(faces):
        y = border + (i // columns) * (height + gutter)
        x = border + (i % columns) * (width + gutter)
        picture[y : y + height, x : x + width] = face
    return picture


def enlarged(face: np.ndarray, factor: int) -> np.ndarray:
    """One face (H, W, 3) uint8 enlarged by ``factor`` with a Lanczos filter (3 lobes)."""
    if factor == 1:
        return face
    height, width, _ = face.shape
    image = Image.fromarray(face).resize((width * factor, height * factor), Image.Resampling.LANCZOS)
    return np.asarray(image)


def font(size: int) -> Any:
    """Pillow's own font at ``size`` pixels."""
    return plain_font(size)


def font_that_fits(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> Any:
    """The font for ``text`` at ``size``, or smaller if the text would be wider than ``width``."""
    length = draw.textlength(text, font_for(text, size))
    return font_for(text, size if length <= width else max(6, int(size * width / length)))


@cache
def rounded_mask(width: int, height: int, radius: int) -> Image.Image:
    """An antialiased rectangle with rounded corners: drawn four times as large, then shrunk."""
    large = Image.new("L", (width * 4, height * 4), 0)
    box = (0, 0, width * 4 - 1, height * 4 - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * 4, fill=255)
    return large.resize((width, height), Image.Resampling.BOX)


@dataclass
class Sheet:
    """A page. Positions on it count from the corner (x, y) of the area below the title.

    Attributes:
        unit: pixels; text and gaps are multiples of it, so that pages of every resolution look alike.
    """

    image: Image.Image
    x: int
    y: int
    unit: int

    @classmethod
    def around(cls, size: tuple[float, float], unit: int, title: str, line: str, out: str | Path) -> "Sheet":
        """A page around a figure of ``size`` (height, width), with its title and a fainter line below that.

        An empty title leaves both out, for a page that has its own caption.

        Raises:
            UserError: the page would be too large to open.
        """
        margin = 4 * unit
        head = round(7.5 * unit) if title else 0
        height, width = ceil(size[0]) + 2 * margin + head, ceil(size[1]) + 2 * margin
        checked_size(width, height, out)
        sheet = cls(Image.new("RGB", (width, height), PAPER), margin, margin + head, unit)
        if title:
            inner = width - 2 * margin
            sheet.text(title, 0, -head, anchor="lt", width=inner, size=3.2)
            sheet.text(line, 0, -head + 4.2 * unit, anchor="lt", width=inner, ink=FAINT_INK, size=1.6)
        return sheet

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        """Pillow's drawing tool for the page."""
        return ImageDraw.Draw(self.image)

    def face(
        self, pixels: np.ndarray, x: float, y: float, size: tuple[int, int], radius: int | None = None
    ) -> None:
        """Draw a face (H, W, 3) uint8 in a box of ``size`` (height, width) with rounded corners."""
        height, width = size
        picture = Image.fromarray(pixels)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        corner = (self.x + round(x), self.y + round(y))
        radius = max(1, min(size) // 24) if radius is None else radius
        self.image.paste(picture, corner, rounded_mask(width, height, radius))

    def text(
        self,
        words: str,
        x: float,
        y: float,
        *,
        anchor: str = "mm",
        width: float | None = None,
        ink: Colour = INK,
        size: float = 2.0,
    ) -> None:
        """Draw one line of text; ``size`` in units, smaller if it would be wider than ``width``."""
        fitting = font_that_fits(self.draw, words, round(size * self.unit), int(width or self.image.width))
        self.draw.text((self.x + x, self.y + y), words, ink, fitting, anchor=anchor)

    def headings(self, words: Sequence[str], xs: Sequence[float], y: float, width: float) -> None:
        """Draw headings above columns that begin at ``xs``, all in the size in which the longest one fits."""
        plain = font_that_fits(self.draw, "", 20, 20)
        longest = max(words, key=lambda line: self.draw.textlength(line, plain))
        fitting = font_that_fits(self.draw, longest, 2 * self.unit, int(width))
        for line, x in zip(words, xs, strict=True):
            self.draw.text((self.x + x + width / 2, self.y + y), line, INK, fitting, anchor="mm")

    def upright(self, words: str, below: str, x: float, y: float, length: float) -> None:
        """Draw two vertical lines of text that read upwards, centred at (x, y), at most ``length`` long."""
        side = Image.new("L", (max(1, int(length)), round(5.2 * self.unit)), 0)
        draw = ImageDraw.Draw(side)
        for line, place, size, ink in ((words, 1.4, 2.1, 255), (below, 3.9, 1.6, 150)):
            fitting = font_that_fits(draw, line, round(size * self.unit), side.width)
            draw.text((side.width / 2, place * self.unit), line, ink, fitting, anchor="mm")
        turned = side.transpose(Image.Transpose.ROTATE_90)
        corner = (self.x + round(x - turned.width / 2), self.y + round(y - turned.height / 2))
        self.image.paste(INK, corner, turned)

    def frame(
        self, shape: Sequence[int], place: tuple[slice, slice], x: float, y: float, size: tuple[int, int]
    ) -> None:
        """Draw a thin light frame with a dark rim around a window of a face; it is visible on every colour.

        ``shape``: that of the face in pixels; ``place``: the window in these pixels; ``size``: height and
        width of the face as shown at (x, y).
        """
        down, right = size[0] / shape[0], size[1] / shape[1]
        box = [
            round(self.x + x + place[1].start * right),
            round(self.y + y + place[0].start * down),
            round(self.x + x + place[1].stop * right) - 1,
            round(self.y + y + place[0].stop * down) - 1,
        ]
        thick = max(1, self.unit // 8)
        self.draw.rectangle(box, outline=INK, width=3 * thick)
        inner = [box[0] + thick, box[1] + thick, box[2] - thick, box[3] - thick]
        self.draw.rectangle(inner, outline=PAPER, width=thick)


def grid(faces: np.ndarray, columns: int | None, out: str | Path, text: dict[str, str]) -> Path:
    """Write one PNG with faces uint8 (N, H, W, 3 or 4) in order, row by row, with thin gutters between them.

    Faces are not resized. ``columns``: None chooses a near-square grid. Returns the path written.

    Raises:
        UserError: the name does not end in .png or cannot be written, or the picture is too large to open.
    """
    columns = chosen_columns(len(faces), columns)
    check_grid(len(faces), faces.shape[1:3], columns, out)
    gutter = max(1, faces.shape[2] // 32)
    picture = tile(faces, columns, gutter=gutter, background=WHITE)
    return save_png(picture, checked_file(out, ".png"), text | {"columns": str(columns)})


def check_grid(n: int, size: tuple[int, ...], columns: int | None, out: str | Path) -> None:
    """Raise what `grid` would raise for ``n`` faces of ``size``, before they are drawn."""
    height, width = size
    columns = chosen_columns(n, columns)
    gutter = max(1, width // 32)
    checked_size(columns * (width + gutter), ceil(n / columns) * (height + gutter), out)
    checked_file(out, ".png")


@dataclass(frozen=True)
class _Places:
    """Sizes and distances on a page of bands, in pixels. All follow from the width of a face.

    A page without headings is a contact sheet: it has a little more room below the title, and less at the
    bottom.
    """

    factor: int
    height: int
    width: int
    margin: int
    gap: int
    label: int
    heading: int
    title: int
    line: int
    head: int
    page: tuple[int, int]  # width, height

    @classmethod
    def of(cls, counts: Sequence[int], size: tuple[int, ...], columns: int, headed: bool) -> "_Places":
        factor = ceil(SHEET_SIZE / min(size))
        height, width = (side * factor for side in size)
        margin, gap, label = width * 3 // 8, width // 8, width // 4
        heading, title, line = width // 6 if headed else 0, width * 5 // 16, width // 8
        head = title + line * (2 if headed else 3)
        across = max(2 * margin + columns * (width + gap) - gap, (5 if headed else 4) * width)
        down = 2 * margin + head + sum(2 * heading + ceil(n / columns) * (height + label) for n in counts)
        page = (across, down if headed else down - label // 2)
        return cls(factor, height, width, margin, gap, label, heading, title, line, head, page)


def check_bands(
    counts: Sequence[int], size: tuple[int, ...], columns: int, out: str | Path, *, headed: bool = True
) -> None:
    """Raise what `bands` would raise for bands of ``counts`` faces of ``size``, before they are drawn."""
    checked_size(*_Places.of(counts, size, columns, headed).page, out)
    checked_file(out, ".png")


def bands(
    faces: Sequence[Faces],
    out: str | Path,
    *,
    title: str,
    line: str,
    columns: int,
    text: dict[str, str],
) -> Path:
    """Write a PNG with bands of enlarged faces below each other, ``columns`` faces in a row.

    Each face has its caption below it, each band its heading above it. If no band has a heading, the page is
    a contact sheet. ``line``: small print below the title. ``text``: text chunks besides the title. Returns
    the path written.

    Raises:
        UserError: the name does not end in .png or cannot be written, or the picture is too large to open.
    """
    headed = any(band.heading for band in faces)
    counts, size = [len(band) for band in faces], faces[0].pixels.shape[1:3]
    check_bands(counts, size, columns, out, headed=headed)
    at = _Places.of(counts, size, columns, headed)
    page = Image.new("RGB", at.page, PAPER)
    draw = ImageDraw.Draw(page)
    inner = at.page[0] - 2 * at.margin

    def write(words: str, x: float, y: float, size: int, room: int, ink: Colour, anchor: str) -> None:
        draw.text((x, y), words, ink, font_that_fits(draw, words, size, room), anchor=anchor)

    write(title, at.margin, at.margin, at.title, inner, INK, "lt")
    write(line, at.margin, at.margin + at.title + at.line // 2, at.line, inner, FAINT_INK, "lt")
    corners = rounded_mask(at.width, at.height, radius=at.width // 16)
    room = at.width + at.gap // 2 if headed else at.width
    top = at.margin + at.head
    for band in faces:
        if headed:
            below = top + 3 * at.heading // 2
            write(band.heading, at.margin, below, at.heading, inner, INK, "ls")
        top += 2 * at.heading
        for i, face in enumerate(band.pixels):
            x = at.margin + (i % columns) * (at.width + at.gap)
            y = top + (i // columns) * (at.height + at.label)
            page.paste(Image.fromarray(enlarged(face, at.factor)), (x, y), corners)
            if i < len(band.captions):
                below = y + at.height + at.label * 3 // 8
                write(band.captions[i], x + at.width // 2, below, at.line, room, FAINT_INK, "mm")
        top += ceil(len(band) / columns) * (at.height + at.label)
    return save_png(page, checked_file(out, ".png"), text | {"Title": title})


def bands_of_model(
    about: About, faces: Sequence[Faces], out: str | Path, *, title: str, columns: int, text: dict[str, str]
) -> Path:
    """`bands` of faces that a model drew. The small print and the text chunks name the model."""
    lost = count_not_finite(sum(band.not_finite for band in faces))
    text = about_text(about) | text | lost
    return bands(faces, out, title=title, line=about.line(), columns=columns, text=text)
