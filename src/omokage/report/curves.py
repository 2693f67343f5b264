"""Charts as SVG. The page's style sheet sets their colours; no other file is needed."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from ..pages.ticks import log_ticks, nice_ticks, smoothed, tick_label

COLOURS = 8  # in the page's palette; further series are dashed
MAX_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One curve: points with rising x. Points whose y is not finite are left out. ``mark``: draw dots."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    colour: int = 0
    mark: bool = False

    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        pairs = zip(self.xs, self.ys, strict=True)
        return [(x, y) for x, y in pairs if y is not None and math.isfinite(y) and math.isfinite(x)]


def thinned(points: Sequence[tuple[float, float]], max_points: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most ``max_points`` points, each the mean of a group of neighbours; the last point is kept."""
    if len(points) <= max_points:
        return list(points)
    size = -(-len(points) // (max_points - 1))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
    return [*means, points[-1]]


def chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    width: int = 560,
    height: int = 230,
    labels: bool = False,
) -> Markup:
    """An SVG chart of all ``series`` over one x axis; empty if there is nothing to draw.

    Curves of many points are drawn twice: the raw values faint, a moving mean strong. Positive values with a
    wide range get a logarithmic scale, which a word in the corner tells. The range of y leaves out a few
    outliers, so that they do not flatten the rest. ``labels``: write each curve's name at its end.
    """
    drawn = [(one, one.finite()) for one in series]
    drawn = [(one, points) for one, points in drawn if points]
    if not drawn:
        return Markup()
    left, right, top, bottom = 48, (118 if labels else 14), 18, 34
    xs = [x for _, points in drawn for x, _ in points]
    x_low, x_high = (0.0 if min(xs) <= 0.2 * max(xs) else min(xs)), max(xs)
    if x_high <= x_low:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    values = sorted(y for _, points in drawn for _, y in points)
    cut = len(values) // 50
    y_low, y_high = values[cut], values[-1 - cut]
    for one, points in drawn:
        if one.mark or len(points) < 60:
            ys = [y for _, y in points]
            y_low, y_high = min(y_low, *ys), max(y_high, *ys)
    log = y_low > 0 and y_high / y_low > 30
    if log:
        y_low, y_high = y_low / 1.1, y_high * 1.1
        y_ticks = log_ticks(y_low, y_high)
    else:
        room = (y_high - y_low) * 0.06 or max(abs(y_high) * 0.1, 0.5)
        floor = 0.0 if 0 <= y_low < 0.35 * y_high else y_low - room
        y_low, y_high = floor, y_high + room
        y_ticks = nice_ticks(y_low, y_high)

    def across(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def down(y: float) -> float:
        if log:
            share = (math.log(max(y, 1e-300)) - math.log(y_low)) / (math.log(y_high) - math.log(y_low))
        else:
            share = (y - y_low) / (y_high - y_low)
        return height - bottom - max(-3.0, min(4.0, share)) * (height - top - bottom)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in points)

    shapes = [path(points) for _, points in drawn]
    clip = f"clip-{zlib.crc32(repr((title, x_label, shapes)).encode()):08x}"
    inner = f'x="{left}" y="{top}" width="{width - left - right}" height="{height - top - bottom}"'
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)} over {escape(x_label)}">',
        f'<clipPath id="{clip}"><rect {inner}/></clipPath>',
    ]

    def write(x: float, y: float, text: str, anchor: str) -> None:
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    axis = height - bottom
    for tick in y_ticks:
        y = down(tick)
        parts.append(f'<line class="rule" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        write(left - 7, y + 3.6, tick_label(tick), "end")
    for tick in nice_ticks(x_low, x_high):
        write(across(tick), axis + 15, tick_label(tick), "middle")
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{axis}" y2="{axis}"/>')
    write(width - right, height - 3, x_label, "end")
    if log:
        write(left, 9, "logarithmic", "start")
    parts.append(f'<g clip-path="url(#{clip})">')
    ends = []
    for one, points in drawn:
        style = f"c{one.colour % COLOURS}" + (" dashed" if one.colour >= COLOURS else "")
        noisy = not one.mark and len(points) >= 60
        if noisy:
            parts.append(f'<path class="raw {style}" d="{path(thinned(points, 400))}"/>')
        line = thinned(smoothed(points)) if noisy else thinned(points)
        if len(line) > 1:
            parts.append(f'<path class="curve {style}" d="{path(line)}"/>')
        ends.append((one, style, line[-1]))
    parts.append("</g>")
    for one, points in drawn:
        if one.mark or len(points) == 1:
            style = f"c{one.colour % COLOURS}"
            for x, y in points:
                about = f"{escape(one.name)}: {y:,.4g} at {x:,.4g} {escape(x_label)}"
                parts.append(
                    f'<circle class="dot {style}" cx="{across(x):.1f}" cy="{down(y):.1f}" r="3.2">'
                    f"<title>{about}</title></circle>"
                )
    if labels:
        places = _apart([down(end[1]) for _, _, end in ends], 13, top, axis)
        for (one, style, (x, _)), y in zip(ends, places, strict=True):
            short = one.name if len(one.name) <= 18 else one.name[:17] + "…"
            parts.append(
                f'<text class="label {style}" x="{across(x) + 8:.1f}" y="{y + 4:.1f}">{escape(short)}</text>'
            )
    parts.append("</svg>")
    return Markup("".join(parts))  # all text in it was escaped above


def _apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """``places`` moved to be at least ``least`` apart, in the same order, within [low, high] if possible."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = [min(max(place, low), high) for place in places]
    for before, after in pairwise(order):
        found[after] = max(found[after], found[before] + least)
    if order and found[order[-1]] > high:
        found[order[-1]] = high
        for before, after in zip(order[-2::-1], order[:0:-1], strict=True):
            found[before] = min(found[before], found[after] - least)
    return found
