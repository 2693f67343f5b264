"""Finds pairs of pictures that are alike, by their signatures.

Candidates are found by hashing random subsets of the bits (Indyk and Motwani 1998, bit sampling). They are
checked by all 256 bits and by a coarse picture of brightness and colour. For N pictures, memory grows with N
and time with N log N.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...progress import Progress, opened
from ..engines.processes import cores, in_threads
from .signatures import BIT, CENTRE, MIRROR, WORDS, meetings


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

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Pairs: rows (M,), rows (M,), and numbers of differing bits (M,)."""

TABLES = 16
_BUCKET = 128
_FEW, _MANY = 6, 24
_ALL_CANDIDATES = 2_400_000
_AT_ONCE = 2**21  # pairs in memory, before those that were found twice are dropped
_PIECE, _TOGETHER = 2**15, 32  # candidates per step, to fit into the cache; steps per task of a thread
_MOST_BITS = 512  # above every number of differing bits


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

    Pictures with equal pixels must be given once; `duplicates.duplicate_groups` takes care of that.
    """
    n = len(signatures)
    known, waiting, count = np.empty(0, np.int64), [], 0
    for a, b, bits in meeting(signatures, likeness, mirrored, tables, progress):
        waiting.append(_codes(a, b, bits, n))
        count += len(a)
        # The same pair is found many times: memory must not grow with the repetitions.
        if count > max(_AT_ONCE, len(known)):
            known, waiting, count = _once([known, *waiting]), [], 0
    a, b, differing = _pairs(_once([known, *waiting]), n)
    return np.stack([a, b], 1), differing


def meeting(
    signatures: np.ndarray,
    likeness: Likeness,
    mirrored: bool,
    tables: int,
    progress: Progress | None = None,
    chain: np.ndarray | None = None,
) -> Iterator[Found]:
    """Pairs of rows that are alike, lower row first, in portions of at most some millions.

    A pair may be repeated in another portion.

    chain: a number for every row; pairs with equal numbers are skipped. The caller may change it meanwhile.
    """
    n = len(signatures)
    if n < 2:
        return
    hashes = signatures["hashes"].transpose(1, 2, 0)
    distinct, bits = _distinct(hashes[CENTRE]), int(np.log2(n))
    draw = np.random.default_rng(2010)
    pairs = 0
    with opened(progress, "looking for duplicates", tables) as task:
        for table in range(tables):
            # Low frequencies change least with a shift; middle ones distinguish more faces. So alternate.
            words, bits = _selective(distinct, draw.permutation(64 * (1 + table % 2)), bits)
            sort = partial(_Window, words=words, likeness=likeness)
            plain = [window for _, window in in_threads(sort, hashes, cores())]
            for flip in (False, True) if mirrored else (False,):
                for codes in _batches(_candidates(hashes, plain, sort, likeness, flip, chain)):
                    a, b, differing = _pairs(codes, n)
                    good = _similar_colours(signatures, a, b, differing, likeness, flip)
                    if good.any():
                        pairs += int(good.sum())
                        yield a[good], b[good], differing[good]
            plain.clear()  # before the next ones are sorted: they take much memory
            task.advance(1, f"{pairs:,} pairs met")


def _codes(a: np.ndarray, b: np.ndarray, differing: np.ndarray, n: int) -> np.ndarray:
    """Pairs of ``n`` rows as one number each, int64: sorted, they are ordered by rows, then by bits."""
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b)
    return (low * n + high) * _MOST_BITS + differing


def _pairs(codes: np.ndarray, n: int) -> Found:
    """The reverse of `_codes`; the lower row comes first."""
    rows, differing = np.divmod(codes, _MOST_BITS)
    low, high = np.divmod(rows, max(n, 1))
    return low, high, differing


def _once(codes: list[np.ndarray]) -> np.ndarray:
    """Every pair once, in order, with the smallest number of differing bits that it was found with."""
    both = np.concatenate([np.empty(0, np.int64), *codes])
    both.sort()
    rows = both // _MOST_BITS
    return both[np.concatenate([[True], rows[1:] != rows[:-1]])[: len(both)]]


def _batches(found: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The codes in portions of some millions, each pair once in a portion."""
    waiting: list[np.ndarray] = []
    for codes in found:
        waiting.append(codes)
        if sum(map(len, waiting)) > _AT_ONCE:
            yield _once(waiting)
            waiting = []
    yield _once(waiting)


def _distinct(hashes: np.ndarray) -> np.ndarray:
    """The first two words of the hashes (4, N), equal hashes once: more bits do not separate those."""
    order = np.lexsort(hashes)
    fresh = np.ones(len(order), bool)
    fresh[1:] = False
    for word in hashes:
        ordered = word[order]
        fresh[1:] |= ordered[1:] != ordered[:-1]
    return hashes[:2, order[fresh]]


def _selective(hashes: np.ndarray, order: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """The first bits of ``order`` as a mask (2,), and their number: just enough to keep the buckets small.

    bits: the number in the previous table.
    """
    bits = max(bits - 6, 1)
    most = np.clip(_ALL_CANDIDATES / hashes.shape[1], _FEW, _MANY)
    while True:
        mask = np.zeros(128, np.uint64)
        mask[order[:bits]] = 1
        words = (mask.reshape(2, 64) * BIT).sum(-1, dtype=np.uint64)
        keys = np.sort(_keys(hashes, words))
        ends = np.nonzero(np.concatenate([keys[1:] != keys[:-1], [True]]))[0]
        sizes = np.diff(ends, prepend=-1)
        if (sizes * sizes).sum() <= most * len(keys) or bits >= len(order):
            return words, bits
        bits += 2


class _Window:
    """The hashes of one window (4, N), sorted by the bits set in ``words``; equal ones keep their order.

    keys: a number for these bits, ascending, each once. starts: where each begins in the order. sizes: how
    many rows have it. rows: where each place of the order comes from. first: words of the hashes in this
    order, to be compared first.
    """

    def __init__(self, hashes: np.ndarray, words: np.ndarray, likeness: Likeness) -> None:
        self.hashes = hashes
        n = hashes.shape[1]
        # Numbers are sorted faster than places by numbers: so each number carries its place in its last bits.
        width = np.uint64(max(n - 1, 1).bit_length())
        both = _keys(hashes, words) >> width << width
        both |= np.arange(n, dtype=np.uint64)
        both.sort()
        self.rows = (both & ((np.uint64(1) << width) - np.uint64(1))).astype(np.int32)
        both >>= width
        self.starts = np.nonzero(np.concatenate([[True], both[1:] != both[:-1]]))[0].astype(np.int32)
        self.keys = both[self.starts]
        self.sizes = np.diff(self.starts, append=np.int32(n))
        self.first = [hashes[word][self.rows] for word in _order_of_words(likeness)[0]]


def _order_of_words(likeness: Likeness) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The words of a hash that are compared first, for all candidates, and those for the few that are left.

    High frequencies tell faces apart best: in two words of them, unrelated faces differ in 60 bits.
    """
    return ((3, 2), (1, 0)) if likeness.bits <= 48 else ((3, 2, 1), (0,))


def _candidates(
    hashes: np.ndarray,
    plain: list[_Window],
    sort: Callable[[np.ndarray], _Window],
    likeness: Likeness,
    flip: bool,
    chain: np.ndarray | None,
) -> Iterator[np.ndarray]:
    """Codes of the pairs that agree in the bits of a table and whose hashes are alike; colours may differ."""

    def tasks() -> Iterator[_Task]:
        met = [(other, window) for window, others in meetings(flip).items() for other in others]
        asked, sorted_of = plain[0], -1
        for other, window in sorted(met):
            if other != sorted_of:
                asked = sort(hashes[other] ^ MIRROR[:, None]) if flip else plain[other]
                sorted_of = other
            yield from _tasks(asked, plain[window])

    for _, codes in in_threads(partial(_compared, likeness=likeness, chain=chain), tasks(), cores()):
        yield from codes


_Piece = tuple[np.ndarray, np.ndarray, np.ndarray]
_Task = tuple[_Window, _Window, list[_Piece]]


def _tasks(asked: _Window, theirs: _Window) -> Iterator[_Task]:
    """Candidates from two windows, in pieces: places in ``asked``; first places in ``theirs``; numbers."""
    if asked is theirs:
        ours = their = np.nonzero(asked.sizes > 1)[0]
    else:
        _, ours, their = np.intersect1d(asked.keys, theirs.keys, assume_unique=True, return_indices=True)
    size = asked.sizes[ours]
    some = _ranges(asked.starts[ours], size)
    start, count = np.repeat(theirs.starts[their], size), np.repeat(theirs.sizes[their], size)
    np.minimum(count, _BUCKET, out=count)
    pieces: list[_Piece] = []
    for first, last in _chunks(np.cumsum(count, dtype=np.int64)):
        pieces.append((some[first:last], start[first:last], count[first:last]))
        if len(pieces) == _TOGETHER:
            yield asked, theirs, pieces
            pieces = []
    if pieces:
        yield asked, theirs, pieces


def _ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The numbers start[0], start[0] + 1, ... (``count[0]`` of them), then those from start[1], and so on."""
    ends = np.cumsum(count, dtype=np.int64)
    return np.repeat(start - ends + count, count) + np.arange(ends[-1] if len(ends) else 0)


def _compared(task: _Task, likeness: Likeness, chain: np.ndarray | None) -> list[np.ndarray]:
    """The codes of the candidates of a task whose hashes are alike."""
    asked, theirs, pieces = task
    codes = []
    for some, start, count in pieces:
        place = _ranges(start, count)
        differing = np.zeros(len(place), np.uint8)
        for ours, their in zip(asked.first, theirs.first, strict=True):
            differing += _ones(np.repeat(ours[some], count) ^ their[place])
        left = np.nonzero(differing <= likeness.bits)[0]
        a = asked.rows[some[np.searchsorted(np.cumsum(count), left, "right")]]
        b, apart = theirs.rows[place[left]], differing[left].astype(np.int16)
        good = a != b
        if chain is not None:
            good &= chain[a] != chain[b]
        a, b, apart = a[good], b[good], apart[good]
        for word in _order_of_words(likeness)[1]:
            apart += _ones(asked.hashes[word][a] ^ theirs.hashes[word][b])
        good = apart <= likeness.bits
        if good.any():
            codes.append(_codes(a[good], b[good], apart[good], len(asked.rows)))
    return codes


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
    return (hashes[0] & words[0]) * np.uint64(0x9E3779B97F4A7C15) ^ (hashes[1] & words[1]) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )


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
    """Which pairs have colours that are alike enough: bool (M,). flip: one of the two is mirrored."""
    good = np.empty(len(a), bool)
    for start in range(0, len(a), _PIECE):
        part = slice(start, start + _PIECE)
        left = rows["colour"][a[part]].astype(np.int16)
        difference = np.abs((left[..., ::-1] if flip else left) - rows["colour"][b[part]])
        luma, chroma = difference[:, 0].mean((1, 2)), difference[:, 1:].mean((1, 2, 3))
        recoloured = differing[part] <= likeness.recoloured
        good[part] = (luma <= likeness.luma) & ((chroma <= likeness.chroma) | recoloured)
    return good


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
            for window, others in meetings(False).items():
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
