"""Ctrl-C, termination signals, standard streams that go away: no traceback, no wait, a true exit status."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from omokage.interrupts import FINISHING, stop_requests

# Computes in C for minutes, as a large model's backward pass does, with a file half-written.
BUSY = """
import sys; sys.argv[0] = "omokage"
from omokage import starting
import hashlib
from pathlib import Path
from omokage.files import replacing
from omokage.interrupts import stop_requests
def say(told): print(told, file=sys.stderr, flush=True)
with replacing(Path(sys.argv[1]) / "half.bin") as unfinished, stop_requests(say, "cut") as stop:
    unfinished.write_text("half")
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def started(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_a_step_within_seconds(tmp_path, number):
    busy = started("-c", BUSY, str(tmp_path))
    assert busy.stdout.readline() == "begun\n"
    busy.send_signal(number)
    assert busy.stderr.readline() == f"{FINISHING}\n"  # at once, though the main thread is busy
    busy.send_signal(number)
    _, told = busy.communicate(timeout=30)
    assert busy.returncode == 130
    assert told == "interrupted: cut\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0.1, 0.6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_first_second_is_one_line(tmp_path, after, number):
    arguments = ("-m", "omokage", "sample", "-n", "64", "-o", str(tmp_path / "faces.png"))
    process = started(*arguments)
    # Not before the interpreter itself has begun: that is not ours to answer for.
    while not _runs_our_code(process.pid) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(number)
    out, told = process.communicate(timeout=60)
    assert (process.returncode, out, told) == (130, "", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def _runs_our_code(pid: int) -> bool:
    """Whether the process answers SIGINT in a way of its own and listens in a second thread."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return True


def test_requests_come_and_go():
    before = signal.getsignal(signal.SIGTERM)
    told = []
    with stop_requests(told.append, "cut") as stop:
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        assert stop
        assert stop.asked
        with pytest.raises(KeyboardInterrupt, match="cut"):
            signal.raise_signal(signal.SIGINT)
        deadline = time.monotonic() + 5
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told == [FINISHING]
    assert signal.getsignal(signal.SIGTERM) is before
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_what_may_be_broken_off_is():
    done = []
    with stop_requests(done.append, "cut") as stop:
        with stop.at_once():
            signal.raise_signal(signal.SIGTERM)
            done.append("not reached")
        assert stop
    assert done == []


def test_in_a_thread_a_training_ends_with_the_program():
    program = """
import threading, time
from omokage.interrupts import stop_requests
def work():
    with stop_requests(print, "cut") as stop:
        begun.set()
        while not stop:
            time.sleep(0.01)
    print("saved", flush=True)
begun = threading.Event()
threading.Thread(target=work).start()
begun.wait()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "saved\n", "")


def shell(command: str, cwd: Path) -> tuple[int, str, str]:
    """``omokage`` in ``command`` is the command line's."""
    program = command.replace("omokage", f"{sys.executable} -m omokage")
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", program], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "| true", "2> >(true)"])
def test_a_stream_that_is_gone_does_not_stop_the_work(tmp_path, streams):
    code, out, err = shell(f"omokage draw -n 1 --workers 1 -o drawn {streams}", tmp_path)
    assert code == 0
    assert "Traceback" not in out + err
    assert (tmp_path / "drawn" / "factors.csv").is_file()


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("omokage recipes >&-", 2, "error: standard output is closed"),
        ("omokage train dcgan --dry-run >&-", 2, "error: standard output is closed"),
        ("omokage --help | true", 1, ""),
        ("omokage recipes | true", 1, ""),
        ("omokage recipes 2>&- <&- | cat >kept", 0, ""),
        ("omokage report nothing 2>&-", 2, ""),
        ("omokage report nothing >&- 2>&- <&-", 2, ""),
        ("mkdir gone; cd gone; rmdir ../gone; omokage doctor", 2, "error: the current folder"),
    ],
)
def test_the_status_says_whether_it_was_done(tmp_path, command, code, told):
    # A reader that is gone for sure when the first word comes.
    ended, out, err = shell(command.replace("| true", "| (exec <&-; sleep 0.1)"), tmp_path)
    assert ended == code
    assert err.startswith(told)
    assert err.count("\n") == bool(told)
    assert out == ""
