"""The spatial autoencoder: maps, latents, and the normal distribution that fits them."""

import pytest
import torch

from omokage.errors import UserError
from omokage.models.autoencoder import Autoencoder
from omokage.models.latent_transformer import LatentTransformer


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Autoencoder(size=16, latent=4, channels=(8, 8, 8)).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def images(number, seed=0):
    return torch.rand(number, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_recipes_sizes():
    network = Autoencoder()
    assert network.map_shape == (16, 8, 8)
    assert network.latent_shape == (1024,)
    assert 10e6 < sum(p.numel() for p in LatentTransformer().denoiser.parameters()) < 12e6


def test_a_latent_is_the_map_moved_and_turned(network):
    factor = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)).tril()
    factor.diagonal().abs_().add_(1.0)
    network.location.move(torch.linspace(-1, 1, 64), factor)
    maps = network.posterior(images(5))[0]
    z = network.encode(images(5))
    by_hand = torch.linalg.inv(factor.double()) @ (maps.flatten(1) - torch.linspace(-1, 1, 64)).T.double()
    torch.testing.assert_close(z, by_hand.T.float(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(network.decode(z), network.drawn(maps).clamp(-1, 1), atol=1e-3, rtol=0)
    average = network.drawn(torch.linspace(-1, 1, 64).view(1, 4, 4, 4)).clamp(-1, 1)
    torch.testing.assert_close(network.decode(z, psi=0.0), average.expand(5, -1, -1, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", [Autoencoder, LatentTransformer])
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": 20, "channels": (8, 8, 8, 8)}, "model.size: got 20, must be a multiple of 8"),
        ({"channels": (8,)}, r"model.channels: got \[8\], must be two numbers or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(network, settings, told):
    with pytest.raises(UserError, match=told):
        network(**settings)


def test_the_transformer_sees_maps_of_mean_0_and_variance_1_and_the_autoencoder_is_not_trained():
    torch.manual_seed(0)
    sizes = {"size": 16, "latent": 4, "channels": (8, 8, 8), "width": 8, "depth": 1, "heads": 2, "steps": 2}
    network = LatentTransformer(**sizes)
    network.standardise(torch.arange(4.0), torch.tensor([1.0, 2.0, 4.0, 0.5]))
    maps = network.autoencoder.posterior(images(2))[0]
    standard = network.standardised(images(2))
    torch.testing.assert_close(standard[:, 2], (maps[:, 2] - 2) / 4)
    torch.testing.assert_close(standard[:, 3], (maps[:, 3] - 3) / 0.5)
    # It has learnt nothing, so from any noise it draws the mean map.
    mean = network.autoencoder.drawn(torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 4, 4)).clamp(-1, 1)
    torch.testing.assert_close(network.decode(torch.randn(1, 64)), mean, atol=1e-4, rtol=0)
    assert {n.split(".")[0] for n, p in network.named_parameters() if p.requires_grad} == {"denoiser"}
