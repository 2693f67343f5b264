"""Progress of long work, told to whoever listens; silent by default."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.text import Text


class Task(Protocol):
    """One piece of long work."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Say that ``n`` more units are done; ``note`` is a short text shown behind the bar."""


class Progress(Protocol):
    """Whoever wants to know how far the work is."""

    def task(self, label: str, total: float | None) -> AbstractContextManager[Task]:
        """Open a piece of work of ``total`` units (None: unknown)."""


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.4g}/s", style="progress.data.speed")


class TerminalProgress:
    """A bar with rate and time left on standard error; a line every ``seconds`` where that is no terminal."""

    def __init__(self, console: Console | None = None, seconds: float = 60.0) -> None:
        self.console = console or Console(stderr=True)
        self.seconds = seconds

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Task]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        console, seconds = self.console, self.seconds
        with RichProgress(*columns, console=console) as bars:
            identity = bars.add_task(label, total=total, note="")
            told = monotonic()

            class _Task:
                def advance(self, n: float = 1, note: str = "") -> None:
                    nonlocal told
                    bars.update(identity, advance=n, note=note)
                    if not console.is_terminal and monotonic() - told >= seconds:
                        console.print(bars.get_renderable())
                        told = monotonic()

            yield _Task()


class _Silent:
    def advance(self, n: float = 1, note: str = "") -> None:
        pass


def opened(progress: Progress | None, label: str, total: float | None) -> AbstractContextManager[Task]:
    """The task of ``progress``, or a silent one where ``progress`` is None.

    >>> with opened(None, "counting", 3) as task:
    ...     task.advance(3)
    """
    return nullcontext(_Silent()) if progress is None else progress.task(label, total)
