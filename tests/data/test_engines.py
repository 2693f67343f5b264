"""Worker processes: they end at once, and a script that cannot start them is told so in one sentence."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image

from omokage.data.drawn import draw_illustration
from omokage.data.engines import processes
from omokage.data.engines.processes import Processes, Steps, WorkerPool
from omokage.errors import UserError

# Nothing here needs PyTorch, which takes seconds to load.
QUICK = (
    "detector='cascade-example', clean=False, label=False, upscale='lanczos', duplicates=False, "
    "precision='fp32'"
)
GUARD = 'if __name__ == "__main__":'


def children(of: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


@pytest.fixture
def scenes(tmp_path):
    (tmp_path / "scenes").mkdir()
    for i in range(4):
        picture = Image.fromarray(draw_illustration(i, (160, 200)).image)
        picture.save(tmp_path / "scenes" / f"{i}.png")
    return tmp_path / "scenes"


def script(name: str, out: Path, scenes: Path) -> str:
    if name == "draw":
        return f"from omokage.data.drawn import draw\ndraw(40, {str(out)!r}, workers=2)\n"
    return (
        "from omokage.data.build import build\nfrom omokage.data.build.options import Options\n"
        f"build([{str(scenes)!r}], {str(out)!r}, size=32, workers=2, options=Options({QUICK}))\n"
    )


def run(source: str, tmp_path: Path) -> subprocess.CompletedProcess:
    (tmp_path / "file.py").write_text(source)
    return subprocess.run([sys.executable, tmp_path / "file.py"], capture_output=True, text=True)


@pytest.mark.parametrize("verb", ["draw", "build"])
def test_a_script_without_the_main_guard_is_told_of_it_and_leaves_nothing(verb, scenes, tmp_path):
    out = tmp_path / "new" / "out"
    source = script(verb, out, scenes)
    if verb == "build":
        out.parent.mkdir()
    told = run(source, tmp_path)
    assert told.returncode == 1
    assert told.stderr.count("Traceback") == 1  # of the script itself, none of its workers
    assert "BrokenProcessPool" not in told.stderr
    assert GUARD in last_word(told)
    assert "omokage.errors.UserError" in last_word(told)
    assert not out.exists()
    assert not out.parent.exists() or not any(out.parent.iterdir())
    # No lock is left, and with the guard the same call works.
    imports, call = source.rsplit("\n", 2)[:2]
    told = run(f"{imports}\n{GUARD}\n    {call}\n", tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert any(out.iterdir())


def test_a_script_from_standard_input_is_told_to_become_a_file(tmp_path):
    source = script("draw", tmp_path / "out", tmp_path)
    told = subprocess.run([sys.executable, "-"], input=source, capture_output=True, text=True)
    assert told.returncode == 1
    assert told.stderr.count("Traceback") == 1
    assert "save it as" in last_word(told)
    assert not (tmp_path / "out").exists()


VERBS = {
    "draw": ["draw", "-n", "3000"],
    "build": [
        *("build", "scenes", "--detector", "cascade-example", "--no-clean", "--no-label", "--no-duplicates"),
        *("--size", "32", "--upscale", "lanczos", "--precision", "fp32"),
    ],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_while_workers_start_is_one_line(verb, late, scenes, tmp_path):
    command = [sys.executable, "-m", "omokage", *VERBS[verb], "-o", "out", "--workers", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes)
    try:
        until = time.monotonic() + 60
        while process.poll() is None and len(children(process.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2 if late else 0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
        pressed = time.monotonic()
        _, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in (130, -signal.SIGINT)
    assert time.monotonic() - pressed < 10
    assert told.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in told
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {f"{i}.png" for i in range(4)}
    assert not [name for name in left if not name.startswith("face-")]


def test_what_is_under_way_ends_at_once():
    pool = WorkerPool(2)
    try:
        assert pool.submit(abs, -1).result() == 1
        for _ in range(4):
            pool.submit(time.sleep, 600)
        started = time.monotonic()
    finally:
        pool.end()
    assert time.monotonic() - started < 10


def test_a_worker_that_dies_takes_only_its_own_item():
    steps = Steps(lambda item: signal.SIGKILL if item == 5 else 0, signal.raise_signal, lambda _: "lost")
    results = [result for _, result in Processes(2).run(range(8), steps)]
    assert results == [*[None] * 5, "lost", *[None] * 2]


def last_word(told):
    """The last line of standard error; Python's tracker of resources may add a warning of its own."""
    return [line for line in told.stderr.splitlines() if "resource_tracker" not in line][-1]


def test_workers_that_never_come_up_are_no_fault_of_the_items(tmp_path):
    # A script that fails where its workers load it: not every item may be called lost.
    source = """
    import multiprocessing
    from omokage.data.engines.processes import Processes, Steps
    if multiprocessing.parent_process() is not None:
        raise SystemExit(5)
    steps = Steps(abs, abs, abs)
    print([result for _, result in Processes(2).run(range(8), steps)])
    """
    told = run(textwrap.dedent(source), tmp_path)
    assert told.returncode == 1
    assert GUARD in last_word(told)
    assert told.stdout == ""


def test_only_a_worker_that_begins_leaves(monkeypatch):
    processes.leave_if_worker_begins()
    monkeypatch.setattr(processes.multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit):
        processes.leave_if_worker_begins()


def test_the_error_is_one_that_users_can_mend(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/nowhere/<stdin>", raising=False)
    with pytest.raises(UserError, match="workers=1"):
        WorkerPool(1)
