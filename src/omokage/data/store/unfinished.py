"""The hidden folder in which a face set, or something made from one, is written.

It is beside the result and is renamed to it when all is done. Its folder `STATE` has the plan and records of
the finished work. The plan is everything that determines the result. The same command goes on from there;
another command starts anew. Only one process at a time may work in it.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import UserError
from ..text import one_line
from .format import MANIFEST, json_bytes, partial_folder, sync_folder, write_file

STATE = ".state"
WORK = 2  # the form of unfinished work; work of another form is begun anew
_PLAN = "plan.json"


def target(out: str | Path) -> Path:
    """``out`` as an absolute path, links resolved."""
    path = Path(out).expanduser()
    return (path.resolve() if path.is_symlink() or path.exists() else path).absolute()


@contextmanager
def working_folder(
    out: Path, plan: dict[str, Any], complete: Callable[[Path], bool]
) -> Iterator[Path | None]:
    """The hidden folder in which ``out`` is made; renamed to ``out`` if the block ends without an error.

    Work on the same plan that is there already stays. Only one process at a time may have the folder.

    plan: everything that determines the result. Unfinished work of another plan is deleted.
    complete: tells whether a folder holds the finished result of the plan; then the block gets None.
    """
    partial = partial_folder(out)
    with disk_errors(out):
        if complete(out):
            shutil.rmtree(out / STATE, ignore_errors=True)  # left by a process that was killed at its end
            yield None
            return
        refuse_foreign(out)
        with locked(partial, out):
            if complete(out):  # another process finished it before this one got the lock
                yield None
                return
            begin(partial, plan)
            yield partial
            os.rename(partial, out)
            shutil.rmtree(out / STATE)
            sync_folder(out.parent)


def begin(partial: Path, plan: dict[str, Any]) -> None:
    """Prepare the folder ``partial`` for ``plan``. Work on this plan is kept, other work is deleted.

    Raises `UserError` if something else is there.
    """
    state, plan = partial / STATE, {"omokage": __version__, "work": WORK, **plan}
    if _same(state / _PLAN, plan):
        return
    names = {entry.name for entry in partial.iterdir()}
    if names and not names & {STATE, MANIFEST}:
        raise UserError(f"{one_line(partial)} is in the way and was not made by omokage: move it away")
    # Delete the state folder last: it shows that the rest was made by omokage and may be deleted.
    for name in sorted(names, key=lambda name: name == STATE):
        path = partial / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    state.mkdir()
    write_file(state / _PLAN, json_bytes(plan))


def _same(file: Path, plan: dict[str, Any]) -> bool:
    try:
        return json.loads(file.read_bytes()) == json.loads(json.dumps(plan))
    except (OSError, ValueError):
        return False


def refuse_foreign(out: Path) -> None:
    """Raises `UserError` unless ``out`` is a new or empty folder."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{one_line(out)} is a file: give a folder that does not exist yet with -o")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{one_line(out)} is not empty, and not what this command makes: give a new folder with -o"
        )
    if out.is_mount():
        raise UserError(f"{one_line(out)} is where a disk is mounted: give a folder inside it with -o")


@contextmanager
def locked(partial: Path, out: Path, shown: str | None = None) -> Iterator[None]:
    """Lock ``partial`` for this process. The system releases the lock when the process ends in any way.

    shown: name of ``out`` in messages; None: its path.
    """
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
            name = one_line(out) if shown is None else shown
            message = f"{name} is being built by another process: wait for it, or end it"
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
        if partial.exists() and _is_untouched(partial):
            shutil.rmtree(partial)
        os.close(handle)


def _is_untouched(partial: Path) -> bool:
    """Whether ``partial`` has nothing, or only the plan, so that there is no work to go on with."""
    state = partial / STATE
    if not {path.name for path in partial.iterdir()} <= {STATE}:
        return False
    return not state.exists() or {path.name for path in state.iterdir()} <= {_PLAN}


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn errors of the system while ``out`` is written into `UserError`."""
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


def check_room(out: Path, needed: int) -> None:
    """Raises `UserError` unless the disk of ``out`` has ``needed`` bytes free, and a little more."""
    folder = partial_folder(out)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free + there
    if needed * 1.02 + 2**20 > free:
        raise UserError(
            f"{one_line(out)} needs about {needed / 1e6:,.0f} MB and its disk has {free / 1e6:,.0f} MB free: "
            "make room, or give a folder on another disk"
        )


def made_by(manifest: dict[str, Any], plan: dict[str, Any]) -> bool:
    """Whether a build with this plan made the manifest."""
    labels = manifest.get("labels")
    labels = {name: labels.get(name) for name in ("name", "sha256")} if isinstance(labels, dict) else None
    return {**plan, "labels": labels} == {name: manifest.get(name) for name in plan} | {
        "labels": plan["labels"]
    }
