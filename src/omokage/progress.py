"""Progress reports of long work; silent by default."""

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
    """One task of long work."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Report that ``n`` more units are done; ``note`` is a short text shown after the bar."""


class Progress(Protocol):
    """A receiver of progress reports."""

    def task(self, label: str, total: float | None) -> AbstractContextManager[Task]:
        """Start a task of ``total`` units (None: unknown)."""


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.4g}/s", style="progress.data.speed")


MAX_LABEL = 36


def room(width: int, label: str, total: float | None) -> tuple[int, int]:
    """Terminal columns for the bar and for the note after it. Counts, rate and time left are never cut.

    >>> room(120, "sampling", 64), room(80, "sampling", 64), room(50, "sampling", 2_000_000)
    ((24, 58), (24, 18), (0, 2))
    """
    counts = 2 * len(str(int(total or 10**6))) + 1
    fixed = min(len(label), MAX_LABEL) + counts + len("100%") + len("12,345/s") + len("-:--:--") + 6
    left = max(0, width - fixed)
    bar = 24 if left >= 24 else left if left >= 8 else 0
    return bar, max(0, left - bar)


def short(text: str, columns: int) -> str:
    """``text`` cut to at most ``columns`` columns.

    >>> short("generator 0.71", 9)
    'generato…'
    """
    return text if len(text) <= columns else text[: max(0, columns - 1)] + "…"


class TerminalProgress:
    """A progress bar on standard error; if that is not a terminal, a line every ``seconds`` seconds."""

    def __init__(self, console: Console | None = None, seconds: float = 60.0) -> None:
        self.console = console or Console(stderr=True)
        self.seconds = seconds

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Task]:
        console, seconds = self.console, self.seconds
        bar, rest = room(console.width, label, total)
        columns = (
            TextColumn("{task.description}"),
            *([BarColumn(bar_width=bar)] if bar else []),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            *([_Rate()] if console.width >= 60 else []),
            TimeRemainingColumn(),
            *([TextColumn("{task.fields[note]}")] if rest >= 8 else []),
        )
        with RichProgress(*columns, console=console) as bars:
            named = short(label, MAX_LABEL if console.width >= 80 else 20)
            identity = bars.add_task(named, total=total, note="")
            told = monotonic()

            class _Task:
                def advance(self, n: float = 1, note: str = "") -> None:
                    nonlocal told
                    bars.update(identity, advance=n, note=short(note, rest))
                    if not console.is_terminal and monotonic() - told >= seconds:
                        console.print(bars.get_renderable())
                        told = monotonic()

            yield _Task()


class _Silent:
    def advance(self, n: float = 1, note: str = "") -> None:
        pass


def opened(progress: Progress | None, label: str, total: float | None) -> AbstractContextManager[Task]:
    """A task of ``progress``, or a silent one if ``progress`` is None.

    >>> with opened(None, "counting", 3) as task:
    ...     task.advance(3)
    """
    return nullcontext(_Silent()) if progress is None else progress.task(label, total)
