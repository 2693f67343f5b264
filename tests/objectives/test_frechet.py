"""Carrying the moments of generated features to those of real ones."""

import pytest
import scipy.linalg
import torch
from torch import nn

from omokage.objectives.frechet import FIRST, Frechet, symmetric_power, transport


def covariance(seed, size=6):
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix @ matrix.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def test_the_way_ends_at_the_covariance_asked_for():
    start, end = covariance(0), covariance(1)
    way = transport(start, end)
    torch.testing.assert_close(way @ start @ way.T, end)
    torch.testing.assert_close(way, way.T)
    torch.testing.assert_close(transport(end, end), torch.eye(6, dtype=torch.float64))


def test_powers_agree_with_scipy():
    matrix = covariance(2)
    expected = torch.from_numpy(scipy.linalg.sqrtm(matrix.numpy()).real)
    torch.testing.assert_close(symmetric_power(matrix, 0.5), expected)


def filled(real, fake, batch=64):
    frechet = Frechet([real.shape[1]])
    for i in range(0, len(real), batch):
        frechet.observe(real[i : i + batch], fake[i : i + batch])
    return frechet


@pytest.fixture
def real():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6400, 5, generator=generator) @ torch.randn(5, 5, generator=generator) + 2


def test_equal_moments_ask_for_nothing(real):
    frechet = filled(real, real)
    assert frechet.loss(real).item() < 1e-6
    assert abs(frechet.distance().item()) < 1e-4


def test_the_distance_is_that_of_the_metric(real):
    from omokage.metrics.fid import fid

    fake = 0.5 * real.flip(1) - 1
    frechet = filled(real, fake, batch=6400)
    expected = fid(
        fake.double().mean(0).numpy(),
        fake.double().T.cov(correction=0).numpy(),
        real.double().mean(0).numpy(),
        real.double().T.cov(correction=0).numpy(),
    )
    variance = real.double().var(0, correction=0).sum().item()
    assert frechet.distance().item() == pytest.approx(expected / variance, rel=0.01)


def test_nothing_is_asked_before_enough_is_seen():
    frechet = Frechet([4])
    images = torch.randn(8, 4)
    for _ in range(FIRST * 4 // 8):
        assert frechet.loss(images + 5).item() == 0
        frechet.observe(images, images + 5)
    assert frechet.loss(images + 5).item() > 0


def test_following_the_gradient_carries_a_generator_to_the_moments(real):
    torch.manual_seed(0)
    generator, frechet = nn.Linear(5, 5), Frechet([5])
    optimiser = torch.optim.Adam(generator.parameters(), lr=0.05)
    for step in range(400):
        generated = generator(torch.randn(256, 5))
        batch = real[torch.randint(len(real), (256,))]
        frechet.observe(batch, generated)
        loss = frechet.loss(generated)
        if step > 10:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            # A generator moves faster here than in training, so its moments are remembered for less long.
            frechet.moments[1].copy_(moments(generator(torch.randn(4000, 5))))
    fake = generator(torch.randn(6400, 5)).detach()
    torch.testing.assert_close(fake.mean(0), real.mean(0), atol=0.15, rtol=0.1)
    torch.testing.assert_close(fake.T.cov(), real.T.cov(), atol=0.25, rtol=0.15)


def moments(x):
    x = x.detach()
    return torch.cat([x.mean(0)[None], x.T @ x / len(x)])


def test_maps_are_averaged_and_those_beyond_are_left_out():
    maps = [torch.randn(3, 4, 2, 2), torch.randn(3, 6, 1, 1), torch.randn(3, 3, 8, 8)]
    pooled = Frechet([4, 6]).pooled(maps)
    torch.testing.assert_close(pooled[:, :4], maps[0].mean((2, 3)))
    assert pooled.shape == (3, 10)


def test_moments_are_exact_where_training_rounds_to_bfloat16():
    """Features far from 0 that vary little: rounded products would make variances negative."""
    torch.manual_seed(0)
    real = torch.randn(6400, 5) * torch.tensor([1.0, 0.3, 0.1, 0.1, 0.1]) + 5
    with torch.autocast("cpu", torch.bfloat16):
        frechet = filled(real, real + 0.1)
        assert frechet.loss(real + 0.1).item() == pytest.approx(5 * 0.01 / real.var(0).sum().item(), rel=0.01)
    for spread in frechet.covariances():
        assert torch.linalg.eigvalsh(spread).min() > 0.005
