"""The loss of a spatial autoencoder against sums by hand, and that it learns."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from omokage.errors import UserError
from omokage.families import build_discriminator, build_model
from omokage.objectives.autoencoder import autoencoder
from omokage.objectives.phase import Step


def networks(model="autoencoder", discriminator="projected"):
    torch.manual_seed(0)
    sizes = {"size": 32, "latent": 4, "channels": [8, 8, 8]} if model == "autoencoder" else {}
    seen = {"resolution": 32, "seen_at": 32, "width": 8} if discriminator == "projected" else {}
    return nn.ModuleDict(
        {
            "generator": build_model({"name": model, **sizes}),
            "discriminator": build_discriminator({"name": discriminator, **seen}),
        }
    )


def step(number=6, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    coarse = torch.rand(number, 3, 4, 4, generator=drawn) * 2 - 1
    real = nn.functional.interpolate(coarse, scale_factor=8.0)
    return Step(real, torch.randn(number, 256, generator=drawn), lambda images: images)


def test_each_part_by_hand():
    both = networks()
    model, here = both["generator"], step()
    found = {}
    for weights in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        names = ("pixel_weight", "feature_weight", "kl_weight")
        phases = autoencoder(both, **dict(zip(names, map(float, weights), strict=True)))
        torch.manual_seed(0)
        found[weights] = phases[1].loss(step())
    plain = found[0, 0, 0][0]
    mean, log_variance = model.posterior(here.real)
    maps = mean + (log_variance / 2).exp() * here.latents.view(mean.shape)
    pixels = (model.drawn(maps) - here.real).abs().mean()
    nats = kl_divergence(Normal(mean, log_variance.exp().sqrt()), Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(found[1, 0, 0][0] - plain, pixels, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[0, 0, 1][0] - plain, nats, atol=1e-2, rtol=1e-4)
    seen = (both["discriminator"].features(images) for images in (here.real, model.drawn(maps)))
    pairs = zip(*seen, strict=True)
    errors = [(x - y).square().mean() / x.var(0).mean() for x, y in pairs]
    features = sum(errors) / len(errors)
    torch.testing.assert_close(found[0, 1, 0][0] - plain, features, atol=1e-3, rtol=1e-3)


def test_it_learns_a_few_pictures_and_tells_of_held_out_ones():
    both = networks()
    phases = autoencoder(both, pixel_weight=100.0, kl_weight=1e-5)
    optimisers = [torch.optim.Adam(phase.parameters, 1e-2, betas=(0.5, 0.99)) for phase in phases]
    told = []
    for _ in range(160):
        here = step()
        for phase, optimiser in zip(phases, optimisers, strict=True):
            loss, numbers = phase.loss(here)
            optimiser.zero_grad()
            loss.backward(inputs=phase.parameters)
            optimiser.step()
        told.append(numbers["reconstruction/pixels"].item())
    assert told[-1] < 0.7 * told[0]
    judged = phases[1].judge(step(seed=1))
    assert set(judged) == {"held-out/pixels", "held-out/features"}
    assert judged["held-out/pixels"] > told[-1]


def test_the_normal_distribution_of_maps_is_fitted_to_them(monkeypatch):
    monkeypatch.setattr("omokage.objectives.autoencoder.EVERY", 1)
    both = networks()
    model = both["generator"]
    phases = autoencoder(both)
    real = torch.cat([step(64, seed).real for seed in range(12)])
    with torch.no_grad():
        for part in real.split(64):
            phases[1].loss(Step(part, torch.randn(64, 256), lambda images: images))
        maps = model.posterior(real)[0].flatten(1)
    centre, axes = model.location.centre, model.location.axes
    torch.testing.assert_close(centre, maps.mean(0), atol=1e-4, rtol=1e-4)
    ridge = 1e-3 * torch.eye(256)
    torch.testing.assert_close(axes @ axes.T, maps.T.cov(correction=0) + ridge, atol=1e-4, rtol=1e-3)


def test_other_networks_are_refused():
    with pytest.raises(UserError, match="autoencoder trains a spatial autoencoder"):
        autoencoder(networks(model="vae"))
    with pytest.raises(UserError, match="compares frozen features; projected has them"):
        autoencoder(networks(discriminator="dcgan"))
