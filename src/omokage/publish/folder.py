"""The folder that `omokage publish` writes: card, weights, ONNX, directions, and a page that draws faces."""

import hashlib
import html
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..abilities import HasStyles, Truncates
from ..data.text import one_line
from ..errors import UserError
from ..explore.directions import BEYOND, SHARED, Directions, write_directions
from ..explore.directions import FILE as DIRECTIONS
from ..hub import CONFIG, WEIGHTS
from ..interop.onnx import FORCED, Differs, PartName, compared, exported
from ..listing import not_a_run
from ..model import Model, load_model, write_small
from ..models.conditional import unconditioned
from ..samples import write_grid
from ..sampling import latents
from ..terms import terms
from .card import card, memorisation
from .runtime import runtime_files

FORMAT = "omokage-published-1"
MOST_LATENTS = 262_144  # numbers of named seeds that a page loads, 1 MB
SEEDS = range(64)


def publish(
    source: Model | str | Path | None,
    out: str | Path,
    *,
    directions: Directions | None = None,
    memorised: str | Path | None = None,
    unchecked: bool = False,
    runtime: str | Path | None = None,
    title: str | None = None,
    licence: str | None = None,
    seeds: Sequence[int] = SEEDS,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the new folder ``out`` for a model, or for what `load_model` takes. Returns its path.

    Args:
        directions: of this model; they become sliders.
        memorised: the JSON file of `omokage neighbours`. None: the newest one in the run that belongs to the
            snapshot.
        unchecked: publish without such a figure; the card says so.
        runtime: folder of ONNX Runtime's files for browsers. None: from the cache folder or npm.
        title: of the card and page; None: the recipe's name.
        licence: of the weights, as hubs write it, like "cc-by-4.0".
        seeds: named seeds of the grid and the page.
        tell: called with sentences about what was done or left out.

    Raises:
        UserError: the folder is there already, there is no figure of memorising, directions of another
            snapshot, or as `omokage.interop.onnx.export_onnx`.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"-o {one_line(out)} is there already and stays; name a new folder")
    original = source if isinstance(source, Model) else load_model(source, "cpu")
    if directions is not None:
        directions.check(original)
    checked = memorisation(original, memorised)
    if checked is None and not unchecked:
        raise UserError(
            "publish: it is not known whether this model copies training faces: omokage neighbours "
            "RUN --data FACES measures it; --unchecked publishes without, and the card says so"
        )
    files = runtime_files(None if runtime is None else Path(runtime))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as work:
            folder = Path(work) / "page"
            folder.mkdir()
            write_small(original, folder / WEIGHTS)
            model = load_model(folder / WEIGHTS, "cpu")
            if directions is not None:
                directions = replace(directions, snapshot=model.snapshot_hash)
                write_directions(folder / DIRECTIONS, directions)
            _graphs(model, folder, tell)
            write_grid(model, list(seeds), folder / "grid.png")
            told = _config(model, original, title or model.recipe.name, directions, seeds)
            if isinstance(files, str):
                tell(f"the page is left out: {files}")
            else:
                _page(folder, told, files)
                if (shown := len(told["seeds"])) < len(seeds):
                    tell(f"the page has the first {shown:,} of {len(seeds):,} seeds: latents are large")
            run = original.path.parent if original.path and not not_a_run(original.path.parent) else None
            text = card(original, told["title"], run, checked, licence, page=not isinstance(files, str))
            (folder / "README.md").write_text(text, encoding="utf-8")
            told["files"] = {path.name: _digest(path) for path in sorted(folder.iterdir())}
            (folder / CONFIG).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
            for path in folder.iterdir():
                path.chmod(0o644)  # a server that runs as another user reads them
            if out.exists():
                out.rmdir()
            shutil.move(folder, out)
    except OSError as error:
        raise UserError(f"-o {one_line(out)}: cannot write: {error.strerror or error}") from None
    return out


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _graphs(model: Model, folder: Path, tell: Callable[[str], None]) -> None:
    """The ONNX files: in half precision, or in float32 if that changes the faces too much."""
    names: list[PartName] = ["decode"]
    if model.can(HasStyles):
        names += ["mapping", "synthesis"]
    for name in names:
        proto = exported(model, name)
        try:
            data, _ = compared(model, name, proto, half=True)
        except Differs:
            data, _ = compared(model, name, proto)
            tell(f"{name} is stored in float32: half precision would change the faces too much")
        (folder / ("model.onnx" if name == "decode" else f"model-{name}.onnx")).write_bytes(data)


def _config(
    model: Model, original: Model, title: str, directions: Directions | None, seeds: Sequence[int]
) -> dict[str, Any]:
    """What the page and programs read."""
    said = terms(original)
    return {
        "format": FORMAT,
        "library_name": "omokage",
        "version": __version__,
        "title": title,
        "family": model.recipe.model["name"],
        "recipe": model.recipe.name,
        "images": model.images_seen,
        "snapshot": model.snapshot_hash,
        "trained_snapshot": original.snapshot_hash,
        "resolution": list(model.resolution),
        "latent_shape": list(model.latent_shape),
        "styles": model.can(HasStyles),
        "conditions": {
            name: {"values": values, "at": start}
            for (name, values), start in zip(model.conditions.items(), _starts(model), strict=True)
        },
        "forced": FORCED,
        "psi": _psi(model),
        "directions": _directions(directions),
        "goals": _goals(directions),
        "beyond": BEYOND,
        "seeds": _named(model, seeds),
        "terms": said.sentence,
    }


def _starts(model: Model) -> list[int]:
    """Where the entries of each condition begin in a latent."""
    sizes = [len(values) for values in model.conditions.values()]
    first = model.latent_shape[0] - sum(sizes)
    return [first + sum(sizes[:i]) for i in range(len(sizes))]


def _psi(model: Model) -> dict[str, Any] | None:
    """How the page truncates; None: it cannot."""
    network: Any = unconditioned(model.network)
    setting = model.family.setting("psi")
    assert setting is not None
    low = max(0.0, setting.low or 0.0)
    if model.can(HasStyles):
        if model.conditions:
            return None  # every condition has an average of its own
        average = [round(float(value), 6) for value in network.w_average]
        layers = getattr(network, "truncated", 0) or model.layers
        return {"of": "styles", "average": average, "layers": layers, "low": low, "high": 1.2}
    location = getattr(network, "location", None)
    if model.can(Truncates) and (location is None or not bool(location.centre.any())):
        return None
    return {"of": "latents", "low": low, "high": 1.2}


def _directions(directions: Directions | None) -> list[dict[str, Any]]:
    if directions is None:
        return []
    return [
        {
            "name": row.name,
            "attribute": row.attribute,
            "value": row.value,
            "limit": row.limit,
            "layers": list(row.layers),
            "space": directions.space,
            "vector": _short(row.vector),
            **({} if row.goal is None else {"place": _short(row.goal.place)}),
        }
        for row in directions.rows
        if row.offered and row.attribute
    ]


def _goals(directions: Directions | None) -> dict[str, dict[str, Any]]:
    """What the goals of the values of an attribute share, by attribute."""
    rows = () if directions is None else directions.rows
    return {
        row.attribute: {part: [_short(line) for line in getattr(row.goal, part)] for part in SHARED}
        for row in rows
        if row.offered and row.goal is not None
    }


def _short(values: Tensor) -> list[float]:
    return [float(f"{float(value):.7g}") for value in values.flatten()]


def _named(model: Model, seeds: Sequence[int]) -> list[int]:
    """The first seeds, as many as the page has latents of: fewer if latents are large."""
    most = MOST_LATENTS // int(np.prod(model.latent_shape))
    return [int(seed) for seed in list(seeds)[: max(1, most)]]


def _page(folder: Path, told: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """The page, the latents of named seeds and the runtime."""
    z = latents(told["seeds"], told["latent_shape"])
    (folder / "seeds.bin").write_bytes(z.to(torch.float32).numpy().astype("<f4").tobytes())
    place = resources.files("omokage") / "publish" / "page"
    for name in ("index.html", "style.css", "page.js", "drawing.js", "worker.js"):
        text = (place / name).read_text(encoding="utf-8")
        if name == "index.html":
            text = text.replace("{{title}}", html.escape(told["title"]))
        (folder / name).write_text(text, encoding="utf-8")
    for name, data in files.items():
        (folder / name).write_bytes(data)
