"""What a metric is: what it measures, the columns of its figures, and what it refuses beforehand."""

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
    """One figure: where it stands in a record and how it is shown.

    Attributes:
        title: the column's heading.
        key: of the record; ``two_sample.accuracy`` is ``accuracy`` of the table ``two_sample``, which also
            names its protocol.
        form: format of one value.
        better: `LOWER`, `HIGHER` or `NEITHER`.
        help: what the figure says, in one sentence.
        source: authors and year.
        ideal: a value to compare with, in words, such as "0.5 is chance".
        scale: values are shown times this.
        error: key of the standard error, or "".
        interval: key of a pair [low, high], or "".
        name: the figure in a sentence, where it is not ``title``.

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
        """The table of the record that holds the figure, "" for the record itself."""
        return self.key.rpartition(".")[0]

    @property
    def words(self) -> str:
        """The figure in a sentence."""
        return self.name or self.title

    def _inside(self, record: Mapping[str, Any], key: str) -> Any:
        """What a record holds under ``key``, which is written like ``self.key``."""
        table, _, last = key.rpartition(".")
        inner = record.get(table) if table else record
        return inner.get(last) if isinstance(inner, Mapping) else None

    def value(self, record: Mapping[str, Any]) -> float | None:
        """The figure of a record, unscaled; None where it has none."""
        return number(self._inside(record, self.key))

    def protocol(self, record: Mapping[str, Any]) -> str:
        """The figure's own protocol, "" where a record has no such table."""
        inner = record.get(self.table) if self.table else None
        return str(inner.get("protocol", "protocol not said")) if isinstance(inner, Mapping) else ""

    def shown(self, value: float) -> str:
        """A value as text.

        >>> Column("FID", "fid", "{:.2f}", LOWER, "").shown(3)
        '3.00'
        """
        return self.form.format(value * self.scale if self.scale != 1 else value)

    def text(self, record: Mapping[str, Any]) -> str:
        """The figure of a record as text, "" where it has none."""
        value = self.value(record)
        return "" if value is None else self.shown(value)

    def note(self, record: Mapping[str, Any]) -> str:
        """How sure the figure is, "" where a record does not say."""
        error = number(self._inside(record, self.error)) if self.error else None
        if error is not None:
            return f"± {self.shown(error)}"
        pair = self._inside(record, self.interval) if self.interval else None
        if isinstance(pair, list | tuple) and len(pair) == 2 and None not in map(number, pair):
            return f"{self.shown(pair[0])} to {self.shown(pair[1])}"
        return ""


class Watcher(Protocol):
    """Sees every finite sample as it is drawn, since not all pixels are kept."""

    def add(self, images: "np.ndarray") -> Any:
        """Take in uint8 images (B, H, W, 3)."""


def _nothing(context: "Context") -> None:
    """Nothing can fail."""


@dataclass(frozen=True)
class Metric:
    """A metric, as its file exports it under the name METRIC; `table.METRICS` lists them.

    Attributes:
        name: one word.
        columns: of its figures.
        measure: the numbers for the record, from features and pixels of both sides.
        check: called before anything is sampled. It raises `UserError` for what cannot be measured, and
            warns (`Context.warn`) of what says little.
        of_pixels: it looks at pixels and is measured once; else once in every feature space.
        option: the option of `omokage evaluate` that asks for it, "" if it is always measured.
        max_pixels: how many samples it needs the pixels of.
        watcher: makes what sees all samples as they pass; it is then found in `Context.watched`.
    """

    name: str
    columns: tuple[Column, ...]
    measure: Callable[["Context"], dict[str, Any]]
    check: Callable[["Context"], None] = _nothing
    of_pixels: bool = False
    option: str = ""
    max_pixels: int = 0
    watcher: Callable[[], Watcher] | None = None
