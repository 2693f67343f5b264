import numpy as np
import pytest
import torch

from omokage.metrics.fid import fid, statistics
from omokage.objectives.frechet import FrechetMatching


def streams(n=20_000, dimensions=5):
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(2, dimensions, dimensions, generator=generator)
    real = torch.randn(n, dimensions, generator=generator) @ mix[0]
    generated = torch.randn(n, dimensions, generator=generator) @ mix[1] + torch.arange(dimensions) / 3
    return real, generated


def observed(real, generated):
    moments = FrechetMatching(real.shape[1], half_life=1e6, half_life_real=1e6, every=1, first=0, ridge=1e-6)
    moments.observe(real, generated)
    return moments


def test_the_distance_is_the_metrics_own_on_standardised_features():
    real, generated = streams()
    scale = 1 / real.std(0)
    expected = fid(*statistics((generated * scale).numpy()), *statistics((real * scale).numpy()))
    assert observed(real, generated).distance.item() * 5 == pytest.approx(expected, rel=0.02)


def test_the_map_carries_one_cloud_onto_the_other():
    real, generated = streams()
    moments = observed(real, generated)
    x = generated.clone().requires_grad_()
    moments.loss(x).backward()
    # The gradient is half of the way there, over all features: going it whole arrives.
    arrived = generated - x.grad * x.numel() / 2 / moments.scale.square()
    torch.testing.assert_close(arrived.mean(0), real.mean(0), atol=0.02, rtol=0.02)
    torch.testing.assert_close(arrived.T.cov(), real.T.cov(), atol=0.1, rtol=0.03)


def test_the_gradient_is_that_of_the_distance():
    real, generated = (x[:400] for x in streams())
    direction = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    moments = observed(real, generated)
    x = generated.clone().requires_grad_()
    moments.loss(x).backward()
    step = 1e-2
    ahead, behind = (observed(real, generated + s * step * direction).distance for s in (1, -1))
    slope = ((ahead - behind) / (2 * step)).item()
    assert (x.grad * direction).sum().item() == pytest.approx(slope, rel=0.03)


def test_equal_streams_ask_for_nothing():
    real, _ = streams(2000)
    moments = observed(real, real)
    assert moments.distance.abs() < 1e-6
    assert moments.loss(real).item() < 1e-6


def test_before_the_first_map_there_is_no_loss():
    moments = FrechetMatching(5)
    moments.observe(*(x[:8] for x in streams()))
    assert moments.loss(torch.randn(8, 5)).item() == 0


def test_old_batches_fade_by_half_lives():
    moments = FrechetMatching(1, half_life=1.0, half_life_real=1.0, every=10**9)
    for value in (0.0, 1.0):
        moments.observe(torch.full((1000, 1), value), torch.full((1000, 1), value))
    # Weights 1/4 and 1/2, of which 2/3 are the later ones.
    assert (moments.mean / moments.weight).item() == pytest.approx(2 / 3)


def test_autocast_does_not_round_the_moments():
    real, generated = (x[:64] for x in streams())
    plain = observed(real, generated)
    with torch.autocast("cpu", torch.bfloat16):
        cast = observed(real, generated)
        assert cast.loss(generated).item() == plain.loss(generated).item()
    np.testing.assert_array_equal(plain.carry.numpy(), cast.carry.numpy())


def test_features_of_another_kind_begin_anew():
    real, generated = streams(100)
    moments = observed(real, generated)
    moments.observe(real + 1, generated, kind=1)
    torch.testing.assert_close(moments.real_mean / moments.real_weight, real.mean(0) + 1)
    assert int(moments.images) == 100
