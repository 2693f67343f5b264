"""Builds a face set from sources in one pass that can be resumed; `building` also cuts out faces.

The work is done in a hidden folder beside the face set, which is renamed when it is complete. After every
shard a small state is written, and the same command goes on from there. The result does not depend on
interruptions or on the number of workers.
"""

import csv
import hashlib
import io
import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from functools import partial as fixed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ... import __version__
from ...errors import UserError
from ...progress import Progress, opened
from ..derive.copies import DROPS, near_copies
from ..engines.processes import Engine, Here, Processes, Steps, Threads, cores, leave_if_worker_begins
from ..sources.beside import names_in
from ..sources.labels import SIDECARS, is_table, read_table
from ..sources.matching import Met, Rows
from ..sources.names import LABEL, NameLabels
from ..sources.places import url_of
from ..sources.source import Found, Keys, Source, natural, open_source
from ..steps.colours import check_confidence
from ..steps.read import RESIZE_RULE, Unreadable, cover, kind_of, quiet, read_picture, to_png
from ..store.columns import COLUMNS, ESTIMATED, ESTIMATES, OF_FACES, SCHEMA
from ..store.faceset import FaceSet
from ..store.format import (
    FORMAT,
    INDEX,
    KIND,
    MANIFEST,
    REJECTED,
    REPORT,
    content_hash,
    deflate_member,
    json_bytes,
    parquet_bytes,
    partial_folder,
    shard_name,
    tar_member,
    write_file,
)
from ..store.manifest import read_manifest, refuse_face_set
from ..store.publish import Target
from ..store.shards import ShardWriter
from ..store.unfinished import (
    STATE,
    begin,
    disk_errors,
    locked,
    made_by,
    only_to_rename,
    put_in_place,
    refuse_foreign,
    target,
)
from ..text import decoded, one_line
from .report import write_faces_report

if TYPE_CHECKING:
    from ..steps.colours import ColourNames
    from .pipeline import Options

MAX_SIZE = 4096
ENGINES = ("local", "ray")
FAR_LOADERS = 16

SHOWN_TABLES = 20


DUPLICATE = "duplicate"
_BESIDE = "labels of other files"  # reason for files that are not pictures; not in `rejected.csv`


@dataclass(frozen=True)
class BuildReport:
    """What a build did. ``kept + rejected == found`` always holds.

    found, kept, rejected: numbers of pictures with ``as_faces``, else of faces.
    reasons: how many were left out for each reason; `rejected.csv` lists them.
    duplicates: how many of the kept ones have the same bytes as an earlier one.
    path: of the face set; a string if it is a URL.
    already: whether the face set was finished before, so that nothing was done.
    pictures: for illustrations: found, kept (with a kept face), rejected, and the reasons; else None.
    opt_out: what the opt-out list matched (`optout.OptOut.summary`); None without a list.
    variants: with ``drop="near"``: how many kept faces are variants of another (eyes closed, other clothes).
    labels: how many rows of the label table matched a picture (`matching.Met.described`); None without one.
    names: how many file names gave labels (`names.Met.described`); None if not asked for.
    close_ups: for illustrations: how many kept faces were cropped more tightly than asked for.
    beside: with ``as_faces``: how many files of labels were among the pictures; ``found`` leaves them out.
    tables: names of label tables among them that were not used, at most `SHOWN_TABLES`.
    """

    found: int
    kept: int
    rejected: int
    path: Path | str
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    already: bool = False
    pictures: dict[str, Any] | None = None
    opt_out: dict[str, Any] | None = None
    variants: int = 0
    names: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    close_ups: int = 0
    beside: int = 0
    tables: tuple[str, ...] = ()


def build(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    as_faces: bool = False,
    size: int | None = None,
    labels: str | Path | None = None,
    labels_from: str | None = None,
    drop: str = "none",
    estimate: bool = False,
    min_confidence: float = 0.0,
    options: "Options | None" = None,
    detections: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the face set ``out`` (a folder) from folders, tars, zips, lists of files or single pictures.

    Sources and ``out`` may be URLs that fsspec knows, such as ``s3://bucket/pictures``. If ``out`` is a URL,
    the face set is built in the cache (`publish.cache`), uploaded, and deleted from the cache.

    IDX files (MNIST), alone or in a folder, are read too; their labels become the column ``label``.

    as_faces: True if every picture is a face already: its bytes are kept. False finds faces in illustrations
        and cuts them out as ``options`` say.
    size: None keeps the size of every picture or crop. A number resizes all to size×size pixels: faces by
        `read.RESIZE_RULE`, crops by `upscale.to_size`.
    labels: a CSV with a column `file` and further columns, which are joined to the index by file name; for
        illustrations also JSON lines of a booru.
    labels_from: takes labels from the names of files: "folder", or a regular expression with named groups
        (`names.NameLabels`).
    drop: with ``as_faces``: "none" keeps copies. "exact" leaves out a face with the same bytes as an earlier
        one. "near" also leaves out copies in other encodings and keeps the best of each group
        (`copies.near_copies`); it needs disk space for the faces twice. For illustrations use
        `Options.duplicates`.
    estimate: with ``as_faces``: a network names the colours of hair and eyes (`colours.ColourNames`) where
        labels do not. The columns are ``hair`` and ``eyes``, with ``_from`` and ``_confidence`` for each.
    min_confidence: estimates with a lower confidence stay empty, 0 to 1. For illustrations use
        `Options.min_confidence`.
    options: options of the steps from illustration to face; ``size`` overrides the size in them. None: the
        defaults.
    detections: another face set of the same illustrations and detector. Its boxes are used and the detector
        does not run.
    workers: threads that decode and encode (for illustrations: processes); None: one per core.
    engine: one of `ENGINES`, which does the work; the face set is the same with each.
    address: of the Ray cluster, "auto" for the one of this machine; None: Ray is started here for the build.

    Repeat the call to go on where an interrupted one stopped. If the same face set is finished already, its
    report is returned. Raises `UserError` if nothing is kept, the disk is full, ``out`` holds something else,
    or another process is building it.
    """
    leave_if_worker_begins()
    started = time.monotonic()
    if as_faces and (options is not None or detections is not None):
        raise UserError(
            "--as-faces keeps pictures as they are: leave it out, or leave the other options of building out"
        )
    if drop not in DROPS:
        raise UserError(f"--drop {one_line(drop, 40)!r} is unknown: give {', '.join(DROPS)}")
    if drop != "none" and not as_faces:
        raise UserError(
            "--drop is for --as-faces; for illustrations, copies are left out unless --no-duplicates is given"
        )
    check_confidence(min_confidence)
    if (estimate or min_confidence) and not as_faces:
        raise UserError(
            "--estimate is for --as-faces: for illustrations colours are always estimated, and "
            "Options(min_confidence=...) sets the threshold"
        )
    if min_confidence and not estimate:
        raise UserError("--min-confidence is for estimates: add --estimate, or leave it out")
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UserError(f"size {size} is impossible: give 1 to {MAX_SIZE} pixels, or none to keep sizes")
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers are impossible: give 1 or more")
    if engine not in ENGINES:
        raise UserError(f"engine {one_line(engine)!r} is unknown: give one of {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise UserError(
            f"--address {one_line(address)} is for --engine ray: add it, or leave the address out"
        )
    if not sources:
        raise UserError("no source given: name a folder, a tar, a zip or a list of files")
    for source in sources:
        refuse_face_set(source, "`omokage faces merge` cleans it, `omokage faces export` writes pictures")
    if labels is not None:
        refuse_face_set(labels, "--labels takes a table; `omokage faces export` writes one")
    far = None if (url := url_of(out)) is None else Target(url)
    folder = target(out) if far is None else far.staging
    partial = partial_folder(folder)
    with ExitStack() as stack, disk_errors(folder):
        table = _Labels(labels) if labels is not None and as_faces else None
        skip = (folder, partial) if labels is None else (folder, partial, Path(labels).expanduser())
        with opened(progress, "looking through the sources", len(sources)) as task:
            opened_sources = []
            for source in sources:
                opened_sources.append(stack.enter_context(open_source(source, skip)))
                task.advance()
        by_name = None
        if labels_from is not None:
            by_name = NameLabels(labels_from, several=len(sources) > 1)
            by_name.check(opened_sources)
        work: Kind
        if as_faces:
            work = _Faces(opened_sources, size, table, by_name, drop, estimate, min_confidence)
        else:
            from .pieces import Illustrations
            from .pipeline import Options

            options = options or Options()
            options = options if size is None else replace(options, size=(size, size))
            work = Illustrations(opened_sources, options, labels, detections, by_name)
        if far is not None:
            stack.enter_context(far.locked())
            if (manifest := far.manifest(work.plan)) is not None:
                far.finish()
                return _report(manifest, far.place.shown, started, already=True)
            far.forget_other(work.plan)
        slow = any(source.far for source in opened_sources)
        threads = as_faces and not estimate  # a network runs in processes, on one thread each
        new = _build(folder, partial, work, _engine(engine, address, workers, threads, slow), progress)
        manifest = read_manifest(folder, one_line(folder))
        if far is None:
            return _report(manifest, folder, started, already=not new)
        far.upload(progress)
        far.finish()
        return _report(manifest, far.place.shown, started)


class Kind(Protocol):
    """One kind of build: from faces, or from illustrations.

    plan: everything that determines the face set, as JSON. fill: makes the face set in the folder
    ``partial``; goes on with the work that is there.
    """

    plan: dict[str, Any]

    def fill(self, partial: Path, engine: Engine, progress: Progress | None) -> None: ...


def _build(out: Path, partial: Path, work: Kind, engine: Engine, progress: Progress | None) -> bool:
    """Make ``out``; returns False if it was finished before."""
    if _is_built(out, work.plan):
        return False
    refuse_foreign(out)
    with locked(partial, out):
        if _is_built(out, work.plan):  # another process finished it before this one got the lock
            return False
        if not only_to_rename(partial, work.plan):
            work.fill(partial, engine, progress)
        put_in_place(partial, out)
    return True


def _is_built(out: Path, plan: dict[str, Any]) -> bool:
    """Whether ``out`` is the finished face set of this plan; `UserError` if it is that of another plan."""
    if not (out / MANIFEST).is_file():
        return False
    if not made_by(read_manifest(out, one_line(out)), plan):
        raise UserError(
            f"{one_line(out)} is already a face set, of other sources or options: "
            "give another folder with -o, or delete that one first"
        )
    FaceSet.open(out)
    return True


def _engine(name: str, address: str | None, workers: int | None, threads: bool, slow: bool) -> Engine:
    """The engine with this name.

    threads: whether threads are enough: the work is short and releases the interpreter lock.
    slow: whether the sources are slow to read, so that more is read at a time.
    """
    if name == "ray":
        from ..engines.cluster import Ray

        return Ray(address, workers)
    workers = workers or cores()
    if threads:
        return Threads(max(workers, FAR_LOADERS) if slow else workers)
    if workers == 1:
        return Here(FAR_LOADERS if slow else 0)
    return Processes(workers, FAR_LOADERS if slow else 2)


class _Faces:
    """Pictures that are faces already; see `Kind`."""

    def __init__(
        self,
        sources: Sequence[Source],
        size: int | None,
        labels: "_Labels | None",
        by_name: NameLabels | None = None,
        drop: str = "none",
        estimate: bool = False,
        min_confidence: float = 0.0,
    ) -> None:
        self._sources, self._size, self._labels, self._by_name = sources, size, labels, by_name
        self._drop, self._estimate, self._least = drop, estimate, min_confidence
        self._carried = _carried(sources, labels)
        if by_name is not None:
            by_name.refuse_columns(COLUMNS, "a column of every face set")
            by_name.refuse_columns(() if labels is None else labels.columns, "a column of --labels")
            by_name.refuse_columns((LABEL,) if self._carried else (), "the label that a source has")
        self.plan: dict[str, Any] = {
            "options": {
                "as_faces": True,
                "size": size,
                "resize_rule": None if size is None else RESIZE_RULE,
            },
            "sources": [source.described for source in sources],
            "labels": None if labels is None else labels.described,
        }
        if estimate:
            estimated = set(ESTIMATED) - set(OF_FACES)
            if by_name is not None:
                by_name.refuse_columns(estimated, "a column of estimates")
            if clash := estimated & set(() if labels is None else labels.columns):
                raise UserError(f"the column {min(clash)!r} of the labels is one of estimates: rename it")
            self.plan["options"] |= {"estimate": True, "min_confidence": min_confidence}
            self.plan["tools"] = {"colours": _colour_names().file_hash}
        if drop != "none":
            self.plan["options"]["drop"] = drop
        if by_name is not None:
            self.plan["labels_from"] = by_name.described

    def fill(self, partial: Path, engine: Engine, progress: Progress | None) -> None:
        if self._labels is not None:
            self._labels.meet(names_in(self._sources))
        work = _Work(partial, self.plan, self._size, self._drop, self._estimate)
        work.run(self._sources, engine, progress)
        work.carried = self._carried
        work.finish(self._labels, self._by_name, self._least, progress)


@dataclass(frozen=True, slots=True)
class _Picture:
    """A face as it was found; if its bytes cannot be read, ``data`` is the reason as text."""

    key: str
    source: str
    file: str
    data: bytes | str


@dataclass(frozen=True, slots=True)
class _Stored:
    """A face that is ready to be written to a shard."""

    key: str
    file: str
    source: str
    data_size: int
    raw: bytes
    deflated: bytes
    sha256: bytes
    width: int
    height: int
    format: str
    done: str
    estimates: tuple[str | float, ...] = ()  # values of `ESTIMATES`, if asked for


@dataclass(frozen=True, slots=True)
class _Rejected:
    file: str
    reason: str


def _load(found: tuple[Found, str, str]) -> _Picture:
    file, key, source = found
    return _Picture(key, source, file.name, file.read())


@lru_cache(maxsize=1)
def _colour_names() -> "ColourNames":
    from ..steps.colours import ColourNames

    return ColourNames()


def _prepare(picture: _Picture, *, size: int | None, estimate: bool = False) -> _Stored | _Rejected:
    try:
        if isinstance(picture.data, str):
            raise Unreadable(picture.data)
        data = picture.data
        opened = read_picture(data)
        done = list(opened.done)
        image, extension = opened.image, opened.extension
        estimates: tuple[str | float, ...] = ()
        if estimate:
            pixels = np.ascontiguousarray(np.asarray(image.convert("RGB")))
            hair, eyes = _colour_names().estimates(pixels, None)
            estimates = (hair.name, hair.confidence, eyes.name, eyes.confidence)
        if size is not None and image.size != (size, size):
            done.append(f"{image.width}×{image.height} to {size}×{size}")
            image, extension = cover(image, (size, size)), None
        if extension is None:
            data, extension = to_png(image), "png"
        raw = tar_member(f"{picture.key}.{extension}", data)
    except Unreadable as reason:
        if isinstance(picture.data, bytes) and is_table(picture.file, picture.data):
            return _refuse(picture, _BESIDE)
        return _refuse(picture, one_line(reason))
    except MemoryError:
        return _refuse(picture, "needs too much memory")
    digest = hashlib.sha256(data).digest()
    return _Stored(
        picture.key,
        one_line(picture.file, 1000),
        picture.source,
        len(data),
        raw,
        deflate_member(raw),
        digest,
        *image.size,
        extension,
        "; ".join(done),
        estimates,
    )


def _refuse(picture: _Picture, reason: str) -> _Rejected:
    return _Rejected(_shown(picture.source, picture.file), reason)


def _shown(source: str, file: str) -> str:
    return one_line(f"{source}/{file}".rstrip("/"), 1000)


def _lost(picture: _Picture) -> _Rejected:
    return _refuse(picture, "ended the process that handled it")


class _Shard(ShardWriter):
    """A shard with the rows of its faces."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder / shard_name(number))
        self.number = number
        self.rows: list[tuple] = []
        self.picture_bytes = 0

    def store(self, face: _Stored) -> None:
        offset = self.add(face.raw, face.deflated)
        self.rows.append(
            (
                face.key,
                self.number,
                offset,
                len(face.deflated),
                face.data_size,
                face.width,
                face.height,
                face.format,
                face.done,
                face.source,
                face.file,
                face.sha256,
                *face.estimates,
            )
        )
        self.picture_bytes += face.data_size


class _Work:
    """The unfinished face set in ``partial``."""

    def __init__(
        self, partial: Path, plan: dict[str, Any], size: int | None, drop: str, estimate: bool
    ) -> None:
        self.partial, self.plan, self.size, self.drop = partial, plan, size, drop
        self.estimate = estimate
        self.schema = pa.schema([*SCHEMA, *(ESTIMATES.items() if estimate else ())])
        self.state = partial / STATE
        # Near copies are known only when all faces are stored. Until then the shards are in another folder.
        self.shards = self.state if drop == "near" else partial
        self.done: list[dict[str, Any]] = []  # one state per shard
        self.carried: dict[tuple[str, str], str] = {}  # labels that sources have themselves, see `_carried`
        begin(partial, plan)
        self._resume()

    def _resume(self) -> None:
        for number in itertools.count():
            try:
                state = json.loads((self.state / f"{number:06d}.json").read_bytes())
                shard = state["shard"]
                if shard and (self.shards / shard["name"]).stat().st_size != shard["bytes"]:
                    break
            except (FileNotFoundError, ValueError):
                break
            self.done.append(state)
        named = {state["shard"]["name"] for state in self.done if state["shard"]}
        named |= {f"{number:06d}{kind}" for number in range(len(self.done)) for kind in (".json", ".parquet")}
        for path in (*self.partial.glob("faces-*"), *self.state.glob("faces-*"), *self.state.glob("[0-9]*")):
            if path.name not in named or path.parent not in (self.shards, self.state):
                path.unlink()

    def run(self, sources: Sequence[Source], engine: Engine, progress: Progress | None) -> None:
        if self.done and self.done[-1]["complete"]:
            return
        position = self.done[-1]["position"] if self.done else 0
        kept = sum(state["kept"] for state in self.done)
        rejected = sum(reason != _BESIDE for state in self.done for _, reason in state["rejected"])
        totals = [source.total for source in sources]
        total = None if None in totals else sum(t for t in totals if t is not None)
        shard: _Shard | None = None
        refused: list[tuple[str, str]] = []
        known = self._known() if self.drop == "exact" else {}
        keys = Keys()
        named = ((found, keys(found.name), source.name) for source in sources for found in source)
        # A key depends on all names before it, so the files already done are listed again.
        rest = itertools.islice(named, position, None)
        prepare = fixed(_prepare, size=self.size, estimate=self.estimate)
        results = engine.run(rest, Steps(_load, prepare, _lost))
        try:
            with quiet(), closing(results), opened(progress, "building", total) as task:
                task.advance(position)
                for _, result in results:
                    position += 1
                    if isinstance(result, _Stored) and self.drop == "exact":
                        first = known.setdefault(result.sha256, result.key)
                        if first != result.key:
                            result = _Rejected(_shown(result.source, result.file), f"{DUPLICATE}: of {first}")
                    if isinstance(result, _Rejected):
                        refused.append((result.file, result.reason))
                        rejected += result.reason != _BESIDE
                    else:
                        shard = shard or _Shard(self.shards, self._next_shard())
                        shard.store(result)
                        kept += 1
                    task.advance(1, f"{kept:,} kept, {rejected:,} rejected")
                    if shard and shard.full:
                        self._checkpoint(shard, refused, position, False)
                        shard, refused = None, []
                self._checkpoint(shard, refused, position, True)
                shard = None
        except KeyboardInterrupt:
            raise KeyboardInterrupt("repeat the command to go on") from None
        finally:
            if shard:
                shard.abandon()

    def _known(self) -> dict[bytes, str]:
        """The keys of the faces stored so far, by the SHA-256 of their bytes."""
        known: dict[bytes, str] = {}
        for table in self._tables(["sha256", "key"]):
            known.update(zip(table["sha256"].to_pylist(), table["key"].to_pylist(), strict=True))
        return known

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        for number, state in enumerate(self.done):
            if state["shard"]:
                yield pq.read_table(self.state / f"{number:06d}.parquet", columns=columns)

    def _next_shard(self) -> int:
        return sum(state["shard"] is not None for state in self.done)

    def _checkpoint(
        self, shard: _Shard | None, refused: list[tuple[str, str]], position: int, complete: bool
    ) -> None:
        number = len(self.done)
        described = None
        if shard:
            size = shard.close()
            described = {"name": shard.path.name, "bytes": size, "pictures": len(shard.rows)}
            columns = zip(*shard.rows, strict=True)
            arrays = [pa.array(values, kind) for values, kind in zip(columns, self.schema.types, strict=True)]
            table = pa.table(arrays, schema=self.schema)
            write_file(self.state / f"{number:06d}.parquet", parquet_bytes(table))
        state = {
            "shard": described,
            "kept": len(shard.rows) if shard else 0,
            "bytes": shard.picture_bytes if shard else 0,
            "rejected": refused,
            "position": position,
            "complete": complete,
        }
        # The JSON file is written last: it marks the shard and its rows as complete.
        write_file(self.state / f"{number:06d}.json", json_bytes(state))
        self.done.append(state)

    def finish(
        self,
        labels: "_Labels | None",
        by_name: NameLabels | None,
        min_confidence: float,
        progress: Progress | None,
    ) -> None:
        kept = sum(state["kept"] for state in self.done)
        refused, beside, unused = self._sorted_out()
        found = self.done[-1]["position"] - beside
        if not kept:
            shutil.rmtree(self.partial)
            raise UserError(_nothing(found, Counter(kind_of(reason) for _, reason in refused)))
        index = pa.concat_tables(self._tables(self.schema.names)).cast(self.schema).combine_chunks()
        keys = index["key"].to_pylist()
        index = index.take(sorted(range(len(keys)), key=lambda i: natural(keys[i])))
        shards = [state["shard"] for state in self.done if state["shard"]]
        variants = 0
        if self.drop == "near":
            index, shards, copies, variants = self._without_copies(index, shards, progress)
            refused += copies
            kept = len(index)
        reasons = Counter(kind_of(reason) for _, reason in refused)
        rejected = io.StringIO()
        writer = csv.writer(rejected, lineterminator="\n")
        writer.writerow(("file", "reason"))
        writer.writerows(refused)
        digests = index["sha256"].to_pylist()
        estimates, index = index.select(list(ESTIMATES) if self.estimate else []), index.select(list(COLUMNS))
        counts = {
            "found": found,
            "kept": kept,
            "rejected": found - kept,
            "duplicates": kept - len(set(digests)),
            "bytes": sum(index["bytes"].to_pylist()),
            "reasons": dict(sorted(reasons.items())),
            "files_beside": beside,
            "unused_tables": unused[:SHOWN_TABLES],
        }
        if self.drop == "near":
            counts["variants"] = variants
        if self.carried:
            places = zip(index["source"].to_pylist(), index["file"].to_pylist(), strict=True)
            index = index.append_column(
                LABEL, pa.array([self.carried.get(place) for place in places], pa.string())
            )
        labelled = None
        if labels is not None:
            index, matched = labels.join(index)
            labelled = {**labels.described, **matched}
        if by_name is not None:
            index, met = by_name.join(index)
            counts["names"] = met.described
        if self.estimate:
            index = _with_estimates(index, estimates, min_confidence)
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "omokage": __version__,
            **self.plan,
            "labels": labelled,
            "counts": counts,
            "content_hash": content_hash(index["key"].to_pylist(), digests),
            "shards": shards,
        }
        page = write_faces_report(FaceSet(self.partial, manifest, index), refused)
        write_file(self.partial / REJECTED, rejected.getvalue().encode())
        write_file(self.partial / INDEX, parquet_bytes(index))
        write_file(self.partial / REPORT, page.encode())
        write_file(self.partial / MANIFEST, json_bytes(manifest))


    def _without_copies(
        self, index: pa.Table, shards: list[dict[str, Any]], progress: Progress | None
    ) -> tuple[pa.Table, list[dict[str, Any]], list[tuple[str, str]], int]:
        """Write the final shards without near copies: index, shards, faces left out, number of variants."""
        whole = FaceSet(self.state, {"content_hash": "", "shards": shards}, index)
        copies = near_copies(whole, progress=progress)
        left_out = dict(copies.left_out)
        names = zip(index["source"].to_pylist(), index["file"].to_pylist(), strict=True)
        refused = [
            (_shown(source, file), f"{DUPLICATE}: of {whole.keys[left_out[i]]}")
            for i, (source, file) in enumerate(names)
            if i in left_out
        ]
        rows = np.array([i for i in range(len(index)) if i not in left_out], np.int64)
        order = rows[np.lexsort((index["offset"].to_numpy()[rows], index["shard"].to_numpy()[rows]))]
        places: dict[int, tuple[int, int]] = {}
        written: list[dict[str, Any]] = []
        shard: ShardWriter | None = None
        try:
            with opened(progress, "writing shards", len(order)) as task:
                for row in order.tolist():
                    shard = shard or ShardWriter(self.partial / shard_name(len(written)))
                    _, raw, deflated = whole.member(row)
                    places[row] = len(written), shard.add(raw, deflated)
                    if shard.full or row == order[-1]:
                        size = shard.close()
                        written.append({"name": shard.path.name, "bytes": size, "pictures": shard.members})
                        shard = None
                    task.advance(1)
        finally:
            if shard:
                shard.abandon()
        index = index.take(pa.array(rows))
        for column, name in enumerate(("shard", "offset")):
            values = pa.array([places[row][column] for row in rows.tolist()], COLUMNS[name])
            index = index.set_column(index.schema.get_field_index(name), name, values)
        return index, written, refused, copies.variants

    def _sorted_out(self) -> tuple[list[tuple[str, str]], int, list[str]]:
        """The rejected files with their reasons, the number of files of labels, and the names of the tables.

        Files of labels are tables of labels, and files with a picture's name and another ending. The picture
        may be kept or rejected.
        """
        every = [(file, reason) for state in self.done for file, reason in state["rejected"]]
        tables = [file for file, reason in every if reason == _BESIDE]
        named = {file for file, _ in every if not _may_be_labels(file)}
        for part in self._tables(["source", "file"]):
            places = zip(part["source"].to_pylist(), part["file"].to_pylist(), strict=True)
            named.update(_shown(source, file) for source, file in places)
        owners = named | {_without_ending(file) for file in named}
        refused, beside = [], len(tables)
        for file, reason in every:
            if reason == _BESIDE:
                continue
            if _may_be_labels(file) and _without_ending(file) in owners:
                beside += 1
            else:
                refused.append((file, reason))
        return refused, beside, tables


def _with_estimates(index: pa.Table, estimates: pa.Table, least: float) -> pa.Table:
    """``index`` with the columns `ESTIMATED`; a label takes the place of the network's estimate."""
    for of in OF_FACES:
        told = index[of].to_pylist() if of in index.column_names else [None] * len(index)
        names, sure = estimates[of].to_pylist(), estimates[f"{of}_confidence"].to_pylist()
        values: list[str | None] = []
        origins: list[str | None] = []
        for label, name, confidence in zip(told, names, sure, strict=True):
            kept = confidence >= least
            values.append(label or (name if kept else None))
            origins.append("table" if label else "network" if kept else None)
        confidences = [None if label else number for label, number in zip(told, sure, strict=True)]
        if of in index.column_names:
            index = index.drop_columns(of)
        for name, column in ((of, values), (f"{of}_from", origins), (f"{of}_confidence", confidences)):
            index = index.append_column(name, pa.array(column, ESTIMATED[name]))
    return index


def _may_be_labels(file: str) -> bool:
    return file.lower().endswith(SIDECARS)


def _without_ending(file: str) -> str:
    folder, slash, last = file.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _carried(sources: Sequence[Source], labels: "_Labels | None") -> dict[tuple[str, str], str]:
    """Labels that sources have themselves, by the names of source and item."""
    knowing = [source for source in sources if source.labels]
    names = [source.name for source in sources]
    for source in knowing:
        if names.count(source.name) > 1:
            raise UserError(f"two sources are called {source.name}, but labels are found by name: rename one")
        if labels is not None and LABEL in labels.columns:
            raise UserError(f"{source.name} has labels of its own: give the column {LABEL!r} another name")
    return {
        (source.name, one_line(item, 1000)): label
        for source in knowing
        for item, label in source.labels.items()
    }


class _Labels:
    """Columns of a CSV by file name. met: which rows matched a file, once `meet` was called."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        try:
            data = path.read_bytes()
            header, rows = read_table(decoded(data), path)
        except (OSError, ValueError) as error:
            raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
        place = header.index("file")
        self.columns = [one_line(name) for i, name in enumerate(header) if i != place]
        if taken := set(self.columns) & set(COLUMNS):
            raise UserError(f"labels {one_line(path)}: the column {sorted(taken)[0]!r} needs another name")
        self._values = [row[:place] + row[place + 1 :] for row in rows]
        names = [[row[place]] if row[place] else [] for row in rows]
        self._rows = Rows(names, lambda a, b: self._values[a] == self._values[b], one_line(path))
        self.met: Met | None = None
        self.described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}

    def meet(self, files: Iterable[tuple[int, str, str]]) -> None:
        """Find the rows of all files, see `matching.Rows.meet`."""
        self.met = self._rows.meet(files)

    def join(self, index: pa.Table) -> tuple[pa.Table, dict[str, int]]:
        """``index`` with the columns (null without a label), and the counts of matches for the manifest."""
        assert self.met is not None
        nothing = [None] * len(self.columns)
        places = zip(index["source"].to_pylist(), index["file"].to_pylist(), strict=True)
        numbers = [self.met.places.get(place) for place in places]
        rows: list[list[Any]] = [nothing if row is None else self._values[row] for row in numbers]
        for i, name in enumerate(self.columns):
            index = index.append_column(name, pa.array([row[i] or None for row in rows], pa.string()))
        return index, {"matched": sum(row is not None for row in numbers), **self.met.described}


def _report(manifest: dict[str, Any], path: Path | str, started: float, already: bool = False) -> BuildReport:
    counts = manifest["counts"]
    numbers = (counts["found"], counts["kept"], counts["rejected"])
    seconds = time.monotonic() - started
    reasons, copies, pictures = counts["reasons"], counts["duplicates"], counts.get("pictures")
    beside, tables = 0, ()
    if pictures is None:
        beside, tables = counts.get("files_beside", 0), tuple(counts.get("unused_tables", ()))
    opt_out = manifest.get("opt_out")
    return BuildReport(
        *numbers,
        path,
        seconds,
        reasons,
        copies,
        already,
        pictures,
        opt_out,
        variants=counts.get("variants", 0),
        names=counts.get("names"),
        labels=manifest.get("labels"),
        close_ups=counts.get("close_ups", 0),
        beside=beside,
        tables=tables,
    )


def _nothing(found: int, reasons: Counter[str]) -> str:
    if not found:
        return "no files found in the sources: give a folder, tar or zip with pictures"
    listed = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common(5))
    return f"none of the {found:,} files can be used: {listed}"
