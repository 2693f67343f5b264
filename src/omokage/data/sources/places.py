"""Remote files, by any URL that fsspec knows: ``s3://``, ``gs://``, ``http(s)://`` and others.

A failed transfer is tried again. If all attempts fail, the work ends with a `UserError` that says how to go
on, so that no picture is left out because of the network. `Unreadable` is raised only for facts about the
file itself (it does not exist, it is too large).
"""

import errno
import io
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit

from ...errors import UserError
from ..steps.read import MAX_FILE_BYTES, Unreadable
from ..text import one_line
from .seekable import Seekable

BLOCK = 4 * 2**20
"""Bytes of a large file that one request asks for."""

PAUSES = (0.5, 2.0, 8.0)
"""Seconds to wait before each further attempt."""

_BLOCKS = 6
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//?)(?!/)(.+)", re.DOTALL)

T = TypeVar("T")


def url_of(place: str | Path) -> str | None:
    """``place`` as a URL, or None if it is a local path.

    >>> url_of("s3://bucket/faces"), url_of(Path("s3://bucket/faces")), url_of("C:/faces"), url_of("a/b")
    ('s3://bucket/faces', 's3://bucket/faces', None, None)
    """
    match = _URL.fullmatch(str(place))
    # A Path turns two slashes into one.
    if match is None or (match[2] == "/" and (isinstance(place, str) or Path(place).parent.exists())):
        return None
    return f"{match[1]}://{match[3]}"


def shown(url: str) -> str:
    """``url`` for messages: without passwords and signatures.

    >>> shown("https://me:secret@host/a%20b.zip?signature=x")
    'https://host/a%20b.zip'
    """
    parts = urlsplit(url)
    return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


@dataclass(frozen=True)
class Entry:
    """A file in a listing. name: relative to the listed place. mark: changes with the content, if known."""

    name: str
    path: str
    size: int | None
    mark: str


class Place:
    """The file or folder at a URL. Methods raise `UserError` if it cannot be reached."""

    def __init__(self, url: str, fs: Any = None, path: str = "") -> None:
        self.url, self.shown = url, shown(url)
        if fs is None:
            fs, path = _filesystem(url)
        self.fs, self.path = fs, path
        self.web = "http" in fs.protocol
        last = (urlsplit(url).path.rstrip("/") or urlsplit(url).netloc).rpartition("/")[2]
        self.name = one_line((unquote(last) if self.web else last) or self.shown)

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.url.rstrip('/')}/{name}", self.fs, f"{self.path.rstrip('/')}/{name}")

    def at(self, path: str) -> "Place":
        """Another file in the same file system."""
        return Place(self.fs.unstrip_protocol(path), self.fs, path)

    def info(self) -> dict[str, Any] | None:
        """What the server says about it; None if it does not exist."""
        try:
            return self._trying(lambda: self.fs.info(self.path))
        except FileNotFoundError:
            return None

    def files(self) -> list[Entry]:
        """All files in it and in its subfolders, unsorted; none if it does not exist."""
        if self.web:
            return self._linked()
        try:
            found = self._trying(lambda: self.fs.find(self.path, detail=True))
        except FileNotFoundError:
            return []
        start = self.path.rstrip("/") + "/"
        return [
            Entry(path[len(start) :], path, info.get("size"), mark_of(info))
            for path, info in found.items()
            if path.startswith(start) and not path.endswith("/")
        ]

    def _linked(self) -> list[Entry]:
        """The files that a web server's folder pages link to. fsspec's own walk would skip failures."""
        start = self.path.rstrip("/") + "/"
        folders = [start]
        links: set[str] = set()
        while folders:
            folder = folders.pop()
            try:
                found = set(self._trying(partial(self.fs.ls, folder, detail=False)))
            except FileNotFoundError:
                found = set()
            # Links with a query are the server's own, for example to sort by size.
            new = {link for link in found if link.startswith(start) and not set("?#") & set(link)} - links
            links |= new
            folders += [link for link in new if link.endswith("/") and link != start]
        return [
            Entry(unquote(link[len(start) :]), link, None, "") for link in links if not link.endswith("/")
        ]

    def read(self, limit: int = MAX_FILE_BYTES, size: int | None = None) -> bytes:
        """The bytes of the whole file. ``size``, if known, saves a request. Also raises `Unreadable`."""
        try:
            data = self._trying(lambda: self._whole(limit, size))
        except FileNotFoundError:
            raise Unreadable("not there any more, or a link that leads nowhere") from None
        if len(data) > limit:
            raise _too_large(len(data), limit)
        return data

    def _whole(self, limit: int, size: int | None) -> bytes:
        if not self.web:
            size = self.fs.info(self.path)["size"] if size is None else size
            if size is not None and size > limit:
                raise _too_large(size, limit)
            return self.fs.cat_file(self.path)
        parts, total = [], 0
        with self.fs.open(self.path, "rb", block_size=0, size=1) as stream:  # without a request for the size
            while total <= limit and (part := stream.read(2**20)):
                parts.append(part)
                total += len(part)
        return b"".join(parts)

    def range(self, start: int, end: int, size: int) -> bytes:
        """Bytes ``start`` to ``end`` (not included) of a file of ``size`` bytes."""

        def fetch() -> bytes:
            if self.web:  # detects a server that sends the whole file instead
                with self.fs.open(self.path, "rb", block_size=BLOCK, cache_type="none", size=size) as file:
                    file.seek(start)
                    try:
                        data = file.read(end - start)
                    except ValueError:
                        raise _OnlyWhole from None
            else:
                data = self.fs.cat_file(self.path, start=start, end=end)
            if len(data) != end - start:
                raise EOFError(f"{len(data):,} bytes came of {end - start:,}")
            return data

        try:
            return self._trying(fetch)
        except FileNotFoundError:
            raise UserError(f"{self.shown} is not there any more") from None

    def download(self, into: IO[bytes]) -> None:
        """Download the whole file, of any size, into a file object."""

        def fetch() -> None:
            into.seek(0)
            into.truncate()
            with self.fs.open(self.path, "rb", **({"block_size": 0} if self.web else {})) as stream:
                while part := stream.read(2**20):
                    into.write(part)

        try:
            self._trying(fetch)
        except FileNotFoundError:
            raise UserError(f"{self.shown} is not there any more") from None

    def upload(self, data: Path | bytes) -> None:
        """Upload a local file, or bytes. The remote file is complete or does not exist."""
        try:
            if isinstance(data, bytes):
                self._trying(lambda: self.fs.pipe_file(self.path, data), "written")
            else:
                self._trying(lambda: self.fs.put_file(str(data), self.path), "written")
        except FileNotFoundError:
            raise UserError(f"{self.shown} cannot be written: there is no such bucket or folder") from None

    def delete(self) -> None:
        with suppress(FileNotFoundError):
            self._trying(lambda: self.fs.rm_file(self.path), "deleted")

    def _trying(self, attempt: Callable[[], T], done: str = "read") -> T:
        for pause in (*PAUSES, None):
            try:
                return attempt()
            except (FileNotFoundError, Unreadable, _OnlyWhole):
                raise
            except Exception as error:
                if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):  # a local disk is full
                    raise
                status = getattr(error, "status", 0)
                if status in (404, 410):
                    raise FileNotFoundError(self.path) from None
                told = one_line(error, 150) or type(error).__name__
                if isinstance(error, PermissionError) or status in (401, 403) or "redential" in told:
                    raise UserError(
                        f"no permission for {self.shown} ({told}): give the credentials that it asks for"
                    ) from None
                hopeless = isinstance(error, ValueError | TypeError | NotImplementedError)
                if pause is None or hopeless or (400 <= status < 500 and status not in (408, 429)):
                    raise UserError(
                        f"{self.shown} cannot be {done} ({told}): "
                        "repeat the command when it can, it goes on where it stopped"
                    ) from None
                time.sleep(pause)
        raise AssertionError


class _OnlyWhole(Exception):
    """The server does not send parts of files."""


def _too_large(size: int, limit: int) -> Unreadable:
    return Unreadable(f"file too large: {size:,} bytes, the limit is {limit:,}")


def mark_of(info: dict[str, Any]) -> str:
    """The part of a listing that changes with a file's content."""
    names = ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "updated", "mtime", "last_modified")
    return next((str(info[name]) for name in names if info.get(name)), "")


def _filesystem(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url, use_listings_cache=False)
    except ImportError:
        raise UserError(f"{scheme}:// needs further packages: pip install 'omokage[cloud]'") from None
    except ValueError as error:
        raise UserError(f"{shown(url)} is not a URL that can be used: {one_line(error, 120)}") from None
    except Exception as error:  # each service has its own errors for missing credentials
        raise UserError(f"{shown(url)} cannot be reached: {one_line(error, 150)}") from None


def open_remote(place: Place, size: int | None) -> IO[bytes]:
    """A large remote file that can be read and seeked."""
    return io.BufferedReader(_RemoteFile(place, size), 2**16)


class _RemoteFile(Seekable):
    """Reads a file in blocks and requests the next block in advance.

    If the server sends only whole files, the file is first downloaded to a temporary file.
    """

    def __init__(self, place: Place, size: int | None) -> None:
        super().__init__(size)
        self._place = place
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._pool = ThreadPoolExecutor(2, "remote")
        self._whole: IO[bytes] | None = None
        self._lock = threading.Lock()

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2 and self.size is None:
            self._bring()
        return super().seek(offset, whence)

    def read_at(self, at: int, length: int) -> bytes | memoryview:
        with self._lock:
            if self.size is None:
                self._bring()
            assert self.size is not None
            if at >= self.size or not length:
                return b""
            if self._whole is None:
                try:
                    number = at // BLOCK
                    return memoryview(self._block(number))[at - number * BLOCK :][:length]
                except _OnlyWhole:
                    self._bring()
            assert self._whole is not None
            self._whole.seek(at)
            return self._whole.read(length)

    def _block(self, number: int) -> bytes:
        straight = number in self._blocks or number - 1 in self._blocks
        for wanted in (number, number + 1)[: 1 + straight]:
            start, size = wanted * BLOCK, self.size or 0
            if wanted not in self._blocks and start < size:
                end = min(start + BLOCK, size)
                self._blocks[wanted] = self._pool.submit(self._place.range, start, end, size)
        self._blocks.move_to_end(number)
        while len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[number].result()

    def _bring(self) -> None:
        self._whole = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        try:
            self._place.download(self._whole)
        except OSError as error:
            room = f"{self._place.shown} does not fit into {tempfile.gettempdir()} ({one_line(error)})"
            raise UserError(f"{room}: make room there, or set TMPDIR") from None
        self.size = self._whole.seek(0, 2)
        self._blocks.clear()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._whole is not None:
            self._whole.close()
        super().close()
