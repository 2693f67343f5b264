"""The settings of the recipes named after a publication are the published ones."""

import pytest

from omokage.errors import UserError
from omokage.recipe import load_recipe

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
