"""The page that shows what a build kept and lost: one HTML file with its pictures inside, for the user."""

import base64
import html
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from .clean import CRITERIA, Criterion
from .faceset import COLUMNS, FaceSet
from .read import kind_of

THUMBNAIL = 96
SHOWN = 96  # faces of a set cut out of illustrations
SHOWN_AS_THEY_CAME = 48
_NAMED = 12  # files left out that are named for each reason
_ROWS = 14  # of a table of values, the most common ones
_MOST_VALUES = 100  # a label with more is a number or a name, and is not counted up

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

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1b22; --paper: #fbfafc; --soft: #6b6675; --line: #dcd8e2;
  --kept: #5b4bb5; --lost: #c9647a; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceaf1; --paper: #17151b; --soft: #a39dae;
  --line: #35313d; --kept: #9b8df0; --lost: #e28a9b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p, .note { color: var(--soft); margin: .25rem 0 .75rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .75rem .2rem 0;
  vertical-align: middle; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th { font-weight: 500; color: var(--soft); }
.bar { height: .8rem; min-width: 1px; background: var(--kept); border-radius: 2px; }
td.wide { width: 45%; } .lost { background: var(--lost); }
.faces { display: flex; flex-wrap: wrap; gap: 6px; } .faces img { height: 72px; border-radius: 4px; }
.faces figure { margin: 0; } .group { border: 1px solid var(--line); border-radius: 6px; padding: 6px; }
.group img { opacity: .55; } .group img.best { opacity: 1; outline: 2px solid var(--kept); }
.histograms { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.25rem; }
.histogram svg { width: 100%; height: 5rem; display: block; border-bottom: 1px solid var(--line); }
.ends { display: flex; justify-content: space-between; font-size: .8rem; color: var(--soft); }
code { overflow-wrap: anywhere; }
"""


def write_report(manifest: dict[str, Any], index: pa.Table, found: pa.Table, examples: dict[str, Any]) -> str:
    """The page, from the manifest, the index, all faces found, and thumbnails (base64 JPEG)."""
    counts = manifest["counts"]
    pictures = counts["pictures"]
    part = 100 * counts["kept"] / max(counts["found"], 1)
    body = [
        "<h1>What became of the illustrations</h1>",
        f"<p>{_n(pictures['found'])} files, {_n(counts['found'])} faces found, "
        f"{_n(counts['kept'])} kept ({part:.1f}%). {_n(counts['bytes'] / 2**20, 1)} MB of faces.</p>",
        "<h2>From file to face</h2>",
        _funnel(counts),
        "<h2>Kept</h2><p>Evenly spread over the set.</p>",
        _faces([(picture, "") for picture in examples["kept"]]),
        "<h2>Left out</h2>",
        _lost(counts, examples["lost"]),
    ]
    if examples["duplicates"]:
        groups = "".join(
            '<div class="faces group">'
            + "".join(
                _image(picture, "kept" if best else "left out", "best" if best else "")
                for picture, best in group
            )
            + "</div>"
            for group in examples["duplicates"]
        )
        body += [
            f"<h2>Duplicates</h2><p>{_n(counts['duplicate_groups'])} groups of copies; "
            "the outlined one of each is kept.</p>",
            f'<div class="faces">{groups}</div>',
        ]
    body += [
        "<h2>Numbers of all faces found</h2>",
        "<p>The vertical line is the threshold: "
        "<code>--threshold NAME=NUMBER --detections</code> changes it without detecting again.</p>",
        _histograms(found, manifest["tools"]["thresholds"]),
        "<h2>Balance</h2>",
        _balance(index),
        "<h2>How it was made</h2>",
        _made(manifest),
    ]
    return _page(body)


def write_faces_report(faces: FaceSet, rejected: Sequence[tuple[str, str]]) -> str:
    """The page of a set of faces that came as such; rejected: file and reason of each one left out."""
    manifest, counts = faces.manifest, faces.manifest["counts"]
    sizes = Counter(
        f"{width}×{height}"
        for width, height in zip(
            faces.index["width"].to_pylist(), faces.index["height"].to_pylist(), strict=True
        )
    )
    changed = Counter(done for done in faces.index["done"].to_pylist() if done)
    body = [
        "<h1>What became of the faces</h1>",
        f"<p>{_n(counts['found'])} files, {_n(counts['kept'])} kept "
        f"({100 * counts['kept'] / max(counts['found'], 1):.1f}%), {_n(counts['duplicates'])} of them byte "
        f"for byte the same as an earlier one. {_n(counts['bytes'] / 2**20, 1)} MB of faces.</p>",
        "<h2>Kept</h2><p>Evenly spread over the set.</p>",
        _faces([(_thumbnail(faces.image(i)), faces.keys[i]) for i in spread(len(faces), SHOWN_AS_THEY_CAME)]),
        "<h2>Left out</h2>",
        _refused(counts["reasons"], rejected),
        "<h2>Sizes and formats</h2>",
        _table("size, width × height", sizes),
        _table("format", Counter(faces.index["format"].to_pylist())),
        _table("changed while reading", changed) if changed else "",
        "<h2>Labels</h2>",
        _label_tables(faces.index),
        "<h2>How it was made</h2>",
        _made(manifest),
    ]
    return _page(body)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def _page(body: list[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Build report</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return base64.b64encode(out.getvalue()).decode()


def _refused(reasons: dict[str, int], rejected: Sequence[tuple[str, str]]) -> str:
    if not reasons:
        return "<p>Nothing.</p>"
    named: dict[str, list[str]] = {}
    for file, reason in rejected:
        there = named.setdefault(kind_of(reason), [])
        if len(there) < _NAMED:
            there.append(f"{file}: {reason}")
    out = [_table("", Counter(reasons), lost=True)]
    for reason, count in Counter(reasons).most_common():
        lines = "".join(f"<li>{_text(line)}</li>" for line in named.get(reason, ()))
        more = f"<p>and {_n(count - _NAMED)} more, in rejected.csv</p>" if count > _NAMED else ""
        out.append(f"<h3>{_text(reason)}</h3><ul>{lines}</ul>{more}")
    return "".join(out)


def _label_tables(index: pa.Table) -> str:
    out = []
    for name in index.column_names:
        if name in COLUMNS:
            continue
        values = index[name].to_pylist()
        known = Counter(value for value in values if value is not None)
        if len(known) > max(_MOST_VALUES, len(values) // 20):
            out.append(f'<h3>{_text(name)}</h3><div class="note">{_n(len(known))} values</div>')
            continue
        unknown = len(values) - known.total()
        note = f'<div class="note">unknown of {_n(unknown)}</div>' if unknown else ""
        out.append(_table(name, known, note))
    return "".join(out) or "<p>None.</p>"


def _n(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _text(value: object) -> str:
    return html.escape(str(value))


def _bar(value: float, most: float, lost: bool = False) -> str:
    kind = "bar lost" if lost else "bar"
    return f'<td class="wide"><div class="{kind}" style="width:{100 * value / max(most, 1):.2f}%"></div></td>'


def _funnel(counts: dict[str, Any]) -> str:
    pictures = counts["pictures"]
    left = pictures["found"]
    lines = [_row("files found", left, left, 0)]
    for step, title in _STEPS:
        lost = pictures["steps"].get(step, 0)
        left -= lost
        lines.append(_row(f"… that {title}", left, pictures["found"], lost))
    found = left = counts["found"]
    lines.append(_row("faces found in them", left, found, 0))
    for step, title in _FACE_STEPS:
        lost = counts["steps"].get(step, 0)
        if lost or step in ("clean", "duplicates"):
            left -= lost
            lines.append(_row(f"… that {title}", left, found, lost))
    head = '<tr><th></th><th class="n">left</th><th class="n">lost here</th><th></th></tr>'
    return f"<table>{head}{''.join(lines)}</table>"


def _row(title: str, left: int, most: int, lost: int) -> str:
    return f'<tr><td>{_text(title)}</td><td class="n">{_n(left)}</td><td class="n">{_n(lost) if lost else ""}</td>{_bar(left, most)}</tr>'  # noqa: E501


def _image(picture: str, title: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<img{marked} src="data:image/jpeg;base64,{picture}" alt="{_text(title)}" title="{_text(title)}">'


def _faces(pictures: list[tuple[str, str]]) -> str:
    images = "".join(_image(picture, title) for picture, title in pictures if picture)
    return f'<div class="faces">{images}</div>'


def _lost(counts: dict[str, Any], examples: dict[str, Any]) -> str:
    out = []
    for kind, reasons in (("Files", counts["pictures"]["reasons"]), ("Faces", counts["reasons"])):
        if reasons:
            out.append(_table(kind, Counter(reasons), lost=True))
        for reason in sorted(reasons, key=lambda reason: (-reasons[reason], reason)):
            shown = [
                (picture, f"{name}: {why}") for name, why, picture in examples.get(reason, []) if picture
            ]
            if shown:
                out.append(f"<h3>{_text(reason)}</h3>{_faces(shown)}")
    return "".join(out) or "<p>Nothing.</p>"


def _histograms(found: pa.Table, limits: dict[str, float | None]) -> str:
    out = []
    named: list[tuple[str, Criterion | None]] = [("score", None), *CRITERIA.items()]
    for name, criterion in named:
        values = found[name].drop_null().to_numpy().astype(float)
        if not len(values):
            continue
        about = "how sure the detector is" if criterion is None else criterion.about
        low, high = np.percentile(values, [0, 99])
        limit = None if criterion is None else limits.get(name)
        if limit is not None:
            low, high = min(low, limit), max(high, limit)
        high = high if high > low else low + 1
        heights, _ = np.histogram(np.clip(values, low, high), 40, (low, high))
        tallest = max(int(heights.max()), 1)
        bars = "".join(
            f'<rect x="{i * 5}" y="{80 - 80 * h / tallest:.1f}" width="4" height="{80 * h / tallest:.1f}" '
            'fill="var(--kept)"/>'
            for i, h in enumerate(heights.tolist())
            if h
        )
        if limit is not None:
            x = 200 * (limit - low) / (high - low)
            bars += f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="80" stroke="var(--lost)" stroke-width="2"/>'
        out.append(
            f'<div class="histogram"><b>{name}</b><div class="note">{_text(about)}</div>'
            f'<svg viewBox="0 0 200 80" preserveAspectRatio="none" role="img" aria-label="{name}">'
            f'{bars}</svg><div class="ends"><span>{low:.3g}</span><span>{high:.3g}</span></div></div>'
        )
    return f'<div class="histograms">{"".join(out)}</div>'


def _balance(index: pa.Table) -> str:
    out = []
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
            note = f'<div class="note">{_text(told)}; the network estimates, see docs/building.md</div>'
        else:
            note = f'<div class="note">unknown of {_n(sum(not value for value in values))}</div>'
        out.append(_table(name, known, note))
    return "".join(out) or "<p>Nothing is known of them.</p>"


def _table(title: str, values: Counter[str], note: str = "", lost: bool = False) -> str:
    """The most common values with their bars."""
    common = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_ROWS]
    lines = [
        f'<tr><td>{_text(value)}</td><td class="n">{_n(count)}</td>{_bar(count, common[0][1], lost)}</tr>'
        for value, count in common
    ]
    if len(values) > _ROWS:
        rest = values.total() - sum(count for _, count in common)
        lines.append(
            f'<tr><td>{_n(len(values) - _ROWS)} others</td><td class="n">{_n(rest)}</td><td></td></tr>'
        )
    head = f"<h3>{_text(title)}</h3>" if title else ""
    return f"{head}{note}<table>{''.join(lines)}</table>"


def _made(manifest: dict[str, Any]) -> str:
    lines = [("omokage", manifest["omokage"]), ("content hash", manifest["content_hash"])]
    lines += [("source", f"{s['name']} ({s['kind']})") for s in manifest["sources"]]
    lines += [(name, value) for name, value in manifest["options"].items() if name != "as_faces"]
    lines += [(name, value) for name, value in manifest.get("tools", {}).items() if value is not None]
    told = "".join(
        f"<tr><td>{_text(name)}</td><td><code>{_text(value)}</code></td></tr>" for name, value in lines
    )
    return f"<table>{told}</table>"
