"""What every family that takes conditions must hold with them."""

from dataclasses import replace

import pytest
import torch
from standins import smallest
from torch import nn

from omokage.abilities import Encodes, Guided, SeesMaps, TakesConditions
from omokage.errors import UserError
from omokage.families import (
    DISCRIMINATORS,
    MODELS,
    OBJECTIVES,
    build_discriminator,
    build_model,
)
from omokage.listing import recipe_names
from omokage.model import Model, load_model
from omokage.models.conditional import unconditioned
from omokage.objectives.phase import Step
from omokage.recipe import load_recipe, read_recipe
from omokage.sampling import BATCH, gathered, latents, sample
from omokage.settings import Settings
from omokage.snapshot import write_snapshot

CONDITIONS = {"hair": ["blue", "red"], "eyes": ["blue", "green", "unknown"]}
EVERY = torch.tensor([[i % 2, i % 3] for i in range(6)])  # each value of each condition

# Enough settings to make them small and of one size.
MODELS_OF_16 = {
    "dcgan": {"channels": [8, 8], "latent": 8},
    "dense-dcgan": {"channels": [8, 8], "strides": [2, 2], "first_size": 4, "latent": 8},
    "vae": {"channels": [4, 4, 4, 4], "latent": 8},  # always 64 px
    "illustration": {"channels": [8, 8], "dense": [16], "latent": 8},
    "sagan": {"channels": [8, 8, 8], "attention_at": 8, "latent": 8},
    "skipgan": {"channels": [8, 8, 8, 8], "latent": 8},
    "stylegan2": {"channels": [8, 8, 8], "resolution": [16, 16], "latent": 8, "style": 8, "depth": 1},
    "tarflow": {"size": 16, "patch": 4, "width": 16, "heads": 2, "blocks": 2, "layers": 1},
    "r3gan": {"channels": [8, 8, 8], "blocks": 1, "group": 4, "latent": 8},
    "pixel-transformer": {"size": 16, "width": 16, "heads": 2, "depth": 1, "steps": 3, "encoding_steps": 8},
    "unet": {"size": 16, "channels": [8, 8], "heads": 2, "attention_at": 8, "steps": 3, "encoding_steps": 8},
    "latent-transformer": {
        "size": 16, "latent": 4, "channels": [8, 8], "width": 16, "heads": 2, "depth": 1, "steps": 3,
        "encoding_steps": 8,
    },
}
DISCRIMINATORS_OF_16 = {
    "dcgan": {"channels": [8, 8]},
    "dense-dcgan": {"resolution": 16, "channels": [8, 8], "strides": [2, 2], "padded": []},
    "illustration": {"resolution": 16, "channels": [8, 8], "dense": 8},
    "sagan": {"resolution": 16, "channels": [8, 8], "attention_at": 8},
    "r3gan": {"channels": [8, 8, 8], "blocks": 1, "group": 4},
    "projected": {"resolution": 32, "seen_at": [[0, 64]], "width": 8},
    "stylegan2": {"channels": [8, 8, 8], "resolution": [16, 16]},
}


PLAIN = {
    "vae": "yao2021-vae",
    "tarflow": "tarflow-64",
    "pixel-transformer": "flow-64",
    "unet": "edm-64",
    "latent-transformer": "latent-flow-64",
}  # recipes that need no discriminator


def able(rows):
    return sorted(name for name, row in rows.items() if row.can(TakesConditions))


def generator(name):
    torch.manual_seed(0)
    network = build_model({"name": name, **(MODELS_OF_16.get(name) or smallest(name))}, CONDITIONS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
            if parameter.numel() == 1 and abs(parameter.item()) < 0.1:
                parameter.fill_(0.5)  # a gate that starts at zero
    return network


@pytest.fixture(params=able(MODELS))
def model(request):
    """With batch-norm statistics of real batches, as sampling sees it."""
    network = generator(request.param)
    network.seen.copy_(torch.tensor([10.0, 20, 0, 30, 5, 35]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for z in latents(range(96), network.latent_shape).split(32):
            network(z, network.drawn(z[:, network.latent :]))
    plain = load_recipe(PLAIN.get(request.param, "dcgan"), ["condition=hair,eyes"])
    settings = {"name": request.param, **(MODELS_OF_16.get(request.param) or smallest(request.param))}
    recipe = replace(plain, model=settings, conditions=CONDITIONS)
    recipe = read_recipe(recipe.to_toml(), "test")  # checked and completed
    return Model(network.eval().requires_grad_(False), recipe, {"images": 96}, None, "0" * 64)


def test_every_dcgan_like_family_takes_conditions():
    assert {"dcgan", "dense-dcgan", "vae", "illustration", "sagan", "skipgan"} <= set(able(MODELS))
    assert "tarflow" in able(MODELS)
    assert {"dcgan", "dense-dcgan", "illustration", "sagan", "projected"} <= set(able(DISCRIMINATORS))


def test_images_in_range_that_differ_by_their_conditions_alone(model):
    z = latents([3] * 6, model.latent_shape)
    images = torch.cat([model.decode(z[:1], asked(named)) for named in every_name()])
    assert images.shape[2:] == model.resolution
    assert images.abs().max() <= 1
    assert all((images[i] - images[j]).abs().max() > 1e-4 for i in range(6) for j in range(i))


def every_name():
    return [{"hair": hair, "eyes": eyes} for hair in CONDITIONS["hair"] for eyes in CONDITIONS["eyes"]]


def asked(named, **more):
    return Settings(conditions=named, **more)


def test_a_seed_is_the_same_face_alone_and_among_others(model):
    for settings in (Settings(), asked({"hair": "red"})):
        seeds = [*range(BATCH + 3), 17]
        together = gathered(sample(model, seeds, settings))[0]
        assert (together[-1] == together[17]).all()
        assert (gathered(sample(model, [17], settings))[0][0] == together[17]).all()
        assert not (together[0] == together[1]).all()


def test_truncation_goes_to_one_common_face_and_keeps_what_is_asked(model):
    z = latents(range(6), model.latent_shape)
    spreads = [model.decode(z, Settings(psi=psi)).std(0).mean().item() for psi in (1.0, 0.3, 0.0)]
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 1e-5
    frequent = {"hair": "red", "eyes": "unknown"}  # 65 have red hair, 35 of them this
    torch.testing.assert_close(model.decode(z, Settings(psi=0.0)), model.decode(z, asked(frequent, psi=0.0)))
    found = [model.decode(z[:1], asked(named, psi=0.0)) for named in every_name()]
    assert all((found[i] - found[j]).abs().max() > 1e-4 for i in range(6) for j in range(i))


def test_a_saved_model_draws_the_same_pixels(model, tmp_path):
    path = tmp_path / "snapshot-000000000096.safetensors"
    tensors = {f"average.{name}": tensor for name, tensor in model.network.state_dict().items()}
    write_snapshot(path, tensors, model.recipe, model.progress)
    loaded = load_model(path, device="cpu")
    z = latents(range(4), model.latent_shape)
    assert torch.equal(loaded.decode(z), model.decode(z))
    green = asked({"eyes": "green"})
    assert torch.equal(loaded.decode(z, green), model.decode(z, green))
    assert loaded.conditions == CONDITIONS


def test_what_encodes_gives_latents(model):
    if not model.can(Encodes):
        pytest.skip("cannot encode")
    z = model.encode(torch.zeros(2, 3, *model.resolution))
    assert z.shape == (2, *model.latent_shape)
    assert model.decode(z, asked({"hair": "red"})).shape == (2, 3, *model.resolution)


def test_guidance_changes_faces_of_those_that_have_it_and_is_refused_by_the_others(model):
    red, guided = asked({"hair": "red"}), asked({"hair": "red"}, guidance=2.0)
    z = latents(range(2), model.latent_shape)
    guided_families = "latent-transformer, pixel-transformer, tarflow, unet"
    if not model.can(Guided):
        with pytest.raises(UserError, match=f"has no guidance; these families can: {guided_families}"):
            model.check(guided)
        return
    assert model.check(guided) is guided
    assert torch.equal(model.decode(z, replace(red, guidance=0.0)), model.decode(z, red))
    assert (model.decode(z, guided) - model.decode(z, red)).abs().max() > 1e-3
    with pytest.raises(UserError, match="trained without conditions"):
        replace(model, recipe=replace(model.recipe, conditions={})).check(Settings(guidance=2.0))


@pytest.mark.parametrize("name", able(MODELS))
def test_a_gradient_reaches_every_parameter(name):
    network = generator(name)
    z = latents(range(6), network.latent_shape).requires_grad_()
    outputs = [network(z, EVERY)]
    if name == "vae":
        outputs += network.posterior(outputs[0])
    if name == "illustration":
        outputs.append(network.recovered(z, EVERY))
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    learnt = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    missed = [n for n, p in learnt if p.grad is None or not (p.grad != 0).any()]
    missed = [n for n in missed if not n.endswith("key.bias")]  # a softmax does not feel it
    assert missed == []
    assert (z.grad[:, : network.latent] != 0).any()
    assert (z.grad[:, network.latent :] == 0).all()  # replaced by what is given


@pytest.mark.parametrize("name", able(DISCRIMINATORS))
def test_a_discriminator_judges_by_projection(name):
    settings = {"name": name, **DISCRIMINATORS_OF_16.get(name, {})}
    torch.manual_seed(0)
    discriminator = build_discriminator(settings, CONDITIONS)
    for parameter in discriminator.parameters():
        if parameter.requires_grad and parameter.numel() == 1 and parameter.item() == 0:
            parameter.data.fill_(0.5)  # a gate that starts at zero
        if parameter.dim() == 4 and not parameter.any():
            parameter.data.normal_(0, 0.1)  # the last convolution of a block, which does too
    size = settings.get("resolution", 16)
    images = torch.rand(6, 3, *(size if isinstance(size, list) else (size, size))).requires_grad_()
    logits = discriminator(discriminator.features(images), EVERY)
    scales = logits if isinstance(logits, list) else [logits]
    assert all(len(scale) == 6 for scale in scales)
    sum((scale * torch.randn_like(scale)).sum() for scale in scales).backward()
    wanted = [(n, p) for n, p in discriminator.named_parameters() if p.requires_grad]
    missed = [n for n, p in wanted if p.grad is None or not (p.grad != 0).any()]
    assert [n for n in missed if not n.endswith("key.bias")] == []
    assert (images.grad != 0).any()
    discriminator.eval()
    with torch.no_grad():
        seen = discriminator.features(images)
        outputs = discriminator.network(seen)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        judged = discriminator(seen, EVERY)
        judged = judged if isinstance(judged, list) else [judged]
        for raw, scale in zip(outputs, judged, strict=True):
            for i, (hair, eyes) in enumerate(EVERY.tolist()):
                expected = raw[i, 0] + raw[i, 1 + hair] + raw[i, 3 + eyes]
                torch.testing.assert_close(scale[i], expected, atol=1e-4, rtol=1e-4)


NARROW = {
    "dcgan": ({"channels": [8, 8], "latent": 8}, {"channels": [8, 8]}),
    "dense-dcgan": (MODELS_OF_16["dense-dcgan"], DISCRIMINATORS_OF_16["dense-dcgan"]),
    "illustration": (MODELS_OF_16["illustration"], DISCRIMINATORS_OF_16["illustration"]),
    "sagan": (MODELS_OF_16["sagan"], DISCRIMINATORS_OF_16["sagan"]),
    "vae": (MODELS_OF_16["vae"], {}),
    "skipgan": ({"channels": [8, 8, 8, 8, 8], "latent": 8}, {"width": 8, "seen_at": [[0, 64]]}),
    "tarflow": (MODELS_OF_16["tarflow"], {}),
    "pixel-transformer": (MODELS_OF_16["pixel-transformer"], {}),
    "unet": (MODELS_OF_16["unet"], {}),
    "latent-transformer": (MODELS_OF_16["latent-transformer"], {}),
    "r3gan": (MODELS_OF_16["r3gan"], DISCRIMINATORS_OF_16["r3gan"]),
}
TAKING = [name for name in recipe_names() if load_recipe(name).model["name"] in NARROW]


@pytest.mark.parametrize("name", TAKING)
def test_every_such_recipe_trains_what_it_should(name):
    recipe = load_recipe(name)
    model, discriminator = NARROW[recipe.model["name"]]
    networks = nn.ModuleDict({"generator": build_model({**recipe.model, **model}, CONDITIONS)})
    if recipe.discriminator:
        own = {**recipe.discriminator, **discriminator}
        networks["discriminator"] = build_discriminator(own, CONDITIONS)
    settings = {key: value for key, value in recipe.objective.items() if key != "name"}
    phases = OBJECTIVES[recipe.objective["name"]].load()(networks, **settings)
    generator = networks["generator"]
    real = torch.randn(6, generator.image_channels, *generator.resolution).clamp(-1, 1)
    if isinstance(inner := unconditioned(generator), SeesMaps):
        real = inner.standardised(real)
    step = Step(real, latents(range(6), generator.latent_shape), lambda images: images, 0, (EVERY,))
    for phase in phases:
        networks.zero_grad(set_to_none=True)
        loss, numbers = phase.loss(step)
        assert all(torch.isfinite(number) for number in (loss, *numbers.values()))
        loss.backward(inputs=phase.parameters)
        assert any((p.grad != 0).any() for p in phase.parameters if p.grad is not None)
        if phase.judge:
            assert all(torch.isfinite(number) for number in phase.judge(step).values())
