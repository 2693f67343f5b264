"""bench/comparison.py: goes on wherever it was stopped, and its page follows from its results."""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from omokage.data.build import build
from omokage.data.drawn import draw
from omokage.errors import UserError

BENCH = Path(__file__).resolve().parents[1] / "bench" / "comparison.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("comparison", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["comparison"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["comparison"]


@pytest.fixture
def plan(bench, tmp_path):
    return bench.Plan(
        None,
        tmp_path / "runs",
        tmp_path / "comparison.jsonl",
        tmp_path / "docs" / "comparison.md",
        tmp_path / "measured.json",
        20.0,
        "fid10k-full-inception2015",
    )


def row(name, fid, sharp=0.9, **changes):
    """A line of the results, as the bench writes it."""
    return {
        "name": name,
        "recipe": name,
        "overrides": [],
        "training_seed": 0,
        "parameters": {"generator": 3_576_704, "discriminator": 2_765_568},
        "trained_minutes": 20.02,
        "images_per_second": 205.5,
        "training_peak_memory_mb": 1050,
        "machine": "x86_64, 2 cores, torch 2.13",
        "date": "2026-11-22",
        "time": "2026-11-22T12:00:00+00:00",
        "protocol": "fid10k-full-inception2015",
        "fid": fid,
        "kid": 0.025,
        "kid_standard_error": 0.0003,
        **{"precision": 0.4, "recall": 0.03, "density": 0.34, "coverage": 0.22},
        "samples": 10_000,
        "faces": 19_000,
        "face_set_hash": "a4e92838" + 56 * "0",
        "resolution": [64, 64],
        "extractor_precision": "bf16",
        "snapshot_hash": 64 * "5",
        "images_seen": 246_016,
        "also": [{"protocol": "fid10k-full-tags", "fid": 7.2}],
        "two_sample": {"protocol": "c2st64-lowpass48-jpeg75", "accuracy": 0.992},
        "sharpness": {"protocol": "detail-above-half", "value": sharp},
        **changes,
    }


def write(plan, *rows):
    plan.results.write_text("".join(json.dumps(row) + "\n" for row in rows))


class TestPage:
    def test_the_numbers_stand_beside_what_was_published(self, bench, plan):
        worse = row("wu2020-lsgan", 120.0, also=[{"protocol": "fid10k-full-tags", "fid": 9.1}])
        write(plan, row("wu2020-dcgan", 70.0), worse, row("yao2021-vae", 150.0, 0.2))
        bench.write_all(plan)
        page = plan.document.read_text()
        assert "| `wu2020-dcgan` | 70.00 | 25.00 ± 0.30 | 0.400 | 0.030 |" in page
        assert "| `wu2020-dcgan` | FID 64.446 |" in page
        assert "ours is worse (1.09 times), but not strictly comparable" in page
        assert "ours is better (0.80 times)" in page
        assert "| 3.58 + 2.77 | 20.0 | 246,016 | 205.5 | 1,050 | 0 | 2026-11-22 |" in page
        told = "FID / second FID | `wu2020-dcgan` 70.00 / 7.20, `wu2020-lsgan` 120.00 / 9.10 | shown again |"
        assert f"The LSGAN is worse than the DCGAN at these settings | wu2020 | {told}" in page
        assert "`yao2021-vae` 0.20 | not measured |" in page
        assert "Not run yet: `fast`, `yao2021-dcgan`" in page
        assert json.loads(plan.measured.read_text())["wu2020-lsgan"]["fid"] == 120.0

    def test_the_hours_have_a_table_of_their_own(self, bench, plan):
        bits = {"protocol": "bpd-heldout-8bit", "bits_per_dimension": 3.456, "interval": [3.446, 3.466]}
        cooler = row("glow-64", 110.0, protocol="fid10k-full-inception2015-psi0.7", psi=0.7)
        flow = row("glow-64", 90.0, trained_minutes=60.01, psi=1.0, further=[bits, cooler])
        for one in (flow, cooler):
            one["samples_not_finite"] = 0
        write(plan, row("turubayev2022-dcgan", 80.0), flow, row("yao2021-vae", 150.0))
        bench.write_all(plan)
        page = plan.document.read_text()
        quality, hours = (
            page.split(f"<!-- {name} -->")[1].split("<!-- /")[0] for name in ("quality", "hours")
        )
        assert "glow-64" not in quality
        assert "yao2021-vae" not in hours
        assert "| `turubayev2022-dcgan` | 80.00 |" in hours
        assert "| 60 | 3.456 ± 0.010 |" in hours
        assert "Not run yet: `fast-style`" in hours
        assert "| `glow-64` | 0.7 | 110.00 | 25.00 | 0.400 | 0.030 | 0 of 10,000 |" in page
        assert "| `glow-64` | 1 | 90.00 |" in page

    def test_what_was_changed_in_a_recipe_is_said_wherever_its_result_is(self, bench, plan):
        write(plan, row("wu2020-dcgan", 128.9, overrides=["training.batch=32"]))
        bench.write_all(plan)
        page = plan.document.read_text()
        for block in ("published", "cost"):
            told = page.partition(f"<!-- {block} -->")[2].partition(f"<!-- /{block} -->")[0]
            assert "`training.batch=32`" in told
        assert json.loads(plan.measured.read_text())["wu2020-dcgan"]["overrides"] == ["training.batch=32"]

    def test_text_written_by_hand_stays(self, bench, plan):
        write(plan, row("fast", 38.0))
        bench.write_all(plan)
        by_hand = plan.document.read_text().replace("## Quality\n", "## Quality\n\nBy hand: it is good.\n")
        plan.document.write_text(by_hand)
        write(plan, row("fast", 38.0), row("fast", 31.5))
        bench.write_all(plan)
        page = plan.document.read_text()
        assert "By hand: it is good.\n" in page
        assert "31.50" in page
        assert "38.00" not in page
        assert page == by_hand.replace("38.00", "31.50")

    def test_feature_spaces_that_disagree_decide_nothing(self, bench, plan):
        other = row("wu2020-lsgan", 120.0, also=[{"protocol": "fid10k-full-tags", "fid": 5.0}])
        write(plan, row("wu2020-dcgan", 70.0), other)
        bench.write_all(plan)
        told = "undecided: shown again by FID, contradicted by second FID |"
        assert told in plan.document.read_text()

    def test_what_differs_by_less_than_two_seeds_do_is_undecided(self, bench, plan):
        pair = [row("wu2020-dcgan", 80.0, also=[]), row("wu2020-lsgan", 100.0, also=[])]
        first = row("liao2021-dcgan", 150.0, also=[])

        def page(*other):
            write(plan, *pair, first, *other)
            bench.write_all(plan)
            return plan.document.read_text()

        told = "`wu2020-lsgan` 100.00 / – | {} |"
        assert told.format("shown again") in page()
        seeds = page(row("turubayev2022-dcgan", 100.0, also=[]))
        assert told.format("undecided: less than 33% apart") in seeds
        assert "A seed alone changed FID 33% (`liao2021-dcgan`" in seeds
        other_way = row("turubayev2022-dcgan", 100.0, also=[], protocol="fid2k-full-inception2015")
        assert told.format("shown again") in page(other_way)

    def test_ways_of_measuring_are_kept_apart(self, bench, plan):
        other = row("yao2021-wgan", 90.0, protocol="fid2k-full-inception2015")
        write(plan, row("yao2021-dcgan", 60.0), other)
        bench.write_all(plan)
        page = plan.document.read_text()
        assert "2 ways of measuring" in page
        assert page.count("| model | FID |") == 2
        assert "| measured in different ways |" in page

    def test_what_failed_is_said_and_an_older_number_stays(self, bench, plan):
        failed = {key: value for key, value in row("sagan", 50.0).items() if key != "fid"}
        write(plan, row("sagan", 50.0), failed | {"failed": "loss is not finite"})
        bench.write_all(plan)
        page = plan.document.read_text()
        assert "`sagan` failed: loss is not finite" in page
        assert "| `sagan` | 50.00 |" in page


@pytest.mark.parametrize(
    ("low", "high", "said"), [(10, 20, "shown"), (20, 10, "contra"), (20, 20.9, "undec")]
)
def test_a_verdict_follows_from_the_numbers(bench, low, high, said):
    assert bench.verdict(low, high).startswith(said)


def test_any_recipe_can_be_named_and_nothing_else(bench):
    assert [entry.name for entry in bench.chosen(["glow-32", "fast"])] == ["glow-32", "fast"]
    with pytest.raises(UserError, match="no entry and no recipe 'fasd'"):
        bench.chosen(["fasd"])
    names = {entry.recipe for entry in bench.ENTRIES}
    for published in ("yao2021-vae", "yao2021-wgan", "wu2020-lsgan", "liao2021-dcgan", "turubayev2022-dcgan"):
        assert published in names


def test_flows_learn_from_one_part_and_are_measured_on_the_other(bench, plan):
    glow = next(entry for entry in bench.HOURS if entry.name == "glow-64")
    assert bench.chosen([], hours=True) == list(bench.HOURS)
    with pytest.raises(UserError, match="--split"):
        plan.faces(glow)
    split = bench.Plan(**{**vars(plan), "data": Path("faces"), "split": Path("split")})
    assert split.faces(glow) == Path("split/train")
    assert split.time(glow) == 60
    wanted = bench.measurements(split, glow)
    assert wanted["bpd-heldout-8bit"] == ["--data", "split/heldout"]
    assert wanted["fid10k-full-inception2015-psi0.7"] == ["--data", "faces"]
    assert list(bench.measurements(split, bench.ENTRIES[0])) == ["fid10k-full-inception2015"]


def test_an_interrupt_reaches_the_command_once_and_it_may_finish(bench, plan, tmp_path):
    program = (
        "import signal, sys, time, pathlib\n"
        "got = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: got.append(1))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "pathlib.Path(sys.argv[1]).write_text(f'saved, asked {len(got)} times')\n"
        "sys.exit(130)\n"
    )
    ready = tmp_path / "ready"
    waiting = bench.Plan(**{**vars(plan), "command": (sys.executable, "-c", program)})

    def interrupt():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        bench.call(waiting, bench.ENTRIES[0], [str(ready)], lambda text: None)
    assert ready.read_text() == "saved, asked 1 times"


def test_a_command_that_fails_is_quoted(bench, plan):
    failing = bench.Plan(**{**vars(plan), "command": (sys.executable, "-c")})
    program = "import sys; print('x'); print('error: no such face set', file=sys.stderr); sys.exit(2)"
    assert bench.call(failing, bench.ENTRIES[0], [program], lambda text: None) == "no such face set"
    assert bench.call(failing, bench.ENTRIES[0], ["import os; os.abort()"], lambda text: None).endswith(
        "(exit code -6)"
    )


def test_a_full_disk_is_no_end_of_a_training(bench, plan, monkeypatch):
    """What the watchdog stopped is measured as it is; what the machine refused is to be tried again."""
    said = ["the disk is full", "loss is not a finite number any more (training stops)"]
    asked = []

    def call(plan, entry, command, say):
        asked.append(command[0])
        return said.pop(0) if command[0] == "train" else "no face set"

    monkeypatch.setattr(bench, "call", call)
    monkeypatch.setattr(bench, "progress_of", lambda run: {"images": 5, "seconds": 1.0})
    plan.run(bench.ENTRIES[0]).mkdir(parents=True)
    with pytest.raises(UserError, match="the disk is full"):
        bench.train_and_measure(plan, bench.ENTRIES[0], lambda text: None)
    assert asked == ["train"]
    assert bench.rows(plan)["fast"]["failed"] == "the disk is full"
    with pytest.raises(UserError, match="no face set"):
        bench.train_and_measure(plan, bench.ENTRIES[0], lambda text: None)
    assert asked == ["train", "train", "evaluate"]


def test_the_whole_way_on_drawn_faces(bench, plan, tmp_path, monkeypatch, capsys):
    """One tiny model through the real commands; then again, and there is nothing left to do."""
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))
    draw(80, tmp_path / "drawn", size=64, workers=1)
    build([tmp_path / "drawn"], tmp_path / "faces", as_faces=True, workers=1)
    small = (
        *("training.batch=8", "training.images=32", "training.log_kimg=0.016"),
        *("model.channels=[8, 8, 8, 8]", "discriminator.channels=[8, 8, 8, 8]"),
    )
    monkeypatch.setattr(
        bench,
        "ENTRIES",
        (bench.Entry("tiny", "dcgan", small), bench.Entry("broken", "dcgan", ("training.batsh=1",))),
    )
    arguments = ["--data", f"{tmp_path / 'faces'}", "--runs", f"{plan.runs}", "--results", f"{plan.results}"]
    arguments += [
        "--document",
        f"{plan.document}",
        "--measured",
        f"{plan.measured}",
        "--protocol",
        "fid70-full-tags",
    ]
    assert bench.main([*arguments, "--status"]) == 0
    assert "tiny    to be trained: not begun" in capsys.readouterr().out
    assert bench.main(arguments) == 1  # for the broken one
    told = capsys.readouterr().out
    assert "failed: " in told
    assert "did you mean" in told
    rows = [json.loads(line) for line in plan.results.read_text().splitlines()]
    (tiny,) = (row for row in rows if row["name"] == "tiny")
    assert tiny["images_seen"] == 32
    assert tiny["fid"] > 0
    assert tiny["sharpness"]["protocol"] == "detail-above-half"
    assert tiny["training_peak_memory_mb"] > 100
    written = bench.progress_of(plan.runs / "tiny")
    assert written["parameters"]["generator"]["trained"] == tiny["parameters"]["generator"] > 0
    assert written["machine"]["threads"] >= 1
    assert (plan.document.parent / "images" / "comparison.png").stat().st_size > 1000

    before = plan.results.read_text()
    assert bench.main([*arguments, "--only", "tiny"]) == 0
    assert "done: " in capsys.readouterr().out
    assert plan.results.read_text() == before
    # Its snapshot is lost: the row stays as it was drawn, beside those of others.
    sheet = plan.document.parent / "images" / "comparison.png"
    drawn = bench.strips(sheet)
    (plan.runs / "tiny").rename(plan.runs / "lost")
    assert bench.write_sheet(plan, bench.rows(plan, having="fid"), sheet)
    assert {name: one.tobytes() for name, one in bench.strips(sheet).items()} == {
        name: one.tobytes() for name, one in drawn.items()
    }
    unknown = {"unknown": row("unknown", 1.0), **bench.rows(plan, having="fid")}
    assert not bench.write_sheet(plan, unknown, sheet)
    assert bench.strips(sheet).keys() == drawn.keys()
    (plan.runs / "lost").rename(plan.runs / "tiny")
    # Stopped between measuring and writing it down: the measurement is not made again.
    plan.results.write_text("")
    assert bench.main([*arguments, "--only", "tiny"]) == 0
    assert "measuring" not in capsys.readouterr().out
    assert [json.loads(line) for line in plan.results.read_text().splitlines()] == [tiny]


def test_a_termination_signal_stops_it_where_interrupts_are_ignored(bench, monkeypatch, capsys):
    """As in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(bench, "compare", lambda *given, **how: signal.raise_signal(signal.SIGTERM) or 0)
    try:
        assert bench.main(["--status"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "the same command goes on" in capsys.readouterr().err
