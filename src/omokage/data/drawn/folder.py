"""Draws many pictures into a folder."""

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from omokage.data.drawn.factors import FACTORS
from omokage.data.drawn.scene import checked_seed, checked_size, plan_face, plan_illustration
from omokage.data.engines.processes import WorkerPool, leave_if_worker_begins
from omokage.errors import UserError
from omokage.files import replacing
from omokage.progress import Progress, opened

_EDITION = 1  # version of the drawing: raised when the same seed gives another picture
_OWN = re.compile(
    r"((face|illustration)-\d{6,}\.png|factors\.csv|boxes\.json|\.[\w.-]+\.part|[\w.-]+\.writing)"
)
_BATCH = 16
FACE_SIZE, ILLUSTRATION_SIZE = 64, (720, 960)


def face_seed(seed: int, index: int) -> int:
    """The seed of the ``index``-th picture of :func:`draw`, for ``draw_face`` or ``draw_illustration``."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def draw(
    n: int,
    out: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    illustrations: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Draw ``n`` faces, or illustrations with several faces, into the folder ``out``.

    Writes ``face-000000.png`` and so on. For illustrations it writes ``illustration-000000.png`` and so on,
    and ``boxes.json``, a map from file name to ``[[x, y, w, h], ...]``. The last file is ``factors.csv``: one
    line per face with its file, factors, box and the seed of its picture. The bytes depend only on ``seed``,
    ``size`` and the index. Existing pictures are kept, so the same command goes on where it stopped.

    Args:
        n: number of pictures, 1 or more.
        out: a new folder, an empty one, or one that this function made.
        size: in pixels: the side of a face (None: 64), or (height, width) of an illustration (None: 720 by
            960; a single number: a square).
        seed: whole number, 0 or more.
        illustrations: draw scenes with one to four characters instead of faces.
        workers: number of processes (None: one per core).
        progress: advanced with every picture.

    Returns:
        The folder.

    Raises:
        UserError: an impossible value, or a folder that holds anything else.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UserError(f"the number of pictures is {n!r}: it must be a whole number, 1 or more")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UserError(f"workers is {workers!r}: it must be a whole number, 1 or more")
    seed = checked_seed(seed)
    shape = checked_size(
        (ILLUSTRATION_SIZE if illustrations else FACE_SIZE) if size is None else size, illustrations
    )
    leave_if_worker_begins()
    folder = Path(out)
    try:
        with _made(folder), _held(folder):
            _check_folder(folder, n, illustrations)
            try:
                _draw(n, folder, shape, seed, illustrations, workers or _cores(), progress)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("repeat the command to go on") from None
            finally:
                for half in folder.glob("*.writing"):  # left by workers that were ended while writing
                    half.unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is not a folder: name one for the pictures, it need not exist") from None
    except OSError as error:
        raise UserError(
            f"cannot write the pictures into {folder}: {error.strerror or error}; when that is solved, "
            "repeat the command to go on"
        ) from None
    return folder


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder and its parents. If the block fails, those that are new and empty are removed."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: it and its parents stay
            for place in new:
                place.rmdir()
        raise


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other process draws into it at the same time."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder} is being drawn into by another process: wait for it, or name another"
            ) from None
        yield
    finally:
        os.close(handle)


def _check_folder(folder: Path, n: int, illustrations: bool) -> None:
    stem = "illustration" if illustrations else "face"
    for entry in sorted(os.listdir(folder)):
        if not _OWN.fullmatch(entry) or not (folder / entry).is_file() or (folder / entry).is_symlink():
            raise UserError(
                f"{folder} holds {entry!r}, which is not a drawn picture: name a new or empty folder"
            )
        if entry.endswith((".part", ".writing")):  # `.part` is from an earlier version
            (folder / entry).unlink()
        elif entry.endswith(".png"):
            kind, number = entry[:-4].split("-")
            if kind != stem:
                raise UserError(f"{folder} holds drawn {kind}s, not {stem}s: name a new or empty folder")
            if int(number) >= n:
                raise UserError(
                    f"{folder} already holds more than {n} {stem}s: ask for more, or name another folder"
                )


def _draw(
    n: int,
    folder: Path,
    shape: tuple[int, int],
    seed: int,
    illustrations: bool,
    workers: int,
    progress: Progress | None,
) -> None:
    stem = "illustration" if illustrations else "face"
    batches = [range(start, min(start + _BATCH, n)) for start in range(0, n, _BATCH)]
    rows: dict[int, list[dict[str, Any]]] = {}
    with opened(progress, f"drawing {stem}s", n) as task:
        if workers == 1 or len(batches) == 1:
            for batch in batches:
                for index in batch:
                    rows[index] = _draw_one(folder, index, seed, shape, illustrations)
                    task.advance(1)
        else:
            pool = WorkerPool(min(workers, len(batches)))
            try:
                waiting: set[Future] = {
                    pool.submit(_draw_batch, folder, batch, seed, shape, illustrations) for batch in batches
                }
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        rows.update(future.result())
                        task.advance(len(future.result()))
            except BrokenProcessPool:
                pool.check_started()
                pool.end()
                raise UserError(
                    f"a process that drew into {folder} was ended from outside, for example because memory "
                    "ran out: repeat the command to go on, with fewer workers"
                ) from None
            except BaseException:
                pool.end()
                raise
            pool.close()
    ordered = [rows[index] for index in range(n)]
    if illustrations:
        boxes = {faces[0]["file"]: [[face[k] for k in "xywh"] for face in faces] for faces in ordered}
        _write(folder / "boxes.json", (json.dumps(boxes, indent=1) + "\n").encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, ["file", *FACTORS, *"xywh", "seed"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(face for faces in ordered for face in faces)
    _write(folder / "factors.csv", table.getvalue().encode())


def _draw_batch(
    folder: Path, batch: range, seed: int, shape: tuple[int, int], illustrations: bool
) -> dict[int, list[dict[str, Any]]]:
    return {index: _draw_one(folder, index, seed, shape, illustrations) for index in batch}


def _draw_one(
    folder: Path, index: int, seed: int, shape: tuple[int, int], illustrations: bool
) -> list[dict[str, Any]]:
    """Write one picture unless it exists; returns the lines of its faces for ``factors.csv``."""
    own = face_seed(seed, index)
    path = folder / f"{'illustration' if illustrations else 'face'}-{index:06d}.png"
    plan = plan_illustration(own, shape) if illustrations else plan_face(own, shape[0])
    label = f"omokage drawing {_EDITION}, seed {own}"
    if not path.exists():
        text = PngImagePlugin.PngInfo()
        text.add_text("Source", label)
        data = io.BytesIO()
        Image.fromarray(plan.paint().finished()).save(data, "PNG", pnginfo=text)
        _write(path, data.getvalue())
    else:
        try:
            with Image.open(path) as there:
                same = there.info.get("Source") == label and there.size == shape[::-1]
        except OSError:
            same = False
        if not same:
            raise UserError(
                f"{path} is not what seed {seed} at {shape[1]}x{shape[0]} pixels draws: name another folder"
            )
    return [
        {
            "file": path.name,
            **factors,
            "glasses": int(factors["glasses"]),
            **dict(zip("xywh", box, strict=True)),
            "seed": own,
        }
        for factors, box in zip(plan.factors, plan.boxes, strict=True)
    ]


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return  # keeps its time, so that a face set built from the folder stays valid
    with replacing(path, locked=True) as unfinished:
        unfinished.write_bytes(data)
