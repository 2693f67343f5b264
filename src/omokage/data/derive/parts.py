"""Makes new face sets from finished ones. Pictures are copied as they are stored and not encoded again.

The work is done in a hidden folder beside the result, which is renamed when it is complete. Every finished
shard is recorded, so the same command goes on where an interrupted one stopped, with the same result.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import UserError
from ...progress import Progress, Task, opened
from ..steps.read import kind_of
from ..store.columns import COLUMNS
from ..store.faceset import FaceSet
from ..store.format import (
    deflate_member,
    rejected_csv,
    tar_member,
)
from ..store.manifest import counted, manifest_of, read_manifest, write_set
from ..store.shards import Members, places, write_shards
from ..store.unfinished import STATE, check_room, working_folder
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
        check_room(out, sum(int(_stored_bytes(sources, part).sum()) for part in made))
        with opened(progress, "copying faces", sum(len(part.rows) for part in made)) as task:
            for part in made:
                _write_part(partial, sources, part, plan, task)
    return True


def _stored_bytes(sources: Sequence[FaceSet], part: Part) -> np.ndarray:
    """The bytes of each face of ``part`` in the shard that it comes from."""
    lengths = np.zeros(len(part.rows), np.int64)
    for number, source in enumerate(sources):
        theirs = part.origins == number
        lengths[theirs] = source.index["length"].to_numpy()[part.rows[theirs]]
    return lengths


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
    folder.mkdir(exist_ok=True)
    keys, formats = part.index["key"].to_pylist(), part.index["format"].to_pylist()
    names = [f"{key}.{kind}" for key, kind in zip(keys, formats, strict=True)]

    def members(first: int) -> Members:
        for row in range(first, len(names)):
            yield _member(sources[part.origins[row]], int(part.rows[row]), names[row])

    state = partial / STATE / (part.folder or "shards")
    shards = write_shards(folder, state, _stored_bytes(sources, part), members, task)
    index = part.index
    for name, values in zip(("shard", "offset", "length"), places(shards), strict=True):
        index = index.set_column(index.schema.get_field_index(name), name, pa.array(values, COLUMNS[name]))
    reasons = Counter(kind_of(reason) for _, reason in part.rejected)
    counts = counted(index, len(keys) + len(part.rejected), reasons)
    manifest = manifest_of({**part.manifest, "derived": plan}, counts, index, shards)
    write_set(folder, manifest, index, rejected_csv(part.rejected))


def _member(faces: FaceSet, row: int, name: str) -> tuple[bytes, bytes]:
    data, raw, deflated = faces.member(row)
    wanted = tar_member(name, data)
    return (raw, deflated) if raw == wanted else (wanted, deflate_member(wanted))
