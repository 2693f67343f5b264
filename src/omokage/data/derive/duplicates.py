"""Finds duplicates: equal pictures, copies that were re-encoded, resized or shifted, and variants.

A picture becomes a signature of 360 bytes. Its main part is the signs of the 256 lowest frequencies of a
discrete cosine transform of its brightness (after Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions"), for each of nine windows. The windows begin at 3, 4 and 6 along each side.
The differences of these numbers cover 0 to 3, so that for each such shift of a copy, some window of the
picture equals some window of the copy. Signs give every frequency the same weight; so faces differ although
most have dark hair around a light oval. A mirror image has opposite signs at the odd frequencies only.

Pairs are found by hashing random subsets of the bits (Indyk and Motwani 1998, bit sampling). They are checked
by all 256 bits and by a coarse picture of brightness and colour, and joined into groups. For N pictures,
memory grows with N and time with N log N.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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


@dataclass(frozen=True)
class Likeness:
    """The largest differences at which two pictures count as alike.

    bits: differing signs of 256. Copies re-encoded at quality 60, resized, brightened or shifted differ in
        fewer than 32; unrelated faces differ in 58 or more.
    luma, chroma: mean absolute difference of the 4x4 fields, in grey levels of 256.
    recoloured: pairs with at most this many differing bits may have any difference in chroma.
    """

    bits: int
    luma: float
    chroma: float
    recoloured: int = -1


SAME = Likeness(bits=40, luma=32, chroma=8)
"""Copies of one picture."""

ALIKE = Likeness(bits=60, luma=96, chroma=4, recoloured=48)
"""Copies, and variants of one drawing: another crop, another mouth, another hair colour."""

_Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, rows, and numbers of differing bits

_SIDE = 64
_WINDOW = 56
_STARTS = (3, 4, 6)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
TABLES = 16
_BUCKET = 128
_FEW, _MANY = 6, 24
_ALL_CANDIDATES = 2_400_000
_AT_ONCE = 2**21
_PIECE, _TOGETHER = 2**16, 32  # pairs per step, to fit into the cache; results joined


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


def _meetings(mirrored: bool) -> dict[int, list[int]]:
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
    # In a flat picture, rounding errors must not decide the signs.
    return ((waves > 0.01).reshape(-1, WINDOWS, WORDS, 64) * _BIT).sum(-1, dtype=np.uint64)


def near_pairs(
    signatures: np.ndarray,
    likeness: Likeness = SAME,
    *,
    mirrored: bool = False,
    tables: int = TABLES,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows that are alike: int64 (M, 2), lower row first; and their numbers of differing bits (M,).

    mirrored: a picture and its mirror image are alike too.
    tables: number of hash tables. With fewer tables more pairs are missed, first those that differ in many
        bits.

    Pictures with equal pixels must be given once; `duplicate_groups` takes care of that.
    """
    n = len(signatures)
    code, differing = np.empty(0, np.int64), np.empty(0, np.int64)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for a, b, bits in _meeting(signatures, likeness, mirrored, tables, progress):
        waiting.append((np.minimum(a, b) * n + np.maximum(a, b), bits))
        count += len(a)
        # The same pair is found many times: memory must not grow with the repetitions.
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
    """Pairs of rows that are alike, (M,) and (M,), and their differing bits (M,), in portions of millions.

    A pair may be repeated.

    chain: a number for every row; pairs with equal numbers are skipped. The caller may change it meanwhile.
    """
    n = len(signatures)
    centre = np.ascontiguousarray(signatures["hashes"][:, CENTRE])
    # More bits do not separate equal hashes, so each hash counts once.
    _, first = np.unique(centre.view("V32")[:, 0], return_index=True)
    distinct = centre[first]
    bits = int(np.log2(max(n, 2)))
    draw = np.random.default_rng(2010)
    pairs = 0
    with opened(progress, "looking for duplicates", tables) as task:
        for table in range(tables if n > 1 else 0):
            # Low frequencies change least with a shift; middle ones distinguish more faces. So alternate.
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
    """For every row, the lowest row that is connected to it by a chain of pairs: int64 (N,).

    Pairs are not stored, and rows in one chain are not compared again. So memory depends on the number of
    rows only, even with far more pairs than rows.
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
        leads[ends] = ends[lowest[label]]  # `ends` is sorted: the first of a component is its lowest row
        chain[:] = leads[chain]
    return chain


def _once(found: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Every pair once, with the smallest number of differing bits it was found with."""
    code, differing = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((differing, code))
    code, differing = code[order], differing[order]
    first = np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]
    return code[first], differing[first]


def pairs_between(
    first: np.ndarray, second: np.ndarray, likeness: Likeness = SAME, progress: Progress | None = None
) -> np.ndarray:
    """All pairs (row of ``first``, row of ``second``) that are alike: int64 (P, 2).

    Every row is compared with every other, some millions of pairs per second, so no pair is missed.
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
    """The first bits of ``order`` as a mask (2,), and their number: just enough to keep the buckets small.

    bits: the number in the previous table.
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
    """Pairs (row, row, bits) that are alike and whose hashes agree in the bits set in ``words``."""
    for flip in (False, True) if mirrored else (False,):
        ours: dict[int, _Sorted] = {}
        for window, others in _meetings(flip).items():
            theirs = _Sorted(rows["hashes"][:, window], words, False)
            starts = np.nonzero(np.concatenate([[True], theirs.keys[1:] != theirs.keys[:-1]]))[0]
            different, sizes = theirs.keys[starts], np.diff(starts, append=len(theirs.keys))
            for other in others:
                if other not in ours:
                    ours[other] = _Sorted(rows["hashes"][:, other], words, flip)
                asked = ours[other]
                place = np.minimum(np.searchsorted(different, asked.keys), len(different) - 1)
                met = different[place] == asked.keys
                count = np.where(met, np.minimum(sizes[place], _BUCKET), 0)
                some = np.nonzero(count > (window == other and not flip))[0]
                start, count = starts[place[some]], count[some]
                waiting: list[_Found] = []
                for first, last in _chunks(np.cumsum(count)):
                    counts = count[first:last]
                    a = np.repeat(some[first:last], counts)
                    b = np.repeat(start[first:last] - np.cumsum(counts) + counts, counts) + np.arange(len(a))
                    if chain is not None:
                        apart = chain[asked.rows[a]] != chain[theirs.rows[b]]
                        a, b = a[apart], b[apart]
                    # Half of the bits tell most pairs apart.
                    differing = _bit_count(asked.low[a] ^ theirs.low[b])
                    good = differing <= likeness.bits
                    a, b, differing = a[good], b[good], differing[good]
                    differing = differing + _bit_count(asked.high(a) ^ theirs.high(b))
                    good = differing <= likeness.bits
                    a, b = (each.rows[at[good]].astype(np.int64) for each, at in ((asked, a), (theirs, b)))
                    differing = differing[good]
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


class _Sorted:
    """The hashes of one window (N, 4), sorted by the bits set in ``words``; equal ones keep their order.

    flip: of mirrored pictures.

    keys: a number for these bits, ascending. rows: where each comes from. low: the first half of each hash.
    """

    def __init__(self, hashes: np.ndarray, words: np.ndarray, flip: bool) -> None:
        self._hashes, self._flip = hashes, _MIRROR if flip else np.zeros(WORDS, np.uint64)
        # Numbers are sorted faster than places by numbers: so each number carries its place in its last bits.
        width = np.uint64(max(len(hashes) - 1, 1).bit_length())
        both = _keys(hashes ^ self._flip if flip else hashes, words) >> width << width
        both |= np.arange(len(hashes), dtype=np.uint64)
        both.sort()
        self.keys = both >> width
        self.rows = (both & ((np.uint64(1) << width) - np.uint64(1))).astype(np.int32)
        self.low = hashes[self.rows, :2] ^ self._flip[:2]

    def high(self, places: np.ndarray) -> np.ndarray:
        """The second half of the hashes at these places of the order."""
        return self._hashes[self.rows[places], 2:] ^ self._flip[2:]


def _together(found: list[_Found]) -> _Found:
    a, b, bits = (np.concatenate(part) for part in zip(*found, strict=True))
    return a, b, bits


def _chunks(ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """Divide work with cumulative sizes ``ends`` into pieces, so that memory stays bounded."""
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
    """Number of set bits in each row of uint64 (N, W)."""
    return _ones(words).sum(-1, dtype=np.int64)


def _ones(words: np.ndarray) -> np.ndarray:
    """Number of set bits in each uint64 word, as uint8."""
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
    """The group of every picture: int64 (N,), the lowest row of the group. A single picture is its own group.

    signatures: as `signatures` returns them.
    features: float (N, D) of any feature network, or None. If given, a near pair must also have features with
        a cosine of at least ``feature_likeness``.
    likeness: `SAME` for copies, `ALIKE` for variants of one drawing too, None for equal pixels only.
    mirrored: a picture and its mirror image are duplicates too.
    chaining: False: every member is like the centre of its group, so that a long series of pictures, each a
        little different from the last, is not one group. True: all pictures connected by a chain of pairs
        are one group, so that no near pair is separated (for a split).
    accept: a function that takes near pairs as rows (M, 2) and returns which of them count, bool (M,); not
        with ``chaining``.
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
    """For each of ``n`` rows, the lowest row of its group. Within it, ``pairs`` join all rows to a centre."""
    groups = np.arange(n)
    if not len(pairs):
        return groups
    a, b = pairs.T
    graph = coo_array((np.ones(2 * len(a), bool), (np.r_[a, b], np.r_[b, a])), (n, n)).tocsr()
    # The row with the most neighbours forms a group with them, then the next one of the remaining rows.
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

    The rule: the picture with the most pixels; of those, the one with the most bytes (``size``, if given); of
    those, the first.

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


def best_for(groups: np.ndarray, signatures: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """For each row, the row of its group that is to be kept, by `best_of_groups`: int64 (N,)."""
    best = best_of_groups(groups, signatures, size)
    best_of = np.empty(len(groups), np.int64)
    best_of[groups[best]] = np.nonzero(best)[0]
    return best_of[groups]


def first_of_equal(digests: pa.ChunkedArray) -> np.ndarray:
    """For each row, the first row with the same value: int64 (N,)."""
    numbers = digests.combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, number = np.unique(numbers, return_index=True, return_inverse=True)
    return first[number.reshape(-1)]


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
