"""Faces in other styles of drawing: recoloured, as line art, and flat-shaded.

People bring drawings whose style a model has not seen. An encoder that is also trained on such versions of
its faces (`augmented`) learns to look at shapes and lines, not only at shading.
"""

from collections.abc import Callable

import numpy as np

from ...errors import UserError
from ..text import one_line

LEVELS = (3, 6)  # number of brightness levels of a flat-shaded face, from and to
INK = (20, 20, 28)  # of lines


def recoloured(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The face with other hues and another strength of colour, and its brightness kept.

    All hues are turned by one angle, so shapes and shading stay. ``face``: uint8 (H, W, 3).
    """
    lab = _lab(face)
    angle, strength = rng.uniform(0.15, 1.85) * np.pi, rng.uniform(0.6, 1.3)
    turn = strength * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    lab[..., 1:] = lab[..., 1:] @ turn.T
    return _rgb(lab)


def line_art(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The dark lines of the face on white paper, of a random strength.

    Lines are what is darker than its surroundings (an extended difference of Gaussians, Winnemöller et al.
    2012). ``face``: uint8 (H, W, 3).
    """
    import cv2

    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    wide = max(1.0, min(face.shape[:2]) / 64)
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), sigma * wide) for sigma in (0.5, 1.4))
    darker = np.clip((coarse - fine) * rng.uniform(6.0, 10.0), 0, 1)[..., None]
    return _mixed(np.full(face.shape, 255, np.float32), np.array(INK, np.float32), darker)


def flat_shaded(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The face with even areas of few levels of brightness, as in cel shading, and its own lines.

    ``face``: uint8 (H, W, 3).
    """
    import cv2

    smooth = face
    for _ in range(3):
        smooth = cv2.bilateralFilter(smooth, 5, 40, 3)
    lab = _lab(smooth)
    levels = int(rng.integers(*LEVELS, endpoint=True))
    low, high = np.percentile(lab[..., 0], (2, 98))
    step = max(float(high - low), 1.0) / levels
    lab[..., 0] = low + (np.floor((lab[..., 0] - low) / step).clip(0, levels - 1) + 0.5) * step
    lab[..., 1:] = (lab[..., 1:] / 12).round() * 12
    return _rgb(lab)


STYLES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "recoloured": recoloured,
    "line-art": line_art,
    "flat-shaded": flat_shaded,
}


def restyled(faces: np.ndarray, style: str, *, seed: int = 0) -> np.ndarray:
    """Faces in one of `STYLES`, uint8 (N, H, W, 3) to the same shape.

    Each face has random numbers of its own, from ``seed`` and its position.

    Raises:
        UserError: there is no such style.

    >>> restyled(np.full((1, 8, 8, 3), 200, np.uint8), "line-art").min()
    np.uint8(255)
    """
    if style not in STYLES:
        raise UserError(f"there is no style {one_line(style)!r}: give one of {', '.join(STYLES)}")
    make = STYLES[style]
    drawn = [make(face, np.random.default_rng([seed, row])) for row, face in enumerate(faces)]
    return np.stack(drawn) if drawn else faces.copy()


def augmented(faces: np.ndarray, *, share: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures for an encoder to see, and the faces that it should lead back to.

    About ``share`` of the faces are in a style drawn at random, the others are as they are. A recoloured face
    is its own target, because its colours should be kept. Line art and flat-shaded faces have the plain face
    as their target. Both results are uint8 (N, H, W, 3), like ``faces``.

    >>> faces = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    >>> seen, wanted = augmented(faces, share=0.5)
    >>> 4 <= int((seen == faces).all((1, 2, 3)).sum()) <= 16
    True
    """
    rng, names = np.random.default_rng([seed, 1]), list(STYLES)
    seen, wanted = faces.copy(), faces.copy()
    for row, chosen in enumerate(rng.random(len(faces)) < share):
        style, own = names[int(rng.integers(len(names)))], int(rng.integers(2**31))
        if chosen:
            seen[row] = restyled(faces[row : row + 1], style, seed=own)[0]
            if style == "recoloured":
                wanted[row] = seen[row]
    return seen, wanted


def _lab(face: np.ndarray) -> np.ndarray:
    """CIE Lab, float32 (H, W, 3): lightness 0 to 100, then the two axes of colour."""
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(face).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _rgb(lab: np.ndarray) -> np.ndarray:
    import cv2

    return (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8)


def _mixed(paper: np.ndarray, ink: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (paper + (ink - paper) * share).round().clip(0, 255).astype(np.uint8)
