"""The signature of a picture: 360 bytes by which copies and variants of it are found.

Its main part is the signs of the 256 lowest frequencies of a discrete cosine transform of the picture's
brightness (after Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"), for each
of nine windows. The windows begin at 3, 4 and 6 along each side. The differences of these numbers cover 0 to
3, so that for each such shift of a copy, some window of the picture equals some window of the copy. Signs
give every frequency the same weight; so faces differ although most have dark hair around a light oval. A
mirror image has opposite signs at the odd frequencies only.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from PIL import Image

from ...progress import Progress, opened
from ..engines.processes import cores
from ..steps.read import quiet
from ..store.faceset import FaceSet

WINDOWS = 9
CENTRE = 4
WORDS = 4

SIGNATURE = np.dtype(
    [
        ("content", "<u8", (2,)),  # hash of the pixels: equal for equal pictures
        ("hashes", "<u8", (WINDOWS, WORDS)),  # 256 signs of each window, low frequencies first
        ("colour", "i1", (3, 4, 4)),  # Y - 128, Cb, Cr of the picture in 4x4 fields
        ("width", "<i4"),
        ("height", "<i4"),
    ]
)


_SIDE = 64
_WINDOW = 56
_STARTS = (3, 4, 6)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """The 256 lowest frequencies (vertical, horizontal) without the mean."""
    pairs = [(v, h) for v in range(_SIDE // 2) for h in range(_SIDE // 2) if v or h]
    lowest = sorted(pairs, key=lambda p: (p[0] ** 2 + p[1] ** 2, p))[: 64 * WORDS]
    vertical, horizontal = np.array(lowest).T
    return vertical, horizontal


_VERTICAL, _HORIZONTAL = _frequencies()
_ORDERS = int(max(_VERTICAL.max(), _HORIZONTAL.max())) + 1


def _transform() -> np.ndarray:
    """The cosine transform along one side, for its three windows: (3 * orders, 64)."""
    position = (np.arange(_WINDOW) + 0.5) / _WINDOW
    cosines = np.cos(np.pi * np.arange(_ORDERS)[:, None] * position) * np.sqrt(2 / _WINDOW)
    rows = np.zeros((len(_STARTS), _ORDERS, _SIDE), np.float32)
    for row, start in zip(rows, _STARTS, strict=True):
        row[:, start : start + _WINDOW] = cosines
    return rows.reshape(-1, _SIDE)


_TRANSFORM = _transform()


BIT = np.uint64(1) << np.arange(64, dtype=np.uint64)
"""Each bit of a word, from the lowest."""

MIRROR = ((_HORIZONTAL % 2 == 1).reshape(WORDS, 64) * BIT).sum(-1, dtype=np.uint64)
"""The bits of a window's hash that are opposite in the mirror image, uint64 (4,)."""


def meetings(mirrored: bool) -> dict[int, list[int]]:
    """Windows of one picture to compare with each window of another, so that each shift is tested once.

    A shift equals the opposite shift with the pictures exchanged, so one of the two is enough.
    """
    last = _SIDE - _WINDOW
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for a in range(WINDOWS):
        for b in range(WINDOWS):
            down = _STARTS[a // 3] - _STARTS[b // 3]
            across = (last - _STARTS[a % 3] if mirrored else _STARTS[a % 3]) - _STARTS[b % 3]
            half = down > 0 or (down == 0 and (mirrored or across >= 0))
            # Only the central window keeps its place when mirrored, so it is preferred.
            if half and abs(across) <= 3 and ((down, across) not in found or a == b == CENTRE):
                found[down, across] = (a, b)
    met: dict[int, list[int]] = {}
    for a, b in found.values():
        met.setdefault(b, []).append(a)
    return met


def signatures(images: Iterable[np.ndarray | Image.Image]) -> np.ndarray:
    """The signatures of pictures: a structured array (N,) of `SIGNATURE`.

    images: RGB, each a Pillow image or uint8 (H, W, 3), of any sizes.

    >>> signatures(np.zeros((2, 8, 8, 3), np.uint8))["width"]
    array([8, 8], dtype=int32)
    """
    rest, parts = iter(images), []
    while chunk := list(islice(rest, 256)):
        parts.append(_signatures(chunk))
    return np.concatenate(parts) if parts else np.empty(0, SIGNATURE)


def _signatures(images: list[np.ndarray | Image.Image]) -> np.ndarray:
    out = np.empty(len(images), SIGNATURE)
    small = np.empty((len(images), _SIDE, _SIDE, 3), np.float32)
    for i, image in enumerate(images):
        pixels = np.ascontiguousarray(np.asarray(image))
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"expected uint8 RGB (H, W, 3), got {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[:2]
        digest = hashlib.blake2b(pixels.data, digest_size=16, salt=width.to_bytes(8, "little"))
        out[i]["content"] = np.frombuffer(digest.digest(), "<u8")
        out[i]["width"], out[i]["height"] = width, height
        if (height, width) != (_SIDE, _SIDE):
            picture = image if isinstance(image, Image.Image) else Image.fromarray(pixels)
            pixels = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
        small[i] = pixels
    red, luma, blue = small[..., 0], small @ _LUMA, small[..., 2]
    planes = np.stack([luma - 128, (blue - luma) * 0.564, (red - luma) * 0.713], 1)
    fields = planes.reshape(len(out), 3, 4, 16, 4, 16).mean((3, 5))
    out["colour"] = np.clip(np.rint(fields), -128, 127)
    out["hashes"] = packed(_waves(luma))
    return out


def waves(images: np.ndarray) -> np.ndarray:
    """The cosine transforms of pictures, uint8 (N, 64, 64, 3), in nine windows: float32 (N, 9, 256)."""
    return _waves(images.astype(np.float32) @ _LUMA)


def _waves(luma: np.ndarray) -> np.ndarray:
    transformed = (_TRANSFORM @ luma @ _TRANSFORM.T).reshape(-1, 3, _ORDERS, 3, _ORDERS)
    return transformed.transpose(0, 1, 3, 2, 4)[..., _VERTICAL, _HORIZONTAL].reshape(-1, WINDOWS, 64 * WORDS)


def packed(waves: np.ndarray) -> np.ndarray:
    """The signs of (N, 9, 256) as bits: uint64 (N, 9, 4)."""
    # In a flat picture, rounding errors must not decide the signs.
    return ((waves > 0.01).reshape(-1, WINDOWS, WORDS, 64) * BIT).sum(-1, dtype=np.uint64)


def face_set_signatures(
    faces: FaceSet,
    rows: Sequence[int] | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """The `signatures` of a face set, or of its ``rows``. Memory is little more than that of the result.

    workers: threads that decode; None: one per core. Raises `UserError` if a picture is damaged.
    """
    rows = range(len(faces)) if rows is None else rows
    out = np.empty(len(rows), SIGNATURE)

    def sign(start: int) -> int:
        chunk = rows[start : start + 64]
        out[start : start + 64] = signatures(faces.image(int(i)) for i in chunk)
        return len(chunk)

    pool = ThreadPoolExecutor(workers or cores())
    try:
        with quiet(), opened(progress, "looking at faces", len(rows)) as task:
            for n in pool.map(sign, range(0, len(rows), 64)):
                task.advance(n)
    finally:
        pool.shutdown(cancel_futures=True)
    return out
