import pytest
import torch
from torch import nn

from omokage.families import DISCRIMINATORS, MODELS
from omokage.models.dense_dcgan import Generator
from omokage.recipe import load_recipe


def shapes(network, z):
    """Shapes after each layer with weights, without the batch."""
    seen = []
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [
        layer.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:]))) for layer in layers
    ]
    network(z)
    for hook in hooks:
        hook.remove()
    return seen


def build(name):
    recipe = load_recipe(name)
    return MODELS["dense-dcgan"].build(recipe.model), DISCRIMINATORS["dense-dcgan"].build(
        recipe.discriminator
    )


def test_the_features_of_the_dropout_version():
    generator, discriminator = build("yao2021-dcgan-dropout")
    assert shapes(generator, torch.randn(2, 100)) == [
        (4096,),
        (128, 8, 8),
        (64, 16, 16),
        (32, 32, 32),
        (3, 64, 64),
    ]
    assert shapes(discriminator, torch.randn(2, 3, 64, 64)) == [
        (32, 32, 32),
        (64, 16, 16),
        (128, 9, 9),
        (256, 9, 9),
        (1,),
    ]
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU", "Dropout"]
    assert kinds == [
        *["Conv2d", "LeakyReLU", "Dropout"],
        *block,
        "ZeroPad2d",
        *block * 2,
        "Flatten",
        "Linear",
    ]
    assert discriminator.layers[-1].in_features == 20_736


def test_the_features_of_the_wasserstein_version():
    generator, discriminator = build("yao2021-wgan")
    assert shapes(generator, torch.randn(2, 100)) == [(131_072,), (256, 16, 16), (128, 32, 32), (3, 64, 64)]
    assert shapes(discriminator, torch.randn(2, 3, 64, 64)) == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (1,),
    ]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules())
    assert all(
        getattr(m, "bias", None) is None for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)
    )


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (5, 2), (5, 1), (3, 1), (3, 3)])
def test_each_layer_is_exactly_its_stride_times_larger(kernel, stride):
    generator = Generator(latent=3, channels=(4, 4), strides=(stride,) * 2, first_size=5, kernel=kernel)
    size = 5 * stride**2
    assert generator.decode(torch.randn(2, 3)).shape == (2, 3, size, size)
    assert generator.resolution == (size, size)
