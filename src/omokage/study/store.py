"""The study's database: participants, trials, answers.

SQLite in a file by default (WAL, ``synchronous=FULL``: what was acknowledged survives a power cut), or
PostgreSQL by URL when several processes serve. All writing goes through one thread, which puts what waits
into one transaction and reports success only after the commit. So each answer is on the disk before it is
acknowledged, and many answers share one write to the disk.
"""

import json
import queue
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..errors import UserError

VERSION = 1
"""The version of the tables. A newer one is refused, an older one is upgraded by `UPGRADES`."""

UPGRADES: dict[int, Callable[[Connection], None]] = {}
"""From a version to the function that turns its tables into those of the next version."""

MOST_AT_ONCE = 128
"""At most this many pieces of work share one transaction."""

STATES = ("open", "paused", "closed")

metadata = MetaData()

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("frozen_hash", Text),
    Column("frozen_at", Text),
    Column("created_at", Text, nullable=False),
)

participants = Table(
    "participants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pilot", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("token_hash", Text, unique=True),
    Column("code_hash", Text, unique=True),
    Column("seed", Text),
    Column("language", Text),
    Column("consent", Text),
    Column("texts_hash", Text),
    Column("started_at", Text),
    Column("finished_at", Text),
    Column("last_day", Text),
    Column("last_seen", Integer),
    Column("asked", Integer, nullable=False, server_default="0"),
    Column("visit", Text),
    Column("resumes", Integer, nullable=False, server_default="0"),
    Column("device", Text),
    Column("viewport_width", Integer),
    Column("viewport_height", Integer),
    Column("pixel_ratio", Float),
    Column("refresh_hz", Float),
    Column("pointer", Text),
)

questions = Table(
    "questions",
    metadata,
    Column("participant", ForeignKey("participants.id"), primary_key=True),
    Column("question", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# Identifiers of a recruiting service stand apart, so that they can be erased without the answers.
panel = Table(
    "panel",
    metadata,
    Column("participant", ForeignKey("participants.id"), primary_key=True),
    Column("prolific_pid", Text, unique=True),
    Column("study_id", Text),
    Column("session_id", Text),
)

trials = Table(
    "trials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("participant", ForeignKey("participants.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("expected", Text),
    Column("part", Text),
    Column("exposure_ms", Integer),
    Column("answered", Integer, nullable=False, server_default="0"),
    Index("trials_of_participant", "participant", "position", unique=True),
)

# One row for each picture in a trial. The key is the name under which this participant may fetch it.
showings = Table(
    "showings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("trial", ForeignKey("trials.id"), nullable=False),
    Column("participant", ForeignKey("participants.id"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("picture", Text, nullable=False),
    Index("showings_of_trial", "trial", "place", unique=True),
    Index("showings_of_participant", "participant"),
)

answers = Table(
    "answers",
    metadata,
    Column("trial", ForeignKey("trials.id"), primary_key=True),
    Column("participant", ForeignKey("participants.id"), nullable=False),
    Column("response", Text, nullable=False),
    Column("correct", Integer),
    Column("rt", Float, nullable=False),
    Column("time_elapsed", Float, nullable=False),
    Column("exposure_measured_ms", Float),
    Column("exposure_flagged", Integer),
    Column("resumed", Integer, nullable=False),
    Column("answered_at", Text, nullable=False),
    Index("answers_of_participant", "participant"),
)

# The words that participants saw, once for each wording.
texts = Table(
    "texts",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("language", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("first_used", Text, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
)

T = TypeVar("T")


def minute() -> str:
    """Now in UTC, to the minute: nothing finer is kept.

    >>> len(minute())
    17
    """
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


class Store:
    """An open database of a study.

    Args:
        url: of SQLAlchemy, like ``sqlite:////path/study.sqlite`` or ``postgresql://user@host/name``. See
            `database_url`.
        create: make the tables if there are none.

    Raises:
        UserError: the database cannot be reached, is not a study's, or is of a newer version.

    `close` must be called in the end; it finishes all work that waits.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self.url = sa.make_url(url)
        self.shown = self.url.render_as_string(hide_password=True)
        self._sqlite = self.url.get_backend_name() == "sqlite"
        if self._sqlite and not create and not Path(self.url.database or "").is_file():
            raise UserError(f"{self.url.database}: no such database; make a study with omokage study new")
        self._writes = _engine(self.url, writing=True)
        self._reads = _engine(self.url, writing=False)
        try:
            self._prepare(create)
        except SQLAlchemyError as error:
            self._dispose()
            told = " ".join(str(getattr(error, "orig", None) or error).split())
            raise UserError(f"{self.shown}: cannot be used as a database: {told}") from None
        except BaseException:
            self._dispose()
            raise
        self._waiting: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None]
        self._waiting = queue.SimpleQueue()
        self._closed = False
        self._ending = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="study-writer", daemon=True)
        self._thread.start()

    def _prepare(self, create: bool) -> None:
        with self._writes.begin() as connection:
            there = set(sa.inspect(connection).get_table_names())
            if "study" not in there:
                if not create:
                    raise UserError(f"{self.shown} has no study in it; make one with omokage study new")
                if clash := there & set(metadata.tables):
                    raise UserError(f"{self.shown} has tables of something else: {', '.join(sorted(clash))}")
                metadata.create_all(connection)
                connection.execute(
                    study.insert().values(id=1, version=VERSION, state="open", created_at=minute())
                )
                return
            version = connection.execute(sa.text("SELECT version FROM study WHERE id = 1")).scalar()
            if not isinstance(version, int):
                raise UserError(f"{self.shown} is not the database of a study")
            if version > VERSION:
                raise UserError(
                    f"{self.shown} is of version {version}, and this Omokage reads up to {VERSION}: "
                    "install a newer one"
                )
            for old in range(version, VERSION):
                if old not in UPGRADES:
                    raise UserError(
                        f"{self.shown} is of version {old}, which this Omokage no longer reads: "
                        "open it with an older one and export it"
                    )
                UPGRADES[old](connection)
                connection.execute(sa.text("UPDATE study SET version = :next"), {"next": old + 1})

    @property
    def local(self) -> bool:
        """Whether reading is quick enough for an event loop: the database is a file."""
        return self._sqlite

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read from; what it sees is committed."""
        with self._reads.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """As `reading`, but all that is read is of one moment, also while others write."""
        with self._reads.connect() as connection:
            if not self._sqlite:  # a transaction of SQLite is one already
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Have ``work`` done in the next transaction. The future has its result once that is committed.

        If ``work`` raises, only its own changes are undone and the future has the exception. It may be called
        twice: the changes of its first call are undone then.
        """
        future: Future[T] = Future()
        with self._ending:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._waiting.put((work, future))
        return future

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do ``work`` in a transaction and return its result once that is committed."""
        return self.submit(work).result()

    def _write_all(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            batch, last = [first], False
            while len(batch) < MOST_AT_ONCE:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                batch.append(more)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        outcomes: list[tuple[Any, BaseException | None]]
        try:
            try:
                with self._writes.begin() as connection:
                    outcomes = [(work(connection), None) for work, _ in batch]
            except Exception:  # of one: each anew, so that it undoes its own work alone
                with self._writes.begin() as connection:
                    outcomes = [_alone(connection, work) for work, _ in batch]
        except BaseException as error:  # nothing of the batch is on the disk
            outcomes = [(None, error)] * len(batch)
        for (_, future), (result, fault) in zip(batch, outcomes, strict=True):
            if fault is None:
                future.set_result(result)
            else:
                future.set_exception(fault)

    def close(self) -> None:
        """Finish what waits, then close the database."""
        with self._ending:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        self._dispose()

    def _dispose(self) -> None:
        self._writes.dispose()
        self._reads.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tidy(self) -> None:
        """Make deleted rows vanish from SQLite's files too, not only from the tables."""
        if self._sqlite:
            raw = self._reads.raw_connection()
            try:
                with suppress(sqlite3.Error):  # busy: the next one does it
                    raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.close()

    # What is read, as the tables of `columns` have it.

    def participants(self) -> list[dict[str, Any]]:
        """One row for each participant, with the columns `columns.PARTICIPANTS` and one for each question."""
        wanted = (
            *("pilot", "status", "language", "started_at", "finished_at", "resumes", "device"),
            *("viewport_width", "viewport_height", "pixel_ratio", "refresh_hz", "pointer"),
        )
        check = trials.c.phase == "check"
        tested = (
            sa.select(
                answers.c.participant,
                sa.func.count().label("checks"),
                sa.func.sum(answers.c.correct).label("checks_passed"),
            )
            .join(trials, trials.c.id == answers.c.trial)
            .where(check)
            .group_by(answers.c.participant)
        )
        with self.reading() as connection:
            checks = {row.participant: row for row in connection.execute(tested)}
            asked = {name for (name,) in connection.execute(sa.select(questions.c.question).distinct())}
            said: dict[str, dict[str, str]] = {}
            for one in connection.execute(sa.select(questions)):
                said.setdefault(one.participant, {})[one.question] = one.value
            order = sa.select(participants).order_by(participants.c.started_at, participants.c.id)
            rows = []
            for person in connection.execute(order).mappings():
                its = checks.get(person["id"])
                row = {"participant": person["id"]} | {name: person[name] for name in wanted}
                row["checks_passed"] = int(its.checks_passed or 0) if its else 0
                row["checks"] = its.checks if its else 0
                answered = said.get(person["id"], {})
                rows.append(row | {f"question_{name}": answered.get(name, "") for name in sorted(asked)})
        return rows

    def answers(self, sources: dict[str, str], kind: str) -> list[dict[str, Any]]:
        """One row for each answer, with the columns `columns.ANSWERS`.

        sources: the source of each picture, by identifier; kind: of the study.
        """
        left, right = showings.alias(), showings.alias()
        query = (
            sa.select(
                answers,
                participants.c.pilot,
                trials.c.position,
                trials.c.phase,
                trials.c.expected,
                trials.c.part,
                trials.c.exposure_ms,
                left.c.picture.label("first"),
                right.c.picture.label("second"),
            )
            .join(trials, trials.c.id == answers.c.trial)
            .join(participants, participants.c.id == answers.c.participant)
            .join(left, sa.and_(left.c.trial == trials.c.id, left.c.place == 0))
            .outerjoin(right, sa.and_(right.c.trial == trials.c.id, right.c.place == 1))
            .order_by(answers.c.participant, trials.c.position)
        )
        with self.reading() as connection:
            return [_answer(row, sources, kind) for row in connection.execute(query)]

    def log(self) -> list[dict[str, str]]:
        """What happened to the study, oldest first: ``at`` (UTC, to the minute), ``event``, ``detail``."""
        with self.reading() as connection:
            rows = connection.execute(sa.select(log).order_by(log.c.id))
            return [{"at": row.at, "event": row.event, "detail": row.detail} for row in rows]

    def note(self, event: str, detail: str = "") -> None:
        """Add a line to the log."""
        self.write(lambda connection: note(connection, event, detail))

    def shown_texts(self) -> list[dict[str, Any]]:
        """The words that were shown: ``hash``, ``language``, ``first_used``, ``words``, ``participants``."""
        counts = sa.select(participants.c.texts_hash, sa.func.count().label("n")).group_by(
            participants.c.texts_hash
        )
        with self.reading() as connection:
            people = {row.texts_hash: row.n for row in connection.execute(counts)}
            return [
                dict(row) | {"words": json.loads(row["words"]), "participants": people.get(row["hash"], 0)}
                for row in connection.execute(sa.select(texts)).mappings()
            ]


def _alone(connection: Connection, work: Callable[[Connection], Any]) -> tuple[Any, Exception | None]:
    """Result and error of ``work``; what it wrote before an error is undone."""
    try:
        with connection.begin_nested():
            return work(connection), None
    except Exception as error:
        if connection.invalidated:
            raise
        return None, error


def note(connection: Connection, event: str, detail: str = "") -> None:
    """Add a line to the log within a transaction."""
    connection.execute(log.insert().values(at=minute(), event=event, detail=detail))


def _answer(row: Any, sources: dict[str, str], kind: str) -> dict[str, Any]:
    first, second = row.first, row.second
    two = second is not None
    known = row.expected is not None and row.phase != "check"
    return {
        "participant": row.participant,
        "pilot": row.pilot,
        "trial_index": row.position,
        "trial_type": kind,
        "phase": row.phase,
        "stimulus": None if two else first,
        "stimulus_left": first if two else None,
        "stimulus_right": second,
        "source": None if two else sources.get(first, ""),
        "source_left": sources.get(first, "") if two else None,
        "source_right": sources.get(second, "") if two else None,
        "side_correct": row.expected if two and known else None,
        "response": int(row.response) if kind == "rating" else row.response,
        "correct": row.correct,
        "rt": row.rt,
        "part": row.part,
        "exposure_ms": row.exposure_ms,
        "exposure_measured_ms": row.exposure_measured_ms,
        "exposure_flagged": row.exposure_flagged,
        "time_elapsed": row.time_elapsed,
        "resumed": row.resumed,
        "answered_at": row.answered_at,
    }


def database_url(text: str | Path) -> str:
    """The URL of SQLAlchemy for a path of SQLite or a URL of PostgreSQL; UserError for anything else.

    >>> database_url("postgresql://me@localhost/faces")
    'postgresql+psycopg://me@localhost/faces'
    """
    given = str(text)
    if re.match(r"postgres(ql)?(\+psycopg)?://", given):
        return "postgresql+psycopg://" + given.partition("://")[2]
    if "://" in given:
        raise UserError(
            f"{given.partition('://')[0]}: databases of this kind are not used; give postgresql://..."
        )
    return sa.URL.create("sqlite", database=str(Path(given).expanduser().absolute())).render_as_string()


def _engine(url: sa.URL, *, writing: bool) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return sa.create_engine(url, pool_size=2 if writing else 8, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise UserError("PostgreSQL needs psycopg: pip install 'omokage[study]'") from None
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions begin where this module says, see below
        cursor = connection.cursor()
        for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
