"""The page and its CSV, made from logs and evaluations written by hand."""

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.__main__ import main
from omokage.errors import UserError
from omokage.families import MODELS
from omokage.recipe import load_recipe
from omokage.report.figures import CSV_COLUMNS, groups, measurements, to_csv, wanting
from omokage.report.page import _newest_neighbours, render, write_report
from omokage.report.read import read_run, read_runs
from omokage.sampling import latents
from omokage.snapshot import write_snapshot

SMALL = ("model.channels=[8, 4]", "model.latent=4", "discriminator.channels=[4, 8]")


def evaluation(**changes):
    """A line as `omokage evaluate` writes it."""
    return {
        "time": "2026-11-22T15:07:32+00:00",
        "protocol": "fid10k-full-inception2015",
        "fid": 38.1379,
        "kid": 0.028192,
        "kid_standard_error": 0.000324,
        **{"precision": 0.3961, "recall": 0.02937, "density": 0.34162, "coverage": 0.22784},
        "faces": 19_000,
        "samples": 10_000,
        "samples_not_finite": 0,
        "seeds": [0, 9999],
        "psi": 1.0,
        "snapshot_hash": "7c71e4c7" * 8,
        "images_seen": 3000,
        "face_set_hash": "a4e92838" * 8,
        "resolution": [64, 64],
        "extractor_precision": "bf16",
        "device": "cpu (AVX512)",
        **changes,
    }


FULL = {
    "also": [{"protocol": "fid10k-full-tags", "fid": 7.2122, "kid": 0.0229, "extractor_precision": "fp32"}],
    "two_sample": {"protocol": "c2st64-lowpass48-jpeg75", "accuracy": 0.9932, "interval": [0.9891, 0.996]},
    "sharpness": {"protocol": "detail-above-half", "value": 0.849},
}


def line(images, **numbers):
    """A line of the log at 100 images a second."""
    return {
        "images": images,
        "minutes": images / 6000,
        "loss/generator": 2 + images / 1e4,
        "loss/discriminator": 1.0,
        "learning rate/generator": 2e-4,
        "speed/images per second": 100.0 + images / 1000,
        "memory/peak MB": 900 + images // 1000,
        **numbers,
    }


def make(folder: Path, *, log=(), evaluations=(), snapshot=True, recipe="dcgan") -> Path:
    """A run folder like one that was trained."""
    folder.mkdir(parents=True)
    resolved = load_recipe(recipe, SMALL)
    (folder / "recipe.toml").write_text(resolved.to_toml())
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    if evaluations:
        lines = "".join(json.dumps(entry) + "\n" for entry in evaluations)
        (folder / "evaluations.jsonl").write_text(lines)
    if snapshot:
        torch.manual_seed(0)
        network = MODELS[resolved.model["name"]].build(resolved.model)
        tensors = {f"average.{name}": tensor for name, tensor in network.state_dict().items()}
        progress = {"images": 3000, "steps": 30, "seconds": 30.0}
        write_snapshot(folder / "snapshot-000000003000.safetensors", tensors, resolved, progress)
    return folder


LOG = [line(images) for images in (1000, 2000, 3000)]


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def page_of(*folders: Path, **options) -> str:
    runs, problems = read_runs(folders)
    return render(runs, problems, {}, **options)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


class TestReading:
    def test_cost_comes_from_log_and_snapshot(self, tmp_path):
        run = read_run(make(tmp_path / "a", log=LOG))
        assert (run.images, run.minutes, run.speed, run.memory) == (3000, 0.5, 102.0, 903)
        recipe = load_recipe("dcgan", SMALL)
        generator = MODELS["dcgan"].build(recipe.model)
        assert run.parameters["generator"] == sum(p.numel() for p in generator.parameters())
        assert run.minutes_at(1500) == pytest.approx(0.25)
        assert run.minutes_at(50_000) is None

    def test_broken_parts_are_a_line_each_and_the_rest_is_read(self, tmp_path):
        folder = make(tmp_path / "a", log=LOG, evaluations=[evaluation()])
        with open(folder / "log.jsonl", "a") as log:
            log.write('[1]\nnot json\n{"images": 4000, "loss/gen')
        with open(folder / "evaluations.jsonl", "a") as lines:
            lines.write('{"protocol": 7}\n{"fid"')
        broken = folder / "snapshot-000000009000.safetensors"
        broken.write_bytes((folder / "snapshot-000000003000.safetensors").read_bytes()[:100])
        run = read_run(folder)
        assert len(run.problems) == 3
        assert "damaged or cut off" in run.problems[0]
        assert "log.jsonl: 3 lines are not JSON and left out (line 4 first)" in run.problems[1]
        assert "evaluations.jsonl: one line is not JSON" in run.problems[2]
        assert run.snapshot.name == "snapshot-000000003000.safetensors"
        assert [entry["images"] for entry in run.lines] == [1000, 2000, 3000]
        assert len(run.evaluations) == 1

    def test_without_a_snapshot_the_recipe_and_the_log_are_there(self, tmp_path):
        run = read_run(make(tmp_path / "a", log=LOG, snapshot=False))
        assert run.recipe.name == "dcgan"
        assert run.images == 3000
        assert any("no snapshot" in problem for problem in run.problems)

    def test_what_the_watchdog_took_back_is_not_drawn(self, tmp_path):
        log = [
            line(1000),
            line(2000),
            {"images": 2500, "watchdog": "all the same", "back to": 1000},
            line(1500),
        ]
        run = read_run(make(tmp_path / "a", log=log))
        assert [entry["images"] for entry in run.lines] == [1000, 1500]
        assert run.troubles == [(2500, "all the same")]

    def test_names_are_told_apart(self, tmp_path):
        folders = [make(tmp_path / place / "x", snapshot=False) for place in ("one", "two")]
        assert [run.name for run in read_runs(folders)[0]] == ["one/x", "two/x"]

    def test_no_run_at_all_is_refused(self, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(UserError, match="omokage train makes a run"):
            read_runs([tmp_path / "file", tmp_path / "nowhere"])
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="no recipe, log or snapshot"):
            read_runs([tmp_path / "empty"])


class TestTables:
    def test_a_row_holds_the_numbers_and_their_protocols(self, tmp_path):
        make(tmp_path / "a", log=LOG, evaluations=[evaluation(**FULL)])
        (group,) = groups(read_runs([tmp_path / "a"])[0])
        assert group.way.protocol == "fid10k-full-inception2015"
        assert group.faces == 19_000
        told = {
            f"{name} {protocol}".strip(): cell
            for (name, protocol), cell in zip(group.columns, group.rows[0][2], strict=True)
        }
        assert told["FID"].text == "38.14"
        assert (told["KID × 10³"].text, told["KID × 10³"].note) == ("28.19", "± 0.32")
        assert told["recall"].text == "0.029"
        assert told["FID fid10k-full-tags"].text == "7.21"
        two_sample = told["two-sample c2st64-lowpass48-jpeg75"]
        assert (two_sample.text, two_sample.note) == ("0.993", "0.989 to 0.996")
        assert told["sharpness detail-above-half"].text == "0.85"
        assert told["k images"].text == "3.0"

    def test_different_protocols_faces_and_sizes_are_different_tables(self, tmp_path):
        make(tmp_path / "a", evaluations=[evaluation(), evaluation(protocol="fid2k-full-inception2015")])
        make(
            tmp_path / "b", evaluations=[evaluation(face_set_hash="b" * 64), evaluation(resolution=[32, 32])]
        )
        make(tmp_path / "c", evaluations=[evaluation(fid=20.0)])
        runs, _ = read_runs([tmp_path / name for name in "abc"])
        tables = groups(runs)
        assert [len(group.rows) for group in tables] == [2, 1, 1, 1]
        assert tables[-1].way.protocol == "fid2k-full-inception2015"  # the default protocol goes first
        assert [run.name for run, *_ in tables[0].rows] == ["c", "a"]  # best FID first
        assert tables[0].rows[0][2][0].best
        assert not tables[0].rows[1][2][0].best
        page = render(runs, [], {})
        assert "4 ways of measuring. Numbers of different tables cannot be compared." in page

    def test_the_newest_state_is_shown_and_keeps_what_was_said_of_it_before(self, tmp_path):
        old = evaluation(images_seen=1000, fid=90.0, snapshot_hash="0" * 64)
        make(tmp_path / "a", evaluations=[evaluation(**FULL), evaluation(), old])
        (measured,) = measurements(read_run(tmp_path / "a"))
        assert measured.record["fid"] == 38.1379
        assert measured.record["two_sample"]["accuracy"] == 0.9932
        assert list(measured.seconds) == ["fid10k-full-tags"]

    def test_what_is_missing_stands_with_its_command(self, tmp_path, capsys):
        make(tmp_path / "a b", log=LOG)
        make(tmp_path / "c", log=LOG, evaluations=[evaluation()])
        runs, _ = read_runs([tmp_path / "a b", tmp_path / "c"])
        commands = [want.command for want in wanting(runs)]
        missing = "--data faces/ --also tags --two-sample --path-length"
        assert commands[0] == f"omokage evaluate '{tmp_path / 'a b'}' {missing}"
        assert commands[1] == f"omokage evaluate {tmp_path / 'c'} {missing}"
        (group,) = groups(runs)
        assert all(cell.missing for cell in group.rows[-1][2])
        page = render(runs, [], {})
        assert "--also tags --two-sample" in page
        assert "not measured yet" in Elements(page).text

    def test_strange_values_are_missing_ones(self, tmp_path):
        strange = evaluation(
            fid="QQQ", kid=None, recall=True, seeds="all", resolution="big", also=[3], faces={}
        )
        make(tmp_path / "a", evaluations=[strange, {"protocol": "x"}], log=[line(1000, odd="text")])
        page = page_of(tmp_path / "a")
        assert "QQQ" not in page


class TestCsv:
    def test_one_row_a_protocol_in_full_precision(self, tmp_path):
        make(tmp_path / "a", log=LOG, evaluations=[evaluation(**FULL)])
        make(tmp_path / 'b,"c"', log=LOG)
        rows = rows_of(to_csv(read_runs([tmp_path / "a", tmp_path / 'b,"c"'])[0]))
        assert tuple(rows[0]) == CSV_COLUMNS
        assert len(set(CSV_COLUMNS)) == len(CSV_COLUMNS)
        assert [(row["run"], row["protocol"]) for row in rows] == [
            ("a", "fid10k-full-inception2015"),
            ("a", "fid10k-full-tags"),
            ('b,"c"', ""),
        ]
        first, second, bare = rows
        assert (first["fid"], first["kid"]) == ("38.1379", "0.028192")
        assert (first["two_sample_accuracy"], first["two_sample_low"]) == ("0.9932", "0.9891")
        assert (first["sharpness_protocol"], first["sharpness"]) == ("detail-above-half", "0.849")
        assert (first["measured_at_images"], first["measured_at_minutes"]) == ("3000", "0.5")
        assert (first["seed_first"], first["seed_last"], first["resolution"]) == ("0", "9999", "64×64")
        assert (second["fid"], second["two_sample_accuracy"], second["sharpness"]) == ("7.2122", "", "")
        assert (second["extractor_precision"], second["recall"]) == ("fp32", "")
        assert (bare["images_seen"], bare["images_per_second"], bare["peak_memory_mb"]) == (
            "3000",
            "102.0",
            "903",
        )
        assert bare["objective"] == "non-saturating"


class TestPage:
    HOSTILE = "<script>alert(1)<⁄script>\"'& {{ 7*7 }}"

    def test_hostile_names_and_texts_are_only_text(self, tmp_path):
        log = [line(1000), line(2000, **{'<img src=x onerror=y>/"><b>': 1.0}), line(3000)]
        log.append({"images": 3000, "watchdog": "<b>bold</b>", "back to": None})
        hostile = evaluation(protocol="fid<i>", **{**FULL, "device": "</style><script>x</script>"})
        folder = make(tmp_path / self.HOSTILE, log=log, evaluations=[hostile])
        recipe = load_recipe("dcgan", SMALL)
        recipe.title = "<marquee>"
        (folder / "recipe.toml").write_text(recipe.to_toml())
        (folder / "snapshot-000000003000.safetensors").unlink()
        make(tmp_path / "other", log=log, evaluations=[hostile])
        page = page_of(folder, tmp_path / "other", title="<h1>&amp;")
        seen = Elements(page)
        assert sum(tag == "script" for tag, _ in seen.tags) == 1
        assert not {tag for tag, _ in seen.tags} & {"i-", "img", "marquee"}
        assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
        for text in (self.HOSTILE, "<marquee>", "<b>bold</b>", "</style><script>x</script>", "<h1>&amp;"):
            assert text in seen.text

    def test_the_page_needs_no_network(self, tmp_path):
        make(tmp_path / "a", log=LOG, evaluations=[evaluation(**FULL)])
        page = page_of(tmp_path / "a")
        for _, attributes in Elements(page).tags:
            for name in ("src", "href", "action", "data", "poster"):
                assert not re.match(r"(?i)\s*(https?:)?//", attributes.get(name) or "")
        assert "url(" not in page.replace("url(#clip", "")
        assert "@import" not in page

    def test_curves_of_the_log_and_fid_during_training(self, tmp_path):
        log = []
        for images in (1000, 2000, 3000):
            log += [line(images), {"images": images, "fid/fid1k-full-tags": 100 - images / 100}]
        log[2]["loss/generator"] = float("nan")
        make(tmp_path / "a", log=log)
        make(tmp_path / "b", log=LOG)
        page = page_of(tmp_path / "a", tmp_path / "b")
        shown = Elements(page)
        labels = [attributes["aria-label"] for tag, attributes in shown.tags if tag == "svg"]
        assert labels == [
            "FID, fid1k-full-tags, during training over thousand images seen",
            "FID, fid1k-full-tags, during training over minutes trained",
            "loss of a over thousand images seen",
            "loss of b over thousand images seen",
        ]
        assert "learning rate 0.0002 (generator)" in shown.text
        assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL)).lower()

    def test_a_report_without_a_name_overwrites_none(self, tmp_path, monkeypatch, capsys):
        make(tmp_path / "a", log=LOG)
        monkeypatch.chdir(tmp_path)
        for folder in ("report", "report-2"):
            assert main(["report", "a", "--seeds", ""]) == 0
            assert f"{Path(folder) / 'index.html'}" in capsys.readouterr().out
        before = (tmp_path / "report" / "index.html").read_bytes()
        assert main(["report", "a", "--seeds", "", "--title", "third"]) == 0
        assert "report is there already and stays; -o report overwrites it" in capsys.readouterr().err
        assert (tmp_path / "report" / "index.html").read_bytes() == before
        assert "third" in (tmp_path / "report-3" / "index.html").read_text()

    def test_faces_that_are_not_finite_are_told(self, tmp_path, monkeypatch):
        make(tmp_path / "a", log=LOG)
        decode = MODELS["dcgan"].load().decode
        broken = latents([3], (4,))

        def breaking(self, z):
            return torch.where((z == broken).all(1).view(-1, 1, 1, 1), torch.nan, decode(self, z))

        monkeypatch.setattr(MODELS["dcgan"].load(), "decode", breaking)
        page, problems = write_report([tmp_path / "a"], tmp_path / "out", seeds=[2, 3])
        (told,) = problems
        assert told.endswith("not finite and shown black: seeds 3")
        assert "not finite and shown black: seeds 3" in Elements(page.read_text()).text

    def test_the_newest_picture_of_nearest_faces_is_shown(self, tmp_path):
        for name, age in {"": 3, "-2": 1, "-10": 1, "-x": 0}.items():
            path = tmp_path / f"neighbours{name}.png"
            path.touch()
            os.utime(path, (1e9 - age, 1e9 - age))
        assert _newest_neighbours(tmp_path) == tmp_path / "neighbours-10.png"
        assert _newest_neighbours(tmp_path / "none") is None

    def test_the_same_seeds_for_all_and_neighbours_only_if_wanted(self, tmp_path, capsys):
        for name in ("a", "b"):
            make(tmp_path / name, log=LOG)
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a" / "neighbours.png")
        runs = [f"{tmp_path / 'a'}", f"{tmp_path / 'b'}", f"{tmp_path / 'gone'}"]
        out = tmp_path / "report"
        assert main(["report", *runs, "--out", f"{out}", "--seeds", "3,17-18"]) == 0
        told = capsys.readouterr()
        assert f"{out / 'index.html'}" in told.out
        assert "gone: no such run folder" in told.err
        page = (out / "index.html").read_text()
        seen = Elements(page)
        assert "gone: no such run folder" in seen.text
        pictures = [attributes for tag, attributes in seen.tags if tag == "img"]
        assert len(pictures) == 5  # two strips, two grids, neighbours
        assert all(picture["src"].startswith("data:image/webp;base64,") for picture in pictures)
        assert sum("seeds 3,17-18" in picture["alt"] for picture in pictures) == 4
        assert "real faces of the face set" in seen.text
        assert [a["title"] for tag, a in seen.tags if tag == "span" and "title" in a][:3] == [
            "seed 3",
            "seed 17",
            "seed 18",
        ]
        write_report(runs[:2], out, seeds=[], neighbours=False)
        bare = Elements((out / "index.html").read_text())
        assert not any(tag == "img" for tag, _ in bare.tags)
        assert "real faces of the face set" not in bare.text
