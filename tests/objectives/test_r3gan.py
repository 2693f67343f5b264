"""R3GAN: penalties by hand, pairs, schedules."""

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.r3gan import Discriminator, Generator, doubled, halved
from omokage.objectives.adaptive import _Read, augmented
from omokage.objectives.phase import Step
from omokage.objectives.r3gan import paired, r3gan, zero_centred


def networks():
    torch.manual_seed(0)
    both = nn.ModuleDict(
        {
            "generator": Generator(8, (8, 8), blocks=1, group=4),
            "discriminator": Discriminator((8, 8), blocks=1, group=4),
        }
    )
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return both


def a_step(images: int = 0) -> Step:
    generator = torch.Generator().manual_seed(1)
    real = torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1
    return Step(real, torch.randn(4, 8, generator=generator), lambda images: 0.5 * images, images)


def test_the_penalty_of_a_quadratic_critic_is_known():
    """D(x) = x'Ax / 2 has the gradient Ax; and the penalty's gradient for A reaches A."""
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], requires_grad=True)
    images = torch.tensor([[1.0, -1.0], [0.5, 2.0]]).view(2, 1, 1, 2).requires_grad_()
    flat = images.flatten(1)
    penalty = zero_centred(((flat @ matrix) * flat).sum(1) / 2, images)
    assert penalty.item() == pytest.approx(((1 + 4) + (3**2 + 6.5**2)) / 2)
    penalty.backward()
    assert matrix.grad.abs().min() > 0


def test_both_penalties_are_those_of_images_before_their_augmentation():
    both, step = networks(), a_step(images=10_000_000)
    phases = {phase.name: phase for phase in r3gan(both, gamma={"peak": 2.0, "cosine": 20_000, "last": 0.2})}
    assert list(phases) == ["discriminator", "generator"]
    total, told = phases["discriminator"].loss(step)
    fake = both["generator"](step.latents).detach()
    lengths = []
    for images in (step.real, fake):
        each = []
        for image in images:  # one by one, by autograd
            image = image[None].clone().requires_grad_()
            both["discriminator"](0.5 * image).sum().backward()
            each.append(image.grad.square().sum())
        lengths.append(torch.stack(each).mean())
    torch.testing.assert_close(told["penalty/r1"], lengths[0])
    torch.testing.assert_close(told["penalty/r2"], lengths[1])
    real, generated = both["discriminator"](0.5 * step.real), both["discriminator"](0.5 * fake)
    adversarial = (1 + (generated - real).exp()).log().mean()
    torch.testing.assert_close(told["loss/discriminator"], adversarial)
    torch.testing.assert_close(total, adversarial + 1.1 / 2 * sum(lengths))  # half way from 2 to 0.2
    loss, _ = phases["generator"].loss(step)
    torch.testing.assert_close(loss, (1 + (real - generated).exp()).log().mean())
    assert paired(real, generated) + paired(generated, real) >= 2 * torch.tensor(2.0).log()


def test_lazy_penalties_have_the_same_mean_and_share_the_optimiser():
    both, step = networks(), a_step()
    whole, _ = r3gan(both, gamma=1.0)[0].loss(step)
    penalties, discriminator, _ = r3gan(both, gamma=1.0, penalty_every=8)
    assert (penalties.every, penalties.shares) == (8, "discriminator")
    torch.testing.assert_close(penalties.loss(step)[0] / 8 + discriminator.loss(step)[0], whole)


def test_gradients_of_gradients_go_through_the_augmentations():
    torch.manual_seed(0)
    images = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    grid = (torch.rand(2, 4, 4, 2, dtype=torch.float64) * 3 - 1.5).requires_grad_(False)
    torch.testing.assert_close(
        _Read.apply(images, grid),
        nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False),
    )
    assert torch.autograd.gradcheck(lambda x: _Read.apply(x, grid), images)
    assert torch.autograd.gradgradcheck(lambda x: _Read.apply(x, grid), images)
    both = networks()
    r3gan(both, augmentation=1.0)[0].loss(a_step())[0].backward()
    assert all(p.grad is not None for p in both["discriminator"].parameters())
    moved = augmented(images.detach().float().expand(-1, 3, -1, -1), 1.0)
    assert (moved - images).abs().max() > 0.1


def test_resampling_keeps_what_is_smooth():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert doubled(ramp)[0, 0, 0, :14].tolist() == [i / 2 for i in range(14)]
    assert halved(ramp)[0, 0, 0, 1:].tolist() == [2.0, 4.0, 6.0]
    assert torch.equal(halved(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 2, 2))


def test_blocks_start_as_the_identity_and_features_keep_their_size():
    torch.manual_seed(0)
    generator = Generator(64, (32, 32, 32), blocks=2)
    stage = generator.stages[1]
    x = torch.randn(2, 32, 8, 8)
    assert torch.equal(stage(x), x)
    images = generator(torch.randn(64, 64))
    assert 0.5 < images.std() < 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gamma": -1.0}, r"objective.gamma: got -1.0; values must be 0 or more"),
        ({"augmentation": {"last": 1.0}}, "objective.augmentation: a curve needs its peak"),
    ],
)
def test_wrong_schedules_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        r3gan(networks(), **settings)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"needs a \[discriminator\] that sees images"):
        r3gan(nn.ModuleDict({"generator": nn.Identity()}))
    sees_features = nn.Module()  # like the projected one: features of its own, from a network within
    sees_features.network, sees_features.features = nn.Identity(), nn.Identity()
    with pytest.raises(UserError, match=r"needs a \[discriminator\] that sees images"):
        r3gan(nn.ModuleDict({"generator": nn.Identity(), "discriminator": sees_features}))
    with pytest.raises(UserError, match=r"model.group: got 16, does not fit 28 channels"):
        Generator(channels=(28, 28))
