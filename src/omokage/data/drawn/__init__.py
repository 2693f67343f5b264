"""Procedural anime faces: parametric drawings whose face box and factors are known exactly."""

from omokage.data.drawn.factors import FACTORS, NAMED, RANGES
from omokage.data.drawn.folder import draw, face_seed
from omokage.data.drawn.scene import (
    DrawnFace,
    DrawnIllustration,
    draw_face,
    draw_figure,
    draw_illustration,
)

__all__ = [
    "FACTORS", "NAMED", "RANGES", "DrawnFace", "DrawnIllustration", "draw", "draw_face", "draw_figure",
    "draw_illustration", "face_seed",
]  # fmt: skip
