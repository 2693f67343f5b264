"""The generic loop on flows: no discriminator, a start that depends on data, clipping."""

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.data.build import build
from omokage.errors import UserError
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot

SMALL = [
    "model.size=8",
    "training.batch=4",
    "training.log_kimg=0.008",
    "training.grid_kimg=0.02",
    "training.learning_rate={ default = [[0, 0], [0.01, 1e-3]] }",
]
FLOWS = {
    "glow-32": ["model.levels=2", "model.steps=2", "model.hidden=4"],
    "realnvp-32": ["model.scales=2", "model.hidden=4", "model.recompute=true"],
    "tarflow-32": ["model.width=8", "model.heads=1", "model.blocks=2", "model.layers=1"],
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    out = folder.parent / "faces"
    build([folder], out, as_faces=True, workers=1)
    return out


def small(name, *overrides):
    return load_recipe(name, [*SMALL, *FLOWS[name], *overrides])


def everything(run):
    return read_snapshot(newest_snapshot(run))[0]


@pytest.mark.parametrize("name", sorted(FLOWS))
def test_a_resumed_run_equals_an_unbroken_one(faces, tmp_path, name):
    train(small(name), faces, tmp_path / "unbroken", images=24)
    for images in (4, 12, 24):
        train(small(name), faces, tmp_path / "broken", images=images)
    one, other = everything(tmp_path / "unbroken"), everything(tmp_path / "broken")
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert (tmp_path / "unbroken" / "grids").is_dir()


def test_the_start_from_data_is_in_the_snapshot_and_in_the_averages(faces, tmp_path):
    train(small("glow-32"), faces, tmp_path, images=4)
    tensors = everything(tmp_path)
    assert tensors["networks.generator.started"]
    assert tensors["average.started"]
    shift = tensors["networks.generator.levels.0.0.shift"]
    assert (shift != 0).any()
    torch.testing.assert_close(tensors["average.levels.0.0.shift"], shift, atol=1e-4, rtol=1e-4)
    assert load_model(tmp_path, device="cpu").network.started


def test_clipping_bounds_the_gradient_of_a_phase(faces, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.Adam.step

    def watched(self, *args, **settings):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return step(self, *args, **settings)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    train(small("tarflow-32", "clip_gradients=0"), faces, tmp_path / "free", images=4)
    train(small("tarflow-32", "clip_gradients=0.01"), faces, tmp_path / "bound", images=4)
    assert norms[0] > 0.02
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_settings_are_refused_in_words():
    with pytest.raises(UserError, match="'affine' or 'additive'"):
        load_recipe("glow-64", ["model.coupling=cubic"])
    with pytest.raises(UserError, match="clip_gradients"):
        load_recipe("glow-64", ["clip_gradients=-1"])
