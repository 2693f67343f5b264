"""What a source of pictures is, whatever its kind; `opening` finds out the kind.

A source yields `Found` items in an order that depends only on its content. A fault of an item becomes the
reason why it is left out. Sources may be hostile.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..steps.read import Unreadable
from ..text import one_line
from .labels import SIDECARS
from .places import Place

_IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"}


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


def hidden(name: str) -> bool:
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return any(part.startswith(".") or part in _IGNORED for part in parts)


def unsafe(name: str) -> str | None:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return "absolute name in an archive"
    if ".." in re.split(r"[\\/]", name):
        return "name with '..' in an archive"
    if "\0" in name:
        return "name with a zero byte in an archive"
    return None


def refused(name: str, reason: str) -> Found:
    def load() -> bytes:
        raise Unreadable(reason)

    return Found(name, load)


def digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(p) for p in parts).encode("utf-8", "surrogateescape")).hexdigest()


def labels_mark(folder: Path) -> str:
    """A hash that changes with the files of a folder that may have labels; "" if there are none."""
    try:
        with os.scandir(folder) as entries:
            texts = [entry for entry in entries if entry.name.lower().endswith(SIDECARS)]
        marks = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in texts]
    except (OSError, ValueError):
        return ""
    return digest(*sorted(marks)) if marks else ""


def file_fingerprint(path: Path) -> str:
    status = path.stat()
    return digest(status.st_size, status.st_mtime_ns)
