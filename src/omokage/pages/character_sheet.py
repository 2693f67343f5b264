"""A character sheet: one face large, its variations, its colours, a name and notes; as PNG or PDF.

The page is laid out once, in millimetres, and drawn by a pen: one draws on a picture, one writes a PDF.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from omokage import __version__
from omokage.errors import UserError
from omokage.pages.files import checked_file, replacing, save_png, told_text
from omokage.pages.fonts import HINT, font_for, japanese_font, not_shown
from omokage.pages.palette import Swatch
from omokage.pages.sheet import FAINT_INK, INK, PAPER, Colour, rounded_mask

WIDTH, HEIGHT = 297.0, 210.0  # millimetres: A4, landscape
DOTS = 8.0  # pixels of the PNG in a millimetre, 203 dots an inch
MARGIN, GAP = 14.0, 4.0
PANEL: Colour = (239, 235, 229)
RIM: Colour = (214, 209, 202)  # around swatches, for colours like that of the paper
MOST_VARIATIONS, MOST_SWATCHES = 12, 8
POINT = 25.4 / 72  # millimetres


@dataclass(frozen=True)
class Character:
    """What a character sheet shows.

    Attributes:
        face: uint8 (H, W, 3 or 4): the character, as large as it is to be seen; with alpha it stands on a
            plain panel.
        name: the heading; "": none.
        notes: text; its lines are kept, long ones are wrapped.
        palette: its colours, from `omokage.pages.palette.palette`.
        variations: further faces, uint8 (h, w, 3 or 4) each, with a caption.
        foot: small lines at the bottom: what made the faces, and their terms.
        language: "en" or "ja", of the headings.
    """

    face: np.ndarray
    name: str = ""
    notes: str = ""
    palette: Sequence[Swatch] = ()
    variations: Sequence[tuple[np.ndarray, str]] = ()
    foot: Sequence[str] = ()
    language: str = "en"


WORDS = {
    "en": {"palette": "Colours", "variations": "Variations", "notes": "Notes"},
    "ja": {"palette": "配色", "variations": "バリエーション", "notes": "メモ"},
}


class Pen(Protocol):
    """Draws on a page. Places and sizes are in millimetres from the upper left corner."""

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, radius: float) -> None:
        """A filled rectangle with rounded corners."""

    def picture(self, pixels: np.ndarray, x: float, y: float, width: float, height: float) -> None:
        """A picture, uint8 (H, W, 3 or 4), with slightly rounded corners."""

    def text(self, words: str, x: float, y: float, size: float, ink: Colour, anchor: str) -> None:
        """One line; ``y`` is its middle; ``anchor`` "l", "m" or "r" says what ``x`` is."""

    def length(self, words: str, size: float) -> float:
        """How wide a line would be."""


def write_character_sheet(
    character: Character, out: str | Path, text: Mapping[str, str] | None = None
) -> tuple[Path, list[str]]:
    """Write the sheet, by the name of ``out`` as PNG or PDF. Returns its path and lines to say.

    ``text``: how it was made, for text chunks of a PNG; a PDF has it as the attached file recipe.json.

    Raises:
        UserError: another name, no fpdf2 for a PDF, or a file that cannot be written.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in (".png", ".pdf"):
        raise UserError(f"{out}: a character sheet's name must end in .png or .pdf")
    path, title = checked_file(out, suffix), character.name or "Character"
    texts = [character.name, character.notes, *(words for _, words in character.variations), *character.foot]
    told = not_shown(*texts)
    if suffix == ".png":
        pen = _Picture()
        told += _lay_out(character, pen)
        about = {"Software": f"omokage {__version__}", "Title": title}
        return save_png(pen.image, path, about | dict(text or {})), told
    if japanese_font() is None and not all(map(_is_plain, texts)):
        raise UserError(f"{path}: this text needs a Japanese font, and there is none; {HINT}")
    document = _Document(title, dict(told_text(dict(text or {}))))
    told += _lay_out(character, document)
    with replacing(path) as unfinished:
        unfinished.write_bytes(bytes(document.pdf.output()))
    return path, told


def _lay_out(character: Character, pen: Pen) -> list[str]:
    """Draw the page: the face on the left, everything else on the right, small print at the foot.

    Returns what there is to say about it.
    """
    told: list[str] = []
    pen.box(0, 0, WIDTH, HEIGHT, PAPER, 0)
    foot = [line for words in character.foot for line in wrapped(pen, words, 2.3, WIDTH - 2 * MARGIN)][-6:]
    bottom = HEIGHT - MARGIN + 4 - 3.6 * len(foot)
    for number, line in enumerate(foot):
        pen.text(line, MARGIN, bottom + 3.6 * (number + 0.5), 2.3, FAINT_INK, "l")
    top = MARGIN
    height = bottom - GAP - top
    side = min(height, 160.0)
    tall, wide = character.face.shape[:2]
    scale = min(side / wide, height / tall)
    across, down = wide * scale, tall * scale
    begin = MARGIN + (side - across) / 2
    if character.face.shape[2] == 4:
        pen.box(begin, top, across, down, PANEL, 1.5)
    pen.picture(character.face, begin, top, across, down)

    left = MARGIN + side + 10
    room = WIDTH - MARGIN - left
    y = top
    words = WORDS.get(character.language, WORDS["en"])
    if character.name:
        size = 9.0
        while size > 4 and pen.length(character.name, size) > room:
            size -= 0.5
        pen.text(_cut(pen, character.name, size, room), left, y + 5.5, size, INK, "l")
        y += 15
    if character.palette:
        y = _swatches(pen, character.palette[:MOST_SWATCHES], words["palette"], left, y, room)
    variations = list(character.variations)[:MOST_VARIATIONS]
    columns = 4 if len(variations) > 6 else 3 if len(variations) > 4 or character.notes.strip() else 2
    rows = -(-len(variations) // columns)
    cell = (room - GAP * (columns - 1)) / columns
    block = rows * (cell + 6) + 6 if rows else 0
    end = top + down + 3
    notes = character.notes.strip()
    if notes:
        pen.text(words["notes"], left, y + 2, 2.9, FAINT_INK, "l")
        y += 7.5
        lines = wrapped(pen, notes, 3.5, room)
        most = max(1, int((end - block - y - 2) / 5.4))
        if len(lines) > most:
            told.append("the notes are longer than the page has room for; their end is left out")
            last = lines[most - 1]
            while last and pen.length(f"{last} …", 3.5) > room:
                last = last[:-1]
            lines = [*lines[: most - 1], f"{last.rstrip()} …"]
        for line in lines:
            pen.text(line, left, y + 1.5, 3.5, INK, "l")
            y += 5.4
    if variations:
        y = end - block
        pen.text(words["variations"], left, y + 2, 2.9, FAINT_INK, "l")
        y += 6
        for number, (pixels, caption) in enumerate(variations):
            x = left + number % columns * (cell + GAP)
            above = y + number // columns * (cell + 6)
            if pixels.shape[2] == 4:
                pen.box(x, above, cell, cell, PANEL, 1.5)
            pen.picture(pixels, x, above, cell, cell)
            shown = _cut(pen, caption, 2.3, cell)
            pen.text(shown, x + cell / 2, above + cell + 2.7, 2.3, FAINT_INK, "m")
    return told


def _swatches(pen: Pen, swatches: Sequence[Swatch], word: str, x: float, y: float, room: float) -> float:
    """Draw the colours; returns where the next part begins."""
    pen.text(word, x, y + 2, 2.9, FAINT_INK, "l")
    y += 6
    wide = (room - 2 * (MOST_SWATCHES - 1)) / MOST_SWATCHES
    for number, swatch in enumerate(swatches):
        at = x + number * (wide + 2)
        pen.box(at - 0.2, y - 0.2, wide + 0.4, 14.4, RIM, 1.4)
        pen.box(at, y, wide, 14, swatch.colour, 1.2)
        pen.text(swatch.hex, at + wide / 2, y + 17.2, 2.4, INK, "m")
        pen.text(f"{swatch.share:.0%}", at + wide / 2, y + 20.6, 2.1, FAINT_INK, "m")
    return y + 28


def wrapped(pen: Pen, text: str, size: float, width: float) -> list[str]:
    """``text`` in lines of at most ``width``; its own line breaks stay.

    Lines break at blanks, and within words without blanks, such as Japanese sentences, anywhere but before
    a mark that closes one.
    """
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in _pieces(paragraph):
            if line and pen.length((line + word).rstrip(), size) > width:
                lines.append(line.rstrip())
                line = word.lstrip()
            else:
                line += word
        lines.append(line.rstrip())
    return lines


_CLOSING = "、。，．・：；？！）」』】〕》〉ーぁぃぅぇぉっゃゅょァィゥェォッャュョ…‥々,.!?:;)]}"


def _pieces(paragraph: str) -> list[str]:
    """What a line may be broken between: words with the blanks after them, and Japanese letters.

    >>> _pieces("the hair 髪は青。")
    ['the ', 'hair ', '髪', 'は', '青。']
    """
    found: list[str] = []
    for letter in paragraph:
        own = ord(letter) > 0x2E7F  # from the first Chinese radical on, writings without blanks
        after = found and (letter == " " or letter in _CLOSING)
        if found and (after or (not own and found[-1][-1] != " " and ord(found[-1][-1]) <= 0x2E7F)):
            found[-1] += letter
        else:
            found.append(letter)
    return [part for piece in found for part in _chopped(piece)]


def _chopped(piece: str) -> list[str]:
    """A very long word in parts, so that no line runs out of the page."""
    return [piece[at : at + 24] for at in range(0, len(piece), 24)]


def _cut(pen: Pen, words: str, size: float, width: float) -> str:
    """``words`` cut and ended with dots if they are wider than ``width``."""
    if pen.length(words, size) <= width:
        return words
    while words and pen.length(words + "…", size) > width:
        words = words[:-1]
    return words + "…"


class _Picture:
    """Draws the page as a picture."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (round(WIDTH * DOTS), round(HEIGHT * DOTS)), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, radius: float) -> None:
        corner, size = (round(x * DOTS), round(y * DOTS)), (round(width * DOTS), round(height * DOTS))
        if radius:
            self.image.paste(colour, corner, rounded_mask(*size, round(radius * DOTS)))
        else:
            self.image.paste(colour, (*corner, corner[0] + size[0], corner[1] + size[1]))

    def picture(self, pixels: np.ndarray, x: float, y: float, width: float, height: float) -> None:
        size = (round(width * DOTS), round(height * DOTS))
        face = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS)
        mask = rounded_mask(*size, round(1.5 * DOTS))
        if face.mode == "RGBA":
            mask = ImageChops.multiply(mask, face.getchannel("A"))
        self.image.paste(face.convert("RGB"), (round(x * DOTS), round(y * DOTS)), mask)

    def text(self, words: str, x: float, y: float, size: float, ink: Colour, anchor: str) -> None:
        place = (x * DOTS, y * DOTS)
        self._draw.text(place, words, ink, font_for(words, round(size * DOTS)), anchor=f"{anchor}m")

    def length(self, words: str, size: float) -> float:
        return self._draw.textlength(words, font_for(words, round(size * DOTS))) / DOTS


# The letters that every PDF viewer has are those of Latin-1. These are written with them.
_PLAIN = str.maketrans({"—": "-", "–": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "•": "·"})


def _is_plain(words: str) -> bool:
    try:
        words.translate(_PLAIN).encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


class _Document:
    """Writes the page as a PDF of one page. Text stays text; only the letters used are in the file."""

    def __init__(self, title: str, text: dict[str, str]) -> None:
        try:
            from fpdf import FPDF
        except ImportError:
            raise UserError("PDFs are written with fpdf2: pip install 'omokage[studio]'") from None
        self.pdf = FPDF(orientation="landscape", unit="mm", format="A4")
        self.pdf.set_margin(0)
        self.pdf.set_auto_page_break(False)
        self.pdf.set_title(title)
        self.pdf.set_creator(f"omokage {__version__}")
        if text:
            self.pdf.set_subject(text.get("Source", ""))
            self.pdf.set_keywords("generated")
            written = json.dumps(text, ensure_ascii=False, indent=1).encode()
            self.pdf.embed_file(bytes=written, basename="recipe.json", desc="how the faces were made")
        self.pdf.add_page()
        self._japanese = False

    def _font(self, words: str, size: float) -> str:
        """Choose the font for a line; returns the line with the letters that the font has."""
        if _is_plain(words):
            self.pdf.set_font("helvetica", size=size / POINT)
            return words.translate(_PLAIN)
        if not self._japanese:
            self.pdf.add_font("japanese", fname=str(japanese_font()))
            self._japanese = True
        self.pdf.set_font("japanese", size=size / POINT)
        return words

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, radius: float) -> None:
        self.pdf.set_fill_color(*colour)
        corners: dict[str, Any] = {"round_corners": True, "corner_radius": radius} if radius else {}
        self.pdf.rect(x, y, width, height, style="F", **corners)

    def picture(self, pixels: np.ndarray, x: float, y: float, width: float, height: float) -> None:
        face = Image.fromarray(np.ascontiguousarray(pixels))
        if not 4 * width <= face.width <= DOTS * width:  # viewers show pixels as squares, or smear them
            dots = 4 if face.width < 4 * width else DOTS
            face = face.resize((round(dots * width), round(dots * height)), Image.Resampling.LANCZOS)
        mask = rounded_mask(*face.size, round(1.5 / width * face.width))
        face.putalpha(ImageChops.multiply(mask, face.getchannel("A")) if face.mode == "RGBA" else mask)
        stored = io.BytesIO()
        face.save(stored, "PNG")
        self.pdf.image(stored, x, y, width, height)

    def text(self, words: str, x: float, y: float, size: float, ink: Colour, anchor: str) -> None:
        shown = self._font(words, size)
        self.pdf.set_text_color(*ink)
        wide = self.pdf.get_string_width(shown)
        start = {"l": x, "m": x - wide / 2, "r": x - wide}[anchor]
        self.pdf.text(start, y + 0.35 * size, shown)

    def length(self, words: str, size: float) -> float:
        return self.pdf.get_string_width(self._font(words, size))
