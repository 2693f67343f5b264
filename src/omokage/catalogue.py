"""What is known of the recipes that ship: networks counted, results published, results measured here."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .parameters import Count, counted
from .recipe import Recipe, recipe_names

REMARK_WIDTH = 105  # comments in recipes are broken at 110 columns, or a little before


@cache
def published() -> Mapping[str, dict[str, Any]]:
    """By recipe: ``data``, ``training``, ``found`` in words, ``figures`` and ``counts``; any may be absent.

    >>> [figure["value"] for figure in published()["wu2020-dcgan"]["figures"]]
    [64.446]
    """
    file = resources.files("omokage") / "assets" / "published.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@cache
def measured() -> Mapping[str, dict[str, Any]]:
    """By recipe, what ``bench/comparison.py`` measured; empty where it has measured nothing yet."""
    file = resources.files("omokage") / "assets" / "measured.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remarks(name: str) -> list[str]:
    """The comment at the head of a recipe that ships, by paragraph: what was published, what chosen."""
    if name not in recipe_names():
        return []
    file = resources.files("omokage") / "recipes" / f"{name}.toml"
    lines: list[str] = []
    last = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        line = line[1:].removeprefix(" ")
        # A line goes on with the one before where its first word had no room there.
        first = line.partition(" ")[0]
        if lines and first and len(last) + 1 + len(first) > REMARK_WIDTH:
            lines[-1] += f" {line}"
        else:
            lines.append(line)
        last = line
    return lines


def objective(table: Mapping[str, Any]) -> str:
    """An objective in a few words.

    >>> objective({"name": "gan", "loss": "wasserstein", "clip_weights": 0.01, "penalty": "none"})
    'wasserstein, weights clipped'
    >>> objective({"name": "elbo", "reconstruction": "bce", "kl_weight": 1.0})
    'elbo, bce'
    """
    words = [str(table.get("loss") or table.get("name"))]
    if table.get("reconstruction"):
        words.append(str(table["reconstruction"]))
    if table.get("clip_weights"):
        words.append("weights clipped")
    if table.get("clip_gradients"):
        words.append("gradients clipped")
    if table.get("penalty", "none") != "none":
        words.append(f"{table['penalty']} penalty")
    if table.get("prediction_weight"):
        words.append("latents predicted")
    if table.get("real_label", 1.0) != 1.0 or table.get("fake_label", 0.0) != 0.0:
        words.append("smoothed labels")
    return ", ".join(words)


def short_source(source: str) -> str:
    """Authors and years of a recipe's source, without what stands in brackets.

    >>> short_source("yao2021 (Yale CPSC 553); Kingma & Welling 2014 (arXiv 1312.6114)")
    'yao2021; Kingma & Welling 2014'
    """
    return re.sub(r"\s*\([^()]*\)", "", source)


def show_list(recipes: Sequence[Recipe], console: Console | None = None) -> None:
    """Print the recipes by family: objective, parameters, source; with room, what each is."""
    console = console or Console(highlight=False)
    wide = console.width >= 120
    families: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        families.setdefault(recipe.model["name"], []).append(recipe)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("objective", min_width=15)
    table.add_column("parameters, M", justify="right", min_width=12)
    table.add_column("source")
    if wide:
        table.add_column("what it is")
    for family, members in families.items():
        table.add_row(Text(f"\n{family}", style="bold magenta"))
        for recipe in members:
            counts = [f"{count.trained / 1e6:.2f}" for count in counted(recipe).values()]
            row = [
                Text(f" {recipe.name}", style="bold"),
                Text(objective(recipe.objective)),
                Text(" + ".join(counts)),
                Text(short_source(recipe.source), style="dim"),
            ]
            table.add_row(*row, *([Text(recipe.title)] if wide else []))
    console.print(table)
    told = "\nMillions of trained parameters: of what draws + of what judges.\n"
    console.print(Text(told + "omokage recipes NAME shows one, with --toml every setting of it."))


def show_recipe(recipe: Recipe, asked: str, console: Console | None = None) -> None:
    """Print one recipe: networks, settings, what was published and what was measured here."""
    console = console or Console(highlight=False)
    console.print(Text(recipe.name, style="bold magenta"))
    console.print(Text(recipe.title))
    console.print(Text(recipe.source, style="dim"))

    facts = _grid()
    facts.add_row("family", Text(recipe.model["name"]))
    facts.add_row("objective", Text(objective(recipe.objective)))
    training = recipe.training
    rates = ", ".join(f"{phase} {_rate(rate)}" for phase, rate in training.learning_rate.items())
    facts.add_row(
        "training", Text(f"batch {training.batch}, {training.optimiser} {training.betas}, rate {rates}")
    )
    facts.add_row("stops after", Text(f"{training.images:,} images, unless told otherwise"))
    _section(console, "What it is", facts)

    networks = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    networks.add_column("network")
    for heading in ("trained", "frozen", "batch-norm statistics", "all"):
        networks.add_column(heading, justify="right")
    for role, count in counted(recipe).items():
        name = (recipe.model if role == "generator" else recipe.discriminator)["name"]
        cells = (count.trained, count.frozen, count.statistics, count.total)
        networks.add_row(Text(f"{role} ({name})"), *(f"{cell:,}" if cell else "–" for cell in cells))
    _section(console, "Parameters", networks)

    _section(console, "Published", _published(recipe))
    _section(console, "Measured here", _measured(recipe))
    if lines := remarks(asked):
        _section(console, "Remarks", Text("\n".join(lines)))
    console.print()
    console.print(Text(f"omokage train {asked} --data faces/ --out runs/{recipe.name}"), soft_wrap=True)
    console.print(Text(f"omokage recipes {asked} --toml", style="dim"), soft_wrap=True)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def _section(console: Console, title: str, content: Any) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(Padding(content, (0, 0, 0, 2)))


def _rate(rate: Any) -> str:
    if isinstance(rate, int | float):
        return f"{rate:g}"
    return "by a curve" if isinstance(rate, Mapping) else f"{rate[0][1]:g} to {rate[-1][1]:g}"


def _published(recipe: Recipe) -> Table | Text:
    known = published().get(recipe.name)
    if not known:
        return Text("nothing that is known here", style="dim")
    table = _grid()
    for key in ("data", "training", "found"):
        if key in known:
            table.add_row(key, Text(known[key]))
    for figure in known.get("figures", ()):
        table.add_row(
            figure["name"], Text.assemble((f"{figure['value']:g}", "bold"), f"  {figure['protocol']}")
        )
    if "counts" in known:
        table.add_row("parameters", Text(_compared(known["counts"], counted(recipe))))
    return table


def _compared(told: Mapping[str, int], ours: Mapping[str, Count]) -> str:
    """The published counts, and whether ours are the same, counted the source's way."""
    parts = []
    for role, number in told.items():
        mine = list(ours.values()) if role == "all" else [ours[role]]
        same = number in (sum(count.trained for count in mine), sum(count.total for count in mine))
        parts.append(
            f"{'' if role == 'all' else f'{role} '}{number:,} ({'equal' if same else 'OURS DIFFERS'})"
        )
    return ", ".join(parts)


def _measured(recipe: Recipe) -> Table | Text:
    known = measured().get(recipe.name)
    if not known:
        return Text("nothing yet; bench/comparison.py measures it", style="dim")
    from .metrics.table import FEATURE_COLUMNS, PIXEL_COLUMNS  # imports torch

    first, *others = FEATURE_COLUMNS
    table = _grid()
    table.add_row(first.title, Text.assemble((first.text(known), "bold"), f"  {known['protocol']}"))
    told = [f"{column.title} {text}" for column in others if (text := column.text(known))]
    table.add_row("", Text(", ".join(told)))
    if known.get("second_fid") is not None:
        table.add_row("FID", Text(f"{known['second_fid']:.2f}  {known['second_protocol']}"))
    for column in PIXEL_COLUMNS:
        if (value := known.get(column.table)) is not None:
            protocol = known[f"{column.table}_protocol"]
            table.add_row(column.title, Text(f"{column.shown(value)}  {protocol}; {column.ideal}"))
    table.add_row(
        "trained",
        Text(
            f"{known['minutes']:.0f} minutes, {known['images']:,} images, {known['machine']}, {known['date']}"
        ),
    )
    if known.get("overrides"):
        table.add_row("changed", Text("  ".join(known["overrides"])))
    table.add_row("faces", Text(f"{known['faces']:,} ({known['face_set'][:8]})"))
    return table
