"""Copies among faces that are kept as they come: equal bytes, other encodings, and what only looks like one.

`duplicates` finds pairs that are alike by their low frequencies. A picture in another encoding and a variant
of the drawing (eyes closed, other clothes) look the same there. `difference` looks at the pixels of such a
pair: what encoding, scaling, shifting and brightening change is small and everywhere; what is drawn anew is
large in one place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..progress import Progress, opened
from .duplicates import ALIKE, best_of_groups, duplicate_groups, face_set_signatures
from .faceset import FaceSet

DROPS = ("none", "exact", "near")
VARIANT = 1.5
"""A pair with a greater `difference` is a variant.

Copies (quality 60 to 95, half to 1.6 times the size, shifts by up to three sixty-fourths, brightness ±5%) of
50 drawn faces and of 99.5% of 129 real ones have at most 1.46, and 0.6 in the median. With closed eyes
painted over the drawn faces all have 2.3 or more; with other clothes, of which a face shows little, 44% have
more than 1.46.
"""

_SIDE = 64
_BLUR = 1.2
_FIELD = 5
_BORDER = 1
_GREY = 10.0  # grey levels that count as 1 on a plain surface; no alignment is exact, so more on edges


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How much two pictures of one drawing differ where they differ most: 0 and up.

    The second is brought to the place, size and brightness of the first. Then the difference of brightness
    and colour is averaged over fields of 5 pixels of 64, and divided by what is usual beside edges as strong
    as those of the field. RGB uint8, (H, W, 3), of any sizes.

    >>> small = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    >>> picture = small.repeat(8, 0).repeat(8, 1)
    >>> difference(picture, picture) < 0.1 < VARIANT < difference(picture, picture[:, ::-1])
    True
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the order of sums must not depend on the machine
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
        except cv2.error:  # nothing to hold on to: plain surfaces, or no drawing in common
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
    """What is to be left out of a face set.

    kept_for: int64 (N,): the row that is kept in the place of each row; its own number if it is kept itself.
    variants: how many kept faces are variants of another kept face: pairs alike that are no copies, and
        `duplicates.ALIKE`.
    """

    kept_for: np.ndarray
    variants: int

    @property
    def left_out(self) -> Iterator[tuple[int, int]]:
        """Rows to leave out, each with the row that is kept in its place."""
        for row in np.nonzero(self.kept_for != np.arange(len(self.kept_for)))[0].tolist():
            yield row, int(self.kept_for[row])


def near_copies(faces: FaceSet, workers: int | None = None, progress: Progress | None = None) -> Copies:
    """The copies in a face set, in whatever encoding, with the best of each group to be kept.

    Pairs that are `duplicates.SAME` and differ by at most `VARIANT` are copies; `duplicates.best_of_groups`
    says which is kept.
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
    best = best_of_groups(groups, marks, faces.index["bytes"].to_numpy())
    best_of = np.empty(len(groups), np.int64)
    best_of[groups[best]] = np.nonzero(best)[0]
    kept_for = best_of[groups]
    apart = np.concatenate([*unlike, np.empty((0, 2), np.int64)])
    apart = kept_for[apart.reshape(-1, 2)]
    later = np.maximum(apart[:, 0], apart[:, 1])[apart[:, 0] != apart[:, 1]]
    left = np.nonzero(best)[0]
    drawings = left[duplicate_groups(marks[left], likeness=ALIKE, progress=progress)]
    return Copies(kept_for, len(np.union1d(later, left[drawings != left])))
