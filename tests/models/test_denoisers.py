"""Denoisers and their samplers against what can be calculated by hand."""

from itertools import pairwise
from math import log2, pi

import pytest
import torch
from torch import Tensor

from omokage.errors import UserError
from omokage.models.denoiser import Denoiser
from omokage.models.pixel_transformer import PixelTransformer
from omokage.models.samplers import SAMPLERS, ancestral, euler, noise_of, spaced, straight
from omokage.models.unet import UNet, preconditioning


class Normal(Denoiser):
    """The perfect denoiser of images of 2x2 grey px that are normal, with a mean and a covariance."""

    def __init__(self, mean: Tensor, covariance: Tensor, lowest: float = 0.002, highest: float = 80) -> None:
        super().__init__(2, 1, 40, 200, deviation=0.5, lowest=lowest, highest=highest)
        self.mean = mean
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def denoised(self, noisy: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        shares = self.variances / (self.variances + level[:, None] ** 2)
        off = (noisy.flatten(1) - self.mean) @ self.axes * shares
        return (self.mean + off @ self.axes.T).view_as(noisy)


MEAN = torch.tensor([0.1, -0.2, 0.0, 0.3], dtype=torch.float64)
VARIANCES = torch.tensor([0.09, 0.04, 0.16, 0.25], dtype=torch.float64)
FACTOR = torch.tensor(
    [[0.3, 0, 0, 0], [0.2, 0.2, 0, 0], [-0.1, 0.1, 0.3, 0], [0.0, 0.2, -0.2, 0.2]], dtype=torch.float64
)
COVARIANCE = FACTOR @ FACTOR.T


def independent(**more: float) -> Normal:
    return Normal(MEAN, VARIANCES.diag(), **more)


def test_preconditioning_at_both_ends_of_noise():
    """Almost no noise: the input is the answer. All noise: the network alone answers, at the data's scale."""
    skip, out, into, _ = preconditioning(torch.tensor([1e-6, 1e6], dtype=torch.float64), 0.5)
    assert skip.tolist() == pytest.approx([1.0, 0.0], abs=1e-10)
    assert out.tolist() == pytest.approx([0.0, 0.5], abs=2e-6)
    assert into.tolist() == pytest.approx([2.0, 0.0], abs=2e-6)
    # What the network sees and what it must predict have variance 1 at every level.
    level = torch.tensor([0.01, 0.5, 7.0], dtype=torch.float64)
    skip, out, into, number = preconditioning(level, 0.5)
    assert (into**2 * (0.25 + level**2)).tolist() == pytest.approx([1.0] * 3)
    assert (((1 - skip) ** 2 * 0.25 + skip**2 * level**2) / out**2).tolist() == pytest.approx([1.0] * 3)
    assert number.exp().pow(4).tolist() == pytest.approx(level.tolist())


def error_of(sampler: str, steps: int) -> float:
    """At the end of the equation for a normal set, whose solution is a straight stretch of the start."""
    high, low = 20.0, 0.1
    x = torch.tensor([[3.0, -20.0, 5.0, 11.0]], dtype=torch.float64)
    stretch = ((VARIANCES + low**2) / (VARIANCES + high**2)).sqrt()
    solution = MEAN + (x - MEAN) * stretch
    normal = independent()

    def denoise(x: Tensor, level: float) -> Tensor:
        return normal.denoised(x, x.new_full((1,), level))

    found = SAMPLERS[sampler](denoise, x, spaced(high, low, steps + 1), lambda i: torch.zeros_like(x))
    return (found - solution).abs().max().item()


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2), ("dpm-solver-2", 2)])
def test_half_the_step_divides_the_error_by_two_to_the_order(sampler, order):
    errors = [error_of(sampler, steps) for steps in (100, 200, 400)]
    assert [log2(errors[i] / errors[i + 1]) for i in (0, 1)] == pytest.approx([order] * 2, abs=0.1)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_samples_have_the_moments_of_a_normal_set(sampler):
    normal = Normal(MEAN, COVARIANCE)
    z = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T  # moments 0 and 1 exactly
    fresh = torch.Generator().manual_seed(1)

    def noise(step: int) -> Tensor:
        return torch.randn(2000, 1, 2, 2, generator=fresh, dtype=torch.float64)

    denoise = normal._denoise(None, 0.0)
    found = SAMPLERS[sampler](denoise, normal._start(z), normal.levels(100), noise).flatten(1)
    near = 0.02 if sampler == "ancestral" else 0.01  # its own noise has no exact moments
    torch.testing.assert_close(found.mean(0), MEAN, atol=near, rtol=0)
    torch.testing.assert_close(found.T.cov(), COVARIANCE, atol=near, rtol=0)


def test_a_likelihood_is_that_of_the_normal_set_and_the_way_there_leads_back():
    normal = independent(lowest=0.02, highest=2000)  # the start is nearly standard normal
    normal.encoding_steps = 1600
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    variances = VARIANCES + normal.lowest**2
    known = -0.5 * ((images.flatten(1) - MEAN).square() / variances + (2 * pi * variances).log()).sum(1)
    torch.testing.assert_close(normal.log_prob(images), known, atol=1e-3, rtol=0)
    errors = []
    for steps in (150, 300):
        normal.encoding_steps = steps
        z = normal.encode(images)
        errors.append((normal.inverse(z) - images).abs().max().item())
    torch.testing.assert_close(z, normal.transform(images)[0])
    assert errors[0] / errors[1] > 3
    assert errors[1] < 0.01


def test_hutchinsons_estimate_has_the_right_mean_and_the_stated_variance():
    """With correlated pixels, the derivative has entries beside its diagonal."""
    normal = Normal(MEAN, COVARIANCE, lowest=0.1)
    normal.encoding_steps = 60
    images = torch.randn(2000, 1, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = normal.transform(images)[1] + 4 * torch.tensor(normal.scale).log()
    # Along the equation, the derivative of the start is the exponential of the integral of the slopes'.
    ends = [(normal.variances + level**2).log() / 2 for level in (normal.lowest, normal.highest)]
    integral = normal.axes @ (ends[1] - ends[0]).diag() @ normal.axes.T
    assert len({round(one, 6) for one in found.tolist()}) == 8  # of 16 vectors, opposite ones count alike
    beside = integral - integral.diag().diag()
    variance = 2 * beside.square().sum().item()
    assert variance > 0.5
    assert found.var().item() == pytest.approx(variance, rel=0.1)
    assert found.mean().item() == pytest.approx(integral.trace().item(), abs=4 * (variance / 2000) ** 0.5)


def test_straight_paths_between_two_points():
    """Where every image is one point, Euler stays on the line from the noise to it, however few its steps."""
    image, noise = torch.tensor([[0.8, -0.3]]), torch.tensor([[-1.5, 2.0]])
    levels = [*straight(80.0, 0.02, 4), 0.0]
    x = image + levels[0] * noise
    for i in range(1, len(levels)):
        reached = euler(lambda x, level: image, x, levels[: i + 1], lambda i: noise)
        t = 1 / (1 + levels[i])
        torch.testing.assert_close(t * reached, t * image + (1 - t) * noise, atol=1e-4, rtol=0)
    times = [1 / (1 + level) for level in levels[:-1]]
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps == pytest.approx([gaps[0]] * 3)


def test_fresh_noise_keeps_the_level_that_it_should():
    """Around a single image, a step from one level to the next leaves noise of the next."""
    image = torch.zeros(1, 20_000)
    noise = torch.randn(2, 1, 20_000, generator=torch.Generator().manual_seed(0))
    found = ancestral(lambda x, level: image, 3.0 * noise[0], [3.0, 2.0], lambda i: noise[1])
    assert found.std().item() == pytest.approx(2.0, rel=0.02)
    assert (found / found.std()).mul(noise[0]).mean().item() == pytest.approx(2 / 3, abs=0.03)


def test_fresh_noise_follows_from_the_latent_alone():
    z = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    drawn = noise_of(z, (3, 2, 2))
    assert torch.equal(drawn(1)[1:2], noise_of(z[1:2], (3, 2, 2))(1))
    assert torch.equal(drawn(1), noise_of(0.3 * z, (3, 2, 2))(1))  # whatever psi
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(1)[0], drawn(1)[1])


NETWORKS = {
    "pixel-transformer": lambda **more: PixelTransformer(8, 4, 8, depth=1, heads=2, steps=3, **more),
    "unet": lambda **more: UNet(8, (8, 8), attention_at=4, heads=2, steps=3, **more),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_guidance_and_labels_by_hand(name):
    torch.manual_seed(0)
    network = NETWORKS[name](joined=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x, level, labels = torch.randn(2, 3, 8, 8), torch.tensor([0.7, 0.7]), torch.eye(3)[:2]
    given, free = network.denoised(x, level, labels), network.denoised(x, level)
    assert (given - free).abs().max() > 1e-3
    torch.testing.assert_close(network.denoised(x, level, torch.zeros(2, 3)), free)
    torch.testing.assert_close(network._denoise(labels, 1.5)(x, 0.7), 2.5 * given - 1.5 * free)
    assert torch.equal(network._denoise(None, 1.5)(x, 0.7), free)
    few, many = network.decode(torch.randn(1, 192), steps=2), network.decode(torch.randn(1, 192), steps=9)
    assert few.shape == many.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: PixelTransformer(size=9), "model.size: got 9, must be a multiple of model.patch, 4"),
        (lambda: PixelTransformer(width=10, heads=4), "model.width: got 10"),
        (lambda: UNet(size=10), "model.size: got 10, must be a multiple of 4 for 3 entries of channels"),
        (lambda: UNet(channels=(8, 6), attention_at=32, heads=4), "model.channels"),
        (lambda: UNet(lowest=90.0), "model.lowest: got 90.0, must be below model.highest, 80.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(build, told):
    with pytest.raises(UserError, match=told):
        build()
