"""Which row of a table belongs to which file: by names that were written by other systems and other tools."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from .read import one_line
from .spelling import canonical, folded

SHOWN = 3
"""So many files or rows are named in a message."""

_MISREAD: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cp437", ("utf-8", "cp932", "gb18030", "euc_kr", "big5")),  # by programs that read zips
    ("cp1252", ("utf-8", "cp932", "gb18030")),
    ("latin-1", ("utf-8", "cp932", "gb18030")),
    ("cp932", ("utf-8", "gb18030")),
    ("gb18030", ("utf-8", "cp932")),
)
"""Encodings in which names are read by mistake, each with those in which they may have been written."""


@dataclass(frozen=True)
class Met:
    """Which rows met a file.

    rows: how many there are. met: how many of them met one. unmet: names of the first that did not.
    places: the row of every file that has one, by the name of its source and its own (as in an index).
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
    """The rows of a table by their names, to be found by the names of files.

    names: of each row, the surer first (a table may know a file by its name, its MD5 and its number).
    same: whether two rows say the same. table: what the table is called, in messages.
    """

    def __init__(self, names: Sequence[Sequence[str]], same: Callable[[int, int], bool], table: str) -> None:
        self._names, self._same, self._table = names, same, table
        self._by_last: dict[str, list[tuple[int, int, str, bool]]] = {}
        for row, several in enumerate(names):
            for place, name in enumerate(several):
                for spelled, guessed in _spellings(name):
                    path = folded(spelled)
                    entry = (row, place, path, guessed)
                    self._by_last.setdefault(path.rpartition("/")[2], []).append(entry)

    def best(self, source: str, file: str) -> int | None:
        """The row of one file, None if it has none; `UserError` if several that differ fit equally well."""
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
        """How well the best row fits, the row, and which of its names it is by."""
        for spelled, guessed in _spellings(file):
            found = sorted(set(self._candidates(source, spelled, guessed)))
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

    def _candidates(self, source: str, file: str, guessed: bool) -> Iterator[tuple[tuple, int, int]]:
        name = folded(file)
        whole = f"{folded(source)}/{name}"
        last = name.rpartition("/")[2]
        bare = last.rpartition(".")[0]
        for key, without_ending in ((last, False), (bare, True)):
            for row, place, path, guessed_too in self._by_last.get(key, ()) if key else ():
                ending = name[-(len(last) - len(bare)) :] if without_ending else ""
                path += ending
                if path in (name, whole):
                    fit = 0
                elif whole.endswith(f"/{path}"):  # the row lacks folders
                    fit = 1
                elif path.endswith(f"/{name}"):  # the file does
                    fit = 2
                else:
                    continue
                parts = -path.count("/") if fit < 2 else path.count("/")
                written = canonical(self._names[row][place])
                case = not f"/{canonical(source)}/{canonical(file)}".endswith(f"/{written}{ending}")
                yield (guessed or guessed_too, without_ending, place, fit, parts, case), row, place


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
    """``name``, and what it may have been before it was read in a wrong encoding: (name, whether a guess)."""
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
