"""Who does the work on many items: this process, threads, or processes; `cluster` is one more, on Ray.

An engine only runs functions. What happens to a picture is written once, elsewhere, and the results come in
the order of the items, so that nothing in them depends on who did the work.
"""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Item = TypeVar("Item")
Parcel = TypeVar("Parcel")
Result = TypeVar("Result")

_CHUNK = 4


@dataclass(frozen=True)
class Steps(Generic[Item, Parcel, Result]):
    """What is done with every item.

    load: makes of an item a parcel that can go to another process; called where the sources are open, from
        several threads. It must keep failures of the item itself in the parcel; what it raises ends the work.
    work: makes the result of a parcel; must be picklable, for it may be called in any process.
    lost: the result of a parcel on which the processes that had it ended.
    """

    load: Callable[[Item], Parcel]
    work: Callable[[Parcel], Result]
    lost: Callable[[Parcel], Result]


class Engine(Protocol):
    """Closing the generator that `run` returns ends the work."""

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        """Every item with its result, in order; few are under way at a time."""
        ...


class Here:
    """One after another in this process.

    loaders: how many threads load ahead, as in `Processes`; 0: none.
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
    """For work that is short or lets go of the interpreter's lock."""

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
    """Other processes of this machine; one that dies takes only its own item with it.

    loaders: how many threads load ahead; more than one a process pay where sources are far away.
    """

    def __init__(self, workers: int, loaders: int = 2) -> None:
        self.workers, self.loaders = workers, loaders

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        pool = self._start(self.workers)
        waiting: deque[tuple[Item, Parcel, Future[Result]]] = deque()
        try:
            with closing(in_threads(steps.load, items, self.loaders)) as parcels:
                while True:
                    while len(waiting) <= 2 * self.workers and (following := next(parcels, None)):
                        item, parcel = following
                        waiting.append((item, parcel, _submit(pool, steps, parcel)))
                    if not waiting:
                        return
                    item, parcel, future = waiting.popleft()
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        # Who was it? Each of those under way is tried alone.
                        pool.shutdown(cancel_futures=True)
                        yield item, self._alone(steps, parcel)
                        for item, parcel, _ in waiting:
                            yield item, self._alone(steps, parcel)
                        waiting.clear()
                        pool = self._start(self.workers)
                        continue
                    yield item, result
        finally:
            pool.shutdown(cancel_futures=True)

    def _start(self, workers: int) -> ProcessPoolExecutor:
        # Not forked: the calling process may hold threads (torch does) that would not survive it.
        return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)

    def _alone(self, steps: Steps[Any, Parcel, Result], parcel: Parcel) -> Result:
        with self._start(1) as pool:
            try:
                return pool.submit(steps.work, parcel).result()
            except BrokenProcessPool:
                return steps.lost(parcel)


def _submit(pool: ProcessPoolExecutor, steps: Steps[Any, Parcel, Result], parcel: Parcel) -> Future[Result]:
    try:
        return pool.submit(steps.work, parcel)
    except BrokenProcessPool as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        return failed


def _start_worker() -> None:
    """Make this process one that leaves Ctrl-C to its parent and ends with it."""
    import os
    import signal
    import threading
    from multiprocessing.connection import wait

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
    one_thread()


def one_thread() -> None:
    """Let this process compute on one thread: processes must not fight for cores."""
    import os

    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    cv2.setNumThreads(1)  # the cascade must group its windows in one order, too


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int | None = None
) -> Generator[tuple[Item, Result], None, None]:
    """Every item with ``function(item)``, in order, by ``threads`` threads.

    ahead: how many further items are taken before the first is given out; None: two a thread.
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
