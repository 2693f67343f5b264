"""Finds the row of a table for each file, although other systems and tools may write names differently."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from ..text import one_line
from .spelling import canonical, folded, stemmed

_MAX_FOLDERS = 32  # most folders of a row's path before the file name

SHOWN = 3
"""Number of files or rows named in a message."""

_MISREAD: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cp437", ("utf-8", "cp932", "gb18030", "euc_kr", "big5")),  # programs that read zips assume cp437
    ("cp1252", ("utf-8", "cp932", "gb18030")),
    ("latin-1", ("utf-8", "cp932", "gb18030")),
    ("cp932", ("utf-8", "gb18030")),
    ("gb18030", ("utf-8", "cp932")),
)
"""Encodings that programs wrongly assume for names, each with the possible true encodings."""


@dataclass(frozen=True)
class Met:
    """Which rows matched a file.

    rows: number of rows. met: number of rows that matched. unmet: names of the first rows that did not.
    places: the row of every matched file, by the names of its source and of the file (as in an index).
    """

    rows: int
    met: int
    unmet: tuple[str, ...]
    places: dict[tuple[str, str], int]

    @property
    def described(self) -> dict[str, Any]:
        """As JSON, for a manifest."""
        return {"rows": self.rows, "met": self.met, "unmet": list(self.unmet)}


class Rows:
    """Finds the rows of a table by file names.

    names: the names of each row, the most reliable first (a table may name a file by name, MD5 and number).
    same: tells whether two rows have the same content. table: name of the table in messages.
    """

    def __init__(self, names: Sequence[Sequence[str]], same: Callable[[int, int], bool], table: str) -> None:
        self._names, self._same, self._table = names, same, table
        self._by_path: dict[str, list[tuple[int, int, bool]]] = {}
        for row, place, path, guessed in self._paths():
            self._by_path.setdefault(path, []).append((row, place, guessed))
        self._longer: dict[str, list[tuple[int, int, bool]]] | None = None  # rows by the ends of their paths

    def _paths(self) -> Iterator[tuple[int, int, str, bool]]:
        for row, several in enumerate(self._names):
            for place, name in enumerate(several):
                for spelled, guessed in _spellings(name):
                    yield row, place, folded(spelled), guessed

    def best(self, source: str, file: str) -> int | None:
        """The row of one file, None if it has none; `UserError` if several different rows fit equally."""
        found = self._fitting(source, file)
        return found[1] if found else None

    def meet(self, files: Iterable[tuple[int, str, str]]) -> Met:
        """The rows of all files: (number of the source, its name, name of the file in it).

        Raises `UserError` if a row fits several files equally well, or no row fits any.
        """
        claims: dict[tuple[int, int], dict[tuple[int, str, str], tuple]] = {}
        first = ""
        for number, source, file in files:
            first = first or f"{source}/{file}"
            if found := self._fitting(source, file):
                rank, row, place = found
                claims.setdefault((row, place), {})[number, source, file] = rank
        places: dict[tuple[str, str], int] = {}
        doubtful: list[tuple[int, int, list[str]]] = []
        for (row, place), claimed in claims.items():
            least = min(claimed.values())
            fitting = [key for key, rank in claimed.items() if rank == least]
            if len(fitting) > 1:
                doubtful.append((row, place, [f"{source}/{file}" for _, source, file in fitting]))
            places.update({(source, one_line(file, 1000)): row for _, source, file in fitting})
        if doubtful:
            row, place, shown = doubtful[0]
            more = f", and {len(doubtful) - 1:,} more rows fit several" if len(doubtful) > 1 else ""
            listed = ", ".join(one_line(name, 80) for name in shown[:SHOWN])
            raise UserError(
                f"labels {self._table}: the row {one_line(self._names[row][place], 80)!r} fits "
                f"{len(shown):,} files ({listed}{', ...' if len(shown) > SHOWN else ''}){more}: "
                "write the folder before the name, or the source and the folder"
            )
        met = set(places.values())
        unmet = [one_line(names[0], 200) for row, names in enumerate(self._names) if row not in met and names]
        if not met and self._names and first:
            raise UserError(
                f"labels {self._table}: 0 of {len(self._names):,} rows met a picture: it names "
                f"{one_line(self._names[0][0], 80)!r}, the pictures are called like {one_line(first, 80)!r}"
            )
        return Met(len(self._names), len(met), tuple(unmet[:SHOWN]), places)

    def _fitting(self, source: str, file: str) -> tuple[tuple, int, int] | None:
        """The best match of a file: its rank, the row, and which of the row's names matched."""
        if quick := self._exactly(source, file):
            return quick
        for spelled, guessed in _spellings(file):
            found: list[tuple[tuple, int, int]] = []
            for without_ending in (False, True):
                if not found or found[0][0][0]:  # no match yet, or only by a guess
                    found = sorted({*found, *self._candidates(source, spelled, guessed, without_ending)})
            if not found:
                continue
            rank, row, place = found[0]
            for other_rank, other, other_place in found[1:]:
                if other_rank == rank and other != row and not self._same(row, other):
                    raise UserError(
                        f"labels {self._table}: the rows {one_line(self._names[row][place], 80)!r} and "
                        f"{one_line(self._names[other][other_place], 80)!r} both fit {one_line(source, 80)}/"
                        f"{one_line(file, 80)}, and say different things: keep one"
                    )
            return rank, row, place
        return None

    def _exactly(self, source: str, file: str) -> tuple[tuple, int, int] | None:
        """A fast path of `_fitting` for the usual case: exactly one row has this very name."""
        for called in (f"{canonical(source)}/{canonical(file)}", canonical(file)):
            entries = self._by_path.get(folded(called), ())
            if len(entries) == 1 and entries[0][1:] == (0, False):
                row = entries[0][0]
                if canonical(self._names[row][0]) == called:
                    return (False, False, 0, 0, -called.count("/"), False), row, 0
            if entries:
                return None
        return None

    def _candidates(
        self, source: str, file: str, guessed: bool, without_ending: bool
    ) -> Iterator[tuple[tuple, int, int]]:
        ending = file[len(stemmed(file)) :] if without_ending else ""
        if without_ending and not ending:
            return
        written = f"{canonical(source)}/{canonical(file)}".removesuffix(ending)
        name = folded(file).removesuffix(folded(ending))
        whole = f"{folded(source)}/{name}"
        parts = whole.split("/")
        shorter = ("/".join(parts[start:]) for start in range(len(parts)))  # the row lacks folders
        found = [(path, 0 if path in (name, whole) else 1, self._by_path.get(path, ())) for path in shorter]
        found.append((name, 2, self._with_more_folders().get(name, ())))  # the file does
        for _, fit, entries in found:
            for row, place, guessed_too in entries:
                called = canonical(self._names[row][place])
                folders = called.count("/") * (1 if fit == 2 else -1)
                case = not (f"/{written}".endswith(f"/{called}") or f"/{called}".endswith(f"/{written}"))
                case = case and not called.endswith(canonical(file).removesuffix(ending))
                rank = (guessed or guessed_too, without_ending, place, fit, folders, case)
                yield rank, row, place

    def _with_more_folders(self) -> dict[str, list[tuple[int, int, bool]]]:
        if self._longer is None:
            self._longer = {}
            for row, place, path, guessed in self._paths():
                parts = path.split("/")[-_MAX_FOLDERS:]
                for start in range(1, len(parts)):
                    self._longer.setdefault("/".join(parts[start:]), []).append((row, place, guessed))
        return self._longer


def told(labels: dict[str, Any] | None) -> list[str]:
    """Lines for the terminal about the table that a manifest describes.

    >>> told({"name": "t.csv", "rows": 3, "met": 2, "unmet": ["x.png"]})
    ["2 of 3 rows of t.csv met a picture; not 'x.png'"]
    """
    if not labels or "met" not in labels:
        return []
    line = f"{labels['met']:,} of {labels['rows']:,} rows of {labels['name']} met a picture"
    if unmet := labels.get("unmet"):
        more = ", ..." if labels["rows"] - labels["met"] > len(unmet) else ""
        line += f"; not {', '.join(repr(one_line(name, 60)) for name in unmet)}{more}"
    return [line]


def _spellings(name: str) -> Iterator[tuple[str, bool]]:
    """``name``, and what it may be if it was read in a wrong encoding: (name, whether a guess)."""
    yield name, False
    if name.isascii():
        return
    seen = {name}
    raws: list[tuple[bytes, tuple[str, ...]]] = []
    if _has_raw_bytes(name):
        raws.append((os.fsencode(name), ("cp932", "gb18030", "euc_kr", "big5")))
    for read_as, written in _MISREAD:
        try:
            raws.append((name.encode(read_as), written))
        except UnicodeEncodeError:
            continue
    for raw, written in raws:
        for encoding in written:
            try:
                guess = raw.decode(encoding)
            except UnicodeDecodeError:
                continue
            if guess not in seen:
                seen.add(guess)
                yield guess, True


def _has_raw_bytes(name: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in name)
