import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.families import DISCRIMINATORS, MODELS
from omokage.objectives.phase import Step
from omokage.objectives.progressive import progressive
from omokage.recipe import load_recipe

SIZE = {"resolution": [16, 16], "channels": [8, 8, 8]}
GROWTH = {"start": 0, "stable_kimg": 8.0, "fade_kimg": 4.0}


def small(model="progan", **discriminator):
    torch.manual_seed(0)
    more = {"style": 8, "depth": 2} if model == "stylegan" else {}
    return nn.ModuleDict(
        {
            "generator": MODELS[model].load()(latent=8, **SIZE, **GROWTH, **more),
            "discriminator": DISCRIMINATORS["progan"].load()(**SIZE | discriminator),
        }
    )


def step_at(images, batch=4):
    torch.manual_seed(1)
    return Step(torch.randn(batch, 3, 16, 16), torch.randn(batch, 8), lambda images: images, images)


def by_name(phases):
    return {phase.name: phase for phase in phases}


def test_r1_is_half_the_squared_gradients_at_the_real_images():
    """Against derivatives by differences, pixel by pixel, in double precision."""
    networks = small(group=0).double()  # the minibatch deviation is in single precision
    networks["generator"].forward = lambda z: torch.zeros(len(z), 3, 8, 8, dtype=torch.float64)
    step = step_at(8_000 + 2_000, batch=2)  # half of 8x8 has faded in
    step.real, step.latents = step.real.double(), step.latents.double()
    phases = by_name(progressive(networks, penalty="r1"))
    plain = by_name(progressive(networks, penalty="none"))["discriminator"].loss(step)[0]
    total, told = phases["discriminator"].loss(step)

    discriminator = networks["discriminator"]
    images = networks["generator"].shown(step.real).double()
    assert images.shape == (2, 3, 8, 8)
    assert discriminator.alpha == 0.5
    squares = torch.zeros(2, dtype=torch.float64)
    nudge = 1e-5
    with torch.no_grad():
        for i in range(2):
            for pixel in range(3 * 64):
                moved = images.clone()
                moved[i].view(-1)[pixel] += nudge
                back = images.clone()
                back[i].view(-1)[pixel] -= nudge
                squares[i] += ((discriminator(moved).sum() - discriminator(back).sum()) / (2 * nudge)) ** 2
    assert told["penalty"].item() == pytest.approx(squares.mean().item() / 2, rel=1e-3)
    torch.testing.assert_close(total, plain + 10 * told["penalty"])


def test_the_wasserstein_loss_of_progan_by_hand():
    networks = small(group=0)
    phases = by_name(progressive(networks, loss="wasserstein", penalty="gulrajani", drift=0.001))
    step = step_at(30_000)
    torch.manual_seed(5)
    total, told = phases["discriminator"].loss(step)
    discriminator = networks["discriminator"]
    fake, real = networks["generator"](step.latents).detach(), step.real
    torch.manual_seed(5)
    share = torch.rand(4, 1, 1, 1)
    between = (real + share * (fake - real)).requires_grad_()
    (gradients,) = torch.autograd.grad(discriminator(between).sum(), between)
    penalty = (gradients.flatten(1).norm(dim=1) - 1).square().mean()
    logits = discriminator(real)
    expected = discriminator(fake).mean() - logits.mean() + 10 * penalty + 0.001 * logits.square().mean()
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-4)
    assert told["stage/size"] == 16
    assert phases["discriminator"].floor is None
    torch.testing.assert_close(phases["generator"].loss(step)[0], -discriminator(fake).mean())


def test_a_lazy_penalty_is_a_phase_with_the_discriminators_optimiser():
    networks = small("stylegan")
    often, seldom = (by_name(progressive(networks, penalty_every=every)) for every in (1, 16))
    assert list(seldom) == ["discriminator", "penalty", "generator"]
    lazy = seldom["penalty"]
    assert (lazy.every, lazy.shares) == (16, "discriminator")
    step = step_at(9_000)
    torch.testing.assert_close(lazy.loss(step)[0], 160 * often["discriminator"].loss(step)[1]["penalty"])
    assert "penalty" not in seldom["discriminator"].loss(step)[1]
    torch.testing.assert_close(
        often["discriminator"].loss(step)[0], seldom["discriminator"].loss(step)[0] + lazy.loss(step)[0] / 16
    )


@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize(
    ("images", "size", "alpha"), [(0, 4, 1), (8_000, 8, 0), (11_000, 8, 0.75), (25_000, 16, 1)]
)
def test_every_image_has_the_size_of_the_step(images, size, alpha, redrawn):
    networks = small("stylegan")
    seen = []
    networks["discriminator"].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for phase in progressive(networks, redrawn=redrawn):
        _, told = phase.loss(step_at(images))
        if phase.name == "discriminator":
            assert (told["stage/size"].item(), told["stage/faded in"].item()) == (size, alpha)
        else:
            assert told["variety"] > 0
    assert {tuple(looked.shape) for looked in seen} == {(4, 3, size, size)}
    assert networks["discriminator"].alpha == alpha


def test_gradients_of_parts_add_up_to_those_of_the_batch():
    """Of everything but the minibatch deviation, which is of groups of four, and mixing, which is drawn."""
    networks = small()
    networks["generator"].eval()
    phases = progressive(networks, penalty="r1")
    for phase in phases:
        gradients = []
        for size in (8, 4):
            networks.zero_grad()
            step = step_at(10_000, batch=8)
            for part in step.parts(size):
                (phase.loss(part)[0] * len(part.real) / 8).backward(inputs=phase.parameters)
            gradients.append([p.grad.clone() for p in phase.parameters if p.grad is not None])
        for whole, parts in zip(*gradients, strict=True):
            torch.testing.assert_close(whole, parts, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.start=1", "start = 1"),
        ("discriminator.base=[8, 8]", "must be those of the model"),
    ],
)
def test_what_contradicts_itself_is_refused(override, said):
    narrow = [f"{table}.channels=[4, 4, 4, 4, 4]" for table in ("model", "discriminator")]
    recipe = load_recipe("progan-64", [*([] if "base" in override else narrow), override])
    settings = {key: value for key, value in recipe.objective.items() if key != "name"}
    with torch.device("meta"):
        networks = {
            "generator": MODELS[recipe.model["name"]].build(recipe.model),
            "discriminator": DISCRIMINATORS[recipe.discriminator["name"]].build(recipe.discriminator),
        }
    with pytest.raises(UserError, match=said):
        progressive(nn.ModuleDict(networks), **settings)


def test_a_penalty_that_is_never_due_is_refused():
    with pytest.raises(UserError, match="penalty_every: got 0"):
        progressive(small(), penalty_every=0)


def test_other_networks_are_refused_with_what_to_take():
    with pytest.raises(UserError, match="needs a model that grows, progan or stylegan"):
        progressive(nn.ModuleDict({"generator": nn.Linear(1, 1), "discriminator": nn.Linear(1, 1)}))
    networks = small()
    networks["discriminator"] = nn.Linear(1, 1)
    with pytest.raises(UserError, match='"progan"'):
        progressive(networks)
    del networks["discriminator"]
    with pytest.raises(UserError, match=r"needs a table \[discriminator\]"):
        progressive(networks)
