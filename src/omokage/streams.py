"""Standard streams that are closed, or whose other end goes away, must not stop the work."""

import errno
import io
import os
import sys
from typing import TextIO

# What writing to a stream says that is gone: a reader that left, a closed number, a terminal hung up.
GONE = {errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO}


class _Lasting(io.FileIO):
    """A standard stream that takes everything: once its other end is gone, what is written is dropped.

    Attributes:
        closed_before: it was closed when the program began.
        lost: something was dropped.
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
    """Make the standard streams of this process last: call once, before anything opens a file.

    A closed number is opened on the null device, or the next file that is opened would get it, and with it
    all that is printed.
    """
    closed = []
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
            closed.append(number)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stdout = _kept(sys.stdout, 1, 1 in closed)
    sys.stderr = _kept(sys.stderr, 2, 2 in closed)


def _kept(stream: TextIO | None, number: int, closed_before: bool) -> TextIO:
    if stream is not None and not isinstance(stream, io.TextIOWrapper):
        return stream  # somebody else's
    raw = _Lasting(number, closed_before)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="replace",  # a terminal without a letter shows "?" instead of failing
        line_buffering=stream is None or stream.line_buffering,
        write_through=stream is not None and stream.write_through,
    )


def output_lost() -> str | None:
    """Why something printed on standard output reached nobody: "closed" or "left"; None: it all did."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lasting) or not raw.lost:
        return None
    return "closed" if raw.closed_before else "left"
