import math

import pytest
import torch
from torch import nn

from omokage.models.illustration import Discriminator, Generator, MinibatchDiscrimination


def test_minibatch_discrimination_by_hand():
    """Salimans et al. 2016: sums of exp(-|difference|₁) over the other images, one number a kernel."""
    layer = MinibatchDiscrimination(2, kernels=1, width=2)
    with torch.no_grad():
        layer.projection.weight.copy_(torch.eye(2))
    features = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.0, 0.5]])
    found = layer(features)
    assert torch.equal(found[:, :2], features)
    a, b, c = math.exp(-2), math.exp(-0.5), math.exp(-2.5)  # first-second, first-third, second-third
    assert found[:, 2].tolist() == pytest.approx([a + b, a + c, b + c], abs=1e-6)


def test_it_tells_a_batch_of_one_image_from_one_of_many():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(8, kernels=4, width=3)
    many = torch.randn(6, 8) * 5
    assert (layer(many[:1].expand(6, -1))[:, 8:] == 5).all()
    assert (layer(many)[:, 8:] < 5).all()


def test_there_are_no_strides():
    networks = Generator(channels=(8, 8)), Discriminator(resolution=16, channels=(8, 8))
    convolutions = [m for network in networks for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 5
    assert all(m.stride == (1, 1) for m in convolutions)


def test_the_predictor_can_learn_the_latent():
    torch.manual_seed(0)
    generator = Generator(latent=4, channels=(8, 8), dense=(32,))
    optimiser = torch.optim.Adam(generator.parameters(), lr=1e-2)
    for _ in range(80):
        z = torch.randn(64, 4)
        loss = (generator.recovered(z) - z).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3  # 1 is knowing nothing
