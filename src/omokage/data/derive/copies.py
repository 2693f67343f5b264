"""Copies among faces kept as they are: equal bytes and other encodings, told from variants of a drawing.

`duplicates` finds pairs with similar low frequencies. There, a picture in another encoding and a variant of
the drawing (eyes closed, other clothes) look the same. `difference` compares the pixels of such a pair.
Encoding, scaling, shifting and brightening change the whole picture a little. A redrawn part changes much in
one place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...progress import Progress, opened
from ..store.faceset import FaceSet
from .duplicates import best_for, duplicate_groups
from .pairs import ALIKE
from .signatures import face_set_signatures

DROPS = ("none", "exact", "near")
VARIANT = 1.5
"""A pair with a greater `difference` is a variant.

Measured on copies (quality 60 to 95, half to 1.6 times the size, shifts by up to three sixty-fourths,
brightness ±5%) of 50 drawn and 129 real faces: the median is 0.6, and all copies of the drawn faces and 99.5%
of those of the real ones have at most 1.46. Drawn faces with closed eyes painted over all have 2.3 or more.
With other clothes, of which a face shows little, 44% have more than 1.46.
"""

_SIDE = 64
_BLUR = 1.2
_FIELD = 5
_BORDER = 1
_GREY = 10.0  # grey levels that count as 1 on a plain surface; edges allow more, as no alignment is exact


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest local difference of two pictures of one drawing, 0 and up.

    The second picture is aligned to the first in position, size and brightness, at 64×64 pixels. The
    difference of brightness and colour is averaged over fields of 5×5 pixels. It is divided by the difference
    that is usual for edges as strong as those of the field. RGB uint8, (H, W, 3), of any sizes.

    >>> small = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    >>> picture = small.repeat(8, 0).repeat(8, 1)
    >>> difference(picture, picture) < 0.1 < VARIANT < difference(picture, picture[:, ::-1])
    True
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the order of summation must not depend on the machine
    try:
        ours, theirs = (cv2.GaussianBlur(_planes(picture), (0, 0), _BLUR) for picture in (first, second))
        place = np.eye(2, 3, dtype=np.float32)
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
        try:
            everywhere = np.full((_SIDE, _SIDE), 255, np.uint8)
            _, found = cv2.findTransformECC(
                ours[..., 0], theirs[..., 0], place, cv2.MOTION_AFFINE, stop, everywhere, 1
            )
            place = np.asarray(found)
        except cv2.error:  # no alignment found: plain surfaces, or different drawings
            place = np.eye(2, 3, dtype=np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(theirs, place, (_SIDE, _SIDE), flags=flags)
        there = cv2.warpAffine(np.ones((_SIDE, _SIDE), np.float32), place, (_SIDE, _SIDE), flags=flags) > 0.99
        there = cv2.erode(there.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        there[:_BORDER] = there[-_BORDER:] = False
        there[:, :_BORDER] = there[:, -_BORDER:] = False
        if there.mean() < 0.3:
            return 99.0
        total, edges = np.zeros((2, _SIDE, _SIDE), np.float32)
        for a, b in zip(np.moveaxis(ours, -1, 0), np.moveaxis(moved, -1, 0), strict=True):
            x, y = b[there], a[there]
            gain = ((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-6)
            total += np.abs(a - np.clip(gain, 0.6, 1.6) * (b - x.mean()) - y.mean())
            for plane in (a, b):
                steps = (cv2.Sobel(plane, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
                edges += np.hypot(*steps) / 16
        total = np.asarray(cv2.blur(np.where(there, total, 0), (_FIELD, _FIELD)))
        return float((total / (_GREY + cv2.blur(edges, (_FIELD, _FIELD)))).max())
    finally:
        cv2.setNumThreads(threads)


def _planes(picture: np.ndarray) -> np.ndarray:
    """Brightness and two colour differences, float32 (64, 64, 3)."""
    image = Image.fromarray(picture)
    if image.size != (_SIDE, _SIDE):
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)
    luma = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.stack([luma, (pixels[..., 2] - luma) * 0.564, (pixels[..., 0] - luma) * 0.713], -1)


@dataclass(frozen=True)
class Copies:
    """The copies in a face set of N faces.

    kept_for: int64 (N,): for each row, the row that is kept in its place; a kept row has its own number.
    variants: number of kept faces that are a variant of another kept face: the two are `pairs.ALIKE`,
        or `pairs.SAME` with a `difference` above `VARIANT`.
    """

    kept_for: np.ndarray
    variants: int

    @property
    def left_out(self) -> Iterator[tuple[int, int]]:
        """Rows to leave out, each with the row that is kept in its place."""
        for row in np.nonzero(self.kept_for != np.arange(len(self.kept_for)))[0].tolist():
            yield row, int(self.kept_for[row])


def near_copies(faces: FaceSet, workers: int | None = None, progress: Progress | None = None) -> Copies:
    """The copies in a face set, in any encoding. The best of each group is to be kept.

    Pairs that are `pairs.SAME` and have a `difference` of at most `VARIANT` are copies.
    `duplicates.best_of_groups` chooses the one to keep.
    """
    marks = face_set_signatures(faces, workers=workers, progress=progress)
    unlike: list[np.ndarray] = []

    def same_drawing(pairs: np.ndarray) -> np.ndarray:
        good = np.empty(len(pairs), bool)
        with opened(progress, "comparing faces alike", len(pairs)) as task:
            for i, (a, b) in enumerate(pairs.tolist()):
                pictures = (np.asarray(faces.image(row)) for row in (a, b))
                good[i] = difference(*pictures) <= VARIANT
                task.advance(1)
        unlike.append(pairs[~good])
        return good

    groups = duplicate_groups(marks, accept=same_drawing, progress=progress)
    kept_for = best_for(groups, marks, faces.index["bytes"].to_numpy())
    best = kept_for == np.arange(len(kept_for))
    apart = np.concatenate([*unlike, np.empty((0, 2), np.int64)])
    apart = kept_for[apart.reshape(-1, 2)]
    later = np.maximum(apart[:, 0], apart[:, 1])[apart[:, 0] != apart[:, 1]]
    left = np.nonzero(best)[0]
    drawings = left[duplicate_groups(marks[left], likeness=ALIKE, progress=progress)]
    return Copies(kept_for, len(np.union1d(later, left[drawings != left])))
