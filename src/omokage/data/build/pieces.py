"""Handles all pictures and keeps their faces in pieces, until `finishing` makes the face set of them.

A piece is closed every few seconds and recorded in a state file. An interrupted build goes on after the last
closed piece. The clock decides where a piece ends, but the face set does not depend on it.
"""

import base64
import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError
from ...progress import Progress, opened
from ..engines.processes import Engine, Steps
from ..sources.beside import pictures
from ..sources.keys import Keys
from ..steps.read import kind_of, quiet
from ..store.columns import COLUMNS, ESTIMATED, EXTRA, FOUND
from ..store.format import json_bytes, parquet_bytes, write_file
from ..store.unfinished import STATE
from ..text import one_line
from .pipeline import BESIDE, Handled, lost
from .plan import Named, Plan

PIECE_SECONDS = 15.0
PIECE_FACES = 2048
PIECE_BYTES = 64 * 2**20
EXAMPLES = 12

_STORED = {
    **{name: COLUMNS[name] for name in ("done", "width", "height", "format", "sha256", "bytes")},
    "length": pa.int64(),  # of the deflated member in the piece
    "picture": pa.int64(),  # ordinal
    "other": pa.string(),  # JSON: the further columns of a table of labels
}
_AS_THEY_CAME = {name: FOUND[name] for name in ("source", "file", "key", "step", "reason")}


class Pieces:
    """The faces of an unfinished face set in the folder ``partial``; work that is there goes on.

    done: state of each piece, in order; long lists stay on the disk.
    """

    def __init__(self, partial: Path, plan: Plan) -> None:
        self.partial, self.plan = partial, plan
        self.state = partial / STATE
        self.done: list[dict[str, Any]] = []
        self.shown: Counter[str] = Counter()  # number of examples so far, by reason
        own = {**_AS_THEY_CAME, **ESTIMATED} if plan.as_faces else {**FOUND, **EXTRA, **FOUND}
        self.schema = pa.schema(list({**own, **_STORED}.items()))
        self._resume()

    def _resume(self) -> None:
        copying = self.shards.exists()
        for number in itertools.count():
            try:
                state = json.loads((self.state / f"{number:06d}.json").read_bytes())
                if not copying and (self.state / f"{number:06d}.faces").stat().st_size != state["bytes"]:
                    break
            except (FileNotFoundError, ValueError):
                break
            self._remember(state)
        for path in self.state.glob("[0-9]*"):
            if (
                not path.name[:6].isdigit()
                or int(path.name[:6]) >= len(self.done)
                or path.suffix == ".writing"
            ):
                path.unlink()

    @property
    def shards(self) -> Path:
        """The folder of notes on finished shards; while it exists, pieces may be gone."""
        return self.state / "shards"

    def _remember(self, state: dict[str, Any]) -> None:
        for reason, shown in state.pop("examples").items():
            self.shown[reason] += len(shown)
        state["rejected"] = sum(reason != BESIDE for *_, reason in state["rejected"])
        self.done.append(state)

    def long(self, number: int) -> dict[str, Any]:
        """The state of a piece with its long lists: rejected pictures, and examples by reason."""
        return json.loads((self.state / f"{number:06d}.json").read_bytes())

    def run(self, engine: Engine, progress: Progress | None) -> None:
        """Handle all pictures, starting where an interrupted run stopped."""
        if self.done and self.done[-1]["complete"]:
            return
        position = self.done[-1]["position"] if self.done else 0
        kept = sum(state["kept"] for state in self.done)
        out = sum(state["found"] - state["kept"] for state in self.done)
        out += sum(state["rejected"] for state in self.done) if self.plan.as_faces else 0
        totals = [source.total for source in self.plan.sources]
        total = None if None in totals else sum(t for t in totals if t is not None)
        keys = Keys()
        named = (
            Named(found, beside, keys(found.name), source.name)
            for source in self.plan.sources
            for found, beside in pictures(source, self.plan.options.label)
        )
        rest = itertools.islice(named, position, None)  # a key depends on all names before it
        piece = _Piece(self.schema)
        with quiet(), _one_thread(), opened(progress, "building", total) as task:
            task.advance(position)
            results = engine.run(rest, Steps(self.plan.job, self.plan.handler, lost))
            whole = True
            try:
                with closing(results):
                    for named_one, result in results:
                        whole = False
                        beside = len(named_one.beside)
                        piece.add(result, beside, position)
                        position += 1
                        whole = True
                        kept += sum(face.row["reason"] is None for face in result.faces)
                        out += sum(face.row["reason"] is not None for face in result.faces)
                        out += self.plan.as_faces and result.reason not in ("", BESIDE)
                        task.advance(1 + beside, f"{kept:,} kept, {out:,} left out")
                        if piece.full:
                            self._close(piece, position, False)
                            piece = _Piece(self.schema)
                            self._check_disk(position, total)
            except KeyboardInterrupt:
                if piece.pictures and whole:
                    self._close(piece, position, False)
                raise KeyboardInterrupt("repeat the command to go on") from None
            self._close(piece, position, True)

    def _close(self, piece: "_Piece", position: int, complete: bool) -> None:
        stem = self.state / f"{len(self.done):06d}"
        write_file(stem.with_suffix(".faces"), b"".join(piece.members))
        write_file(stem.with_suffix(".hashes"), b"".join(piece.signatures))
        write_file(stem.with_suffix(".rows"), parquet_bytes(piece.table()))
        state = {
            "bytes": piece.bytes,
            "pictures": piece.pictures,
            "beside": piece.beside,
            "found": len(piece.rows),
            "kept": len(piece.members),
            "rejected": piece.rejected,
            "labels": piece.bad_labels,
            "labels_named": piece.bad_named,
            "opted_out": dict(piece.opted_out),
            "examples": {
                reason: shown[: EXAMPLES - self.shown[reason]]
                for reason, shown in piece.examples.items()
                if self.shown[reason] < EXAMPLES
            },
            "position": position,
            "complete": complete,
        }
        # Written last: it marks the other files as complete.
        write_file(stem.with_suffix(".json"), json_bytes(state))
        self._remember(state)

    def _check_disk(self, position: int, total: int | None) -> None:
        used = sum(state["bytes"] for state in self.done)
        free = shutil.disk_usage(self.partial).free
        need = 0 if not total else used / position * max(total - position, 0)
        if free < need * 0.9 + 2**24:
            raise UserError(
                f"the disk will be full: about {need / 2**20:,.0f} MB more are needed and "
                f"{free / 2**20:,.0f} MB are free; make room and repeat the command, it goes on there"
            )

    def rows(self) -> pa.Table:
        """All faces found, in the order of the sources."""
        tables = [pq.read_table(self.state / f"{number:06d}.rows") for number in range(len(self.done))]
        return pa.concat_tables(tables).cast(self.schema)

    def detected(self, found: pa.Table) -> pa.Table:
        """The table of all faces found, kept or not, as it stays beside the index."""
        return found.select(list(FOUND)).cast(pa.schema(list(FOUND.items())))

    def refused(self) -> Iterator[list[str]]:
        """Pictures that were rejected as a whole: source, file, step, reason."""
        for number in range(len(self.done)):
            yield from self.long(number)["rejected"]

    def signatures(self, kind: np.dtype) -> np.ndarray:
        """The signatures of all kept faces."""
        blobs = [(self.state / f"{number:06d}.hashes").read_bytes() for number in range(len(self.done))]
        return np.frombuffer(b"".join(blobs), kind)

    def places(self, lengths: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        """The files of the pieces, and of each kept face the number of its file and its offset there."""
        counts = [state["kept"] for state in self.done]
        piece = np.repeat(np.arange(len(counts)), counts)
        before = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        starts = np.concatenate([[0], np.cumsum([state["bytes"] for state in self.done])])
        return [f"{n:06d}.faces" for n in range(len(counts))], piece, before - starts[piece]

    def members(self, lengths: np.ndarray, wanted: np.ndarray, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Ordinal and deflated member of the ``wanted`` faces (bool, of all kept faces) from ``start`` on."""
        ordinal = 0
        for number, state in enumerate(self.done):
            end = ordinal + state["kept"]
            if end > start and wanted[max(ordinal, start) : end].any():
                with open(self.state / f"{number:06d}.faces", "rb") as file:
                    for i in range(ordinal, end):
                        member = file.read(int(lengths[i]))
                        if i >= start and wanted[i]:
                            yield i, member
            ordinal = end

    def forget(self, following: int) -> None:
        """Delete the pieces whose faces are all before the face ``following``."""
        ordinal = 0
        for number, state in enumerate(self.done):
            ordinal += state["kept"]
            if ordinal <= following:
                (self.state / f"{number:06d}.faces").unlink(missing_ok=True)


class _Piece:
    def __init__(self, schema: pa.Schema) -> None:
        self._schema, self._started = schema, time.monotonic()
        self.members: list[bytes] = []
        self.signatures: list[bytes] = []
        self.rows: list[dict[str, Any]] = []
        self.rejected: list[tuple[str, str, str, str]] = []
        self.examples: dict[str, list[list[str]]] = {}
        self.pictures = self.beside = self.bad_labels = self.bytes = 0
        self.bad_named: list[str] = []  # the first unreadable files of labels, with the reason
        self.opted_out: Counter[int] = Counter()  # number of pictures, by number of the matching entry

    @property
    def full(self) -> bool:
        old = time.monotonic() - self._started >= PIECE_SECONDS
        return old or len(self.rows) >= PIECE_FACES or self.bytes >= PIECE_BYTES

    def add(self, picture: Handled, beside: int, position: int) -> None:
        self.pictures += 1
        self.beside += beside
        self.bad_labels += bool(picture.bad_labels)
        if picture.bad_labels and len(self.bad_named) < EXAMPLES:
            self.bad_named.append(picture.bad_labels)
        self.opted_out.update(picture.opted_out)
        name = f"{picture.source}/{picture.file}".rstrip("/")
        if picture.reason:
            self.rejected.append((picture.source, picture.file, picture.step, picture.reason))
            self._example(picture.reason, name, picture.thumbnail)
        for face in picture.faces:
            row = {**face.row, "picture": position}
            row["other"] = json.dumps(row["other"]) if row.get("other") else None
            if row["reason"] is None:
                row["length"] = len(face.member)
                self.bytes += len(face.member)
                self.members.append(face.member)
                self.signatures.append(face.signature)
            else:
                self._example(row["reason"], name, face.thumbnail)
            self.rows.append(row)

    def _example(self, reason: str, name: str, thumbnail: bytes) -> None:
        shown = self.examples.setdefault(kind_of(reason), [])
        if thumbnail and len(shown) < EXAMPLES:
            shown.append([one_line(name, 200), one_line(reason, 200), base64.b64encode(thumbnail).decode()])

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, self._schema)


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
