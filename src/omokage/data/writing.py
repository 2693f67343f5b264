"""Writes files completely or not at all, and writes the shards of a face set."""

import io
import json
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import replacing
from .faceset import GZIP_START, shard_end

SHARD_PICTURES = 4096
SHARD_BYTES = 64 * 2**20
"""A shard is full at this number of pictures or of stored bytes, whichever comes first."""


def write_file(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    with replacing(path, locked=True, durable=True) as unfinished:
        unfinished.write_bytes(data)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, so that they survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_bytes(value: object) -> bytes:
    """``value`` as readable JSON. The same value gives the same bytes."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def parquet_bytes(table: pa.Table) -> bytes:
    """An index as Parquet. The same table gives the same bytes."""
    out = io.BytesIO()
    plain = ["key", "offset", "length", "bytes", "file", "sha256"]  # a dictionary does not help unique values
    dictionary = [name for name in table.column_names if name not in plain]
    options = {"compression": "zstd", "compression_level": 9, "write_statistics": False}
    pq.write_table(table, out, use_dictionary=dictionary, **options)
    return out.getvalue()


def shard_name(number: int) -> str:
    """The file name of a face set's shard ``number``, from 0."""
    return f"faces-{number:06d}.tar.gz"


class ShardWriter:
    """A shard that is being written; it has a temporary name until `close`.

    offset: bytes written so far, where the next member begins. members: number of members so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._temporary = path, path.with_name(path.name + ".writing")
        self._file: IO[bytes] = open(self._temporary, "wb")  # noqa: SIM115 - closed by close or abandon
        self._crc = self._size = 0
        self.members = 0
        self.offset = self._write(GZIP_START)

    def _write(self, data: bytes) -> int:
        return self._file.write(data)

    def add(self, raw: bytes, deflated: bytes) -> int:
        """Append a tar member, given plain and deflated (`faceset.deflate_member`); returns its offset."""
        begins = self.offset
        self._write(deflated)
        self._crc = zlib.crc32(raw, self._crc)
        self._size += len(raw)
        self.members += 1
        self.offset += len(deflated)
        return begins

    @property
    def full(self) -> bool:
        return self.members >= SHARD_PICTURES or self.offset >= SHARD_BYTES

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
