"""What every family must hold, asked of every row of the table."""

from itertools import pairwise

import pytest
import torch
from small import small_discriminator, small_recipe
from torch import nn

from omokage.abilities import DrawsBySteps, Encodes, Exact, HasDensity, SeesMaps
from omokage.errors import UserError
from omokage.families import DISCRIMINATORS, MODELS
from omokage.listing import recipe_names
from omokage.model import Model, load_model
from omokage.objectives.phase import Step
from omokage.parameters import without_power_iterations
from omokage.recipe import load_recipe
from omokage.sampling import BATCH, gathered, latents, sample
from omokage.settings import Settings
from omokage.snapshot import write_snapshot

FEW = ("resolution=[32, 32]", "channels=[32, 16, 16, 8]")

# Recipes of a published size are run with less of everything.
GROWING = [
    f"{table}.{setting}"
    for table in ("model", "discriminator")
    for setting in ("resolution=[32, 32]", "channels=[16, 8, 8, 8]")
]
LESS = {
    "progan-64": GROWING,
    "wu2020-stylegan": GROWING,
    "liao2021-stylegan": GROWING,
    "rai2020-stylegan-512": GROWING,
    **{
        f"stylegan2-{side}": [f"{table}.{key}" for table in ("model", "discriminator") for key in FEW]
        for side in (64, 256, 512)
    },
    "glow-64-large": ["model.steps=4", "model.hidden=64"],
    "tarflow-64-large": ["model.width=96", "model.heads=2", "model.blocks=2", "model.layers=2"],
    "turubayev2022-realnvp-small": ["model.hidden=16", "model.blocks=2"],
    "turubayev2022-realnvp-deep": ["model.hidden=8"],
}


def off_start(network):
    """Move parameters a little: what starts at zero lets no gradient through to what stands before it."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    return network


def narrower(name):
    """The recipe with an eighth of its channels: which parts it has does not depend on their widths."""
    recipe = load_recipe(name)
    tables = {"model": recipe.model, "discriminator": recipe.discriminator or {}}
    return [
        f"{table}.channels={[max(8, width // 8) for width in settings['channels']]}"
        for table, settings in tables.items()
        if isinstance(settings.get("channels"), list) and all(type(w) is int for w in settings["channels"])
    ]


def built(recipe):
    torch.manual_seed(0)
    return off_start(MODELS[recipe.model["name"]].build(recipe.model))


@pytest.fixture(scope="module", params=sorted(MODELS))
def recipe(request):
    return small_recipe(request.param)


@pytest.fixture
def network(recipe):
    return built(recipe)


@pytest.fixture(scope="module")
def model(recipe):
    """The network as sampling sees it, with batch-norm statistics of real batches; no test changes it."""
    network = built(recipe)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for batch in latents(range(96), network.latent_shape).split(32):
            network(batch)
    network = network.eval().requires_grad_(False)  # which kernels run depends on the latter
    return Model(network, recipe, {"images": 96}, path=None, snapshot_hash="0" * 64)


def reached(parameters):
    """Whether a gradient other than zero reached every one of them."""
    return all(p.grad is not None and bool((p.grad != 0).any()) for p in parameters)


def opened(network):
    """The network with the gates that start at zero set to one half: what lies behind them has a gradient."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() == 1 and parameter.item() == 0:
                parameter.fill_(0.5)
    return network


def stages(network):
    """Images seen in the midst of each of its sizes fading in; 0 alone where it does not grow."""
    if not hasattr(network, "grow"):
        return [0]
    turns = range(len(network.sizes) - 1 - network.start)
    length = network.stable_kimg + network.fade_kimg
    return [round(1000 * (network.stable_kimg + turn * length + network.fade_kimg / 2)) for turn in turns]


def grown(network, images):
    """The network at that stage."""
    if hasattr(network, "grow"):
        network.grow(images)
        assert 0.4 < network.stage[1] < 0.6
    return network


def channels(network):
    return getattr(network, "image_channels", 3)


def test_latents_become_images_in_range(network):
    images = network.decode(latents(range(3), network.latent_shape))
    assert images.shape[0] == 3
    assert images.shape[1] in (1, 3)
    assert images.shape[2:] == network.resolution
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert images.flatten(1).std(0).mean() > 0  # different latents, different images


def test_a_gradient_reaches_every_parameter_and_the_latents(recipe, network):
    z = latents(range(4), opened(network).latent_shape).requires_grad_()
    outputs = [grown(network, images).decode(z) for images in stages(network)]
    images = outputs[-1]
    if MODELS[recipe.model["name"]].can(Encodes):
        outputs.append(network.encode(images))
    if hasattr(network, "posterior"):
        outputs += network.posterior(images)
    if hasattr(network, "recovered"):
        outputs.append(network.recovered(z))
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    missed = [name for name, p in network.named_parameters() if p.requires_grad and not reached([p])]
    assert missed == []
    assert reached([z])


def test_a_seed_is_the_same_face_alone_and_among_others(model):
    seeds = [*range(BATCH + 3), 17]
    together = gathered(sample(model, seeds))[0]
    assert (together[-1] == together[17]).all()
    for seed in (0, 3, 17):
        assert (gathered(sample(model, [seed]))[0][0] == together[seed]).all()
    assert not (together[0] == together[1]).all()


def test_images_do_not_depend_on_the_rest_of_the_batch(model):
    z = latents(range(5), model.latent_shape)
    together = model.decode(z)
    for i in range(5):
        torch.testing.assert_close(model.decode(z[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-4)


def test_a_saved_model_draws_the_same_pixels(model, tmp_path):
    path = tmp_path / "snapshot-000000096.safetensors"
    tensors = {f"average.{name}": tensor for name, tensor in model.network.state_dict().items()}
    write_snapshot(path, tensors, model.recipe, model.progress)
    loaded = load_model(path, device="cpu")
    z = latents(range(4), model.latent_shape)
    assert torch.equal(loaded.decode(z), model.decode(z))
    assert loaded.recipe.model == model.recipe.model
    assert (loaded.images_seen, loaded.resolution) == (96, model.resolution)


def test_what_encodes_gives_latents_and_what_does_not_says_so(model):
    images = model.decode(latents(range(3), model.latent_shape))
    if model.can(Encodes):
        assert model.encode(images).shape == (3, *model.latent_shape)
    else:
        with pytest.raises(UserError, match=r"cannot encode images; .*vae"):
            model.encode(images)


def test_truncation_goes_from_the_face_to_one_common_face(model):
    z = latents(range(6), model.latent_shape)
    spreads = [model.decode(z, Settings(psi=psi)).std(0).mean().item() for psi in (1.0, 0.7, 0.3, 0.0)]
    if not model.can(DrawsBySteps):  # these normalise what they see, and learn what less noise means
        assert all(narrow < 0.98 * wide for wide, narrow in pairwise(spreads))
    assert spreads[-1] < 1e-5


def images_for(model):
    """Continuous images that no clamp touches."""
    return torch.rand(3, 3, *model.resolution, generator=torch.Generator().manual_seed(0)) * 1.98 - 0.99


def test_what_can_encode_comes_back(model):
    if not model.can(Encodes):
        pytest.skip("cannot encode")
    images = images_for(model)
    z = model.network.encode(images)
    assert z.shape == (3, *model.latent_shape)
    if model.can(Exact):
        torch.testing.assert_close(model.decode(z), images, atol=1e-4, rtol=0)
    if model.can(SeesMaps):  # what a map does not hold is lost
        autoencoder = model.network.autoencoder
        images = autoencoder.drawn(autoencoder.posterior(images)[0]).clamp(-1, 1)
    if model.can(DrawsBySteps):  # the error is that of the steps
        assert (model.inverse(z) - images).abs().mean() < 0.05


def test_a_likelihood_does_not_depend_on_the_rest_of_the_batch(model):
    if not model.can(HasDensity):
        pytest.skip("has no likelihood")
    images = images_for(model)
    together = model.network.log_prob(images)
    assert together.shape == (3,)
    for i in range(3):
        alone = model.network.log_prob(images[i : i + 1])[0]
        torch.testing.assert_close(alone, together[i], atol=1e-2, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(DISCRIMINATORS))
def test_a_gradient_reaches_every_parameter_of_a_discriminator_and_the_images(name):
    torch.manual_seed(0)
    discriminator = opened(off_start(small_discriminator(name)))
    look = getattr(discriminator, "features", lambda images: images)
    images = (torch.randn(8, 3, *discriminator.resolution) / 2).clamp(-1, 1).requires_grad_()
    logits = discriminator(look(images))
    scales = logits if isinstance(logits, list) else [logits]
    if hasattr(discriminator, "alpha"):  # every size, in the midst of fading in
        discriminator.alpha = 0.5
        halvings = range(len(discriminator.sizes))
        scales = [discriminator(nn.functional.avg_pool2d(images, 2**halving)) for halving in halvings]
    assert all(scale.shape[0] == 8 for scale in scales)
    sum((scale * torch.randn_like(scale)).sum() for scale in scales).backward()
    missed = [name for name, p in discriminator.named_parameters() if p.requires_grad and not reached([p])]
    # What all keys have in common cancels in the softmax: its gradient is 0, or what rounding leaves of it.
    assert [name for name in missed if not name.endswith("key.bias")] == []
    assert reached([images])


@pytest.mark.parametrize("name", sorted(DISCRIMINATORS))
def test_a_discriminator_says_what_it_takes_and_takes_64_px_unasked(name):
    with torch.device("meta"), without_power_iterations():
        assert DISCRIMINATORS[name].load()().resolution == (64, 64)


@pytest.mark.parametrize("name", recipe_names())
def test_every_phase_of_every_recipe_reaches_what_it_trains(name):
    from omokage.families import OBJECTIVES

    recipe = load_recipe(name, LESS[name] if name in LESS else narrower(name))
    torch.manual_seed(0)
    networks = nn.ModuleDict({"generator": MODELS[recipe.model["name"]].build(recipe.model)})
    if recipe.discriminator:
        networks["discriminator"] = DISCRIMINATORS[recipe.discriminator["name"]].build(recipe.discriminator)
    settings = {key: value for key, value in recipe.objective.items() if key != "name"}
    phases = OBJECTIVES[recipe.objective["name"]].load()(off_start(networks), **settings)
    trained = [parameter for phase in phases if phase.shares is None for parameter in phase.parameters]
    assert len(trained) == len(set(map(id, trained)))
    assert {id(p) for p in networks.parameters() if p.requires_grad} == set(map(id, trained))
    size = channels(networks["generator"]), *networks["generator"].resolution
    batch = 8 if recipe.discriminator else 2
    real = (torch.randn(batch, *size) / 2).clamp(-1, 1)
    if isinstance(networks["generator"], SeesMaps):
        real = networks["generator"].standardised(real)
    z = latents(range(batch), networks["generator"].latent_shape)
    steps = [Step(real, z, lambda images: images, seen) for seen in stages(networks["generator"])]
    # A bias of the logit cancels between real and generated images where the loss is linear.
    free = {id(p) for p_name, p in networks.named_parameters() if p.numel() == 1 and p_name.endswith("bias")}
    opened(networks)
    for phase in phases:
        networks.zero_grad(set_to_none=True)
        for step in steps:
            loss, numbers = phase.loss(step)
            assert loss.shape == ()
            assert all(torch.isfinite(number) for number in (loss, *numbers.values()))
            loss.backward()
        if phase.shares is None:
            assert reached(p for p in phase.parameters if id(p) not in free), phase.name
        else:  # a penalty on gradients has none for most biases
            assert all(reached([p]) for p in phase.parameters if p.dim() == 4), phase.name


def test_the_dcgan_recipe_is_the_tutorials():
    recipe = load_recipe("dcgan")
    assert (recipe.training.batch, recipe.training.betas) == (128, [0.5, 0.999])
    generator = MODELS["dcgan"].build(recipe.model)
    discriminator = DISCRIMINATORS["dcgan"].build(recipe.discriminator)
    assert sum(p.numel() for p in generator.parameters()) == 3_576_704
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_568
