"""Builds a face set from illustrations: an engine handles the pictures; the faces are written in pieces.

A piece is closed every few seconds and recorded in a state file. An interrupted build goes on after the last
closed piece. When all pictures are done, duplicates are found, and the kept faces are copied from the pieces
to the shards. A piece is deleted as soon as all of its faces are copied. The clock decides where a piece
ends, but the face set does not depend on it.
"""

import base64
import csv
import io
import itertools
import json
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial as fixed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ... import __version__
from ...errors import UserError
from ...progress import Progress, opened
from ..engines.processes import Engine, Steps
from ..sources.beside import names_in, pictures
from ..sources.labels import LabelTable
from ..sources.names import LABELS, NameLabels, with_named
from ..sources.source import Found, Keys, Source, natural
from ..steps.read import kind_of, quiet
from ..store.columns import COLUMNS, EXTRA, FOUND
from ..store.format import (
    FORMAT,
    INDEX,
    KIND,
    MANIFEST,
    REJECTED,
    REPORT,
    content_hash,
    json_bytes,
    parquet_bytes,
    shard_name,
    write_file,
)
from ..store.manifest import read_manifest
from ..store.shards import ShardWriter
from ..store.unfinished import STATE, begin
from ..text import one_line
from .pipeline import CLOSE_UP, Handled, Handler, Job, Options, Tools, found_before, lost, thumbnail_of
from .report import SHOWN, spread, write_report

PIECE_SECONDS = 15.0
PIECE_FACES = 2048
DETECTED = "detected.parquet"
EXAMPLES = 12


_ROW = {
    **FOUND,
    **{name: kind for name, kind in EXTRA.items() if name not in FOUND},
    "done": pa.string(), "width": COLUMNS["width"], "height": COLUMNS["height"], "format": pa.string(),
    "sha256": pa.string(), "bytes": COLUMNS["bytes"],
    "length": pa.int64(),  # of the deflated member in the piece
    "picture": pa.int64(),  # ordinal
    "other": pa.string(),  # JSON: the further columns of a table of labels
}  # fmt: skip
"""Columns that are kept for a face while the set is unfinished."""


class Pieces:
    """The unfinished face set in ``partial``."""

    def __init__(self, partial: Path, plan: dict[str, Any], handler: Handler) -> None:
        self.partial, self.plan, self.handler, self.options = partial, plan, handler, handler.options
        self.state = partial / STATE
        self.done: list[dict[str, Any]] = []  # state of each piece, in order; long lists stay on the disk
        self.shown: Counter[str] = Counter()  # number of examples so far, by reason
        begin(partial, plan)
        self._resume()

    def _resume(self) -> None:
        copying = (self.state / "shards.json").exists()
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

    def _remember(self, state: dict[str, Any]) -> None:
        for reason, shown in state.pop("examples").items():
            self.shown[reason] += len(shown)
        state["rejected"] = len(state["rejected"])
        self.done.append(state)

    def _long(self, number: int) -> dict[str, Any]:
        """The state of a piece, with the long lists that `_remember` drops."""
        return json.loads((self.state / f"{number:06d}.json").read_bytes())

    def run(
        self,
        sources: Sequence[Source],
        table: LabelTable | None,
        before: "Before | None",
        by_name: NameLabels | None,
        engine: Engine,
        progress: Progress | None,
    ) -> None:
        """Handle all pictures, starting where an interrupted run stopped."""
        if self.done and self.done[-1]["complete"]:
            return
        position = self.done[-1]["position"] if self.done else 0
        kept = sum(state["kept"] for state in self.done)
        found = sum(state["found"] for state in self.done)
        totals = [source.total for source in sources]
        total = None if None in totals else sum(t for t in totals if t is not None)
        keys = Keys()
        named = (
            _Named(found, beside, keys(found.name), source.name)
            for source in sources
            for found, beside in pictures(source, self.options.label)
        )
        rest = itertools.islice(named, position, None)  # a key depends on all names before it
        piece = _Piece()
        with quiet(), _one_thread(), opened(progress, "building", total) as task:
            task.advance(position)
            load = fixed(_job, table=table, before=before, by_name=by_name)
            results = engine.run(rest, Steps(load, self.handler, lost))
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
                        found += len(result.faces)
                        task.advance(1 + beside, f"{kept:,} faces kept, {found - kept:,} left out")
                        if piece.old or len(piece.rows) >= PIECE_FACES:
                            self._close(piece, position, False)
                            piece = _Piece()
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
        write_file(stem.with_suffix(".rows"), json.dumps(piece.rows, separators=(",", ":")).encode())
        state = {
            "bytes": sum(map(len, piece.members)),
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

    def finish(
        self, table: LabelTable | None, by_name: NameLabels | None, progress: Progress | None
    ) -> None:
        """Find duplicates, then write shards, index, lists and report from the pieces."""
        found = pa.concat_tables([self._rows(number) for number in range(len(self.done))])
        kept_so_far = found["reason"].is_null().to_numpy()
        candidates = found.filter(pa.array(kept_so_far)).select(("key", "bytes", "length"))
        sizes = candidates["bytes"].to_numpy().astype(np.int64)
        groups = np.arange(len(candidates))
        keep = np.ones(len(candidates), bool)
        if self.options.duplicates and len(candidates):
            from ..derive.duplicates import SIGNATURE, best_of_groups, duplicate_groups

            blobs = [(self.state / f"{n:06d}.hashes").read_bytes() for n in range(len(self.done))]
            signatures = np.frombuffer(b"".join(blobs), SIGNATURE)
            groups = duplicate_groups(signatures, mirrored=self.options.mirrored, progress=progress)
            keep = best_of_groups(groups, signatures, sizes)
            del blobs, signatures
            found = _without_copies(found, kept_so_far, candidates["key"], groups, keep)
        pictures_found = sum(state["pictures"] for state in self.done)
        if not keep.any():
            reasons = Counter(kind_of(reason) for *_, reason in self._refused())
            reasons.update(_kinds(found["reason"]))
            shutil.rmtree(self.partial)
            raise UserError(_nothing(pictures_found, len(found), reasons))
        lengths = candidates["length"].to_numpy()
        examples = self._examples(lengths, sizes, groups, keep)
        shards, places = self._shards(lengths, keep, progress)
        index = _index(found.filter(found["reason"].is_null()), places, _other_columns(table, by_name))
        manifest = self._manifest(found, index, shards, groups, keep, table)
        if by_name is not None:
            _, met = by_name.table(index["source"], index["file"])
            manifest["counts"]["names"] = met.described
        write_file(self.partial / REJECTED, self._rejected_csv(found).encode())
        detected = found.select(list(FOUND)).cast(pa.schema(list(FOUND.items())))
        write_file(self.partial / DETECTED, parquet_bytes(detected))
        write_file(self.partial / INDEX, parquet_bytes(index))
        write_file(self.partial / REPORT, write_report(manifest, index, detected, examples).encode())
        write_file(self.partial / MANIFEST, json_bytes(manifest))

    def _rows(self, number: int) -> pa.Table:
        """The faces of a piece, with the columns `_ROW`."""
        rows = json.loads((self.state / f"{number:06d}.rows").read_bytes())
        for row in rows:
            if "other" in row:
                row["other"] = json.dumps(row["other"])
        return pa.Table.from_pylist(rows, pa.schema(list(_ROW.items())))

    def _refused(self) -> Iterator[list[str]]:
        """Pictures that were rejected as a whole: source, file, step, reason."""
        for number in range(len(self.done)):
            yield from self._long(number)["rejected"]

    def _rejected_csv(self, found: pa.Table) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("file", "reason", "step", "face"))
        for source, file, step, reason in self._refused():
            writer.writerow((f"{source}/{file}".rstrip("/"), reason, step, ""))
        box = ("face_x", "face_y", "face_width", "face_height")
        lost = found.filter(found["reason"].is_valid()).select(("source", "file", "reason", "step", *box))
        for batch in lost.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                place = " ".join(f"{row[name]:.0f}" for name in box)
                writer.writerow((f"{row['source']}/{row['file']}", row["reason"], row["step"], place))
        return out.getvalue()

    def _examples(
        self, lengths: np.ndarray, sizes: np.ndarray, groups: np.ndarray, keep: np.ndarray
    ) -> dict[str, Any]:
        """Thumbnails for the report as data URIs, by what they show; read before pieces are deleted."""
        path = self.state / "examples.json"
        if path.exists():
            return json.loads(path.read_bytes())
        lost: dict[str, list] = {}
        for number in range(len(self.done)):
            for reason, shown in self._long(number)["examples"].items():
                lost.setdefault(reason, []).extend(shown)
        kept = np.nonzero(keep)[0]
        some = kept[spread(len(kept), SHOWN)]
        members: dict[int, list[int]] = {}
        for i in np.nonzero(np.bincount(groups, minlength=len(groups))[groups] > 1)[0].tolist():
            group = int(groups[i])
            if group in members or len(members) < EXAMPLES:
                members.setdefault(group, []).append(i)
        wanted = {*some.tolist(), *(i for group in members.values() for i in group[:6])}
        pictures = {}
        for i, member in self._members(lengths, wanted):
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(member)[512:]
            pixels = np.asarray(Image.open(io.BytesIO(data[: sizes[i]])).convert("RGB"))
            pictures[i] = base64.b64encode(thumbnail_of(pixels)).decode()
        examples = {
            "lost": lost,
            "kept": [pictures[i] for i in some.tolist()],
            "duplicates": [[[pictures[i], bool(keep[i])] for i in group[:6]] for group in members.values()],
        }
        write_file(path, json_bytes(examples))
        return examples

    def _members(
        self, lengths: np.ndarray, wanted: set[int] | None, start: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """Ordinal and deflated member of each candidate from ``start`` on; ``wanted``: only of these."""
        ordinal = 0
        for number, state in enumerate(self.done):
            end = ordinal + state["kept"]
            path = self.state / f"{number:06d}.faces"
            if state["kept"] and end > start and (wanted is None or any(ordinal <= i < end for i in wanted)):
                with open(path, "rb") as file:
                    for i in range(ordinal, end):
                        member = file.read(int(lengths[i]))
                        if i >= start and (wanted is None or i in wanted):
                            yield i, member
            ordinal = end

    def _shards(
        self, lengths: np.ndarray, keep: np.ndarray, progress: Progress | None
    ) -> tuple[list[dict[str, Any]], list[list[int]]]:
        """Copy the kept faces to shards; returns the shards for the manifest and (shard, offset) per face."""
        record = self.state / "shards.json"
        shards: list[dict[str, Any]] = []
        places: list[list[int]] = []
        start = 0
        if record.exists():
            written = json.loads(record.read_bytes())
            shards, places, start = written["shards"], written["places"], written["next"]
        for path in self.partial.glob("faces-*"):
            if path.name not in {shard["name"] for shard in shards}:
                path.unlink()

        def close(shard: ShardWriter, next_one: int) -> None:
            size, count = shard.close(), shard.members
            shards.append({"name": shard.path.name, "bytes": size, "pictures": count})
            places.extend([len(shards) - 1, offset] for offset in offsets)
            offsets.clear()
            write_file(record, json_bytes({"shards": shards, "places": places, "next": next_one}))
            ordinal = 0
            for number, state in enumerate(self.done):
                ordinal += state["kept"]
                if ordinal <= next_one:
                    (self.state / f"{number:06d}.faces").unlink(missing_ok=True)

        if not record.exists():
            write_file(record, json_bytes({"shards": [], "places": [], "next": 0}))
        offsets: list[int] = []
        shard: ShardWriter | None = None
        try:
            with opened(progress, "writing shards", len(lengths)) as task:
                task.advance(start)
                for i, member in self._members(lengths, None, start):
                    if keep[i]:
                        shard = shard or ShardWriter(self.partial / shard_name(len(shards)))
                        raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(member)
                        offsets.append(shard.add(raw, member))
                        if shard.full:
                            close(shard, i + 1)
                            shard = None
                    task.advance(1)
                if shard:
                    close(shard, len(lengths))
                    shard = None
        finally:
            if shard:
                shard.abandon()
        return shards, places

    def _manifest(
        self,
        found: pa.Table,
        index: pa.Table,
        shards: list[dict[str, Any]],
        groups: np.ndarray,
        keep: np.ndarray,
        table: LabelTable | None,
    ) -> dict[str, Any]:
        digests = index["sha256"].to_pylist()
        reasons = _kinds(found["reason"])
        of_pictures: Counter[str] = Counter()
        lost_pictures: Counter[str] = Counter()
        for _, _, step, reason in self._refused():
            of_pictures[kind_of(reason)] += 1
            lost_pictures[step] += 1
        pictures_found = sum(state["pictures"] for state in self.done)
        steps = Counter(found["step"].drop_null().to_pylist())
        used = len(pc.unique(found.filter(found["reason"].is_null())["picture"]))
        if unused := len(pc.unique(found["picture"])) - used:
            of_pictures["all faces left out"] = unused
        members = np.bincount(groups, minlength=len(groups)) if len(groups) else np.zeros(0, int)
        counts = {
            "found": len(found),
            "kept": int(keep.sum()),
            "rejected": len(found) - int(keep.sum()),
            "duplicates": len(digests) - len(set(digests)),
            "bytes": sum(index["bytes"].to_pylist()),
            "reasons": dict(sorted(reasons.items())),
            "steps": dict(sorted(steps.items())),
            "duplicate_groups": int((members > 1).sum()),
            "close_ups": pc.sum(pc.match_substring(index["done"], CLOSE_UP)).as_py() or 0,
            "pictures": {
                "found": pictures_found,
                "kept": used,
                "rejected": pictures_found - used,
                "reasons": dict(sorted(of_pictures.items())),
                "steps": dict(sorted(lost_pictures.items())),
                "files_beside": sum(state["beside"] for state in self.done),
                "unreadable_labels": sum(state["labels"] for state in self.done),
                "unreadable_labels_named": [
                    named for state in self.done for named in state.get("labels_named", ())
                ][:EXAMPLES],
            },
        }
        labelled = None
        if table is not None:
            places = zip(index["source"].to_pylist(), index["file"].to_pylist(), strict=True)
            matched = sum(table.get(file, source) is not None for source, file in places)
            labelled = {**table.described, "matched": matched}
            labelled |= {} if table.met is None else table.met.described
        return {
            "kind": KIND,
            "format": FORMAT,
            "omokage": __version__,
            **self.plan,
            "labels": labelled,
            "opt_out": self._opt_out(),
            "counts": counts,
            "content_hash": content_hash(index["key"].to_pylist(), digests),
            "shards": shards,
        }

    def _opt_out(self) -> dict[str, Any] | None:
        """What the opt-out list matched, see `optout.OptOut.summary`."""
        if self.handler.opt_out is None:
            return None
        met: Counter[int] = Counter()
        for state in self.done:  # in states read back from JSON, the numbers are strings
            met.update({int(number): count for number, count in state.get("opted_out", {}).items()})
        return self.handler.opt_out.summary(met)


def _kinds(reasons: pa.ChunkedArray) -> Counter[str]:
    """How often each reason occurs; only its part before the details counts."""
    return Counter(kind_of(reason) for reason in reasons.drop_null().to_pylist())


def _without_copies(
    found: pa.Table, candidate: np.ndarray, keys: pa.ChunkedArray, groups: np.ndarray, keep: np.ndarray
) -> pa.Table:
    """``found``, with a reason for every candidate left out as a copy: it names the one that is kept."""
    best = np.full(len(groups), -1)
    best[groups[keep]] = np.nonzero(keep)[0]
    names = keys.take(pa.array(best[groups[~keep]])).to_pylist()
    copies = np.zeros(len(found), bool)
    copies[np.nonzero(candidate)[0][~keep]] = True
    for column, values in (
        ("reason", [f"duplicate: of {name}" for name in names]),
        ("step", ["duplicates"] * len(names)),
    ):
        place = found.column_names.index(column)
        whole = found[column].combine_chunks()
        changed = pc.replace_with_mask(whole, pa.array(copies), pa.array(values, pa.string()))
        found = found.set_column(place, column, changed)
    return found


def _other_columns(table: LabelTable | None, by_name: NameLabels | None) -> list[str]:
    """The columns beyond those of every set cut out of illustrations."""
    named = [] if by_name is None else [name for name in by_name.columns if name not in LABELS]
    return [*([] if table is None else table.columns), *named]


def _index(kept: pa.Table, places: list[list[int]], others: Sequence[str]) -> pa.Table:
    """The index of the kept faces, in natural order of their keys.

    places: (shard, offset) of each face. others: further columns, from a table or from file names.
    """
    where = np.array(places, np.int64).reshape(-1, 2)
    keys = kept["key"].to_pylist()
    order = np.array(sorted(range(len(keys)), key=lambda i: natural(keys[i])), np.int64)
    kept = kept.take(pa.array(order))
    columns: dict[str, Any] = {
        name: kept[name].cast(kind)
        for name, kind in {**COLUMNS, **EXTRA}.items()
        if name not in ("shard", "offset", "sha256")
    }
    columns["shard"] = pa.array(where[order, 0], COLUMNS["shard"])
    columns["offset"] = pa.array(where[order, 1], COLUMNS["offset"])
    columns["sha256"] = pa.array(map(bytes.fromhex, kept["sha256"].to_pylist()), COLUMNS["sha256"])
    columns = {name: columns[name] for name in (*COLUMNS, *EXTRA)}
    if others:
        rows = [json.loads(text) if text else {} for text in kept["other"].to_pylist()]
        for name in others:
            told = [row.get(name) for row in rows]
            if name in ("hair", "eyes"):  # colours of a table replace estimated ones
                by = columns[f"{name}_from"].to_pylist()
                columns[f"{name}_from"] = pa.array(
                    ["table" if t else b for t, b in zip(told, by, strict=True)], pa.string()
                )
                sure = columns[f"{name}_confidence"].to_pylist()
                columns[f"{name}_confidence"] = pa.array(
                    [None if t else c for t, c in zip(told, sure, strict=True)], pa.float32()
                )
                told = [t or m for t, m in zip(told, columns[name].to_pylist(), strict=True)]
            columns[name] = pa.array(told, EXTRA.get(name, pa.string()))
    return pa.table(columns)


class _Piece:
    def __init__(self) -> None:
        self._started = time.monotonic()
        self.members: list[bytes] = []
        self.signatures: list[bytes] = []
        self.rows: list[dict[str, Any]] = []
        self.rejected: list[tuple[str, str, str, str]] = []
        self.examples: dict[str, list[list[str]]] = {}
        self.pictures = self.beside = self.bad_labels = 0
        self.bad_named: list[str] = []  # the first unreadable files of labels, with the reason
        self.opted_out: Counter[int] = Counter()  # number of pictures, by number of the matching entry

    @property
    def old(self) -> bool:
        return time.monotonic() - self._started >= PIECE_SECONDS

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
            row = {key: value for key, value in face.row.items() if value is not None and value != {}}
            row.update(reason=face.row["reason"], picture=position)
            if face.row["reason"] is None:
                row["length"] = len(face.member)
                row["sha256"] = face.row["sha256"].hex()
                self.members.append(face.member)
                self.signatures.append(face.signature)
            else:
                self._example(face.row["reason"], name, face.thumbnail)
            self.rows.append(row)

    def _example(self, reason: str, name: str, thumbnail: bytes) -> None:
        shown = self.examples.setdefault(kind_of(reason), [])
        if len(shown) < EXAMPLES:
            shown.append([one_line(name, 200), one_line(reason, 200), base64.b64encode(thumbnail).decode()])


class Before:
    """The faces that another build of the same sources detected, from its `detected.parquet`."""

    def __init__(self, folder: str | Path, plan: dict[str, Any]) -> None:
        folder = Path(folder).expanduser()
        shown = one_line(folder)
        manifest = read_manifest(folder, shown)
        same = [s.get("fingerprint") for s in manifest.get("sources", [])] == [
            s["fingerprint"] for s in plan["sources"]
        ]
        if (manifest.get("options") or {}).get("as_faces"):
            raise UserError(
                f"--detections {shown}: it was built with --as-faces, so nothing was detected; leave it out"
            )
        tools, own = manifest.get("tools") or {}, plan["tools"]
        if not same or tools.get("detector") != own["detector"] or tools.get("judge") != own["judge"]:
            raise UserError(
                f"--detections {shown}: built from other sources or by another detector; leave it out"
            )
        try:
            table = pq.read_table(folder / DETECTED, columns=list(FOUND))
        except Exception as error:
            raise UserError(
                f"--detections {shown}: {DETECTED} cannot be read: {one_line(error, 80)}"
            ) from None
        self._faces: dict[tuple[str, str], list] = {}
        for row in table.to_pylist():
            self._faces.setdefault((row["source"], row["file"]), []).append(found_before(row))

    def faces(self, source: str, file: str) -> tuple:
        return tuple(self._faces.get((source, one_line(file, 1000)), ()))


@dataclass(frozen=True, slots=True)
class _Named:
    """A picture, the files of labels beside it, its key, and the name of its source."""

    found: Found
    beside: tuple[Found, ...]
    key: str
    source: str


def _job(
    named: _Named, *, table: LabelTable | None, before: Before | None, by_name: NameLabels | None
) -> Job:
    sidecars = []
    for file in named.beside:
        data = file.read()
        # A file that cannot be read is counted among the unreadable labels.
        sidecars.append((file.name, b"\xff" if isinstance(data, str) else data[: 2**22]))
    name = named.found.name
    row = None if table is None else table.get(name, named.source)
    said = None if by_name is None else by_name(named.source, name)
    if said is not None:
        row = with_named(row, said)
    faces = None if before is None else before.faces(named.source, name)
    return Job(named.key, named.source, name, named.found.read(), tuple(sidecars), row, faces)


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _nothing(pictures_found: int, faces: int, reasons: Counter[str]) -> str:
    if not pictures_found:
        return "no files found in the sources: give a folder, tar or zip with pictures"
    listed = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common(5))
    return f"no face is left of {pictures_found:,} files and {faces:,} faces found in them: {listed}"


def expected_bytes(options: Options, files: int) -> int:
    """A rough estimate of the bytes that the faces of ``files`` pictures will need on the disk."""
    height, width = options.size or (384, 384)
    a_pixel = {"jpg": 0.45, "png": 1.7, "webp": 1.2}[options.format]
    return int(files * 1.3 * height * width * a_pixel)


class Illustrations:
    """The work of `build` on illustrations, see `build.Kind`."""

    def __init__(
        self,
        sources: Sequence[Source],
        options: Options,
        labels: str | Path | None,
        detections: str | Path | None,
        by_name: NameLabels | None = None,
    ) -> None:
        known = {*COLUMNS, *EXTRA, *FOUND} - {"hair", "eyes"}
        self._table = None if labels is None else LabelTable(labels, known)
        self._by_name = by_name
        if by_name is not None:
            by_name.refuse_columns(known - set(LABELS), "a column of every such face set")
            by_name.refuse_columns(() if self._table is None else self._table.columns, "a column of --labels")
        self._tools = Tools(options)  # fails early, and describes the models for the plan
        told = labels is not None or options.label or (by_name is not None and "artist" in by_name.columns)
        if not told and (out := self._tools.opt_out) and out.names_artists:
            raise UserError(
                "the opt-out list names artists, and --no-label leaves artists unknown: leave --no-label out"
            )
        self._sources, self._options = sources, self._tools.options
        chosen = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self._options).items()}
        chosen.pop("opt_out")
        for name in ("close_ups", "min_confidence"):  # defaults are not in the plan: older builds can go on
            if chosen[name] == getattr(Options, name):
                del chosen[name]
        plan = {
            "options": {"as_faces": False, **chosen},
            "tools": self._tools.described,
            "sources": [source.described for source in sources],
            "labels": None if self._table is None else self._table.described,
        }
        if by_name is not None:
            plan["labels_from"] = by_name.described
        self.plan: dict[str, Any] = json.loads(json.dumps(plan))
        self._before = None if detections is None else Before(detections, self.plan)

    def fill(self, partial: Path, engine: Engine, progress: Progress | None) -> None:
        totals = [source.total or 0 for source in self._sources]
        need, free = expected_bytes(self._options, sum(totals)), shutil.disk_usage(partial).free
        if free < need / 8:
            raise UserError(
                f"about {need / 2**20:,.0f} MB are needed for {sum(totals):,} files and only "
                f"{free / 2**20:,.0f} MB are free at {one_line(partial.parent)}: make room, "
                "or another folder with -o"
            )
        if self._table is not None:
            self._table.meet(names_in(self._sources))
        work = Pieces(partial, self.plan, Handler(self._options, self._tools))
        work.run(self._sources, self._table, self._before, self._by_name, engine, progress)
        work.finish(self._table, self._by_name, progress)
