"""The report on runs: one HTML file that needs no other file, and a CSV beside it."""

import base64
import io
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from .. import __version__
from ..catalogue import objective
from ..errors import UserError
from ..metrics.table import PIXEL_COLUMNS
from ..model import load_model
from ..pages.files import checked_folder, replacing
from ..parameters import short
from ..progress import Progress, opened
from ..sampling import gathered, sample, seed_ranges
from .curves import Series, chart
from .figures import MISSING, Group, groups, measurements, to_csv, wanting
from .read import MINUTES, Run, number, read_runs

RATE = "learning rate"
STRIP = 8  # faces beside the numbers
_FID = re.compile(r"fid[/ ](?P<protocol>.+)", re.IGNORECASE)
# Groups of log keys that are shown elsewhere.
_NOT_CURVES = ("fid", "speed", "memory")


@dataclass(frozen=True)
class EmbeddedPicture:
    """Faces of the page's seeds: a grid of all, and a strip of the first ones."""

    grid: str
    strip: str
    count: int
    columns: int
    seeds: list[int]
    snapshot: str
    images: int


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis, and the legend of their colours."""

    title: str
    svg: Markup
    legend: list[tuple[int, str]]


def write_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    title: str | None = None,
    seeds: Sequence[int] = range(32),
    neighbours: bool = True,
    progress: Progress | None = None,
) -> tuple[Path, list[str]]:
    """Write ``out/index.html`` and ``out/report.csv`` about the runs in ``folders``.

    Args:
        seeds: each run's newest snapshot draws the faces of these seeds at psi 1; empty: no faces.
        neighbours: show each run's newest ``neighbours.png`` (or ``neighbours-2.png`` ...). These pictures
            contain real faces.

    Returns:
        The path of the page, and one line for each thing that could not be read. The page shows the rest.

    Raises:
        UserError: none of the folders is a run, or ``out`` cannot be written.
    """
    runs, problems = read_runs(folders)
    folder = checked_folder(out)
    pictures: dict[str, EmbeddedPicture] = {}
    with opened(progress, "drawing faces", len(runs)) as task:
        for run in runs:
            if run.snapshot is not None and seeds:
                try:
                    pictures[run.name], lost = _faces(run.snapshot, list(seeds))
                    if lost:
                        problems.append(f"{run.snapshot}: not finite and shown black: seeds {lost}")
                except (UserError, RuntimeError) as error:
                    problems.append(f"{run.snapshot}: no faces drawn: {' '.join(str(error).split())[:300]}")
            task.advance(1, run.name)
    page = render(runs, problems, pictures, title=title, neighbours=neighbours, out=folder)
    _write(folder / "report.csv", to_csv(runs))
    _write(folder / "index.html", page)
    return folder / "index.html", problems


def templates() -> Environment:
    """The templates of the report's folder."""
    return Environment(
        loader=PackageLoader("omokage.report", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def render(
    runs: Sequence[Run],
    problems: Sequence[str],
    pictures: dict[str, EmbeddedPicture],
    *,
    title: str | None = None,
    neighbours: bool = True,
    out: Path = Path("report"),
) -> str:
    """The page as text."""
    environment = templates()
    environment.globals.update(
        seed_ranges=seed_ranges,
        about=_about,
    )
    tables = groups(runs)
    colours = {run.name: i for i, run in enumerate(runs)}
    near = {run.name: _embedded(_newest_neighbours(run.folder)) for run in runs} if neighbours else {}
    command = ["omokage", "report", *(str(run.folder) for run in runs), "--out", str(out)]
    return environment.get_template("report.html").render(
        title=title or _title(runs),
        style=Markup(environment.get_template("style.css").render()),
        made=datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z")
        if os.name != "nt"
        else str(datetime.now()),
        version=__version__,
        command=shlex.join(command),
        runs=runs,
        colours=colours,
        problems=problems,
        groups=tables,
        tiles=_tiles(runs, tables),
        pictures=pictures,
        costs=[_cost(run) for run in runs],
        fid=_fid_panels(runs, colours),
        panels={run.name: _panels(run) for run in runs},
        neighbours={name: picture for name, picture in near.items() if picture},
        provenance=_provenance(runs),
        wanting=wanting(runs),
    )


def _title(runs: Sequence[Run]) -> str:
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side"


def _write(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _faces(snapshot: Path, seeds: list[int]) -> tuple[EmbeddedPicture, str]:
    """The faces of a snapshot, and the seeds of those that are not finite; "" if all are finite."""
    model = load_model(snapshot)
    faces, finite = gathered(sample(model, seeds))
    lost = seed_ranges([seed for seed, whole in zip(seeds, finite, strict=True) if not whole])
    columns = min(8, len(faces))
    missing = -len(faces) % columns
    height, width = faces.shape[1:3]
    blank = np.full((missing, height, width, 3), 255, np.uint8)
    grid = np.concatenate([faces, blank]).reshape(-1, columns, height, width, 3).swapaxes(1, 2)
    sheet = grid.reshape(-1, columns * width, 3)
    strip = np.concatenate(list(faces[:STRIP]), axis=1)
    picture = EmbeddedPicture(
        _data_uri(sheet), _data_uri(strip), len(faces), columns, seeds, model.snapshot_hash, model.images_seen
    )
    return picture, lost


def _data_uri(pixels: np.ndarray) -> str:
    """A lossless WebP picture as a data URI, so that the page shows exactly these pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _newest_neighbours(folder: Path) -> Path | None:
    """The newest picture of `omokage evaluate --neighbours`, which numbers its files."""
    numbered = {
        path: int(match[1] or 1)
        for path in folder.glob("neighbours*.png")
        if (match := re.fullmatch(r"neighbours(?:-(\d+))?\.png", path.name)) and path.is_file()
    }
    return max(numbered, key=lambda path: (path.stat().st_mtime, numbered[path]), default=None)


def _embedded(path: Path | None) -> str | None:
    """A PNG of a run, decoded and encoded again, so that nothing but pixels goes into the page."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return _data_uri(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _tiles(runs: Sequence[Run], tables: Sequence[Group]) -> list[tuple[str, str, str]]:
    """The tiles at the top: name, value, and what the value belongs to."""
    found = []
    for group in tables[:1]:
        ranked = [(m, row) for _, m, row in group.rows if m is not None and not row[0].missing]
        if ranked:
            m, row = ranked[0]
            found.append(
                (
                    "lowest FID" if len(ranked) > 1 else "FID",
                    row[0].text,
                    f"{m.run.name} · {group.way.protocol}",
                )
            )
            shown = [
                (number(m.record["recall"]), m)
                for m, _ in ranked
                if number(m.record.get("recall")) is not None
            ]
            if len(shown) > 1:
                recall, best = max(shown, key=lambda pair: pair[0] or 0.0)
                found.append(("highest recall", f"{recall:.3f}", f"{best.run.name} · {group.way.protocol}"))
    minutes = [run.minutes for run in runs if run.minutes is not None]
    if minutes:
        total = sum(minutes)
        text = f"{total:,.0f} min" if total < 120 else f"{total / 60:,.1f} h"
        found.append(("trained", text, "all runs together" if len(runs) > 1 else "all pieces together"))
    images = [run.images for run in runs if run.images is not None]
    if images:
        found.append(("images seen", f"{sum(images) / 1000:,.0f} k", "repetitions counted"))
    return found


@dataclass(frozen=True)
class Cost:
    """The cost of a run, as text."""

    run: Run
    recipe: str
    family: str
    objective: str
    parameters: list[tuple[str, str]]
    minutes: str
    images: str
    speed: str
    memory: str
    machine: str


def _cost(run: Run) -> Cost:
    recipe, machine = run.recipe, run.progress.get("machine")
    told = ""
    if isinstance(machine, dict):
        parts = [
            str(machine.get("device", "")),
            f"{machine.get('threads', '?')} threads",
            str(machine.get("precision", "")),
        ]
        told = ", ".join(part for part in parts if part)
    return Cost(
        run,
        recipe.name if recipe else MISSING,
        recipe.model["name"] if recipe else MISSING,
        objective(recipe.objective) if recipe else MISSING,
        [(role, short(count)) for role, count in run.parameters.items()],
        MISSING if run.minutes is None else f"{run.minutes:,.1f}",
        MISSING if run.images is None else f"{run.images / 1000:,.1f}",
        MISSING if run.speed is None else f"{run.speed:,.1f}",
        MISSING if run.memory is None else f"{run.memory:,.0f}",
        told or MISSING,
    )


def _fid_panels(runs: Sequence[Run], colours: dict[str, int]) -> list[tuple[str, list[Panel]]]:
    """FID over images and over minutes for each way of measuring, from logs and evaluations."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        for line in run.lines:
            for key, value in line.items():
                match = _FID.fullmatch(key)
                if match and (fid := number(value)) is not None:
                    name = f"{match['protocol']}, during training"
                    curves.setdefault(name, {}).setdefault(run.name, []).append((line["images"], fid))
        for record in run.evaluations:
            seen, fid = number(record.get("images_seen")), number(record.get("fid"))
            if seen is not None and fid is not None:
                faces = str(record.get("face_set_hash", "unknown"))[:8]
                name = f"{record['protocol']}, faces {faces}"
                curves.setdefault(name, {}).setdefault(run.name, []).append((seen, fid))
    by_name = {run.name: run for run in runs}
    found = []
    for name, points in curves.items():
        if all(len(dict(pairs)) < 2 for pairs in points.values()):
            continue  # a single value is in the table already
        over_images, over_minutes = [], []
        for run_name, pairs in points.items():
            pairs = sorted(dict(pairs).items())
            ys = [fid for _, fid in pairs]
            colour = colours[run_name]
            over_images.append(
                Series(run_name, [images / 1000 for images, _ in pairs], ys, colour, mark=True)
            )
            timed = [(by_name[run_name].minutes_at(images), fid) for images, fid in pairs]
            known = [(minutes, fid) for minutes, fid in timed if minutes is not None]
            over_minutes.append(
                Series(
                    run_name, [minutes for minutes, _ in known], [fid for _, fid in known], colour, mark=True
                )
            )
        legend = [(colours[run_name], run_name) for run_name in points]
        panels = [
            Panel(heading, svg, legend)
            for heading, series, unit in (
                ("over images seen", over_images, "thousand images seen"),
                ("over time", over_minutes, "minutes trained"),
            )
            if (svg := chart(series, title=f"FID, {name}", x_label=unit, labels=len(points) <= 6))
        ]
        found.append((name, panels))
    return found


def _panels(run: Run) -> list[Panel]:
    """Charts of the log, one for each part of the keys before the slash."""
    names: dict[str, list[str]] = {}
    for line in run.lines:
        for key, value in line.items():
            head = key.partition("/")[0]
            if key in ("images", MINUTES) or head in _NOT_CURVES or _FID.fullmatch(key):
                continue
            if isinstance(value, int | float) and key not in names.setdefault(head, []):
                names[head].append(key)
    order = ("loss", "logits", "gradient norm", RATE)
    heads = sorted((head for head in names if names[head]), key=lambda h: order.index(h) if h in order else 9)
    found = []
    for head in heads:
        series = []
        for i, key in enumerate(names[head]):
            points = [(line["images"] / 1000, number(line.get(key))) for line in run.lines]
            label = key.partition("/")[2] or key
            if head == RATE and len({y for _, y in points if y is not None}) <= 1:
                continue  # a constant rate is told in words instead
            series.append(Series(label, [x for x, _ in points], [y for _, y in points], _role(label, i)))
        svg = chart(
            series, title=f"{head} of {run.name}", x_label="thousand images seen", width=330, height=190
        )
        if svg:
            found.append(Panel(head, svg, [(one.colour, one.name) for one in series]))
    return found


def _about(run: Run) -> str:
    """Objective and constant learning rates, in words."""
    words = [objective(run.recipe.objective)] if run.recipe else []
    rates = []
    for key in run.lines[-1] if run.lines else ():
        head, _, phase = key.partition("/")
        told = {number(line.get(key)) for line in run.lines} - {None}
        if head == RATE and len(told) == 1:
            rates.append(f"{told.pop():g} ({phase})")
    if rates:
        words.append(f"learning rate {', '.join(rates)}")
    return " · ".join(words)


def _role(label: str, place: int) -> int:
    """The colour of a network, the same in all charts of a run."""
    roles = {"generator": 0, "generated": 0, "discriminator": 1, "real": 1, "held-out": 2}
    return roles.get(label, place)


def _provenance(runs: Sequence[Run]) -> list[tuple[Run, list[tuple[str, str]]]]:
    """For each run, how the numbers of the tables were measured."""
    found = []
    for run in runs:
        for m in measurements(run):
            record = m.record
            seeds = record.get("seeds")
            rows = [
                ("protocol", m.way.protocol),
                (
                    "samples",
                    f"{record.get('samples', '?')}, "
                    f"{record.get('samples_not_finite', '?')} not finite and left out",
                ),
                (
                    "seeds",
                    f"{seeds[0]} to {seeds[1]}" if isinstance(seeds, list) and len(seeds) == 2 else "?",
                ),
                ("psi, weights", f"{record.get('psi', '?')}, {record.get('weights', '?')}"),
                ("snapshot", str(record.get("snapshot_hash", "?"))),
                ("face set", f"{m.way.face_set} ({record.get('faces', '?')} faces at {m.way.size})"),
                ("faces resized by", str(record.get("faces_resize_rule", "?"))),
                ("features", f"{record.get('extractor', '?')} {record.get('extractor_file_hash', '?')}"),
                ("their resize rule, precision", f"{record.get('resize_rule', '?')}, {m.way.precision}"),
            ]
            rows += [("also", name) for name in m.seconds]
            rows += [
                (column.title, protocol) for column in PIXEL_COLUMNS if (protocol := column.protocol(record))
            ]
            rows.append(
                (
                    "measured",
                    f"{record.get('time', '?')}, {record.get('device', '?')}, "
                    f"omokage {record.get('omokage', '?')}, torch {record.get('torch', '?')}, "
                    f"{record.get('minutes', '?')} min",
                )
            )
            found.append((run, rows))
    return found
