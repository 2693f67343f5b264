"""Pictures as the page loads them: sprites of many faces, named by their content, kept for a while."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .caches import Cache

BYTES = 8 * 2**20  # of pictures that are kept
COLUMNS = 8
WALL = 128  # px: tiles of a wall have at most so many a side


@dataclass(frozen=True)
class Sprite:
    """Faces in one picture, row by row.

    Attributes:
        name: of the picture, to be asked for at ``/pictures/NAME.png``.
        columns: how many stand in a row.
        tile: height and width of one.
    """

    name: str
    columns: int
    tile: tuple[int, int]

    @property
    def url(self) -> str:
        """Its address."""
        return f"/pictures/{self.name}.png"


class Pictures:
    """The pictures that were drawn lately, by the hash of their bytes."""

    def __init__(self) -> None:
        self._cache: Cache[str, bytes] = Cache(BYTES, len)

    def get(self, name: str) -> bytes | None:
        """The PNG of that name; None: there is none, or it has been dropped."""
        return self._cache.get(name)

    def keep(self, png: bytes) -> str:
        """Keep a PNG; returns its name."""
        name = hashlib.sha256(png).hexdigest()[:40]
        self._cache.put(name, png)
        return name

    def sprite(self, faces: Sequence[np.ndarray], *, wall: bool) -> Sprite:
        """One picture of faces uint8 (H, W, 3). ``wall``: tiles larger than `WALL` are made smaller."""
        shown = [smaller(face, WALL) for face in faces] if wall else list(faces)
        height, width = shown[0].shape[:2]
        columns = min(COLUMNS, len(shown))
        rows = -(-len(shown) // columns)
        picture = np.zeros((rows * height, columns * width, 3), np.uint8)
        for number, face in enumerate(shown):
            y, x = number // columns * height, number % columns * width
            picture[y : y + height, x : x + width] = face
        return Sprite(self.keep(png_of(picture)), columns, (height, width))


def png_of(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as PNG, packed quickly: it is looked at once.

    Drawn faces hardly repeat themselves, so Huffman codes alone are as short, and need half of the time.
    """
    import cv2

    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]), how)[1].tobytes()


def smaller(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture uint8 (H, W, 3) with sides of at most ``side`` px; itself if it is small enough.

    >>> smaller(np.zeros((256, 192, 3), np.uint8), 128).shape
    (128, 96, 3)
    """
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
