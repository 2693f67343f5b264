"""`omokage recipes`: lists the recipes, or shows one of them in full."""

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one: a recipe's name or a TOML file.")] = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print it as a TOML file with every setting.")
    ] = False,
) -> None:
    """List the recipes, or show one with what was published and measured."""
    if name is None:
        from ..catalogue import show_list
        from ..errors import UserError
        from ..listing import recipe_names

        if toml:
            raise UserError(
                "recipes: --toml prints one recipe; name it, for example omokage recipes fast --toml"
            )
        show_list(recipe_names())
        return
    from ..recipe import load_recipe

    if toml:
        print(load_recipe(name).to_toml(), end="")
    else:
        from ..catalogue import show_recipe

        show_recipe(load_recipe(name), name)
