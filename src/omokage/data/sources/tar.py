"""Tars: on the disk, where each member is read by its place, or compressed or remote, as streams.

Archives may be hostile, and several may lie one behind the other in a file.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ...errors import UserError
from ..steps.read import MAX_FILE_BYTES, Unreadable
from ..text import one_line
from .keys import natural
from .places import Place
from .source import Found, Source, file_fingerprint, hidden, refused, unsafe
from .unpack import bytes_after, unpacked

MAX_SKIPPED_BYTES = 4 * 2**30
"""Limit in bytes for compressed tars. A member that claims more is not skipped: reading of the archive ends
there. It also ends if more than this is between the end of an archive and the next one in the same file."""

_MAX_HEADER_BYTES = 2**20


def is_tar_header(block: bytes) -> bool:
    # Old tars have no magic number, so the checksum of the header decides.
    if len(block) < 512 or not any(block):
        return False
    if not block[148:156].strip(b" \0").isdigit():  # the checksum field; a quick test first
        return False
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class _Guarded:
    """A file for `tarfile` that refuses the huge reads that a forged header asks for.

    skip_limit: for a compressed file, the most bytes to unpack in order to skip them; None if skipping costs
        nothing.
    last: the bytes that were read last.
    """

    def __init__(self, file: IO[bytes], skip_limit: int | None) -> None:
        self._file, self._skip_limit = file, skip_limit
        self._again = b""  # bytes to be read a second time
        self.last = b""

    def tell(self) -> int:
        return self._file.tell() - len(self._again)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header that claims {size:,} bytes")
        self.last, self._again = self._again[:size], self._again[size:]
        if len(self.last) < size:
            self.last += self._file.read(size - len(self.last))
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._skip_limit is None:
            self._again = b""
            return self._file.seek(offset, whence)
        missing = offset - self.tell()
        if missing > self._skip_limit:
            raise tarfile.ReadError("a member too large to skip")
        while missing > 0 and (part := self._again or self._file.read(min(missing, _MAX_HEADER_BYTES))):
            self._again = b""
            missing -= len(part)
        return self.tell()

    def next_archive(self) -> tuple[bool, str]:
        """Find the next header after the end of an archive; returns whether there is one, and a note.

        The note counts other bytes before it; "" if there are none.
        """
        start = self.tell()
        first = last = None  # start and end of bytes that are neither zero nor a header
        while block := self.read(tarfile.BLOCKSIZE):
            at = self.tell() - len(block)
            if block.count(0) == len(block):
                pass
            elif is_tar_header(block):
                self._again = block
                return True, _strange(first, last)
            else:
                first = at if first is None else first
                last = at + len(block.rstrip(b"\0"))
            if at - start > MAX_SKIPPED_BYTES:
                return False, f"more than {at - start:,} bytes after the end of the archive that are no tar"
        return False, _strange(first, last)


def _strange(first: int | None, last: int | None) -> str:
    if first is None or last is None:
        return ""
    return f"{last - first:,} bytes after the end of the archive that are no tar"


def _members(file: IO[bytes], skip_limit: int | None = None) -> Iterator[tarfile.TarInfo | str]:
    """The members of a tar and of further tars after it in the same file.

    Other bytes in the file give a text instead of a member. If reading fails, the last item is a text with
    the reason.
    """
    try:
        guarded = _Guarded(file, skip_limit)
        more = True
        while more:
            with tarfile.open(fileobj=guarded, mode="r:") as archive:  # type: ignore[call-overload]
                while (member := archive.next()) is not None:
                    archive.members = []  # otherwise tarfile keeps every member in memory
                    yield member
            damaged = any(guarded.last)  # tarfile treats an invalid header as the end
            start = guarded.tell() - len(guarded.last)
            more, strange = guarded.next_archive()
            if damaged:
                passed = f"{guarded.tell() - start:,} bytes"
                yield f"the archive breaks off: a damaged header; {passed} are passed over"
            elif strange:
                yield strange
        if after := bytes_after(file):
            yield f"{after:,} bytes after the end of the compressed data"
    except UserError:
        raise
    except Exception as error:  # tarfile raises many kinds of errors for forged headers
        yield f"the archive breaks off: {one_line(error) or type(error).__name__}"


def _member_trouble(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link in an archive"
    if not member.isreg():
        return "a device, pipe or other special member of an archive"
    if member.issparse():
        return "a sparse member of an archive"
    if reason := unsafe(member.name):
        return reason
    if member.size > MAX_FILE_BYTES:
        return f"file too large: {member.size:,} bytes, the limit is {MAX_FILE_BYTES:,}"
    return None


class Tar(Source):
    kind = "tar"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        end = os.fstat(self._file.fileno()).st_size
        found: list[tuple[str, int, int, str | None]] = []
        broken: list[str] = []
        for member in _members(self._file):
            if isinstance(member, str):
                broken.append(member)
                continue
            if member.isdir() or hidden(member.name):
                continue
            reason = _member_trouble(member)
            if reason is None and member.offset_data + member.size > end:
                reason = "cut short: the archive ends in the middle of it"
            found.append((member.name, member.offset_data, member.size, reason))
        found.sort(key=lambda item: (natural(item[0]), item[1]))
        self._found, self._broken = found, broken
        self.total = len(found) + len(broken)
        self.fingerprint = file_fingerprint(path)

    def __iter__(self) -> Iterator[Found]:
        for name, offset, size, reason in self._found:
            if reason is None:
                yield Found(name, lambda offset=offset, size=size: self._read(offset, size))  # type: ignore[misc]
            else:
                yield refused(name, reason)
        for reason in self._broken:
            yield refused("", reason)

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise Unreadable(f"cannot be read: {one_line(error.strerror)}") from None
        if len(data) != size:
            raise Unreadable("cut short: the archive ends in the middle of it")
        return data

    def __exit__(self, *exc: object) -> None:
        self._file.close()


class TarStream(Source):
    """A compressed or remote tar. It is read from start to end, in the order of the archive."""

    kind = "tar"

    def __init__(
        self, path: Path | Place, start: Callable[[], IO[bytes]], compressed: bool, fingerprint: str
    ) -> None:
        super().__init__(path)
        self._start, self._compressed, self.fingerprint = start, compressed, fingerprint
        if not compressed:
            return
        with start() as file:
            try:
                header = unpacked(file).read(512)
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"{self.name} cannot be decompressed: {one_line(error)}") from None
        if not is_tar_header(header):
            raise UserError(f"{self.name} is compressed, but not a tar")

    def __iter__(self) -> Iterator[Found]:
        return self.only(lambda name: True)

    def only(self, wanted: Callable[[str], bool]) -> Iterator[Found]:
        with self._start() as file:
            stream = unpacked(file) if self._compressed else file
            # In a compressed file, skipping a member means reading it.
            for member in _members(stream, MAX_SKIPPED_BYTES if self._compressed else None):
                if isinstance(member, str):
                    yield refused("", member)
                    continue
                if member.isdir() or hidden(member.name):
                    continue
                if reason := _member_trouble(member):
                    yield refused(member.name, reason)
                    continue
                if not wanted(member.name):
                    yield refused(member.name, "not asked for")
                    continue
                try:
                    data = _read_exactly(stream, member.size)
                except UserError:
                    raise
                except Exception as error:
                    yield refused(member.name, f"cut short: {one_line(error)}")
                    return
                yield Found(member.name, lambda data=data: data)  # type: ignore[misc]


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    parts, missing = [], size
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    if missing:
        raise EOFError("the archive ends in the middle of it")
    return b"".join(parts)
