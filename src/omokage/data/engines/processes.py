"""Engines run the work on many items in this process, in threads, or in processes; `cluster` adds Ray.

An engine only runs functions. It does not know what they do, and results come in the order of the items. So
the results do not depend on the engine.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from ...errors import UserError

Item = TypeVar("Item")
Parcel = TypeVar("Parcel")
Result = TypeVar("Result")

_CHUNK = 4


@dataclass(frozen=True)
class Steps(Generic[Item, Parcel, Result]):
    """The functions applied to every item.

    load: turns an item into a parcel that can go to another process. It is called from several threads of the
        process that has the sources open. It must store errors of the item in the parcel; an error that it
        raises ends the work.
    work: turns a parcel into a result. It must be picklable, because it may run in any process.
    lost: returns the result of a parcel that ended the process working on it.
    """

    load: Callable[[Item], Parcel]
    work: Callable[[Parcel], Result]
    lost: Callable[[Parcel], Result]


class Engine(Protocol):
    """Runs `Steps` on items. Close the generator that `run` returns to end the work."""

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        """Every item with its result, in order. Only few items are in progress at a time."""
        ...


class Here:
    """Works on one item after another in this process.

    loaders: number of threads that load ahead, as in `Processes`; 0: none.
    """

    def __init__(self, loaders: int = 0) -> None:
        self.loaders = loaders

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        if not self.loaders:
            for item in items:
                yield item, steps.work(steps.load(item))
            return
        with closing(in_threads(steps.load, items, self.loaders)) as parcels:
            for item, parcel in parcels:
                yield item, steps.work(parcel)


class Threads:
    """Works in threads, for work that is short or releases the interpreter lock."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        def several(chunk: tuple[Item, ...]) -> list[Result]:
            return [steps.work(steps.load(item)) for item in chunk]

        with closing(in_threads(several, chunks(items, _CHUNK), self.workers)) as done:
            for chunk, results in done:
                yield from zip(chunk, results, strict=True)


class Processes:
    """Works in other processes of this machine. If one dies, only its own item is lost.

    loaders: number of threads that load ahead; more than one per process is useful for remote sources.
    """

    def __init__(self, workers: int, loaders: int = 2) -> None:
        self.workers, self.loaders = workers, loaders

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        pool = WorkerPool(self.workers, one_thread)
        waiting: deque[tuple[Item, Parcel, Future[Result]]] = deque()
        try:
            with closing(in_threads(steps.load, items, self.loaders)) as parcels:
                while True:
                    while len(waiting) <= 2 * self.workers and (following := next(parcels, None)):
                        item, parcel = following
                        waiting.append((item, parcel, _submit(pool, steps, parcel)))
                    if not waiting:
                        break
                    item, parcel, future = waiting.popleft()
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        # Any item in progress may be the cause, so each of them is tried alone.
                        pool.check_started()
                        pool.end()
                        yield item, _alone(steps, parcel)
                        for item, parcel, _ in waiting:
                            yield item, _alone(steps, parcel)
                        waiting.clear()
                        pool = WorkerPool(self.workers, one_thread)
                        continue
                    yield item, result
        except BaseException:
            pool.end()
            raise
        pool.close()


def _alone(steps: Steps[Any, Parcel, Result], parcel: Parcel) -> Result:
    pool = WorkerPool(1, one_thread)
    try:
        return pool.submit(steps.work, parcel).result()
    except BrokenProcessPool:
        pool.check_started()
        return steps.lost(parcel)
    finally:
        pool.end()


def _submit(pool: "WorkerPool", steps: Steps[Any, Parcel, Result], parcel: Parcel) -> Future[Result]:
    try:
        return pool.submit(steps.work, parcel)
    except BrokenProcessPool as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        return failed


class WorkerPool:
    """Processes of this machine that run functions, and that can be ended at once.

    They are spawned, not forked: threads of the calling process (torch has some) do not survive a fork. They
    ignore Ctrl-C from their first instruction on and leave it to the calling process. They end when it ends.

    workers: number of processes. begin: called once in each of them; must be a function of a module.

    Raises `UserError` in a script that is not in a file: workers load the script of the calling process.
    """

    def __init__(self, workers: int, begin: Callable[[], None] | None = None) -> None:
        _check_script()
        self._context = _Context()
        self._told, telling = self._context.Pipe(duplex=False)
        self._telling = telling
        self._pool = ProcessPoolExecutor(workers, self._context, _start_worker, (telling, begin))

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Like `Executor.submit`; raises `BrokenProcessPool` after a worker died."""
        with _interrupts_held():
            return self._pool.submit(function, *arguments)

    def check_started(self) -> None:
        """Raises `UserError` if the pool is broken because no worker could start."""
        if not self._told.poll():
            raise UserError(
                "the worker processes ended before they could begin: each of them runs the calling script "
                'again, so put the call under `if __name__ == "__main__":`, or give workers=1'
            ) from None

    def close(self) -> None:
        """Wait for the work in progress, then end the workers."""
        self._pool.shutdown()
        self._told.close()
        self._telling.close()

    def end(self) -> None:
        """End the workers at once. They must not be writing anything that matters."""
        # Kill, do not terminate: a worker that still imports modules does not react.
        for process in self._context.started:
            if process.pid is not None:
                process.kill()
        self._pool.shutdown(cancel_futures=True)
        self._told.close()
        self._telling.close()


def _check_script() -> None:
    script = sys.modules["__main__"]
    file = getattr(script, "__file__", None)
    if getattr(script, "__spec__", None) is None and file is not None and not os.path.exists(file):
        raise UserError(
            "worker processes load the script that starts them, but this one is not in a file: save it "
            "as a file, or give workers=1"
        )


class _Context(SpawnContext):
    """Starts the workers and keeps a list of them."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Any] = []

    def Process(self, *arguments: Any, **named: Any) -> Any:  # type: ignore[override]
        process = super().Process(*arguments, **named)
        self.started.append(process)
        return process


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started in this block ignore Ctrl-C; this process handles it after the block."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT)
    swapped = callable(handler) and threading.current_thread() is threading.main_thread()
    if swapped:
        # Although this thread blocks the signal, another may receive it; Python would then handle it here.
        signal.signal(signal.SIGINT, lambda number, frame: heard.append((number, frame)))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if swapped:
            signal.signal(signal.SIGINT, handler)
            if heard and callable(handler):
                handler(*heard[0])


def leave_if_worker_begins() -> None:
    """End this process silently if it is a worker that is still loading its parent's script.

    A script without the main guard calls `draw` or `build` again in the worker. The parent then tells the
    user what to do (`WorkerPool.check_started`).
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(1)


def _start_worker(telling: Connection, begin: Callable[[], None] | None) -> None:
    """Tell the parent that this worker has started; ignore Ctrl-C, and end when the parent ends."""
    from multiprocessing.connection import wait

    telling.send_bytes(b"1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
    if begin is not None:
        begin()


def one_thread() -> None:
    """Make this process compute on one thread, so that processes do not compete for cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    cv2.setNumThreads(1)  # also keeps the order in which the cascade groups its windows


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int | None = None
) -> Generator[tuple[Item, Result], None, None]:
    """Every item with ``function(item)``, in order, computed in ``threads`` threads.

    ahead: how many further items are taken before the first result is returned; None: two per thread.
    """
    pool = ThreadPoolExecutor(threads, "omokage")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > (2 * threads if ahead is None else ahead):
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def chunks(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """The items, ``size`` at a time."""
    rest = iter(items)
    while chunk := tuple(itertools.islice(rest, size)):
        yield chunk


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
