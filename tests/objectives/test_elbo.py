"""The bound against its definition and against a model whose evidence is known."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from omokage.errors import UserError
from omokage.models.dcgan import Generator
from omokage.models.vae import VariationalAutoencoder
from omokage.objectives.elbo import RECONSTRUCTIONS, elbo, gaussian_kl
from omokage.objectives.phase import Step


def test_the_divergence_is_that_of_two_normals():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 7)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)
    assert (gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)) == 0).all()


def test_reconstruction_errors_by_hand():
    logits, target = torch.tensor([[[[0.0, math.log(3.0)]]]]), torch.tensor([[[[0.5, 1.0]]]])
    assert RECONSTRUCTIONS["bce"](logits, target).item() == pytest.approx(math.log(2) - math.log(0.75))
    assert RECONSTRUCTIONS["mse"](logits, target).item() == pytest.approx(0.25**2)


class Fixed(nn.Module):
    """Everything is encoded as N(mean, 1) and decoded to the same logits."""

    def __init__(self, mean, logit):
        super().__init__()
        self.mean, self.logit = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(logit))

    def posterior(self, images):
        mean = self.mean.expand(len(images), 2)
        return mean, torch.zeros_like(mean)

    def logits(self, z):
        return self.logit.expand(len(z), 3, 2, 2)


def step(real, latent=2):
    return Step(real, torch.randn(len(real), latent), lambda images: images)


def test_the_bound_is_reconstruction_and_weighted_divergence():
    model = Fixed(1.5, 0.0)
    (phase,) = elbo(nn.ModuleDict({"generator": model}), kl_weight=3.0)
    loss, told = phase.loss(step(torch.zeros(4, 3, 2, 2)))  # grey: log 2 a value
    assert told["elbo/reconstruction"].item() == pytest.approx(12 * math.log(2))
    assert told["elbo/divergence"].item() == pytest.approx(1.5**2)
    assert loss.item() == pytest.approx(12 * math.log(2) + 3 * 1.5**2)
    loss.backward()
    assert model.mean.grad.item() == pytest.approx(3 * 2 * 1.5)  # of 3 (m²/2 + m²/2)


def test_images_are_seen_in_zero_to_one():
    white = torch.ones(1, 3, 2, 2)
    model = Fixed(0.0, 1.0)
    loss = elbo(nn.ModuleDict({"generator": model}))[0].loss(step(white))[0]
    assert loss.item() == pytest.approx(-12 * math.log(1 / (1 + math.exp(-1))))


def test_a_batch_of_one_image_is_learnt():
    torch.manual_seed(0)
    model = VariationalAutoencoder(latent=4, channels=(8, 8, 8, 8))
    (phase,) = elbo(nn.ModuleDict({"generator": model}))
    real = torch.zeros(4, 3, 64, 64)
    real[:, 0, :32], real[:, 1, 32:] = 0.9, -0.9
    optimiser = torch.optim.Adam(phase.parameters, lr=1e-2)
    losses = []
    for _ in range(60):
        loss = phase.loss(step(real, 4))[0]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert (model.decode(model.encode(real)) - real).abs().mean() < 0.25


def test_other_models_are_refused():
    with pytest.raises(UserError, match="posterior"):
        elbo(nn.ModuleDict({"generator": Generator(channels=(8,))}))
