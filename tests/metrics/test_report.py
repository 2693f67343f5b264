import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from noise_model import Faces, Noise, Quarters
from rich.console import Console
from torch import Tensor

from omokage.errors import UserError
from omokage.metrics import features, report, table
from omokage.metrics.fid import fid, statistics
from omokage.metrics.metric import Column, Metric
from omokage.metrics.protocol import Measurement, parse_protocol
from omokage.metrics.records import append_line, check_writable, read_lines
from omokage.metrics.report import evaluate, print_results
from omokage.metrics.sharpness import detail, sharpness
from omokage.metrics.two_sample import TwoSampleResult
from omokage.sampling import PLAIN, latents, to_pixels
from omokage.settings import Settings


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))
    for name in ("quarters", "others"):
        monkeypatch.setitem(features.EXTRACTORS, name, lambda name=name, **_: Quarters(name))


def test_the_record_says_what_made_the_numbers(tmp_path: Path) -> None:
    out, faces = tmp_path / "run" / "metrics.jsonl", Faces()
    record = evaluate(Noise(), faces, "fid100-full-quarters", out, seed=7)
    pixels = to_pixels(Noise().decode(latents(range(7, 107), (3, 8, 8))))
    extractor = Quarters()
    expected = fid(*statistics(extractor(pixels)), *statistics(extractor(faces.images)))
    assert record["fid"] == pytest.approx(expected, rel=1e-9)
    said = {
        "protocol": "fid100-full-quarters",
        "samples": 100,
        "samples_not_finite": 0,
        "seeds": [7, 106],
        "psi": 1.0,
        "faces": 200,
        "face_set_hash": "f" * 64,
        "snapshot_hash": "5" * 64,
        "extractor_file_hash": "e" * 64,
        "resize_rule": "none",
        "extractor_precision": "fp32",
        "images_seen": 1234,
        "resolution": [8, 8],
        "torch": torch.__version__,
    }
    assert said.items() <= record.items()
    assert all(0 <= record[name] <= 1 for name in ("precision", "recall", "coverage"))
    sharp = sharpness(detail([pixels]), detail([faces.images]))
    said_of_it = record["sharpness"]
    assert said_of_it.pop("protocol") == sharp.pop("protocol")
    assert said_of_it == pytest.approx(sharp)
    (written,) = (json.loads(line) for line in out.read_text().splitlines())
    assert written["sharpness"].pop("protocol") == "detail-above-half"
    assert written == record


def test_the_same_distribution_is_near_and_a_shifted_one_is_not() -> None:
    near, far = (evaluate(Noise(shift=shift), Faces(), "fid200-full-quarters") for shift in (0.0, 0.5))
    assert abs(near["kid"]) < 3 * near["kid_standard_error"]
    assert far["fid"] > 20 * near["fid"]
    assert far["coverage"] < 0.1 < 0.8 < near["coverage"]


def test_samples_that_are_not_finite_are_counted_and_never_replaced() -> None:
    broken = (3, 17, 40)
    record = evaluate(Noise(broken), Faces(), "fid50-full-quarters")
    assert record["samples_not_finite"] == 3
    kept = [seed for seed in range(50) if seed not in broken]
    pixels = to_pixels(Noise().decode(latents(kept, (3, 8, 8))))
    extractor = Quarters()
    expected = fid(*statistics(extractor(pixels)), *statistics(extractor(Faces().images)))
    assert record["fid"] == pytest.approx(expected, rel=1e-9)
    console = Console(width=200, record=True, file=io.StringIO())
    print_results([record], console)
    assert "3 of 50 samples were not finite" in console.export_text()


def test_a_model_that_gives_no_finite_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="50 of 50 samples are not finite"):
        evaluate(Noise(range(50)), Faces(), "fid50-full-quarters", tmp_path / "metrics.jsonl")
    assert not (tmp_path / "metrics.jsonl").exists()


def test_psi_is_part_of_the_protocol() -> None:
    model, faces = Noise(), Faces()
    option = evaluate(model, faces, "fid50-full-quarters", psi=0.5)
    name = evaluate(model, faces, "fid50-full-quarters-psi0.5")
    assert option["protocol"] == name["protocol"] == "fid50-full-quarters-psi0.5"
    assert option["fid"] == name["fid"] != evaluate(model, faces, "fid50-full-quarters")["fid"]
    with pytest.raises(UserError, match=r"says psi 0.5, the option says 0.7"):
        evaluate(model, faces, "fid50-full-quarters-psi0.5", psi=0.7)


def test_the_same_samples_through_further_extractors_and_the_two_sample_test() -> None:
    record = evaluate(Noise(), Faces(), "fid64-full-quarters", also=["others"], two_sample=True)
    (other,) = record["also"]
    assert other["protocol"] == "fid64-full-others"
    assert other["fid"] == pytest.approx(record["fid"])
    assert 0 <= record["two_sample"]["accuracy"] <= 1
    asked = [column for column in table.PIXEL_COLUMNS if column.table != "path_length"]
    assert all(column.text(record) for column in (*table.FEATURE_COLUMNS, *asked))


def test_ranges_of_seeds_are_disjoint_and_give_intervals(tmp_path: Path) -> None:
    out, broken = tmp_path / "metrics.jsonl", (70, 145)
    record = evaluate(
        Noise(broken=broken), Faces(), "fid64-full-quarters", out, seed=7, also=["others"], repeats=3
    )
    alone = [evaluate(Noise(broken=broken), Faces(), "fid64-full-quarters", seed=s) for s in (7, 71, 135)]
    assert record["seeds"] == [7, 198]
    assert (record["repeats"], record["samples"], record["samples_not_finite"]) == (3, 64, 2)
    for name in ("fid", "fid_infinity", "kid", "precision", "coverage"):
        values = [one[name] for one in alone]
        assert [one[name] for one in record["ranges"]] == values
        assert record[name] == pytest.approx(np.mean(values))
    fids = np.array([one["fid"] for one in alone])
    assert len(set(fids)) == 3
    # Student's t of two degrees of freedom, two-sided 95 percent: 4.3027 (from a printed table).
    assert record["fid_half_width"] == pytest.approx(4.3027 * fids.std(ddof=1) / np.sqrt(3), rel=1e-4)
    errors = np.array([one["kid_standard_error"] for one in alone])
    assert record["kid_standard_error"] == pytest.approx(np.sqrt((errors**2).sum()) / 3)
    assert record["sharpness"] == alone[0]["sharpness"]
    (other,) = record["also"]
    assert other["fid_half_width"] == pytest.approx(record["fid_half_width"])
    assert json.loads(out.read_text()) == record
    told = io.StringIO()
    print_results([record], Console(file=told, width=200))
    assert f"{record['fid']:.2f} ± {record['fid_half_width']:.2f}" in told.getvalue()
    assert "means over 3 ranges of seeds, 64 samples each" in told.getvalue()
    assert "2 of 192 samples were not finite" in told.getvalue()
    assert "repeats" not in alone[0]
    with pytest.raises(UserError, match="repeats must be 1 or more"):
        evaluate(Noise(), Faces(), "fid64-full-quarters", repeats=0)


def test_a_figure_that_one_range_lacks_is_missing() -> None:
    joined = report.over_ranges([{"fid": 1.0, "precision": 0.5}, {"fid": 3.0, "precision": None}])
    assert (joined["fid"], joined["precision"]) == (2.0, None)
    assert "kid" not in joined


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fid10k-full-inception2015", Measurement(10_000, "inception2015")),
        ("fid500-full-tags", Measurement(500, "tags")),
        ("fid2k-full-inception2015-psi0.7", Measurement(2000, "inception2015", 0.7)),
    ],
)
def test_protocol_names_are_read_and_written(name: str, expected: Measurement) -> None:
    assert parse_protocol(name) == expected
    assert expected.name == name


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("fid10k-full-inception2016", "fid10k-full-inception2015"),
        ("fid50k-full-inception", "fid50k-full-inception2015"),
        ("fid10k", "fid10k-full-"),
        ("fid0-full-tags", "fid"),
        ("fid10k-ful", "fid10k-full-inception2015"),
        ("fid10k-full-", "fid10k-full-inception2015"),
        ("fid10k-fulltags", "fid10k-full-tags"),
        ("fid2k", "fid2k-full-inception2015"),
        ("", "fid"),
    ],
)
def test_an_unknown_protocol_names_the_nearest(name: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=f"unknown protocol.*did you mean '{suggestion}"):
        parse_protocol(name)


def test_lines_are_appended_after_a_cut_one_and_damage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"protocol": "a", "fid": 1.0})
    with path.open("a") as file:
        file.write('{"protocol": "cut')
    append_line(path, {"protocol": "b", "fid": 2.0})
    assert [record["protocol"] for record in read_lines(path)] == ["a", "b"]
    with pytest.raises(UserError, match="cannot append"):
        append_line(tmp_path, {"protocol": "c"})


def test_protocols_are_kept_apart_in_print() -> None:
    rows = [
        {
            "protocol": protocol,
            "fid": 12.345,
            "kid": 0.0123,
            "kid_standard_error": 0.001,
            "snapshot_hash": "ab",
        }
        for protocol in ("fid10k-full-inception2015", "fid2k-full-inception2015", "fid10k-full-inception2015")
    ]
    assert [len(table.rows) for table in report.tables(rows)] == [2, 1]
    console = Console(width=200, record=True, file=io.StringIO())
    print_results(rows, console)
    text = console.export_text()
    assert "cannot be compared" in text
    assert "12.30 ± 1.00" in text
    console = Console(width=200, record=True, file=io.StringIO())
    print_results(rows[:1], console)
    assert "cannot be compared" not in console.export_text()


def test_the_two_sample_test_sees_each_face_once(monkeypatch):
    seen = []

    def two_sample(real, fake, **_):
        seen.append(real)
        return TwoSampleResult(0.5, (0.4, 0.6), 1.0, 2, 2, "none", 0, "fp32")

    monkeypatch.setattr("omokage.metrics.two_sample.two_sample_accuracy", two_sample)
    faces = Faces(140)
    faces.images[70:] = faces.images[:70]
    faces.index = pa.table({"sha256": [image.tobytes() for image in faces.images]})
    evaluate(Noise(), faces, "fid70-full-quarters", two_sample=True)
    assert len(seen[0]) == len(np.unique(seen[0], axis=0)) == 70


class Flat(Noise):
    """A model that draws one picture again and again: the mean of the faces, amidst all of them."""

    def __init__(self, level: float = 0.0) -> None:
        super().__init__()
        self.level = level
        self.drawn = 0

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        self.drawn += len(z)
        return torch.full((len(z), 3, 8, 8), self.level)


KNN = ("precision", "recall", "density", "coverage")


@pytest.mark.parametrize("level", [0.0, 0.2, -1.0])
@pytest.mark.parametrize("count", [10, 200])
def test_a_model_of_one_picture_gets_no_figures_that_flatter(count, level) -> None:
    record = evaluate(Flat(level), Faces(count), "fid50-full-quarters")
    assert [record[key] for key in KNN] == [None] * 4
    assert record["fid"] > 0
    told = " ".join(record["warnings"])
    assert "precision, recall, density and coverage are left out" in told
    console = Console(width=200, record=True, file=io.StringIO())
    print_results([record], console)
    assert console.export_text().count("are left out") == 1


def test_samples_that_hardly_differ_are_told() -> None:
    class Faint(Noise):
        def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
            return z * 0.03

    assert any("flatter" in line for line in evaluate(Faint(), Faces(), "fid50-full-quarters")["warnings"])
    lines = evaluate(Noise(), Faces(), "fid50-full-quarters")["warnings"]
    assert not any("flatter" in line for line in lines)


def test_few_faces_and_samples_are_told_before_anything_is_sampled() -> None:
    told: list[tuple[str, int]] = []
    model, faces = Flat(), Faces(30)
    faces.images[24:] = faces.images[0]
    faces.index = pa.table({"sha256": [image.tobytes() for image in faces.images]})
    record = evaluate(model, faces, "fid19-full-quarters", tell=lambda line: told.append((line, model.drawn)))
    rough = "below about 1,000, figures are rough and FID is too high"
    left_out = "precision, recall, density and coverage are left out"
    assert [line for line, _ in told] == record["warnings"]
    assert [line.removesuffix(rough) for line, _ in told[:2]] == [
        "only 24 different faces among 30: ",
        "only 19 samples: ",
    ]
    assert told[2][0].startswith(left_out)
    assert {drawn for _, drawn in told} == {0}
    assert "warnings" not in evaluate(Noise(), Faces(1000), "fid1k-full-quarters")


def _same(count: int, different: int) -> Faces:
    faces = Faces(count)
    faces.images = faces.images[np.arange(count) % different]
    faces.index = pa.table({"sha256": [image.tobytes() for image in faces.images]})
    return faces


def _alike() -> Faces:
    """Different files that all look the same."""
    faces = Faces(100)
    faces.images[:] = 128
    faces.index = pa.table({"sha256": [bytes([i]) for i in range(100)]})
    return faces


@pytest.mark.parametrize(
    ("faces", "protocol", "options", "message"),
    [
        (Faces(1), "fid50-full-quarters", {}, "1 different faces are too few"),
        (Faces(5), "fid50-full-quarters", {}, "5 different faces are too few to measure anything"),
        (_same(100, 4), "fid50-full-quarters", {}, "4 different faces are too few"),
        (Faces(), "fid5-full-quarters", {}, "5 samples are too few to measure anything"),
        (Faces(), "fid1-full-quarters", {}, "asks for 1 sample"),
        (_alike(), "fid50-full-quarters", {}, "most of its faces look the same to quarters"),
        (Faces(), "fid50-full-quarters", {"two_sample": True}, "50 samples are too few for the two-sample"),
        (_same(500, 60), "fid64-full-quarters", {"two_sample": True}, "60 different faces are too few"),
        (Faces(), "fid50-full-quarters", {"also": ["colours"]}, "unknown feature extractor 'colours'"),
        (Faces(), "fid50-full-quarters", {"out": "FOLDER"}, "cannot append the result"),
        (Faces(), "fid50-full-quarters", {"out": "FILE/x.jsonl"}, "cannot append the result"),
        (Faces(), "fid999999999k-full-quarters", {}, "do not fit into memory"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_sampled(
    faces, protocol, options, message, tmp_path
) -> None:
    (tmp_path / "file").write_text("")
    if "out" in options:
        out = options["out"].replace("FOLDER", str(tmp_path)).replace("FILE", str(tmp_path / "file"))
        options = {**options, "out": out}
    model = Flat()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        evaluate(model, faces, protocol, **options)
    assert model.drawn == 0
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "cache"] == before


def test_a_damaged_face_is_found_before_anything_is_sampled() -> None:
    """Also where the features come from the cache, and only pixels are decoded anew."""
    faces, model = Faces(), Flat()
    evaluate(Noise(), faces, "fid64-full-quarters")

    def damaged(indices, size):
        raise UserError("damaged")

    faces.pixels = damaged
    for two_sample in (False, True):
        with pytest.raises(UserError, match="damaged"):
            evaluate(model, faces, "fid64-full-quarters", two_sample=two_sample)
    assert model.drawn == 0


def test_a_test_that_too_few_finite_samples_spoil_costs_nothing_else() -> None:
    record = evaluate(Noise(range(5)), Faces(), "fid64-full-quarters", two_sample=True)
    assert "two_sample" not in record
    assert "the two-sample test is left out: only 59 samples are finite" in record["warnings"]
    assert record["fid"] > 0
    broken = evaluate(Noise(range(5, 50)), Faces(), "fid50-full-quarters")
    assert broken["recall"] is None
    assert broken["fid"] > 0


def test_every_figure_is_explained_in_the_docs() -> None:
    columns = [*table.FEATURE_COLUMNS, *table.PIXEL_COLUMNS]
    assert len({column.key for column in columns}) == len(columns)
    assert all(column.help and column.source for column in columns)
    docs = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert table.markdown() in docs.read_text(encoding="utf-8")


def test_a_further_metric_is_measured_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file exports it, and one row makes it part of records, tables and pages."""
    column = Column("brightness", "brightness", "{:.1f}", 0, "the mean of the pixels", "nobody")

    class Sum:
        total = 0.0

        def add(self, images):
            self.total += float(images.sum())

    added = Metric(
        "brightness",
        (column,),
        lambda context: {"brightness": context.watched["brightness"].total},
        watcher=Sum,
    )
    monkeypatch.setattr(report, "METRICS", (*report.METRICS, added))
    monkeypatch.setattr(report, "FEATURE_COLUMNS", (*report.FEATURE_COLUMNS, column))
    record = evaluate(Noise(), Faces(), "fid50-full-quarters")
    pixels = to_pixels(Noise().decode(latents(range(50), (3, 8, 8))))
    assert record["brightness"] == pixels.sum()
    assert report.tables([record])[0].columns[-1].header == "brightness"


def test_lines_of_older_versions_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    path.write_text('{"protocol": "fid10k-full-tags", "fid": 3.25}\n\n["no record"]\n' + "[" * 100_000 + "\n")
    console = Console(width=200, record=True, file=io.StringIO())
    print_results(read_lines(path), console)
    assert "3.25" in console.export_text()


def test_a_result_can_be_refused_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep" / "x.jsonl")
    assert not list(tmp_path.glob("new*"))
    (tmp_path / "there.jsonl").write_text("whole\n")
    check_writable(tmp_path / "there.jsonl")
    assert (tmp_path / "there.jsonl").read_text() == "whole\n"
    for bad in (tmp_path, tmp_path / "there.jsonl" / "x"):
        with pytest.raises(UserError, match="cannot append the result"):
            check_writable(bad)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("width", [50, 60, 80, 92, 120])
def test_no_number_is_cut_whatever_the_width(width, repeated):
    record = {
        **{"protocol": "fid10k-full-inception2015", "fid": 121.37},
        **{"kid": 0.01045, "kid_standard_error": 0.0019},
        **{"precision": 0.534, "recall": 0.045, "density": 0.936, "coverage": 0.54, "faces": 19_000},
        **{"snapshot_hash": 64 * "c", "images_seen": 96_960, "face_set_hash": 64 * "a", "samples": 10_000},
        **{"resolution": [64, 64], "extractor_precision": "bf16"},
    }
    if repeated:
        record |= {"fid_half_width": 1.25, "fid_infinity": 119.8, "fid_infinity_half_width": 1.5}
    console = Console(width=width, record=True, file=io.StringIO())
    print_results([record], console)
    told = console.export_text()
    assert "…" not in told
    for number in ("121.37 ± 1.25", "119.80 ± 1.50") if repeated else ("121.37",):
        assert number in told
    for number in ("10.45 ± 1.90", "0.534", "0.045", "0.936", "0.540"):
        assert number in told
