"""The live line of a training: images seen, images/s, losses, time left."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, ProgressColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.text import Text

from ..progress import Progress, Task, TerminalProgress
from .state import TrainingState

SECOND = 1.0
WINDOW = 30  # images/s is the mean over this many seconds


class Display:
    """Knows how far a training is. This base class shows nothing.

    Args:
        state: the training state; it may be read at any time.
        last: number of images at which training ends.
        seconds: number of seconds after which training ends.
    """

    def __init__(self, name: str, state: TrainingState, last: int, seconds: float) -> None:
        self.name, self.state, self.last, self.seconds = name, state, last, seconds
        self.losses, self._silent, self._began = "", True, time.monotonic()
        self._moved = time.monotonic()
        self._seen = deque([(state.seconds, state.images)], WINDOW + 1)

    def step(self) -> None:
        """Called after each step."""
        self._moved = time.monotonic()
        state = self.state
        if state.images < self._seen[-1][1]:  # training went back to a snapshot
            self._seen.clear()
        if not self._seen or state.seconds - self._seen[-1][0] >= SECOND or len(self._seen) < 2:
            self._seen.append((state.seconds, state.images))

    def line(self, line: Mapping[str, float]) -> None:
        """Called with each line of the log, or with early numbers before the first line."""
        self.losses, self._silent = _losses(line), False

    def silent(self, seconds: float) -> bool:
        """Whether there was a step but no line yet in the first ``seconds`` seconds."""
        return self._silent and self.speed is not None and time.monotonic() - self._began >= seconds

    @property
    def speed(self) -> float | None:
        """Images/s over the last `WINDOW` seconds; None before the first step."""
        (since, before), (now, images) = self._seen[0], self._seen[-1]
        return (images - before) / (now - since) if now > since else None

    @property
    def share(self) -> float:
        """The share of the training that is done, 0 to 1."""
        by_time = (self.state.seconds + self._waiting()) / self.seconds if self.seconds > 0 else 1.0
        return min(1.0, max(self.state.images / self.last, by_time))

    def told(self) -> str:
        """Images seen, images/s, time left and losses, as text."""
        waiting = self._waiting()
        if (speed := self.speed) is None:
            return f"first step, {_clock(waiting)}"
        left = min((self.last - self.state.images) / max(speed, 1e-9), self.seconds - self.state.seconds)
        clock = _clock(left - waiting)
        return f"{self.state.images / 1000:,.1f} kimg  {speed:,.1f} img/s  {clock} left  {self.losses}"

    def _waiting(self) -> float:
        """Seconds since the last step ended."""
        return time.monotonic() - self._moved


class _Listened(Display):
    """Advances a progress task in images: at every line of the log, and about every second."""

    def __init__(self, task: Task, *about) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*about)
        self._task, self._advanced, self._images = task, 0.0, 0

    def step(self) -> None:
        super().step()
        if time.monotonic() - self._advanced >= SECOND:
            self._advance()

    def line(self, line: Mapping[str, float]) -> None:
        super().line(line)
        self._advance()

    def _advance(self) -> None:
        self._task.advance(self.state.images - self._images, note=self.losses)
        self._advanced, self._images = time.monotonic(), self.state.images


class _Printed(Display):
    """Prints a line of text at every line of the log, and at regular times if those are far apart."""

    def __init__(self, progress: TerminalProgress, *about) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*about)
        self._progress, self._told = progress, time.monotonic()

    def step(self) -> None:
        super().step()
        if time.monotonic() - self._told >= max(SECOND, self._progress.seconds):
            self._print()

    def line(self, line: Mapping[str, float]) -> None:
        super().line(line)
        self._print()

    def _print(self) -> None:
        told = f"{self.name} {self.share:4.0%}  {self.told()}".rstrip()
        self._progress.console.print(told, highlight=False, soft_wrap=True)
        self._told = time.monotonic()


class _Bar(BarColumn):
    def __init__(self, display: Display) -> None:
        super().__init__(bar_width=16)
        self._display = display

    def render(self, task: RichTask):  # type: ignore[no-untyped-def]
        task.completed = self._display.share
        return super().render(task)


class _Told(ProgressColumn):
    """The text beside the bar. It is built at every refresh, so it changes even during a long step."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def render(self, task: RichTask) -> Text:
        return Text(f"{self._display.share:4.0%}  {self._display.told()}")


@contextmanager
def training_display(
    progress: Progress | None, name: str, state: TrainingState, last: int, seconds: float
) -> Iterator[Display]:
    """A live line on a terminal, printed text elsewhere; any other ``progress`` advances in images."""
    about = name, state, last, seconds
    if progress is None:
        yield Display(*about)
    elif not isinstance(progress, TerminalProgress):
        with progress.task(f"train {name}", last) as task:
            yield _Listened(task, *about)
    elif not progress.console.is_terminal:
        yield _Printed(progress, *about)
    else:
        display = Display(*about)
        columns = TextColumn("[bold]{task.description}"), _Bar(display), _Told(display)
        with RichProgress(*columns, console=progress.console) as bars:
            bars.add_task(name, total=1.0)
            yield display


def announce(progress: Progress | None, sentence: str, label: str = "watchdog") -> None:
    """Print a sentence to the console, above the live line if there is one; no other progress shows it."""
    if isinstance(progress, TerminalProgress):
        told = Text.assemble((f"{label}: ", "bold yellow"), sentence)
        progress.console.print(told, soft_wrap=True)


def _losses(line: Mapping[str, float]) -> str:
    losses = {
        name.removeprefix("loss/")[:1].upper(): value
        for name, value in line.items()
        if name.startswith("loss/")
    }
    return "  ".join(f"{letter} {value:.2f}" for letter, value in losses.items())


def _clock(seconds: float) -> str:
    seconds = max(0, int(seconds))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
