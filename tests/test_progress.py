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
