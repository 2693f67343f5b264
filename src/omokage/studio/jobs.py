"""Long work with progress that can be watched and cancelled: inversion, films, files.

Each lane has a thread, which does one job after the other: a file need not wait for a search. What happens to
a job is a list of events; whoever watches gets them from the number that they ask for, so a lost connection
loses nothing.
"""

import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from .refused import Refused, unknown

MOST_WAITING = 32
MOST_KEPT = 200  # jobs that are over
KEPT_SECONDS = 3600.0  # how long their files are kept
MOST_BYTES = 500 * 2**20  # of all files
MOST_EVENTS = 2000  # of one job; older ones are dropped
PREFIX = "omokage-studio-jobs-"  # of the folder with their files
YOUNG = 60.0  # seconds in which a folder may not be locked yet
PAUSE = 0.1  # seconds between two reports of progress

Lane = Literal["search", "files"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The user no longer wants it."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a job: "progress", "picture", "done" or "error"."""

    number: int
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class File:
    """A file that a job has made."""

    path: Path
    media_type: str


@dataclass(eq=False)
class Job:
    """A piece of long work.

    Attributes:
        id: random.
        folder: where it may write; deleted with it.
        files: what may be downloaded, by name.
    """

    id: str
    folder: Path
    work: "Callable[[Job], Mapping[str, Any]] | None"
    state: State = "waiting"
    done: float = 0.0
    total: float | None = None
    text: str = ""
    result: Mapping[str, Any] | None = None
    error: str | None = None
    files: dict[str, File] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    ended: float = 0.0
    _began: float = 0.0
    _told: float = 0.0
    _number: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def check(self) -> None:
        """Raise `Cancelled` if the user has cancelled it."""
        if self.state == "cancelled":
            raise Cancelled

    def report(self, done: float, total: float | None, text: str = "") -> None:
        """Say how far it is, at most every `PAUSE` seconds; raises `Cancelled`."""
        self.check()
        self.done, self.total, self.text = done, total, text or self.text
        now = time.monotonic()
        if now - self._told < PAUSE:
            return
        self._told = now
        passed = now - self._began
        left = passed * (total - done) / done if total and done and passed > 0.5 else None
        self.tell(
            "progress",
            {
                "done": done,
                "total": total,
                "left_s": None if left is None else round(max(0.0, left), 1),
                "text": self.text,
            },
        )

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event."""
        with self._changed:
            self._number += 1
            self.events.append(Event(self._number, kind, data))
            if len(self.events) > MOST_EVENTS:
                del self.events[: MOST_EVENTS // 2]
            watchers = list(self._watchers)
        for call in watchers:
            call()

    def since(self, number: int) -> list[Event]:
        """The events after that number."""
        with self._changed:
            return [event for event in self.events if event.number > number]

    @contextmanager
    def watched(self, call: Callable[[], None]) -> Iterator[None]:
        """Have ``call`` called, from any thread, whenever there is a new event."""
        with self._changed:
            self._watchers.append(call)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(call)

    def json(self) -> dict[str, Any]:
        """As the page gets it."""
        return {
            "id": self.id,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "text": self.text,
            "result": self.result,
            "error": self.error,
        }

    # As an `omokage.progress.Progress`.

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator["_Task"]:
        """A part of the work; its progress is the job's."""
        self._began, self._told = time.monotonic(), 0.0
        self.report(0, total, label)
        yield _Task(self, total)


@dataclass
class _Task:
    job: Job
    total: float | None
    done: float = 0.0

    def advance(self, n: float = 1, note: str = "") -> None:
        self.done += n
        self.job.report(self.done, self.total)


class Jobs:
    """The jobs of a studio.

    Their files are in a folder of their own, which is deleted at the end; the next studio deletes that of a
    process that was killed.
    """

    def __init__(self) -> None:
        _delete_left()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _locked(self._folder)
        self._jobs: dict[str, Job] = {}
        self._waiting: dict[Lane, list[Job]] = {"search": [], "files": []}
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._work, args=[waiting], name=f"studio-{lane}", daemon=True)
            for lane, waiting in self._waiting.items()
        ]
        for thread in self._threads:
            thread.start()

    def start(self, work: Callable[[Job], Mapping[str, Any]], lane: Lane = "files") -> Job:
        """Start a job, which waits for its turn. ``work`` returns the result.

        Raises:
            Refused: "busy": too many wait.
        """
        self.tidy()
        with self._changed:
            if len(self._waiting[lane]) >= MOST_WAITING:
                raise Refused("Too much is waiting. Please try again in a moment.", "busy", 429)
            job = Job(secrets.token_hex(12), self._folder / secrets.token_hex(12), work)
            self._jobs[job.id] = job
            self._waiting[lane].append(job)
            self._changed.notify_all()
        return job

    def job(self, id: str) -> Job:
        """The job; Refused if there is none."""
        found = self._jobs.get(id)
        if found is None:
            raise unknown("job", "There is no such job; its files are kept for an hour.")
        return found

    def cancel(self, id: str) -> None:
        """Cancel a job. One that runs stops at its next report; one that is over is forgotten."""
        job = self.job(id)
        with self._changed:
            for waiting in self._waiting.values():
                if job in waiting:
                    waiting.remove(job)
            over, job.state = job.over, "cancelled" if not job.over else job.state
        if over:
            self._forget(job)
        else:
            job.ended = time.monotonic()
            job.tell("error", {"error": "Cancelled.", "code": "cancelled"})

    def file(self, id: str, name: str) -> File:
        """A file of a job that is done; Refused if there is none."""
        found = self.job(id).files.get(name)
        if found is None or not found.path.is_file():
            raise unknown("file", "There is no such file; files are kept for an hour.")
        return found

    def close(self) -> None:
        """Cancel everything, and delete the files."""
        with self._changed:
            self._ended = True
            for job in self._jobs.values():
                if not job.over:
                    job.state = "cancelled"
                    job.tell("error", {"error": "The studio is being closed.", "code": "cancelled"})
            for waiting in self._waiting.values():
                waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(10)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tidy(self) -> None:
        """Forget jobs that ended long ago, and the oldest if there are too many or their files too large."""
        with self._changed:
            over = sorted((job for job in self._jobs.values() if job.over), key=lambda job: job.ended)
        sizes = {job.id: sum(_bytes(file.path) for file in job.files.values()) for job in over}
        total, now = sum(sizes.values()), time.monotonic()
        for number, job in enumerate(over):
            if now - job.ended > KEPT_SECONDS or len(over) - number > MOST_KEPT or total > MOST_BYTES:
                total -= sizes[job.id]
                self._forget(job)

    def _forget(self, job: Job) -> None:
        with self._changed:
            self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _work(self, waiting: list[Job]) -> None:
        while True:
            with self._changed:
                while not waiting and not self._ended:
                    self._changed.wait()
                if self._ended:
                    return
                job = waiting.pop(0)
                job.state = "running"
            self._run(job)

    def _run(self, job: Job) -> None:
        job._began = time.monotonic()
        try:
            job.folder.mkdir()
            work, job.work = job.work, None  # what it was asked with is not kept
            assert work is not None
            result = work(job)
            job.check()
            job.result, job.state, job.ended = result, "done", time.monotonic()
            job.tell("done", result)
        except Cancelled:
            shutil.rmtree(job.folder, ignore_errors=True)
        except UserError as error:
            self._failed(job, str(error), getattr(error, "code", "invalid"))
        except Exception:
            _log.exception("a job failed")
            self._failed(job, "Something went wrong on the server. Please try again.", "fault")

    def _failed(self, job: Job, sentence: str, code: str) -> None:
        if job.state == "cancelled":
            return
        job.error, job.state, job.ended = sentence, "failed", time.monotonic()
        job.tell("error", {"error": sentence, "code": code})


def _locked(folder: Path) -> int | None:
    """Lock a folder until the process ends or closes what is returned; None: this system cannot.

    Raises:
        OSError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _delete_left() -> None:
    """Delete the folders that this user's killed studios have left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # of a studio that runs, or gone meanwhile
            if time.time() - folder.lstat().st_mtime < YOUNG:
                continue
            lock = _locked(folder)
            if lock is None:
                return
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
