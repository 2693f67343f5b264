"""Figures of a study's report, as SVG for the page and as SVG and PDF files.

Drawn with matplotlib in a few named colours. In the page each colour is replaced by a CSS variable, so that
figures follow the light and the dark theme. Every figure is narrow enough to be read on a phone.
"""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import replacing
from .analysis import Analysis, Judged, persons
from .design import REAL
from .statistics import Interval

INK, SOFT, RULE, BAND = "#2b2833", "#6f6978", "#e6e1dc", "#f3e3ea"
SERIES = ("#b23a6b", "#2b6cb0", "#c07a06", "#2f855a", "#7654c0", "#b4502a", "#17818f", "#6d6875")
VARIABLES = {INK: "--ink", SOFT: "--soft", RULE: "--rule", BAND: "--band"} | {
    colour: f"--c{i}" for i, colour in enumerate(SERIES)
}
STYLE = {
    "font.size": 9.5,
    # Those after the first are for Japanese; the first that is installed and has the letter is taken.
    "font.sans-serif": [
        *("Noto Sans", "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "TakaoGothic"),
        *("Hiragino Sans", "Yu Gothic", "MS Gothic"),
    ],
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is one
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.solid_capstyle": "butt",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "pdf.fonttype": 42,
}
WIDTH = 4.7  # inches; 72 points to the inch
ROW = 0.30


@dataclass(frozen=True)
class Figure:
    """A figure with its name in files and its words.

    Attributes:
        name: of its files, without ending.
        title: short.
        caption: what is drawn and what bars and bands mean.
        drawn: the figure of matplotlib.
    """

    name: str
    title: str
    caption: str
    drawn: Any

    @property
    def lacks_letters(self) -> bool:
        """Whether the files show boxes in the place of letters that no installed font has."""
        return bool(getattr(self.drawn, "lacks_letters", False))

    def inline(self) -> str:
        """SVG for a page: colours as CSS variables, text as text."""
        text = _save(self.drawn, "svg", self.name, "none").decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        # Names within the picture must not clash with those of another figure on the page.
        text = re.sub(r'\bid="([^"]+)"', rf'id="{self.name}-\1"', text)
        text = re.sub(r'(href="|url\()#', rf"\1#{self.name}-", text)
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, f"var({variable})")
        head, rest = text.split(">", 1)
        head = re.sub(r'\s(?:width|height)="[^"]*"', "", head)
        alt = self.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return f'{head} role="img" aria-label="{alt}">{rest}'

    def write(self, folder: Path) -> list[Path]:
        """Write the figure as SVG and as PDF; returns the paths."""
        paths = []
        for kind in ("svg", "pdf"):
            path = folder / f"{self.name}.{kind}"
            with replacing(path) as unfinished:
                unfinished.write_bytes(_save(self.drawn, kind, self.name, "path", paper="white"))
            paths.append(path)
        return paths


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UserError("the report's figures need matplotlib: pip install 'omokage[study]'") from None
    return matplotlib


@contextmanager
def _styled(more: dict[str, Any] | None = None) -> Iterator[None]:
    """The style of the page, while something is drawn or written."""
    matplotlib = _matplotlib()
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)  # that a font is not installed is no news
    try:
        with matplotlib.rc_context(STYLE | (more or {})), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # see `lacks_letters`
            yield
    finally:
        fonts.setLevel(level)


def _save(figure: Any, kind: str, name: str, text: str, paper: str = "none") -> bytes:
    settings = {"svg.fonttype": text, "svg.hashsalt": name}
    # No date and no program, so that the same study gives the same files.
    about = {"Date": None, "Creator": None} if kind == "svg" else {"CreationDate": None, "Creator": None}
    out = io.BytesIO()
    with _styled(settings):
        figure.savefig(out, format=kind, facecolor=paper, metadata=about)
    return out.getvalue()


@contextmanager
def _axes(height: float, x: str = "", y: str = "") -> Iterator[tuple[Any, Any]]:
    """A figure with one pair of axes in the style of the page."""
    _matplotlib()
    from matplotlib.figure import Figure as Drawn

    with _styled():
        figure: Any = Drawn(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.patch.set_alpha(0.0)
        yield figure, axes
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            figure.draw_without_rendering()
        figure.lacks_letters = any("missing from" in str(one.message) for one in told)
        figure.set_layout_engine("none")  # laid out once; all files have the same layout


def short(name: str, letters: int = 24) -> str:
    """A name that fits beside a figure.

    >>> short("a-very-long-name-of-a-run-indeed", 12)
    'a-very-long…'
    """
    return name if len(name) <= letters else name[: letters - 1] + "…"


def colours(names: Sequence[str]) -> dict[str, str]:
    """The colour of each source; real pictures always have the second one."""
    others = [colour for i, colour in enumerate(SERIES) if i != 1]
    made = [name for name in names if name != REAL]
    return {REAL: SERIES[1]} | {name: others[i % len(others)] for i, name in enumerate(made)}


def _percent_axis(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _room(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """Limits of an axis of shares, with some room and within 0 and 1."""
    known = [value for value in values if np.isfinite(value)]
    return max(0.0, min([*known, low]) - 0.04), min(1.0, max([*known, high]) + 0.04)


def _forest(
    rows: Sequence[tuple[str, Interval, str]],
    *,
    x: str,
    line: float | None,
    band: float = 0.0,
    share: bool = True,
    thin: Sequence[tuple[float, float] | None] = (),
) -> Any:
    """Dots with intervals, one row below the other. rows: name, interval, colour."""
    with _axes(0.75 + ROW * len(rows), x=x) as (figure, axes):
        places = np.arange(len(rows))[::-1]
        if line is not None:
            if band:
                axes.axvspan(line - band, line + band, color=BAND, lw=0)
            axes.axvline(line, color=SOFT, lw=0.9, ls=(0, (4, 3)))
        for place, (_, found, colour) in zip(places, rows, strict=True):
            if found.known:
                axes.plot([found.low, found.high], [place, place], color=colour, lw=2.2)
            axes.plot([found.value], [place], "o", color=colour, ms=5.5)
        for place, ends in zip(places, thin, strict=False):
            if ends is not None and np.isfinite(ends).all():
                axes.plot(ends, [place - 0.24] * 2, color=SOFT, lw=1.0)
        axes.set_yticks(places, [short(name) for name, _, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        if share:
            values = [end for _, found, _ in rows for end in (found.value, found.low, found.high)]
            centre = 0.5 if line is None else line
            axes.set_xlim(*_room(values, centre - band - 0.05, centre + band + 0.05))
            _percent_axis(axes.xaxis)
        return figure


def draw(found: Analysis) -> list[Figure]:
    """All figures that the study has data for."""
    drawers: list[Callable[[Analysis], Figure | None]] = [
        _accuracy,
        _exposure,
        _detection,
        _ranking,
        _ratings,
        _pictures,
        _people,
        _times,
        _groups,
        _metrics,
    ]
    return [figure for drawer in drawers if (figure := drawer(found)) is not None]


def _accuracy(found: Analysis) -> Figure | None:
    if found.accuracy is None:
        return None
    chance, margin = found.accuracy.equivalence.centre, found.accuracy.equivalence.margin
    colour = colours(found.design.sources)
    rows = [("all answers", found.accuracy.interval, INK)]
    rows += [(one.name, one.interval, colour.get(one.name, INK)) for one in found.sources]
    return Figure(
        "accuracy",
        "Share of right answers",
        "Dots: share of right answers. Bars: 95% intervals, clustered by person and picture. "
        f"Dashed: chance. Band: chance ± {100 * margin:g} points, what counts as the same as chance.",
        _forest(rows, x="right answers", line=chance, band=margin),
    )


def _exposure(found: Analysis) -> Figure | None:
    if not found.exposures:
        return None
    chance = found.design.hypotheses.chance
    margin = found.design.hypotheses.equivalence_margin
    ms = np.array([one.ms for one in found.exposures])
    with _axes(2.7, x="time shown, ms", y="right answers") as (figure, axes):
        axes.axhspan(chance - margin, chance + margin, color=BAND, lw=0)
        axes.axhline(chance, color=SOFT, lw=0.9, ls=(0, (4, 3)))
        values = [one.accuracy for one in found.exposures]
        axes.plot(ms, [one.value for one in values], color=SERIES[0], lw=1.4)
        for at, one in zip(ms, values, strict=True):
            if one.known:
                axes.plot([at, at], [one.low, one.high], color=SERIES[0], lw=2.2)
            axes.plot([at], [one.value], "o", color=SERIES[0], ms=5.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ms, [f"{one:g}" for one in ms])
        axes.minorticks_off()
        ends = [end for one in values for end in (one.value, one.low, one.high)]
        axes.set_ylim(*_room(ends, chance - margin - 0.05, chance + margin + 0.05))
        _percent_axis(axes.yaxis)
    return Figure(
        "exposure",
        "Right answers over the time shown",
        "Share of right answers at each exposure with 95% intervals, clustered by person and picture. "
        "Dashed: chance, with the band of what counts as the same.",
        figure,
    )


def _detection(found: Analysis) -> Figure | None:
    if found.accuracy is None or found.design.kind == "pairs":
        return None
    colour = colours(found.design.sources)
    rows = [("real", found.accuracy.detection.hit_rate, SERIES[1])]
    rows += [
        (one.name, one.detection.false_alarm_rate, colour.get(one.name, INK))
        for one in (found.sources or [found.accuracy])
    ]
    if not found.sources:
        name = found.design.generated[0] if len(found.design.generated) == 1 else "generated"
        rows[1] = (name, rows[1][1], colour.get(name, SERIES[0]))
    return Figure(
        "taken-for-real",
        "How often pictures are taken for real",
        "Share of answers that call a picture real, with 95% intervals clustered by person and picture: hits "
        "for real pictures, false alarms for generated ones. People can tell where the two differ.",
        _forest(rows, x="called real", line=None),
    )


def _ranking(found: Analysis) -> Figure | None:
    if found.ranking is None:
        return None
    colour = colours(found.design.sources)
    rows = [
        (row.name, row.strength, colour.get(row.name, INK))
        for row in found.ranking.rows
        if np.isfinite(row.strength.value)
    ]
    if not rows:
        return None
    return Figure(
        "ranking",
        "Strength of each source",
        "Bradley-Terry strength in log-odds. Thick bars: 95% intervals clustered by person and picture. "
        "Thin bars: bootstrap over persons for just these pictures.",
        _forest(
            rows,
            x="strength (log-odds)",
            line=0.0,
            share=False,
            thin=[row.bootstrap for row in found.ranking.rows],
        ),
    )


def _ratings(found: Analysis) -> Figure | None:
    if not found.ratings:
        return None
    colour = colours(found.design.sources)
    parts = list(dict.fromkeys(row.part for row in found.ratings))
    names = list(dict.fromkeys(row.source for row in found.ratings))
    with _axes(1.05 + 0.19 * len(parts) * (len(names) + 1), x="mean rating") as (figure, axes):
        step = 0.8 / len(names)
        for row in found.ratings:
            place = len(parts) - parts.index(row.part) + 0.4 - step * (names.index(row.source) + 0.5)
            tone = colour.get(row.source, INK)
            if row.mean.known:
                axes.plot([row.mean.low, row.mean.high], [place, place], color=tone, lw=2.2)
            axes.plot([row.mean.value], [place], "o", color=tone, ms=5)
        for name in names:
            axes.plot([], [], "o", color=colour.get(name, INK), ms=5, label=short(name))
        axes.set_yticks(range(len(parts), 0, -1), parts)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(0.4, len(parts) + 0.6)
        axes.set_xlim(0.9, 5.1)
        axes.set_xticks(range(1, 6))
        axes.grid(axis="x", color=RULE, lw=0.7)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.1, columnspacing=1.2)
    return Figure(
        "ratings",
        "Mean ratings",
        "Mean ratings from 1 to 5 by part and source, with 95% intervals clustered by person and picture.",
        figure,
    )


def _pictures(found: Analysis) -> Figure | None:
    rows = [row for row in found.by_picture if row.answers]
    if len(rows) < 2:
        return None
    colour = colours(found.design.sources)
    rating = found.design.kind == "rating"
    what = {"rating": "mean rating", "preference": "preferred"}.get(found.design.kind, "taken for real")
    with _axes(2.9, x="pictures, ordered within each source", y=what) as (figure, axes):
        first = list(found.design.sources)
        ordered: list[Judged] = sorted(rows, key=lambda row: (first.index(row.source), row.share))
        places, tones = np.arange(len(ordered)), [colour.get(row.source, INK) for row in ordered]
        if not rating:
            low, high = [row.low for row in ordered], [row.high for row in ordered]
            axes.vlines(places, low, high, colors=tones, lw=1.0, alpha=0.45)
        axes.scatter(places, [row.share for row in ordered], s=12 if len(rows) > 30 else 25, c=tones)
        for name in dict.fromkeys(row.source for row in ordered):
            axes.plot([], [], "o", color=colour.get(name, INK), ms=5, label=short(name))
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.1, columnspacing=1.2)
        axes.set_xticks([])
        if not rating:
            axes.axhline(0.5, color=SOFT, lw=0.9, ls=(0, (4, 3)))
            axes.set_ylim(-0.02, 1.02)
            _percent_axis(axes.yaxis)
    return Figure(
        "pictures",
        "Each picture",
        "Mean rating of each picture."
        if rating
        else f"How often each picture was {what}; thin bars: Wilson's 95% intervals. Dashed: 50%.",
        figure,
    )


def _people(found: Analysis) -> Figure | None:
    if len(found.by_person) < 2:
        return None
    most = len(found.guessing) - 1
    counts = np.bincount([row.hits for row in found.by_person if row.answers == most], minlength=most + 1)
    with _axes(2.6, x=f"right answers of {most}", y="people") as (figure, axes):
        axes.bar(range(most + 1), counts, width=0.82, color=SERIES[0], label="people")
        axes.plot(range(most + 1), found.guessing, "o-", color=INK, lw=1.2, ms=3.2, label="if all guess")
        taken = [i for i in range(most + 1) if counts[i] or found.guessing[i] > 0.01]
        axes.set_xlim(min(taken) - 0.7, max(taken) + 0.7)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside upper left", ncols=2)
    others = sum(row.answers != most for row in found.by_person)
    return Figure(
        "people",
        "Each person",
        "How many people gave how many right answers, and how many would if all guessed."
        + (f" Not drawn: {persons(others)} with another number of answers." if others else ""),
        figure,
    )


def _times(found: Analysis) -> Figure | None:
    rows = [row for row in found.kept.answers if row["rt"] is not None and row["rt"] > 0]
    if len(rows) < 20:
        return None
    rt, right = np.array([row["rt"] for row in rows]), np.array([row["correct"] for row in rows])
    edges = np.geomspace(max(rt.min(), 50), max(rt.max(), 100), 31)
    with _axes(2.4, x="response time, s", y="answers") as (figure, axes):
        if found.accuracy is not None:
            both = [rt[right == 1], rt[right == 0]]
            axes.hist(both, bins=edges, stacked=True, color=[SERIES[3], SERIES[0]], label=["right", "wrong"])
            figure.legend(loc="outside upper left", ncols=2)
        else:
            axes.hist(rt, bins=edges, color=SERIES[0])
        axes.set_xscale("log")
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300) if edges[0] <= 1000 * t <= edges[-1]]
        axes.set_xticks([1000 * t for t in ticks], [f"{t:g}" for t in ticks])
        axes.minorticks_off()
    return Figure(
        "times", "Response times", "From the first paint to the answer, on a logarithmic axis.", figure
    )


def _groups(found: Analysis) -> Figure | None:
    rows = []
    for number, group in enumerate(found.groups):
        rows += [(row.name, row.interval, SERIES[number % len(SERIES)]) for row in group.rows]
    if len(rows) < 2:
        return None
    if found.accuracy is not None:
        chance = found.design.hypotheses.chance
        drawn = _forest(rows, x="right answers", line=chance, band=found.design.hypotheses.equivalence_margin)
    else:
        drawn = _forest(rows, x="mean rating", line=None, share=False)
    return Figure(
        "groups",
        "Groups of people",
        "By device, language and the researcher's questions, one colour for each; 95% intervals clustered by "
        "person and picture.",
        drawn,
    )


def _metrics(found: Analysis) -> Figure | None:
    told = found.correlation
    if told is None or not told.rows:
        return None
    metric = told.rows[0].metric
    colour = colours(found.design.sources)
    with _axes(2.7, x=metric, y="judgement of people") as (figure, axes):
        for name, x, y in zip(told.runs, told.values[metric], told.judged, strict=True):
            if np.isfinite(x):
                axes.plot([x], [y], "o", color=colour.get(name, INK), ms=6, label=short(name))
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.1, columnspacing=1.2)
        axes.margins(0.12)
        if found.design.kind != "rating":
            _percent_axis(axes.yaxis)
    return Figure(
        "metrics",
        f"People and {metric}",
        f"Each dot is a run: {metric}, and how often people took its pictures for real or preferred them."
        if found.design.kind != "rating"
        else f"Each dot is a run: {metric} and the mean rating of its pictures.",
        figure,
    )
