"""Freezing: what waits keeps its weights, and learns when its time comes."""

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot
from omokage.training.freeze import Freeze

SMALL = {
    "model.channels": [4, 4, 4],
    "discriminator.channels": [4, 4, 4],
    "training.batch": 5,
    "training.learning_rate": {"default": 1e-2},
}


def weights(run):
    tensors, _, _ = read_snapshot(newest_snapshot(run))
    return {
        name.removeprefix("networks.generator."): tensor
        for name, tensor in tensors.items()
        if name.startswith("networks.generator.") and name.endswith("weight")
    }


def first_of(run):
    return next(iter(weights(run))).split("weight")[0]


def trained(faces, out, images, **overrides):
    changes = {f"training.{name}": value for name, value in overrides.items()}
    train("dcgan", faces, out, images=images, overrides=SMALL | changes)
    return weights(out)


def test_frozen_layers_keep_their_weights_and_others_learn(faces, tmp_path):
    before = trained(faces, tmp_path / "start", 5, learning_rate={"default": 0.0})
    name = first_of(tmp_path / "start")
    after = trained(faces, tmp_path / "frozen", 10, freeze=[name])
    for one in before:
        assert torch.equal(before[one], after[one]) == one.startswith(name), one


def test_they_learn_after_their_time_also_when_training_stops_in_between(faces, tmp_path):
    start = trained(faces, tmp_path / "start", 5, learning_rate={"default": 0.0})
    name = first_of(tmp_path / "start")
    how = {"freeze": [name], "freeze_kimg": 0.01}
    held = trained(faces, tmp_path / "a", 10, **how)
    assert all(torch.equal(held[one], start[one]) for one in start if one.startswith(name))
    a, b = trained(faces, tmp_path / "a", 20, **how), trained(faces, tmp_path / "b", 20, **how)
    assert not any(torch.equal(a[one], start[one]) for one in start)
    assert all(torch.equal(a[one], b[one]) for one in a)


def test_names_that_freeze_nothing_or_everything_are_refused():
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"begin with 'blocks'; there are 0\.bias, 0\.weight, 1\.bias"):
        Freeze(network, ["blocks"])
    with pytest.raises(UserError, match="nothing would learn"):
        Freeze(network, ["0.", "1."])
    Freeze(network, ["0.", "1."], kimg=1)
