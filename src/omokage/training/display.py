"""The live line of a training: images seen, images/s, losses, time left."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from ..progress import Progress, TerminalProgress
from .state import TrainingState

Show = Callable[[Mapping[str, float]], None]


@contextmanager
def training_display(
    progress: Progress | None, name: str, state: TrainingState, last: int, seconds: float
) -> Iterator[Show]:
    """Shows each line of the log on a terminal as it comes; any other ``progress`` advances in images."""
    if progress is None:
        yield lambda line: None
        return
    if not isinstance(progress, TerminalProgress):
        with progress.task(f"train {name}", last) as task:
            told = 0

            def advance(line: Mapping[str, float]) -> None:
                nonlocal told
                task.advance(state.images - told, note=_losses(line))
                told = state.images

            yield advance
        return

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[told]}"),
    )
    with RichProgress(*columns, console=progress.console) as bars:
        bar = bars.add_task(name, total=1.0, told="warming up")
        bars.update(bar, completed=_share(state, last, seconds))

        def show(line: Mapping[str, float]) -> None:
            share = _share(state, last, seconds)
            speed = line["speed/images per second"]
            left = min((last - state.images) / speed, seconds - state.seconds)
            told = f"{state.images / 1000:,.1f} kimg  {speed:.1f} img/s  {_clock(left)} left  {_losses(line)}"
            bars.update(bar, completed=share, told=told)
            if not progress.console.is_terminal:
                progress.console.print(f"{name} {share:4.0%}  {told}", highlight=False)

        yield show


def announce(progress: Progress | None, sentence: str, label: str = "watchdog") -> None:
    """Show a sentence on a terminal, above the live line if there is one; others find it in the log."""
    if isinstance(progress, TerminalProgress):
        told = Text.assemble((f"{label}: ", "bold yellow"), sentence)
        progress.console.print(told, soft_wrap=True)


def _share(state: TrainingState, last: int, seconds: float) -> float:
    return min(1.0, max(state.images / last, state.seconds / seconds if seconds > 0 else 1.0))


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
