"""Zips, also several in a file, on the disk or behind a URL. Archives may be hostile."""

import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...errors import UserError
from ..steps.read import MAX_FILE_BYTES, Unreadable
from ..text import one_line
from .keys import natural
from .places import Place
from .seekable import Seekable
from .source import Found, Source, hidden, refused, unsafe

_MOST_ZIPS = 1000  # most zips in one file
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!")
"""First bytes of programs that unpack the zip after them."""

_MAX_HEADER_BYTES = 2**20


class Zip(Source):
    """A zip, with the zips before it in the same file: `zipfile` itself reads only the last one."""

    kind = "zip"

    def __init__(self, path: Path | Place, file: IO[bytes], fingerprint: str) -> None:
        super().__init__(path)
        self._file, self.fingerprint = file, fingerprint
        try:
            self._zips, before = _zips(file)
            after = _bytes_after_zip(file)
        except (PermissionError, UserError):
            raise
        except Exception as error:
            raise UserError(f"the zip {self.name} cannot be read: {one_line(error)}") from None
        self._lock = threading.Lock()
        infos = [
            (info, archive)
            for archive in self._zips
            for info in archive.infolist()
            if not info.is_dir() and not hidden(info.filename)
        ]
        self._infos = sorted(infos, key=lambda one: (natural(one[0].filename), one[0].header_offset))
        self._broken = [f"{before:,} bytes before the zip that are no zip"] if before else []
        self._broken += [f"{after:,} bytes after the end of the zip"] if after else []
        self.total = len(self._infos) + len(self._broken)

    def __iter__(self) -> Iterator[Found]:
        for info, archive in self._infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind == stat.S_IFLNK:
                reason: str | None = "a link in an archive"
            elif kind not in (0, stat.S_IFREG):
                reason = "a device, pipe or other special member of an archive"
            else:
                reason = unsafe(info.filename)
            if reason:
                yield refused(info.filename, reason)
            else:
                yield Found(info.filename, lambda i=info, z=archive: self._read(i, z))  # type: ignore[misc]
        for reason in self._broken:
            yield refused("", reason)

    def _read(self, info: zipfile.ZipInfo, archive: zipfile.ZipFile) -> bytes:
        if info.file_size > MAX_FILE_BYTES:
            raise Unreadable(f"file too large: {info.file_size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
        try:
            with self._lock, archive.open(info) as member:
                data = member.read(MAX_FILE_BYTES + 1)  # the header may lie about the size
        except UserError:
            raise
        except Exception as error:  # encrypted, unknown method, wrong CRC, forged header
            raise Unreadable(f"damaged in the zip: {one_line(error) or type(error).__name__}") from None
        if len(data) > MAX_FILE_BYTES:
            raise Unreadable(f"file too large: more than {MAX_FILE_BYTES:,} bytes")
        return data

    def __exit__(self, *exc: object) -> None:
        for archive in self._zips:
            archive.close()
        self._file.close()


class _Front(Seekable):
    """The first ``size`` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(size)
        self._file = file

    def read_at(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(0, min(length, (self.size or 0) - at)))


def _zips(file: IO[bytes]) -> tuple[list[zipfile.ZipFile], int]:
    """The zips in a file, and the number of other bytes before the first (without programs and zeros)."""
    found = [zipfile.ZipFile(file)]
    while True:
        start = min((info.header_offset for info in found[-1].infolist()), default=found[-1].start_dir)
        if start <= 0:
            return found, 0
        try:
            if len(found) == _MOST_ZIPS:
                raise zipfile.BadZipFile
            found.append(zipfile.ZipFile(_Front(file, start)))  # type: ignore[arg-type]
        except UserError:
            raise
        except Exception:
            file.seek(0)
            head = file.read(min(start, _MAX_HEADER_BYTES))
            nothing = head.startswith(_PROGRAMS) or head.count(0) == len(head)
            return found, 0 if nothing else start


def _bytes_after_zip(file: IO[bytes]) -> int:
    """Number of bytes after the end record of a zip and its comment."""
    size = file.seek(0, 2)
    tail = min(size, 2**16 + 22)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(data):
        return 0
    return max(0, len(data) - at - 22 - int.from_bytes(data[at + 20 : at + 22], "little"))
