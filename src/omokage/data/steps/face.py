"""A face in a picture: its box, and how boxes lie to each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

HEAD_TO_FACE = 1 / 1.43
"""Side of the face over the side of the cascade's box, which includes part of the hair."""
HEAD_TO_FACE_RISE = 0.07
"""Distance of the face's centre above the centre of the cascade's box, in sides of the face."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture.

    x, y, width, height: its box in pixels, inside the picture; x and y are those of the upper left corner.
    score: confidence of the detector, 0 to 1; a cascade gives n/(n+3) for n agreeing windows.
    tilt: degrees by which the head leans, clockwise in the picture; None if the detector does not tell.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    tilt: float | None = None

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def side(self) -> float:
        """Side of the square of the same area."""
        return math.sqrt(self.width * self.height)


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes.

    >>> overlap(Face(0, 0, 2, 2, 1), Face(1, 0, 2, 2, 1))
    0.3333333333333333
    """
    shared = _shared(a, b)
    return shared / (a.width * a.height + b.width * b.height - shared)


def _shared(a: Face, b: Face) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0.0) * max(height, 0.0)


def separate(faces: Sequence[Face]) -> list[Face]:
    """One face per place, highest score first: a face that overlaps one with a higher score is dropped."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: (-f.score, f.x, f.y, f.width, f.height)):
        area = face.width * face.height
        if not any(
            overlap(face, k) > 0.25 or _shared(face, k) > 0.6 * min(area, k.width * k.height) for k in kept
        ):
            kept.append(face)
    return kept


def clipped(face: Face, height: int, width: int) -> Face | None:
    """The part of ``face`` inside a picture of this size; None if it lies outside."""
    left, top = max(face.x, 0.0), max(face.y, 0.0)
    right, bottom = min(face.x + face.width, float(width)), min(face.y + face.height, float(height))
    if right - left < 1 or bottom - top < 1:
        return None
    return Face(left, top, right - left, bottom - top, face.score, face.tilt)
