"""Penalties of functions whose gradients are known in closed form."""

import pytest
import torch

from omokage.models.dcgan import Discriminator
from omokage.objectives.penalties import PENALTIES, dragan, gradient_norms, gulrajani

SHAPE = (4, 2, 3, 3)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)


def test_gradient_norms_of_a_plane_and_of_a_bowl(images):
    weights = torch.randn(SHAPE[1:], dtype=torch.float64)
    plane = gradient_norms(lambda x: (weights * x).sum((1, 2, 3)), images[0])
    torch.testing.assert_close(plane, weights.norm().float().expand(4))
    bowl = gradient_norms(lambda x: x.square().sum((1, 2, 3)) / 2, images[0])  # the gradient is x itself
    torch.testing.assert_close(bowl, images[0].flatten(1).norm(dim=1).float())


@pytest.mark.parametrize("name", PENALTIES)
def test_of_a_plane_it_is_the_squared_distance_of_its_slope_from_one(name, images):
    """penalty = (|w| - 1)², with gradient 2 (|w| - 1) w / |w|, wherever the images are."""
    weights = (3 * torch.randn(SHAPE[1:], dtype=torch.float64)).requires_grad_()
    penalty = PENALTIES[name](lambda x: (weights * x).sum((1, 2, 3)), *images)
    slope = weights.detach().norm()
    assert penalty.item() == pytest.approx((slope.item() - 1) ** 2, rel=1e-5)
    penalty.backward()
    expected = 2 * (slope - 1) * weights.detach() / slope
    torch.testing.assert_close(weights.grad, expected, rtol=1e-5, atol=1e-6)


def places(penalty, real, fake):
    """Where a penalty looks."""
    seen = []

    def value(x):
        seen.append(x.detach())
        return x.sum((1, 2, 3))

    penalty(value, real, fake)
    return seen[0]


def test_gulrajani_looks_on_the_lines_between_real_and_generated(images):
    real, fake = images
    share = (places(gulrajani, real, fake) - real) / (fake - real)
    one_an_image = share.flatten(1)[:, :1]
    torch.testing.assert_close(share.flatten(1), one_an_image.expand(-1, 18))
    assert ((one_an_image > 0) & (one_an_image < 1)).all()
    assert one_an_image.unique().numel() == 4


def test_dragan_looks_around_the_real_images_only(images):
    real, fake = images
    noise = (places(dragan, real, fake) - real) / real.std()
    assert ((noise >= 0) & (noise <= 0.5)).all()
    assert noise.unique().numel() == noise.numel()
    torch.manual_seed(1)
    here = places(dragan, real, fake)
    torch.manual_seed(1)
    assert torch.equal(places(dragan, real, fake * 7), here)


def test_of_a_bowl_between_equal_images(images):
    """With real = generated the line is a point: the penalty is the mean of (|x| - 1)²."""
    real = images[0]
    penalty = gulrajani(lambda x: x.square().sum((1, 2, 3)) / 2, real, real)
    expected = (real.flatten(1).norm(dim=1) - 1).square().mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)


def test_where_the_gradient_is_zero_the_penalty_is_one_and_nothing_breaks(images):
    weights = torch.zeros(SHAPE[1:], dtype=torch.float64, requires_grad=True)
    penalty = gulrajani(lambda x: (weights * x).sum((1, 2, 3)), *images)
    assert penalty.item() == 1
    penalty.backward()
    assert torch.isfinite(weights.grad).all()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_through_a_network_against_finite_differences(precision):
    """The norm along the gradient's own direction is the slope of the value there."""
    torch.manual_seed(0)
    network = Discriminator(channels=(8, 8), norm="layer")
    images = torch.randn(3, 3, 16, 16)
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        norms = gradient_norms(lambda x: network(x).float(), images)
    gulrajani(network, images, images).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    network, images = network.double(), images.double().requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    direction = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    step = 1e-6
    slopes = (network(images + step * direction) - network(images - step * direction)) / (2 * step)
    tolerance = 1e-4 if precision == torch.float32 else 0.05
    torch.testing.assert_close(norms.double(), slopes, rtol=tolerance, atol=0)
