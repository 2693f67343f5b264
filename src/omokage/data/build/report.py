"""The report of a build: one HTML file with its pictures inside, which shows what was kept and left out."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from ..steps.clean import CRITERIA, Criterion
from ..steps.encode import THUMBNAIL
from ..steps.read import kind_of
from ..store.columns import ABOUT, COLUMNS
from ..store.faceset import FaceSet

SHOWN = 96  # number of faces shown of a set cut out of illustrations
SHOWN_AS_THEY_CAME = 48
_NAMED = 12  # number of files named for each reason
_ROWS = 14  # number of rows in a table of values, the most common ones
MAX_VALUES = 100  # a label with more is an identifier or a name: its values are not counted

_STEPS = (
    ("read", "could be read"),
    ("label", "may be used"),
    ("detect", "have a face"),
)
_FACE_STEPS = (
    ("clean", "are clean"),
    ("crop", "lie wholly in the picture"),
    ("upscale", "are large enough"),
    ("duplicates", "are no copies"),
)


@dataclass(frozen=True)
class _Table:
    """The most common values with their bars."""

    title: str
    rows: list[tuple[str, int]]
    note: str = ""
    lost: bool = False
    others: int = 0  # values that are not shown ...
    rest: int = 0  # ... and how often they occur

    @classmethod
    def of(cls, title: str, values: Counter[str], note: str = "", lost: bool = False) -> "_Table":
        common = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_ROWS]
        rest = values.total() - sum(count for _, count in common)
        return cls(title, common, note, lost, max(len(values) - _ROWS, 0), rest)


@dataclass(frozen=True)
class _Reason:
    """Examples of files or faces left out for one reason: pictures, or lines that name files."""

    title: str
    pictures: list[tuple[str, str]]
    lines: list[str]
    more: int = 0


@dataclass(frozen=True)
class _Step:
    """A step between file and face, with its numbers."""

    title: str
    left: int
    of: int
    lost: int


@dataclass(frozen=True)
class _Histogram:
    """A histogram. Heights are in 80ths of the chart's height, positions in 200ths of its width."""

    name: str
    about: str
    bars: list[tuple[int, float]]
    limit: float | None
    low: float
    high: float


@cache
def _template() -> Template:
    found = PackageLoader("omokage.data.build", "template")
    environment = Environment(
        loader=found, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["n"] = _n
    return environment.get_template("build.html")


def write_report(manifest: dict[str, Any], index: pa.Table, found: pa.Table, examples: dict[str, Any]) -> str:
    """The page, from the manifest, the index, all faces found, and thumbnails (base64 JPEG)."""
    counts = manifest["counts"]
    part = 100 * counts["kept"] / max(counts["found"], 1)
    lost = [("Files", counts["pictures"]["reasons"]), ("Faces", counts["reasons"])]
    return _template().render(
        title="What became of the illustrations",
        summary=f"{_n(counts['pictures']['found'])} files, {_n(counts['found'])} faces found, "
        f"{_n(counts['kept'])} kept ({part:.1f}%). {_n(counts['bytes'] / 2**20, 1)} MB of faces.",
        funnel=_funnel(counts),
        kept=[(picture, "") for picture in examples["kept"]],
        lost_tables=[_Table.of(kind, Counter(reasons), lost=True) for kind, reasons in lost if reasons],
        lost_reasons=[reason for _, reasons in lost for reason in _pictured(reasons, examples["lost"])],
        duplicates=examples["duplicates"],
        duplicate_groups=counts.get("duplicate_groups", 0),
        histograms=_histograms(found, manifest["tools"]["thresholds"]),
        sections=[("Balance", _balance(index), "Nothing is known of them.")],
        made=_made(manifest),
    )


def write_faces_report(faces: FaceSet, rejected: Sequence[tuple[str, str]]) -> str:
    """The page of a set built with ``as_faces``. rejected: file and reason of each picture left out."""
    manifest, counts = faces.manifest, faces.manifest["counts"]
    sizes = Counter(
        f"{width}×{height}"
        for width, height in zip(
            faces.index["width"].to_pylist(), faces.index["height"].to_pylist(), strict=True
        )
    )
    changed = Counter(done for done in faces.index["done"].to_pylist() if done)
    reasons = Counter(counts["reasons"])
    kinds = [
        _Table.of("size, width × height", sizes),
        _Table.of("format", Counter(faces.index["format"].to_pylist())),
        *([_Table.of("changed while reading", changed)] if changed else []),
    ]
    return _template().render(
        title="What became of the faces",
        summary=f"{_n(counts['found'])} files, {_n(counts['kept'])} kept "
        f"({100 * counts['kept'] / max(counts['found'], 1):.1f}%), {_n(counts['duplicates'])} of them byte "
        f"for byte the same as an earlier one. {_n(counts['bytes'] / 2**20, 1)} MB of faces.",
        funnel=[],
        kept=[(_thumbnail(faces.image(i)), faces.keys[i]) for i in spread(len(faces), SHOWN_AS_THEY_CAME)],
        lost_tables=[_Table.of("", reasons, lost=True)] if reasons else [],
        lost_reasons=_named(reasons, rejected),
        duplicates=[],
        duplicate_groups=0,
        histograms=None,
        sections=[
            ("Sizes and formats", kinds, ""),
            ("Labels", _label_tables(faces.index), "None."),
        ],
        made=_made(manifest),
    )


def spread(count: int, number: int) -> list[int]:
    """At most ``number`` of ``count`` positions, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(number, count)).astype(int)).tolist()


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return base64.b64encode(out.getvalue()).decode()


def _named(reasons: Counter[str], rejected: Sequence[tuple[str, str]]) -> list[_Reason]:
    """Examples as file names for each reason, the most common reason first."""
    named: dict[str, list[str]] = {}
    for file, reason in rejected:
        there = named.setdefault(kind_of(reason), [])
        if len(there) < _NAMED:
            there.append(f"{file}: {reason}")
    return [
        _Reason(reason, [], named.get(reason, []), count - _NAMED) for reason, count in reasons.most_common()
    ]


def _pictured(reasons: dict[str, int], examples: dict[str, Any]) -> list[_Reason]:
    """Examples as pictures for each reason that has some, the most common reason first."""
    found = []
    for reason in sorted(reasons, key=lambda reason: (-reasons[reason], reason)):
        shown = [(picture, f"{name}: {why}") for name, why, picture in examples.get(reason, []) if picture]
        if shown:
            found.append(_Reason(reason, shown, []))
    return found


def _label_tables(index: pa.Table) -> list[_Table]:
    tables = []
    for name in index.column_names:
        if name in COLUMNS:
            continue
        values = index[name].to_pylist()
        known = Counter(value for value in values if value is not None)
        if len(known) > max(MAX_VALUES, len(values) // 20):
            tables.append(_Table(name, [], f"{_n(len(known))} values"))
            continue
        unknown = len(values) - known.total()
        notes = [ABOUT.get(name, ""), f"unknown of {_n(unknown)}" if unknown else ""]
        tables.append(_Table.of(name, known, "; ".join(filter(None, notes))))
    return tables


def _n(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _funnel(counts: dict[str, Any]) -> list[_Step]:
    pictures = counts["pictures"]
    left = pictures["found"]
    lines = [_Step("files found", left, left, 0)]
    for step, title in _STEPS:
        lost = pictures["steps"].get(step, 0)
        left -= lost
        lines.append(_Step(f"… that {title}", left, pictures["found"], lost))
    found = left = counts["found"]
    lines.append(_Step("faces found in them", left, found, 0))
    for step, title in _FACE_STEPS:
        lost = counts["steps"].get(step, 0)
        if lost or step in ("clean", "duplicates"):
            left -= lost
            lines.append(_Step(f"… that {title}", left, found, lost))
    return lines


def _histograms(found: pa.Table, limits: dict[str, float | None]) -> list[_Histogram]:
    out = []
    named: list[tuple[str, Criterion | None]] = [("score", None), *CRITERIA.items()]
    for name, criterion in named:
        values = found[name].drop_null().to_numpy().astype(float)
        if not len(values):
            continue
        about = "how sure the detector is" if criterion is None else criterion.about
        low, high = (float(end) for end in np.percentile(values, [0, 99]))
        limit = None if criterion is None else limits.get(name)
        if limit is not None:
            low, high = min(low, limit), max(high, limit)
        high = high if high > low else low + 1
        heights, _ = np.histogram(np.clip(values, low, high), 40, (low, high))
        tallest = max(int(heights.max()), 1)
        bars = [(i * 5, 80 * height / tallest) for i, height in enumerate(heights.tolist()) if height]
        place = None if limit is None else 200 * (limit - low) / (high - low)
        out.append(_Histogram(name, about, bars, place, low, high))
    return out


def _balance(index: pa.Table) -> list[_Table]:
    tables = []
    for name in ("hair", "eyes", "rating", "artist"):
        values = index[name].to_pylist() if name in index.column_names else []
        known = Counter(part for value in values if value for part in value.split("|"))
        if not known:
            continue
        if name in ("hair", "eyes"):
            by = Counter(index[f"{name}_from"].to_pylist())
            told = ", ".join(
                f"{_n(count)} by {source}" for source, count in sorted(by.items(), key=str) if source
            )
            note = f"{told}; the network estimates, see docs/building.md"
        else:
            note = f"unknown of {_n(sum(not value for value in values))}"
        tables.append(_Table.of(name, known, note))
    return tables


def _made(manifest: dict[str, Any]) -> list[tuple[str, object]]:
    lines = [("omokage", manifest["omokage"]), ("content hash", manifest["content_hash"])]
    lines += [("source", f"{s['name']} ({s['kind']})") for s in manifest["sources"]]
    lines += [(name, value) for name, value in manifest["options"].items() if name != "as_faces"]
    return lines + [(name, value) for name, value in manifest.get("tools", {}).items() if value is not None]
