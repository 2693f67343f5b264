"""A file that can be read at any place, as `zipfile` needs it."""

import io
from typing import Any


class Seekable(io.RawIOBase):
    """Derive from it and write `read_at`. size: number of bytes; None as long as it is not known."""

    def __init__(self, size: int | None) -> None:
        self.size, self._at = size, 0

    def read_at(self, at: int, length: int) -> bytes | memoryview:
        """At most ``length`` bytes from ``at`` on; none beyond the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + (0, self._at, self.size or 0)[whence]
        if place < 0:
            raise OSError("before the beginning")
        self._at = place
        return place

    def readinto(self, buffer: Any) -> int:
        data = self.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
