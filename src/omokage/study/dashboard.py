"""What the researcher's page shows: counts while the study runs; results only when asked for."""

import time
from datetime import datetime
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..errors import UserError
from . import sessions
from .assignment import EXPIRY_SECONDS
from .design import Design
from .store import log, participants

if TYPE_CHECKING:
    from .statistics import Interval
    from .tables import Tables

RESAMPLES = 200
"""Of the bootstrap on the dashboard; the report takes more."""

STATUSES = ("started", "completed", "withdrawn", "refused", "screened_out")


def overview(connection: Connection, design: Design, pilot: bool) -> dict[str, Any]:
    """State and counts of the study, and completions over time. No answer is looked at.

    Pilots are counted if ``pilot``, otherwise everybody else.
    """
    whose = participants.c.pilot == int(pilot)
    counted = sa.select(participants.c.status, sa.func.count()).where(whose).group_by(participants.c.status)
    counts = {name: 0 for name in STATUSES} | {name: n for name, n in connection.execute(counted)}
    alive = participants.c.last_seen > int(time.time()) - EXPIRY_SECONDS
    active = sa.select(sa.func.count()).where(whose, participants.c.status == "started", alive)
    counts["active"] = connection.execute(active).scalar() or 0
    times = connection.execute(
        sa.select(participants.c.started_at, participants.c.finished_at)
        .where(whose, participants.c.status == "completed")
        .order_by(participants.c.finished_at)
    ).all()
    minutes = [(_time(end) - _time(start)).total_seconds() / 60 for start, end in times]
    totals: dict[str, int] = {}
    for number, (_, end) in enumerate(times, start=1):
        totals[end] = number
    looks = sa.select(log.c.at).where(log.c.event == "looked at results").order_by(log.c.id)
    return {
        "title": design.title,
        "state": sessions.state(connection),
        "pilot": pilot,
        "target": design.stopping.participants,
        "counts": counts,
        "median_minutes": median(minutes) if minutes else None,
        "completions": [{"at": at, "completed": number} for at, number in totals.items()],
        "looks": [at for (at,) in connection.execute(looks)],
    }


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%MZ")


def results(given: "Tables") -> dict[str, Any]:
    """What the report would say now, in a few rows: accuracy, ratings or wins, with intervals.

    The figures are those of `analysis.analyse`, so the report of the same answers says the same.
    """
    from .analysis import analyse  # it takes a second to import, and a study is mostly served without it

    try:
        found = analyse(given, resamples=RESAMPLES)
    except UserError as error:
        return {"rows": [], "sentence": str(error)}
    rows = []
    if found.accuracy is not None:
        everything = [found.accuracy, *(found.sources if len(found.sources) > 1 else [])]
        rows += [_row("all" if one is found.accuracy else one.name, one.interval) for one in everything]
    rows += [_row(f"{one.source}, {one.part}", one.mean) for one in found.ratings]
    if found.ranking is not None:
        rows += [_row(one.name, one.share) for one in found.ranking.rows]
    return {"rows": rows, "sentence": found.sentence}


def _row(label: str, found: "Interval") -> dict[str, Any]:
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    return {
        "label": label,
        **{name: number if isfinite(number) else None for name, number in numbers.items()},
        "n": found.answers,
    }
