"""Crops of eyes and mouths with heads of their own."""

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.dcgan import Generator
from omokage.models.projected import ProjectedDiscriminator
from omokage.objectives.adversarial import ADVERSARIAL_LOSSES
from omokage.objectives.details import ACROSS, DOWN, Details
from omokage.objectives.game import Game
from omokage.objectives.phase import Step
from omokage.objectives.vae_gan import vae_gan


def networks(details_at=32):
    torch.manual_seed(0)
    judge = ProjectedDiscriminator(resolution=32, seen_at=[[0, 32]], width=8, details_at=details_at)
    return nn.ModuleDict({"generator": Generator(latent=4, channels=(8, 8, 8)), "discriminator": judge})


def step(count=8):
    torch.manual_seed(1)
    return Step(torch.rand(count, 3, 32, 32) * 2 - 1, torch.randn(count, 4), lambda images: images)


def test_a_crop_is_half_as_high_and_wide_around_its_place():
    judge = networks()["discriminator"]
    seen = []
    judge.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 64, 64)
    judge.detail_features(images, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    torch.testing.assert_close(seen[0][0], images[0, :, 16:48, 16:48], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0][1], images[1, :, 32:, :32], atol=1e-5, rtol=0)


def test_the_places_lie_where_eyes_and_mouths_are():
    parts, here = networks(), step(64)
    places = []
    judge = parts["discriminator"]
    whole = judge.detail_features
    judge.detail_features = lambda images, at: (places.append(at), whole(images, at))[1]
    Details(Game(parts, "gan"), ADVERSARIAL_LOSSES["hinge"](), 24, 0.5).discriminator(here, torch.zeros(()))
    for at in places:
        assert at.shape == (24, 2)
        assert ACROSS[0] <= at[:, 0].min() < at[:, 0].max() <= ACROSS[1]
        assert DOWN[0] <= at[:, 1].min() < at[:, 1].max() <= DOWN[1]
    assert len(places) == 2


def test_both_networks_learn_from_crops_alone():
    parts, here = networks(), step()
    details = Details(Game(parts, "gan"), ADVERSARIAL_LOSSES["hinge"](), 4, 0.5)
    total, told = details.discriminator(here, torch.zeros(()))
    torch.testing.assert_close(total, 0.5 * told["loss/details"])
    total.backward()
    heads = dict(parts["discriminator"].details.named_parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in heads.values())
    assert all(parameter.grad is None for parameter in parts["discriminator"].heads.parameters())
    assert all(parameter.grad is None for parameter in parts["generator"].parameters())
    details.generator(here, torch.zeros(()))[0].backward()
    assert all(parameter.grad is not None for parameter in parts["generator"].parameters())


def test_the_objective_trains_the_heads_and_tells_their_loss():
    parts, here = networks(), step()
    first, second = vae_gan(parts, loss="hinge", details=4)
    trained = set(map(id, first.parameters))
    assert all(id(parameter) in trained for parameter in parts["discriminator"].details.parameters())
    loss, told = first.loss(here)
    assert "loss/details" in told
    assert loss > told["loss/discriminator"]
    second.loss(here)[0].backward()


def test_without_heads_for_crops_the_objective_says_what_to_set():
    with pytest.raises(UserError, match=r"objective\.details: no head sees crops; set discriminator"):
        vae_gan(networks(0), details=4)
    with pytest.raises(UserError, match="details_at: got 40, must be a multiple of 32"):
        networks(40)


def test_a_discriminator_without_crops_has_the_weights_that_it_had():
    names = networks(0)["discriminator"].state_dict()
    assert not any(name.startswith("details") for name in names)
