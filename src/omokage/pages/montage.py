"""The film of a training: fixed seeds over the images seen, with curves that draw themselves beneath.

Several runs stand side by side on one clock. The clock is logarithmic, as most changes are early.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.pages.sheet import FAINT_INK, INK, PAPER, Colour, Sheet, font, near_square_columns
from omokage.pages.ticks import log_ticks, nice_ticks, smoothed, tick_label
from omokage.pages.video import LONGEST_SIDE, checked_film, write_video
from omokage.progress import Progress, opened

FPS = 30
PER_SECOND = 15  # moments of a film a second
MIN_SECONDS = 6.0  # shortest film, without the last picture
HOLD = 2.0  # seconds for which the last picture stays
FACE = 128  # a face has at least so many pixels
COLOURS: tuple[Colour, ...] = (
    (52, 110, 142), (201, 94, 78), (122, 98, 168), (190, 146, 58), (80, 148, 112), (160, 106, 140),
)  # fmt: skip
GRID: Colour = (226, 221, 214)
PER_STEP = 1.015  # moments of several runs are merged if they are closer than this on the clock


@dataclass(frozen=True)
class Curve:
    """One curve of a chart: a name, places on the clock, and values. Values not finite are left out."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]

    def points(self) -> list[tuple[float, float]]:
        """The points that can be drawn, smoothed if there are many."""
        pairs = zip(self.xs, self.ys, strict=True)
        return smoothed([(x, y) for x, y in pairs if x > 0 and math.isfinite(x) and math.isfinite(y)])


@dataclass(frozen=True)
class Filmed:
    """One run of a montage.

    Attributes:
        name: its heading.
        line: small print below the name.
        moments: places on the clock, above 0 and rising, each with a function that gives the faces.
        said: what to say at a place on the clock, such as "12,000 images, 35 min".
        charts: by title, the curves of each chart.
    """

    name: str
    line: str
    moments: Sequence[tuple[float, Callable[[], Faces]]]
    said: Callable[[float], str]
    charts: dict[str, list[Curve]] = field(default_factory=dict)


def clock(runs: Sequence[Filmed], seconds: float | None = None) -> tuple[list[float], int]:
    """The places on the clock that a film shows, and for how many frames each.

    All moments of all runs; of several runs, moments close together become one. ``seconds`` None: 15 moments
    a second, and at least `MIN_SECONDS`.

    >>> at = [(place, lambda: None) for place in (1.0, 2.0, 4.0)]
    >>> clock([Filmed("", "", at, str)], seconds=1)
    ([1.0, 2.0, 4.0], 10)
    """
    every = sorted({place for run in runs for place, _ in run.moments})
    places = every[:1]
    for place in every[1:]:
        if place > places[-1] * (PER_STEP if len(runs) > 1 else 1):
            places.append(place)
    if places[-1] != every[-1]:
        places[-1] = every[-1]
    frames = max(MIN_SECONDS * FPS, len(places) * FPS / PER_SECOND) if seconds is None else seconds * FPS
    return places, max(1, round(frames / len(places)))


def montage(
    runs: Sequence[Filmed],
    size: tuple[int, int],
    faces: int,
    out: str | Path,
    *,
    unit_of_clock: str = "images seen",
    seconds: float | None = None,
    text: dict[str, str],
    progress: Progress | None = None,
) -> tuple[Path, int]:
    """Write the film (.mp4, .webp, .gif). Returns its path and how many faces shown are not finite.

    Args:
        size: height and width of a face; smaller faces of other runs are enlarged to it.
        faces: how many faces each run shows.
        seconds: length without the last picture, which stays for `HOLD`; None: see `clock`.
        text: stored in the file.

    Raises:
        UserError: a side is longer than most players show, or the name cannot be written.
    """
    path = checked_film(out)
    places, repeats = clock(runs, seconds)
    page = _Page(runs, size, faces, (places[0], places[-1]), unit_of_clock, out)
    lost = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal lost
        shown = [-1] * len(runs)  # the moment that each run shows
        with opened(progress, "filming", len(places)) as task:
            for number, place in enumerate(places):
                for index, run in enumerate(runs):
                    now = max((i for i, (at, _) in enumerate(run.moments) if at <= place), default=0)
                    if now != shown[index]:
                        shown[index] = now
                        drawn = run.moments[now][1]()
                        lost += drawn.not_finite
                        page.show(index, drawn.pixels)
                after = places[min(number + 1, len(places) - 1)]
                last = number == len(places) - 1
                for step in range(repeats + round(HOLD * FPS) * last):
                    between = place * (after / place) ** (min(step, repeats) / repeats)
                    yield page.at(place if step == 0 else between)
                task.advance()

    return write_video(frames(), path, frames_per_second=FPS, text=text), lost


class _Page:
    """One frame: for each run a heading, faces, a line with the clock, and charts."""

    def __init__(
        self,
        runs: Sequence[Filmed],
        size: tuple[int, int],
        faces: int,
        span: tuple[float, float],
        unit_of_clock: str,
        out: str | Path,
    ) -> None:
        factor = ceil(FACE / min(size))
        self.face = (size[0] * factor, size[1] * factor)
        self.unit = unit = max(8, round(min(self.face) / 16))
        self.gap = unit // 2
        self.columns = near_square_columns(faces)
        rows = ceil(faces / self.columns)
        self.wide = max(self.columns * (self.face[1] + self.gap) - self.gap, 44 * unit)
        titles = list(dict.fromkeys(title for run in runs for title in run.charts))
        self.chart_height = 15 * unit
        head, foot = 7 * unit, 4 * unit
        self.top = 2 * unit + head
        self.below = self.top + rows * (self.face[0] + self.gap) - self.gap
        pitch = self.chart_height + 4 * unit
        height = self.below + foot + len(titles) * pitch + (3 * unit if titles else 0)
        width = 3 * unit + len(runs) * (self.wide + 3 * unit)
        width, height = width + width % 2, height + height % 2
        if max(width, height) > LONGEST_SIDE:
            raise UserError(
                f"{out}: the film would be {width}x{height} px, and few players show a side over "
                f"{LONGEST_SIDE}; give fewer seeds or fewer runs"
            )
        self.runs, self.span, self.titles = runs, span, titles
        self.sheet = Sheet(Image.new("RGB", (width, height), PAPER), 0, 0, unit)
        self.charts: list[tuple[_Chart, int, int]] = []
        for index, run in enumerate(runs):
            left = self.left(index)
            self.sheet.text(run.name, left, 3 * unit, anchor="lm", width=self.wide, size=2.8)
            self.sheet.text(run.line, left, 6.2 * unit, anchor="lm", width=self.wide, ink=FAINT_INK, size=1.7)
        for number, title in enumerate(titles):
            top = self.below + foot + number * pitch + 2 * unit
            last = number == len(titles) - 1
            limits = None
            if title == "FID":  # one scale for all runs, so that they can be compared
                limits = _limits([curve for run in runs for curve in run.charts.get(title, [])])
            for index, run in enumerate(runs):
                label = unit_of_clock if last else ""
                curves = run.charts.get(title, [])
                chart = _Chart(title, curves, span, (self.wide, self.chart_height), unit, limits, label)
                self.sheet.image.paste(chart.empty, (self.left(index), top))
                self.charts.append((chart, self.left(index), top))

    def left(self, index: int) -> int:
        """Where a run begins."""
        return 3 * self.unit + index * (self.wide + 3 * self.unit)

    def show(self, index: int, pixels: np.ndarray) -> None:
        """Show the faces of a run."""
        for place, face in enumerate(pixels):
            x = self.left(index) + (place % self.columns) * (self.face[1] + self.gap)
            y = self.top + (place // self.columns) * (self.face[0] + self.gap)
            self.sheet.face(face, x, y, self.face)

    def at(self, place: float) -> np.ndarray:
        """The frame at a place on the clock, uint8 (H, W, 3)."""
        unit = self.unit
        frame = Sheet(self.sheet.image.copy(), 0, 0, unit)
        for index, run in enumerate(self.runs):
            ended = place > run.moments[-1][0] * PER_STEP
            words = run.said(min(place, run.moments[-1][0])) + (", ended" if ended else "")
            ink = FAINT_INK if ended else INK
            x, y = self.left(index), self.below + 2.2 * unit
            frame.text(words, x, y, anchor="lm", width=self.wide, ink=ink)
        for chart, x, y in self.charts:
            chart.draw(frame.image, (x, y), place)
        return np.asarray(frame.image)


def _limits(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The range of values shown: all but a few outliers. None: no values."""
    values = np.array([y for curve in curves for _, y in curve.points()])
    if not len(values):
        return None
    low, high = (float(value) for value in np.percentile(values, [1, 99] if len(values) > 20 else [0, 100]))
    if low > 0 and high / low > 20:
        return low * 0.9, high * 1.1
    room = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    return low - room, high + room


class _Chart:
    """Curves over the clock, drawn once; frames show them up to a place."""

    def __init__(
        self,
        title: str,
        curves: Sequence[Curve],
        span: tuple[float, float],
        size: tuple[int, int],
        unit: int,
        limits: tuple[float, float] | None,
        label: str,
    ) -> None:
        self.span, self.size, self.unit = span, size, unit
        self.curves = [curve for curve in curves if curve.points()]
        self.limits = limits or _limits(self.curves)
        width, height = size
        self.left, self.low, self.high = 5 * unit, height - 2 * unit, 3 * unit
        sheet = Sheet(Image.new("RGB", (width, height + 3 * unit), PAPER), 0, 0, unit)
        sheet.text(title, 0, unit, anchor="lm", size=1.9)
        self._legend(sheet, title)
        if self.limits is None:
            sheet.text("not measured", width / 2, (self.low + self.high) / 2, ink=FAINT_INK, size=1.7)
            self.empty = self.full = sheet.image
            return
        self.log = self.limits[0] > 0 and self.limits[1] / self.limits[0] > 20
        ticks = log_ticks(*self.limits) if self.log else []
        for tick in ticks if len(ticks) > 1 else nice_ticks(*self.limits, about=4):
            y = self.y(tick)
            sheet.draw.line([(self.left, y), (width, y)], GRID, 1)
            sheet.text(tick_label(tick), self.left - 0.6 * unit, y, anchor="rm", ink=FAINT_INK, size=1.5)
        for tick in log_ticks(*span) if span[1] > span[0] else []:
            x = self.x(tick)
            if self.left + 2 * unit < x < width - 2 * unit:
                sheet.draw.line([(x, self.low), (x, self.low + unit / 2)], GRID, 1)
                sheet.text(_short(tick), x, self.low + 1.4 * unit, ink=FAINT_INK, size=1.5)
        if label:
            sheet.text(label, width, self.low + 3.4 * unit, anchor="rm", ink=FAINT_INK, size=1.5)
        self.empty = sheet.image
        self.full = self._drawn()

    def _legend(self, sheet: Sheet, title: str) -> None:
        x = float(self.size[0])
        for number in range(len(self.curves) - 1, -1, -1):
            name = self.curves[number].name
            length = sheet.draw.textlength(name, font=font(round(1.5 * self.unit)))
            sheet.text(name, x, self.unit, anchor="rm", ink=COLOURS[number % len(COLOURS)], size=1.5)
            x -= length + 1.5 * self.unit
            if x < 16 * self.unit:
                break

    def _drawn(self) -> Image.Image:
        """All of the curves on the empty chart, drawn large and reduced, so that lines are smooth."""
        large = self.empty.resize([side * 3 for side in self.empty.size], Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(large)
        for number, curve in enumerate(self.curves):
            points = [(3 * self.x(x), 3 * self.y(y)) for x, y in curve.points()]
            colour = COLOURS[number % len(COLOURS)]
            if len(points) > 1:
                draw.line(points, colour, max(2, 3 * self.unit // 5), joint="curve")
            if len(points) < 40:
                for x, y in points:
                    draw.ellipse([x - self.unit, y - self.unit, x + self.unit, y + self.unit], fill=colour)
        return large.resize(self.empty.size, Image.Resampling.BOX)

    def x(self, place: float) -> float:
        """Where a place on the clock is, in pixels."""
        first, last = self.span
        share = math.log(max(place, first) / first) / math.log(last / first) if last > first else 1.0
        return self.left + min(1.0, share) * (self.size[0] - 1 - self.left)

    def y(self, value: float) -> float:
        """Where a value is, in pixels."""
        assert self.limits is not None
        low, high = self.limits
        value = min(max(value, low), high)
        share = math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low)
        return self.low - share * (self.low - self.high)

    def draw(self, image: Image.Image, corner: tuple[int, int], place: float) -> None:
        """Show the curves up to a place, and a line there."""
        if self.limits is None:
            return
        x = round(self.x(place))
        image.paste(self.full.crop((0, 0, x, self.full.height)), corner)
        left, top = corner
        line = [(left + x, top + self.high), (left + x, top + self.low)]
        ImageDraw.Draw(image).line(line, FAINT_INK, 1)


def _short(value: float) -> str:
    """A place on the clock in short: 800, 25k, 1.5M."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"
