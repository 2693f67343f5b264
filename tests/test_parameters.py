import pytest
import torch
from torch import nn

from omokage.families import DISCRIMINATORS, MODELS
from omokage.parameters import Count, count, counted, short, without_power_iterations
from omokage.recipe import load_recipe


@pytest.mark.parametrize(
    ("name", "reconstruction"),
    # The encoder of redrawn faces: two dense layers on 4x4 places of 64 + 128 + 256 + 3 channels.
    [
        ("fast", Count(2_869_888, 0, 14_432)),
        ("yao2021-wgan", None),
        ("sagan", None),
        ("yao2021-vae", None),
    ],
)
def test_counting_without_memory_counts_what_is_built(name, reconstruction):
    recipe = load_recipe(name, ["model.channels=[8, 8, 8, 8]"] if name == "yao2021-vae" else [])
    built = {"generator": count(MODELS[recipe.model["name"]].build(recipe.model))}
    if recipe.discriminator:
        built["discriminator"] = count(
            DISCRIMINATORS[recipe.discriminator["name"]].build(recipe.discriminator)
        )
    found = counted(recipe)
    assert found.pop("reconstruction", None) == reconstruction
    assert found == built


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("yao2021-dcgan-dropout", (1_112_227, 1_120_867), (410_049, 410_945)),
        ("yao2021-wgan", (17_475_712, 17_738_624), (1_045_633, 1_045_633)),
    ],
)
def test_published_counts(name, generator, discriminator):
    found = counted(load_recipe(name))
    assert (found["generator"].trained, found["generator"].total) == generator
    assert (found["discriminator"].trained, found["discriminator"].total) == discriminator


def test_a_frozen_feature_network_is_not_trained():
    judge = counted(load_recipe("fast"))["discriminator"]
    assert judge.frozen > 1_000_000
    assert judge.trained > 1_000_000


def test_nothing_is_counted_twice():
    shared = nn.Linear(3, 2)
    assert count(nn.ModuleList([shared, shared])) == Count(8)


@pytest.mark.parametrize(("number", "text"), [(999, "999"), (74_318_908, "74.3 M"), (1_099_200, "1.10 M")])
def test_short(number, text):
    assert short(number) == text


def test_spectral_norms_iterate_again_afterwards():
    linear = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
    before = linear.parametrizations.weight[0]._u.clone()
    with without_power_iterations():
        linear(torch.ones(1, 6))
        assert torch.equal(linear.parametrizations.weight[0]._u, before)
    linear(torch.ones(1, 6))
    assert not torch.equal(linear.parametrizations.weight[0]._u, before)
