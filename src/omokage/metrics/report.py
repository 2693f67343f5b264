"""Evaluation: measures a model against a face set, records the numbers, and prints tables of them."""

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy import stats

from .. import __version__
from ..errors import UserError
from ..hardware import device_name, peak_memory_mb
from ..progress import Progress
from .context import Context, Drawer, Samples, Warnings
from .features import Extractor, load_extractor
from .metric import Column, Metric, number
from .protocol import DEFAULT_PROTOCOL, parse_protocol
from .records import append_line, check_writable
from .table import FEATURE_COLUMNS, LIKELIHOOD_COLUMNS, METRICS, PIXEL_COLUMNS

if TYPE_CHECKING:
    from ..data.store.faceset import FaceSet

FEW = 1_000  # with fewer faces or samples, figures say little


def evaluate(
    model: Drawer,
    faces: "FaceSet",
    protocol: str = DEFAULT_PROTOCOL,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    *,
    psi: float = 1.0,
    critic: float = 1.0,
    seed: int = 0,
    also: Sequence[str] = (),
    two_sample: bool = False,
    repeats: int = 1,
    path_length: bool = False,
    device: str | torch.device | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure samples of ``model`` against all faces of a set: FID, KID and the rest of `table.METRICS`.

    The faces are resized to the model's resolution (scaled to cover, centre cropped). Then both sides go
    through the same extractor. Images that are not finite are counted, left out and reported, never replaced.
    Bad arguments are refused before anything is sampled.

    Args:
        protocol: see `parse_protocol`.
        out: a file to append the result to, one line of JSON.
        psi: truncation, unless the protocol's name gives it.
        critic: how many latents are tried for a sample, unless the protocol's name gives it; 1: no critic.
        seed: the first of the consecutive seeds.
        also: further extractors to measure the same samples with; their figures are in ``"also"``.
        two_sample: run the classifier two-sample test too; its result is in ``"two_sample"``.
        repeats: measure so many disjoint ranges of seeds, each with as many samples as the protocol says. The
            figures in feature spaces are means; see `over_ranges`. Figures of pixels are of the first range.
        path_length: measure perceptual path lengths too; they are in ``"path_length"``.
        device: where the extractor runs; None for the model's device.
        tell: called with one line for each thing that makes the figures doubtful (few faces, ...). What is
            known beforehand is told before sampling. All lines are in ``"warnings"`` of the result.

    Returns:
        The record that is written: the numbers, and everything that produced them.

    Raises:
        UserError: the protocol is unknown, ``repeats`` is not positive, there are too few faces or samples,
            the feature network is missing, ``out`` cannot be written, a face is damaged, or fewer than two
            samples are finite.
    """
    started = time.monotonic()
    asked = parse_protocol(protocol).at(psi, critic)
    if repeats < 1:
        raise UserError(f"repeats must be 1 or more, got {repeats}")
    if out is not None:
        check_writable(Path(out))
    wanted = {name for name, yes in (("two_sample", two_sample), ("path_length", path_length)) if yes}
    metrics = [metric for metric in METRICS if not metric.option or metric.name in wanted]
    where = model.device if device is None else torch.device(device)
    names = dict.fromkeys([asked.extractor, *also])
    extractors = [load_extractor(name, device=where, progress=progress) for name in names]
    warn, kept = Warnings(tell=tell), dict[str, Any]()
    of_pixels: dict[str, Any] = {}
    found: list[list[dict[str, Any]]] = []
    not_finite = 0
    for first in range(seed, seed + repeats * asked.samples, asked.samples):
        used = metrics if first == seed else [metric for metric in metrics if not metric.of_pixels]
        samples = Samples(
            model, range(first, first + asked.samples), asked.settings, extractors, used, progress
        )
        spaces = [
            Context(faces, model.resolution, samples, extractor, asked, first, where, warn, kept, progress)
            for extractor in extractors
        ]
        if first == seed:
            _check(spaces, metrics)
        found.append([_in_space(context, metrics) for context in spaces])
        not_finite += samples.drawn.not_finite
        for metric in sorted(used, key=lambda metric: metric.option):  # optional metrics come last
            if metric.of_pixels:
                of_pixels |= metric.measure(spaces[0])
    numbers = [over_ranges(ranges) for ranges in zip(*found, strict=True)]
    height, width = model.resolution
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **numbers[0],
        "samples": asked.samples,
        "samples_not_finite": not_finite,
        "seeds": [seed, seed + repeats * asked.samples - 1],
        **({"repeats": repeats} if repeats > 1 else {}),
        "psi": asked.psi,
        **({"critic": asked.critic} if asked.critic != 1 else {}),
        "weights": "averaged",
        "snapshot_hash": model.snapshot_hash,
        "images_seen": model.images_seen,
        "face_set_hash": faces.content_hash,
        "resolution": [height, width],
        "faces_resize_rule": spaces[0].real.key["faces_resize_rule"],
    }
    if numbers[1:]:
        record["also"] = numbers[1:]
    record |= of_pixels
    if warn.lines:
        record["warnings"] = warn.lines
    record |= {
        "omokage": __version__,
        "torch": torch.__version__,
        "device": device_name(where),
        "threads": torch.get_num_threads(),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "peak_memory_mb": peak_memory_mb(where),
    }
    if out is not None:
        append_line(Path(out), record)
    return record


def _check(spaces: Sequence[Context], metrics: Sequence[Metric]) -> None:
    """Before sampling: refuse what cannot be measured, and warn if figures will say little."""
    first = spaces[0]
    few_pictures(first.warn, len(first.faces), len(first.different), "faces")
    few_pictures(first.warn, first.asked.samples, first.asked.samples, "samples")
    for metric in metrics:
        if metric.of_pixels:
            metric.check(first)
    for context in spaces:
        for metric in metrics:
            if not metric.of_pixels:
                metric.check(context)


def few_pictures(warn: Warnings, count: int, different: int, what: str) -> None:
    """Warn if there are fewer than `FEW` pictures; copies of a file count once.

    >>> few_pictures(Warnings(tell=print), 1_200, 24, "faces")
    only 24 different faces among 1,200: below about 1,000, figures are rough and FID is too high
    """
    if different < FEW:
        among = "" if different == count else f" among {count:,}"
        kind = f"different {what}" if among else what
        warn(f"only {different:,} {kind}{among}: below about {FEW:,}, figures are rough and FID is too high")


def _in_space(context: Context, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The figures in the features of one extractor, and what made them."""
    numbers: dict[str, Any] = {
        "protocol": replace(context.asked, extractor=context.extractor.name).name
    }
    for metric in metrics:
        if not metric.of_pixels:
            numbers |= metric.measure(context)
    return {
        **numbers,
        "faces": context.real.count,
        "faces_compared_singly": len(context.real.features),
        **about(context.extractor),
    }


def over_ranges(ranges: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several ranges of seeds as one: means, with what is known of their error.

    A figure that is missing in one range is missing in the result. Of ``fid`` and ``fid_infinity`` the half
    width of the 95% interval of the mean is added (Student's t, from the spread over ranges). The faces are
    the same in all ranges, so the interval tells of the seeds of samples alone. A standard error becomes that
    of the mean. ``ranges`` keeps the figures of each range.

    >>> one = over_ranges([{"fid": 11.0, "samples": 5}, {"fid": 12.0, "samples": 5}])
    >>> one["fid"], round(one["fid_half_width"], 2), one["samples"]
    (11.5, 6.35, 5)
    """
    joined = dict(ranges[0])
    if len(ranges) == 1:
        return joined
    kept: list[dict[str, Any]] = [{} for _ in ranges]
    for column in FEATURE_COLUMNS:
        if not any(column.key in one for one in ranges):
            continue
        values = [number(one.get(column.key)) for one in ranges]
        for one, value in zip(kept, values, strict=True):
            one[column.key] = value
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        joined[column.key] = sum(known) / len(known) if whole else None
        if column.error.endswith("half_width"):
            joined[column.error] = _half_width(known) if whole else None
        elif column.error:
            squares = sum(float(one[column.error]) ** 2 for one in ranges if column.error in one)
            joined[column.error] = math.sqrt(squares) / len(ranges)
    joined["ranges"] = kept
    return joined


def _half_width(values: Sequence[float]) -> float:
    """Half the width of the 95% interval of the mean of independent values (Student's t)."""
    spread = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(stats.t.ppf(0.975, len(values) - 1) * spread)


def about(extractor: Extractor) -> dict[str, str]:
    """What a record says about the feature network."""
    return {
        "extractor": extractor.name,
        "extractor_file_hash": extractor.file_hash,
        "resize_rule": extractor.resize_rule,
        "extractor_precision": extractor.precision,
    }


_WAY = ("protocol", "face_set_hash", "resolution", "extractor_precision")


def tables(records: Iterable[dict[str, Any]], labels: Sequence[str] | None = None) -> list[Table]:
    """One table for each way of measuring, with rows in the order given.

    A way of measuring is the protocol, the face set, the resolution and the extractor's precision. Only
    numbers in the same table can be compared. ``labels`` name the rows; by default a row is named by its
    snapshot and the images seen.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, dict[str, Any]]]] = {}
    for i, record in enumerate(records):
        label = labels[i] if labels else _label(record)
        for numbers in (record, *record.get("also", ())):
            whole = {**record, **numbers}
            way = tuple(str(whole.get(name)) for name in _WAY)
            groups.setdefault(way, []).append((label, whole))
    made = []
    for (protocol, face_set, resolution, precision), rows in groups.items():
        about = (
            f"{rows[0][1].get('faces', '?'):,} faces" if isinstance(rows[0][1].get("faces"), int) else "faces"
        )
        size = "×".join(re.findall(r"\d+", resolution))
        how = rows[0][1].get("dequantisation")
        caption = f"{about} ({face_set[:8]}) at {size}, {f'{how} dequantisation' if how else precision}"
        table = Table(
            title=Text(protocol, style="bold"),
            caption=Text(caption),
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("model")
        columns = LIKELIHOOD_COLUMNS if LIKELIHOOD_COLUMNS[0].key in rows[0][1] else FEATURE_COLUMNS
        # FID∞ is missing in protocols of few samples.
        columns = tuple(
            column for column in columns if any(column.key in row for _, row in rows) or column is columns[0]
        )
        for column in columns:
            table.add_column(column.title, justify="right", no_wrap=True)
        for label, row in rows:
            table.add_row(Text(label), *(Text(_cell(row, column)) for column in columns))
        made.append(table)
    return made


def turned(table: Table) -> Table:
    """The table transposed, for a terminal that is too narrow for all its columns."""
    left: Any = {"title_justify": "left", "caption_justify": "left"}
    made = Table(title=table.title, caption=table.caption, show_header=False, **left)
    made.add_column(no_wrap=True)
    for _ in range(table.row_count):
        made.add_column(justify="right")
    for column in table.columns:
        made.add_row(column.header, *column.cells)
    return made


def _label(record: dict[str, Any]) -> str:
    seen = record.get("images_seen")
    images = f", {seen:,} images" if isinstance(seen, int) else ""
    return f"{str(record.get('snapshot_hash', '?'))[:8]}{images}"


def _cell(row: dict[str, Any], column: Column) -> str:
    note = column.note(row)
    return f"{column.text(row)} {f'({note})' if column.interval else note}" if note else column.text(row)


def print_results(
    records: Iterable[dict[str, Any]],
    console: Console | None = None,
    labels: Sequence[str] | None = None,
    *,
    warnings: bool = True,
) -> None:
    """Print `tables`, a note if there is more than one, then remarks on single numbers.

    ``warnings`` prints the warnings in the records too; set it to False if they were printed already.
    """
    console = console or Console(highlight=False)
    records = list(records)
    made = tables(records, labels)
    if len(made) > 1:
        console.print(
            Text(f"{len(made)} ways of measuring: numbers of different tables cannot be compared.", "yellow")
        )
    for table in made:
        least = console.measure(table, options=console.options.update(width=1000)).minimum
        console.print(table if least <= console.width else turned(table))
    for i, record in enumerate(records):
        label = labels[i] if labels else _label(record)
        drawn = record.get("samples", 0) * record.get("repeats", 1)
        if record.get("samples_not_finite"):
            bad, asked = record["samples_not_finite"], drawn
            console.print(
                Text(f"{label}: {bad:,} of {asked:,} samples were not finite and were left out", "red")
            )
        elif "samples_not_finite" in record:
            console.print(Text(f"{label}: all {drawn:,} samples were finite", "dim"))
        if record.get("repeats"):
            ranges = f"{record['repeats']} ranges of seeds, {record['samples']:,} samples each"
            console.print(Text(f"{label}: means over {ranges}; FID with its 95% interval", "dim"))
        if record.get("faces_not_finite"):
            bad, asked = record["faces_not_finite"], record["faces"]
            told = f"{label}: likelihood was not finite for {bad:,} of {asked:,} faces; they were left out"
            console.print(Text(told, "red"))
        if record.get("trained_on_the_other_part") is False:
            told = (
                f"{label}: it is not known whether the model has seen these faces (no train part beside them)"
            )
            console.print(Text(told, "yellow"))
        if record.get("trained_noise"):
            told = (
                f"{label}: trained with normal noise in place of dequantisation, so the bound is loose"
            )
            console.print(Text(told, "yellow"))
        for line in record.get("warnings", ()) if warnings else ():
            console.print(Text(f"{label}: {line}", "yellow"))
        for column in PIXEL_COLUMNS:
            if text := column.text(record):
                said = "; ".join(filter(None, (column.note(record), column.ideal, column.protocol(record))))
                console.print(Text(f"{label}: {column.words} {text} ({said})"))
