"""Labels of many pictures in one table: CSV, JSON lines, or a JSON object keyed by picture names.

`matching` finds out which picture a row belongs to.
"""

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..text import decoded, one_line
from .labels import TABLES, Labels
from .matching import Met, Rows
from .record import from_record

PICTURE_NAMES = ("file", "filename", "md5")
_NAMES = (*PICTURE_NAMES, "id")
_FIRST_IS_A_PICTURE = re.compile(
    r'\s*\{\s*"[^"\\]+\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif)"\s*:', re.IGNORECASE
)
_KNOWN = ("file", "tags", "rating", "artist", "license", "url")  # columns with a meaning of their own


def is_table(name: str, data: bytes) -> bool:
    """Whether a file has labels of many pictures by name, as `LabelTable` reads them.

    A JSON object whose first key is the name of a picture counts too, like the `boxes.json` of drawn
    illustrations. Only the beginning of the file is checked.

    >>> is_table("factors.csv", b"file,hair\\n0.png,blue\\n"), is_table("0.json", b'{"tags": "smile"}')
    (True, False)
    """
    if not name.lower().endswith(TABLES):
        return False
    try:
        text = decoded(data[: 2**16], zeros=True).lstrip()
    except ValueError:  # the cut may also divide a letter
        text = data[: 2**16].decode("utf-8-sig", "ignore").lstrip()
    if name.lower().endswith(".csv"):
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
        except csv.Error:
            return False
        return "file" in header and len(header) > 1
    if _FIRST_IS_A_PICTURE.match(text):
        return True
    listed = text.startswith("[")
    try:
        record, end = json.JSONDecoder().raw_decode(text[1:].lstrip() if listed else text)
    except (ValueError, RecursionError):
        return False
    several = (text[1:].lstrip() if listed else text)[end:].lstrip(" ,\r\n")[:1] == "{"
    return isinstance(record, dict) and several and any(record.get(key) for key in _NAMES)


class LabelTable:
    """Labels by file name: a CSV with a column `file`, or JSON lines with `file`, `filename`, `md5` or `id`.

    verbatim: every column of a CSV is a further column, whatever its name; JSON is refused.

    columns: the names of further columns, which go to the index unchanged.
    met: which rows matched a file, once `meet` was called.
    """

    def __init__(self, path: str | Path, taken: Iterable[str] = (), verbatim: bool = False) -> None:
        import hashlib

        path = Path(path).expanduser()
        try:
            data = path.read_bytes()
            text = decoded(data)
        except (OSError, ValueError) as error:
            raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
        self.described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}
        self.columns: list[str] = []
        self.met: Met | None = None
        self._labels: list[Labels] = []
        self._names: list[list[str]] = []
        if text.lstrip()[:1] in ("{", "[") and not verbatim:
            self._read_json(text, path)
        else:
            self._read_csv(text, path, {"file"} if verbatim else _KNOWN)
        if clash := set(self.columns) & set(taken):
            raise UserError(f"labels {one_line(path)}: the column {min(clash)!r} needs another name")
        self._rows = Rows(self._names, lambda a, b: self._labels[a] == self._labels[b], one_line(path))

    def __len__(self) -> int:
        return len(self._labels)

    def _read_csv(self, text: str, path: Path, known: Collection[str]) -> None:
        header, rows = read_table(text, path)
        self.columns = [one_line(name) for name in header if name not in known]
        for row in rows:
            record = dict(zip(header, row, strict=True))
            other = tuple((one_line(k), v) for k, v in record.items() if k not in known and v)
            told = {k: v.replace("|", ",") if k == "tags" else v for k, v in record.items()}
            told = told if "tags" in known else {}
            self._labels.append(replace(from_record(told, posters=False), other=other))
            self._names.append([record["file"]] if record["file"] else [])

    def _read_json(self, text: str, path: Path) -> None:
        try:
            for record in records(text):
                if not isinstance(record, dict):
                    raise ValueError("a record that is not an object")
                called = (record.get(key) for key in _NAMES)
                names = [str(name) for name in called if isinstance(name, str | int) and name]
                if not names:
                    raise ValueError("a record without file, filename, md5 or id")
                self._labels.append(from_record(record))
                self._names.append(names)
        except (ValueError, RecursionError) as error:
            raise UserError(f"labels {one_line(path)}: {one_line(error, 120)}") from None

    def meet(self, files: Iterable[tuple[int, str, str]]) -> Met:
        """Find the rows of all files, see `matching.Rows.meet`."""
        self.met = self._rows.meet(files)
        return self.met

    def get(self, file: str, source: str = "") -> Labels | None:
        """The labels in the row of a file; None if it has no row. See `matching.Rows`."""
        if self.met is not None:
            row = self.met.places.get((source, one_line(file, 1000)))
        else:
            row = self._rows.best(source, file)
        return None if row is None else self._labels[row]


def read_table(text: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV that names files in a column `file`, and its rows, all as long as the header.

    Raises `UserError` if the text is not such a CSV.
    """
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
    header = rows[0] if rows else []
    if "file" not in header or len(set(header)) != len(header):
        raise UserError(f"labels {one_line(path)}: the first line must name columns, one of them `file`")
    for number, row in enumerate(rows[1:], 2):
        if row and len(row) != len(header):
            counts = f"{len(row)} columns, not {len(header)}"
            raise UserError(f"labels {one_line(path)}: line {number} has {counts}")
    return header, [row for row in rows[1:] if row]


def records(text: str) -> Iterator[Any]:
    """The records of a JSON list, of JSON lines, or of a JSON object keyed by picture names."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    if _FIRST_IS_A_PICTURE.match(text):
        with suppress(ValueError):  # otherwise it is JSON lines
            by_name = json.loads(text)
            if all(isinstance(record, dict) for record in by_name.values()):
                yield from ({**record, "file": name} for name, record in by_name.items())
                return
    yield from (json.loads(line) for line in text.splitlines() if line.strip())
