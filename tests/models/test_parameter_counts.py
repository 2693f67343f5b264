"""Published parameter counts, network by network, as their sources counted."""

import pytest
from torch import nn

from omokage.families import DISCRIMINATORS, MODELS
from omokage.recipe import load_recipe


def trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def counted_by_keras(network: nn.Module) -> int:
    """With the means and variances of batch norm, which are not trained."""
    statistics = [b for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var"))]
    return trainable(network) + sum(b.numel() for b in statistics)


def networks(name):
    recipe = load_recipe(name)
    return (
        MODELS[recipe.model["name"]].build(recipe.model),
        DISCRIMINATORS[recipe.discriminator["name"]].build(recipe.discriminator),
    )


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("yao2021-dcgan-mnist", 1_099_200, 693_632),
        ("yao2021-dcgan", 3_576_704, 2_765_568),
        ("yao2021-dcgan-dropout", 1_112_227, 410_049),
        ("yao2021-wgan", 17_475_712, 1_045_633),
        ("turubayev2022-dcgan", 3_576_704, 2_765_568),
    ],
)
def test_trained_parameters(name, generator, discriminator):
    assert tuple(map(trainable, networks(name))) == (generator, discriminator)


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [("yao2021-dcgan-dropout", 1_120_867, 410_945), ("yao2021-wgan", 17_738_624, 1_045_633)],
)
def test_all_parameters_as_keras_counts(name, generator, discriminator):
    assert tuple(map(counted_by_keras, networks(name))) == (generator, discriminator)


def test_the_vae():
    recipe = load_recipe("yao2021-vae")
    assert trainable(MODELS[recipe.model["name"]].build(recipe.model)) == 4_348_547
