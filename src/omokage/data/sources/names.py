"""Labels from the names of files: their folder, or the named groups of a regular expression.

The library `regex` does the matching: it has the syntax of `re`, and a time limit. So an expression that is
too slow on some name ends in an error message instead of a process that hangs.
"""

import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import regex

from ...errors import UserError
from ..text import one_line
from .labels import Labels, merge
from .record import from_record
from .source import Source

FOLDER = "folder"
YEAR = "year"
YEAR_IN_NAMES = r"[_-](?P<year>(?:1[89]|20)[0-9]{2})[.][^./]*$"
"""The year in names like ``INDEX_YEAR.jpg``."""

LABEL = "label"  # column of labels that a source has itself, and of folder names
MAX_PATTERN = 1000
MAX_SIZE = 20_000
"""Most letters of an expression with its repetitions written out; compiling it takes time for each."""

ONE_NAME_SECONDS = 2.0
ALL_NAMES_SECONDS = 20.0
"""Seconds that matching may take, in addition to a tenth of a millisecond per name."""

EXAMPLES = 3


@dataclass(frozen=True)
class Met:
    """Number of names that gave labels, number of those that did not, and the first few of the latter."""

    matched: int
    unmatched: int
    examples: tuple[str, ...] = ()

    @property
    def described(self) -> dict[str, Any]:
        """As JSON, for a manifest."""
        return {"matched": self.matched, "unmatched": self.unmatched, "examples": list(self.examples)}


_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*)(?:,(\d*))?\}|.", re.DOTALL)


def _written_out(pattern: str) -> int:
    """The number of letters of an expression when every ``{N}`` is written out.

    >>> _written_out("(ab{3}){10}") > 10 * (1 + 3)
    True
    """
    open_groups: list[list[int]] = [[]]
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            open_groups.append([])
        elif text == ")" and len(open_groups) > 1:
            inner = sum(open_groups.pop()) + 1
            open_groups[-1].append(inner)
        elif text[0] == "{" and len(text) > 1 and open_groups[-1]:
            open_groups[-1][-1] *= max(1, *(int(number[:9]) for number in token.groups() if number), 1)
        else:
            open_groups[-1].append(1)
    return sum(map(sum, open_groups))


LABELS = ("tags", "rating", "artist", "license", "url")
"""Groups that, for illustrations, have the same meaning as in files beside pictures."""


def with_named(row: Labels | None, named: dict[str, str]) -> Labels:
    """The labels of a picture from a table (or None) and from the groups of its name.

    If both name an artist, both names count, so that an opt-out of either is respected. Of two ratings, the
    stricter one counts.

    >>> with_named(Labels(artist="mori"), {"artist": "rin", "set": "2"}).artist
    'mori|rin'
    """
    row = row or Labels()
    said = from_record({name: value for name, value in named.items() if name in LABELS})
    artists = [name for labels in (row, said) if labels.artist for name in labels.artist.split("|")]
    other = {**{name: value for name, value in named.items() if name not in LABELS}, **dict(row.other)}
    return replace(
        merge(row, said), artist="|".join(dict.fromkeys(artists)) or None, other=tuple(other.items())
    )


class NameLabels:
    """Labels from the name of a file in its source, including its folders, separated by ``/``.

    how: `FOLDER`: the column `LABEL` is the name of the folder that the file is in. `YEAR`: the column `year`
        is the year in names like ``INDEX_YEAR.jpg``. Otherwise a regular expression that is searched for in
        the name; each named group, like ``(?P<artist>[^/]+)/``, is a column.
    several: whether there are several sources. Then a file without a folder, or without a match, is also
        tried with the name of its source before it.
    option: name of the option for ``how`` in messages.

    columns: the names of the columns.

    Raises `UserError` for an expression that is not valid or has no named group.

    >>> NameLabels(FOLDER)("faces", "by hand/rin/1.png")
    {'label': 'rin'}
    >>> NameLabels("(?P<who>[^/]+)/(?P<number>[0-9]+)[.]")("faces", "rin/1.png")
    {'who': 'rin', 'number': '1'}
    >>> NameLabels(FOLDER)("faces", "1.png") is None
    True
    """

    def __init__(self, how: str, *, several: bool = False, option: str = "--labels-from") -> None:
        self.how, self.several, self._option = how, several, option
        self._spent = 0.0
        self._asked = 0
        self._pattern: Any = None
        self.columns: list[str] = [LABEL]
        if how == FOLDER:
            return
        how = YEAR_IN_NAMES if how == YEAR else how
        shown = f"{option} {one_line(how, 80)!r}"
        if len(how) > MAX_PATTERN:
            raise UserError(f"{shown} has {len(how):,} letters: give {MAX_PATTERN:,} at most")
        if _written_out(how) > MAX_SIZE:
            raise UserError(f"{shown} repeats too much: {{N}} multiplies the part before it")
        try:
            self._pattern = regex.compile(unicodedata.normalize("NFC", how))
        except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
            why = one_line(error, 100) or "too deep"
            raise UserError(f"{shown} is not a regular expression: {why}") from None
        groups = self._pattern.groupindex
        self.columns = sorted(groups, key=groups.__getitem__)
        if not self.columns:
            raise UserError(
                f"{shown} names no group: write {FOLDER}, or a regular expression with named groups, such as "
                "'(?P<artist>[^/]+)/'"
            )

    @property
    def described(self) -> dict[str, Any]:
        """Everything that determines the labels, as JSON."""
        return {"from": self.how, "several": self.several}

    def refuse_columns(self, taken: Iterable[str], whose: str) -> None:
        """Raises `UserError` if a column is among ``taken``. whose: what those are, for the message."""
        if clash := sorted(set(self.columns) & set(taken)):
            raise UserError(
                f"{self._option}: the column {clash[0]!r} is there already, as {whose}: "
                "give the group another name"
            )

    def __call__(self, source: str, file: str) -> dict[str, str] | None:
        """The labels of a file; None if its name gives none; `UserError` if matching takes too long."""
        name = unicodedata.normalize("NFC", one_line(file, 1000))
        found = self._labels(name)
        return self._labels(f"{source}/{name}") if found is None and self.several else found

    def _labels(self, name: str) -> dict[str, str] | None:
        if self._pattern is None:
            folder = name.rpartition("/")[0].rpartition("/")[2].strip()
            return {LABEL: folder} if folder else None
        self._asked += 1
        started = time.thread_time()
        try:
            match = self._pattern.search(name, timeout=ONE_NAME_SECONDS)
        except (TimeoutError, MemoryError, RecursionError):
            raise self._too_slow(name) from None
        self._spent += time.thread_time() - started
        if self._spent > ALL_NAMES_SECONDS + 1e-4 * self._asked:
            raise self._too_slow(name)
        found = {} if match is None else match.groupdict()
        found = {column: one_line(value, 500).strip() for column, value in found.items() if value}
        return {column: value for column, value in found.items() if value} or None

    def _too_slow(self, name: str) -> UserError:
        return UserError(
            f"{self._option} {one_line(self.how, 80)!r} takes too long, as on {one_line(name, 80)!r}: "
            "write it without repetitions inside repetitions, such as ([a-z]+)+"
        )

    def check(self, sources: Sequence[Source]) -> None:
        """Raises `UserError` if no file name matches, or if matching takes too long.

        Only sources that know the names beforehand are checked.
        """
        known = [source for source in sources if source.total is not None]
        asked, first = 0, ""
        met = False
        for source in known:
            for found in source:
                met = self(source.name, found.name) is not None or met
                asked, first = asked + 1, first or found.name
        if asked and not met and len(known) == len(sources):
            what = "no file lies in a folder" if self._pattern is None else "no name meets it"
            raise UserError(
                f"{self._option} {one_line(self.how, 80)}: {what}, of {asked:,} such as "
                f"{one_line(first, 80)!r}"
            )

    def table(self, source: pa.ChunkedArray, file: pa.ChunkedArray) -> tuple[list[dict[str, str]], Met]:
        """The labels of every row of an index ({} for none), and how many different names matched."""
        places = list(zip(source.to_pylist(), file.to_pylist(), strict=True))
        known = {place: self(*place) for place in dict.fromkeys(places)}
        without = [file for (_, file), labels in known.items() if labels is None]
        met = Met(len(known) - len(without), len(without), tuple(without[:EXAMPLES]))
        return [known[place] or {} for place in places], met

    def join(self, index: pa.Table) -> tuple[pa.Table, Met]:
        """``index`` with the columns added, null where a name gives no label."""
        rows, met = self.table(index["source"], index["file"])
        for name in self.columns:
            index = index.append_column(name, pa.array([row.get(name) for row in rows], pa.string()))
        return index, met


def told(met: dict[str, Any] | None) -> list[str]:
    """The line that a command prints about `Met.described`; an empty list for None."""
    if met is None:
        return []
    total = met["matched"] + met["unmatched"]
    line = f"{met['matched']:,} of {total:,} names gave labels"
    if met["unmatched"]:
        shown = ", ".join(repr(one_line(name, 60)) for name in met["examples"])
        line += f"; {met['unmatched']:,} did not, such as {shown}"
    return [line]
