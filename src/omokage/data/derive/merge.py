"""Merges face sets into one; can drop duplicates across them and remove opted-out pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import UserError
from ...progress import Progress
from ..sources.keys import natural
from ..store.columns import COLUMNS, as_text
from ..store.faceset import FaceSet
from ..store.unfinished import target
from ..text import one_line
from .choose import nearest, nothing_left, where
from .copies import DROPS
from .duplicates import best_for, duplicate_groups, first_of_equal
from .optout import OPTED_OUT, OptOut, read_opt_out
from .pairs import SAME
from .parts import Part, derive
from .reviewing import REJECTED_BY_EYE, Review, read_review
from .signatures import face_set_signatures


@dataclass(frozen=True)
class MergeReport:
    """What a merge did: ``kept + sum(reasons.values()) == found``.

    already: whether the face set was finished before, so that nothing was done.
    opt_out: what the list matched (`optout.OptOut.summary`); None without a list.
    unknown: suggestions for conditions whose value no face has (`choose.nearest`); "" if there are none.
    """

    path: Path
    found: int
    kept: int
    reasons: dict[str, int]
    already: bool = False
    opt_out: dict[str, Any] | None = None
    unknown: str = ""


def merge(
    sets: Sequence[FaceSet | str | Path],
    out: str | Path,
    *,
    drop: str = "none",
    conditions: Sequence[str] = (),
    opt_out: str | Path | None = None,
    review: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Write the face set ``out`` with the pictures of ``sets`` (one or more). Their bytes do not change.

    drop: "none" keeps all; "exact" drops a picture with the same bytes as an earlier one; "near" also drops
        copies (`pairs.SAME`) and keeps the best of each group (`duplicates.best_of_groups`).
    conditions: keep only rows that meet them (`choose.where`).
    opt_out: a list of hashes and artists to leave out (`optout.read_opt_out`).
    review: a list of verdicts by eye; the faces that it rejects are left out (`reviewing.read_review`).

    A repeated key gets a number. If a set lacks a column, its rows are empty there. `rejected.csv` lists the
    pictures left out, with reasons. Repeat the call to go on where an interrupted one stopped.
    Raises `UserError` for damaged sets, unknown columns, a full disk, or if no face would be left.
    """
    if drop not in DROPS:
        raise UserError(f"--drop {one_line(drop)} is unknown: give {', '.join(DROPS)}")
    opened = [faces if isinstance(faces, FaceSet) else FaceSet.open(faces) for faces in sets]
    if not opened:
        raise UserError("no face set given: name one or more")
    unwanted = read_opt_out(opt_out) if opt_out is not None else None
    plan = {
        "by": "merge",
        "of": [faces.content_hash for faces in opened],
        "drop": drop,
        "where": list(conditions),
        "opt_out": unwanted.described if unwanted else None,
    }
    verdicts = None if review is None else read_review(review)
    if verdicts is not None:
        plan["review"] = verdicts.described
    out = target(out)

    def parts(state: Path) -> list[Part]:
        return [_merged(opened, drop, conditions, unwanted, verdicts, workers, progress)]

    fresh = derive(out, opened, plan, ("",), parts, progress)
    manifest = FaceSet.open(out).manifest
    counts, met = manifest["counts"], manifest.get("opt_out")
    unknown = nearest(joined_index([faces.index for faces in opened]), conditions) if conditions else ""
    return MergeReport(out, counts["found"], counts["kept"], counts["reasons"], not fresh, met, unknown)


def _merged(
    sets: Sequence[FaceSet],
    drop: str,
    conditions: Sequence[str],
    unwanted: OptOut | None,
    verdicts: Review | None,
    workers: int | None,
    progress: Progress | None,
) -> Part:
    origins = np.repeat(np.arange(len(sets)), [len(faces) for faces in sets])
    rows = np.concatenate([np.arange(len(faces)) for faces in sets])
    index = joined_index([faces.index for faces in sets])
    reason: list[str | None] = [None] * len(rows)

    def leave(which: np.ndarray, why: str) -> None:
        for i in np.nonzero(which)[0]:
            reason[i] = reason[i] or why

    if conditions:
        leave(~where(index, conditions), "does not meet the conditions")
    summary = None
    if unwanted is not None:
        theirs, met = unwanted.of_rows(index, lambda row: sets[origins[row]].image_bytes(int(rows[row])))
        leave(theirs, OPTED_OUT)
        summary = unwanted.summary(met)
    if verdicts is not None:
        leave(verdicts.rejected(index), REJECTED_BY_EYE)
    left = np.array([i for i, why in enumerate(reason) if why is None], np.int64)
    if drop != "none" and len(left):
        for i, same in _dropped(sets, origins[left], rows[left], index.take(left), drop, workers, progress):
            reason[left[i]] = f"duplicate: of {index['key'][int(left[same])].as_py()}"
    kept = [i for i, why in enumerate(reason) if why is None]
    if not kept:
        raise UserError(nothing_left(nearest(index, conditions)))
    files, sources = index["file"], index["source"]
    rejected = [(f"{sources[i]}/{files[i]}", why) for i, why in enumerate(reason) if why is not None]
    keys = _unique([key for key in index["key"].take(kept).to_pylist()])
    order = sorted(range(len(kept)), key=lambda i: natural(keys[i]))
    chosen = np.array(kept, np.int64)[order]
    index = index.take(chosen).set_column(
        index.schema.get_field_index("key"), "key", pa.array([keys[i] for i in order], pa.string())
    )
    manifest = {
        "options": sets[0].manifest.get("options") if len(sets) == 1 else None,
        "sources": [source for faces in sets for source in faces.manifest.get("sources") or []],
        "labels": sets[0].manifest.get("labels") if len(sets) == 1 else None,
        "opt_out": summary,
    }
    return Part("", origins[chosen], rows[chosen], index, manifest, rejected)


def _dropped(
    sets: Sequence[FaceSet],
    origins: np.ndarray,
    rows: np.ndarray,
    index: pa.Table,
    drop: str,
    workers: int | None,
    progress: Progress | None,
) -> list[tuple[int, int]]:
    """Rows to leave out, each with the row that is kept in its place."""
    kept_for = first_of_equal(index["sha256"])
    if drop == "near":
        once = np.unique(kept_for)
        signatures = np.concatenate(
            [
                face_set_signatures(faces, rows[once][origins[once] == o], workers=workers, progress=progress)
                for o, faces in enumerate(sets)
            ]
        )
        groups = duplicate_groups(signatures, likeness=SAME, progress=progress)
        place = np.empty(len(index), np.int64)
        place[once] = once[best_for(groups, signatures, index["bytes"].to_numpy()[once])]
        kept_for = place[kept_for]
    return [(int(i), int(kept_for[i])) for i in np.nonzero(kept_for != np.arange(len(index)))[0]]


def joined_index(tables: Sequence[pa.Table]) -> pa.Table:
    """``tables`` concatenated. Missing columns become null; columns of different types become text."""
    kinds: dict[str, Any] = {name: None for name in COLUMNS}
    for table in tables:
        for field in table.schema:
            known = kinds.get(field.name)
            same = known is None or known == field.type or pa.types.is_null(field.type)
            kinds[field.name] = (known or field.type) if same else pa.string()
    parts = []
    for table in tables:
        columns = []
        for name, kind in kinds.items():
            if name not in table.column_names:
                columns.append(pa.nulls(len(table), kind))
            elif table[name].type == kind:
                columns.append(table[name])
            else:
                words = as_text(table[name]).to_pylist()
                columns.append(pa.array([word or None for word in words], pa.string()).cast(kind))
        parts.append(pa.table(columns, names=list(kinds)))
    return pa.concat_tables(parts)


def _unique(keys: Sequence[str]) -> list[str]:
    """``keys`` with a number added to repeated ones. Case is ignored, as some file systems do."""
    taken = Counter(key.casefold() for key in keys)
    seen: Counter[str] = Counter()
    out = []
    for key in keys:
        base = key.casefold()
        seen[base] += 1
        if seen[base] > 1:
            number = seen[base]
            while f"{base}-{number}" in taken:
                number += 1
            seen[base] = number
            key = f"{key}-{number}"
            taken[key.casefold()] += 1
        out.append(key)
    return out
