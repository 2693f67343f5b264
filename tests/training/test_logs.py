"""The log: means over whole intervals, and something to read from the first seconds on."""

import io
import json

import torch
from rich.console import Console

from omokage.progress import TerminalProgress
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot, write_snapshot
from omokage.training import loop
from omokage.training.averages import Averages
from omokage.training.display import Display
from omokage.training.logs import Logs
from omokage.training.state import TrainingState

SMALL = [
    "model.channels=[8, 8]",
    "model.latent=4",
    "discriminator.channels=[8, 8]",
    "training.batch=4",
    "training.grid_kimg=100",
]


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_sums_go_through_json_to_the_last_bit():
    generator = torch.Generator().manual_seed(0)
    whole, first = Averages(), Averages()
    for step in range(50):
        if step == 23:
            first = Averages.restored(json.loads(json.dumps(first.as_dict())))
        share = 1 / 3 if step % 2 else 1.0
        loss = torch.randn((), generator=generator)
        for averages in (whole, first):
            averages.add({"loss": loss, "half": loss.bfloat16()}, share)
            averages.time(0.1, 0.01, 4)
    assert whole.means() == first.means()
    assert Averages.restored(None).means() == {}


def test_a_sum_in_bfloat16_does_not_stand_still():
    averages = Averages()
    for _ in range(1000):
        averages.add({"logits": torch.ones((), dtype=torch.bfloat16)})
    assert averages.means()["logits"] == 1.0


def test_speed_of_the_line_after_a_resume_covers_the_whole_interval(faces, tmp_path):
    recipe = load_recipe("dcgan", [*SMALL, "log_kimg=0.016"])
    train(recipe, faces, tmp_path / "run", images=12)
    _, _, progress = read_snapshot(newest_snapshot(tmp_path / "run"))
    assert progress["numbers"]["images"] == 12
    train(recipe, faces, tmp_path / "run", images=16)
    (line,) = lines(tmp_path / "run")
    _, _, after = read_snapshot(newest_snapshot(tmp_path / "run"))
    assert after["numbers"]["images"] == 0
    seconds = 16 / line["speed/images per second"]
    assert seconds > progress["numbers"]["seconds"]


def test_a_snapshot_without_sums_is_resumed(faces, tmp_path):
    recipe = load_recipe("dcgan", [*SMALL, "log_kimg=0.016"])
    path = train(recipe, faces, tmp_path / "run", images=12)
    tensors, written, progress = read_snapshot(path)
    del progress["numbers"], progress["due"]
    write_snapshot(path, tensors, written, progress)
    train(recipe, faces, tmp_path / "run", images=16)
    assert [line["images"] for line in lines(tmp_path / "run")] == [16]


def test_a_short_run_says_something(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "FIRST_LINE", 0.0)
    out = io.StringIO()
    shown = TerminalProgress(Console(file=out, width=100))
    train(load_recipe("dcgan", SMALL), faces, tmp_path / "run", images=12, progress=shown)
    (line,) = lines(tmp_path / "run")
    assert line["images"] == 4
    assert line["early"] is True
    assert line["speed/images per second"] > 0
    assert "loss/generator" in line
    assert "img/s" in out.getvalue()
    # Where none of its steps took ten seconds, it says so at its end.
    monkeypatch.setattr(loop, "FIRST_LINE", 1000.0)
    train(load_recipe("dcgan", SMALL), faces, tmp_path / "run", images=20)
    assert [line["images"] for line in lines(tmp_path / "run")] == [20]


def test_the_first_regular_line_takes_the_place_of_an_early_one(faces, tmp_path, monkeypatch):
    recipe = load_recipe("dcgan", [*SMALL, "log_kimg=0.012"])
    train(recipe, faces, tmp_path / "plain", images=28)
    monkeypatch.setattr(loop, "FIRST_LINE", 0.0)
    train(recipe, faces, tmp_path / "early", images=4)
    train(recipe, faces, tmp_path / "early", images=28)
    plain, early = (
        [{name: value for name, value in line.items() if name[:4] in ("imag", "loss")} for line in lines(run)]
        for run in (tmp_path / "plain", tmp_path / "early")
    )
    assert plain == early
    assert [line["images"] for line in plain] == [12, 24]


def test_an_early_line_of_a_killed_run_is_forgotten(tmp_path):
    logs = Logs(tmp_path, 0)
    logs.early(4, {"loss": 1.0})
    logs.early(8, {"loss": 2.0})
    assert [line["images"] for line in lines(tmp_path)] == [8]
    Logs(tmp_path, 4).write(6, {"loss": 3.0})
    assert [line["images"] for line in lines(tmp_path)] == [6]
    logs = Logs(tmp_path, 6)
    logs.early(9, {"loss": 4.0})
    assert [line["images"] for line in lines(tmp_path)] == [6]


def test_the_live_line_moves_while_a_step_goes_on(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("omokage.training.display.time.monotonic", lambda: clock[0])
    state = TrainingState(None, None, {}, "")
    shown = Display("x", state, 1000, 100.0)
    told = []
    for _ in range(3):
        told.append((shown.share, shown.told()))
        clock[0] += 1
    assert len({share for share, _ in told}) == 3
    assert [text for _, text in told] == ["first step, 0:00:00", "first step, 0:00:01", "first step, 0:00:02"]
    state.images, state.seconds = 8, 3.0
    shown.step()
    assert shown.told().startswith("0.0 kimg  2.7 img/s  0:01:37 left")
    clock[0] += 5
    assert "0:01:32 left" in shown.told()


def test_any_other_progress_is_told_every_second(faces, tmp_path, monkeypatch):
    monkeypatch.setattr("omokage.training.display.SECOND", 0.0)
    advanced = []

    class Listener:
        def task(self, label, total):
            from contextlib import nullcontext

            self.label = label
            return nullcontext(self)

        def advance(self, n=1, note=""):
            if self.label.startswith("train"):
                advanced.append(n)

    train(load_recipe("dcgan", SMALL), faces, tmp_path / "run", images=12, progress=Listener())
    assert sum(advanced) == 12
    assert len(advanced) >= 3
