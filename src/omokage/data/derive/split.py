"""Splits a face set in two: one to train on, one held out, without related faces on both sides.

Similar pictures stay on one side. So do the faces of one picture, and the pictures of one artist or one
source if the index has them. Which groups are held out depends only on the pictures and the seed, not on
their order or the machine.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...errors import UserError
from ...files import replacing
from ...progress import Progress
from ..sources.names import NameLabels
from ..store.columns import as_text
from ..store.faceset import FaceSet
from ..store.unfinished import target
from ..text import one_line
from .choose import known_column
from .duplicates import duplicate_groups
from .pairs import ALIKE, TABLES, pairs_between
from .parts import Part, derive
from .signatures import SIGNATURE, face_set_signatures

TRAIN, HELDOUT = "train", "heldout"
_THOROUGH, _EXACT = 100_000, 30_000
_MANY_SOURCES = 20


@dataclass(frozen=True)
class SplitReport:
    """What a split did.

    together: the columns whose values stay on one side.
    largest: number of faces in the largest group.
    already: whether the split was finished before, so that nothing was done.
    names: how many file names gave a group (`names.Met.described`); None if not asked for.
    """

    path: Path
    train: int
    heldout: int
    groups: int
    largest: int
    together: list[str]
    already: bool = False
    names: dict[str, Any] | None = None


def split(
    faces: FaceSet | str | Path,
    out: str | Path,
    *,
    holdout: float = 0.05,
    seed: int = 0,
    together: Sequence[str] | None = None,
    together_from: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SplitReport:
    """Write the face sets ``out``/train and ``out``/heldout.

    holdout: the fraction to hold out, above 0 and below 1. It is exact unless the groups are too large.
    seed: another seed holds out other faces.
    together: columns of the index; rows with the same value stay on one side, even if they are many. None:
        `artist`, and also `source` if there are at least 20 sources and none is larger than ``holdout``.
    together_from: groups from the names of files too: "folder", or a regular expression with named groups
        (`names.NameLabels`); files with the same value of a group stay on one side.
    workers: threads that decode; None: one per core.

    Repeat the call to go on where an interrupted one stopped. Raises `UserError` for impossible values, a
    damaged face set, a full disk, or if no group can be held out.
    """
    faces = faces if isinstance(faces, FaceSet) else FaceSet.open(faces)
    if not 0 < holdout < 1:
        raise UserError(f"holdout {holdout:g} is impossible: give a share above 0 and below 1, like 0.05")
    columns = _columns(faces.index, holdout, together)
    index, met = faces.index, None
    if together_from is not None:
        named = NameLabels(
            together_from, several=len(faces.manifest.get("sources") or ()) > 1, option="--together-from"
        )
        named.refuse_columns(index.column_names, "a column of the face set (--together takes those)")
        index, met = named.join(index)
        if not met.matched:
            shown = ", ".join(map(repr, met.examples))
            raise UserError(
                f"--together-from {one_line(together_from, 80)}: no name meets it, of names such as {shown}"
            )
        columns = sorted({*columns, *named.columns})
    plan = {
        "by": "split",
        "of": faces.content_hash,
        "holdout": holdout,
        "seed": seed,
        "together": columns,
        "alike": asdict(ALIKE),
    }
    if together_from is not None:
        plan["together_from"] = together_from
    out = target(out)

    def parts(state: Path) -> list[Part]:
        signatures = _kept(state / "signatures.npy", faces, workers, progress)
        groups = split_groups(index, signatures, columns, progress)
        groups, held = _checked(index, signatures, groups, holdout, seed, progress)
        how = {
            "alike": asdict(ALIKE),
            "together": ["file", *columns],
            "number": len(np.unique(groups)),
            "largest": int(np.bincount(groups).max()),
        }
        return [
            _part(faces, name, rows, {"holdout": holdout, "seed": seed, "groups": how})
            for name, rows in ((TRAIN, np.nonzero(~held)[0]), (HELDOUT, np.nonzero(held)[0]))
        ]

    fresh = derive(out, [faces], plan, (TRAIN, HELDOUT), parts, progress)
    train, heldout = FaceSet.open(out / TRAIN), FaceSet.open(out / HELDOUT)
    how = train.manifest["split"]["groups"]
    return SplitReport(
        out,
        len(train),
        len(heldout),
        how["number"],
        how["largest"],
        columns,
        not fresh,
        None if met is None else met.described,
    )


def split_groups(
    index: pa.Table, signatures: np.ndarray, together: Sequence[str] = (), progress: Progress | None = None
) -> np.ndarray:
    """The group of every row, int64 (N,), numbered from 0. Rows of one group must stay on one side.

    These rows are joined: pictures that are `pairs.ALIKE`, faces of one file or of equal files (columns
    that end in `_sha256`), and rows with the same value in a column of ``together``. In the column `artist`,
    several names are joined by a vertical bar; one common name is enough.
    """
    n = len(signatures)
    tables = 2 * TABLES if n <= _THOROUGH else TABLES
    alike = duplicate_groups(signatures, likeness=ALIKE, chaining=True, tables=tables, progress=progress)
    rows, nodes, total = [np.arange(n)], [alike], n
    of_one_file = pc.binary_join_element_wise(index["source"], index["file"], "\0")
    named = [*together, *(name for name in index.column_names if name.endswith("_sha256"))]
    for name, column in [("file", of_one_file), *((name, index[name]) for name in named)]:
        parents, values = _values(column, several=name == "artist")
        rows.append(parents)
        nodes.append(values + total)
        total += int(values.max(initial=-1)) + 1
    a, b = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(a), bool), (a, b)), (total, total))
    _, label = connected_components(graph, directed=False)
    _, first, numbers = np.unique(label[:n], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers.reshape(-1)]


def held_out(digests: pa.ChunkedArray, groups: np.ndarray, holdout: float, seed: int) -> np.ndarray:
    """Which rows are held out: bool (N,).

    digests: the SHA-256 of every picture. The groups are sorted by a hash of ``seed`` and their lowest
        digest. In this order, each group that fits is held out, so the choice does not depend on the size.

    Raises `UserError` if no group fits, or if no face would be left.
    """
    n = len(groups)
    wanted = round(holdout * n)
    words = np.frombuffer(b"".join(digests.to_pylist()), ">u8").reshape(n, 4)
    order = np.lexsort((*words.T[::-1], groups))
    first = order[np.concatenate([[True], np.diff(groups[order]) != 0])[:n]]
    salt = f"{seed}\0".encode()
    scores = [hashlib.sha256(salt + digest).digest() for digest in words[first].view("V32")[:, 0].tolist()]
    sizes = np.bincount(groups)[groups[first]].tolist()
    chosen = np.zeros(int(groups.max(initial=-1)) + 1, bool)
    taken = 0
    for i in sorted(range(len(first)), key=scores.__getitem__):
        if taken + sizes[i] <= wanted:
            chosen[groups[first[i]]] = True
            taken += sizes[i]
    if not taken or taken == n:
        raise UserError(
            f"a holdout of {holdout:g} of {n:,} faces is {wanted:,}, and no group of faces that belong "
            f"together (the smallest has {min(sizes, default=0):,}) can be held out: give another --holdout"
        )
    return chosen[groups]


def _checked(
    index: pa.Table,
    signatures: np.ndarray,
    groups: np.ndarray,
    holdout: float,
    seed: int,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The groups and the held-out rows, after comparing every face of one side with every face of the other.

    Hashing misses some pairs that are barely alike. If such a pair is found across the two sides, its groups
    are joined and the choice is repeated. Sets with more than `_EXACT` faces are not compared.
    """
    while True:
        held = held_out(index["sha256"], groups, holdout, seed)
        if len(groups) > _EXACT:
            return groups, held
        ours, theirs = np.nonzero(held)[0], np.nonzero(~held)[0]
        pairs = pairs_between(signatures[ours], signatures[theirs], ALIKE, progress)
        if not len(pairs):
            return groups, held
        total = int(groups.max()) + 1
        edges = groups[ours[pairs[:, 0]]], groups[theirs[pairs[:, 1]]]
        _, label = connected_components(
            coo_array((np.ones(len(pairs), bool), edges), (total, total)), directed=False
        )
        groups = label[groups]


def _values(column: pa.ChunkedArray, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a value, and the number of that value. several: split values at vertical bars."""
    text = as_text(column)
    rows = np.arange(len(text))
    if several:
        lists = pc.split_pattern(pc.utf8_lower(text), "|").combine_chunks()
        rows, text = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)
    text = pc.utf8_trim_whitespace(text)
    known = pc.not_equal(text, "").to_numpy(zero_copy_only=False)
    encoded = pc.dictionary_encode(text)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return rows[known], encoded.indices.to_numpy()[known].astype(np.int64)


def _columns(index: pa.Table, holdout: float, together: Sequence[str] | None) -> list[str]:
    if together is not None:
        for name in together:
            known_column(index, name)
        return sorted({name for name in together if name != "file"})
    columns = ["artist"] if "artist" in index.column_names else []
    sizes = np.bincount(_values(index["source"], several=False)[1])
    if len(sizes) >= _MANY_SOURCES and sizes.max() <= holdout * len(index):
        columns.append("source")
    return columns


def _part(faces: FaceSet, name: str, rows: np.ndarray, how: dict[str, Any]) -> Part:
    kept = {key: faces.manifest.get(key) for key in ("options", "sources", "labels")}
    manifest = {**kept, "split": {"of": faces.content_hash, "part": name, **how}}
    return Part(name, np.zeros(len(rows), np.int64), rows, faces.index.take(rows), manifest)


def _kept(file: Path, faces: FaceSet, workers: int | None, progress: Progress | None) -> np.ndarray:
    """The signatures of ``faces``, stored in ``file`` in case the work is interrupted later."""
    try:
        signatures = np.load(file, allow_pickle=False)
        if signatures.dtype == SIGNATURE and len(signatures) == len(faces):
            return signatures
    except (OSError, ValueError, EOFError):
        pass
    signatures = face_set_signatures(faces, workers=workers, progress=progress)
    with replacing(file, locked=True) as unfinished, open(unfinished, "wb") as stream:
        np.save(stream, signatures)
    return signatures
