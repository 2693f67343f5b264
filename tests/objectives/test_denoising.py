"""The losses of flow matching and EDM, from their definitions."""

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.dcgan import Generator
from omokage.models.unet import UNet
from omokage.objectives.denoising import edm, flow_matching, levels_of
from omokage.objectives.phase import Step


class Recorded(UNet):
    """Remembers what it was asked, and answers something."""

    def denoised(self, noisy, level, labels=None):
        self.asked = noisy, level
        return 0.3 * noisy


@pytest.fixture
def network():
    return Recorded(8, (8,), attention_at=0)


@pytest.fixture
def step():
    torch.manual_seed(0)
    return Step(torch.rand(6, 3, 8, 8) * 2 - 1, torch.randn(6, 192), lambda images: images)


def test_flow_matching_is_the_squared_error_of_the_velocity(network, step):
    (phase,) = flow_matching(nn.ModuleDict({"generator": network}), spread=0.4, mean=0.1)
    loss, told = phase.loss(step)
    noisy, level = network.asked
    noise, t = step.latents.view(6, 3, 8, 8), (1 / (1 + level)).view(6, 1, 1, 1)
    assert (1 - t).min() > 0.05  # so nothing is cut
    on_the_path = t * step.real + (1 - t) * noise
    torch.testing.assert_close(t * noisy, on_the_path)
    velocity = (0.3 * noisy - on_the_path) / (1 - t)
    torch.testing.assert_close(loss, (velocity - (step.real - noise)).square().mean())
    assert told["loss/denoiser"] is loss


def test_edm_is_the_squared_error_of_what_the_network_must_predict(network, step):
    (phase,) = edm(nn.ModuleDict({"generator": network}))
    loss, _ = phase.loss(step)
    noisy, level = network.asked
    level = level.view(6, 1, 1, 1)
    torch.testing.assert_close(noisy, step.real + level * step.latents.view(6, 3, 8, 8))
    total = level**2 + 0.25
    target = (step.real - 0.25 / total * noisy) / (level * 0.5 / total.sqrt())
    answer = (0.3 * noisy - 0.25 / total * noisy) / (level * 0.5 / total.sqrt())
    torch.testing.assert_close(loss, (answer - target).square().mean())


def test_levels_are_log_normal_and_for_a_share_uniform():
    torch.manual_seed(0)
    drawn = torch.cat([torch.randn(20_000, 1), torch.rand(20_000, 2)], 1)
    plain = levels_of(drawn, -1.2, 1.2, 0.0, 0.002, 80.0).log()
    assert (plain.mean().item(), plain.std().item()) == pytest.approx((-1.2, 1.2), abs=0.03)
    every = levels_of(drawn, -1.2, 1.2, 1.0, 0.002, 80.0)
    assert every.min() >= 0.00199
    assert every.max() <= 80.1
    quarters = every.log().quantile(torch.tensor([0.25, 0.5, 0.75]))
    expected = torch.tensor(0.002).log() + torch.tensor([0.25, 0.5, 0.75]) * torch.tensor(40_000.0).log()
    torch.testing.assert_close(quarters, expected, atol=0.15, rtol=0)


@pytest.mark.parametrize("objective", [flow_matching, edm])
def test_another_model_is_refused(objective):
    with pytest.raises(UserError, match="trains a denoiser, like unet or pixel-transformer"):
        objective(nn.ModuleDict({"generator": Generator(channels=(8,))}))
