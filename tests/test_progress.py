"""Progress where no terminal shows it: a line now and then."""

import io

import pytest
from rich.console import Console

from omokage.progress import TerminalProgress


@pytest.mark.parametrize(("seconds", "told"), [(0.0, ["1/3", "2/3", "3/3", "3/3"]), (3600.0, ["3/3"])])
def test_lines_where_there_is_no_terminal(seconds, told):
    out = io.StringIO()
    with TerminalProgress(Console(file=out, width=100), seconds).task("counting", 3) as task:
        for note in ("one", "two", "three"):
            task.advance(note=note)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(told)
    for line, so_far in zip(lines, told, strict=True):
        assert line.startswith("counting")
        assert so_far in line
        assert "\x1b" not in line
    assert "three" in lines[-1]


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_counts_are_whole_at_every_width(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    with TerminalProgress(console, seconds=0).task("sampling the faces of all runs", 2_000_000) as task:
        task.advance(1_104_000, "FID 12.3, generator 0.71, discriminator 1.3")
    told = console.file.getvalue()
    assert "1104000/2000000" in told
    assert max(map(len, told.splitlines())) <= width
