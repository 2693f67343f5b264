"""The report of a study: one page that needs no other file, figures as files, and all numbers as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import UserError
from ..files import replacing
from ..progress import Progress, opened
from .analysis import RESAMPLES, Analysis, analyse, p_text, percent, persons, results
from .figures import colours, draw
from .statistics import Interval
from .tables import Tables, read

FIGURES = "figures"


def write(
    study: str | Path | Tables,
    out: str | Path,
    *,
    pilot: bool | None = None,
    mixed: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write ``index.html``, ``results.json`` and ``figures/`` (SVG and PDF) into ``out``.

    Args:
        study: a study's folder, an export, or tables.
        pilot: report on the pilot. None: only if there is nothing else.
        mixed: fit the mixed model too.
        resamples, seed: of the bootstraps over persons.

    Returns:
        The path of the page.

    Raises:
        UserError: there is nothing to report, or ``out`` cannot be written.
    """
    given = study if isinstance(study, Tables) else read(study)
    found = analyse(given, pilot=pilot, mixed=mixed, resamples=resamples, seed=seed, progress=progress)
    folder = Path(out)
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        figures = draw(found)
        with opened(progress, "drawing figures", len(figures)) as task:
            for figure in figures:
                figure.write(folder / FIGURES)
                task.advance(1, figure.title)
        _put(folder / "results.json", json.dumps(results(found), indent=1, ensure_ascii=False) + "\n")
        _put(folder / "index.html", render(found, figures))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder / "index.html"


def _put(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def environment() -> Environment:
    """The templates, with the functions that they call."""
    found = Environment(
        loader=PackageLoader("omokage.study", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    found.globals.update(
        percent=percent,
        persons=persons,
        p_text=p_text,
        share=share,
        number=number,
        signed=signed,
        seconds=seconds,
        finite=lambda value: bool(np.isfinite(value)),
        version=__version__,
    )
    return found


def share(found: Interval) -> Markup:
    """A share with its interval in a second line."""
    return _two_lines(percent(found.value), f"{100 * found.low:.1f} to {100 * found.high:.1f}%", found)


def number(found: Interval, digits: int = 2) -> Markup:
    """A number with its interval in a second line."""
    value = "–" if not np.isfinite(found.value) else f"{found.value:.{digits}f}".replace("-", "−")
    ends = f"{found.low:.{digits}f} to {found.high:.{digits}f}".replace("-", "−")
    return _two_lines(value, ends, found)


def signed(found: Interval, digits: int = 2) -> Markup:
    """A difference with its sign and its interval in a second line."""
    value = "–" if not np.isfinite(found.value) else f"{found.value:+.{digits}f}".replace("-", "−")
    ends = f"{found.low:+.{digits}f} to {found.high:+.{digits}f}".replace("-", "−")
    return _two_lines(value, ends, found)


def _two_lines(value: str, ends: str, found: Interval) -> Markup:
    return Markup('<span class="value">{}</span><small>{}</small>').format(
        value, ends if found.known else "no interval"
    )


def seconds(ms: float) -> str:
    """Milliseconds as seconds with two digits.

    >>> seconds(1234.0)
    '1.23 s'
    """
    return f"{ms / 1000:.2f} s"


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page."""

    name: str
    value: str
    of: str


def tiles(found: Analysis) -> list[Tile]:
    """The numbers at the top of the page."""
    rows = []
    if found.accuracy is not None:
        told = found.accuracy.interval
        ends = f"95%: {100 * told.low:.1f} to {100 * told.high:.1f}%" if told.known else "no interval"
        rows.append(Tile("right answers", percent(told.value), ends))
        d_prime = found.accuracy.detection.d_prime
        if d_prime.known:
            rows.append(
                Tile(
                    "sensitivity d′",
                    f"{d_prime.value:.2f}".replace("-", "−"),
                    f"95%: {d_prime.low:.2f} to {d_prime.high:.2f}".replace("-", "−"),
                )
            )
    elif found.ranking is not None:
        first = found.ranking.rows[0]
        rows.append(Tile("preferred most", first.name, f"{percent(first.share.value, 0)} of its trials"))
    elif found.ratings:
        rated = [row for row in found.ratings if row.part == found.ratings[0].part]
        best = max(rated, key=lambda row: row.mean.value)
        rows.append(Tile("rated best", best.source, f"{best.mean.value:.2f} on a scale of 1 to 5"))
    wanted = found.design.stopping.participants
    left_out = len(found.kept.reason_of_person)
    rows.append(
        Tile("people", f"{found.people:,}", f"{left_out:,} left out" if left_out else "nobody left out")
    )
    rows.append(Tile("answers", f"{found.answers:,}", f"on {found.pictures:,} pictures"))
    if wanted is not None:
        rows.append(Tile("stopping rule", f"{wanted:,}", "complete participants"))
    return rows


KINDS = {
    "pairs": "Pairs: one real and one generated picture; which is real?",
    "single": "Single pictures: real or generated?",
    "timed": "Single pictures, shown for a limited time: real or generated?",
    "rating": "Ratings from 1 to 5",
    "preference": "Two pictures: which is better?",
}


def render(found: Analysis, figures: Sequence[Any], *, now: datetime | None = None) -> str:
    """The page as text."""
    templates = environment()
    made = now or datetime.now(UTC)
    intervals = [one.interval for one in [found.accuracy, *found.sources] if one is not None]
    notes = [
        *found.notes,
        *dict.fromkeys(note for one in intervals for note in one.notes),
        *(found.ranking.notes if found.ranking else ()),
    ]
    if lacking := [figure.title for figure in figures if figure.lacks_letters]:
        notes.append(
            f"The files of {len(lacking)} figures show boxes in the place of letters that no font here has: "
            f"{', '.join(lacking)}. Install a font with them, like Noto Sans CJK, and write the report again."
        )
    return templates.get_template("report.html").render(
        a=found,
        design=found.design,
        style=Markup(templates.get_template("style.css").render()),
        made=f"{made.day} {made:%B %Y, %H:%M} UTC",
        tiles=tiles(found),
        kind=KINDS[found.design.kind],
        pictures={figure.name: figure for figure in figures},
        svg={figure.name: Markup(figure.inline()) for figure in figures},
        tone=tones(found),
        notes=notes,
        folder=FIGURES,
        verdict=found.accuracy.equivalence.verdict if found.accuracy else "",
        asked=settings(found),
    )


def tones(found: Analysis) -> dict[str, int]:
    """The number of the colour of each source, as in the figures."""
    from .figures import SERIES

    return {name: SERIES.index(colour) for name, colour in colours(found.design.sources).items()}


def settings(found: Analysis) -> list[tuple[str, str]]:
    """The design in words, for the page and for whoever repeats the study."""
    design = found.design
    rows = [
        ("kind", KINDS[design.kind]),
        ("protocol", design.preset or "none"),
        ("trials of one person", f"{design.trials} ({design.practice} for practice, {design.checks} checks)"),
        ("sources", ", ".join(design.sources)),
        ("size on the page", f"{design.size} CSS pixels"),
        ("languages", ", ".join(design.languages)),
        ("chance", percent(design.hypotheses.chance)),
        ("equivalence margin", f"± {100 * design.hypotheses.equivalence_margin:g} percentage points"),
        (
            "stopping rule",
            f"{design.stopping.participants:,} complete participants"
            if design.stopping.participants
            else "none",
        ),
        ("seed", str(design.seed)),
        ("design", design.hash()[:16]),
    ]
    if design.kind == "timed":
        times = ", ".join(f"{ms:g}" for ms in design.exposures_ms)
        rows.insert(3, ("shown for", f"{times} ms, {'then a mask' if design.mask else 'no mask'}"))
    if design.kind == "rating":
        rows.insert(3, ("parts", ", ".join(design.parts)))
    return rows
