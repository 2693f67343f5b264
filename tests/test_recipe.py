import pytest

from omokage.errors import UserError
from omokage.recipe import load_recipe, read_recipe, recipe_names


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
