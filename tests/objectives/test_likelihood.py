import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from omokage.models.realnvp import RealNVP
from omokage.objectives.likelihood import bin_width, bits_per_dimension, dequantise, likelihood
from omokage.objectives.phase import Step


def as_images(pixels):
    return pixels.double() / 127.5 - 1


@pytest.mark.parametrize("bits", [8, 5, 1])
def test_dequantised_pixels_stay_in_their_bins(bits):
    pixels = torch.arange(256)
    for noise in (0.0, 0.5, 1 - 1e-9):
        values = dequantise(as_images(pixels), torch.tensor(noise, dtype=torch.float64), bits)
        cube = (values * 127.5 + 128) / 256
        bins = cube * 2**bits + 1e-10
        assert (bins.floor() == pixels // 2 ** (8 - bits)).all()
        torch.testing.assert_close(bins % 1, torch.full_like(bins, noise), atol=1e-8, rtol=0)


@pytest.mark.parametrize("bits", [8, 5])
def test_bits_of_a_known_density_are_its_cross_entropy(bits):
    """A logistic density of mean and scale known: its bins' integrals say what the bits must be."""
    mean, scale = 0.1, 0.3
    density = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(torch.tensor(0.0, dtype=torch.float64), 1.0),
        [
            torch.distributions.transforms.SigmoidTransform().inv,
            torch.distributions.transforms.AffineTransform(mean, scale),
        ],
    )
    pixels = torch.tensor([0, 3, 100, 200, 255])
    # E over the uniform noise, by a fine midpoint rule, of the bound the objective minimises.
    noise = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    values = dequantise(as_images(pixels)[None], noise[:, None], bits)
    told = bits_per_dimension(density.log_prob(values).sum(1), len(pixels), bits).mean().item()

    def log2_density(cube):
        x = ((cube * 256 - 128) / 127.5 - mean) / scale
        return (-x - 2 * math.log1p(math.exp(-x)) - math.log(scale) + math.log(256 / 127.5)) / math.log(2)

    expected = 0.0
    for pixel in pixels.tolist():
        low = (pixel // 2 ** (8 - bits)) / 2**bits
        integral = quad(log2_density, low, low + 2.0**-bits, epsabs=1e-13)[0] * 2**bits
        expected += (bits - integral) / len(pixels)
    assert abs(told - expected) < 1e-6
    # Never below the bits of the bins' own probabilities.
    edges = [(pixel // 2 ** (8 - bits)) / 2**bits for pixel in pixels.tolist()]
    exact = 0.0
    for low in edges:
        below, above = (
            1 / (1 + math.exp(-(((edge * 256 - 128) / 127.5) - mean) / scale))
            for edge in (low, low + 2.0**-bits)
        )
        exact -= math.log2(above - below) / len(edges)
    assert exact <= told + 1e-9


def test_a_flow_that_is_the_logistic_density_tells_its_bits():
    """RealNVP at its start, with known batch-norm statistics, is a normal density after the logit."""
    flow = RealNVP(size=2, scales=1, hidden=4, blocks=1, image_channels=1).double().eval()
    means, variances = [0.3, -0.2, 0.1, 0.0], [1.5, 0.8, 1.2, 0.9]
    for norm, mean, variance in zip(flow.scales[0][1::2], means, variances, strict=True):
        norm.mean.fill_(mean)
        norm.variance.fill_(variance - 1e-5)
    pixels = torch.tensor([[[[7, 130], [255, 0]]]])
    noise = torch.tensor([[[[0.1, 0.9], [0.5, 0.3]]]], dtype=torch.float64)
    told = bits_per_dimension(flow.log_prob(dequantise(as_images(pixels), noise)), 4).item()
    expected = 0.0
    for pixel, u in zip(pixels.flatten().tolist(), noise.flatten().tolist(), strict=True):
        cube = (pixel + u) / 256
        share = 0.05 + 0.9 * cube
        z, log_scale = math.log(share / (1 - share)), math.log(0.9 / share / (1 - share))
        for mean, variance in zip(means, variances, strict=True):
            z, log_scale = (z - mean) / math.sqrt(variance), log_scale - 0.5 * math.log(variance)
        log_density = -0.5 * (z * z + math.log(2 * math.pi)) + log_scale
        expected += (8 - log_density / math.log(2)) / 4
    assert abs(told - expected) < 1e-6


class Known(nn.Module):
    """A uniform density on the bins, or a normal one."""

    def __init__(self, noise=0.0):
        super().__init__()
        self.noise = noise
        self.seen = None
        self.scale = nn.Parameter(torch.tensor(3.0))

    def log_prob(self, images):
        self.seen = images
        return torch.full((len(images),), -images[0].numel() * math.log(256 / 127.5)) + 0 * self.scale

    def weight_scales(self):
        return [self.scale]


def test_the_phase_adds_the_noise_that_the_flow_wants_and_the_penalty():
    real = as_images(torch.randint(0, 256, (4, 3, 8, 8))).float()
    step = Step(real, torch.zeros(4, 1), lambda images: images)
    (phase,) = likelihood(nn.ModuleDict({"generator": Known()}), scale_penalty=0.5)
    total, told = phase.loss(step)
    assert told["loss/bits per dimension"].item() == pytest.approx(8.0, abs=1e-5)
    assert total.item() == pytest.approx(8.0 + 0.5 * 9, abs=1e-5)

    flow = Known()
    (phase,) = likelihood(nn.ModuleDict({"generator": flow}), bits=8)
    phase.loss(step)
    moved = (flow.seen - real) / bin_width(8)
    assert -0.5001 <= moved.min() < -0.45
    assert 0.45 < moved.max() <= 0.5001

    flow = Known(noise=0.2)
    (phase,) = likelihood(nn.ModuleDict({"generator": flow}))
    phase.loss(step)
    assert (flow.seen - real).std().item() == pytest.approx(0.2, rel=0.1)
