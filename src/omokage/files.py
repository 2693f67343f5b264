"""Files that are there whole or not at all, and the one cache folder."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_unfinished: set[Path] = set()
_choosing = threading.Lock()


@contextmanager
def replacing(path: str | Path, *, locked: bool = False, durable: bool = False) -> Iterator[Path]:
    """A temporary name beside ``path``: moved onto it when the block ends well, deleted when it does not.

    Args:
        path: the file to write. What it holds stays until the new content is whole.
        locked: nobody else writes ``path`` now. The temporary name is then ``path`` with ``.writing`` behind,
            so that the next attempt overwrites what a killed one left. Otherwise the name is a hidden one of
            this process, with the ending of ``path``, from which libraries tell the format.
        durable: the content is on the disk before it gets its name, so it survives a power cut.

    Raises:
        OSError: as the block or the system raised it.

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
        while unfinished in _unfinished:  # another thread writes the same file
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
        with suppress(OSError):  # the folder may be gone, and then so is the file
            unfinished.unlink(missing_ok=True)
        _unfinished.discard(unfinished)


def _own(path: Path, number: str) -> str:
    return f".{path.stem}.{os.getpid()}{number}.unfinished{path.suffix}"


def discard_unfinished() -> None:
    """Delete what is being written right now: for a process that ends without leaving its blocks."""
    for unfinished in list(_unfinished):
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where things are kept that can be made or fetched again.

    ``$OMOKAGE_CACHE``; else ``~/.cache/omokage`` if there is one; else the system's place for caches: on
    Linux ``$XDG_CACHE_HOME/omokage`` or ``~/.cache/omokage``.
    """
    if named := os.environ.get("OMOKAGE_CACHE"):
        return Path(named)
    known = Path(os.path.expanduser("~/.cache/omokage"))
    if known.is_dir():
        return known
    from platformdirs import user_cache_path

    return user_cache_path("omokage", appauthor=False)
