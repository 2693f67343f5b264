"""The page of inverted pictures, and the film of a search."""

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

import numpy as np

from omokage.errors import UserError
from omokage.explore.inversion import DIRECT, Inversion
from omokage.model import About
from omokage.pages.files import about_text, checked_file, save_png
from omokage.pages.sheet import FAINT_INK, INK, Sheet
from omokage.pages.video import check_film, tiled, write_video

FACE = 144  # pixels of the longer side of a face on the page
UNIT = 9
FILMED = 16  # pictures in a film, at most
MOST_FRAMES = 120
PER_SECOND = 15
REST = 2  # seconds on the last frame


def write_inversion(
    about: About,
    found: Inversion,
    names: Sequence[str],
    out: str | Path,
    text: dict[str, str] | None = None,
) -> Path:
    """Write a PNG with each picture beside its face. Returns its path.

    Below a face stands its distance from the picture. Where there are faces in w and in w+, each has a line
    of its own, with the face after the same moves in that space; below a moved face stands the share of
    samples that are less strange than it. ``text``: text chunks.

    Raises:
        UserError: the name does not end in .png or cannot be written, or the page would be too large to open.
    """
    path = checked_file(out, ".png")
    height, width = found.pictures.shape[1:3]
    scale = FACE / max(height, width)
    tall, wide = round(height * scale), round(width * scale)
    gap, caption, head = UNIT, round(2.6 * UNIT), round(3.2 * UNIT)
    several = found.editable is not None
    moves = found.editable.moves if found.editable is not None else ()
    lines = 2 if several else 1
    apart = 2 * UNIT
    columns = 3 + len(moves)
    pitch = lines * (tall + caption) + apart
    left = 4 * UNIT if several else 0
    size = (head + len(names) * pitch - apart, left + columns * (wide + gap) - gap + (apart if moves else 0))
    title = (
        "Pictures and the faces found for them" if len(names) > 1 else "A picture and the face found for it"
    )
    line = about.line(f"distances: {found.fit.space} features, which the search did not use")
    sheet = Sheet.around(size, UNIT, title, line, out)
    xs = [left + number * (wide + gap) + (apart if number > 2 else 0) for number in range(columns)]
    exact = found.began[0] in DIRECT
    headings = ["picture", "out of its latent" if exact else "start", "face", *moves]
    for heading, x in zip(headings, xs, strict=True):
        sheet.text(heading, x + wide / 2, head / 2, width=wide, ink=FAINT_INK, size=1.7)

    def put(face: np.ndarray, column: int, y: float, below: str) -> None:
        sheet.face(np.ascontiguousarray(face), xs[column], y, (tall, wide))
        sheet.text(below, xs[column] + wide / 2, y + tall + caption / 2, width=wide, ink=INK, size=1.5)

    for row, name in enumerate(names):
        y = head + row * pitch
        put(found.pictures[row], 0, y, name)
        put(found.starts[row], 1, y, found.began[row])
        if not several:
            put(found.faces[row], 2, y, _below(found, row))
            continue
        assert found.editable is not None
        assert found.in_w is not None
        assert found.fit_in_w is not None
        shown = ((found.in_w, found.fit_in_w), (found.faces, found.fit))
        for number, (space, (faces, fit)) in enumerate(zip(found.editable.spaces, shown, strict=True)):
            top = y + number * (tall + caption)
            sheet.text(space, left / 2, top + tall / 2, ink=FAINT_INK, size=2.4)
            put(faces[row], 2, top, f"distance {fit.distances[row]:.2f}")
            strange = found.editable.strange[number][row]
            for move, face in enumerate(found.editable.faces[number][row, 1:]):
                put(face, 3 + move, top, f"stranger than {strange[1 + move]:.0%}")
    return save_png(sheet.image, path, about_text(about) | {"Title": title} | (text or {}))


def _below(found: Inversion, row: int) -> str:
    if found.began[row] in DIRECT:
        return f"largest error {found.largest[row]:.1g}"
    return f"distance {found.fit.distances[row]:.2f}"


class Film:
    """Gathers the frames of a search, for a film of the first `FILMED` pictures.

    ``pictures``: uint8 (N, H, W, 3). ``steps``: how many steps each picture is searched; every so many of
    them becomes a frame that there are at most `MOST_FRAMES`.
    """

    def __init__(self, pictures: np.ndarray, steps: int) -> None:
        self.pictures = pictures[:FILMED]
        self.every = max(1, ceil(steps / MOST_FRAMES))
        self.frames: list[list[np.ndarray]] = [[] for _ in self.pictures]
        self._seen = [0] * len(self.pictures)
        self._last: list[np.ndarray | None] = [None] * len(self.pictures)

    def __call__(self, rows: Sequence[int], faces: np.ndarray) -> None:
        """Take the faces of a step, uint8 (len(rows), H, W, 3)."""
        for row, face in zip(rows, faces, strict=True):
            if row < len(self.pictures):
                self._last[row] = face
                if self._seen[row] % self.every == 0:
                    self.frames[row].append(face)
                self._seen[row] += 1

    def check(self) -> None:
        """Raise `UserError` if the film would be too large for most players."""
        check_film(self.pictures.shape[1:3], self._tiles())

    def _tiles(self) -> tuple[int, int]:
        columns = min(len(self.pictures), ceil(len(self.pictures) ** 0.5))
        return 2 * columns, ceil(len(self.pictures) / columns)

    def write(self, out: Path, found: np.ndarray, text: dict[str, str]) -> Path:
        """Write the MP4: each picture beside its face, step by step, at last ``found``, uint8 (N, H, W, 3).

        Raises:
            UserError: no frames, or as `omokage.pages.video.write_video`.
        """
        if not any(self.frames):
            raise UserError("there is no film: nothing was searched, because this model encodes")
        return write_video(
            tiled(self._steps(found), self._tiles()[0]), out, frames_per_second=PER_SECOND, text=text
        )

    def _steps(self, found: np.ndarray) -> Iterator[np.ndarray]:
        most = max(map(len, self.frames))
        blank = self._tiles()[0] * self._tiles()[1] // 2 - len(self.pictures)
        for number in range(most + REST * PER_SECOND):
            tiles = []
            for picture, frames, last in zip(self.pictures, self.frames, found, strict=False):
                tiles += [picture, frames[number] if number < len(frames) else last]
            tiles += [np.full_like(self.pictures[0], 255)] * (2 * blank)
            yield np.stack(tiles)
