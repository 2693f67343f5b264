import numpy as np
import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models import progan, stylegan
from omokage.models.progan import GROWN, stage_at

SMALL = {"latent": 8, "stable_kimg": 8.0, "fade_kimg": 4.0, "start": 0}
FAMILIES = {
    "progan": lambda **settings: progan.Generator(**SMALL | settings),
    "stylegan": lambda **settings: stylegan.Generator(style=8, depth=2, **SMALL | settings),
}


def off_start(network):
    """Parameters that start at 0 hide what stands behind them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def halves(build):
    """A network of three sizes, and one of its first two with the same weights."""
    torch.manual_seed(0)
    whole = off_start(build(resolution=[24, 16], base=[6, 4], channels=[16, 12, 8]))
    part = build(resolution=[12, 8], base=[6, 4], channels=[16, 12])
    shared = part.state_dict().keys()
    part.load_state_dict({name: value for name, value in whole.state_dict().items() if name in shared})
    return whole, part.eval()


def kron(images, factor=2):
    """Each pixel a square of pixels, by NumPy."""
    return torch.from_numpy(np.kron(images.detach().numpy(), np.ones((factor, factor), np.float32)))


def test_the_parameters_are_as_many_as_published():
    with torch.device("meta"):
        networks = [
            progan.Generator(resolution=[1024, 1024]),
            progan.Discriminator(resolution=[1024, 1024]),
            stylegan.Generator(resolution=[1024, 1024], start=0),
        ]
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    # ProGAN, table 2: 23.1M each; StyleGAN, section 2: 26.2M. To the last digit as their code prints it.
    assert counts == [23_079_115, 23_087_249, 26_219_627]


def test_stages_follow_the_images():
    """Against a walk in steps of ten images, as figure 2 tells it."""
    level, alpha, since = 0, 1.0, 0
    fading = False
    for images in range(0, 40_000, 10):
        if not fading and images - since >= 5_000 and level < 2:
            level, since, fading = level + 1, images, True
        if fading:
            alpha = (images - since) / 2_000
            if alpha >= 1:
                alpha, since, fading = 1.0, images, False
        found = stage_at(images, 0, 2, 5.0, 2.0)
        assert found[0] == level
        assert found[1] == pytest.approx(alpha)
    assert stage_at(GROWN, 0, 2, 5.0, 2.0) == (2, 1.0)
    assert stage_at(0, 0, 2, 0.0, 0.0) == (2, 1.0)
    assert [stage_at(images, 1, 2, 5.0, 0.0) for images in (0, 4_999, 5_000)] == [(1, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_size_that_fades_in_goes_from_the_old_network_to_the_new(family):
    whole, part = halves(FAMILIES[family])
    z = torch.randn(3, 8)
    with torch.no_grad():
        old, new = kron(part(z)), whole(z)
        assert not torch.allclose(old, new, atol=0.05)
        for images, share in ((20_000, 0.0), (21_000, 0.25), (24_000, 1.0)):
            whole.grow(images)
            assert whole.stage == (2, share)
            torch.testing.assert_close(whole(z), (1 - share) * old + share * new, atol=1e-6, rtol=1e-5)
        whole.grow(19_999)
        torch.testing.assert_close(kron(whole(z)), old)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_grown_networks_draw_in_the_last_size(family):
    whole, _ = halves(FAMILIES[family])
    z = torch.randn(2, 8)
    with torch.no_grad():
        for images, factor in ((0, 4), (9_000, 2), (13_000, 2), (22_000, 1)):
            whole.grow(images)
            assert whole.decode(z).shape == (2, 3, 24, 16)
            torch.testing.assert_close(whole.decode(z), kron(whole(z).clamp(-1, 1), factor))


@pytest.mark.parametrize("smooth", [False, True])
def test_the_discriminator_fades_likewise(smooth):
    def build(**settings):
        return progan.Discriminator(smooth=smooth, **settings)

    whole, part = halves(build)
    images = torch.randn(4, 3, 24, 16)
    with torch.no_grad():
        old, new = part(nn.functional.avg_pool2d(images, 2)), whole(images)
        assert not torch.allclose(old, new, atol=1e-3)
        whole.alpha = 0.0
        torch.testing.assert_close(whole(images), old)
        whole.alpha = 0.3
        assert not torch.allclose(whole(images), old, atol=1e-4)
        whole.alpha = 1.0
        torch.testing.assert_close(whole(images), new)


def test_real_images_fade_likewise():
    generator = FAMILIES["progan"](resolution=[16, 24], base=[4, 6], channels=[4, 4, 4])
    images = torch.randn(2, 3, 16, 24)
    pixels = images.numpy()

    def mean(pixels, factor):
        b, c, h, w = pixels.shape
        return pixels.reshape(b, c, h // factor, factor, w // factor, factor).mean((3, 5))

    torch.testing.assert_close(generator.shown(images), images)
    generator.grow(0)
    torch.testing.assert_close(generator.shown(images), torch.from_numpy(mean(pixels, 4)))
    generator.grow(9_000)  # a quarter of the way from 4x6 to 8x12
    small = mean(pixels, 2)
    expected = 0.25 * small + 0.75 * kron(torch.from_numpy(mean(small, 2))).numpy()
    torch.testing.assert_close(generator.shown(images), torch.from_numpy(expected))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("base", [(2, 3), (4, 4), (5, 3)])
@pytest.mark.parametrize("doublings", [1, 3])
def test_any_base_doubled(family, base, doublings):
    size = [side * 2**doublings for side in base]
    build = FAMILIES[family]
    generator = build(resolution=size, base=base, channels=[4] * (doublings + 1)).eval()
    with torch.no_grad():
        images = generator.decode(torch.randn(2, 8))
        assert images.shape == (2, 3, *size)
        discriminator = progan.Discriminator(resolution=size, base=base, channels=[4] * (doublings + 1))
        assert discriminator(images).shape == (2,)
    with pytest.raises(UserError, match=r"the nearest are \[.*\] and \["):
        build(resolution=[size[0] + 1, size[1]], base=base)


def test_features_of_every_pixel_have_a_mean_square_of_one():
    torch.manual_seed(0)
    generator = FAMILIES["progan"](resolution=[16, 16], channels=[16, 8, 8])
    seen = []
    for block in generator.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    generator.decode(torch.randn(3, 8))
    assert len(seen) == 2
    for features in seen[0] + seen[1]:
        squares = features.square().mean(1)
        torch.testing.assert_close(squares, torch.ones_like(squares), atol=1e-3, rtol=0)


def test_truncation_goes_to_the_mean_of_the_first_features():
    torch.manual_seed(0)
    generator = FAMILIES["progan"](resolution=[8, 8], channels=[8, 8])
    first = []
    for _ in range(5):
        z = torch.randn(16, 8)
        generator(z)
        flat = z / z.square().mean(1, keepdim=True).sqrt() @ generator.dense.weight.T / 2  # sqrt(2) / sqrt(8)
        first.append(nn.functional.leaky_relu(flat, 0.2).mean(0))
    expected = torch.stack(first).mean(0).view(8, 4, 4)
    torch.testing.assert_close(generator.feature_average, expected, atol=1e-5, rtol=1e-4)
    generator.eval()
    z = torch.randn(4, 8)
    images = generator.decode(z, 0.0)
    assert images.std(0).max() < 1e-6
    assert generator.decode(z, 1.0).std(0).mean() > 0.01


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"start": 3}, "model.start: got 3, must be 0 to 2"),
        ({"fade_kimg": -1.0}, "model.fade_kimg: got -1"),
        ({"channels": [4, 4]}, r"must be 3 numbers, for 4x4, 8x8, 16x16"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_impossible_settings_are_refused(family, settings, said):
    with pytest.raises(UserError, match=said):
        FAMILIES[family](resolution=[16, 16], **settings)
