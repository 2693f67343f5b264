"""What docs and package show of results is what the records say."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("tables", BENCH / "tables.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCH))
        sys.modules.pop("comparison", None)


def test_nothing_is_stale(tables):
    """Where this fails: python bench/tables.py. What recipes are is compared in test_catalogue."""
    texts = [path for path in tables.TEXTS if path.name != "recipes.json"]
    assert tables.stale(texts) == []


def test_another_figure_in_the_records_makes_pages_and_pictures_stale(tables, monkeypatch):
    rows = [{**row, "fid": row["fid"] + 1} for row in tables.curve()]
    others = {name: {**row, "fid": row["fid"] + 1} for name, row in tables.compared().items()}
    monkeypatch.setattr(tables, "curve", lambda: rows)
    monkeypatch.setattr(tables, "compared", lambda: others)
    found = [line.split(":")[0] for line in tables.stale([*tables.TEXTS][1:])]
    assert {"README.md", "docs/comparison.md", "src/omokage/assets/measured.json"} <= set(found)
    assert {"docs/images/report.png", "docs/images/comparison.png"} <= set(found)


def test_a_picture_of_an_unknown_snapshot_is_stale(tables, monkeypatch, tmp_path):
    images = tables.ROOT / "docs" / "images"
    for name in ("report", "comparison", "comparison-hours"):
        (tmp_path / f"{name}.png").write_bytes((images / f"{name}.png").read_bytes())
    tables.stamp(Image.new("RGB", (2, 2)), tmp_path / "old.png", {"snapshot": 64 * "0"})
    monkeypatch.setattr(tables, "IMAGES", tmp_path)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.stale_pictures() == ["old.png: of a snapshot that no record knows (000000000000)"]


def test_what_pages_say_in_words_is_what_the_records_say(tables):
    ships = next(row for row in tables.curve() if row["snapshot_hash"] == tables.fast_64_hash())
    style = tables.compared()["fast-style"]
    keys = ("precision", "coverage", "recall")
    told = {
        "README.md": (", ".join(rf"{key} (0\.\d+)" for key in keys), [ships[key] for key in keys]),
        "docs/style-based.md": (r"FID is (\d+\.\d) by", [style["fid"]]),
    }
    (default,) = tables.shipped()
    for name, row in (("fast-64", ships), ("style-64", default)):
        pattern = rf"`{name}` \| `fid10k-full-inception2015` \(bf16\) \| (\d+\.\d+) "
        assert re.search(pattern, (tables.ROOT / "docs/model-card.md").read_text(encoding="utf-8"))
        told[f"docs/model-card.md#{name}"] = (pattern, [row["fid"]])
    told["README.md#style-64"] = (r"235,000 images: FID (\d+\.\d)", [default["fid"]])
    for place, (pattern, numbers) in told.items():
        page = place.partition("#")[0]
        for found in re.finditer(pattern, (tables.ROOT / page).read_text(encoding="utf-8")):
            for word, number in zip(found.groups(), numbers, strict=True):
                assert float(word) == round(number, len(word.partition(".")[2])), page


def test_the_readme_has_every_family(tables):
    from omokage.families import MODELS

    assert set(tables.FAMILIES) == set(MODELS)
    rows = [line for line in tables.families_table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(MODELS)
    assert next(row for row in rows if "`skipgan`" in row).endswith("| `fast` | CPU | 14.7, 60 min |")


def test_the_page_of_steering_has_what_its_record_says(tables, tmp_path, monkeypatch):
    nothing = float("nan")
    rows = [
        {"value": "hair=blue", "reached": 9, "without": 12, "leakage": 0.011, "largest": ["eyes", 0.034],
         "moved": 0.12},
        {"value": "eyes=red", "reached": 0, "without": 3, "leakage": nothing, "largest": ["", nothing],
         "moved": nothing},
    ]  # fmt: skip
    told = {"model": "a model", "machine": "m", "date": "d"}
    record = {**told, "regressed": 50_000, "samples": 500, "rows": rows}
    file = tmp_path / "steering.json"
    file.write_text(json.dumps(record))
    monkeypatch.setattr(tables, "STEERING", file)
    page = tables.TEXTS[tables.ROOT / "docs" / "steering.md"]()
    assert "| hair blue | 9 of 12 (75%) | +1.1 | +3.4 (eyes) | 0.12 |" in page
    assert "| eyes red | 0 of 3 (0%) | – | – | – |" in page
    assert "a model, with directions from 50,000 samples" in page
