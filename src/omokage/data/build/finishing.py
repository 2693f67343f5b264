"""From the pieces of a build to the finished face set: copies, shards, index, lists, report, manifest."""

import base64
import io
import json
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ...errors import UserError
from ...files import replacing
from ...progress import Progress, opened
from ..derive.copies import near_copies
from ..derive.duplicates import best_for, duplicate_groups, first_of_equal
from ..derive.signatures import SIGNATURE
from ..sources.keys import natural
from ..sources.labels import SIDECARS
from ..sources.spelling import stemmed
from ..steps.encode import thumbnail_of
from ..steps.read import kind_of
from ..store.columns import COLUMNS, OF_FACES
from ..store.faceset import FaceSet
from ..store.format import (
    REPORT,
    json_bytes,
    parquet_bytes,
    rejected_csv,
    write_file,
)
from ..store.manifest import counted, manifest_of, write_set
from ..store.shards import Members, Written, places, write_shards
from .options import AsTheyCome
from .pieces import EXAMPLES, Pieces
from .pipeline import BESIDE, CLOSE_UP
from .plan import DETECTED, Plan
from .report import SHOWN, spread, write_faces_report, write_report

SHOWN_TABLES = 20
DUPLICATE = "duplicate"


def finish(pieces: Pieces, progress: Progress | None) -> None:
    """Write the files of the face set beside the pieces; the manifest comes last.

    Raises `UserError` if no face is left; the work is deleted then.
    """
    plan, partial = pieces.plan, pieces.partial
    found = pieces.rows()
    stored = found["reason"].is_null()
    candidates = found.filter(stored)
    if not len(candidates):
        why = _nothing(pieces, found)
        shutil.rmtree(partial)
        raise UserError(why)
    kept_for, variants = _copies(pieces, candidates, progress)
    keep = kept_for == np.arange(len(kept_for))
    found = _with_copies(found, stored.to_numpy(), candidates["key"], kept_for)
    examples = None if plan.as_faces else _examples(pieces, candidates, kept_for)
    shards = _shards(pieces, candidates["length"].to_numpy(), keep, progress)
    index = _index(plan, found.filter(found["reason"].is_null()), shards)
    if plan.as_faces:
        refused, beside, tables = _sorted_out(pieces, found)
        rejected = rejected_csv(refused)
        reasons = Counter(kind_of(reason) for _, reason in refused)
        further: dict[str, Any] = {"files_beside": beside, "unused_tables": tables[:SHOWN_TABLES]}
        counts = counted(index, pieces.done[-1]["position"] - beside, reasons) | further
        if isinstance(plan.options, AsTheyCome) and plan.options.drop == "near":
            counts["variants"] = variants
    else:
        rejected = rejected_csv(_refused_faces(pieces, found), ("file", "reason", "step", "face"))
        counts = counted(index, len(found), _kinds(found["reason"]))
        counts |= _counts_of_pictures(pieces, found, index, kept_for)
    if plan.by_name is not None:
        counts["names"] = plan.by_name.table(index["source"], index["file"])[1].described
    entries = {**plan.described, "labels": _labels(plan, index)}
    if not plan.as_faces or plan.handler.opt_out is not None:
        entries["opt_out"] = _opt_out(pieces)
    manifest = manifest_of(entries, counts, index, shards)
    if examples is None:
        files = {REPORT: write_faces_report(FaceSet(partial, manifest, index), refused).encode()}
    else:
        detected = pieces.detected(found)
        page = write_report(manifest, index, detected, examples)
        files = {DETECTED: parquet_bytes(detected), REPORT: page.encode()}
    write_set(partial, manifest, index, rejected, files)


def _nothing(pieces: Pieces, found: pa.Table) -> str:
    reasons = Counter(kind_of(reason) for *_, reason in pieces.refused() if reason != BESIDE)
    reasons.update(_kinds(found["reason"]))
    files = sum(state["pictures"] for state in pieces.done)
    files -= sum(reason == BESIDE for *_, reason in pieces.refused())
    if not files:
        return "no files found in the sources: give a folder, tar or zip with pictures"
    listed = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common(5))
    if pieces.plan.as_faces:
        return f"none of the {files:,} files can be used: {listed}"
    return f"no face is left of {files:,} files and {len(found):,} faces found in them: {listed}"


def _kinds(reasons: pa.ChunkedArray) -> Counter[str]:
    """How often each reason occurs; only its part before the details counts."""
    return Counter(kind_of(reason) for reason in reasons.drop_null().to_pylist())


def _copies(pieces: Pieces, faces: pa.Table, progress: Progress | None) -> tuple[np.ndarray, int]:
    """For each face, the one that is kept in its place (itself, if it is kept); and the number of variants.

    It is written down, since pieces are deleted later. An interrupted build takes it from there.
    """
    file = pieces.state / "copies.npy"
    if file.exists():
        told = np.load(file, allow_pickle=False)
        return told[1:], int(told[0])
    kept_for, variants = np.arange(len(faces)), 0
    options = pieces.plan.options
    if isinstance(options, AsTheyCome):
        if options.drop == "exact":
            kept_for = first_of_equal(faces["sha256"])
        elif options.drop == "near":
            kept_for, variants = _near(pieces, faces, progress)
    elif options.duplicates:
        signatures = pieces.signatures(SIGNATURE)
        groups = duplicate_groups(signatures, mirrored=options.mirrored, progress=progress)
        kept_for = best_for(groups, signatures, faces["bytes"].to_numpy().astype(np.int64))
    with replacing(file, locked=True, durable=True) as unfinished, open(unfinished, "wb") as stream:
        np.save(stream, np.concatenate([[variants], kept_for]))
    return kept_for, variants


def _near(pieces: Pieces, faces: pa.Table, progress: Progress | None) -> tuple[np.ndarray, int]:
    keys = faces["key"].to_pylist()
    order = np.array(sorted(range(len(keys)), key=lambda i: natural(keys[i])), np.int64)
    files, piece, offset = pieces.places(faces["length"].to_numpy())
    index = faces.append_column("shard", pa.array(piece)).append_column("offset", pa.array(offset))
    manifest = {"content_hash": "", "shards": [{"name": name} for name in files]}
    found = near_copies(FaceSet(pieces.state, manifest, index.take(pa.array(order))), progress=progress)
    kept_for = np.empty(len(keys), np.int64)
    kept_for[order] = order[found.kept_for]
    return kept_for, found.variants


def _with_copies(
    found: pa.Table, stored: np.ndarray, keys: pa.ChunkedArray, kept_for: np.ndarray
) -> pa.Table:
    """``found``, with a reason for every stored face left out as a copy: it names the one that is kept."""
    lost = kept_for != np.arange(len(kept_for))
    names = keys.take(pa.array(kept_for[lost])).to_pylist()
    copies = np.zeros(len(found), bool)
    copies[np.nonzero(stored)[0][lost]] = True
    for column, values in (
        ("reason", [f"{DUPLICATE}: of {name}" for name in names]),
        ("step", ["duplicates"] * len(names)),
    ):
        place = found.column_names.index(column)
        whole = found[column].combine_chunks()
        changed = pc.replace_with_mask(whole, pa.array(copies), pa.array(values, pa.string()))
        found = found.set_column(place, column, changed)
    return found


def _shards(
    pieces: Pieces, lengths: np.ndarray, keep: np.ndarray, progress: Progress | None
) -> list[Written]:
    """Copy the kept faces to shards; a piece is deleted as soon as all of its faces are copied."""
    kept = np.nonzero(keep)[0]

    def members(first: int) -> Members:
        start = int(kept[first])
        for _, member in pieces.members(lengths, keep, start):
            yield zlib.decompressobj(-zlib.MAX_WBITS).decompress(member), member

    def written(following: int) -> None:
        pieces.forget(int(kept[following]) if following < len(kept) else len(lengths))

    with opened(progress, "writing shards", len(kept)) as task:
        return write_shards(pieces.partial, pieces.shards, lengths[kept], members, task, written)


def _index(plan: Plan, kept: pa.Table, shards: list[Written]) -> pa.Table:
    """The index of the kept faces, in natural order of their keys."""
    keys = kept["key"].to_pylist()
    order = pa.array(sorted(range(len(keys)), key=lambda i: natural(keys[i])), pa.int64())
    number, offset, _ = places(shards)
    for name, values in (("shard", number), ("offset", offset)):
        kept = kept.append_column(name, pa.array(values, COLUMNS[name]))
    kept = kept.take(order)
    columns: dict[str, Any] = {name: kept[name] for name in plan.columns if name in kept.column_names}
    if plan.others:
        rows = [json.loads(text) if text else {} for text in kept["other"].to_pylist()]
        for name in plan.others:
            told = [row.get(name) for row in rows]
            if name in OF_FACES and f"{name}_from" in columns:  # colours of a table replace estimated ones
                for end, label in (("_from", "table"), ("_confidence", None)):
                    before = columns[f"{name}{end}"]
                    now = [label if t else b for t, b in zip(told, before.to_pylist(), strict=True)]
                    columns[f"{name}{end}"] = pa.array(now, before.type)
                told = [t or m for t, m in zip(told, columns[name].to_pylist(), strict=True)]
            columns[name] = pa.array(told, pa.string())
    table = pa.table({name: columns[name] for name in plan.columns})
    kinds = [pa.field(field.name, plan.kinds.get(field.name, field.type)) for field in table.schema]
    return table.cast(pa.schema(kinds)).combine_chunks()


def _labels(plan: Plan, index: pa.Table) -> dict[str, Any] | None:
    """What the manifest says of the table of labels."""
    if plan.table is None:
        return None
    files = zip(index["source"].to_pylist(), index["file"].to_pylist(), strict=True)
    matched = sum(plan.table.get(file, source) is not None for source, file in files)
    met = {} if plan.table.met is None else plan.table.met.described
    return {**plan.table.described, "matched": matched, **met}


def _opt_out(pieces: Pieces) -> dict[str, Any] | None:
    """What the opt-out list matched, see `optout.OptOut.summary`."""
    if pieces.plan.handler.opt_out is None:
        return None
    met: Counter[int] = Counter()
    for state in pieces.done:  # in states read back from JSON, the numbers are strings
        met.update({int(number): count for number, count in state.get("opted_out", {}).items()})
    return pieces.plan.handler.opt_out.summary(met)


def _sorted_out(pieces: Pieces, found: pa.Table) -> tuple[list[tuple[str, str]], int, list[str]]:
    """Of pictures that are faces: those left out with the reason, the number of files of labels,
    and the names of tables among those.

    A file of labels has a picture's name and another ending; the picture may be kept or left out.
    """
    every = [(f"{source}/{file}".rstrip("/"), reason) for source, file, _, reason in pieces.refused()]
    tables = [file for file, reason in every if reason == BESIDE]
    named = {file for file, _ in every if not _may_be_labels(file)}
    files = zip(*(found[name].to_pylist() for name in ("source", "file", "reason")), strict=True)
    copies = []
    for source, file, reason in files:
        name = f"{source}/{file}".rstrip("/")
        named.add(name)
        if reason is not None:
            copies.append((name, reason))
    owners = named | {stemmed(file) for file in named}
    refused, beside = [], len(tables)
    for file, reason in every:
        if reason == BESIDE:
            continue
        if _may_be_labels(file) and stemmed(file) in owners:
            beside += 1
        else:
            refused.append((file, reason))
    return refused + copies, beside, tables


def _may_be_labels(file: str) -> bool:
    return file.lower().endswith(SIDECARS)


def _refused_faces(pieces: Pieces, found: pa.Table) -> Iterator[tuple[str, str, str, str]]:
    """Of illustrations: file, reason, step, and box of the face; "" for a picture left out as a whole."""
    for source, file, step, reason in pieces.refused():
        yield f"{source}/{file}".rstrip("/"), reason, step, ""
    box = ("face_x", "face_y", "face_width", "face_height")
    lost = found.filter(found["reason"].is_valid()).select(("source", "file", "reason", "step", *box))
    for batch in lost.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            place = " ".join(f"{row[name]:.0f}" for name in box)
            yield f"{row['source']}/{row['file']}", row["reason"], row["step"], place


def _counts_of_pictures(
    pieces: Pieces, found: pa.Table, index: pa.Table, kept_for: np.ndarray
) -> dict[str, Any]:
    """Further counts of a set cut out of illustrations."""
    reasons: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    for _, _, step, reason in pieces.refused():
        reasons[kind_of(reason)] += 1
        steps[step] += 1
    total = sum(state["pictures"] for state in pieces.done)
    used = len(pc.unique(found.filter(found["reason"].is_null())["picture"]))
    if unused := len(pc.unique(found["picture"])) - used:
        reasons["all faces left out"] = unused
    return {
        "steps": dict(sorted(Counter(found["step"].drop_null().to_pylist()).items())),
        "duplicate_groups": int((np.bincount(kept_for) > 1).sum()),
        "close_ups": pc.sum(pc.match_substring(index["done"], CLOSE_UP)).as_py() or 0,
        "pictures": {
            "found": total,
            "kept": used,
            "rejected": total - used,
            "reasons": dict(sorted(reasons.items())),
            "steps": dict(sorted(steps.items())),
            "files_beside": sum(state["beside"] for state in pieces.done),
            "unreadable_labels": sum(state["labels"] for state in pieces.done),
            "unreadable_labels_named": [
                named for state in pieces.done for named in state.get("labels_named", ())
            ][:EXAMPLES],
        },
    }


def _examples(pieces: Pieces, faces: pa.Table, kept_for: np.ndarray) -> dict[str, Any]:
    """Thumbnails for the report as data URIs, by what they show; read before pieces are deleted."""
    path: Path = pieces.state / "examples.json"
    if path.exists():
        return json.loads(path.read_bytes())
    lost: dict[str, list] = {}
    for number in range(len(pieces.done)):
        for reason, shown in pieces.long(number)["examples"].items():
            lost.setdefault(reason, []).extend(shown)
    kept = np.nonzero(kept_for == np.arange(len(kept_for)))[0]
    some = kept[spread(len(kept), SHOWN)]
    groups: dict[int, list[int]] = {}
    for i in np.nonzero(np.bincount(kept_for, minlength=len(kept_for))[kept_for] > 1)[0].tolist():
        best = int(kept_for[i])
        if best in groups or len(groups) < EXAMPLES:
            groups.setdefault(best, []).append(i)
    wanted = np.zeros(len(kept_for), bool)
    wanted[[*some.tolist(), *(i for group in groups.values() for i in group[:6])]] = True
    pictures, sizes = {}, faces["bytes"].to_pylist()
    for i, member in pieces.members(faces["length"].to_numpy(), wanted):
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(member)[512:]
        pixels = np.asarray(Image.open(io.BytesIO(data[: sizes[i]])).convert("RGB"))
        pictures[i] = base64.b64encode(thumbnail_of(pixels)).decode()
    examples = {
        "lost": lost,
        "kept": [pictures[i] for i in some.tolist()],
        "duplicates": [[[pictures[i], i == best] for i in group[:6]] for best, group in groups.items()],
    }
    write_file(path, json_bytes(examples))
    return examples
