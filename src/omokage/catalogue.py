"""Facts about the recipes that ship: parameter counts, published results, results measured here.

The list of recipes is made from records in ``assets`` alone, so that it does not need PyTorch:
``recipes.json`` (family, objective and parameter counts of each recipe), ``needs.toml`` and
``measured.json``. ``bench/tables.py`` writes the first and the last; tests compare them with recipes,
networks and results.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .listing import recipe_names

if TYPE_CHECKING:
    from .parameters import Count
    from .recipe import Recipe
    from .settings import Setting

REMARK_WIDTH = 105  # text width at which comments in recipes are wrapped


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
    """By recipe, the results of ``bench/comparison.py``; empty if there are none yet."""
    return _json("measured.json")


@cache
def recorded() -> Mapping[str, dict[str, Any]]:
    """By recipe: ``family``, ``objective``, ``title``, ``source``, and parameter ``counts`` by network.

    >>> recorded()["fast"]["family"]
    'skipgan'
    """
    return _json("recipes.json")


@cache
def needs() -> Mapping[str, dict[str, Any]]:
    """By recipe: ``runs_on``, CPU or GPU, and ``faces``, the minutes (or words) until samples show faces.

    >>> needs()["fast"]
    {'runs_on': 'CPU', 'faces': 20}
    """
    file = resources.files("omokage") / "assets" / "needs.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _json(name: str) -> Mapping[str, dict[str, Any]]:
    file = resources.files("omokage") / "assets" / name
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def outline(recipe: "Recipe") -> dict[str, Any]:
    """The record of a recipe, made from the recipe and its networks."""
    from .parameters import counted

    return {
        "family": recipe.model["name"],
        "objective": objective(recipe.objective),
        "title": recipe.title,
        "source": recipe.source,
        "counts": {role: count.as_dict() for role, count in counted(recipe).items()},
    }


def time_to_faces(name: str) -> str:
    """Training time until samples of a recipe showed faces, in words; a dash: not known.

    >>> time_to_faces("fast"), time_to_faces("wu2020-stylegan"), time_to_faces("stylegan2-512")
    ('20 min', '> 60 min', '–')
    """
    told = needs().get(name, {}).get("faces")
    if isinstance(told, int):
        return f"{told} min"
    if told is None and name in measured():
        return f"> {measured()[name]['minutes']:.0f} min"
    return told or "–"


def fid_here(name: str) -> str:
    """The FID of a recipe measured here, with the minutes of training; a dash: not measured.

    >>> fid_here("fast"), fid_here("sagan")
    ('14.7, 60 min', '–')
    """
    known = measured().get(name)
    if known is None:
        return "–"
    return f"{known['fid']:.1f}, {known['minutes']:.0f} min"


def remarks(name: str) -> list[str]:
    """The paragraphs of the comment at the top of a shipped recipe."""
    if name not in recipe_names():
        return []
    file = resources.files("omokage") / "recipes" / f"{name}.toml"
    lines: list[str] = []
    last = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        line = line[1:].removeprefix(" ")
        # A line continues the paragraph if its first word did not fit on the line before.
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
    """Authors and years of a recipe's source, without the text in brackets.

    >>> short_source("yao2021 (Yale CPSC 553); Kingma & Welling 2014 (arXiv 1312.6114)")
    'yao2021; Kingma & Welling 2014'
    """
    return re.sub(r"\s*\([^()]*\)", "", source)


FIRST = ("fast", "fast-style", "fast-128")  # recommended for beginners, so first in the list


def in_order(names: Iterable[str]) -> list[str]:
    """The order of the list: `FIRST`, then the others in their order.

    >>> in_order(["dcgan", "fast-style", "fast"])
    ['fast', 'fast-style', 'dcgan']
    """
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def show_list(names: Iterable[str], console: Console | None = None) -> None:
    """Print the recipes by family, with as many columns as fit the terminal; no column is cut."""
    console = console or Console(highlight=False)
    width = console.width
    known = dict(recorded())
    families: dict[str, list[str]] = {}
    for name in in_order(names):
        if name not in known:  # added after the record was written
            from .recipe import load_recipe

            known[name] = outline(load_recipe(name))
        families.setdefault(known[name]["family"], []).append(name)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("runs\non", no_wrap=True)
    if width >= 60:
        table.add_column("time to\nfaces", no_wrap=True)
    table.add_column("FID\nhere", no_wrap=True)
    if width >= 80:
        table.add_column("parameters,\nM", no_wrap=True, justify="right")
    if width >= 120:
        table.add_column("objective")
        table.add_column("what it is")
    for family, members in families.items():
        table.add_row(Text(f"\n{family}", style="bold magenta"))
        for name in members:
            told = known[name]
            row = [Text(name, style="bold"), Text(needs().get(name, {}).get("runs_on", "–"))]
            if width >= 60:
                row.append(Text(time_to_faces(name)))
            row.append(Text(fid_here(name)))
            if width >= 80:
                row.append(Text(" + ".join(f"{one['trained'] / 1e6:.2f}" for one in told["counts"].values())))
            if width >= 120:
                row += [Text(told["objective"]), Text(told["title"], style="dim")]
            table.add_row(*row)
    console.print(table)
    console.print()
    for line in _LEGEND:
        console.print(Text(line))


_LEGEND = (
    "runs on: CPU, made for two cores and quicker on a GPU; GPU, takes days on a CPU.",
    "time to faces: of training on two CPU cores, until samples showed faces; with GPU: as published.",
    "FID here: by fid10k-full-inception2015, with the training time; lower is better; –: not measured.",
    "parameters: trained, in millions: of the network that draws + the one that judges (+ an encoder).",
    "omokage recipes NAME shows one recipe and how to sample it; --toml prints every setting.",
)


def show_recipe(recipe: "Recipe", asked: str, console: Console | None = None) -> None:
    """Print one recipe: networks, settings, published results and results measured here."""
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
    counts = _counts(recipe, asked)
    for role, count in counts.items():
        of = {"generator": recipe.model, "discriminator": recipe.discriminator}.get(role, recipe.objective)
        cells = (count.trained, count.frozen, count.statistics, count.total)
        networks.add_row(Text(f"{role} ({of['name']})"), *(f"{cell:,}" if cell else "–" for cell in cells))
    _section(console, "Parameters", networks)

    _section(console, "How it can be sampled", _sampling(recipe))
    _section(console, "Published", _published(recipe, counts))
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


def _counts(recipe: "Recipe", asked: str) -> "dict[str, Count]":
    """Parameter counts of its networks: from the record for a shipped recipe, else counted."""
    from .parameters import Count, counted

    if asked in recipe_names() and asked in recorded():
        return {role: Count(**told) for role, told in recorded()[asked]["counts"].items()}
    return counted(recipe)


def _sampling(recipe: "Recipe") -> Table:
    """The settings of its family: option, range, default and effect of each; then the conditions."""
    from .families import MODELS

    row = MODELS[recipe.model["name"]]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("option", "range", "default"):
        table.add_column(heading, no_wrap=heading != "range")
    table.add_column("what it does", ratio=1)
    for setting in row.settings:
        cells = (setting.option, setting.allowed, _default(setting), setting.help)
        table.add_row(*map(Text, cells))
    table.add_row(*map(Text, ("--condition", "NAME=VALUE", "any", _conditions(recipe))))
    return table


def _default(setting: "Setting") -> str:
    return f"{setting.default:g}" if isinstance(setting.default, int | float) else setting.default


def _conditions(recipe: "Recipe") -> str:
    """Whether faces can be chosen by labels, and how."""
    from .abilities import TakesConditions
    from .families import MODELS

    family = recipe.model["name"]
    if not MODELS[family].can(TakesConditions):
        return f"{family} takes none."
    if recipe.conditions:
        told = "; ".join(f"{name} = {', '.join(values)}" for name, values in recipe.conditions.items())
        return f"Only faces with this label: {told}."
    if recipe.training.condition:
        return f"Only faces with this label: {', '.join(recipe.training.condition)}, of the face set."
    return "Only faces with this label; train with labels, like condition=hair,eyes, to have some."


def _published(recipe: "Recipe", counts: "Mapping[str, Count]") -> Table | Text:
    known = published().get(recipe.name)
    if not known:
        return Text("nothing known", style="dim")
    table = _grid()
    for key in ("data", "training", "found"):
        if key in known:
            table.add_row(key, Text(known[key]))
    for figure in known.get("figures", ()):
        table.add_row(
            figure["name"], Text.assemble((f"{figure['value']:g}", "bold"), f"  {figure['protocol']}")
        )
    if "counts" in known:
        table.add_row("parameters", Text(_compared(known["counts"], counts)))
    return table


def _compared(told: Mapping[str, int], ours: "Mapping[str, Count]") -> str:
    """The published parameter counts, and whether ours are the same when counted as the source does."""
    parts = []
    for role, number in told.items():
        mine = list(ours.values()) if role == "all" else [ours[role]]
        same = number in (sum(count.trained for count in mine), sum(count.total for count in mine))
        parts.append(
            f"{'' if role == 'all' else f'{role} '}{number:,} ({'equal' if same else 'OURS DIFFERS'})"
        )
    return ", ".join(parts)


def _measured(recipe: "Recipe") -> Table | Text:
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
    for other in known.get("others", ()):
        after = f"after {other['minutes']:.0f} minutes, {other['images']:,} images, seed {other['seed']}"
        table.add_row("also FID", Text(f"{other['fid']:.2f}  {after}"))
    return table
