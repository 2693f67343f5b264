"""Keeps the work going if a standard stream is closed or its reader goes away."""

import errno
import io
import os
import sys
from typing import TextIO

# Errors of writing to a lost stream: the reader left, the file descriptor is closed, the terminal hung up.
GONE = {errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO}


class _Lasting(io.FileIO):
    """A standard stream whose writes never fail because the reader is gone; such output is dropped.

    Attributes:
        closed_before: whether it was closed when the program started.
        lost: whether output was dropped.
    """

    def __init__(self, number: int, closed_before: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self.closed_before, self.lost = closed_before, False

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        if self.closed_before:
            self.lost = True
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
        self.lost = True
        _to_nowhere(self.fileno())
        return len(data)


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    else:
        os.set_inheritable(number, True)


def keep() -> None:
    """Make the standard streams of this process safe to write to. Call once, before any file is opened.

    A closed file descriptor is opened on the null device. Otherwise the next file that is opened would get
    its number, and everything printed would go into that file.
    """
    closed = []
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
            closed.append(number)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open until the process ends
    sys.stdout = _kept(sys.stdout, 1, 1 in closed)
    sys.stderr = _kept(sys.stderr, 2, 2 in closed)


def _kept(stream: TextIO | None, number: int, closed_before: bool) -> TextIO:
    if stream is not None and not isinstance(stream, io.TextIOWrapper):
        return stream  # replaced by other code, such as a notebook
    raw = _Lasting(number, closed_before)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="replace",  # a letter that the terminal cannot show becomes "?"
        line_buffering=stream is None or stream.line_buffering,
        write_through=stream is not None and stream.write_through,
    )


def output_lost() -> str | None:
    """Why output was lost: "closed" (from the start) or "left" (the reader left); None: it was not lost."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lasting) or not raw.lost:
        return None
    return "closed" if raw.closed_before else "left"
