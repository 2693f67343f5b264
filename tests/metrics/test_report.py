import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from torch import Tensor

from omokage.errors import UserError
from omokage.metrics import features, report
from omokage.metrics.fid import fid, statistics
from omokage.metrics.protocol import Measurement, parse_protocol
from omokage.metrics.records import append_line, read_lines
from omokage.metrics.report import evaluate, print_results
from omokage.metrics.sharpness import detail, sharpness
from omokage.metrics.two_sample import TwoSampleResult
from omokage.sampling import PLAIN, latents, to_pixels
from omokage.settings import Settings


class Noise:
    """A model whose latents are its images; from the latent of a seed in ``broken`` it makes NaN."""

    resolution = (8, 8)
    latent_shape = (3, 8, 8)
    device = torch.device("cpu")
    snapshot_hash = "5" * 64
    images_seen = 1234

    def __init__(self, broken: Sequence[int] = (), shift: float = 0.0) -> None:
        self.broken = latents(broken, self.latent_shape)
        self.shift = shift

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        images = (z * settings.psi * 0.3 + self.shift).clamp(-1, 1)
        for latent in self.broken:
            images[(z == latent).flatten(1).all(1)] = torch.nan
        return images


class Faces:
    """Noise of the same kind from other seeds."""

    path = Path("faces")
    content_hash = "f" * 64

    def __init__(self, count: int = 200) -> None:
        self.images = to_pixels(Noise().decode(latents(range(10_000, 10_000 + count), (3, 8, 8))))
        self.index = pa.table({"sha256": [image.tobytes() for image in self.images]})

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        assert size == (8, 8)
        return self.images[indices]


class Quarters:
    """Mean colours of quarters."""

    file_hash = "e" * 64
    dimensions = 12
    resize_rule = "none"
    precision = "fp32"

    def __init__(self, name: str = "quarters") -> None:
        self.name = name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        quarters = images.reshape(len(images), 2, 4, 2, 4, 3).mean((2, 4))
        return quarters.reshape(len(images), 12).astype(np.float32) / 255


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
