"""Growing networks in the training loop."""

import json

import numpy as np
import pytest
import torch

from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.sampling import gathered, sample
from omokage.snapshot import newest_snapshot, read_snapshot

SMALL = [
    "model.resolution=[16, 16]",
    "model.channels=[8, 8, 4]",
    "model.latent=8",
    "model.start=0",
    "model.stable_kimg=0.008",
    "model.fade_kimg=0.024",
    "discriminator.resolution=[16, 16]",
    "discriminator.channels=[8, 8, 4]",
    "discriminator.start=0",
    "training.batch=[[0, 8], [0.008, 8], [0.008, 4]]",
    "training.learning_rate={ default = [[0, 2e-3], [0.04, 2e-3], [0.04, 1e-3]] }",
    "training.log_kimg=0.004",
    "training.grid_kimg=0.02",
    "training.keep=0",
]
STYLES = ["model.style=8", "model.depth=2"]
RECIPES = {
    "progan-64": SMALL,
    "wu2020-stylegan": [*SMALL, *STYLES, "objective.penalty_every=2", "training.micro_batch=4"],
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_resumed_in_the_midst_of_fading_in_equals_an_unbroken_one(faces, tmp_path, name, precision):
    recipe = load_recipe(name, [*RECIPES[name], f"training.precision={precision}"])
    train(recipe, faces, tmp_path / "unbroken", images=72)
    for images in (20, 44, 72):  # in 8 px, in 16 px (faded in by an eighth), there alone
        train(recipe, faces, tmp_path / "broken", images=images)
    one, other = (read_snapshot(newest_snapshot(tmp_path / run)) for run in ("unbroken", "broken"))
    assert one[2]["images"] == other[2]["images"] == 72
    assert one[0].keys() == other[0].keys()
    assert [key for key in one[0] if not torch.equal(one[0][key], other[0][key])] == []
    lines = (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    told = {line["images"]: line for line in map(json.loads, lines) if "stage/size" in line}
    assert [told[images]["stage/size"] for images in (8, 12, 40, 44, 72)] == [4, 8, 8, 16, 16]
    assert told[28]["stage/faded in"] == pytest.approx((24 - 8) / 24)  # where the step began


@pytest.mark.parametrize("name", RECIPES)
def test_a_half_grown_snapshot_knows_its_stage(faces, tmp_path, name):
    recipe = load_recipe(name, [*RECIPES[name], "training.precision=fp32"])
    train(recipe, faces, tmp_path / "run", images=20)
    model = load_model(tmp_path / "run", device="cpu")
    assert int(model.network.images_seen) == 16  # before its last step
    assert model.network.stage == (1, pytest.approx(8 / 24))
    pixels, _ = gathered(sample(model, range(3)))
    assert pixels.shape == (3, 16, 16, 3)
    assert (pixels == np.kron(pixels[:, ::2, ::2], np.ones((1, 2, 2, 1), np.uint8))).all()
    assert not (pixels[0] == pixels[1]).all()
