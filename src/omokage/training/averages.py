"""Means of the numbers since the last line of the log."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Averages:
    """Numbers and times of the steps since the last line of the log.

    They are saved in snapshots, so that a resumed run logs the same numbers as an uninterrupted one.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, float] = {}
        self._seconds = self._waited = self._images = 0.0

    def add(self, numbers: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Add the numbers of a step, or of a part that is a ``share`` of a step."""
        for name, value in numbers.items():
            # In float32: a sum in bfloat16 would soon stop growing.
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().float() * share
            self._counts[name] = self._counts.get(name, 0) + share

    def time(self, seconds: float, waited: float, images: int) -> None:
        """Add a step: its ``seconds``, how many of them it ``waited`` for its faces, and its ``images``."""
        self._seconds += seconds
        self._waited += waited
        self._images += images

    def means(self) -> dict[str, float]:
        """The means so far, with images per second and the share of time spent waiting for data."""
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        if self._seconds > 0:
            means["speed/images per second"] = self._images / self._seconds
            means["speed/waiting for data"] = self._waited / self._seconds
        return means

    def taken(self) -> dict[str, float]:
        """The means so far; the sums are then reset."""
        means = self.means()
        self.__init__()  # type: ignore[misc]
        return means

    def as_dict(self) -> dict[str, Any]:
        """Plain values from which `restored` makes exactly the same sums."""
        sums = {name: [float(value), self._counts[name]] for name, value in self._sums.items()}
        return {"sums": sums, "seconds": self._seconds, "waited": self._waited, "images": self._images}

    @classmethod
    def restored(cls, told: Mapping[str, Any] | None) -> "Averages":
        """The inverse of `as_dict`; empty sums for None, because old snapshots have no sums.

        >>> averages = Averages()
        >>> averages.time(2.0, 0.5, 10)
        >>> Averages.restored(averages.as_dict()).means()
        {'speed/images per second': 5.0, 'speed/waiting for data': 0.25}
        """
        averages = cls()
        if told:
            averages._sums = {name: total for name, (total, _) in told["sums"].items()}
            averages._counts = {name: count for name, (_, count) in told["sums"].items()}
            averages.time(told["seconds"], told["waited"], told["images"])
        return averages
