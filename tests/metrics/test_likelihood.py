import math

import numpy as np
import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.families import MODELS
from omokage.metrics.likelihood import bits_per_dimension
from omokage.model import Model
from omokage.recipe import load_recipe


class Logistic(nn.Module):
    """Every value logistic around a mean of its own, as a flow would tell it."""

    resolution = (4, 4)
    latent_shape = (48,)

    def __init__(self, broken=()):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(0.1))
        self.broken = broken

    def log_prob(self, images):
        x = (images.double() - self.mean) / 0.3
        found = (-x - 2 * torch.nn.functional.softplus(-x) - math.log(0.3)).flatten(1).sum(1)
        for bright in self.broken:
            found = torch.where(images.flatten(1).mean(1) > bright, torch.nan, found)
        return found


def model(network):
    return Model(network.eval(), load_recipe("glow-32"), {"images": 0}, path=None, snapshot_hash="0" * 64)


def pixels(count):
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)


def test_many_draws_give_the_integral_over_the_bins():
    found = bits_per_dimension(model(Logistic()), pixels(3), draws=400)
    edges = np.linspace(0, 1, 17)[:-1] + 1 / 32  # 16 points within each bin
    expected = []
    for image in pixels(3):
        cube = (image.reshape(-1, 1) + edges) / 256
        x = ((cube * 256 - 128) / 127.5 - 0.1) / 0.3
        log_density = -x - 2 * np.logaddexp(0, -x) - math.log(0.3) + math.log(256 / 127.5)
        expected.append(8 - log_density.mean(1).mean() / math.log(2))
    np.testing.assert_allclose(found.each, expected, atol=2e-3)
    assert found.value == pytest.approx(found.each.mean())


def test_the_interval_holds_what_it_should():
    found = bits_per_dimension(model(Logistic()), pixels(200))
    low, high = found.interval
    assert low < found.value < high
    assert found.standard_error == pytest.approx(found.each.std(ddof=1) / math.sqrt(200))
    assert low < bits_per_dimension(model(Logistic()), pixels(200), seed=1).value < high


def test_an_image_has_the_same_number_among_others_and_with_the_same_seed():
    among = bits_per_dimension(model(Logistic()), pixels(21))
    fewer = bits_per_dimension(model(Logistic()), pixels(21)[:18])
    np.testing.assert_array_equal(among.each[:18], fewer.each)
    assert (bits_per_dimension(model(Logistic()), pixels(21), seed=5).each != among.each).all()


def test_what_is_not_finite_is_counted():
    images = pixels(5)
    images[3] = 250
    found = bits_per_dimension(model(Logistic(broken=[0.9])), images)
    assert (found.images, found.not_finite) == (5, 1)
    assert np.isfinite(found.value)
    with pytest.raises(UserError, match="no image of 5 has a finite likelihood"):
        bits_per_dimension(model(Logistic(broken=[-2.0])), images)


def test_a_real_flow_tells_near_eight_bits_of_noise():
    """Uniform pixels need 8 bits, and an upper bound cannot be lower on average."""
    torch.manual_seed(0)
    recipe = load_recipe("glow-32", ["model.size=8", "model.levels=1", "model.steps=1", "model.hidden=4"])
    flow = MODELS["glow"].build(recipe.model)
    noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    flow.log_prob(torch.from_numpy(noise).permute(0, 3, 1, 2).float() / 127.5 - 1)  # fits mean and scale
    found = bits_per_dimension(Model(flow.eval(), recipe, {"images": 0}, None, "0" * 64), noise, bits=8)
    assert 7.99 < found.value < 8.4


def test_refusals():
    dcgan = load_recipe("dcgan", ["model.channels=[8]"])
    with pytest.raises(UserError, match="dcgan has no likelihood"):
        bits_per_dimension(Model(nn.Identity(), dcgan, {}, None, ""), pixels(1))
    with pytest.raises(UserError, match="shape"):
        bits_per_dimension(model(Logistic()), pixels(1)[:, :2])
