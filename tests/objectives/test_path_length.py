import pytest
import torch

from omokage.models.stylegan2 import Generator
from omokage.objectives.path_length import PathLength, path_lengths


def test_lengths_against_finite_differences():
    """Jᵀy entry by entry: how the sum of image times noise changes when one entry of w does."""
    torch.manual_seed(0)
    generator = Generator(latent=4, style=3, depth=1, resolution=(8, 8), channels=(4, 4)).double()
    with torch.no_grad():
        for block in generator.blocks:
            for convolution in block.convolutions:
                convolution.noise_strength.fill_(0.3)
    w = torch.randn(2, generator.layers, 3, dtype=torch.float64)
    noise = torch.randn(2, 3, 8, 8, dtype=torch.float64)

    def weighted(w):
        with torch.no_grad():
            return (generator.synthesis(w) * noise).sum((1, 2, 3)) / 64**0.5

    gradients = torch.zeros_like(w)
    for layer in range(w.shape[1]):
        for entry in range(3):
            step = torch.zeros_like(w)
            step[:, layer, entry] = 1e-5
            gradients[:, layer, entry] = (weighted(w + step) - weighted(w - step)) / 2e-5
    expected = gradients.square().sum(2).mean(1).sqrt()
    told = path_lengths(lambda w: generator.synthesis(w), w, noise)
    torch.testing.assert_close(told, expected, rtol=1e-6, atol=1e-8)


def test_the_penaltys_gradient_against_finite_differences():
    torch.manual_seed(0)
    generator = Generator(latent=4, style=3, depth=1, resolution=(8, 8), channels=(4, 4), smooth=False)
    w, noise = torch.randn(2, generator.layers, 3), torch.randn(2, 3, 8, 8)
    held = PathLength()

    def penalty(images):
        return held(path_lengths(generator.synthesis, w, noise), images)

    penalty(0).backward()
    for name in ("blocks.0.convolutions.0.weight", "blocks.1.convolutions.0.style.weight"):
        parameter = generator.get_parameter(name)
        direction = parameter.grad / parameter.grad.norm()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * 5e-3)
            values.append(penalty(0).item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * 5e-3)
        assert (values[0] - values[1]) / 1e-2 == pytest.approx(parameter.grad.norm().item(), rel=0.02)


def test_the_mean_moves_between_steps_and_not_within():
    held = PathLength(decay=0.5)
    assert held(torch.tensor([2.0, 4.0]), 0).item() == pytest.approx(10)  # the mean is still 0
    assert held(torch.tensor([6.0]), 0).item() == pytest.approx(36)  # another part of the same step
    assert held(torch.tensor([3.0]), 8).item() == pytest.approx(1)  # mean 0.5 · (2 + 4 + 6) / 3 = 2
    assert held(torch.tensor([3.0]), 16).item() == pytest.approx(0.25)  # 2 + 0.5 · (3 - 2)
