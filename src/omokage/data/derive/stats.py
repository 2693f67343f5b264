"""Statistics of a face set."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.bar import Bar
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ...progress import Progress
from ..store.columns import YEAR, has_column, label_columns
from ..store.faceset import FaceSet
from ..text import one_line
from .choose import described_column
from .duplicates import duplicate_groups
from .pairs import ALIKE, SAME
from .signatures import face_set_signatures

_BAR = 24
_SHOWN = 12


def statistics(
    faces: FaceSet | str | Path,
    *,
    near: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The statistics of a face set, ready for JSON.

    near: also compare all pictures to find near duplicates (some thousand per second); else only exact ones.
    """
    faces = faces if isinstance(faces, FaceSet) else FaceSet.open(faces)
    signatures = face_set_signatures(faces, workers=workers, progress=progress) if near else None
    figures: dict[str, Any] = {
        "path": str(faces.path),
        "content_hash": faces.content_hash,
        **{key: faces.manifest[key] for key in ("split", "derived") if key in faces.manifest},
        "rejected": faces.manifest["counts"].get("rejected", 0),
        **index_statistics(faces.index),
    }
    figures["duplicates"] |= {} if signatures is None else near_statistics(signatures, progress)
    return figures


def index_statistics(index: pa.Table) -> dict[str, Any]:
    """The statistics that need only the index: counts, sizes, formats, sources, exact duplicates, labels."""
    width, height = index["width"].to_numpy(), index["height"].to_numpy()
    shapes, numbers = np.unique(np.stack([width, height]), axis=1, return_counts=True)
    order = np.lexsort((shapes[0], -numbers))
    different = pc.count_distinct(index["sha256"]).as_py()
    sides = np.minimum(width, height)
    spread = [float(value) for value in np.quantile(sides, (0, 0.5, 1))] if len(index) else [0.0] * 3
    return {
        "faces": len(index),
        "bytes": int(pc.sum(index["bytes"]).as_py() or 0),
        "bytes_on_disk": int(pc.sum(index["length"]).as_py() or 0),
        "shorter_side": {"lowest": spread[0], "median": spread[1], "highest": spread[2]},
        "sizes": {f"{shapes[0, i]}x{shapes[1, i]}": int(numbers[i]) for i in order},
        "formats": described_column(index, "format")["values"],
        "untouched": int(pc.sum(pc.equal(index["done"], "")).as_py() or 0),
        "sources": described_column(index, "source")["values"],
        "duplicates": {"exact": len(index) - different},
        "labels": {name: described_column(index, name) for name in _labels(index)},
    }


def _labels(index: pa.Table) -> list[str]:
    """The labels of ``index``, with the year that file names carry."""
    names = label_columns(index)
    return [*names, YEAR] if YEAR not in names and has_column(index, YEAR) else names


def near_statistics(signatures: np.ndarray, progress: Progress | None = None) -> dict[str, int]:
    """Number of pictures that are copies of others, and of pictures that share a drawing with others."""
    same = duplicate_groups(signatures, likeness=SAME, progress=progress)
    alike = duplicate_groups(signatures, likeness=ALIKE, progress=progress)
    return {
        "same": len(same) - len(np.unique(same)),
        "alike": len(alike) - len(np.unique(alike)),
        "largest_group": int(np.bincount(alike).max(initial=0)),
    }


def show_statistics(figures: dict[str, Any], console: Console | None = None) -> None:
    """Print the statistics as text, at most 80 columns wide."""
    console = console or Console(highlight=False)
    if console.width > 80:
        console = Console(highlight=False, width=80, file=console.file)
    n = figures["faces"]
    duplicates = figures["duplicates"]
    side = figures["shorter_side"]
    lines = [
        ("faces", f"{n:,}" + (f" ({figures['rejected']:,} left out)" if figures["rejected"] else "")),
        ("bytes", f"{figures['bytes'] / 1e6:,.1f} MB, {figures['bytes'] / max(n, 1):,.0f} a face"),
        ("shorter side", f"{side['lowest']:.0f} to {side['highest']:.0f} px, median {side['median']:.0f}"),
        ("as they came", f"{figures['untouched']:,} ({_share(figures['untouched'], n)})"),
        ("copies, exact", f"{duplicates['exact']:,} ({_share(duplicates['exact'], n)})"),
    ]
    if "same" in duplicates:
        lines.append(("copies, near too", f"{duplicates['same']:,} ({_share(duplicates['same'], n)})"))
        largest = f", largest group {duplicates['largest_group']:,}" if duplicates["alike"] else ""
        lines.append(("same drawing", f"{duplicates['alike']:,} ({_share(duplicates['alike'], n)}){largest}"))
    if "split" in figures:
        part, share = figures["split"].get("part"), figures["split"].get("holdout")
        lines.append(("part of a split", f"{part}, {share} held out"))
    lines.append(("content hash", figures["content_hash"][:16] + "…"))
    head = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for name, value in lines:
        head.add_row(Text(name), Text(one_line(value)))
    parts: list[Any] = [head]
    for title, counts in (("size", figures["sizes"]), ("format", figures["formats"])):
        if len(counts) > 1:
            parts += ["", _bars(title, counts, n)]
    parts += ["", _bars("source", figures["sources"], n)]
    for name, column in figures["labels"].items():
        if not name.endswith("_sha256"):  # hashes are only in the JSON
            parts += ["", _label(name, column, n)]
    console.print(Group(*(Text(part) if isinstance(part, str) else part for part in parts)))


def _label(name: str, column: dict[str, Any], n: int) -> Any:
    known = f"{column['known']:,} known ({_share(column['known'], n)})"
    if "values" in column:
        if len(column["values"]) == column["known"] > _SHOWN:
            return Text(f"{one_line(name, 30)}: {known}, each another")
        return _bars(f"{one_line(name, 30)}: {known}", column["values"], max(column["known"], 1))
    if not column["known"]:
        return Text(f"{one_line(name, 30)}: nothing known")
    numbers = f"{column['lowest']:g} to {column['highest']:g}, median {column['median']:g}"
    return Text(f"{one_line(name, 30)}: {known}, {numbers}")


def _bars(title: str, counts: dict[str, int], n: int) -> Table:
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=Text(title), title_justify="left", title_style="bold",
        show_header=False,
    )  # fmt: skip
    table.add_column(max_width=28, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(max_width=_BAR, min_width=4)  # the bars shrink first, so that numbers are never cut
    shown = list(counts.items())[:_SHOWN]
    most = max((number for _, number in shown), default=1)
    for value, number in shown:
        bar = Bar(most, 0, max(number, most / (8 * _BAR)))
        table.add_row(Text(one_line(value, 60)), f"{number:,}", _share(number, n), bar)
    if rest := list(counts.values())[_SHOWN:]:
        table.add_row(f"{len(rest):,} more", f"{sum(rest):,}", _share(sum(rest), n), "")
    return table


def _share(number: int, n: int) -> str:
    return f"{100 * number / max(n, 1):.1f}%"
