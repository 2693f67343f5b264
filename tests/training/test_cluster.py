"""Training on two processes that torchrun starts: one is killed, both are started again, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from omokage.snapshot import newest_snapshot, read_snapshot

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")

SMALL = (
    *("model.channels=[4, 4, 4]", "discriminator.channels=[4, 4, 4]", "training.batch=4"),
    *("training.snapshot_minutes=1e-6", "training.log_kimg=0.04", "training.grid_kimg=10"),
)


def started(faces, run, images) -> subprocess.Popen:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = ["-m", "omokage", "train", "dcgan", "--data", str(faces), "--out", str(run), f"--images={images}"]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*torchrun, *train, *SMALL],
        env=os.environ | alone,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen) -> str:
    told, _ = process.communicate(timeout=120)
    return told


def workers(process: subprocess.Popen) -> dict[int, int]:
    """The processes that torchrun started, by rank."""
    found = {}
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        lines = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [line for line in lines if line.startswith(b"RANK=")]
        if ranks:
            found[int(ranks[0].removeprefix(b"RANK="))] = int(child)
    return found


def test_one_of_two_is_killed_and_both_go_on(faces, tmp_path):
    broken = started(faces, tmp_path / "broken", 400)
    whole = started(faces, tmp_path / "whole", 160)
    try:
        until = time.monotonic() + 90
        while not list((tmp_path / "broken").glob("snapshot-*4.safetensors")):
            assert time.monotonic() < until, "no snapshot"
            assert broken.poll() is None, broken.communicate()[0]
            time.sleep(0.01)
        os.kill(workers(broken)[1], signal.SIGKILL)
        ended(broken)
        assert broken.returncode != 0
        before = read_snapshot(newest_snapshot(tmp_path / "broken"))[2]["images"]
        assert 0 < before < 160, "killed too late to show anything"
        told = ended(whole)
        assert whole.returncode == 0, told
        again = started(faces, tmp_path / "broken", 160)
        told = ended(again)
        assert again.returncode == 0, told
    finally:
        for process in (broken, whole):
            process.kill()
    (a, _, one), (b, _, other) = (
        read_snapshot(newest_snapshot(tmp_path / run)) for run in ("whole", "broken")
    )
    assert one["images"] == other["images"] == 160
    assert one["machine"]["processes"] == 2
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    first, second = (
        {line["images"]: line for line in map(json.loads, (tmp_path / run / "log.jsonl").open())}
        for run in ("whole", "broken")
    )
    assert first.keys() == second.keys()
    for images, line in first.items():
        for name in line.keys() & {"loss/generator", "loss/discriminator"}:
            assert line[name] == second[images][name]
