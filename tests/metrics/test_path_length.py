import math

import numpy as np
import pytest
import torch
from standins import small_model

from omokage.abilities import HasStyles
from omokage.explore.walks import slerp
from omokage.families import MODELS
from omokage.metrics.path_length import PathLength, linear, path_length, path_lengths, protocol, record
from omokage.metrics.perceptual import Perceptual, PerceptualExtractor
from omokage.sampling import latents


class Plain(Perceptual):
    """Pixels as features: the distance is the squared distance of images, summed over values."""

    def __init__(self) -> None:
        super().__init__(network=lambda images: [], side=None)

    def maps(self, images):
        return [images.flatten(1)[..., None, None].double()]


def flat(z):
    return z.double().view(len(z), -1, 1, 1)


def test_of_a_linear_decoder_it_is_the_squared_length_of_the_way():
    a, b = latents(range(20), (6,)), latents(range(100, 120), (6,))
    found = path_length(flat, a, b, linear, Plain())
    np.testing.assert_allclose(found.each, (b - a).square().sum(1).numpy(), rtol=0.02)


def test_on_the_sphere_it_is_the_squared_angle():
    a, b = latents(range(20), (6,)), latents(range(100, 120), (6,))
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    found = path_length(flat, a, b, slerp, Plain())
    np.testing.assert_allclose(found.each, torch.acos((a * b).sum(1)).square().numpy(), rtol=0.02)


def test_a_decoder_that_jumps_has_a_longer_way_than_one_that_does_not():
    a, b = torch.full((200, 1), -1.0), torch.full((200, 1), 1.0)
    smooth = path_length(flat, a, b, linear, Plain())
    jumping = path_length(lambda z: torch.tanh(20 * flat(z)), a, b, linear, Plain())
    assert smooth.mean == pytest.approx(4, rel=0.02)
    # The mean of (40 / cosh² 20 x)² for x in [-1, 1] is 53, less what the trimmed ends take.
    assert 5 * smooth.mean < jumping.mean < 60


def test_the_mean_leaves_out_the_ends_and_what_is_not_finite():
    found = PathLength(np.array([math.nan, math.inf, 1e9, -1e9, *([5.0] * 98)]))
    assert len(found.kept) == 98
    assert found.mean == 5
    assert found.standard_error == 0
    assert math.isnan(PathLength(np.array([math.nan])).mean)
    assert record({"z": PathLength(np.array([math.nan]))}) == {"protocol": protocol(1), "z_not_finite": 1}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_has_one_in_z_and_those_with_styles_in_w(name):
    model = small_model(name)
    found = path_lengths(model, Plain(), pairs=3)
    assert set(found) == ({"z", "w"} if model.can(HasStyles) else {"z"})
    for one in found.values():
        assert one.each.shape == (3,)
        assert (one.each > 0).all()
    again = path_lengths(model, Plain(), pairs=3)["z"]
    assert (again.each == found["z"].each).all()


def test_perceptual_distances():
    perceptual = Perceptual()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert perceptual(images, images).abs().max() == 0
    near, far = images + 0.05 * torch.randn_like(images), images.flip(0)
    assert perceptual(images, near)[0] < perceptual(images, far)[0] <= 8
    torch.testing.assert_close(perceptual(images, far), perceptual(far, images))
    grey = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    perceptual(grey, images[:1]).backward()
    assert grey.grad.isfinite().all()
    assert grey.grad.abs().sum() > 0
    one = torch.zeros(1, 1, 64, 64)
    assert perceptual(one, one.expand(-1, 3, -1, -1)).item() == 0


def test_perceptual_feature_vectors():
    extractor = PerceptualExtractor()
    faces = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), np.uint8)
    found = extractor(faces)
    assert found.shape == (3, extractor.dimensions) == (3, 1984)
    assert found.dtype == np.float32
    np.testing.assert_allclose(extractor(faces[1:2]), found[1:2], atol=1e-4)
    assert extractor(faces[:0]).shape == (0, 1984)
