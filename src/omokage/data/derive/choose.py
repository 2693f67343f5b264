"""Chooses rows of a face set by conditions on the columns of its index; `optout` applies opt-out lists."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import UserError
from ..store.columns import as_numbers, as_text, column, has_column, is_numeric
from ..store.faceset import FaceSet
from ..text import one_line

_CONDITION = re.compile(r"([^=!<>~]+?)\s*(!=|>=|<=|=|<|>|~)\s*(.*)", re.DOTALL)


def known_column(index: pa.Table, name: str) -> str:
    """``name``; `UserError` with the nearest names if the index has no such column."""
    if has_column(index, name):
        return name
    near = get_close_matches(name, index.column_names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "it has " + ", ".join(index.column_names)
    raise UserError(f"the face set has no column {one_line(name)!r}: {hint}")


def where(index: pa.Table, conditions: Sequence[str]) -> np.ndarray:
    """Which rows meet all ``conditions``: bool (N,).

    A condition is COLUMN=VALUE, COLUMN!=VALUE, COLUMN~PART (contains it) or, for numbers, COLUMN<VALUE and so
    on. If a row has several values joined by a vertical bar, one of them is enough. COLUMN= finds rows
    without a value.

    >>> where(pa.table({"hair": ["blonde", "black|blue", None]}), ["hair=blue"])
    array([False,  True, False])
    """
    met = np.ones(len(index), bool)
    for condition in conditions:
        match = _CONDITION.fullmatch(condition.strip())
        if match is None:
            raise UserError(
                f"the condition {one_line(condition)!r} is not understood: write COLUMN=VALUE, like "
                "hair=blonde; also !=, <, <=, >, >= and ~ (contains)"
            )
        name, sign, value = match[1].strip(), match[2], match[3].strip()
        met &= _meets(column(index, known_column(index, name)), name, sign, value)
    return met


def chosen_rows(faces: FaceSet, conditions: Sequence[str]) -> np.ndarray:
    """The rows of ``faces`` that meet all ``conditions``, ascending: int64 (N,).

    Raises `UserError` for a condition that cannot be asked, or if no face meets them all.
    """
    rows = np.nonzero(where(faces.index, conditions))[0]
    if not len(rows):
        why = nearest(faces.index, conditions) or "`omokage faces stats` lists the labels"
        raise UserError(f"no face of {one_line(faces.path)} meets the conditions: {why}")
    return rows


def chosen(faces: FaceSet, conditions: Sequence[str]) -> FaceSet:
    """``faces`` that meet all ``conditions``, as a face set in memory; its files are those of the whole.

    Raises `UserError` as `chosen_rows`.
    """
    if not conditions:
        return faces
    rows = chosen_rows(faces, conditions)
    return faces.subset(rows, {"by": "where", "of": faces.content_hash, "where": list(conditions)})


def numbers_of(index: pa.Table, name: str) -> np.ndarray:
    """A column as float64 (N,), NaN where it is empty; `UserError` if it does not hold numbers."""
    try:
        return as_numbers(column(index, known_column(index, name)))
    except pa.ArrowInvalid:
        raise UserError(f"the column {name!r} does not hold numbers") from None


def _meets(column: pa.ChunkedArray, name: str, sign: str, value: str) -> np.ndarray:
    if sign in ("<", "<=", ">", ">=") or (is_numeric(column) and value and sign != "~"):
        try:
            wanted = float(value)
        except ValueError:
            raise UserError(f"{name}{sign}{one_line(value)}: {one_line(value)!r} is not a number") from None
        try:
            numbers = as_numbers(column)
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


def nearest(index: pa.Table, conditions: Sequence[str]) -> str:
    """Suggestions for conditions whose value no row has, as text; "" if every value occurs.

    >>> nearest(pa.table({"hair": ["blonde", "black|blue", None]}), ["hair=blond"])
    "hair has no 'blond', did you mean 'blonde'?"
    >>> nearest(pa.table({"hair": ["blonde", "red"]}), ["hair=Red", "hair~on"])
    "hair has no 'Red', did you mean 'red'?"
    """
    told = []
    for condition in conditions:
        match = _CONDITION.fullmatch(condition.strip())
        if match is None or match[1].strip() not in index.column_names:
            continue
        name, sign, value = match[1].strip(), match[2], match[3].strip()
        known = described_column(index, name).get("values", {})
        if sign not in ("=", "!=", "~") or not value or value in known or not known:
            continue
        if sign == "~" and any(value.lower() in one.lower() for one in known):
            continue
        by_case = {one.lower(): one for one in reversed(known)}
        near = get_close_matches(value.lower(), by_case, n=1)
        others = "it has " + ", ".join(map(one_line, list(known)[:8])) + (", ..." if len(known) > 8 else "")
        hint = f"did you mean {one_line(by_case[near[0]])!r}?" if near else others
        told.append(f"{name} has no {one_line(value)!r}, {hint}")
    return "; ".join(told)


def nothing_left(unknown: str) -> str:
    """Why no face is left, as text. ``unknown``: what `nearest` returned for the conditions."""
    why = "nothing would be left: no face meets the conditions, or all that do are opted out"
    return f"{why}: {unknown}" if unknown else why


def described_column(index: pa.Table, name: str) -> dict[str, Any]:
    """The distribution of a column's values, as JSON.

    For numbers: how many are known, lowest, median, highest. For text: how many are known, and how many rows
    have each value; each of several values joined by a vertical bar counts.
    """
    values_of = column(index, name)
    if is_numeric(values_of):
        numbers = as_numbers(values_of.drop_null())
        numbers = numbers[np.isfinite(numbers)]
        spread = (
            dict(zip(("lowest", "median", "highest"), np.quantile(numbers, (0, 0.5, 1)), strict=True))
            if len(numbers)
            else {}
        )
        return {"known": len(numbers), **{key: float(value) for key, value in spread.items()}}
    text = as_text(values_of)
    parts = pc.split_pattern(text, "|").combine_chunks()
    values = pc.utf8_trim_whitespace(pc.list_flatten(parts))
    counts = pc.value_counts(values.filter(pc.not_equal(values, "")))
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    known = int(pc.sum(pc.not_equal(text, "")).as_py() or 0)
    return {"known": known, "values": dict(ordered)}
