"""Which pictures are the same: byte for byte, copies re-encoded, resized or shifted, and variants.

A picture becomes a signature of 360 bytes. Its heart are the signs of the 256 lowest frequencies of a
discrete cosine transform of its brightness (after Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions"), taken from nine windows. Their places along each side, 3, 4 and 6, differ
by every number up to 3, so that some window of a picture meets some window of its shifted copy exactly.
Signs weigh every frequency alike, which tells faces apart that share dark hair around a light oval; and
mirroring only turns the signs of the odd frequencies.

Pairs are found by hashing random subsets of the bits (Indyk and Motwani 1998, bit sampling), checked by all
256 bits and by a coarse picture of brightness and colour, and joined to groups. Memory is linear in the
number of pictures, and so is time but for a logarithm.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..progress import Progress, opened
from .faceset import FaceSet, cores
from .read import quiet

WINDOWS = 9
CENTRE = 4
WORDS = 4

SIGNATURE = np.dtype(
    [
        ("content", "<u8", (2,)),  # of the pixels: equal means the same picture
        ("hashes", "<u8", (WINDOWS, WORDS)),  # 256 signs of each window, low frequencies first
        ("colour", "i1", (3, 4, 4)),  # Y - 128, Cb, Cr of the picture in 4x4 fields
        ("width", "<i4"),
        ("height", "<i4"),
    ]
)


@dataclass(frozen=True)
class Likeness:
    """What two pictures may differ in and still count as alike.

    bits: of 256. Copies re-encoded at quality 60, resized, brightened or shifted stay below 32; unrelated
        faces begin at 58.
    luma, chroma: mean absolute difference of the 4x4 fields, in grey levels of 256.
    recoloured: pairs of at most so many bits may differ in chroma as they like.
    """

    bits: int
    luma: float
    chroma: float
    recoloured: int = -1


SAME = Likeness(bits=40, luma=32, chroma=8)
"""Copies of one picture."""

ALIKE = Likeness(bits=60, luma=96, chroma=4, recoloured=48)
"""Copies, and variants of one drawing: another cut, another mouth, another colour of hair."""

_Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, rows, and the bits that differ

_SIDE = 64
_WINDOW = 56
_STARTS = (3, 4, 6)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
TABLES = 16
_BUCKET = 128
_FEW, _MANY = 6, 24
_ALL_CANDIDATES = 2_400_000
_AT_ONCE = 2**21
_PIECE, _TOGETHER = 2**16, 32  # pieces of work that fit into a processor's cache; how many results to hand on


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """The 256 lowest frequencies (vertical, horizontal) without the mean."""
    pairs = [(v, h) for v in range(_SIDE // 2) for h in range(_SIDE // 2) if v or h]
    lowest = sorted(pairs, key=lambda p: (p[0] ** 2 + p[1] ** 2, p))[: 64 * WORDS]
    vertical, horizontal = np.array(lowest).T
    return vertical, horizontal


_VERTICAL, _HORIZONTAL = _frequencies()
_ORDERS = int(max(_VERTICAL.max(), _HORIZONTAL.max())) + 1


def _transform() -> np.ndarray:
    """The cosine transform of a side in its three windows, (3 * orders, 64)."""
    position = (np.arange(_WINDOW) + 0.5) / _WINDOW
    cosines = np.cos(np.pi * np.arange(_ORDERS)[:, None] * position) * np.sqrt(2 / _WINDOW)
    rows = np.zeros((len(_STARTS), _ORDERS, _SIDE), np.float32)
    for row, start in zip(rows, _STARTS, strict=True):
        row[:, start : start + _WINDOW] = cosines
    return rows.reshape(-1, _SIDE)


_TRANSFORM = _transform()


def _meetings(mirrored: bool) -> dict[int, list[int]]:
    """Which windows of one picture to compare with each window of another, so that all shifts are met once.

    A shift and its opposite are the same with the pictures exchanged, so one of the two is enough.
    """
    last = _SIDE - _WINDOW
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for a in range(WINDOWS):
        for b in range(WINDOWS):
            down = _STARTS[a // 3] - _STARTS[b // 3]
            across = (last - _STARTS[a % 3] if mirrored else _STARTS[a % 3]) - _STARTS[b % 3]
            half = down > 0 or (down == 0 and (mirrored or across >= 0))
            # Only the centre is at the same place in a mirror, so it goes first.
            if half and abs(across) <= 3 and ((down, across) not in found or a == b == CENTRE):
                found[down, across] = (a, b)
    met: dict[int, list[int]] = {}
    for a, b in found.values():
        met.setdefault(b, []).append(a)
    return met


_BIT = np.uint64(1) << np.arange(64, dtype=np.uint64)
_MIRROR = ((_HORIZONTAL % 2 == 1).reshape(WORDS, 64) * _BIT).sum(-1, dtype=np.uint64)


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
    # Where a picture is flat, rounding must not throw the dice.
    return ((waves > 0.01).reshape(-1, WINDOWS, WORDS, 64) * _BIT).sum(-1, dtype=np.uint64)


def near_pairs(
    signatures: np.ndarray,
    likeness: Likeness = SAME,
    *,
    mirrored: bool = False,
    tables: int = TABLES,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows that are alike: int64 (M, 2) with the lower row first, and the bits that differ (M,).

    mirrored: a picture and its mirror image are alike too.

    tables: the more, the fewer pairs are missed, first those that differ in many bits.

    Pictures with equal pixels must be given once; `duplicate_groups` takes care of it.
    """
    n = len(signatures)
    code, differing = np.empty(0, np.int64), np.empty(0, np.int64)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for a, b, bits in _meeting(signatures, likeness, mirrored, tables, progress):
        waiting.append((np.minimum(a, b) * n + np.maximum(a, b), bits))
        count += len(a)
        # The same pairs come again and again: memory must not grow with that.
        if count > max(_AT_ONCE, len(code)):
            code, differing = _once([(code, differing), *waiting])
            waiting, count = [], 0
    code, differing = _once([(code, differing), *waiting])
    return np.stack(np.divmod(code, max(n, 1)), 1), differing


def _meeting(
    signatures: np.ndarray,
    likeness: Likeness,
    mirrored: bool,
    tables: int,
    progress: Progress | None,
    chain: np.ndarray | None = None,
) -> Iterator[_Found]:
    """Rows that are alike (M,), (M,) and the bits that differ (M,), some millions at a time, often again.

    chain: a number for every row; rows of equal number are passed over. The caller may change it meanwhile.
    """
    n = len(signatures)
    centre = np.ascontiguousarray(signatures["hashes"][:, CENTRE])
    # Equal hashes cannot be told apart by more bits, so they count once.
    _, first = np.unique(centre.view("V32")[:, 0], return_index=True)
    distinct = centre[first]
    bits = int(np.log2(max(n, 2)))
    draw = np.random.default_rng(2010)
    pairs = 0
    with opened(progress, "looking for duplicates", tables) as task:
        for table in range(tables if n > 1 else 0):
            # Low frequencies suffer least from a shift, middle ones tell more faces apart: in turn.
            words, bits = _selective(distinct, draw.permutation(64 * (1 + table % 2)), bits)
            for found in _pairs_of_a_table(signatures, words, likeness, mirrored, chain):
                pairs += len(found[0])
                yield found
            task.advance(1, f"{pairs:,} pairs met")


def _chains(
    signatures: np.ndarray,
    likeness: Likeness,
    mirrored: bool,
    tables: int,
    features: np.ndarray | None,
    feature_likeness: float,
    progress: Progress | None,
) -> np.ndarray:
    """The lowest row that a chain of pairs leads to, for every row: int64 (N,).

    No pair is kept: what is joined already is not compared again. So the memory is that of the rows, also
    where there are far more pairs than rows.
    """
    n = len(signatures)
    chain = np.arange(n)
    for a, b, _ in _meeting(signatures, likeness, mirrored, tables, progress, chain):
        if features is not None:
            good = _cosines(features, np.stack([a, b], 1)) >= feature_likeness
            a, b = a[good], b[good]
        if not len(a):
            continue
        ends, places = np.unique(np.stack([chain[a], chain[b]]), return_inverse=True)
        x, y = places.reshape(2, -1)
        graph = coo_array((np.ones(len(x), bool), (x, y)), (len(ends), len(ends)))
        _, label = connected_components(graph, directed=False)
        _, lowest = np.unique(label, return_index=True)
        leads = np.arange(n)
        leads[ends] = ends[lowest[label]]  # `ends` ascend: the first of a component is its lowest row
        chain[:] = leads[chain]
    return chain


def _once(found: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Every pair once, with the fewest bits that it was found with."""
    code, differing = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((differing, code))
    code, differing = code[order], differing[order]
    first = np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]
    return code[first], differing[first]


def pairs_between(
    first: np.ndarray, second: np.ndarray, likeness: Likeness = SAME, progress: Progress | None = None
) -> np.ndarray:
    """All pairs (row of ``first``, row of ``second``) that are alike, int64 (M, 2): every pair is compared.

    None is missed, at the cost of N times M comparisons: some millions a second.
    """
    found = [np.empty((0, 2), np.int64)]
    with opened(progress, "comparing all pairs", len(first)) as task:
        for start in range(0, len(first), 64):
            block = first[start : start + 64]
            apart = np.full((len(block), len(second)), 64 * WORDS, np.int16)
            for window, others in _meetings(False).items():
                for other in others:
                    for a, b in {(other, window), (window, other)}:
                        ours, theirs = block["hashes"][:, a, None], second["hashes"][:, b]
                        bits = np.zeros_like(apart)
                        for word in range(WORDS):
                            bits += _ones(ours[..., word] ^ theirs[:, word])
                        np.minimum(apart, bits, out=apart)
            i, j = np.nonzero(apart <= likeness.bits)
            both = np.concatenate([block[i], second[j]])
            rows = np.arange(len(i))
            good = _similar_colours(both, rows, rows + len(i), apart[i, j], likeness, False)
            found.append(np.stack([i[good] + start, j[good]], 1))
            task.advance(len(block))
    return np.concatenate(found)


def _selective(centre: np.ndarray, order: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """The first bits of ``order`` as a mask (2,), and how many: just enough to keep the buckets small.

    bits: how many there were in the table before.
    """
    bits = max(bits - 6, 1)
    most = np.clip(_ALL_CANDIDATES / len(centre), _FEW, _MANY)
    while True:
        mask = np.zeros(128, np.uint64)
        mask[order[:bits]] = 1
        words = (mask.reshape(2, 64) * _BIT).sum(-1, dtype=np.uint64)
        keys = np.sort(_keys(centre, words))
        ends = np.nonzero(np.concatenate([keys[1:] != keys[:-1], [True]]))[0]
        sizes = np.diff(ends, prepend=-1)
        if (sizes * sizes).sum() <= most * len(keys) or bits >= len(order):
            return words, bits
        bits += 2


def _pairs_of_a_table(
    rows: np.ndarray, words: np.ndarray, likeness: Likeness, mirrored: bool, chain: np.ndarray | None
) -> Iterator[_Found]:
    """Pairs (row, row, bits) that are alike and whose hashes agree where ``words`` has ones."""
    for flip in (False, True) if mirrored else (False,):
        for window, others in _meetings(flip).items():
            theirs = rows["hashes"][:, window]
            keys = _keys(theirs, words)
            order = np.argsort(keys, kind="stable")
            keys, theirs = keys[order], theirs[order]
            for other in others:
                hashes = rows["hashes"][:, other]
                hashes = hashes ^ _MIRROR if flip else hashes
                asked = _keys(hashes, words)
                by_key = np.argsort(asked, kind="stable")
                asked, hashes = asked[by_key], hashes[by_key]
                start = np.searchsorted(keys, asked, "left")
                count = np.minimum(np.searchsorted(keys, asked, "right") - start, _BUCKET)
                some = count > (window == other and not flip)
                hashes, by_key, start, count = hashes[some], by_key[some], start[some], count[some]
                waiting: list[_Found] = []
                for first, last in _chunks(np.cumsum(count)):
                    counts = count[first:last]
                    a = np.repeat(np.arange(first, last), counts)
                    b = np.repeat(start[first:last] - np.cumsum(counts) + counts, counts) + np.arange(len(a))
                    if chain is not None:
                        apart = chain[by_key[a]] != chain[order[b]]
                        a, b = a[apart], b[apart]
                    differing = _bit_count(hashes[a] ^ theirs[b])
                    good = differing <= likeness.bits
                    a, b, differing = by_key[a[good]], order[b[good]], differing[good]
                    good = a != b
                    a, b, differing = a[good], b[good], differing[good]
                    good = _similar_colours(rows, a, b, differing, likeness, flip)
                    if good.any():
                        waiting.append((a[good], b[good], differing[good]))
                    if len(waiting) == _TOGETHER:
                        yield _together(waiting)
                        waiting = []
                if waiting:
                    yield _together(waiting)


def _together(found: list[_Found]) -> _Found:
    a, b, bits = (np.concatenate(part) for part in zip(*found, strict=True))
    return a, b, bits


def _chunks(ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pieces of work with cumulated sizes ``ends``, cut so that memory stays flat."""
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _PIECE, "right")))
        yield first, last
        first = last


def _keys(hashes: np.ndarray, words: np.ndarray) -> np.ndarray:
    # Odd multipliers mix the two words; equal bits give equal keys.
    return (hashes[:, 0] & words[0]) * np.uint64(0x9E3779B97F4A7C15) ^ (hashes[:, 1] & words[1]) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )


def _bit_count(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each row of uint64 (N, W)."""
    return _ones(words).sum(-1, dtype=np.int64)


def _ones(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each word of uint64, as uint8."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    return _ONES[np.ascontiguousarray(words)[..., None].view(np.uint16)].sum(-1, dtype=np.uint8)


_ONES = np.unpackbits(np.arange(2**16, dtype="<u2").view(np.uint8).reshape(-1, 2), axis=1).sum(
    1, dtype=np.uint8
)


def _similar_colours(
    rows: np.ndarray, a: np.ndarray, b: np.ndarray, differing: np.ndarray, likeness: Likeness, flip: bool
) -> np.ndarray:
    colour = rows["colour"]
    left = colour[a].astype(np.int16)
    difference = np.abs((left[..., ::-1] if flip else left) - colour[b])
    luma, chroma = difference[:, 0].mean((1, 2)), difference[:, 1:].mean((1, 2, 3))
    return (luma <= likeness.luma) & ((chroma <= likeness.chroma) | (differing <= likeness.recoloured))


def duplicate_groups(
    signatures: np.ndarray,
    features: np.ndarray | None = None,
    *,
    likeness: Likeness | None = SAME,
    mirrored: bool = False,
    chaining: bool = False,
    feature_likeness: float = 0.9,
    accept: Callable[[np.ndarray], np.ndarray] | None = None,
    tables: int = TABLES,
    progress: Progress | None = None,
) -> np.ndarray:
    """The group of every picture: int64 (N,), the lowest row of the group; a picture alone has its own.

    signatures: of `signatures`.
    features: float (N, D) of any feature network, or None. A near pair then also needs features whose
        cosine is at least ``feature_likeness``.
    likeness: `SAME` for copies, `ALIKE` for variants of one drawing too, None for equal pixels only.
    mirrored: a picture and its mirror image are duplicates too.
    chaining: False: every member is like the centre of its group, so that a long row of pictures, each a
        little unlike the last, is not one group. True: whoever is joined by a chain of pairs is one group,
        which no near pair leaves (for a split).
    accept: tells of near pairs, rows (M, 2), which of them count, bool (M,); not with ``chaining``.
    tables: as for `near_pairs`.
    """
    n = len(signatures)
    if features is not None and len(features) != n:
        raise ValueError(f"{len(features)} rows of features for {n} signatures")
    content = np.ascontiguousarray(signatures["content"]).view("V16")[:, 0]
    _, first, same = np.unique(content, return_index=True, return_inverse=True)
    groups = first[same.reshape(-1)].astype(np.int64)
    if likeness is None or n < 2:
        return groups
    once = np.sort(first)
    if chaining:
        some = None if features is None else features[once]
        chains = _chains(signatures[once], likeness, mirrored, tables, some, feature_likeness, progress)
        joined = np.arange(n)
        joined[once] = once[chains]
        return joined[groups]
    pairs, _ = near_pairs(signatures[once], likeness, mirrored=mirrored, tables=tables, progress=progress)
    pairs = once[pairs]
    if features is not None:
        pairs = pairs[_cosines(features, pairs) >= feature_likeness]
    if accept is not None:
        pairs = pairs[accept(pairs)]
    return _stars(pairs, n)[groups]


def _cosines(features: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    out = np.empty(len(pairs))
    for start in range(0, len(pairs), 2**16):
        a, b = (features[pairs[start : start + 2**16, side]].astype(np.float64) for side in (0, 1))
        lengths = np.sqrt((a * a).sum(1) * (b * b).sum(1))
        out[start : start + 2**16] = (a * b).sum(1) / np.maximum(lengths, 1e-30)
    return out


def _stars(pairs: np.ndarray, n: int) -> np.ndarray:
    """The lowest row of the group of each of ``n`` rows, in which ``pairs`` join every row to one centre."""
    groups = np.arange(n)
    if not len(pairs):
        return groups
    a, b = pairs.T
    graph = coo_array((np.ones(2 * len(a), bool), (np.r_[a, b], np.r_[b, a])), (n, n)).tocsr()
    # The row with the most neighbours takes them, then the next of those that are left.
    start, neighbours = graph.indptr, graph.indices
    degree = np.diff(start)
    free = np.ones(n, bool)
    joined = np.nonzero(degree)[0]
    for row in joined[np.lexsort((joined, -degree[joined]))]:
        if free[row]:
            near = neighbours[start[row] : start[row + 1]]
            members = np.append(near[free[near]], row)
            groups[members] = members.min()
            free[members] = False
    return groups


def best_of_groups(groups: np.ndarray, signatures: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """Which picture of each group is kept, as bool (N,), by the rule ``most-pixels``.

    The rule: the most pixels; among equals the most bytes (``size``, if given: the least compressed); then
    the first.

    >>> pictures = signatures([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)])
    >>> best_of_groups(np.array([0, 0]), pictures)
    array([False,  True])
    """
    pixels = signatures["width"].astype(np.int64) * signatures["height"]
    size = np.zeros(len(groups), np.int64) if size is None else np.asarray(size, np.int64)
    order = np.lexsort((np.arange(len(groups)), -size, -pixels, groups))
    ordered = np.asarray(groups)[order]
    kept = np.zeros(len(groups), bool)
    kept[order[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)]]] = True
    return kept


def face_set_signatures(
    faces: FaceSet,
    rows: Sequence[int] | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """The `signatures` of a face set, or of its ``rows``; memory is that of the result.

    workers: threads that decode; None: one a core. Raises `UserError` where a picture is damaged.
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
