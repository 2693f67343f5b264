"""Reads compressed files as streams: gzip, bzip2, xz and Zstandard, with all streams in one file.

Python's own readers ignore the bytes after the last stream; here they are counted, so that nothing is lost
silently.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

_CHUNK = 2**18
_LONGEST_START = 6
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Gzip:
    """`zlib` with the interface of `bz2` and `lzma`: it keeps the input that is not used yet."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)  # checks the CRC and the size at the end

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_STREAMS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b\x08": _Gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
}


def is_compressed(start: bytes) -> bool:
    """Whether `unpacked` can read a file that begins with ``start``."""
    return start.startswith((*_STREAMS, _ZSTD))


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """The unpacked content of ``file``, to be read from start to end.

    Reading raises `EOFError`, `OSError`, `zlib.error` or `lzma.LZMAError` if it is cut short or damaged.
    """
    start = file.read(len(_ZSTD))
    file.seek(0)
    if start == _ZSTD:
        return io.BufferedReader(_Zstandard(file), _CHUNK)
    return io.BufferedReader(_Unpacked(file), _CHUNK)


def bytes_after(stream: IO[bytes]) -> int:
    """Number of bytes after the compressed data, for a stream of `unpacked` that was read to its end."""
    raw = getattr(stream, "raw", None)
    return raw.after if isinstance(raw, _Unpacked) else 0


class _Forward(io.RawIOBase):
    def __init__(self) -> None:
        self._at = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._more(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _more(self, size: int) -> bytes:
        raise NotImplementedError


class _Unpacked(_Forward):
    """after: number of bytes after the last stream, known when all is read."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self._waiting, self._stream = file, b"", None
        self._begun = False
        self.after = 0

    def _more(self, size: int) -> bytes:
        while self._stream is not None or self._begin():
            stream: Any = self._stream
            data = stream.decompress(self._waiting, size)
            self._waiting = b""
            if stream.eof:
                self._waiting, self._stream = stream.unused_data, None
            elif not data:
                self._waiting = self._file.read(_CHUNK)
                if not self._waiting:
                    raise EOFError("the compressed data is cut short")
            if data:
                return data
        return b""

    def _begin(self) -> bool:
        """Start on the next stream; False if there is none."""
        while True:
            self._waiting = self._waiting if not self._begun else self._waiting.lstrip(b"\0")  # zero padding
            if len(self._waiting) >= _LONGEST_START or not (chunk := self._file.read(_CHUNK)):
                break
            self._waiting += chunk
        found = (make for magic, make in _STREAMS.items() if self._waiting.startswith(magic))
        if (make := next(found, None)) is not None:
            self._stream, self._begun = make(), True
            return True
        while self._waiting:
            self.after += len(self._waiting)
            self._waiting = self._file.read(_CHUNK)
        return False


class _Zstandard(_Forward):
    """Reads all frames of a file. Other bytes after a frame raise `OSError`."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        import pyarrow as pa

        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")

    def _more(self, size: int) -> bytes:
        # Read small pieces, one tar block each: a read that fails loses the data that it has unpacked.
        return self._stream.read(min(size, 512))
