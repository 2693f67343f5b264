"""Sources of pictures: folders, tars, zips, lists of files, local or by URL. Archives are read as streams.

A source yields `Found` items in an order that depends only on its content. A fault of an item becomes the
reason why it is left out. Archives may be hostile.
"""

import hashlib
import io
import os
import re
import stat
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ...errors import UserError
from ...sniff import begins_like_picture
from ..steps.read import MAX_FILE_BYTES, Unreadable, read_file
from ..text import decoded, one_line
from .idx import Idx, begins_like_pictures, labels_beside, looks_like_idx
from .labels import SIDECARS
from .places import Entry, Place, mark_of, open_remote, shown, url_of
from .unpack import bytes_after, is_compressed, unpacked

MAX_SKIPPED_BYTES = 4 * 2**30
"""Limit in bytes for compressed tars. A member that claims more is not skipped: reading of the archive ends
there. It also ends if more than this is between the end of an archive and the next one in the same file."""

_MAX_HEADER_BYTES = 2**20
_IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"}
_MOST_ZIPS = 1000  # most zips in one file
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!")
"""First bytes of programs that unpack the zip after them."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a source: its name there and how to get its bytes (`load` raises `Unreadable`)."""

    name: str
    load: Callable[[], bytes]

    def read(self) -> "bytes | str":
        """Its bytes, or one line that says why they cannot be read."""
        try:
            return self.load()
        except Unreadable as reason:
            return one_line(reason)
        except MemoryError:
            return "needs too much memory"


def natural(name: str) -> str:
    """A sorting key that puts 2 before 10.

    >>> sorted(["f10", "f2", "f02", "F1"], key=natural)
    ['F1', 'f02', 'f2', 'f10']
    """

    # A number sorts by its length without leading zeros, then by its digits. int() refuses very long numbers.
    def number(match: re.Match[str]) -> str:
        digits = match[0].lstrip("0")
        return f"0{len(digits):07d}{digits}"

    return re.sub("[0-9]+", number, name.casefold()) + "\0" + name


class Source:
    """One source of pictures. Open with `open_source`, use as a context manager.

    name: last part of its path; precedes the names of its files in reports.
    kind: "folder", "tar", "zip", "list" or "picture".
    total: number of files found; None if it is known only after reading (a compressed tar).
    fingerprint: changes if the source changes (names, sizes and times of the files).
    labels: labels of items by their names, if the source itself has them (IDX files do).
    far: whether reading one item takes long, so that several should be read at a time.
    folder: for a source that lists only some files of a folder: the folder where relative names start.
    """

    kind = ""
    far = False
    folder: Path | None = None

    def __init__(self, path: Path | Place) -> None:
        self.name = one_line(path.name or str(path))
        self.total: int | None = None
        self.labels: dict[str, str] = {}
        self.fingerprint = ""

    @property
    def described(self) -> dict[str, str]:
        """Its entry in a manifest."""
        return {"name": self.name, "kind": self.kind, "fingerprint": self.fingerprint}

    def __iter__(self) -> Iterator[Found]:
        raise NotImplementedError

    def only(self, wanted: Callable[[str], bool]) -> Iterator[Found]:
        """All items. The bytes of those whose name is not ``wanted`` may be missing: streams skip them."""
        return iter(self)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def open_source(path: str | Path, skip: tuple[Path, ...] = ()) -> Source:
    """Find the kind of source at a path or URL from its content; `UserError` if it cannot have pictures.

    skip: folders to leave out (where the face set itself is written), and files that are not pictures.
    """
    if (url := url_of(path)) is not None:
        return _open_remote(Place(url))
    path = Path(path).expanduser()
    if not path.exists():
        what = "a folder, a tar, a zip, a list of files or a picture"
        raise UserError(f"there is no {one_line(path)}: give {what}")
    path = path.resolve()
    try:
        if path.is_dir():
            return _Folder(path, skip)
        if not path.is_file():
            raise UserError(f"{one_line(path)} is neither a file nor a folder")
        if looks_like_idx(path.name) or begins_like_pictures(path):
            return _IdxFile(path)
        with open(path, "rb") as file:
            start = file.read(512)
        if is_compressed(start):
            return _TarStream(path, lambda: open(path, "rb"), True, _file_fingerprint(path))
        # A picture with a zip after it is still a picture. A program with a zip after it is an archive.
        if begins_like_picture(start) and not _is_tar_header(start):
            return _Single(path)
        if zipfile.is_zipfile(path) and not _is_tar_header(start):
            return _Zip(path, open(path, "rb"), _file_fingerprint(path))
    except PermissionError:
        raise UserError(f"no permission to read {one_line(path)}") from None
    except OSError as error:
        raise UserError(f"cannot read {one_line(path)}: {one_line(error.strerror or error)}") from None
    if _is_tar_header(start):
        return _Tar(path)
    if path.suffix.lower() == ".txt":
        return _List(path)
    if not start:
        raise UserError(f"{one_line(path)} is empty (0 bytes)")
    if start.startswith(b"PK") or path.suffix.lower() in _ARCHIVES:
        raise UserError(f"{one_line(path)} is not a tar or zip that can be read: damaged, or of another kind")
    return _Single(path)


_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".zst", ".7z", ".rar")


def _open_remote(place: Place) -> Source:
    info = place.info()
    folder = info is not None and (info.get("type") == "directory" or place.url.endswith("/"))
    if info is None or folder or (place.web and info.get("mimetype") == "text/html"):
        source = _RemoteFolder(place)
        if not source.total:
            raise UserError(f"there are no files at {place.shown}: give a folder, an archive or a picture")
        return source
    size = info.get("size")
    mark = _digest(size, mark_of(info))
    if looks_like_idx(place.name):
        raise UserError(f"{place.shown} is an IDX file: bring it here first, with its labels")
    file = open_remote(place, size)
    start = file.read(512)
    if is_compressed(start):
        file.close()
        return _TarStream(place, lambda: open_remote(place, size), True, mark)
    if start.startswith(b"PK"):
        return _Zip(place, file, mark)
    file.close()
    if _is_tar_header(start):
        return _TarStream(place, lambda: open_remote(place, size), False, mark)
    if not start:
        raise UserError(f"{place.shown} is empty (0 bytes)")
    suffix = Path(place.name).suffix.lower()
    if suffix in _ARCHIVES:
        raise UserError(f"{place.shown} is not a tar or zip that can be read: damaged, or of another kind")
    return _RemoteList(place, mark) if suffix == ".txt" else _RemoteSingle(place, mark)


def _is_tar_header(block: bytes) -> bool:
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


def _hidden(name: str) -> bool:
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return any(part.startswith(".") or part in _IGNORED for part in parts)


def _unsafe(name: str) -> str | None:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return "absolute name in an archive"
    if ".." in re.split(r"[\\/]", name):
        return "name with '..' in an archive"
    if "\0" in name:
        return "name with a zero byte in an archive"
    return None


def _refused(name: str, reason: str) -> Found:
    def load() -> bytes:
        raise Unreadable(reason)

    return Found(name, load)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(p) for p in parts).encode("utf-8", "surrogateescape")).hexdigest()


def _labels_mark(folder: Path) -> str:
    """A hash that changes with the files of a folder that may have labels; "" if there are none."""
    try:
        with os.scandir(folder) as entries:
            texts = [entry for entry in entries if entry.name.lower().endswith(SIDECARS)]
        marks = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in texts]
    except (OSError, ValueError):
        return ""
    return _digest(*sorted(marks)) if marks else ""


def _file_fingerprint(path: Path) -> str:
    status = path.stat()
    return _digest(status.st_size, status.st_mtime_ns)


class _Folder(Source):
    kind = "folder"

    def __init__(self, path: Path, skip: tuple[Path, ...]) -> None:
        super().__init__(path)
        self.path = path
        skipped = {str(p.resolve()) for p in skip}
        found: list[tuple[str, str | None]] = []
        marks = 0
        folders = [(str(path), "")]
        while folders:
            folder, prefix = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                if not prefix:
                    raise
                reason = f"a folder that cannot be read: {one_line(error.strerror)}"
                found.append((prefix.rstrip("/"), reason))
                continue
            for entry in entries:
                name = prefix + entry.name
                if _hidden(entry.name) or entry.path in skipped:
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((entry.path, name + "/"))
                        continue
                    status = entry.stat()
                except OSError:
                    found.append((name, "a link that leads nowhere"))
                    continue
                if stat.S_ISDIR(status.st_mode):
                    found.append((name, "a link to a folder, not followed"))
                elif not stat.S_ISREG(status.st_mode):
                    found.append((name, "not a regular file"))
                else:
                    # Use a sum: it does not depend on the order in which the system lists a folder.
                    marks += int(_digest(name, status.st_size, status.st_mtime_ns), 16)
                    found.append((name, None))
        found.sort(key=lambda item: natural(item[0]))
        self._found, self._idx = (
            found,
            _IdxFiles(path, [n for n, r in found if r is None and looks_like_idx(n)]),
        )
        self._found = [(n, r or self._idx.reasons.get(n)) for n, r in found if n not in self._idx.read]
        self.labels = self._idx.labels
        self.total = sum(self._idx.count(name) for name, _ in self._found)
        self.fingerprint = _digest(marks, *(f"{n}:{r}" for n, r in found if r))

    def __iter__(self) -> Iterator[Found]:
        for name, reason in self._found:
            if name in self._idx.pictures:
                yield from self._idx.found(name)
            elif reason is None:
                full = os.path.join(self.path, name)
                yield Found(name, lambda full=full: read_file(full))  # type: ignore[misc]
            else:
                yield _refused(name, reason)


class _IdxFiles:
    """The IDX files among the files ``names`` of a folder.

    pictures: valid files of pictures. reasons: why other files are left out, by name. read: label files that
    belong to files of pictures. labels: labels of pictures, by the names of the pictures.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.pictures: dict[str, Idx] = {}
        self.reasons: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.read: set[str] = set()
        others: dict[str, Idx] = {}
        for name in names:
            try:
                if name.endswith(".gz") and name.removesuffix(".gz") in names:
                    raise Unreadable("the same file lies there unpacked")
                idx = Idx(folder / name)
                idx.check()
            except Unreadable as reason:
                self.reasons[name] = str(reason)
                continue
            (self.pictures if len(idx.shape) == 3 else others)[name] = idx
        for name, idx in self.pictures.items():
            for beside in labels_beside(name):
                if (known := others.get(beside)) is not None and known.shape[0] == idx.shape[0]:
                    del others[beside]
                    self.read.add(beside)
                    values = (str(value[0]) for value in known.items())
                    self.labels |= zip(self._names(name), values, strict=True)
        self.reasons |= {name: "IDX labels without as many pictures beside them" for name in others}

    def count(self, name: str) -> int:
        """Number of items that the file ``name`` gives."""
        return self.pictures[name].shape[0] if name in self.pictures else 1

    def found(self, name: str) -> Iterator[Found]:
        """The pictures in the file ``name``."""
        idx = self.pictures[name]
        for item_name, item in zip(self._names(name), idx.items(), strict=True):
            yield Found(item_name, lambda item=item: idx.png(item))  # type: ignore[misc]

    def _names(self, name: str) -> Iterator[str]:
        return (f"{name}/{number:05d}" for number in range(self.pictures[name].shape[0]))


class _IdxFile(Source):
    kind = "idx"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        beside = [name for name in labels_beside(path.name) if (path.parent / name).is_file()]
        self._idx = _IdxFiles(path.parent, [path.name, *beside[:1]])
        if path.name not in self._idx.pictures:
            reason = self._idx.reasons[path.name]
            raise UserError(f"{one_line(path)} cannot be read: {reason}")
        self.labels, self.total = self._idx.labels, self._idx.count(path.name)
        self.fingerprint = _digest(*(_file_fingerprint(path.parent / name) for name in (path.name, *beside)))

    def __iter__(self) -> Iterator[Found]:
        return self._idx.found(self.path.name)


class _Single(Source):
    kind = "picture"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.folder = path.parent
        self.total = 1
        mark = _labels_mark(path.parent)
        self.fingerprint = _file_fingerprint(path) if not mark else _digest(_file_fingerprint(path), mark)

    def __iter__(self) -> Iterator[Found]:
        yield Found(self.path.name, lambda: read_file(self.path))


class _List(Source):
    """A text file with a path or a URL in every line; paths are relative to the file's folder."""

    kind = "list"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            text = read_file(path)
        except Unreadable as reason:
            raise UserError(f"the list {one_line(path)} cannot be read: {reason}") from None
        self.folder = path.parent
        self._lines = _lines(text, one_line(path))
        self.total = len(self._lines)
        self.far = any(url_of(line) for line in self._lines)
        marks = []
        for line in self._lines:
            try:
                marks.append("-" if url_of(line) else _file_fingerprint(path.parent / line))
            except (OSError, ValueError):
                marks.append("-")
        folders = {path.parent / line.rpartition("/")[0] for line in self._lines if not url_of(line)}
        marks += filter(None, map(_labels_mark, sorted(folders)))
        self.fingerprint = _digest(*self._lines, *marks)

    def __iter__(self) -> Iterator[Found]:
        for line in self._lines:
            yield Found(_line_name(line), lambda line=line: self._read(line))  # type: ignore[misc]

    def _read(self, line: str) -> bytes:
        assert self.folder is not None
        return read_file(self.folder / line) if (url := url_of(line)) is None else Place(url).read()


def _lines(text: bytes, name: str) -> list[str]:
    try:
        lines = [line.strip() for line in decoded(text, zeros=True).splitlines()]
    except ValueError:
        raise UserError(f"{name} is not a list of files: it is not UTF-8 or UTF-16 text") from None
    return [line for line in lines if line and not line.startswith("#")]


def _line_name(line: str) -> str:
    """The name for a line of a list. Passwords and signatures in URLs must not get into the index."""
    return line if (url := url_of(line)) is None else shown(url)


class _RemoteFolder(Source):
    kind, far = "folder", True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._place = place
        entries = [entry for entry in place.files() if not _hidden(entry.name)]
        self._entries = sorted(entries, key=lambda entry: natural(entry.name))
        self.total = len(entries)
        self.fingerprint = _digest(*(f"{e.name}\0{e.size}\0{e.mark}" for e in self._entries))

    def __iter__(self) -> Iterator[Found]:
        for entry in self._entries:
            if reason := _unsafe(entry.name):
                yield _refused(entry.name, reason)
            else:
                yield Found(entry.name, lambda entry=entry: self._read(entry))  # type: ignore[misc]

    def _read(self, entry: Entry) -> bytes:
        return self._place.at(entry.path).read(MAX_FILE_BYTES, entry.size)


class _RemoteSingle(Source):
    kind = "picture"

    def __init__(self, place: Place, fingerprint: str) -> None:
        super().__init__(place)
        self._place, self.fingerprint, self.total = place, fingerprint, 1

    def __iter__(self) -> Iterator[Found]:
        yield Found(self.name, lambda: self._place.read(MAX_FILE_BYTES))


class _RemoteList(Source):
    """A remote list: its lines are URLs, or names relative to its folder."""

    kind, far = "list", True

    def __init__(self, place: Place, fingerprint: str) -> None:
        super().__init__(place)
        try:
            self._lines = _lines(place.read(MAX_FILE_BYTES), place.shown)
        except Unreadable as reason:
            raise UserError(f"the list {place.shown} cannot be read: {reason}") from None
        self._beside = place.at(place.path.rpartition("/")[0])
        self.total = len(self._lines)
        self.fingerprint = _digest(fingerprint, *self._lines)

    def __iter__(self) -> Iterator[Found]:
        for line in self._lines:
            if url_of(line) is None and (reason := _unsafe(line)):
                yield _refused(line, reason)
            else:
                yield Found(_line_name(line), lambda line=line: self._read(line))  # type: ignore[misc]

    def _read(self, line: str) -> bytes:
        url = url_of(line)
        return (self._beside / line if url is None else Place(url)).read(MAX_FILE_BYTES)


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
            elif _is_tar_header(block):
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
    if reason := _unsafe(member.name):
        return reason
    if member.size > MAX_FILE_BYTES:
        return f"file too large: {member.size:,} bytes, the limit is {MAX_FILE_BYTES:,}"
    return None


class _Tar(Source):
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
            if member.isdir() or _hidden(member.name):
                continue
            reason = _member_trouble(member)
            if reason is None and member.offset_data + member.size > end:
                reason = "cut short: the archive ends in the middle of it"
            found.append((member.name, member.offset_data, member.size, reason))
        found.sort(key=lambda item: (natural(item[0]), item[1]))
        self._found, self._broken = found, broken
        self.total = len(found) + len(broken)
        self.fingerprint = _file_fingerprint(path)

    def __iter__(self) -> Iterator[Found]:
        for name, offset, size, reason in self._found:
            if reason is None:
                yield Found(name, lambda offset=offset, size=size: self._read(offset, size))  # type: ignore[misc]
            else:
                yield _refused(name, reason)
        for reason in self._broken:
            yield _refused("", reason)

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


class _TarStream(Source):
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
        if not _is_tar_header(header):
            raise UserError(f"{self.name} is compressed, but not a tar")

    def __iter__(self) -> Iterator[Found]:
        return self.only(lambda name: True)

    def only(self, wanted: Callable[[str], bool]) -> Iterator[Found]:
        with self._start() as file:
            stream = unpacked(file) if self._compressed else file
            # In a compressed file, skipping a member means reading it.
            for member in _members(stream, MAX_SKIPPED_BYTES if self._compressed else None):
                if isinstance(member, str):
                    yield _refused("", member)
                    continue
                if member.isdir() or _hidden(member.name):
                    continue
                if reason := _member_trouble(member):
                    yield _refused(member.name, reason)
                    continue
                if not wanted(member.name):
                    yield _refused(member.name, "not asked for")
                    continue
                try:
                    data = _read_exactly(stream, member.size)
                except UserError:
                    raise
                except Exception as error:
                    yield _refused(member.name, f"cut short: {one_line(error)}")
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


class _Zip(Source):
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
            if not info.is_dir() and not _hidden(info.filename)
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
                reason = _unsafe(info.filename)
            if reason:
                yield _refused(info.filename, reason)
            else:
                yield Found(info.filename, lambda i=info, z=archive: self._read(i, z))  # type: ignore[misc]
        for reason in self._broken:
            yield _refused("", reason)

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


class _Front(io.RawIOBase):
    """The first ``size`` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self._at = file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        if self._at < 0:
            raise OSError("before the beginning")
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


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


def stem(name: str) -> str:
    """The key made from a file's relative name: without the extension, in safe characters.

    >>> stem("a b/日本.v2.JPG"), stem("x" * 200 + ".png")[-20:]
    ('a b/日本_v2', 'xxxxxxxxx-6c64d543f1')
    """
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    parts = [*path.parts[:-1], path.stem]
    # No dots: WebDataset takes everything up to the first dot of the last part as the key.
    parts = [part for part in parts if part not in ("/", ".")]
    parts = ["".join(c if c.isalnum() or c in "_- " else "_" for c in part) for part in parts]
    key = "/".join(part.strip() or "_" for part in parts) or "_"
    raw = key.encode("utf-8", "replace")
    if len(raw) > 80:  # fits the name field of a tar header with room for a number and the extension
        key = raw[:64].decode("utf-8", "ignore") + "-" + _digest(name)[:10]
    return key


class Keys:
    """Makes unique keys from file names, in the order of calls. A repeated key gets a number."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        base = key = stem(name)
        # Keys must differ in more than case, so that a set can be exported to any file system.
        while key.casefold() in self._next:
            number = self._next[base.casefold()] = self._next.get(base.casefold(), 1) + 1
            key = f"{base}-{number}"
        self._next[key.casefold()] = 1
        return key
