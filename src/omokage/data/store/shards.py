"""Writes files completely or not at all, and writes the shards of a face set."""

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

from .format import GZIP_START, shard_end

SHARD_PICTURES = 4096
SHARD_BYTES = 64 * 2**20
"""A shard is full at this number of pictures or of stored bytes, whichever comes first."""


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
