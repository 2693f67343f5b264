"""Caches that hold a limited number of bytes; what was used least recently goes first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A cache for several threads.

    Args:
        most: how many bytes the values may have together. A single value that has more is not kept.
        size: bytes of a value.

    >>> cache = Cache(most=4, size=len)
    >>> cache.put("a", b"12"); cache.put("b", b"34"); cache.put("c", b"5")
    >>> cache.get("a"), cache.get("b")
    (None, b'34')
    """

    def __init__(self, most: int, size: Callable[[V], int]) -> None:
        self._most, self._size = most, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value, which counts as used now; None: it is not there."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: K, value: V) -> None:
        """Keep a value, and drop others if there are too many bytes."""
        size = self._size(value)
        with self._lock:
            self._drop(key)
            if size > self._most:
                return
            self._values[key] = value
            self.bytes += size
            while self.bytes > self._most:
                self._drop(next(iter(self._values)))

    def drop(self, key: K) -> bool:
        """Forget a value; whether it was there."""
        with self._lock:
            return self._drop(key)

    def _drop(self, key: K) -> bool:
        if key not in self._values:
            return False
        self.bytes -= self._size(self._values.pop(key))
        return True
