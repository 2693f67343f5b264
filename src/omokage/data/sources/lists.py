"""A single picture, or a text file with a picture in every line; of this machine or behind a URL."""

from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError
from ..steps.read import MAX_FILE_BYTES, Unreadable, read_file
from ..text import decoded, one_line
from .places import Place, shown, url_of
from .source import Found, Source, digest, file_fingerprint, labels_mark, refused, unsafe


class Single(Source):
    kind = "picture"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.folder = path.parent
        self.total = 1
        mark = labels_mark(path.parent)
        self.fingerprint = file_fingerprint(path) if not mark else digest(file_fingerprint(path), mark)

    def __iter__(self) -> Iterator[Found]:
        yield Found(self.path.name, lambda: read_file(self.path))


class RemoteSingle(Source):
    kind = "picture"

    def __init__(self, place: Place, fingerprint: str) -> None:
        super().__init__(place)
        self._place, self.fingerprint, self.total = place, fingerprint, 1

    def __iter__(self) -> Iterator[Found]:
        yield Found(self.name, lambda: self._place.read(MAX_FILE_BYTES))


class FileList(Source):
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
                marks.append("-" if url_of(line) else file_fingerprint(path.parent / line))
            except (OSError, ValueError):
                marks.append("-")
        folders = {path.parent / line.rpartition("/")[0] for line in self._lines if not url_of(line)}
        marks += filter(None, map(labels_mark, sorted(folders)))
        self.fingerprint = digest(*self._lines, *marks)

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


class RemoteList(Source):
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
        self.fingerprint = digest(fingerprint, *self._lines)

    def __iter__(self) -> Iterator[Found]:
        for line in self._lines:
            if url_of(line) is None and (reason := unsafe(line)):
                yield refused(line, reason)
            else:
                yield Found(_line_name(line), lambda line=line: self._read(line))  # type: ignore[misc]

    def _read(self, line: str) -> bytes:
        url = url_of(line)
        return (self._beside / line if url is None else Place(url)).read(MAX_FILE_BYTES)
