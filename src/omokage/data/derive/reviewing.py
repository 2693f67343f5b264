"""Verdicts by eye: a list of faces that were kept or rejected one by one.

The list is a CSV with the columns `sha256`, `key` and `verdict`; the last line on a face counts. Faces are
known by the SHA-256 of their bytes, so that the list serves every face set with the same pictures.
"""

import csv
import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import UserError
from ..text import decoded, one_line

KEEP, REJECT = "keep", "reject"
COLUMNS = ("sha256", "key", "verdict")
REJECTED_BY_EYE = "rejected by eye"


@dataclass
class Review:
    """Verdicts by the hex SHA-256 of a face. described: for a manifest."""

    verdicts: dict[str, str] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)

    def rejected(self, index: pa.Table) -> np.ndarray:
        """Which rows of an index are rejected: bool (N,)."""
        digests = index["sha256"].to_pylist()
        return np.array([self.verdicts.get(digest.hex()) == REJECT for digest in digests], bool)


def read_review(path: str | Path) -> Review:
    """The verdicts in a list; `UserError` if it cannot be read."""
    path = Path(path).expanduser()
    shown = f"the review {one_line(path)}"
    try:
        data = path.read_bytes()
        rows = list(csv.reader(io.StringIO(decoded(data), newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{shown} cannot be read: {one_line(error)}") from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise UserError(f"{shown}: the first line must be {','.join(COLUMNS)}")
    review = Review()
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(COLUMNS) or len(row[0]) != 64 or row[2] not in (KEEP, REJECT, ""):
            raise UserError(f"{shown}: line {number} is no verdict: a SHA-256, a key, and keep or reject")
        review.verdicts[row[0]] = row[2]  # an empty one takes an earlier one back
    review.described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}
    return review


class Verdicts:
    """A list of verdicts that is being written, one line at a time.

    Raises `UserError` if the file is there and is no such list, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.review = read_review(self.path) if self.path.exists() else Review()
        try:
            self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115 - closed by close
        except OSError as error:
            raise UserError(f"{one_line(self.path)} cannot be written: {one_line(error.strerror)}") from None
        if self.path.stat().st_size == 0:
            self._write(COLUMNS)

    def add(self, digest: str, key: str, verdict: str) -> None:
        """Write down a verdict, `KEEP` or `REJECT`; "" takes an earlier one back."""
        self._write((digest, key, verdict))
        self.review.verdicts[digest] = verdict

    def _write(self, row: tuple[str, ...]) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(row)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
