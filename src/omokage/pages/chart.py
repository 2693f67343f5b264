"""Line charts on a page."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw

from omokage.explore.explain import Chart
from omokage.pages.sheet import FAINT_INK, INK, PAPER, Colour, Sheet, font

# Told apart also by people who do not see all colours (Okabe & Ito 2008).
COLOURS: tuple[Colour, ...] = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (130, 120, 60))
GRID: Colour = (226, 222, 216)
FINER = 4  # lines are drawn this many times as large, then shrunk, so that they are smooth


def ticks(low: float, high: float, log: bool = False) -> list[float]:
    """Round numbers within [``low``, ``high``] for an axis, about five.

    >>> ticks(0, 1), ticks(0.003, 20, log=True)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.01, 0.1, 1.0, 10.0])
    """
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        every = max(1, math.ceil((last - first) / 6))
        found = [float(f"1e{power}") for power in range(first, last + 1, every)]
        if len(found) >= 2:
            return found
        steps = [float(f"{factor}e{power}") for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
        return [step for step in steps if low <= step <= high] or [low]
    if not high > low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def label(value: float) -> str:
    """A short number.

    >>> label(0.2), label(1e-09), label(2500.0)
    ('0.2', '1e-9', '2,500')
    """
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.6g}"


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(finite), max(finite)) if finite else (0.1, 1.0)
    if log:
        return (low / 1.3, high * 1.3)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    low, high = (0.0 if low >= 0 and low < 0.4 * high else low - room), high + room
    return low, high


def draw_chart(sheet: Sheet, chart: Chart, x: float, y: float, width: float, height: float) -> None:
    """Draw a chart with its title, axes, curves and their names into a box of a page."""
    unit = sheet.unit
    longest = max((name for name in (c.name for c in chart.curves)), key=len)
    rows = -(-len(chart.curves) // max(1, int(width / ((len(longest) + 6) * 0.95 * unit))))
    left, top, bottom = 6 * unit, 3.2 * unit + 2.2 * unit * rows, 5.2 * unit
    inner = (x + left, y + top + unit, width - left - unit, height - top - bottom - unit)
    xs = (min(v for c in chart.curves for v in c.xs), max(v for c in chart.curves for v in c.xs))
    ys = _range([value for c in chart.curves for value in c.ys], chart.log)

    def place(px: float, py: float) -> tuple[float, float]:
        across = 0.02 + 0.96 * (px - xs[0]) / ((xs[1] - xs[0]) or 1)
        if chart.log:
            up = (math.log10(max(py, 1e-300)) - math.log10(ys[0])) / (math.log10(ys[1]) - math.log10(ys[0]))
        else:
            up = (py - ys[0]) / (ys[1] - ys[0])
        return across * inner[2], (1 - min(max(up, -0.02), 1.02)) * inner[3]

    size = (round(inner[2]) + 1, round(inner[3]) + 1)
    large = Image.new("RGB", (size[0] * FINER, size[1] * FINER), PAPER)
    pen, thick = ImageDraw.Draw(large), max(1, round(unit * FINER / 5))
    for tick in ticks(*ys, log=chart.log):
        _, level = place(xs[0], tick)
        pen.line([(0, level * FINER), (large.width, level * FINER)], GRID, max(1, thick // 2))
    for number, curve in enumerate(chart.curves):
        points = [
            tuple(FINER * value for value in place(px, py))
            for px, py in zip(curve.xs, curve.ys, strict=True)
            if math.isfinite(py)
        ]
        colour = COLOURS[number % len(COLOURS)]
        if curve.dashed:
            for a, b in list(pairwise(points))[::2]:
                pen.line([a, b], colour, thick)
        elif len(points) > 1:
            pen.line(points, colour, thick, joint="curve")
        if len(points) <= 12:
            for px, py in points:
                pen.ellipse([px - 2 * thick, py - 2 * thick, px + 2 * thick, py + 2 * thick], fill=colour)
    sheet.image.paste(large.resize(size, Image.Resampling.LANCZOS), _corner(sheet, inner[0], inner[1]))

    sheet.text(chart.title, x + left, y, anchor="lt", width=width - left, size=1.9)
    across = 0.0
    row = 0
    for number, curve in enumerate(chart.curves):
        wide = sheet.draw.textlength(curve.name, _font(sheet)) + 5 * unit
        if across and across + wide > width - left:
            across, row = 0.0, row + 1
        at = y + 3.9 * unit + 2.2 * unit * row
        middle = (sheet.x + x + left + across, sheet.y + at)
        box = [middle[0], middle[1] - 0.2 * unit, middle[0] + 2 * unit, middle[1] + 0.2 * unit]
        sheet.draw.rectangle(box, fill=COLOURS[number % len(COLOURS)])
        sheet.text(curve.name, x + left + across + 2.6 * unit, at, anchor="lm", width=width, size=1.6)
        across += wide
    for tick in ticks(*ys, log=chart.log):
        _, level = place(xs[0], tick)
        sheet.text(label(tick), inner[0] - unit / 2, inner[1] + level, anchor="rm", ink=FAINT_INK, size=1.5)
    for tick in ticks(*xs):
        along, _ = place(tick, ys[0])
        below = inner[1] + inner[3] + 1.4 * unit
        sheet.text(label(tick), inner[0] + along, below, ink=FAINT_INK, size=1.5)
    foot = inner[1] + inner[3] + 3.6 * unit
    sheet.text(chart.x, inner[0] + inner[2] / 2, foot, width=inner[2], ink=INK, size=1.6)
    base = (sheet.y + inner[1] + inner[3], sheet.x + inner[0])
    sheet.draw.line([(base[1], base[0]), (base[1] + inner[2], base[0])], FAINT_INK, max(1, unit // 8))


def _corner(sheet: Sheet, x: float, y: float) -> tuple[int, int]:
    return sheet.x + round(x), sheet.y + round(y)


def _font(sheet: Sheet) -> Any:
    return font(round(1.6 * sheet.unit))
