"""Writing files whole or not at all, files that come with the package, and the cache folder."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

from .errors import UserError

_unfinished: set[Path] = set()
_choosing = threading.Lock()


@contextmanager
def replacing(path: str | Path, *, locked: bool = False, durable: bool = False) -> Iterator[Path]:
    """A temporary file beside ``path``: renamed to it if the block succeeds, deleted if it fails.

    Args:
        path: the file to write. Its old content stays until the new content is complete.
        locked: the caller makes sure that nobody else writes ``path`` now. The temporary name is then
            ``path`` with ``.writing`` appended, so that the next attempt overwrites the rest of a killed one.
            Otherwise it is a hidden name that only this process uses, with the suffix of ``path``, because
            libraries tell the format by it.
        durable: write the content to the disk before renaming, so that the file survives a power cut.

    Raises:
        OSError: from the block or the system.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as unfinished:
    ...     _ = unfinished.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    with _choosing:
        unfinished = path.with_name(f"{path.name}.writing" if locked else _own(path, ""))
        number = 0
        while unfinished in _unfinished:  # another thread is writing the same file
            number += 1
            unfinished = path.with_name(_own(path, f"-{number}"))
        _unfinished.add(unfinished)
    try:
        yield unfinished
        if durable:
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):  # the folder may be deleted, and the file with it
            unfinished.unlink(missing_ok=True)
        _unfinished.discard(unfinished)


def _own(path: Path, number: str) -> str:
    return f".{path.stem}.{os.getpid()}{number}.unfinished{path.suffix}"


def discard_unfinished() -> None:
    """Delete all unfinished files, for a process that ends without leaving its blocks."""
    for unfinished in list(_unfinished):
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def cache_folder() -> Path:
    """The folder for files that can be made or downloaded again.

    It is ``$OMOKAGE_CACHE``; else ``~/.cache/omokage`` if it exists; else the system's cache folder, which on
    Linux is ``$XDG_CACHE_HOME/omokage`` or ``~/.cache/omokage``.
    """
    if named := os.environ.get("OMOKAGE_CACHE"):
        return Path(named)
    known = Path(os.path.expanduser("~/.cache/omokage"))
    if known.is_dir():
        return known
    from platformdirs import user_cache_path

    return user_cache_path("omokage", appauthor=False)


def shipped(name: str, sha256: str, what: str) -> bytes:
    """The content of the file ``name`` of the folder assets, which comes with the package.

    ``sha256``: what it must have; ``what``: what it is, for the messages.

    Raises:
        UserError: the file is missing, or another one lies in its place.
    """
    file = resources.files("omokage") / "assets" / name
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {what} is missing ({error}); reinstall omokage") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"{file}: SHA-256 {found[:12]}…, expected {sha256[:12]}…; reinstall omokage")
    return data
