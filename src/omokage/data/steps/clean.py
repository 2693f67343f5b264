"""Which crops are good enough: numbers are measured first and compared with thresholds afterwards.

`measure` needs the pixels. `verdict` needs only the numbers, so a threshold can be changed later without
detecting again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ..text import one_line
from .face import Face

_SIDE = 128


@dataclass(frozen=True, slots=True)
class Criterion:
    """One reason to leave a face out.

    reason: the text in `rejected.csv`.
    low: True leaves out faces below the threshold, False those above it.
    threshold: the default; None: the number is measured but no face is left out.
    about: what the number means.
    """

    reason: str
    low: bool
    threshold: float | None
    about: str


CRITERIA = {
    "face_side": Criterion("too small", True, 32.0, "side of the face box in pixels of the picture"),
    "aspect": Criterion("extreme aspect", False, 2.2, "longer over shorter side of the face box"),
    "visible": Criterion("too far beyond the border", True, 0.5, "part of the crop inside the picture"),
    "face_score": Criterion("not a face", True, 0.2, "the network's verdict on the box, 0 to 1"),
    "sharpness": Criterion("too blurred", True, 0.045, "fine detail over contrast, at 128 pixels"),
    "colour": Criterion("near-monochrome", True, 4.0, "spread of the colours, Lab units"),
    "detail": Criterion("too flat", True, 2.0, "entropy of the brightness, bits of 5"),
    # No default threshold: strands of hair are too often taken for letters (see docs/building.md).
    "text": Criterion("text or watermark", False, None, "part of the crop under lines of letters"),
}
"""The criteria, in the order of checking; the first that fails is the reason."""


def thresholds(changes: Sequence[str] = ()) -> dict[str, float | None]:
    """The thresholds with changes like ``sharpness=0.05`` or ``text=off``; `UserError` for anything else.

    >>> thresholds(["face_side=64", "text=off"])["face_side"]
    64.0
    """
    chosen = {name: criterion.threshold for name, criterion in CRITERIA.items()}
    for change in changes:
        name, equals, value = (part.strip() for part in change.partition("="))
        if not equals or name not in CRITERIA:
            known = ", ".join(CRITERIA)
            raise UserError(
                f"{one_line(change)!r} is not a threshold: write NAME=NUMBER or NAME=off; names: {known}"
            )
        try:
            chosen[name] = None if value == "off" else float(value)
        except ValueError:
            raise UserError(f"threshold {name}: {one_line(value)!r} is neither a number nor off") from None
    return chosen


def verdict(numbers: Mapping[str, float | None], limits: Mapping[str, float | None]) -> str | None:
    """Why a face with these numbers is left out, like ``too small: face_side 20 < 32``; None if it is not."""
    for name, criterion in CRITERIA.items():
        limit, value = limits.get(name), numbers.get(name)
        if limit is None or value is None:
            continue
        if value < limit if criterion.low else value > limit:
            return f"{criterion.reason}: {name} {value:.3g} {'<' if criterion.low else '>'} {limit:g}"
    return None


def measure(
    crop: np.ndarray, face: Face, visible: float, face_score: float | None
) -> dict[str, float | None]:
    """The numbers of `CRITERIA` for a crop (RGB uint8, (H, W, 3)); rounded to four digits."""
    import cv2

    scale = _SIDE / min(crop.shape[:2])
    small = crop
    if scale < 1:
        size = (max(_SIDE, round(crop.shape[1] * scale)), max(_SIDE, round(crop.shape[0] * scale)))
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    numbers = {
        "face_side": face.side,
        "aspect": max(face.width / face.height, face.height / face.width),
        "visible": visible,
        "face_score": face_score,
        "sharpness": sharpness(grey),
        "colour": colour(small),
        "detail": detail(grey),
        "text": text(grey),
    }
    return {name: None if value is None else float(f"{value:.4g}") for name, value in numbers.items()}


def sharpness(grey: np.ndarray) -> float:
    """Mean difference from a slightly blurred copy, over the standard deviation; uint8 (H, W)."""
    import cv2

    pixels = grey.astype(np.float32)
    contrast = float(pixels.std())
    if contrast < 1:
        return 0.0
    return float(np.abs(pixels - cv2.GaussianBlur(pixels, (0, 0), 1.0)).mean()) / contrast


def colour(image: np.ndarray) -> float:
    """Standard deviation of the colours a and b of Lab together; 0 for grey, small for tinted grey."""
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 1:].reshape(-1, 2).astype(np.float32)
    return float(np.sqrt(lab.var(0).sum()))


def detail(grey: np.ndarray) -> float:
    """Entropy in bits of the brightness in 32 steps: 0 for a plain surface, at most 5."""
    counts = np.bincount(grey.reshape(-1) >> 3, minlength=32).astype(np.float64)
    part = counts[counts > 0] / counts.sum()
    return float(-(part * np.log2(part)).sum())


def text(grey: np.ndarray) -> float:
    """The part of the picture that looks like lines of letters, 0 to 1; grey uint8 (H, W).

    Letters are small separate shapes of thin strokes. Four of one height, side by side, make a line.
    """
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (7, 7))
    covered = 0.0
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(grey, operation, kernel) > 45
        count, _, boxes, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
        x, y, w, h, area = boxes[1:].T if count > 1 else np.zeros((5, 0), int)
        fill = area / np.maximum(w * h, 1)
        good = (h >= 5) & (h <= 30) & (w >= 2) & (w <= 1.6 * h) & (fill > 0.18) & (fill < 0.95)
        letters = sorted(zip(x[good], y[good], w[good], h[good], strict=True))[:400]
        covered += _lines(letters)
    return covered / grey.size


def _lines(letters: list[tuple]) -> float:
    """Area of the lines into which the letters (x, y, w, h), sorted by x, can be joined."""
    lines: list[list[tuple]] = []
    for letter in letters:
        x, y, _, h = letter
        best = None
        for line in lines:
            px, py, pw, ph = line[-1]
            gap = x - (px + pw)
            level = abs((y + h) - (py + ph)) <= 0.25 * max(h, ph) or abs(y - py) <= 0.25 * max(h, ph)
            near = -0.3 * h <= gap <= 0.9 * max(h, ph)
            if level and near and 0.6 <= h / ph <= 1.67 and (best is None or gap < best[0]):
                best = (gap, line)
        if best is None:
            lines.append([letter])
        else:
            best[1].append(letter)
    total = 0.0
    for line in lines:
        if len(line) >= 4:
            boxes = np.array(line)
            width = (boxes[:, 0] + boxes[:, 2]).max() - boxes[:, 0].min()
            total += float(width * boxes[:, 3].mean())
    return total
