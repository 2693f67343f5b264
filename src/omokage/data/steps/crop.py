"""The crop that is cut out around a face."""

import math
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ..text import one_line
from .face import Face

BORDERS = ("reflect", "edge", "white", "leave-out")
CROPS = {"portrait": (1.9, 0.46), "tight": (1.5, 0.56)}
"""Side of the crop in sides of the face, and the height of the face's centre in it (0 top, 1 bottom).

portrait: with hair and shoulders, as in sets of anime portraits of 256 pixels. tight: as in the Getchu sets.
"""

PRESETS = (*CROPS, "rai2020")
CLOSE_UPS = ("leave-out", "tight")
CLOSER = (1.0, 0.9, 0.8, 0.7)
"""Factors for the sides of the tight crop, tried in this order on a close-up."""
CLOSER_VISIBLE = 0.8  # if half of the crop is mirrored, the eyes appear twice


@dataclass(frozen=True, slots=True)
class CropBox:
    """A rectangle in a picture: centre and size in pixels, rotated by ``angle`` degrees clockwise."""

    x: float
    y: float
    width: int
    height: int
    angle: float = 0.0

    @property
    def corner(self) -> tuple[int, int]:
        """Upper left corner in whole pixels, without the rotation."""
        return round(self.x - self.width / 2), round(self.y - self.height / 2)


def crop_box(
    face: Face,
    picture: tuple[int, int],
    preset: str | tuple[float, float] = "portrait",
    *,
    aspect: float = 1.0,
    upright: bool = False,
    enlarge: float = 1.0,
) -> CropBox:
    """The crop for ``face`` in a picture of this (height, width).

    preset: one of `PRESETS`. ``rai2020`` uses the factors of the widely copied script for Danbooru faces that
        the report followed. With x, y and width those of the cascade's box: the crop goes from 0.25 y to the
        box's lower edge, and from 0.9 x to x + 1.25 width. It is not square and depends on the position of
        the face in the picture. A pair of numbers takes the place of an entry of `CROPS`.
    aspect: width over height; the area stays that of the square.
    upright: rotate the crop by the tilt of the head, if the detector knows it.
    enlarge: a further factor for the sides.

    Raises `UserError` for an unknown preset or an impossible factor.
    """
    if preset == "rai2020":
        return _rai2020(face)
    if isinstance(preset, str) and preset not in CROPS:
        raise UserError(f"there is no crop {one_line(preset)!r}: give one of {', '.join(PRESETS)}")
    if not 0.2 <= aspect <= 5 or not 0.5 <= enlarge <= 4:
        raise UserError("a crop's aspect is 0.2 to 5 and its enlargement 0.5 to 4")
    factor, down = CROPS[preset] if isinstance(preset, str) else preset
    side = face.side * factor * enlarge
    angle = float(face.tilt) if upright and face.tilt is not None else 0.0
    width, height = max(1, round(side * math.sqrt(aspect))), max(1, round(side / math.sqrt(aspect)))
    cx, cy = face.centre
    shift = (0.5 - down) * height
    turn = math.radians(angle)
    return CropBox(cx - shift * math.sin(turn), cy + shift * math.cos(turn), width, height, angle)


def closer_box(
    face: Face,
    picture: tuple[int, int],
    least: float,
    *,
    aspect: float = 1.0,
    upright: bool = False,
    enlarge: float = 1.0,
) -> CropBox | None:
    """The ``tight`` crop of a close-up, made smaller until `CLOSER_VISIBLE` of it is in the picture.

    The steps are a tenth, down to about the face's own box. If even the smallest crop does not reach that
    part, it is taken if at least ``least`` of it is in the picture; else the result is None. The other
    arguments are those of `crop_box`.

    >>> face = Face(0, 0, 100, 100, 1.0)
    >>> visible(crop_box(face, (100, 100)), (100, 100)) < 0.5 <= visible(closer_box(face, (100, 100), 0.5),
    ...     (100, 100))
    True
    """
    for smaller in CLOSER:
        factor = max(0.5, enlarge * smaller)
        box = crop_box(face, picture, "tight", aspect=aspect, upright=upright, enlarge=factor)
        if visible(box, picture) >= max(least, CLOSER_VISIBLE):
            return box
    return box if visible(box, picture) >= least else None


def _rai2020(face: Face) -> CropBox:
    from .face import HEAD_TO_FACE, HEAD_TO_FACE_RISE

    head = face.side / HEAD_TO_FACE
    cx, cy = face.centre
    x, y = max(cx - head / 2, 0), max(cy + HEAD_TO_FACE_RISE * face.side - head / 2, 0)
    left, top, right, bottom = int(x * 0.9), int(y * 0.25), int(x) + int(head * 1.25), int(y) + int(head)
    width, height = max(1, right - left), max(1, bottom - top)
    return CropBox(left + width / 2, top + height / 2, width, height)


def visible(box: CropBox, picture: tuple[int, int]) -> float:
    """The part of the crop that lies inside a picture of this (height, width), 0 to 1."""
    height, width = picture
    if not box.angle:
        left, top = box.corner
        w = max(0, min(left + box.width, width) - max(left, 0))
        h = max(0, min(top + box.height, height) - max(top, 0))
        return w * h / (box.width * box.height)
    u, v = (np.mgrid[:32, :32] + 0.5) / 32 - 0.5
    turn = math.radians(box.angle)
    x = box.x + u * box.width * math.cos(turn) - v * box.height * math.sin(turn)
    y = box.y + u * box.width * math.sin(turn) + v * box.height * math.cos(turn)
    return float(((x >= 0) & (x < width) & (y >= 0) & (y < height)).mean())


def cut(picture: np.ndarray, box: CropBox, border: str = "reflect") -> np.ndarray:
    """The crop, RGB uint8 (height, width, 3), in the pixels of ``picture`` (H, W, 3).

    border: what fills the part beyond the picture: its mirror image, its repeated edge pixels, or white.
        "leave-out" is decided by the caller; here it is the same as "reflect".

    Without a rotation, the pixels are copied unchanged.
    """
    import cv2

    modes = {"edge": cv2.BORDER_REPLICATE, "white": cv2.BORDER_CONSTANT}
    mode = modes.get(border, cv2.BORDER_REFLECT_101)
    white = (255, 255, 255)
    height, width = picture.shape[:2]
    if box.angle:
        turn = math.radians(box.angle)
        # From the crop's pixels to the picture's.
        matrix = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0]])
        middle = np.array([(box.width - 1) / 2, (box.height - 1) / 2])
        matrix[:, 2] = np.array([box.x - 0.5, box.y - 0.5]) - matrix[:, :2] @ middle
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        source = np.ascontiguousarray(picture)
        size = (box.width, box.height)
        return cv2.warpAffine(source, matrix, size, flags=flags, borderMode=mode, borderValue=white)
    left, top = box.corner
    right, bottom = left + box.width, top + box.height
    inner = picture[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if inner.shape[:2] == (box.height, box.width):
        return np.ascontiguousarray(inner)
    if not inner.size:
        return np.full((box.height, box.width, 3), 255, np.uint8)
    if mode == cv2.BORDER_REFLECT_101 and min(height, width) > 1:
        # Mirror at the picture's edge, not at the crop's.
        rows, columns = _mirror(top, bottom, height), _mirror(left, right, width)
        return np.ascontiguousarray(picture[rows[:, None], columns[None]])
    pads = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    fill = cv2.BORDER_REPLICATE if mode == cv2.BORDER_REFLECT_101 else mode
    return cv2.copyMakeBorder(np.ascontiguousarray(inner), *pads, fill, value=white)


def _mirror(start: int, stop: int, size: int) -> np.ndarray:
    """Positions start to stop, folded into 0 to size - 1 without repeating the edge.

    >>> _mirror(-2, 5, 3).tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    period = 2 * (size - 1)
    folded = np.abs(np.arange(start, stop)) % period
    return np.minimum(folded, period - folded)
