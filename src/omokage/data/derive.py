"""New face sets out of finished ones: pictures are copied as they are stored, none is encoded again.

Work lies in a hidden folder beside the result until it is complete, and is renamed then. Every shard that is
done is noted, so the same command goes on where an interrupted one stopped, with the same result.
"""

import csv
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import __version__
from ..errors import UserError
from ..progress import Progress, Task, opened
from .build import (
    SHARD_BYTES,
    SHARD_PICTURES,
    _disk_errors,
    _json,
    _locked,
    _parquet,
    _sync_folder,
    _write,
)
from .faceset import (
    FORMAT,
    GZIP_START,
    INDEX,
    KIND,
    MANIFEST,
    REJECTED,
    FaceSet,
    content_hash,
    deflate_member,
    partial_folder,
    read_manifest,
    shard_end,
    tar_member,
)
from .read import one_line

STATE = ".state"
_PLAN = "plan.json"


@dataclass(frozen=True)
class Part:
    """A face set to be written.

    folder: its name in the result, "" for the result itself.
    origins, rows: for each face the number of the face set it comes from and its row there.
    index: the new rows, in order, with the new keys; where they are stored is filled in.
    manifest: what its manifest says beside counts, hash and shards.
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
    """Write the ``parts`` of ``sources`` under ``out``; False if they were there already.

    plan: what determines the result, as JSON; it is kept in each manifest as `derived`.
    folders: the names of the parts.
    parts: works out the parts; it may keep files in the folder that it is given until all is done.

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
    """The hidden folder in which ``out`` comes into being; renamed to ``out`` when the block ends well.

    plan: what determines the result. Work of another plan that was left there is thrown away.
    complete: whether a folder holds the finished result of the plan; then the block gets None.
    """
    partial = partial_folder(out)
    with _disk_errors(out):
        if complete(out):
            shutil.rmtree(out / STATE, ignore_errors=True)  # left if a process was killed at its very end
            yield None
            return
        _refuse_foreign(out)
        with _locked(partial, out):
            if complete(out):  # by another process, just before this one had the lock
                yield None
                return
            _prepare(partial, {"omokage": __version__, **plan})
            yield partial
            os.rename(partial, out)
            shutil.rmtree(out / STATE)
            _sync_folder(out.parent)


def _prepare(partial: Path, plan: dict[str, Any]) -> None:
    state = partial / STATE
    names = {entry.name for entry in partial.iterdir()}
    if names and STATE not in names:
        raise UserError(f"{one_line(partial)} is in the way and not of omokage: move it away")
    if names and _same(state / _PLAN, plan):
        return
    # The state folder goes last: it is what makes the rest ours to delete.
    for name in sorted(names, key=lambda name: name == STATE):
        path = partial / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    state.mkdir()
    _write(state / _PLAN, _json(plan))


def _same(file: Path, plan: dict[str, Any]) -> bool:
    try:
        return json.loads(file.read_bytes()) == json.loads(json.dumps(plan))
    except (OSError, ValueError):
        return False


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{one_line(out)} is a file: give a folder that does not exist yet with -o")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{one_line(out)} is not empty, and not what this command makes: give a new folder with -o"
        )
    if out.is_mount():
        raise UserError(f"{one_line(out)} is where a disk is mounted: give a folder inside it with -o")


def target(out: str | Path) -> Path:
    """``out`` as an absolute path, links resolved."""
    path = Path(out).expanduser()
    return (path.resolve() if path.is_symlink() or path.exists() else path).absolute()


def check_room(out: Path, needed: int) -> None:
    """`UserError` if the disk of ``out`` has not ``needed`` bytes and a little more free."""
    folder = partial_folder(out)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free + there
    if needed * 1.02 + 2**20 > free:
        raise UserError(
            f"{one_line(out)} needs about {needed / 1e6:,.0f} MB and its disk has {free / 1e6:,.0f} MB free: "
            "make room, or give a folder on another disk"
        )


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
            name = f"faces-{number:06d}.tar.gz"
            members = (
                _member(sources[part.origins[row]], int(part.rows[row]), names[row])
                for row in range(first, last)
            )
            shard = {"name": name, **_write_shard(folder / name, members, task)}
            _write(note, _json(shard))
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
        reason = reason.split(":")[0]
        reasons[reason] = reasons.get(reason, 0) + 1
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
    _write(folder / REJECTED, rejected_csv(part.rejected))
    _write(folder / INDEX, _parquet(index))
    _write(folder / MANIFEST, _json(manifest))


def rejected_csv(rejected: Sequence[tuple[str, str]]) -> bytes:
    """The bytes of `rejected.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "reason"))
    writer.writerows(rejected)
    return text.getvalue().encode()


def _shards(sources: Sequence[FaceSet], part: Part) -> Iterator[tuple[int, int]]:
    """First and last row of every shard; depends on nothing but the faces."""
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
    """A shard that an interrupted run has finished."""
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
    temporary = path.with_name(path.name + ".writing")
    offsets, lengths = [], []
    crc = size = 0
    try:
        with open(temporary, "wb") as file:
            file.write(GZIP_START)
            for raw, deflated in members:
                offsets.append(file.tell())
                lengths.append(len(deflated))
                file.write(deflated)
                crc, size = zlib.crc32(raw, crc), size + len(raw)
                task.advance()
            file.write(shard_end(crc, size))
            end = file.tell()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return {"bytes": end, "offsets": offsets, "lengths": lengths}
