import json
import math

import pytest
import torch

import omokage.training.loop as loop
from omokage.errors import UserError
from omokage.listing import snapshots
from omokage.objectives.adversarial import hinge, non_saturating, wasserstein
from omokage.objectives.phase import Phase
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot
from omokage.training.watchdog import look

SMALL = [
    "model.channels=[16, 8]",
    "model.latent=8",
    "discriminator.channels=[8, 16]",
    "training.batch=4",
    "training.log_kimg=0.004",
    "training.grid_kimg=1",
    "training.keep=0",
    "training.snapshot_minutes=1e-9",  # after every step
]


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def watched(run):
    return [line for line in log(run) if "watchdog" in line]


def phase(floor):
    return Phase("discriminator", [], lambda step: (torch.zeros(()), {}), floor=floor)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_trouble_at_once(value):
    trouble = look({"loss/generator": 0.1, "gradient norm/generator": value}, [], 7, {}, 50)
    assert trouble.fatal
    assert trouble.well_until == 7
    assert "gradient norm/generator" in trouble.sentence
    assert "lower training.learning_rate" in trouble.sentence


def test_a_sign_is_trouble_only_when_it_lasts():
    since: dict[str, int] = {}
    low, high = {"loss/discriminator": 0.001}, {"loss/discriminator": 0.4}
    lines = [low, low, high, low, low, low]
    found = [look(line, [phase(0.0)], 1000 * i, since, 2) for i, line in enumerate(lines)]
    assert found[:5] == [None] * 5
    assert found[5].well_until == 3000
    assert not found[5].fatal
    assert since == {}


def test_a_critic_without_a_floor_may_have_any_loss():
    since: dict[str, int] = {}
    for images in range(0, 10_000, 1000):
        assert look({"loss/discriminator": 0.0}, [phase(None)], images, since, 1) is None


def test_images_without_variety():
    since: dict[str, int] = {}
    assert look({"variety": 0.01}, [], 0, since, 1) is None
    assert look({}, [], 1000, since, 1) is None  # the generator had no turn: nothing is known
    assert "nearly all the same" in look({"variety": 0.01}, [], 2000, since, 1).sentence


@pytest.mark.parametrize("loss", [non_saturating(), non_saturating(0.9, 0.1), hinge()])
def test_the_floor_is_the_loss_of_a_discriminator_that_knows(loss):
    """Its logits are free: the least value over all of them is the floor."""
    grid = torch.linspace(-30, 30, 1201).double()[:, None]
    real = min(loss.discriminator(logit, torch.zeros(1)) for logit in grid)
    fake = min(loss.discriminator(torch.zeros(1), logit) for logit in grid)
    at_zero = loss.discriminator(torch.zeros(1), torch.zeros(1))
    assert loss.floor == pytest.approx((real + fake - at_zero).item(), abs=2e-4)
    assert wasserstein().floor is None


def poisoned(monkeypatch, at):
    """At the ``at``-th step of an optimiser from now a weight becomes NaN, once."""
    descend, count = loop._descend, iter(range(1, 10_000))

    def bad(phase, optimiser, rate):
        descend(phase, optimiser, rate)
        if next(count) == at:
            with torch.no_grad():
                phase.parameters[0].fill_(math.nan)

    monkeypatch.setattr(loop, "_descend", bad)


def test_after_one_nan_it_goes_back_and_on(faces, tmp_path, monkeypatch):
    run, recipe = tmp_path / "run", load_recipe("dcgan", SMALL)
    poisoned(monkeypatch, 12)  # the generator's, at images 20 to 24
    train(recipe, faces, run, images=40)
    (line,) = watched(run)
    assert (line["images"], line["back to"]) == (28, 20)
    assert "is not a finite number any more" in line["watchdog"]
    tensors, _, progress = read_snapshot(newest_snapshot(run))
    assert (progress["images"], progress["rollbacks"]) == (40, 1)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    # Resumed from before the trouble, the log still has it.
    for path in snapshots(run):
        if path.stem > "snapshot-000000000016":
            path.unlink()
    train(recipe, faces, run, images=20)
    assert watched(run) == [line]


def test_after_going_back_latents_differ_but_a_resumed_run_equals_an_unbroken_one(
    faces, tmp_path, monkeypatch
):
    recipe = load_recipe("dcgan", SMALL)
    train(recipe, faces, tmp_path / "well", images=40)
    for name, stops in {"unbroken": (40,), "broken": (32, 40)}.items():
        with monkeypatch.context() as patch:
            poisoned(patch, 12)
            train(recipe, faces, tmp_path / name, images=stops[0])
        for images in stops[1:]:
            train(recipe, faces, tmp_path / name, images=images)
    well, one, other = (
        read_snapshot(newest_snapshot(tmp_path / name))[0] for name in ("well", "unbroken", "broken")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    mine, theirs = (
        [{k: v for k, v in line.items() if k[:4] in ("imag", "loss", "logi")} for line in log(run)]
        for run in (tmp_path / "unbroken", tmp_path / "broken")
    )
    assert mine == theirs
    assert not torch.equal(well["average.layers.0.weight"], one["average.layers.0.weight"])


def test_it_goes_back_at_most_so_many_times(faces, tmp_path):
    run = tmp_path / "run"
    rates = "learning_rate={ default = [[0, 1e-3], [0.012, 1e-3], [0.016, 1e38]] }"
    recipe = load_recipe("dcgan", [*SMALL, rates, "rollbacks=2"])
    with pytest.raises(UserError, match="went back 2 times already; training stops") as caught:
        train(recipe, faces, run, images=400)
    assert "\n" not in str(caught.value)
    assert [line["back to"] is None for line in watched(run)] == [False, False, True]
    tensors, _, progress = read_snapshot(newest_snapshot(run))
    assert progress["rollbacks"] == 2
    assert all(tensor.isfinite().all() for name, tensor in tensors.items() if name.startswith("average."))


def test_without_a_snapshot_it_stops(faces, tmp_path):
    recipe = load_recipe("dcgan", [*SMALL, "snapshot_minutes=60", "learning_rate={ default = 1e38 }"])
    with pytest.raises(UserError, match="no snapshot from before it; training stops"):
        train(recipe, faces, tmp_path / "run", images=400)
    assert len(watched(tmp_path / "run")) == 1


def test_a_discriminator_that_knows_everything_is_noticed(faces, tmp_path):
    run = tmp_path / "run"
    rates = "learning_rate={ default = 2e-2, generator = 0.0 }"
    overrides = [*SMALL, "loss=hinge", rates, "patience_kimg=0.02", "rollbacks=1", "keep=2"]
    train(load_recipe("dcgan", overrides), faces, run, images=400)
    lines = watched(run)
    assert "as low as can be" in lines[0]["watchdog"]
    first_sign = lines[0]["images"] - 20
    assert lines[0]["back to"] <= first_sign  # one from before was kept, though only two are
    assert all(line["back to"] is None for line in lines[1:])
    assert "goes on" in lines[1]["watchdog"]
    assert read_snapshot(newest_snapshot(run))[2]["images"] == 400
