"""Records of measurements as lines of JSON, such as a run's ``evaluations.jsonl``."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError


def check_writable(path: Path) -> None:
    """Check, before the work is done, that `append_line` will be able to write; nothing is written.

    Raises:
        UserError: the file, or the folder it would be made in, cannot be written.
    """
    try:
        if path.exists() or path.is_symlink():
            os.close(_opened(path, os.O_RDWR | os.O_APPEND))
            return
        folder = path.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append ``record`` as one line of JSON, in one write, so that lines of two writers do not mix.

    If the last line of the file was cut off, a newline is written first.

    Raises:
        UserError: the file cannot be written.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            if size:
                os.lseek(handle, size - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":
                    line = "\n" + line
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise _refused(path, error) from error


def _opened(path: Path, flags: int) -> int:
    """A handle to ``path``. OSError for a pipe too: a pipe has no last line to read."""
    handle = os.open(path, flags | os.O_NONBLOCK, 0o644)
    try:
        os.lseek(handle, 0, os.SEEK_END)
    except OSError:
        os.close(handle)
        raise
    return handle


def _refused(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot append the result to {path}: {error.strerror or error}; name another file with --out"
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file that `append_line` wrote; lines that are not records are left out.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read the results in {path}: {error.strerror or error}") from error
    records = []
    for line in text.split("\n"):
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("protocol"), str):
                records.append(record)
    return records
