"""Writes the shards of a face set, and goes on where it was interrupted."""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypedDict

import numpy as np

from ...progress import Task
from .format import GZIP_START, json_bytes, shard_end, shard_name, write_file

SHARD_PICTURES = 4096
SHARD_BYTES = 64 * 2**20
"""A shard is full at this number of pictures or of stored bytes, whichever comes first."""


Members = Iterator[tuple[bytes, bytes]]
"""Tar members, each plain and deflated (`format.deflate_member`)."""


class Written(TypedDict):
    """A finished shard: name, bytes, number of pictures; of each picture its offset and its bytes there."""

    name: str
    bytes: int
    pictures: int
    offsets: list[int]
    lengths: list[int]


def write_shards(
    folder: Path,
    state: Path,
    lengths: Sequence[int] | np.ndarray,
    members: Callable[[int], Members],
    task: Task,
    written: Callable[[int], None] = lambda following: None,
) -> list[Written]:
    """Write the shards of ``folder``. The same call after an interruption goes on at the last finished shard.

    state: a folder for a note on each finished shard.
    lengths: stored bytes of each member. They alone decide which members a shard has.
    members: returns the members from the one with the given number on.
    written: called with the number of the next member when a shard is finished.
    """
    state.mkdir(exist_ok=True)
    shards: list[Written] = []
    stream: Members | None = None
    for number, (first, last) in enumerate(_cuts(lengths)):
        note = state / f"{number:06d}.json"
        shard = _noted(note, folder, last - first)
        if shard is None:
            stream = members(first) if stream is None else stream
            shard = _write(folder / shard_name(number), stream, last - first, task)
            write_file(note, json_bytes(shard))
            written(last)
        else:
            stream = None
            task.advance(last - first)
        shards.append(shard)
    return shards


def places(shards: Sequence[Written]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each member in order: number of its shard (int32), offset (int64), bytes there (int32)."""
    number = np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard["lengths"]) for shard in shards])
    offsets = np.array([offset for shard in shards for offset in shard["offsets"]], np.int64)
    return number, offsets, np.array([length for shard in shards for length in shard["lengths"]], np.int32)


def _cuts(lengths: Sequence[int] | np.ndarray) -> Iterator[tuple[int, int]]:
    """First member and the one after the last, of every shard."""
    first, size = 0, len(GZIP_START)
    for number, length in enumerate(np.asarray(lengths).tolist(), 1):
        size += length
        if number - first >= SHARD_PICTURES or size >= SHARD_BYTES:
            yield first, number
            first, size = number, len(GZIP_START)
    if first < len(lengths):
        yield first, len(lengths)


def _noted(note: Path, folder: Path, pictures: int) -> Written | None:
    """The shard that an interrupted call finished; None if there is none."""
    try:
        shard = json.loads(note.read_bytes())
        good = (folder / shard["name"]).stat().st_size == shard["bytes"]
        return shard if good and len(shard["lengths"]) == len(shard["offsets"]) == pictures else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, members: Members, pictures: int, task: Task) -> Written:
    offsets, lengths = [], []
    shard = ShardWriter(path)
    try:
        for _ in range(pictures):
            raw, deflated = next(members)
            offsets.append(shard.add(raw, deflated))
            lengths.append(len(deflated))
            task.advance()
        size = shard.close()
    except BaseException:
        shard.abandon()
        raise
    return {"name": path.name, "bytes": size, "pictures": pictures, "offsets": offsets, "lengths": lengths}


class ShardWriter:
    """A shard that is being written; it has a temporary name until `close`.

    offset: bytes written so far, where the next member begins.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._temporary = path, path.with_name(path.name + ".writing")
        self._file: IO[bytes] = open(self._temporary, "wb")  # noqa: SIM115 - closed by close or abandon
        self._crc = self._size = 0
        self.offset = self._write(GZIP_START)

    def _write(self, data: bytes) -> int:
        return self._file.write(data)

    def add(self, raw: bytes, deflated: bytes) -> int:
        """Append a tar member, given plain and deflated (`format.deflate_member`); returns its offset."""
        begins = self.offset
        self._write(deflated)
        self._crc = zlib.crc32(raw, self._crc)
        self._size += len(raw)
        self.offset += len(deflated)
        return begins

    def close(self) -> int:
        """Finish the shard and give it its final name; returns its size in bytes."""
        self.offset += self._write(shard_end(self._crc, self._size))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self.path)
        return self.offset

    def abandon(self) -> None:
        """Close and delete the unfinished shard."""
        with suppress(OSError):  # on a full disk, flushing the buffer may fail too
            self._file.close()
        self._temporary.unlink(missing_ok=True)
