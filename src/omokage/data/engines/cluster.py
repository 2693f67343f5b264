"""Ray as the engine: the same functions run on the machines of a cluster, through Ray Data.

Only this process reads the sources, in order. It sends what it read in windows; a window is several batches,
mapped as one Ray data set. The next window starts before the last one ends. Workers need the same versions of
Omokage and its dependencies as this process, but no access to the sources or the target. If a worker dies,
its batch is tried again. If a batch kills one worker after another, its items are tried one by one, and an
item that still kills its worker is given up as lost.
"""

import logging
import os
import pickle
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from ... import __version__
from ...errors import UserError
from ..steps.read import quiet
from ..text import one_line
from .processes import Item, Parcel, Result, Steps, cores, in_threads, one_thread

BATCH_BYTES, BATCH_ITEMS = 2 * 2**20, 64
"""Bytes and items at which a batch ends; a batch is one task."""

WINDOW_BYTES, WINDOW_BATCHES = 256 * 2**20, 16
"""Bytes, or batches per CPU of the cluster, at which a window ends."""

RETRIES = 3
LOADERS = 8


class Ray:
    """An engine, see `engines.Engine`.

    address: of a running cluster, "auto" for the one that this machine belongs to. None starts a cluster here
        and ends it after the work.
    workers: number of CPUs of the cluster that is started here; not allowed with an address.

    `run` raises `UserError` if Ray is not installed, does not answer or is lost, or if its workers have other
    versions than this process.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if address is not None and workers is not None:
            raise UserError("--workers counts the CPUs of a Ray started here: leave it out with --address")
        self.address, self.workers = address, workers

    def run(
        self, items: Iterable[Item], steps: Steps[Item, Parcel, Result]
    ) -> Generator[tuple[Item, Result], None, None]:
        with self._connected() as cpus:
            work, stop = _dumps(steps.work), threading.Event()

            def window(batches: list[list[tuple[Item, bytes]]]) -> list[Result]:
                return _window([row for batch in batches for row in batch], batches, work, steps.lost, stop)

            with closing(in_threads(steps.load, items, LOADERS)) as loaded:
                windows = _windows(_batches(loaded), WINDOW_BATCHES * cpus)
                # The second window keeps the CPUs busy while the last tasks of the first end.
                with closing(in_threads(window, windows, threads=2, ahead=2)) as done:
                    try:
                        for batches, results in done:
                            rows = (row for batch in batches for row in batch)
                            yield from ((row[0], result) for row, result in zip(rows, results, strict=True))
                    except BaseException:
                        stop.set()
                        raise

    @contextmanager
    def _connected(self) -> Iterator[int]:
        """Connect to Ray; yields the number of its CPUs."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.data
        except ImportError:
            raise UserError("--engine ray needs Ray: pip install 'omokage[ray]'") from None
        ours = not ray.is_initialized()
        if ours:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
            if self.address is None:
                options |= {"num_cpus": self.workers or cores(), "include_dashboard": False}
            try:
                ray.init(self.address or "local", **options)
            except Exception as error:
                raise UserError(_not_there(self.address, error)) from None
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        try:
            yield max(1, int(ray.cluster_resources().get("CPU", 1)))
        finally:
            if ours:
                ray.shutdown()


def _not_there(address: str | None, error: Exception) -> str:
    why = one_line(str(error).split(". ")[0].rstrip("."), 120)
    if address is None:
        return f"Ray does not start here ({why}): try again, or build without --engine ray"
    return (
        f"no Ray cluster at {one_line(address)} ({why}): start one with `ray start --head`, "
        "or leave --address out and one is started for the build"
    )


def _batches(
    loaded: Iterable[tuple[Item, Any]],
) -> Iterator[list[tuple[Item, bytes]]]:
    """Batches of items, each with its pickled parcel."""
    batch: list[tuple[Item, bytes]] = []
    size = 0
    for item, parcel in loaded:
        batch.append((item, pickle.dumps(parcel, pickle.HIGHEST_PROTOCOL)))
        size += len(batch[-1][1])
        if size >= BATCH_BYTES or len(batch) >= BATCH_ITEMS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _windows(batches: Iterable[list], count: int) -> Iterator[list[list]]:
    window: list[list] = []
    size = 0
    for batch in batches:
        window.append(batch)
        size += sum(len(parcel) for _, parcel in batch)
        if size >= WINDOW_BYTES or len(window) >= count:
            yield window
            window, size = [], 0
    if window:
        yield window


def _window(
    rows: Sequence[tuple[Any, bytes]],
    batches: Sequence[Sequence[Any]],
    work: bytes,
    lost: Callable[[Parcel], Result],
    stop: threading.Event,
) -> list[Result]:
    """The results of all ``rows``, in order."""
    results: dict[int, Result] = {}
    numbers = iter(range(len(rows)))
    parts = [[next(numbers) for _ in batch] for batch in batches]
    try:
        if not _map(rows, parts, work, results, stop):
            # Find the item that kills its worker: try each batch without results alone. If it fails again,
            # try each of its items alone.
            for part in parts:
                if all(n in results for n in part) or _map(rows, [part], work, results, stop):
                    continue
                for n in part:
                    if n not in results and not _map(rows, [[n]], work, results, stop):
                        results[n] = lost(pickle.loads(rows[n][1]))
    except BaseException:
        stop.set()  # also stops the other window
        raise
    return [results[n] for n in range(len(rows))]


class _Stopped(Exception):
    """The caller wants no more results."""


def _map(
    rows: Sequence[tuple[Any, bytes]],
    parts: Sequence[Sequence[int]],
    work: bytes,
    results: dict[int, Any],
    stop: threading.Event,
) -> bool:
    """Fill in the ``results`` of some rows, one task per part; False if workers died too often."""
    import ray.data
    from ray.exceptions import OutOfMemoryError, RayError, WorkerCrashedError

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = [
        pa.table({"n": pa.array(part, pa.int64()), "parcel": pa.array([rows[n][1] for n in part], _BYTES)})
        for part in parts
    ]
    data: Any = ray.data.from_arrow(blocks)
    with quiet():  # Ray 2.60 warns that 2.64 will remove `max_retries`
        data = data.map_batches(
            _work_on,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"work": work, "versions": versions()},
            num_cpus=1,
            max_retries=RETRIES,
        )
    try:
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if stop.is_set():
                raise _Stopped
            for n, result in zip(table["n"].to_pylist(), table["result"].to_pylist(), strict=True):
                results[n] = _checked(pickle.loads(result))
    except (WorkerCrashedError, OutOfMemoryError):
        return False
    except RayError as error:
        if "No module named 'omokage'" in str(error):
            raise UserError(
                f"the workers of Ray have no omokage: install version {__version__} on every machine"
            ) from None
        raise UserError(
            f"Ray was lost ({type(error).__name__}: {one_line(error, 120)}): "
            "repeat the command, it goes on where it stopped"
        ) from None
    return True


_BYTES = pa.large_binary()


class _Failure:
    """An error that the work raised, as text."""

    def __init__(self, error: Exception) -> None:
        self.told = str(error) if isinstance(error, UserError) else None
        self.traceback = traceback.format_exc()


def _work_on(batch: pa.Table, *, work: bytes, versions: dict[str, str]) -> pa.Table:
    """A task in a Ray worker: returns the results of a batch."""
    results = []
    for parcel in batch["parcel"].to_pylist():
        try:
            _same_versions(versions)
            one_thread()
            results.append(pickle.loads(work)(pickle.loads(parcel)))
        except Exception as error:
            results.append(_Failure(error))
    return pa.table({"n": batch["n"], "result": pa.array([pickle.dumps(r) for r in results], _BYTES)})


def _checked(result: Any) -> Any:
    if isinstance(result, _Failure):
        if result.told is not None:
            raise UserError(result.told)
        raise RuntimeError(f"in a worker of Ray:\n{result.traceback}")
    return result


def versions() -> dict[str, str]:
    """Versions of everything that the bytes of a face set depend on."""
    import numpy
    import PIL

    return {"omokage": __version__, "pillow": PIL.__version__, "numpy": numpy.__version__}


def _same_versions(wanted: dict[str, str]) -> None:
    for name, version in versions().items():
        if version != wanted[name]:
            raise UserError(
                f"a worker of Ray has {name} {version}, this machine {wanted[name]}: "
                "install the same versions on every machine"
            )


def _dumps(function: Callable[..., Any]) -> bytes:
    from ray import cloudpickle  # also pickles functions that are not at the top level of a module

    return cloudpickle.dumps(function)
