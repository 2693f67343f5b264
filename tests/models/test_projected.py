import pytest
import torch

from omokage.errors import UserError
from omokage.models.projected import ProjectedDiscriminator


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return ProjectedDiscriminator(resolution=32, seen_at=[[0, 32]], width=8)


def test_every_scale_gives_patch_logits(discriminator):
    features = discriminator.features(torch.rand(4, 3, 32, 32) * 2 - 1)
    assert [feature.shape[2] for feature in features] == [8, 4, 2, 1, 16]
    logits = discriminator(features)
    assert [tuple(scale.shape) for scale in logits] == [(4, 16), (4, 16), (4, 4), (4, 1), (4, 16)]


def test_the_size_seen_follows_the_images():
    growing = ProjectedDiscriminator(resolution=32, seen_at=[[0, 32], [2, 64]], width=8)
    seen = []
    for images in (0, 1999, 2000, 9000):
        growing.at_images(images)
        features = growing.features(torch.zeros(2, 3, 32, 32))
        assert all(scale.shape[0] == 2 for scale in growing(features))
        seen.append(features[0].shape[2])
    assert seen == [8, 8, 16, 16]


@pytest.mark.parametrize("wrong", [48, [], [[1, 64]], [[0, 64], [0, 96]], [[0, 64, 1]], [[0, -32]]])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match="seen_at"):
        ProjectedDiscriminator(resolution=32, seen_at=wrong, width=8)


def test_without_pixels_there_is_one_scale_less():
    discriminator = ProjectedDiscriminator(resolution=32, seen_at=[[0, 32]], width=8, pixels=False)
    assert len(discriminator(discriminator.features(torch.zeros(2, 3, 32, 32)))) == 4


def test_gradients_reach_heads_and_images_and_leave_the_frozen_part_alone(discriminator):
    images = (torch.rand(4, 3, 32, 32) * 2 - 1).requires_grad_(True)
    loss = sum(scale.square().mean() for scale in discriminator(discriminator.features(images)))
    loss.backward()
    assert images.grad is not None
    assert images.grad.abs().flatten(1).max(1).values.min() > 0
    for name, parameter in discriminator.named_parameters():
        if name.startswith("projection"):
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_the_pixel_head_sees_a_colour_cast(discriminator):
    grey = torch.rand(4, 1, 32, 32).expand(-1, 3, -1, -1) * 2 - 1
    cast = grey.clone()
    cast[:, 0] = (cast[:, 0] + 0.5).clamp(-1, 1)
    a, b = (discriminator.features(images)[-1] for images in (grey, cast))
    assert (b[:, 0] - a[:, 0]).mean() > 0.2


def test_the_frozen_part_follows_autocast(discriminator):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        assert discriminator.features(images)[0].dtype == torch.bfloat16
    assert discriminator.features(images)[0].dtype == torch.float32
