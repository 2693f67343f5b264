import ast
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import omokage.recipe
from omokage.errors import UserError
from omokage.listing import recipe_names
from omokage.recipe import Training, load_recipe, read_recipe
from omokage.training.augment import AUGMENTATIONS
from omokage.training.optimisers import OPTIMISERS


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_written_out_is_the_same_recipe(name):
    recipe = load_recipe(name)
    again = read_recipe(recipe.to_toml(), "again")
    assert again == recipe
    assert again.trained_alike(recipe)
    assert recipe.title
    assert recipe.source


def test_overrides_by_path_and_by_bare_name():
    recipe = load_recipe("fast", ["batch=32", "model.latent=64", 'training.augment=["cutout"]', "seed=3"])
    assert (recipe.training.batch, recipe.model["latent"], recipe.training.seed) == (32, 64, 3)
    assert recipe.training.augment == ["cutout"]
    assert not recipe.trained_alike(load_recipe("fast"))
    assert load_recipe("fast", ["keep=0", "images=5"]).trained_alike(load_recipe("fast"))


def test_words_need_no_quotes():
    assert load_recipe("fast", ["precision=fp32"]).training.precision == "fp32"


def test_points_of_a_learning_rate():
    recipe = load_recipe("dcgan", ["learning_rate={ default = [[0, 1e-3], [10, 1e-4]], generator = 1e-5 }"])
    assert recipe.training.learning_rate["generator"] == 1e-5


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("fasd", [], "did you mean fast"),
        ("fast", ["batsh=32"], "did you mean"),
        ("fast", ["batch"], "is not key=value"),
        ("fast", ["batch=0"], "at least 1"),
        ("fast", ["batch=1.5"], "whole number"),
        ("fast", ["mirror=perhaps"], "true or false"),
        ("fast", ["model.name=stylegan9"], "is not known"),
        ("fast", ["model.channels=7"], "must be a list"),
        ("fast", ["model.latent=many"], "whole number"),
        ("fast", ["modell.latent=7"], "did you mean model"),
        ("fast", ["training.precision=fp8"], '"bf16"'),
        ("fast", ["augment=['turn']"], "is not known"),
        ("fast", ["betas=[0.5]"], "two numbers"),
        ("fast", ["learning_rate={ default = -1 }"], "0 or more"),
        ("fast", ["learning_rate={ default = [[5, 1], [1, 1]] }"], "kimg must rise"),
        ("fast", ["learning_rate={ generator = 1 }"], "default"),
        ("fast", ["average_kimg=nan"], "finite"),
        ("fast", ["average_kimg={ last = 3 }"], "average_kimg: a curve needs its peak"),
        ("fast", ["second_beta=[[0, 0.9], [5, 1.0]]"], "second_beta: got .*, must be below 1"),
        ("wgan", ["second_beta=0.9"], "second_beta: rmsprop has none"),
        ("fast", ["loss=hing"], "did you mean hinge.*must be 'non-saturating', .* or 'hinge'"),
        ("fast", ["optimiser=adma"], "did you mean adam.*must be adam or rmsprop"),
        ("fast", ["augment=cutout,cutot"], "augment: 'cutot' is not known .did you mean cutout"),
        ("fast", ["condition=3"], "condition: got 3, must be a list of texts"),
        ("fast", ["betas=[0.5, 1.0]"], r"got \[0.5, 1.0\], must be two numbers from 0 up to below 1"),
        ("fast", ["share=0"], "share: got 0, must be above 0 and at most 1"),
        ("fast", ["seed=99999999999999999999"], "at most 9223372036854775807"),
        ("fast", ["rollbacks=-1"], "at least 0"),
        ("fast", ["log_kimg=0"], "must be above 0"),
        ("fast", ["learning_rate=3"], "must be a table like {default = 2e-4}"),
        ("fast", ["training.learning_rate.default={ peak = true }"], "default.peak: got True"),
        ("fast", ["seen_at='large'"], "must be a whole number or a list"),
        ("fast", ["reconstruction_kimg=[1, 'x']"], "reconstruction_kimg: got 'x', must be a number"),
        ("fast", ["reconstructed=1"], "reconstructed: got 1, must be between 0 and 1"),
        ("dcgan", ["model.latent=0"], "model.latent: got 0, must be at least 1"),
        ("dcgan", ["model.channels=[64, 0]"], "model.channels: got 0, must be at least 1"),
        ("dcgan", ["model.channels=[64, -8]"], "model.channels: got -8, must be at least 1"),
        ("dcgan", ["model.image_channels=2"], "got 2, must be 1 .grey. or 3 .colours."),
        ("dcgan", ["dropout=1.0"], "must be below 1"),
        ("dcgan", ["critic_steps=0"], "objective.critic_steps: got 0, must be at least 1"),
        ("dcgan", ["resolution=32"], "resolution: dcgan has no such setting; .* channels"),
        (
            "sagan",
            ["resolution=[32, 64]"],
            r"discriminator.resolution: got \[32, 64\], must be a whole number",
        ),
        ("glow-64", ["bits=9"], "at most 8"),
        ("no/such/file.toml", [], "omokage recipes"),
    ],
)
def test_bad_input_is_one_clear_line(name, overrides, said):
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(load_recipe("dcgan", ["batch=16"]).to_toml())
    assert load_recipe(path).training.batch == 16
    path.write_text("title = ")
    with pytest.raises(UserError, match="not a TOML file"):
        load_recipe(path)
    path.write_text('title = "t"\nsource = "s"\n[model]\nname = "dcgan"\n')
    with pytest.raises(UserError, match="objective is missing"):
        load_recipe(path)
    for text, said in [
        (
            'title = 3\nsource = "s"\n[model]\nname = "dcgan"\n[objective]\nname = "gan"\n',
            "title: got 3, must be a text",
        ),
        (
            'title = "t"\nsource = "s"\nmodel = 3\n[objective]\nname = "gan"\n',
            r"model: got 3, must be a table, \[model\]",
        ),
        (
            'title = "t"\nsource = "s"\n[model]\nlatent = 3\n[objective]\nname = "gan"\n',
            "model.name is missing; there are dcgan",
        ),
        (
            'title = "t"\nsource = "s"\n[model]\nname = [3]\n[objective]\nname = "gan"\n',
            r"model.name: \[3\] is not known",
        ),
        ('title = "t"\nsource = "s"\n[modell]\nname = "x"\n', "no setting 'modell' .did you mean model"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text file"):
        load_recipe(path)


def test_a_setting_of_two_kinds_takes_both_and_refuses_others():
    assert load_recipe("fast", ["seen_at=96"]).discriminator["seen_at"] == 96
    assert load_recipe("fast", ["seen_at=[[0, 64]]"]).discriminator["seen_at"] == [[0.0, 64.0]]
    with pytest.raises(UserError, match="seen_at"):
        load_recipe("fast", ["seen_at='large'"])


def test_a_recipe_from_before_vae_gan_was_an_objective_is_todays():
    text = load_recipe("fast").to_toml()
    assert read_recipe(text.replace('name = "vae-gan"', 'name = "gan"'), "old", "fast") == load_recipe("fast")
    plain = load_recipe("dcgan").to_toml().replace("[objective]", "[objective]\nreconstruction_weight = 0.0")
    assert read_recipe(plain, "old", "dcgan") == load_recipe("dcgan")
    assert load_recipe("fast", ["reconstruction_weight=0"]).objective["name"] == "gan"
    with pytest.raises(UserError, match="no setting 'reconstruction_kimg'"):  # written for nothing
        read_recipe(plain.replace("reconstruction_weight = 0.0", "reconstruction_kimg = [1, 2]"), "mine")


def test_the_names_that_a_training_may_give_are_those_of_the_tables():
    hints = get_type_hints(Training)
    assert get_args(hints["optimiser"]) == tuple(OPTIMISERS)
    assert get_args(get_args(hints["augment"])[0]) == tuple(AUGMENTATIONS)


def test_recipes_know_nothing_of_training_and_cost_little_to_import():
    tree = ast.parse(Path(omokage.recipe.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [module for module in imported if module and module.startswith("training")]
    code = "import sys, omokage.recipe; print({'torch', 'pydantic'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_another_name_in_a_table_brings_its_own_settings():
    recipe = load_recipe("fast", ["model.name=dcgan", "model.latent=7"])
    assert recipe.model == load_recipe("dcgan", ["model.latent=7"]).model
    assert load_recipe("fast", ["model.name=skipgan"]) == load_recipe("fast")
    assert load_recipe("yao2021-vae", ["discriminator.name=dcgan"]).discriminator["norm"] == "batch"


def test_one_resolution_is_that_of_both_networks():
    style = load_recipe("stylegan2-64", ["resolution=128"])
    assert style.model["resolution"] == style.discriminator["resolution"] == [128, 128]
    assert load_recipe("stylegan2-64", ["resolution=[32, 64]"]).model["resolution"] == [32, 64]
    assert load_recipe("glow-64", ["resolution=32"]).model["size"] == 32
    assert load_recipe("fast", ["resolution=128"]).discriminator["resolution"] == 128
