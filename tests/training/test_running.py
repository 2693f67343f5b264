"""A training is put together above the loop, which knows neither metrics nor explorers."""

import ast
from pathlib import Path

import pytest

import omokage
from omokage.errors import UserError
from omokage.listing import snapshots
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.running import resolve, train
from omokage.snapshot import newest_snapshot
from omokage.training import loop

SMALL = {
    "model.channels": [8, 8],
    "model.latent": 4,
    "discriminator.channels": [8, 8],
    "training.batch": 4,
    "training.grid_kimg": 0.004,
}


def test_training_imports_neither_metrics_nor_explorers():
    folder = Path(omokage.__file__).parent / "training"
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module or ''}.{name.name}" for name in node.names}
            elif isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
    above = ("metrics", "explore", "pages", "report", "verbs", "running")
    assert [name for name in found if any(part in above for part in name.split("."))] == []


def test_overrides_are_a_mapping_or_words(faces, tmp_path):
    words = ["model.channels=[8, 8]", "model.latent=4", "discriminator.channels=[8, 8]"]
    words += ["training.batch=4", "training.grid_kimg=0.004"]
    assert resolve("dcgan", SMALL) == resolve("dcgan", words) == load_recipe("dcgan", words)
    assert resolve("dcgan", {"objective.loss": "hinge"}).objective["loss"] == "hinge"
    with pytest.raises(UserError, match="did you mean"):
        resolve("dcgan", {"training.sead": 1})
    with pytest.raises(UserError, match="resolved already"):
        resolve(load_recipe("dcgan"), {"seed": 1})
    path = train("dcgan", faces, tmp_path / "run", images=8, overrides=SMALL)
    assert path == newest_snapshot(tmp_path / "run")
    assert load_model(path).recipe.model["latent"] == 4


def test_the_loop_draws_and_measures_what_it_is_given(faces, tmp_path):
    recipe = resolve("dcgan", {**SMALL, "training.fid_kimg": 0.008})
    seen = []

    def measure(model, faces):
        seen.append(("ready", len(faces)))
        return lambda: seen.append(("measured", model.resolution)) or {"fid/mine": 1.5}

    loop.train(recipe, faces, tmp_path / "run", images=16, measure=measure)
    assert seen == [("ready", 10), ("measured", (16, 16)), ("measured", (16, 16))]
    assert (tmp_path / "run" / "log.jsonl").read_text().count('"fid/mine": 1.5') == 2
    assert not (tmp_path / "run" / "grids").exists()
    train("dcgan", faces, tmp_path / "other", images=8, overrides=SMALL)  # put together: grids
    assert len(list((tmp_path / "other" / "grids").glob("*.png"))) == 2
    assert len(snapshots(tmp_path / "run")) == 1
