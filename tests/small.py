"""Small networks of every family, from the names of their settings: the one place where tiny sizes stand."""

from inspect import signature
from typing import Any

from omokage.families import DISCRIMINATORS
from omokage.recipe import Recipe, read_recipe

# At most so much of each; what is not named keeps its default.
MOST = {
    "attention_at": 8,
    "blocks": 2,
    "channels": 16,
    "depth": 2,
    "encoding_steps": 12,
    "heads": 2,
    "hidden": 8,
    "latent": 16,
    "layers": 1,
    "levels": 2,
    "resolution": 16,
    "scales": 3,
    "size": 16,
    "steps": 2,
    "style": 16,
    "width": 16,
}


def smaller(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with no number above those of `MOST`, lists of channels an eighth as wide."""
    found = {key: _smaller(key, value) for key, value in settings.items()}
    sides = found.get("resolution")
    if isinstance(sides, list) and settings.get("channels") == []:
        # From a base of 4 up to the resolution.
        found["channels"] = [16, 8, 8, 8, 8][: (max(sides) // max(found["base"])).bit_length()]
    return found


def _smaller(key: str, value: Any) -> Any:
    if isinstance(value, list) and key in ("channels", "hidden", "dense"):
        return [max(4, width // 8) for width in value]
    if isinstance(value, list) and key == "resolution":
        return [min(MOST[key], side) for side in value]
    return min(MOST[key], value) if key in MOST and type(value) is int else value


def small_recipe(name: str) -> Recipe:
    """A recipe of the model ``name``, small; its objective is of no account."""
    text = f'title = "t"\nsource = "s"\n[model]\nname = "{name}"\n[objective]\nname = "gan"\n'
    recipe = read_recipe(text, "test")
    recipe.model = smaller(recipe.model)
    return recipe


def small_discriminator(name: str) -> Any:
    """The discriminator of that row, small."""
    row = DISCRIMINATORS[name]
    defaults = {key: one.default for key, one in signature(row.load()).parameters.items()}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    return row.build(smaller(plain))
