import numpy as np
import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.layers import EqualisedConv2d
from omokage.models.progan import HE
from omokage.models.stylegan import Block, Generator, Layer, adaptive_instance_norm


def small(**settings):
    torch.manual_seed(0)
    defaults = {"latent": 8, "style": 8, "depth": 2, "resolution": [16, 16], "channels": [16, 12, 8]}
    generator = Generator(**defaults | settings)
    with torch.no_grad():  # noise and styles start at 0
        for parameter in generator.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        generator.w_average.normal_()
    return generator.eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_adain_gives_each_channel_its_mean_and_deviation(layout):
    x = (torch.randn(3, 4, 6, 5) * 7 + 2).contiguous(memory_format=layout)
    deviation, mean = torch.randn(3, 4), torch.randn(3, 4)
    y = adaptive_instance_norm(x, deviation, mean).numpy()
    np.testing.assert_allclose(y.mean((2, 3)), mean, atol=1e-5)
    np.testing.assert_allclose(y.std((2, 3)), deviation.abs(), rtol=1e-4)
    pixels = x.numpy()
    for i in range(3):
        for c in range(4):
            normal = (pixels[i, c] - pixels[i, c].mean()) / pixels[i, c].std()
            np.testing.assert_allclose(
                y[i, c], normal * deviation[i, c].item() + mean[i, c].item(), atol=1e-4
            )


def test_gradients_of_adain_are_those_of_the_formula():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    style = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(adaptive_instance_norm, (x, *style))


@pytest.mark.parametrize("kernel", [1, 3])
def test_weights_are_scaled_where_they_are_used(kernel):
    """He et al. 2015: variance 2 / fan-in, though the parameter has 1 and so moves like all others."""
    torch.manual_seed(0)
    convolution = EqualisedConv2d(64, 96, kernel, gain=HE)
    assert convolution.weight.std().item() == pytest.approx(1, rel=0.02)
    x = torch.randn(4, 64, 8, 8)
    expected = nn.functional.conv2d(
        x, convolution.weight * (2 / (64 * kernel**2)) ** 0.5, padding=kernel // 2
    )
    torch.testing.assert_close(convolution(x), expected, atol=1e-4, rtol=1e-4)
    assert expected[:, :, 1:-1, 1:-1].var().item() == pytest.approx(2, rel=0.1)


def test_a_layer_is_noise_bias_activation_and_style_in_this_order():
    torch.manual_seed(0)
    layer = Layer(3, style=4, size=(5, 6))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    x, w = torch.randn(2, 3, 5, 6), torch.randn(2, 4)
    noise = layer.noise.numpy()
    for kind, present in (("constant", 1), ("none", 0)):
        y = layer(x.clone(), w, kind).detach().numpy()
        strength, bias = (p.detach().numpy() for p in (layer.noise_strength, layer.bias))
        plain = x.numpy() + bias[:, None, None] + present * strength[:, None, None] * noise
        active = np.where(plain > 0, plain, 0.2 * plain)
        styles = w.numpy() @ (layer.style.weight.detach().numpy() / 2).T + layer.style.bias.detach().numpy()
        normal = (active - active.mean((2, 3), keepdims=True)) / active.std((2, 3), keepdims=True)
        expected = normal * (1 + styles[:, :3, None, None]) + styles[:, 3:, None, None]
        np.testing.assert_allclose(y, expected, atol=1e-4)


def test_the_first_block_starts_from_ones_whatever_the_batch():
    block = Block(0, 4, 8, (4, 6), smooth=True)
    assert torch.equal(block.constant, torch.ones(4, 4, 6))
    w = torch.randn(3, 2, 8)
    together = block(None, w, ["none", "none"])
    torch.testing.assert_close(block(None, w[1:2], ["none", "none"])[0], together[1])
    assert torch.equal(block.constant, torch.ones(4, 4, 6))


def test_a_style_of_a_layer_changes_that_layer_and_what_follows():
    generator = small()
    assert generator.layers == 6
    assert generator.layer_sizes == [(4, 4), (4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    a, b = generator.mapping(torch.randn(2, 8))
    outputs = {}
    for i, block in enumerate(generator.blocks):
        block.register_forward_hook(lambda module, inputs, output, i=i: outputs.__setitem__(i, output))
    generator.synthesis(a[None])
    before = dict(outputs)
    for layer in range(6):
        mixed = a.clone()
        mixed[layer] = b[layer]
        generator.synthesis(mixed[None])
        changed = [not torch.equal(outputs[i], before[i]) for i in range(3)]
        assert changed == [i >= layer // 2 for i in range(3)]


def test_noise_may_differ_by_layer():
    generator = small()
    w = generator.mapping(torch.randn(2, 8))
    kinds = ["constant", "none", "constant", "none", "none", "constant"]
    found = generator.synthesis(w, kinds)
    layers = [layer for block in generator.blocks for layer in (block.first, block.second)]
    with torch.no_grad():
        for kind, layer in zip(kinds, layers, strict=True):
            if kind == "none":
                layer.noise_strength.zero_()
    torch.testing.assert_close(found, generator.synthesis(w))
    assert torch.equal(generator.synthesis(w, "constant"), generator.synthesis(w, ["constant"] * 6))
    assert not torch.equal(generator.synthesis(w, "random"), generator.synthesis(w, "random"))


def test_truncation_may_leave_the_finer_layers_alone():
    generator = small(truncated=4)
    z = torch.randn(3, 8)
    w, mean, opposite = (generator.mapping(z, psi) for psi in (1.0, 0.0, -1.0))
    average = generator.w_average.expand(3, 4, 8)
    torch.testing.assert_close(mean[:, :4], average)
    torch.testing.assert_close(opposite[:, :4], 2 * average - w[:, :4])
    assert torch.equal(mean[:, 4:], w[:, 4:])
    torch.testing.assert_close(small().mapping(z, 0.5), (small().mapping(z) + small().w_average) / 2)
    with pytest.raises(UserError, match=r"model\.truncated: got 7, must be 0 to 6"):
        Generator(resolution=[16, 16], truncated=7)


def test_styles_are_mixed_among_the_layers_in_use():
    generator = small(start=0, stable_kimg=1.0, fade_kimg=1.0, mixing=1.0).train()
    generator.grow(0)
    assert generator.layers_in_use == 2
    torch.manual_seed(0)
    w = generator.styles(torch.randn(64, 8))
    assert (w[:, 0] != w[:, 1]).any(1).all()  # all images have two styles in the two layers there are
    generator.grow(1_500)
    assert generator.layers_in_use == 4
    generator.grow(10_000)
    assert generator.layers_in_use == 6


def test_one_pixel_has_no_deviation():
    with pytest.raises(UserError, match=r"model.base: got \[1, 1\]"):
        Generator(resolution=[4, 4], base=[1, 1])
