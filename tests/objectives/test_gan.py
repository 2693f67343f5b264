from inspect import signature
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.dcgan import Discriminator, Generator
from omokage.models.illustration import Generator as Predicting
from omokage.models.projected import ProjectedDiscriminator
from omokage.objectives.adversarial import ADVERSARIAL_LOSSES
from omokage.objectives.gan import gan
from omokage.objectives.penalties import PENALTIES, gulrajani
from omokage.objectives.phase import Step
from omokage.objectives.vae_gan import vae_gan


def networks(norm="batch"):
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "generator": Generator(latent=4, channels=(8, 8)),
            "discriminator": Discriminator(channels=(8, 8), norm=norm),
        }
    )


def step():
    torch.manual_seed(1)
    return Step(torch.randn(6, 3, 16, 16), torch.randn(6, 4), lambda images: images)


def test_the_names_of_the_signature_are_those_of_the_tables():
    for objective in (gan, vae_gan):
        hints = get_type_hints(objective)
        assert get_args(hints["loss"]) == tuple(ADVERSARIAL_LOSSES)
        assert get_args(hints["penalty"]) == ("none", *PENALTIES)


def test_what_the_two_objectives_share_has_the_same_defaults():
    plain, redrawing = (signature(objective).parameters for objective in (gan, vae_gan))
    assert {name: redrawing[name] for name in plain} == dict(plain)


@pytest.mark.parametrize("penalty", ["none", *PENALTIES])
@pytest.mark.parametrize("loss", ADVERSARIAL_LOSSES)
def test_gradients_of_a_phase_land_on_its_own_network_only(loss, penalty):
    both = networks("layer")
    here = step()
    for phase in gan(both, loss=loss, penalty=penalty):
        phase.loss(here)[0].backward(inputs=phase.parameters)
        for name, network in both.items():
            grads = [parameter.grad for parameter in network.parameters()]
            assert all((grad is not None) == (name == phase.name) for grad in grads)
        both.zero_grad(set_to_none=True)


def test_the_discriminator_never_moves_the_generator_even_unasked():
    both = networks("layer")
    discriminator = gan(both, loss="wasserstein", penalty="gulrajani")[0]
    discriminator.loss(step())[0].backward()
    assert all(parameter.grad is None for parameter in both["generator"].parameters())


def test_labels_reach_the_loss():
    both, here = networks(), step()
    discriminator, generator = gan(both, real_label=0.9, fake_label=0.1)
    total, told = discriminator.loss(here)
    real = both["discriminator"](here.real)
    fake = both["discriminator"](both["generator"](here.latents))
    expected = ADVERSARIAL_LOSSES["non-saturating"](0.9, 0.1)
    torch.testing.assert_close(total, expected.discriminator(real, fake))
    torch.testing.assert_close(generator.loss(here)[0], expected.generator(fake))
    assert told["logits/real"].item() == pytest.approx(real.mean().item(), abs=1e-6)


def test_the_penalty_is_added_with_its_weight():
    both, here = networks("layer"), step()
    critic = gan(both, loss="wasserstein", penalty="gulrajani", penalty_weight=7.0)[0]
    here.augmented(here.real)  # has drawn its seed
    torch.manual_seed(2)
    total, told = critic.loss(here)
    torch.manual_seed(2)
    fake = both["generator"](here.latents).detach()
    expected = gulrajani(both["discriminator"], here.real, fake)
    torch.testing.assert_close(told["penalty"], expected)
    torch.testing.assert_close(total, told["loss/discriminator"] + 7 * expected)


def test_phases_say_when_they_run_and_what_is_cut():
    critic, generator = gan(
        networks(), loss="wasserstein", critic_steps=5, clip_weights=0.01, clip_gradients=0.02
    )
    assert (critic.every, critic.clip_weights, critic.clip_gradients) == (1, 0.01, 0.02)
    assert (generator.every, generator.clip_weights, generator.clip_gradients) == (5, 0, 0)


def test_variety_is_that_of_generated_images_as_a_share_of_that_of_real_ones():
    both, here = networks(), step()
    images = both["generator"](here.latents).detach()
    told = gan(both)[1].loss(here)[1]
    expected = images.std(0, correction=0).mean() / here.real.std(0, correction=0).mean()
    torch.testing.assert_close(told["variety"], expected)
    same = Step(here.real, here.latents[:1].expand(6, -1), lambda images: images + torch.randn(6, 1, 1, 1))
    assert gan(both)[1].loss(same)[1]["variety"] < 1e-6  # whatever an augmentation adds


def test_the_predictor_is_trained_with_the_generator():
    both = networks()
    both["generator"] = Predicting(latent=4, channels=(8, 8), dense=(8,))
    here = step()
    generator = gan(both, prediction_weight=2.0)[1]
    total, told = generator.loss(here)
    error = (both["generator"].recovered(here.latents) - here.latents).square().mean()
    torch.testing.assert_close(told["prediction error"], error)
    torch.testing.assert_close(total, told["loss/generator"] + 2 * error)
    assert {id(p) for p in both["generator"].predictor.parameters()} <= set(map(id, generator.parameters))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "hinge", "real_label": 0.9}, "has no labels"),
        ({"critic_steps": 0}, "at least 1"),
        ({"prediction_weight": 1.0}, "predicts no latents"),
    ],
)
def test_contradictions_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        gan(networks(), **settings)


def test_without_a_discriminator():
    with pytest.raises(UserError, match="discriminator"):
        gan(nn.ModuleDict({"generator": Generator(channels=(8,))}))


def projected():
    torch.manual_seed(0)
    small = ProjectedDiscriminator(resolution=32, seen_at=[[0, 32]], width=8)
    return nn.ModuleDict({"generator": Generator(latent=4, channels=(8, 8, 8)), "discriminator": small})


def test_both_see_the_generator_where_half_of_its_images_redraw_real_ones():
    both = projected()
    here = Step(torch.rand(8, 3, 32, 32) * 2 - 1, torch.randn(8, 4), lambda images: images)
    for phase in vae_gan(both, loss="hinge", reconstruction_weight=1.0):
        phase.loss(here)[0].backward(inputs=phase.parameters)
    assert all(parameter.grad.abs().max() > 0 for parameter in both["generator"].parameters())
