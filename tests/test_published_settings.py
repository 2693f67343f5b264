"""The settings of the recipes named after a publication are the published ones."""

import pytest

from omokage.errors import UserError
from omokage.models.progan import stage_at
from omokage.recipe import load_recipe
from omokage.schedule import batch_at, value_at

# batch, learning rates, betas, objective settings that matter
PUBLISHED = {
    "yao2021-vae": (32, {"default": 1e-3}, [0.9, 0.999], {"name": "elbo", "reconstruction": "bce"}),
    "yao2021-dcgan-mnist": (128, {"default": 2e-4}, [0.5, 0.99], {"loss": "non-saturating"}),
    "yao2021-dcgan": (128, {"default": 2e-4}, [0.5, 0.99], {"loss": "non-saturating"}),
    "yao2021-wgan": (256, None, None, {"loss": "wasserstein", "clip_weights": 0.01, "clip_gradients": 0.0}),
    "wu2020-dcgan": (
        64,
        {"default": 1e-4, "generator": 5e-4},
        None,
        {"loss": "non-saturating", "real_label": 0.9, "fake_label": 0.1},
    ),
    "wu2020-lsgan": (64, {"default": 1e-4, "generator": 5e-4}, None, {"loss": "least-squares"}),
    "liao2021-dcgan": (128, {"default": 2e-4}, None, {"loss": "non-saturating"}),
    "turubayev2022-dcgan": (128, {"default": 2e-4}, [0.5, 0.999], {"loss": "non-saturating"}),
    "wgan": (64, {"default": 5e-5}, None, {"loss": "wasserstein", "clip_weights": 0.01, "critic_steps": 5}),
    "wgan-gp": (
        64,
        {"default": 1e-4},
        [0.0, 0.9],
        {"loss": "wasserstein", "penalty": "gulrajani", "penalty_weight": 10.0, "critic_steps": 5},
    ),
    "dragan": (None, None, None, {"penalty": "dragan", "penalty_weight": 10.0, "critic_steps": 1}),
    "sagan": (
        None,
        {"default": 1e-4, "discriminator": 4e-4},
        [0.0, 0.9],
        {"loss": "hinge", "critic_steps": 1},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings(name):
    recipe = load_recipe(name)
    batch, rates, betas, objective = PUBLISHED[name]
    assert batch in (None, recipe.training.batch)
    assert rates in (None, recipe.training.learning_rate)
    assert betas in (None, recipe.training.betas)
    assert objective.items() <= recipe.objective.items()
    assert recipe.training.optimiser == ("rmsprop" if name in ("wgan", "yao2021-wgan") else "adam")


@pytest.mark.parametrize(
    ("name", "epochs", "faces"), [("wu2020-dcgan", 150, 21_551), ("liao2021-dcgan", 50, 63_632)]
)
def test_epochs_become_images(name, epochs, faces):
    assert load_recipe(name).training.images == pytest.approx(epochs * faces, rel=1e-3)


def test_both_kinds_of_clipping_are_one_override_away():
    recipe = load_recipe("yao2021-wgan", ["objective.clip_weights=0", "objective.clip_gradients=0.01"])
    assert (recipe.objective["clip_weights"], recipe.objective["clip_gradients"]) == (0.0, 0.01)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss=hing", "or 'hinge'"),
        ("penalty=r1", "gulrajani"),
        ("discriminator.norm=group", "layer"),
        ("optimiser=sgd", "adam or rmsprop"),
        ("rollbacks=-1", "at least 0"),
        ("patience_kimg=0", "above 0"),
    ],
)
def test_a_choice_that_does_not_exist(override, said):
    with pytest.raises(UserError, match=said):
        load_recipe("wgan-gp", [override])


GROWING = ("wu2020-stylegan", "liao2021-stylegan", "rai2020-stylegan-512", "progan-64")


@pytest.mark.parametrize("name", GROWING)
def test_the_adversarial_settings_of_growing_networks(name):
    recipe = load_recipe(name)
    progan = name == "progan-64"
    assert recipe.training.betas == [0.0, 0.99]
    assert recipe.objective["loss"] == ("wasserstein" if progan else "non-saturating")
    assert recipe.objective["penalty"] == ("gulrajani" if progan else "r1")
    assert (recipe.objective["penalty_weight"], recipe.objective["drift"]) == (10.0, 0.001 if progan else 0.0)
    assert recipe.discriminator["smooth"] is not progan
    if not progan:
        model = recipe.model
        assert (model["latent"], model["style"], model["depth"], model["mixing"]) == (512, 512, 8, 0.9)


def test_wu2020_grows_from_4_to_64_in_150_epochs():
    recipe = load_recipe("wu2020-stylegan")
    assert recipe.training.images == 150 * 21_551
    assert (
        stage_at(0, recipe.model["start"], 4, recipe.model["stable_kimg"], recipe.model["fade_kimg"])[0] == 0
    )
    assert grown_kimg(recipe, doublings=4) < recipe.training.images / 1000


def grown_kimg(recipe, doublings):
    """When the last size has faded in."""
    length = recipe.model["stable_kimg"] + recipe.model["fade_kimg"]
    return (doublings - recipe.model["start"]) * length


def test_liao2021_has_grown_within_its_images():
    recipe = load_recipe("liao2021-stylegan")
    assert grown_kimg(recipe, doublings=4) < recipe.training.images / 1000 == 3500


def test_rai2020_has_the_table_of_its_report():
    recipe = load_recipe("rai2020-stylegan-512")
    training, model = recipe.training, recipe.model
    batches = {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16}
    for kimg in range(0, 61_040, 50):
        level, _ = stage_at(kimg * 1000, model["start"], 7, model["stable_kimg"], model["fade_kimg"])
        assert batch_at(training.batch, kimg * 1000) == batches[min(128, 4 << level)]
    pairs = [
        tuple(
            value_at(training.learning_rate[phase], kimg * 1000) for phase in ("generator", "discriminator")
        )
        for kimg in range(0, 61_040, 1090)
    ]
    told = [pair for i, pair in enumerate(pairs) if i == 0 or pair != pairs[i - 1]]
    assert told == [
        (0.003, 0.003),
        (0.002, 0.002),
        (0.002, 0.001),
        (0.001, 0.001),
        (0.001, 0.0003),
        (0.0003, 0.0001),
        (0.0003, 0.0003),
    ]
    assert training.images == 61_040_000
    assert training.mirror
    assert model["resolution"] == [512, 512]
