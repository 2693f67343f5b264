"""bench/outliers.py: a table for every family with a likelihood, on the same pictures."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.families import build_model
from omokage.recipe import load_recipe
from omokage.snapshot import write_snapshot

BENCH = Path(__file__).resolve().parents[1] / "bench" / "outliers.py"
TINY = {
    "realnvp": ["realnvp-32", "model.size=8", "model.scales=2", "model.hidden=4", "model.blocks=1"],
    "glow": ["glow-32", "model.size=8", "model.levels=2", "model.steps=1", "model.hidden=4"],
    "tarflow": ["tarflow-64", "size=8", "width=8", "heads=1", "blocks=2", "layers=1"],
    "labelled": ["tarflow-64", "size=8", "width=8", "heads=1", "blocks=2", "layers=1", "condition=hair"],
}


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("outliers_bench", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def heldout(tmp_path_factory):
    """Smooth pictures of a pale colour, as a held-out part."""
    folder, rng = tmp_path_factory.mktemp("outliers") / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i in range(24):
        corners = Image.fromarray(rng.integers(150, 220, (2, 2, 3), np.uint8))
        corners.resize((8, 8), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    out = folder.parent / "heldout"
    build([folder], out, as_faces=True, workers=1)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["split"] = {"of": "a" * 64, "part": "heldout", "holdout": 0.5, "seed": 0, "groups": "none"}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def trained(name, folder):
    """A flow that has learned a little of such pictures."""
    recipe = load_recipe(TINY[name][0], TINY[name][1:])
    if recipe.training.condition:
        recipe.conditions = {"hair": ["blue", "red"]}
    torch.manual_seed(0)
    network = build_model(recipe.model, recipe.conditions)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        corners = torch.rand(16, 3, 2, 2) * 0.5 + 0.2
        images = torch.nn.functional.interpolate(corners, (8, 8), mode="bilinear")
        optimiser.zero_grad()
        (-network.log_prob(images + torch.rand_like(images) / 127.5).mean() / 192).backward()
        optimiser.step()
    path = folder / f"{name}.safetensors"
    tensors = {f"average.{key}": value for key, value in network.state_dict().items()}
    write_snapshot(path, tensors, recipe, {"images": 640, "face_set": "b" * 64})
    return path


def test_every_family_is_measured_on_the_same_pictures(bench, heldout, tmp_path, monkeypatch, capsys):
    runs = [trained(name, tmp_path) for name in TINY]
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "outliers.md")
    arguments = ["outliers.py", *map(str, runs), "--heldout", str(heldout), "--count", "12", "--write"]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    written = (tmp_path / "outliers.md").read_text()
    assert "arXiv" not in written
    tables = written.split("\n## ")[1:]
    assert [table.split(",")[0].split()[-1] for table in tables] == ["realnvp", "glow", "tarflow", "tarflow"]
    alone = set()
    for table in tables:
        rows = {
            cells[1].strip(): [float(cell.split()[0]) for cell in cells[2:6]]
            for cells in (line.split("|") for line in table.splitlines() if line.startswith("| "))
            if "number" not in cells[2]
        }
        assert rows["noise"][0] == 12
        assert rows["all of these"][0] == 60
        assert all(0 <= area <= 1 for row in rows.values() for area in row[1:])
        assert rows["noise"][1] > 0.95  # plain likelihood finds what is busier than a face
        alone.add(tuple(row[3] for row in rows.values()))
        assert "(0 faces not finite)" in table
    assert len(alone) == 1  # compressed length knows nothing of the model
    monkeypatch.setattr(sys, "argv", [arguments[0], arguments[1], *arguments[5:]])
    bench.main()  # one recipe again: the tables of others stay
    again = (tmp_path / "outliers.md").read_text().split("\n## ")[1:]
    names = [table.split()[0] for table in again]
    assert names == ["glow-32", "tarflow-64", "tarflow-64", "realnvp-32"]
    assert [table.strip() for table in again[:3]] == [table.strip() for table in tables[1:]]


def test_pictures_are_compressed_as_the_faces_are(bench, heldout, tmp_path):
    """Else whatever is no JPEG is told by that alone."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (4, 16, 16, 3), np.uint8)
    assert (bench.stored_alike(shown, bench.jpeg_settings(FaceSet.open(heldout)), rng) == shown).all()  # PNGs
    Image.fromarray(shown[0]).save(tmp_path / "face.jpg", quality=30, subsampling=2)
    build([tmp_path / "face.jpg"], tmp_path / "faces", as_faces=True, workers=1)
    alike = bench.stored_alike(shown, bench.jpeg_settings(FaceSet.open(tmp_path / "faces")), rng)
    assert (alike[0] == np.asarray(Image.open(tmp_path / "face.jpg"))).all()
    assert not (alike == shown).all()
