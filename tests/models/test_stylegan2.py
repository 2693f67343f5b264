import pytest
import torch
import torch.nn.functional as F

from omokage.errors import UserError
from omokage.models.layers import convolution_up
from omokage.models.stylegan2 import (
    Discriminator,
    Generator,
    StyledConvolution,
    modulated_by_groups,
    modulated_by_scaling,
)
from omokage.sampling import BATCH

SMALL = {"latent": 16, "style": 24, "depth": 2, "resolution": (16, 16), "channels": (12, 8, 8)}


def one_by_one(x, weight, style, demodulate, up, smooth):
    """Equations 1 and 3 image by image, each weight scaled on its own."""
    outcomes = []
    for image, scales in zip(x, style, strict=True):
        modulated = weight.clone()
        for i, scale in enumerate(scales):
            modulated[:, i] *= scale
        if demodulate:
            for row in modulated:
                row /= (row.square().sum() + 1e-8).sqrt()
        if up:
            outcomes.append(convolution_up(image[None], modulated, smooth))
        else:
            outcomes.append(F.conv2d(image[None], modulated, padding=weight.shape[2] // 2))
    return torch.cat(outcomes)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("up", "smooth"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("size", [1, 3])
def test_both_modulated_convolutions_equal_the_loop_over_images(size, up, smooth, demodulate):
    torch.manual_seed(0)
    x, weight, style = torch.randn(3, 5, 6, 4), torch.randn(7, 5, size, size), torch.randn(3, 5)
    expected = one_by_one(x, weight, style, demodulate, up, smooth)
    for way in (modulated_by_scaling, modulated_by_groups):
        torch.testing.assert_close(
            way(x, weight, style, demodulate, up, smooth), expected, atol=1e-5, rtol=1e-5
        )


def test_so_do_their_gradients():
    torch.manual_seed(0)
    gradients = []
    for way in (modulated_by_scaling, modulated_by_groups):
        torch.manual_seed(0)
        inputs = [torch.randn(*shape, requires_grad=True) for shape in ((2, 4, 5, 5), (3, 4, 3, 3), (2, 4))]
        way(*inputs).square().sum().backward()
        gradients.append([entry.grad for entry in inputs])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_demodulated_outputs_have_unit_variance_for_unit_variance_inputs():
    torch.manual_seed(0)
    x = torch.randn(4, 64, 40, 40)
    style = torch.rand(4, 64) * 5
    out = modulated_by_scaling(x, torch.randn(32, 64, 3, 3), style)[:, :, 1:-1, 1:-1]
    assert out.var((0, 2, 3)).sub(1).abs().max() < 0.1
    assert out.var((1, 2, 3)).sub(1).abs().max() < 0.05
    plain = modulated_by_scaling(x, torch.randn(32, 64, 3, 3), style, demodulate=False)
    assert plain.var() > 100


@torch.no_grad()
def test_a_styled_convolution_is_modulation_noise_bias_and_activation():
    torch.manual_seed(0)
    layer = StyledConvolution(6, 5, 8, (4, 4))
    with torch.no_grad():
        layer.noise_strength.fill_(0.7)
        layer.bias.normal_()
    x, w = torch.randn(3, 6, 4, 4), torch.randn(3, 8)
    style = F.linear(w, layer.style.weight / 8**0.5, layer.style.bias)
    convolved = one_by_one(x, layer.weight, style, True, False, True)
    expected = F.leaky_relu(convolved + 0.7 * layer.noise + layer.bias[:, None, None], 0.2) * 2**0.5
    torch.testing.assert_close(layer(x, w, "constant"), expected, atol=1e-5, rtol=1e-5)
    without = F.leaky_relu(convolved + layer.bias[:, None, None], 0.2) * 2**0.5
    torch.testing.assert_close(layer(x, w, "none"), without, atol=1e-5, rtol=1e-5)
    assert not torch.equal(layer(x, w, "random"), layer(x, w, "random"))


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("base", [(4, 4), (3, 4), (2, 5)])
@pytest.mark.parametrize("doublings", [1, 3])
@pytest.mark.parametrize("smooth", [True, False])
def test_a_grid_of_sizes(architecture, base, doublings, smooth):
    torch.manual_seed(0)
    resolution = [side * 2**doublings for side in base]
    about = {"resolution": resolution, "base": base, "channels": [8] * (doublings + 1), "smooth": smooth}
    generator = Generator(latent=8, style=8, depth=1, architecture=architecture, **about)
    discriminator = Discriminator(architecture=architecture, **about)
    images = generator(torch.randn(4, 8))
    assert images.shape == (4, 3, *resolution)
    assert generator.layers == 2 * (doublings + 1)
    logits = discriminator(images)
    assert logits.shape == (4,)
    logits.sum().backward()
    assert all(p.grad is not None for p in (*generator.parameters(), *discriminator.parameters()))


def test_sizes_and_channels_that_do_not_fit_are_refused():
    for network in (Generator, Discriminator):
        with pytest.raises(UserError, match=r"nearest are \[64, 64\] and \[128, 128\]"):
            network(resolution=(96, 128))
        with pytest.raises(UserError, match="must be 5 numbers"):
            network(resolution=(64, 64), channels=(8, 8))


def test_channels_follow_the_paper():
    """512 up to 64 px, then half as many at each size (capacity 32768)."""
    generator = Generator(resolution=(256, 256), capacity=32768, latent=8, style=8, depth=1)
    widths = [block.convolutions[-1].weight.shape[0] for block in generator.blocks]
    assert widths == [512, 512, 512, 512, 512, 256, 128]


@pytest.fixture
def trained():
    """A generator with an average style that is not zero."""
    torch.manual_seed(0)
    generator = Generator(**SMALL)
    with torch.no_grad():
        for _ in range(200):
            generator.mapping(torch.randn(64, 16))
    return generator.eval()


def test_the_average_style_follows_training_and_rests_in_evaluation(trained):
    torch.manual_seed(1)
    means = trained.mapping_network(torch.randn(20_000, 16)).mean(0)
    difference = (trained.w_average - means * (1 - 0.995**200)).abs().max()
    assert difference < 0.1 * means.abs().max()
    before = trained.w_average.clone()
    trained(torch.randn(8, 16))
    assert torch.equal(trained.w_average, before)


def test_truncation_at_0_is_one_face_and_at_minus_1_the_mirror_through_the_average(trained):
    z = torch.randn(BATCH, 16)  # as sampling has it: of six, matrix products may round the last two otherwise
    one = trained.decode(z, psi=0.0)
    assert torch.equal(one, one[:1].expand_as(one))
    w, average = trained.mapping(z), trained.w_average
    torch.testing.assert_close(trained.mapping(z, -1.0), 2 * average - w)
    torch.testing.assert_close(trained.mapping(z, 0.7), average + 0.7 * (w - average))
    assert trained.decode(z, -1.0).sub(trained.decode(z)).abs().mean() > 0.01
    cut = trained.mapping(z, 0.0, cutoff=2)
    assert torch.equal(cut[:, :2], average.expand(BATCH, 2, -1))
    assert torch.equal(cut[:, 2:], w[:, 2:])


def test_styles_are_mixed_in_training_only(trained):
    z = torch.randn(400, 16)
    assert torch.equal(trained.styles(z), trained.mapping(z))
    trained.train()
    torch.manual_seed(0)
    w = trained.styles(z)
    assert w.shape == (400, trained.layers, 24)
    first = (w == w[:, :1]).all(2)
    assert first.long().diff(dim=1).max() == 0  # one crossover: from the first style to the second
    mixed = ~first[:, -1]
    assert mixed.float().mean() == pytest.approx(0.9, abs=0.06)
    crossovers = first[mixed].sum(1)
    assert set(crossovers.tolist()) == set(range(1, trained.layers))
    original = trained.mapping_network(z)
    torch.testing.assert_close(w[:, 0], original)


def test_noise_constant_random_and_none(trained):
    with torch.no_grad():
        for module in trained.modules():
            if isinstance(module, StyledConvolution):
                module.noise_strength.fill_(0.5)
    w = trained.mapping(torch.randn(2, 16))
    assert torch.equal(trained.synthesis(w), trained.synthesis(w))
    assert not torch.equal(trained.synthesis(w, "random"), trained.synthesis(w, "random"))
    assert not torch.equal(trained.synthesis(w, "none"), trained.synthesis(w))


def test_first_features_of_the_first_style():
    torch.manual_seed(0)
    network = Generator(**SMALL, start="style", noise=False).eval()
    w = network.mapping(torch.randn(2, 16))
    first = network.blocks[0]
    assert first.constant is None
    assert first.start(w[:, 0]).shape == (2, 12 * 4 * 4)
    with torch.no_grad():
        for layer in (first.convolutions[0].style, first.to_image.style):
            layer.weight.zero_()  # then what a style says it says by the first features alone
    one, other = (first(None, None, styles, ["none"] * 2)[0] for styles in (w, w.flip(0)))
    torch.testing.assert_close(one, other.flip(0))
    assert (one[0] - one[1]).abs().mean() > 0.1


def test_normalised_by_the_batch():
    torch.manual_seed(0)
    layer = StyledConvolution(6, 5, 4, (8, 8), noise=False, normalised_by="batch")
    x, w = 3 * torch.randn(16, 6, 8, 8) + 1, torch.randn(16, 4)
    y = layer(x, w, "none")
    before = torch.where(y < 0, y / 0.2, y) / 2**0.5  # without leaky ReLU and its gain
    torch.testing.assert_close(before.mean((0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(before.var((0, 2, 3), correction=0), torch.ones(5), atol=1e-3, rtol=0)
    layer.eval()
    torch.testing.assert_close(layer(x, w, "none")[:1], layer(x[:1], w[:1], "none"))


def test_labels_are_the_last_entries_of_a_latent():
    torch.manual_seed(0)
    generator = Generator(**SMALL, joined=3, classes=4).eval()
    assert generator.latent_shape == (23,)
    z = torch.randn(2, 23)
    loud = z.clone()
    loud[:, -4:] = torch.tensor([0.0, 9.0, 1.0, 2.0])
    louder = loud.clone()
    louder[:, -3] = 30.0
    assert torch.equal(generator.decode(loud), generator.decode(louder))  # the same class
    louder[:, -1] = 31.0
    assert not torch.equal(generator.decode(loud), generator.decode(louder))
    other = loud.clone()
    other[:, 16] += 1
    assert not torch.equal(generator.decode(loud), generator.decode(other))
    generator.train()
    w = generator.styles(z)  # mixes the latent, not the label
    assert w.shape == (2, generator.layers, 24)
    assert Discriminator(resolution=(16, 16), channels=(8, 8, 8), outputs=5)(generator(z)).shape == (2, 5)


def test_squashed_images_are_in_range_in_training_too():
    torch.manual_seed(0)
    free, squashed = Generator(**SMALL).eval(), Generator(**SMALL, squashed=True).eval()
    squashed.load_state_dict(free.state_dict())
    z = torch.randn(4, 16)
    assert free(z).abs().max() > 1
    torch.testing.assert_close(squashed(z), (free(z) / 3**0.5).tanh())
    assert torch.equal(squashed(z), squashed.decode(z))


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_activations_are_cut_where_asked(architecture):
    torch.manual_seed(0)
    free = Generator(**SMALL, architecture=architecture).eval()
    cut = Generator(**SMALL, architecture=architecture, clamp=1.0).eval()
    cut.load_state_dict(free.state_dict())
    z = torch.randn(2, 16)
    assert not torch.equal(free.decode(z), cut.decode(z))
    wide = Generator(**SMALL, architecture=architecture, clamp=1e4).eval()
    wide.load_state_dict(free.state_dict())
    assert torch.equal(free.decode(z), wide.decode(z))


def test_latents_are_drawn_where_faces_lie_and_those_of_training_lie_there_already():
    torch.manual_seed(0)
    generator = Generator(**SMALL, located=True, mixing=1.0)
    z, centre, axes = torch.randn(64, 16), 3 * torch.randn(16), 0.1 * torch.randn(16, 16)
    before = generator.eval().mapping(z)
    generator.location.move(centre, axes)
    there = centre + z @ axes.T
    assert not torch.allclose(generator.mapping(z), before)
    torch.testing.assert_close(generator.decode(z), generator(there).clamp(-1, 1))
    # Second styles, too, are of faces: all of them lie close to the centre's.
    styles = generator.train().styles(there)
    middle = generator.eval().styles(centre[None])
    assert (styles - middle).abs().mean() < 0.5 * (before - middle).abs().mean()


def test_a_generator_that_is_not_located_has_no_weights_of_it():
    assert not [name for name in Generator(**SMALL).state_dict() if "location" in name]
