"""Builds a face set from sources in one pass that can be resumed.

`build` checks what is asked for and makes a `Plan` of it. An engine handles the pictures (`pipeline`), their
faces are kept in `pieces`, and `finishing` makes the face set of them. All this happens in a hidden folder
beside the face set, which is renamed when it is complete; the same command goes on there. The result does not
depend on interruptions or on the number of workers.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...progress import Progress, opened
from ..derive.copies import DROPS
from ..engines.processes import (
    Engine,
    Here,
    Processes,
    Threads,
    cores,
    leave_if_worker_begins,
)
from ..sources.beside import names_in
from ..sources.names import NameLabels
from ..sources.opening import open_source
from ..sources.places import url_of
from ..steps.colours import check_confidence
from ..store.faceset import FaceSet
from ..store.format import MANIFEST, partial_folder
from ..store.manifest import read_manifest, refuse_face_set
from ..store.publish import Target
from ..store.unfinished import disk_errors, made_by, target, working_folder
from ..text import one_line
from .finishing import finish
from .options import AsTheyCome, Options
from .pieces import Pieces
from .plan import Plan

MAX_SIZE = 4096
ENGINES = ("local", "ray")
FAR_LOADERS = 16


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
    tables: names of label tables among them that were not used, at most `finishing.SHOWN_TABLES`.
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
    opt_out: str | Path | None = None,
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
    opt_out: a list of artists and hashes that must not be used (`optout.read_opt_out`). With ``as_faces``,
        artists are known from ``labels``, ``labels_from`` and names of folders.
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
    with ExitStack() as stack, disk_errors(folder):
        table = () if labels is None else (Path(labels).expanduser(),)
        skip = (folder, partial_folder(folder), *table)
        with opened(progress, "looking through the sources", len(sources)) as task:
            opened_sources = []
            for source in sources:
                opened_sources.append(stack.enter_context(open_source(source, skip)))
                task.advance()
        by_name = None
        if labels_from is not None:
            by_name = NameLabels(labels_from, several=len(sources) > 1)
            by_name.check(opened_sources)
        chosen: Options | AsTheyCome
        if as_faces:
            chosen = AsTheyCome(size, drop, estimate, min_confidence)
        else:
            chosen = options or Options()
            chosen = chosen if size is None else replace(chosen, size=(size, size))
        if opt_out is not None:
            chosen = replace(chosen, opt_out=str(Path(opt_out).expanduser().absolute()))
        plan = Plan(opened_sources, chosen, labels, by_name, detections)
        if far is not None:
            stack.enter_context(far.locked())
            if (manifest := far.manifest(plan.described)) is not None:
                far.finish()
                return _report(manifest, far.place.shown, started, already=True)
            far.forget_other(plan.described)
        slow = any(source.far for source in opened_sources)
        threads = as_faces and not estimate  # a network runs in processes, on one thread each
        new = _build(folder, plan, _engine(engine, address, workers, threads, slow), progress)
        manifest = read_manifest(folder, one_line(folder))
        if far is None:
            return _report(manifest, folder, started, already=not new)
        far.upload(progress)
        far.finish()
        return _report(manifest, far.place.shown, started)


def _build(out: Path, plan: Plan, engine: Engine, progress: Progress | None) -> bool:
    """Make ``out``; returns False if it was finished before."""
    with working_folder(out, plan.described, lambda folder: _is_built(folder, plan.described)) as partial:
        if partial is None:
            return False
        if _is_made(partial, plan.described):  # only the last name is missing
            return True
        if isinstance(plan.options, Options):
            _check_room(partial, plan.options, sum(source.total or 0 for source in plan.sources))
        if plan.table is not None:
            plan.table.meet(names_in(plan.sources))
        pieces = Pieces(partial, plan)
        pieces.run(engine, progress)
        finish(pieces, progress)
    return True


def _check_room(partial: Path, options: Options, files: int) -> None:
    need, free = expected_bytes(options, files), shutil.disk_usage(partial).free
    if free < need / 8:
        raise UserError(
            f"about {need / 2**20:,.0f} MB are needed for {files:,} files and only "
            f"{free / 2**20:,.0f} MB are free at {one_line(partial.parent)}: make room, "
            "or another folder with -o"
        )


def expected_bytes(options: Options, files: int) -> int:
    """A rough estimate of the bytes that the faces of ``files`` pictures will need on the disk."""
    height, width = options.size or (384, 384)
    a_pixel = {"jpg": 0.45, "png": 1.7, "webp": 1.2}[options.format]
    return int(files * 1.3 * height * width * a_pixel)


def _is_made(folder: Path, plan: dict[str, Any]) -> bool:
    """Whether the face set of this plan is complete in ``folder``. The manifest shows it: it comes last."""
    try:
        return made_by(read_manifest(folder, ""), plan)
    except UserError:
        return False


def _is_built(out: Path, plan: dict[str, Any]) -> bool:
    """Whether ``out`` is the finished face set of this plan; `UserError` if it is that of another plan."""
    if not (out / MANIFEST).is_file():
        return False
    if not _is_made(out, plan):
        read_manifest(out, one_line(out))
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
