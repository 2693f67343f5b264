"""Makes new face sets from finished ones. Pictures are copied as they are stored and not encoded again.

The work is done in a hidden folder beside the result, which is renamed when it is complete. Every finished
shard is recorded, so the same command goes on where an interrupted one stopped, with the same result.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ... import __version__
from ...errors import UserError
from ...progress import Progress, Task, opened
from ..steps.read import kind_of
from ..store.faceset import FaceSet
from ..store.format import (
    FORMAT,
    INDEX,
    KIND,
    MANIFEST,
    REJECTED,
    content_hash,
    deflate_member,
    json_bytes,
    parquet_bytes,
    partial_folder,
    shard_name,
    sync_folder,
    tar_member,
    write_file,
)
from ..store.manifest import read_manifest
from ..store.shards import SHARD_BYTES, SHARD_PICTURES, ShardWriter
from ..store.unfinished import STATE, begin, check_room, disk_errors, locked, refuse_foreign
from ..text import one_line


@dataclass(frozen=True)
class Part:
    """A face set to be written.

    folder: its name inside the result, "" for the result itself.
    origins, rows: for each face, the number of the face set it comes from and its row there.
    index: the new rows, in order, with the new keys; shard and offset are filled in later.
    manifest: the entries of its manifest, besides counts, hash and shards.
    rejected: (file, reason) of what was left out.
    """

    folder: str
    origins: np.ndarray
    rows: np.ndarray
    index: pa.Table
    manifest: dict[str, Any]
    rejected: list[tuple[str, str]] = field(default_factory=list)


def derive(
    out: Path,
    sources: Sequence[FaceSet],
    plan: dict[str, Any],
    folders: Sequence[str],
    parts: Callable[[Path], list[Part]],
    progress: Progress | None,
) -> bool:
    """Write the ``parts`` of ``sources`` under ``out``; returns False if they were there already.

    plan: everything that determines the result, as JSON; each manifest has it as `derived`.
    folders: the names of the parts.
    parts: a function that returns the parts; it may keep files in the folder it is given until the end.

    Raises `UserError` if ``out`` holds something else, there is no room, or a picture is damaged.
    """
    with working_folder(out, plan, lambda folder: _complete(folder, plan, folders)) as partial:
        if partial is None:
            return False
        try:
            made = parts(partial / STATE)
        except UserError:
            shutil.rmtree(partial)
            raise
        check_room(out, sum(_stored_bytes(sources, part) for part in made))
        with opened(progress, "copying faces", sum(len(part.rows) for part in made)) as task:
            for part in made:
                _write_part(partial, sources, part, plan, task)
    return True


@contextmanager
def working_folder(
    out: Path, plan: dict[str, Any], complete: Callable[[Path], bool]
) -> Iterator[Path | None]:
    """The hidden folder in which ``out`` is made; renamed to ``out`` if the block ends without an error.

    plan: everything that determines the result. Unfinished work of another plan is deleted.
    complete: tells whether a folder holds the finished result of the plan; then the block gets None.
    """
    partial = partial_folder(out)
    with disk_errors(out):
        if complete(out):
            shutil.rmtree(out / STATE, ignore_errors=True)  # left by a process that was killed at its end
            yield None
            return
        refuse_foreign(out)
        with locked(partial, out):
            if complete(out):  # another process finished it before this one got the lock
                yield None
                return
            begin(partial, plan)
            yield partial
            os.rename(partial, out)
            shutil.rmtree(out / STATE)
            sync_folder(out.parent)


def _stored_bytes(sources: Sequence[FaceSet], part: Part) -> int:
    lengths = [source.index["length"].to_numpy() for source in sources]
    return sum(int(lengths[o][part.rows[part.origins == o]].sum()) for o in range(len(sources)))


def _complete(folder: Path, plan: dict[str, Any], folders: Sequence[str]) -> bool:
    try:
        plans = [read_manifest(folder / name, "").get("derived") for name in folders]
    except UserError:
        return False
    if any(found != json.loads(json.dumps(plan)) for found in plans):
        raise UserError(
            f"{one_line(folder)} is there already, made of other face sets or with other options: "
            "give another folder with -o, or delete that one first"
        )
    for name in folders:
        FaceSet.open(folder / name)
    return True


def _write_part(
    partial: Path, sources: Sequence[FaceSet], part: Part, plan: dict[str, Any], task: Task
) -> None:
    folder = partial / part.folder
    state = partial / STATE / (part.folder or "shards")
    folder.mkdir(exist_ok=True)
    state.mkdir(exist_ok=True)
    keys, formats = part.index["key"].to_pylist(), part.index["format"].to_pylist()
    names = [f"{key}.{kind}" for key, kind in zip(keys, formats, strict=True)]
    shards: list[dict[str, Any]] = []
    for number, (first, last) in enumerate(_shards(sources, part)):
        note = state / f"{number:06d}.json"
        shard = _noted(note, folder, last - first)
        if shard is None:
            name = shard_name(number)
            members = (
                _member(sources[part.origins[row]], int(part.rows[row]), names[row])
                for row in range(first, last)
            )
            shard = {"name": name, **_write_shard(folder / name, members, task)}
            write_file(note, json_bytes(shard))
        else:
            task.advance(last - first)
        shards.append(shard)
    stored = {
        "shard": pa.array(np.repeat(range(len(shards)), [len(s["lengths"]) for s in shards]), pa.int32()),
        "offset": pa.array([n for s in shards for n in s["offsets"]], pa.int64()),
        "length": pa.array([n for s in shards for n in s["lengths"]], pa.int32()),
    }
    index = part.index
    for name, column in stored.items():
        index = index.set_column(index.schema.get_field_index(name), name, column)
    digests = index["sha256"].to_pylist()
    reasons: dict[str, int] = {}
    for _, reason in part.rejected:
        kind = kind_of(reason)
        reasons[kind] = reasons.get(kind, 0) + 1
    counts = {
        "found": len(keys) + len(part.rejected),
        "kept": len(keys),
        "rejected": len(part.rejected),
        "duplicates": len(keys) - len(set(digests)),
        "bytes": int(index["bytes"].to_numpy().sum(dtype=np.int64)),
        "reasons": dict(sorted(reasons.items())),
    }
    described = [{"name": s["name"], "bytes": s["bytes"], "pictures": len(s["lengths"])} for s in shards]
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "omokage": __version__,
        **part.manifest,
        "derived": plan,
        "counts": counts,
        "content_hash": content_hash(keys, digests),
        "shards": described,
    }
    write_file(folder / REJECTED, rejected_csv(part.rejected))
    write_file(folder / INDEX, parquet_bytes(index))
    write_file(folder / MANIFEST, json_bytes(manifest))


def rejected_csv(rejected: Sequence[tuple[str, str]]) -> bytes:
    """The bytes of `rejected.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "reason"))
    writer.writerows(rejected)
    return text.getvalue().encode()


def _shards(sources: Sequence[FaceSet], part: Part) -> Iterator[tuple[int, int]]:
    """Start and end row of every shard; they depend only on the faces."""
    lengths = [source.index["length"].to_numpy() for source in sources]
    first = size = 0
    for row, (origin, old) in enumerate(zip(part.origins, part.rows, strict=True)):
        size += int(lengths[origin][old])
        if row + 1 - first >= SHARD_PICTURES or size >= SHARD_BYTES:
            yield first, row + 1
            first, size = row + 1, 0
    if first < len(part.rows):
        yield first, len(part.rows)


def _noted(note: Path, folder: Path, pictures: int) -> dict[str, Any] | None:
    """The record of a shard that an interrupted run finished; None if there is none."""
    try:
        shard = json.loads(note.read_bytes())
        good = (folder / shard["name"]).stat().st_size == shard["bytes"]
        return shard if good and len(shard["lengths"]) == pictures else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _member(faces: FaceSet, row: int, name: str) -> tuple[bytes, bytes]:
    data, raw, deflated = faces.member(row)
    wanted = tar_member(name, data)
    return (raw, deflated) if raw == wanted else (wanted, deflate_member(wanted))


def _write_shard(path: Path, members: Iterator[tuple[bytes, bytes]], task: Task) -> dict[str, Any]:
    offsets, lengths = [], []
    shard = ShardWriter(path)
    try:
        for raw, deflated in members:
            offsets.append(shard.add(raw, deflated))
            lengths.append(len(deflated))
            task.advance()
        end = shard.close()
    except BaseException:
        shard.abandon()
        raise
    return {"bytes": end, "offsets": offsets, "lengths": lengths}
