"""From sources to a face set: read, write, in one resumable pass; `building` also cuts faces out.

Work lies in a hidden folder beside the face set until it is complete, and is renamed then. After every shard
a small state is written; the same command goes on from there, and the result depends neither on interruptions
nor on the number of workers.
"""

import csv
import errno
import fcntl
import hashlib
import io
import itertools
import json
import os
import shutil
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..errors import UserError
from ..progress import Progress, opened
from .faceset import (
    COLUMNS,
    FORMAT,
    GZIP_START,
    INDEX,
    KIND,
    MANIFEST,
    REJECTED,
    SCHEMA,
    FaceSet,
    content_hash,
    cores,
    deflate_member,
    partial_folder,
    read_manifest,
    shard_end,
    tar_member,
)
from .read import RESIZE_RULE, Unreadable, cover, one_line, quiet, read_picture, to_png
from .sources import Found, Source, natural, open_source, stem

if TYPE_CHECKING:
    from .pipeline import Options

SHARD_PICTURES = 4096
SHARD_BYTES = 64 * 2**20
MAX_SIZE = 4096

LABEL = "label"  # the column of labels that a source knows itself

_STATE = ".state"
_PLAN = "plan.json"
_CHUNK = 4


@dataclass(frozen=True)
class BuildReport:
    """What a build did: ``kept + rejected == found`` always.

    found, kept, rejected: of pictures, where they are faces already; else of faces.
    reasons: how many were left out for which reason; they are listed in `rejected.csv`.
    duplicates: how many of the kept are byte for byte equal to an earlier one.
    already: the face set was there already, nothing was done.
    pictures: of illustrations: found, kept (a face of it is kept), rejected and the reasons; else None.
    """

    found: int
    kept: int
    rejected: int
    path: Path
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    already: bool = False
    pictures: dict[str, Any] | None = None


def build(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    as_faces: bool = False,
    size: int | None = None,
    labels: str | Path | None = None,
    options: "Options | None" = None,
    detections: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the face set ``out`` (a folder) from folders, tars, zips, lists of files or single pictures.

    IDX files (MNIST), alone or in a folder, are read too; their labels become the column ``label``.

    as_faces: the pictures are faces already: their bytes are kept. Else faces are found in illustrations and
        cut out, as ``options`` say.
    size: None keeps every picture (or crop) in the size it comes in; else all become size×size: faces by
        `read.RESIZE_RULE`, crops by `upscale.to_size`.
    labels: a CSV with a column `file` and further columns, which are joined to the index by file name; for
        illustrations also JSON lines of a booru.
    options: of the steps from illustration to face; ``size`` goes before its size. None: the defaults.
    detections: another face set of the same illustrations and detector: its boxes are used, nothing is
        detected again.
    workers: threads that decode and encode (of illustrations: processes); None: one a core.

    Repeating the call goes on where an interrupted one stopped; where the same face set is finished it only
    returns its report. Raises `UserError` if nothing is kept, the disk is full, ``out`` holds something else,
    or another process is building it.
    """
    started = time.monotonic()
    if as_faces and (options is not None or detections is not None):
        raise UserError(
            "--as-faces keeps pictures as they come: leave it out, or the other options of building"
        )
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UserError(f"size {size} is impossible: give 1 to {MAX_SIZE} pixels, or none to keep sizes")
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers are impossible: give 1 or more")
    if not sources:
        raise UserError("no source given: name a folder, a tar, a zip or a list of files")
    out = Path(out).expanduser()
    if out.is_symlink() or out.exists():
        out = out.resolve()
    out = out.absolute()
    partial = partial_folder(out)
    with ExitStack() as stack, _disk_errors(out):
        label_table = _Labels(labels) if labels is not None and as_faces else None
        with opened(progress, "looking through the sources", len(sources)) as task:
            opened_sources = []
            for source in sources:
                opened_sources.append(stack.enter_context(open_source(source, (out, partial))))
                task.advance()
        if not as_faces:
            from .building import build_illustrations
            from .pipeline import Options

            options = options or Options()
            new = build_illustrations(
                stack,
                opened_sources,
                out,
                partial,
                options if size is None else replace(options, size=(size, size)),
                labels=labels,
                detections=detections,
                workers=workers or cores(),
                progress=progress,
            )
            return _report(out, started, already=not new)
        carried = _carried(opened_sources, label_table)
        rule = None if size is None else RESIZE_RULE
        plan: dict[str, Any] = {
            "options": {"as_faces": as_faces, "size": size, "resize_rule": rule},
            "sources": [s.described for s in opened_sources],
            "labels": None if label_table is None else label_table.described,
        }
        if report := _finished(out, plan):
            return report
        _refuse_foreign(out)
        stack.enter_context(_locked(partial, out))
        if report := _finished(out, plan):  # by another process, just before this one had the lock
            return report
        if not _complete(partial, plan):
            work = _Work(partial, plan, size, workers or cores())
            work.run(opened_sources, progress)
            work.carried = carried
            work.finish(label_table)
        if (partial / _STATE).exists():
            shutil.rmtree(partial / _STATE)
        os.rename(partial, out)
        _sync_folder(out.parent)
        return _report(out, started)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A face on its way to a shard."""

    key: str
    file: str
    source: str
    data: bytes
    raw: bytes
    deflated: bytes
    sha256: bytes
    width: int
    height: int
    format: str
    done: str


@dataclass(frozen=True, slots=True)
class _Rejected:
    file: str
    reason: str


def _prepare(found: Found, key: str, source: str, size: int | None) -> _Stored | _Rejected:
    try:
        data = found.load()
        picture = read_picture(data)
        done = list(picture.done)
        image, extension = picture.image, picture.extension
        if size is not None and image.size != (size, size):
            done.append(f"{image.width}×{image.height} to {size}×{size}")
            image, extension = cover(image, (size, size)), None
        if extension is None:
            data, extension = to_png(image), "png"
        raw = tar_member(f"{key}.{extension}", data)
    except Unreadable as reason:
        return _Rejected(one_line(f"{source}/{found.name}".rstrip("/"), 1000), one_line(reason))
    except MemoryError:
        return _Rejected(one_line(f"{source}/{found.name}", 1000), "needs too much memory")
    digest = hashlib.sha256(data).digest()
    name = one_line(found.name, 1000)
    return _Stored(
        key, name, source, data, raw, deflate_member(raw), digest, *image.size, extension, "; ".join(done)
    )


class _Keys:
    """Unique keys from file names, in the order of finding; equal ones get a number."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        base = key = stem(name)
        # Case is ignored, so that a set can be exported to any file system.
        while key.casefold() in self._next:
            number = self._next[base.casefold()] = self._next.get(base.casefold(), 1) + 1
            key = f"{base}-{number}"
        self._next[key.casefold()] = 1
        return key


class _Shard:
    """One shard being written: under a temporary name until `close`."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number, self.name = number, f"faces-{number:06d}.tar.gz"
        self._path, self._temporary = folder / self.name, folder / f"{self.name}.writing"
        self._file: IO[bytes] = open(self._temporary, "wb")  # noqa: SIM115 - closed by close or abandon
        self._crc = self._size = 0
        self.rows: list[tuple] = []
        self.picture_bytes = 0
        self.offset = self._write(GZIP_START)

    def _write(self, data: bytes) -> int:
        return self._file.write(data)

    def add(self, face: _Stored) -> None:
        self._write(face.deflated)
        self._crc = zlib.crc32(face.raw, self._crc)
        self._size += len(face.raw)
        self.rows.append(
            (
                face.key,
                self.number,
                self.offset,
                len(face.deflated),
                len(face.data),
                face.width,
                face.height,
                face.format,
                face.done,
                face.source,
                face.file,
                face.sha256,
            )
        )
        self.offset += len(face.deflated)
        self.picture_bytes += len(face.data)

    @property
    def full(self) -> bool:
        return len(self.rows) >= SHARD_PICTURES or self.offset >= SHARD_BYTES

    def close(self) -> int:
        self.offset += self._write(shard_end(self._crc, self._size))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self._path)
        return self.offset

    def abandon(self) -> None:
        with suppress(OSError):  # what was buffered may not fit on a full disk either
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class _Work:
    """The unfinished face set in ``partial``."""

    def __init__(self, partial: Path, plan: dict[str, Any], size: int | None, workers: int) -> None:
        self.partial, self.plan, self.size, self.workers = partial, plan, size, workers
        self.state = partial / _STATE
        self.done: list[dict[str, Any]] = []  # one state a shard
        self.carried: dict[tuple[str, str], str] = {}  # labels that sources know, see `_carried`
        if _same_plan(self.state, plan):
            self._resume()
        else:
            self._start_anew()

    def _start_anew(self) -> None:
        names = {entry.name for entry in self.partial.iterdir()}
        if names and not names & {_STATE, MANIFEST}:
            raise UserError(f"{one_line(self.partial)} is in the way and not of omokage: move it away")
        # The state folder goes last: it is what makes the rest ours to delete.
        for name in sorted(names, key=lambda name: name == _STATE):
            path = self.partial / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.state.mkdir()
        _write(self.state / _PLAN, _json({"omokage": __version__, **self.plan}))

    def _resume(self) -> None:
        for number in itertools.count():
            try:
                state = json.loads((self.state / f"{number:06d}.json").read_bytes())
                shard = state["shard"]
                if shard and (self.partial / shard["name"]).stat().st_size != shard["bytes"]:
                    break
            except (FileNotFoundError, ValueError):
                break
            self.done.append(state)
        named = {state["shard"]["name"] for state in self.done if state["shard"]}
        named |= {f"{number:06d}{kind}" for number in range(len(self.done)) for kind in (".json", ".parquet")}
        for path in (*self.partial.glob("faces-*"), *self.state.glob("[0-9]*")):
            if path.name not in named:
                path.unlink()

    def run(self, sources: Sequence[Source], progress: Progress | None) -> None:
        if self.done and self.done[-1]["complete"]:
            return
        position = self.done[-1]["position"] if self.done else 0
        kept = sum(state["kept"] for state in self.done)
        rejected = sum(len(state["rejected"]) for state in self.done)
        totals = [source.total for source in sources]
        total = None if None in totals else sum(t for t in totals if t is not None)
        shard: _Shard | None = None
        refused: list[tuple[str, str]] = []
        pool = ThreadPoolExecutor(self.workers, "build")
        try:
            with quiet(), opened(progress, "building", total) as task:
                task.advance(position)
                for result in self._results(pool, sources, position):
                    position += 1
                    if isinstance(result, _Rejected):
                        refused.append((result.file, result.reason))
                        rejected += 1
                    else:
                        shard = shard or _Shard(self.partial, self._next_shard())
                        shard.add(result)
                        kept += 1
                    task.advance(1, f"{kept:,} kept, {rejected:,} rejected")
                    if shard and shard.full:
                        self._checkpoint(shard, refused, position, False)
                        shard, refused = None, []
                self._checkpoint(shard, refused, position, True)
                shard = None
        finally:
            pool.shutdown(cancel_futures=True)
            if shard:
                shard.abandon()

    def _next_shard(self) -> int:
        return sum(state["shard"] is not None for state in self.done)

    def _results(
        self, pool: ThreadPoolExecutor, sources: Sequence[Source], start: int
    ) -> Iterator[_Stored | _Rejected]:
        """The outcome of every file from position ``start`` on, in order, few at a time in memory."""
        keys = _Keys()
        named = ((found, keys(found.name), source.name) for source in sources for found in source)
        waiting: deque[Future[list[_Stored | _Rejected]]] = deque()

        def prepare(chunk: tuple[tuple[Found, str, str], ...]) -> list[_Stored | _Rejected]:
            return [_prepare(found, key, source, self.size) for found, key, source in chunk]

        # Keys depend on all names before, so the files already done are still walked over.
        rest = itertools.islice(named, start, None)
        while chunk := tuple(itertools.islice(rest, _CHUNK)):
            waiting.append(pool.submit(prepare, chunk))
            if len(waiting) > 2 * self.workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def _checkpoint(
        self, shard: _Shard | None, refused: list[tuple[str, str]], position: int, complete: bool
    ) -> None:
        number = len(self.done)
        described = None
        if shard:
            size = shard.close()
            described = {"name": shard.name, "bytes": size, "pictures": len(shard.rows)}
            columns = zip(*shard.rows, strict=True)
            arrays = [pa.array(values, kind) for values, kind in zip(columns, COLUMNS.values(), strict=True)]
            _write(self.state / f"{number:06d}.parquet", _parquet(pa.table(arrays, schema=SCHEMA)))
        state = {
            "shard": described,
            "kept": len(shard.rows) if shard else 0,
            "bytes": shard.picture_bytes if shard else 0,
            "rejected": refused,
            "position": position,
            "complete": complete,
        }
        # The JSON file is written last: it says that the shard and its rows are there.
        _write(self.state / f"{number:06d}.json", _json(state))
        self.done.append(state)

    def finish(self, labels: "_Labels | None") -> None:
        found, kept = self.done[-1]["position"], sum(state["kept"] for state in self.done)
        reasons: Counter[str] = Counter()
        rejected = io.StringIO()
        writer = csv.writer(rejected, lineterminator="\n")
        writer.writerow(("file", "reason"))
        for state in self.done:
            writer.writerows(state["rejected"])
            reasons.update(reason.split(":")[0] for _, reason in state["rejected"])
        if not kept:
            shutil.rmtree(self.partial)
            raise UserError(_nothing(found, reasons))
        tables = [
            pq.read_table(self.state / f"{number:06d}.parquet", schema=SCHEMA)
            for number, state in enumerate(self.done)
            if state["shard"]
        ]
        index = pa.concat_tables(tables).combine_chunks()
        keys = index["key"].to_pylist()
        index = index.take(sorted(range(len(keys)), key=lambda i: natural(keys[i])))
        digests = index["sha256"].to_pylist()
        counts = {
            "found": found,
            "kept": kept,
            "rejected": found - kept,
            "duplicates": kept - len(set(digests)),
            "bytes": sum(state["bytes"] for state in self.done),
            "reasons": dict(sorted(reasons.items())),
        }
        if self.carried:
            places = zip(index["source"].to_pylist(), index["file"].to_pylist(), strict=True)
            index = index.append_column(
                LABEL, pa.array([self.carried.get(place) for place in places], pa.string())
            )
        labelled = None
        if labels is not None:
            index, matched = labels.join(index)
            labelled = {**labels.described, "matched": matched}
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "omokage": __version__,
            **self.plan,
            "labels": labelled,
            "counts": counts,
            "content_hash": content_hash(index["key"].to_pylist(), digests),
            "shards": [state["shard"] for state in self.done if state["shard"]],
        }
        _write(self.partial / REJECTED, rejected.getvalue().encode())
        _write(self.partial / INDEX, _parquet(index))
        _write(self.partial / MANIFEST, _json(manifest))


def _carried(sources: Sequence[Source], labels: "_Labels | None") -> dict[tuple[str, str], str]:
    """Labels that sources know themselves, by the names of source and item."""
    knowing = [source for source in sources if source.labels]
    names = [source.name for source in sources]
    for source in knowing:
        if names.count(source.name) > 1:
            raise UserError(f"two sources are called {source.name}, and labels go by name: rename one")
        if labels is not None and LABEL in labels.columns:
            raise UserError(f"{source.name} has labels of its own: give the column {LABEL!r} another name")
    return {
        (source.name, one_line(item, 1000)): label
        for source in knowing
        for item, label in source.labels.items()
    }


class _Labels:
    """Columns of a CSV by file name."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        try:
            data = path.read_bytes()
            rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
        if not rows or "file" not in rows[0] or len(set(rows[0])) != len(rows[0]) or len(rows[0]) < 2:
            raise UserError(f"labels {one_line(path)}: the first line must name columns, one of them `file`")
        place = rows[0].index("file")
        self.columns = [one_line(name) for i, name in enumerate(rows[0]) if i != place]
        if taken := set(self.columns) & set(COLUMNS):
            raise UserError(f"labels {one_line(path)}: the column {sorted(taken)[0]!r} needs another name")
        self._rows: dict[str, list[str]] = {}
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(rows[0]):
                if row:
                    counts = f"{len(row)} columns, not {len(rows[0])}"
                    raise UserError(f"labels {one_line(path)}: line {number} has {counts}")
                continue
            self._rows[row[place]] = row[:place] + row[place + 1 :]
        self.described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}

    def join(self, index: pa.Table) -> tuple[pa.Table, int]:
        """``index`` with the columns added (null where nothing is known), and how many files have a row."""
        nothing = [None] * len(self.columns)
        rows: list[list[Any]] = []
        for file in index["file"].to_pylist():
            # By the whole name in its source, else by its last part.
            rows.append(self._rows.get(file) or self._rows.get(file.rsplit("/", 1)[-1]) or nothing)
        for i, name in enumerate(self.columns):
            index = index.append_column(name, pa.array([row[i] or None for row in rows], pa.string()))
        return index, sum(row is not nothing for row in rows)


def _finished(out: Path, plan: dict[str, Any]) -> BuildReport | None:
    """The report of ``out`` if it is the finished face set of this plan; `UserError` if of another."""
    started = time.monotonic()
    if not (out / MANIFEST).is_file():
        return None
    if not _made_by(read_manifest(out, one_line(out)), plan):
        raise UserError(
            f"{one_line(out)} is already a face set, of other sources or options: "
            "give another folder with -o, or delete that one first"
        )
    FaceSet.open(out)
    return _report(out, started, already=True)


def _complete(partial: Path, plan: dict[str, Any]) -> bool:
    """Whether ``partial`` only waits to be renamed: its manifest is written last."""
    try:
        return _made_by(read_manifest(partial, ""), plan)
    except UserError:
        return False


def _made_by(manifest: dict[str, Any], plan: dict[str, Any]) -> bool:
    labels = manifest.get("labels")
    labels = {name: labels.get(name) for name in ("name", "sha256")} if isinstance(labels, dict) else None
    return {**plan, "labels": labels} == {name: manifest.get(name) for name in plan} | {
        "labels": plan["labels"]
    }


def _report(out: Path, started: float, already: bool = False) -> BuildReport:
    counts = read_manifest(out, one_line(out))["counts"]
    numbers = (counts["found"], counts["kept"], counts["rejected"])
    seconds = time.monotonic() - started
    reasons, copies, pictures = counts["reasons"], counts["duplicates"], counts.get("pictures")
    return BuildReport(*numbers, out, seconds, reasons, copies, already, pictures)


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{one_line(out)} is a file: give a folder that does not exist yet with -o")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{one_line(out)} is not empty and not a face set: give a new folder with -o")
    if out.is_mount():
        raise UserError(f"{one_line(out)} is where a disk is mounted: give a folder inside it with -o")


@contextmanager
def _locked(partial: Path, out: Path) -> Iterator[None]:
    """Hold ``partial`` for this process alone; the system lets go when the process ends, however it ends."""
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # renamed by the process that finished it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been finished and renamed between opening and locking.
            same = partial.exists() and os.path.samestat(os.fstat(handle), partial.stat())
        except BlockingIOError:
            os.close(handle)
            message = f"{one_line(out)} is being built by another process: wait for it, or end it"
            raise UserError(message) from None
        except BaseException:
            os.close(handle)
            raise
        if same or (out / MANIFEST).exists():
            break
        os.close(handle)
    try:
        yield
    finally:
        if partial.exists() and not any(partial.iterdir()):
            partial.rmdir()
        os.close(handle)


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = one_line(out)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {where} is full: make room and repeat the command, it goes on where it stopped"
            ) from None
        at = f" at {one_line(error.filename)}" if error.filename else ""
        raise UserError(f"building {where} failed{at}: {one_line(error.strerror or error)}") from None


def _same_plan(state: Path, plan: dict[str, Any]) -> bool:
    try:
        return json.loads((state / _PLAN).read_bytes()) == {"omokage": __version__, **plan}
    except (OSError, ValueError):
        return False


def _nothing(found: int, reasons: Counter[str]) -> str:
    if not found:
        return "no files found in the sources: give a folder, tar or zip with pictures"
    listed = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common(5))
    return f"none of the {found:,} files can be used: {listed}"


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    plain = ["key", "offset", "length", "bytes", "file", "sha256"]  # a dictionary of unique values only costs
    dictionary = [name for name in table.column_names if name not in plain]
    options = {"compression": "zstd", "compression_level": 9, "write_statistics": False}
    pq.write_table(table, out, use_dictionary=dictionary, **options)
    return out.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    temporary = path.with_name(path.name + ".writing")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
