"""What a metric consists of: how it measures, the columns of its figures, and what it checks beforehand."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from .context import Context

LOWER, HIGHER, NEITHER = -1, 1, 0


def number(value: Any) -> float | None:
    """``value`` if it is a finite number, else None.

    >>> number(3), number(True), number(float("nan")), number("3")
    (3, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Column:
    """One figure: its place in a record, and how it is shown.

    Attributes:
        title: the column's heading.
        key: its key in the record. ``two_sample.accuracy`` is ``accuracy`` in the table ``two_sample``; that
            table also names its protocol.
        form: format of one value.
        better: `LOWER`, `HIGHER` or `NEITHER`.
        help: what the figure says, in one sentence.
        source: authors and year.
        ideal: a value to compare with, in words, such as "0.5 is chance".
        scale: values are multiplied by this before they are shown.
        error: key of the standard error, or "".
        interval: key of a pair [low, high], or "".
        name: what the figure is called in a sentence, if not ``title``.

    >>> kid = Column("KID × 10³", "kid", "{:.2f}", LOWER, "", scale=1e3, error="kid_standard_error")
    >>> kid.text({"kid": 0.0123}), kid.note({"kid": 0.0123, "kid_standard_error": 0.001}), kid.text({})
    ('12.30', '± 1.00', '')
    """

    title: str
    key: str
    form: str
    better: int
    help: str
    source: str = ""
    ideal: str = ""
    scale: float = 1
    error: str = ""
    interval: str = ""
    name: str = ""

    @property
    def table(self) -> str:
        """The table of the record that holds the figure; "" for the record itself."""
        return self.key.rpartition(".")[0]

    @property
    def words(self) -> str:
        """The name of the figure in a sentence."""
        return self.name or self.title

    def _inside(self, record: Mapping[str, Any], key: str) -> Any:
        """The value of a record under ``key``, which has the form of ``self.key``."""
        table, _, last = key.rpartition(".")
        inner = record.get(table) if table else record
        return inner.get(last) if isinstance(inner, Mapping) else None

    def value(self, record: Mapping[str, Any]) -> float | None:
        """The figure of a record, unscaled; None if it has none."""
        return number(self._inside(record, self.key))

    def protocol(self, record: Mapping[str, Any]) -> str:
        """The protocol of the figure's table; "" if the record has no such table."""
        inner = record.get(self.table) if self.table else None
        return str(inner.get("protocol", "protocol not said")) if isinstance(inner, Mapping) else ""

    def shown(self, value: float) -> str:
        """A value as text.

        >>> Column("FID", "fid", "{:.2f}", LOWER, "").shown(3)
        '3.00'
        """
        return self.form.format(value * self.scale if self.scale != 1 else value)

    def text(self, record: Mapping[str, Any]) -> str:
        """The figure of a record as text; "" if it has none."""
        value = self.value(record)
        return "" if value is None else self.shown(value)

    def note(self, record: Mapping[str, Any]) -> str:
        """The standard error or interval of the figure as text; "" if the record has none."""
        error = number(self._inside(record, self.error)) if self.error else None
        if error is not None:
            return f"± {self.shown(error)}"
        pair = self._inside(record, self.interval) if self.interval else None
        if isinstance(pair, list | tuple) and len(pair) == 2 and None not in map(number, pair):
            return f"{self.shown(pair[0])} to {self.shown(pair[1])}"
        return ""


class Watcher(Protocol):
    """Sees every finite sample as it is drawn, because not all pixels are kept."""

    def add(self, images: "np.ndarray") -> Any:
        """Take in uint8 images (B, H, W, 3)."""


def _nothing(context: "Context") -> None:
    """No check: nothing can fail."""


@dataclass(frozen=True)
class Metric:
    """A metric. Each file of a metric exports one as METRIC; `table.METRICS` lists them.

    Attributes:
        name: one word.
        columns: the columns of its figures.
        measure: returns the numbers for the record, from features and pixels of both sides.
        check: called before anything is sampled. It raises `UserError` if the metric cannot be measured, and
            warns (`Context.warn`) if the figures will say little.
        of_pixels: True if it uses pixels and is measured once; False if it is measured in each feature space.
        option: the option of `omokage evaluate` that asks for it; "" if it is always measured.
        max_pixels: the number of samples whose pixels it needs.
        watcher: makes a `Watcher`, which sees all samples and is then in `Context.watched`.
    """

    name: str
    columns: tuple[Column, ...]
    measure: Callable[["Context"], dict[str, Any]]
    check: Callable[["Context"], None] = _nothing
    of_pixels: bool = False
    option: str = ""
    max_pixels: int = 0
    watcher: Callable[[], Watcher] | None = None
