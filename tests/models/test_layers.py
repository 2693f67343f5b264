import math

import pytest
import torch
import torch.nn.functional as F

from omokage.errors import UserError
from omokage.models.layers import (
    EqualisedConv2d,
    EqualisedLinear,
    activate,
    blur,
    convolution_down,
    convolution_up,
    downsample,
    minibatch_deviation,
    sides,
    upsample,
)

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def filtered(x: torch.Tensor) -> torch.Tensor:
    """Every sum of four neighbours in both directions, zeros outside, one after the other."""
    padded = F.pad(x, (3, 3, 3, 3))
    height, width = padded.shape[2] - 3, padded.shape[3] - 3
    out = torch.zeros(*x.shape[:2], height, width, dtype=x.dtype)
    for i in range(4):
        for j in range(4):
            out += TAPS[i] * TAPS[j] * padded[:, :, i : i + height, j : j + width]
    return out


@torch.no_grad()
@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_equalised_weights_start_alike_and_give_unit_variance(rate):
    torch.manual_seed(0)
    layer = EqualisedLinear(400, 300, rate=rate)
    assert layer.weight.std() * rate == pytest.approx(1, rel=0.01)
    assert layer(torch.randn(200, 400)).std() == pytest.approx(1, rel=0.02)
    convolution = EqualisedConv2d(50, 40, 3)
    assert convolution.weight.std() == pytest.approx(1, rel=0.02)
    out = convolution(torch.randn(4, 50, 16, 16))[:, :, 1:-1, 1:-1]
    assert out.std() == pytest.approx(1, rel=0.03)


def test_a_step_of_adam_moves_equalised_weights_by_the_same_share_whatever_the_width():
    """Of weights as they are used: rate · learning rate · scale, relative to a start of 1 · scale."""
    for width in (4, 256):
        torch.manual_seed(0)
        layer = EqualisedLinear(width, 8, bias=1.0, rate=0.5)
        used = (layer.weight * layer.scale).detach().clone()
        torch.testing.assert_close(layer(torch.zeros(1, width)), torch.ones(1, 8))  # the bias as asked for
        layer(torch.ones(1, width)).sum().backward()
        torch.optim.Adam(layer.parameters(), lr=0.01).step()
        moved = used - layer.weight.detach() * layer.scale
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5 * 0.01 / math.sqrt(width)))


def test_blur_is_the_filter_and_its_gradients_are_right():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 6)
    torch.testing.assert_close(blur(x, 3), filtered(x))
    torch.testing.assert_close(blur(x, 1), filtered(x)[:, :, 2:-2, 2:-2])
    x = x.double().requires_grad_()
    for padding in (0, 1, 2):
        assert torch.autograd.gradcheck(lambda x: blur(x, padding, 4.0), x)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda x: blur(x, padding).square(), x)  # noqa: B023


def test_resampling_is_zeros_between_pixels_or_every_other_pixel_and_the_filter():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4)
    spread = torch.zeros(2, 3, 10, 8)
    spread[:, :, ::2, ::2] = x
    torch.testing.assert_close(upsample(x), 4 * filtered(spread)[:, :, 1:-2, 1:-2])
    torch.testing.assert_close(downsample(spread), filtered(spread)[:, :, 2:-2:2, 2:-2:2])


@pytest.mark.parametrize("size", [1, 3])
def test_convolutions_that_resample_equal_the_two_steps(size):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 4, 6, 8), torch.randn(5, 4, size, size), torch.randn(5)
    around = size // 2
    turned = weight.flip(2, 3)  # as transposed convolutions do
    nearest = F.conv2d(F.interpolate(x, scale_factor=2.0), turned, padding=around)
    torch.testing.assert_close(convolution_up(x, weight, smooth=False), nearest, atol=1e-5, rtol=1e-5)
    spread = torch.zeros(2, 4, 12, 16)
    spread[:, :, ::2, ::2] = x
    convolved = F.conv2d(F.pad(spread, (around,) * 4), turned, padding=around)
    smooth = 4 * filtered(convolved)[:, :, 1 + around : 13 + around, 1 + around : 17 + around]
    torch.testing.assert_close(convolution_up(x, weight), smooth, atol=1e-5, rtol=1e-5)
    means = F.avg_pool2d(F.conv2d(x, weight, bias, padding=around), 2)
    torch.testing.assert_close(convolution_down(x, weight, bias, False), means, atol=1e-5, rtol=1e-5)
    every = F.conv2d(filtered(x)[:, :, 1 - around :, 1 - around :], weight, bias)[:, :, 1::2, 1::2]
    torch.testing.assert_close(convolution_down(x, weight, bias), every[:, :, :3, :4], atol=1e-5, rtol=1e-5)


def test_minibatch_deviation_is_the_mean_of_the_deviations_of_each_group():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 2, 5)
    told = minibatch_deviation(x, group=4)
    assert told.shape == (8, 4, 2, 5)
    torch.testing.assert_close(told[:, :3], x)
    for first in (0, 4):
        columns = x[first : first + 4].flatten(1).T.tolist()
        deviations = [math.sqrt(sum((v - sum(c) / 4) ** 2 for v in c) / 4) for c in columns]
        expected = torch.full((4, 2, 5), sum(deviations) / len(deviations))
        torch.testing.assert_close(told[first : first + 4, 3], expected)
    parts = torch.cat([minibatch_deviation(part, 4) for part in x.split(4)])
    torch.testing.assert_close(parts, told)
    assert minibatch_deviation(x[:6], 4).shape == (6, 4, 2, 5)  # groups of three
    same = x[:1].expand(4, -1, -1, -1)
    assert minibatch_deviation(same)[:, 3].max() < 1e-3


@pytest.mark.parametrize("base", [(4, 4), (3, 4), (1, 1), (5, 3)])
@pytest.mark.parametrize("doublings", range(1, 7))
def test_sizes_are_the_base_doubled(base, doublings):
    resolution = (base[0] * 2**doublings, base[1] * 2**doublings)
    found = sides(resolution, base, "model")
    assert found[0] == base
    assert found[-1] == resolution
    assert len(found) == doublings + 1
    with pytest.raises(UserError):
        sides((resolution[0] + 1, resolution[1]), base, "model")


@pytest.mark.parametrize(
    ("resolution", "base", "nearest"),
    [
        ((100, 100), (4, 4), ("[64, 64]", "[128, 128]")),
        ((96, 128), (4, 4), ("[64, 64]", "[128, 128]")),
        ((97, 128), (3, 4), ("[96, 128]", "[192, 256]")),
        ((2, 2), (4, 4), ("[4, 4]", "[8, 8]")),
        ((0, 64), (4, 4), ("[height, width]", "[64, 64]")),
        ((64,), (4, 4), ("[height, width]", "[64, 64]")),
    ],
)
def test_other_sizes_are_refused_with_the_nearest_two(resolution, base, nearest):
    with pytest.raises(UserError, match=r"model\.resolution") as caught:
        sides(resolution, base, "model")
    assert all(named in str(caught.value) for named in nearest)


def test_what_is_halved_keeps_no_more_than_it_shows():
    small = downsample(torch.randn(2, 3, 8, 8))
    assert small.untyped_storage().nbytes() == small.numel() * small.element_size()


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_an_activation_keeps_only_its_outcome(gain):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = activate(x + 1, gain)
    assert kept == [y.data_ptr()]
    torch.testing.assert_close(y, F.leaky_relu(x + 1, 0.2) * gain)
