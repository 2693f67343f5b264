"""What the researcher's page shows: counts while the study runs; results only when asked for."""

import time
from datetime import datetime
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import sessions
from .assignment import EXPIRY_SECONDS
from .design import Design
from .store import Store, log, participants

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


def results(store: Store, design: Design, sources: dict[str, str]) -> dict[str, Any]:
    """Shares of right answers in main trials so far, by source. Ratings and preferences: see the report."""
    rows: dict[str, list[int]] = {}
    for answer in store.answers(sources, design.kind):
        if answer["phase"] != "main" or answer["correct"] is None or answer["pilot"]:
            continue
        shown = {answer[name] for name in ("source", "source_left", "source_right")} - {None, ""}
        if len(shown) > 1:
            shown.discard("real")
        for name in (*shown, "all"):
            rows.setdefault(name, []).append(answer["correct"])
    listed = sorted(rows.items(), key=lambda row: (row[0] != "all", row[0]))
    return {
        "rows": [{"label": name, "value": sum(its) / len(its), "n": len(its)} for name, its in listed]
    }
