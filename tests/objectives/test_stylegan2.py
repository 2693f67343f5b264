import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.conditional import ConditionalDiscriminator, ConditionalGenerator
from omokage.models.dcgan import Generator as Dcgan
from omokage.models.projected import ProjectedDiscriminator
from omokage.models.stylegan2 import Discriminator, Generator
from omokage.objectives.phase import Phase, Step, pace
from omokage.objectives.stylegan2 import stylegan2

SIZE = {"resolution": (16, 16), "channels": (16, 8, 8)}


def pair(**generator):
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "generator": Generator(latent=8, style=8, depth=2, mixing=0.0, noise=False, **SIZE, **generator),
            "discriminator": Discriminator(**SIZE),
        }
    )


def step_of(batch, networks, images=0):
    torch.manual_seed(1)
    real = torch.randn(batch, 3, 16, 16).clamp(-1, 1)
    return Step(real, torch.randn(batch, *networks["generator"].latent_shape), lambda images: images, images)


def by_name(phases):
    return {phase.name: phase for phase in phases}


def test_r1_against_autograd_by_hand():
    """Image by image, the squared length of the logit's gradient; gamma / 2 of the mean, 16 times."""
    networks = nn.ModuleDict({**pair(), "discriminator": Discriminator(**SIZE, group=0)})
    step = step_of(4, networks)
    loss, told = by_name(stylegan2(networks, r1=3.0))["r1"].loss(step)
    squares = []
    for image in step.real:
        image = image[None].clone().requires_grad_()
        networks["discriminator"](image).backward()
        squares.append(image.grad.square().sum().item())
    assert told["penalty/r1"].item() == pytest.approx(sum(squares) / 4 / 2, rel=1e-4)
    assert loss.item() == pytest.approx(16 * 3.0 / 2 * sum(squares) / 4, rel=1e-4)


@pytest.mark.parametrize("name", ["discriminator", "r1", "generator", "path length"])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(name):
    """Minibatch deviation, R1 and path lengths included: groups and running means are whole in each part."""
    networks = pair()
    phases = stylegan2(networks, path_length_share=1)
    phase = by_name(phases)[name]
    gradients = []
    for size in (0, 8, 4):
        step = step_of(16, networks, images=0)
        torch.manual_seed(2)  # the noise of path lengths
        for part in step.parts(size):
            loss, _ = phase.loss(part)
            (loss * (len(part.real) / 16)).backward(inputs=phase.parameters)
        gradients.append([p.grad.clone() if p.grad is not None else None for p in phase.parameters])
        networks.zero_grad(set_to_none=True)
    whole = gradients[0]
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in whole)
    for parts in gradients[1:]:
        for one, other in zip(parts, whole, strict=True):
            if other is not None:
                torch.testing.assert_close(one, other, atol=2e-5 * (1 + other.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("name", ["discriminator", "r1", "generator"])
def test_images_drawn_again_change_no_gradient(name):
    """Without noise and mixing they are the same images."""
    networks = pair()
    gradients = []
    for redrawn in (False, True):
        phase = by_name(stylegan2(networks, redrawn=redrawn))[name]
        phase.loss(step_of(8, networks))[0].backward(inputs=phase.parameters)
        gradients.append([p.grad.clone() for p in phase.parameters if p.grad is not None])
        networks.zero_grad(set_to_none=True)
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_lazy_phases_share_optimisers_at_a_slower_pace():
    phases = stylegan2(pair(), r1_every=16, path_length_every=4)
    assert [(phase.name, phase.every, phase.shares) for phase in phases] == [
        ("r1", 16, "discriminator"),
        ("discriminator", 1, None),
        ("generator", 1, None),
        ("path length", 4, "generator"),
    ]
    assert [pace(phase, phases) for phase in phases] == pytest.approx([16 / 17, 16 / 17, 4 / 5, 4 / 5])
    assert pace(Phase("alone", [], None), [Phase("alone", [], None)]) == 1


def test_what_weighs_nothing_is_left_out():
    phases = stylegan2(pair(), r1=0.0, path_length=0.0)
    assert [phase.name for phase in phases] == ["discriminator", "generator"]


def test_adaptive_augmentation_sees_the_logits_and_acts_on_both_kinds_of_images():
    networks = pair()
    phases = by_name(stylegan2(networks, ada_target=0.6, ada_kimg=0.001, ada_every=1))
    assert {"augmentation.p", "path_length.mean"} <= networks.state_dict().keys()
    for images in (0, 4):
        with torch.no_grad():
            networks["discriminator"].logit.bias.fill_(100.0)  # sure of everything
        _, told = phases["discriminator"].loss(step_of(4, networks, images))
    assert told["augmentation/p"] == 1.0
    assert told["augmentation/sign"] == 1.0
    step = step_of(4, networks, 4)
    seen = []
    networks["discriminator"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    phases["discriminator"].loss(step)
    drawn = networks["generator"](step.latents)
    assert not torch.equal(seen[0], step.real)
    assert not torch.allclose(seen[1], drawn)


def test_networks_that_do_not_fit_are_refused():
    networks = pair()
    with pytest.raises(UserError, match="no styles"):
        stylegan2(nn.ModuleDict({**networks, "generator": Dcgan(channels=(8, 8))}))
    with pytest.raises(UserError, match="sees images"):
        stylegan2(nn.ModuleDict({"generator": networks["generator"]}))
    with pytest.raises(UserError, match="sees images"):
        stylegan2(
            nn.ModuleDict({**networks, "discriminator": ProjectedDiscriminator(32, seen_at=32, width=8)})
        )
    with pytest.raises(UserError, match="r1_every"):
        stylegan2(networks, r1_every=0)
    with pytest.raises(UserError, match="ada_target"):
        stylegan2(networks, ada_target=1.0)


def test_every_phase_sees_the_conditions():
    torch.manual_seed(0)
    values = {"hair": ["blue", "red"]}
    inner = Generator(latent=8, style=8, depth=2, joined=2, noise=False, **SIZE)
    generator = ConditionalGenerator(inner, values)
    judge = ConditionalDiscriminator(Discriminator(**SIZE, outputs=3), [2])
    networks = nn.ModuleDict({"generator": generator, "discriminator": judge})
    plain = step_of(4, networks)
    losses = []
    for given in (torch.zeros(4, 1, dtype=torch.long), torch.ones(4, 1, dtype=torch.long)):
        step = Step(plain.real, plain.latents, plain.augment, 0, (given,))
        torch.manual_seed(2)
        losses.append({phase.name: phase.loss(step)[0].item() for phase in stylegan2(networks)})
    assert set(losses[0]) == {"r1", "discriminator", "generator", "path length"}
    assert all(losses[0][name] != losses[1][name] for name in losses[0])
