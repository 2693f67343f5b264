"""Choosing rows of a face set: by conditions on the columns of its index, and without those who opted out."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from .read import Unreadable, one_line, read_file

_CONDITION = re.compile(r"([^=!<>~]+?)\s*(!=|>=|<=|=|<|>|~)\s*(.*)", re.DOTALL)
_MAX_LIST_BYTES = 64 * 2**20


def known_column(index: pa.Table, name: str) -> str:
    """``name``; `UserError` with the nearest names if the index has no such column."""
    if name in index.column_names:
        return name
    near = get_close_matches(name, index.column_names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "it has " + ", ".join(index.column_names)
    raise UserError(f"the face set has no column {one_line(name)!r}: {hint}")


def where(index: pa.Table, conditions: Sequence[str]) -> np.ndarray:
    """Which rows meet all ``conditions``: bool (N,).

    A condition is COLUMN=VALUE, COLUMN!=VALUE, COLUMN~PART (contains it) or, for numbers, COLUMN<VALUE and so
    on. Where several values are joined by a vertical bar, one is enough. COLUMN= finds what is not known.

    >>> where(pa.table({"hair": ["blonde", "black|blue", None]}), ["hair=blue"])
    array([False,  True, False])
    """
    chosen = np.ones(len(index), bool)
    for condition in conditions:
        match = _CONDITION.fullmatch(condition.strip())
        if match is None:
            raise UserError(
                f"the condition {one_line(condition)!r} is not understood: write COLUMN=VALUE, like "
                "hair=blonde; also !=, <, <=, >, >= and ~ (contains)"
            )
        name, sign, value = match[1].strip(), match[2], match[3].strip()
        chosen &= _meets(index[known_column(index, name)], name, sign, value)
    return chosen


def _meets(column: pa.ChunkedArray, name: str, sign: str, value: str) -> np.ndarray:
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if sign in ("<", "<=", ">", ">=") or (numeric and value and sign != "~"):
        try:
            wanted = float(value)
        except ValueError:
            raise UserError(f"{name}{sign}{one_line(value)}: {one_line(value)!r} is not a number") from None
        try:
            numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            raise UserError(f"{name}{sign}{value}: the column {name!r} does not hold numbers") from None
        known = ~np.isnan(numbers)
        met = {
            "<": numbers < wanted,
            "<=": numbers <= wanted,
            ">": numbers > wanted,
            ">=": numbers >= wanted,
            "=": numbers == wanted,
            "!=": numbers != wanted,
        }[sign]
        return known & met
    text = as_text(column)
    if sign == "~":
        return pc.match_substring(text, value, ignore_case=True).to_numpy()
    parts = pc.split_pattern(text, "|").combine_chunks()
    equal = pc.equal(pc.utf8_trim_whitespace(pc.list_flatten(parts)), value).to_numpy(zero_copy_only=False)
    met = np.zeros(len(text), bool)
    met[pc.list_parent_indices(parts).to_numpy()[equal]] = True
    return ~met if sign == "!=" else met


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """``column`` as strings, "" where nothing is known, hashes as hex digits."""
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.chunked_array([pa.array([v.hex() if v else "" for v in column.to_pylist()], pa.string())])
    try:
        return pc.fill_null(pc.cast(column, pa.string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # lists and other nests
        values = ["" if v is None else str(v) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.string())])


@dataclass(frozen=True)
class OptOut:
    """Who does not want to be in a face set.

    hashes: hex SHA-256 of pictures; artists: names in lower case; described: name and hash of the list.
    """

    hashes: frozenset[str]
    artists: frozenset[str]
    described: dict[str, str] = field(default_factory=dict)

    def rows(self, index: pa.Table) -> np.ndarray:
        """Which rows are theirs, by any column of hashes (`sha256`, `..._sha256`) or `artist`: bool (N,)."""
        theirs = np.zeros(len(index), bool)
        for name in index.column_names:
            if name == "sha256" or name.endswith("_sha256"):
                theirs |= pc.is_in(
                    pc.utf8_lower(as_text(index[name])), pa.array(self.hashes, pa.string())
                ).to_numpy()
        if "artist" in index.column_names and self.artists:
            parts = pc.split_pattern(pc.utf8_lower(as_text(index["artist"])), "|").combine_chunks()
            names = pc.utf8_trim_whitespace(pc.list_flatten(parts))
            hit = pc.is_in(names, pa.array(self.artists, pa.string())).to_numpy(zero_copy_only=False)
            theirs[pc.list_parent_indices(parts).to_numpy()[hit]] = True
        return theirs


def read_opt_out(path: str | Path) -> OptOut:
    """Read a list: on each line the SHA-256 of a picture or the name of an artist; # begins a remark.

    Raises `UserError` if it cannot be read or names nobody.
    """
    path = Path(path).expanduser()
    try:
        data = read_file(path, _MAX_LIST_BYTES)
        text = data.decode("utf-8-sig")
    except Unreadable as error:
        raise UserError(f"the opt-out list {one_line(path)} cannot be used: {error}") from None
    except UnicodeDecodeError:
        raise UserError(f"the opt-out list {one_line(path)} is not text in UTF-8") from None
    hashes, artists = set(), set()
    for line in text.splitlines():
        entry = re.split(r"(?:^|\s)#", line)[0].strip().lower()
        if re.fullmatch(r"[0-9a-f]{64}", entry):
            hashes.add(entry)
        elif entry.removeprefix("artist:").strip():
            artists.add(entry.removeprefix("artist:").strip())
    if not hashes and not artists:
        raise UserError(f"the opt-out list {one_line(path)} names neither a SHA-256 nor an artist")
    described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}
    return OptOut(frozenset(hashes), frozenset(artists), described)


def label_columns(index: pa.Table) -> list[str]:
    """The columns that are no part of every face set."""
    from .faceset import COLUMNS

    return [name for name in index.column_names if name not in COLUMNS]


def described_column(index: pa.Table, name: str) -> dict[str, Any]:
    """How the values of a column are spread, as JSON.

    Numbers: known, lowest, median, highest. Words: known, and how many rows have each value; where several
    are joined by a vertical bar each counts.
    """
    column = index[name]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = pc.cast(column.drop_null(), pa.float64()).to_numpy(zero_copy_only=False)
        numbers = numbers[np.isfinite(numbers)]
        spread = (
            dict(zip(("lowest", "median", "highest"), np.quantile(numbers, (0, 0.5, 1)), strict=True))
            if len(numbers)
            else {}
        )
        return {"known": len(numbers), **{key: float(value) for key, value in spread.items()}}
    text = as_text(column)
    parts = pc.split_pattern(text, "|").combine_chunks()
    values = pc.utf8_trim_whitespace(pc.list_flatten(parts))
    counts = pc.value_counts(values.filter(pc.not_equal(values, "")))
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    known = int(pc.sum(pc.not_equal(text, "")).as_py() or 0)
    return {"known": known, "values": dict(ordered)}
