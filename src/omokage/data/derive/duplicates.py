"""Groups of duplicates: equal pictures, copies that were re-encoded, resized or shifted, and variants.

`signatures.py` says what a picture looks like in 360 bytes, `pairs.py` finds those that are alike. Here the
pairs are joined into groups, and the best picture of each group is chosen.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...progress import Progress
from .pairs import SAME, TABLES, Likeness, meeting, near_pairs


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
    different = signatures if len(once) == n else signatures[once]
    if chaining:
        some = None if features is None else features[once]
        chains = _chains(different, likeness, mirrored, tables, some, feature_likeness, progress)
        joined = np.arange(n)
        joined[once] = once[chains]
        return joined[groups]
    pairs, _ = near_pairs(different, likeness, mirrored=mirrored, tables=tables, progress=progress)
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
    for a, b, _ in meeting(signatures, likeness, mirrored, tables, progress, chain):
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


def best_of_groups(groups: np.ndarray, signatures: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """Which picture of each group is kept, as bool (N,), by the rule ``most-pixels``.

    The rule: the picture with the most pixels; of those, the one with the most bytes (``size``, if given); of
    those, the first.

    >>> from omokage.data.derive.signatures import signatures
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
