"""Backups of a study while it runs, restoring them, and erasing on purpose."""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import files
from ..errors import UserError
from ..progress import Progress, opened
from . import sessions
from .design import load_design
from .opening import DATABASE
from .stimuli import load_stimuli
from .store import (
    Store,
    answers,
    database_url,
    metadata,
    note,
    panel,
    participants,
    questions,
    showings,
    study,
    trials,
)

T = TypeVar("T")

_ROWS = 5000
_FILES = ("design.toml", "truth.json", "metrics.json", "tokens.json")
_MEMBER = re.compile(
    r"design\.toml|truth\.json|metrics\.json|tokens\.json|study\.sqlite"
    r"|texts/[A-Za-z-]{2,12}\.toml|pictures/[0-9a-f]{16}\.png"
)
_MOST_BYTES = 64 * 2**30


def copy_database(source: Store, target: Store, *, panel_too: bool = True) -> int:
    """Copy all rows of one database into another, which was just made; returns how many answers.

    The rows are those of one moment, also while people answer. ``panel_too``: with the identifiers of the
    recruiting service.
    """
    tables = [table for table in metadata.sorted_tables if panel_too or table is not panel]

    def fill(connection: Connection) -> int:
        connection.execute(study.delete())
        copied = 0
        with source.snapshot() as reading:
            for table in tables:
                rows = reading.execution_options(yield_per=_ROWS).execute(sa.select(table)).mappings()
                for part in rows.partitions(_ROWS):
                    connection.execute(table.insert(), [dict(row) for row in part])
                    copied += len(part) if table is answers else 0
        return copied

    return target.write(fill)


def backup(
    folder: str | Path,
    store: Store,
    out: str | Path,
    *,
    panel_too: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write a ZIP with everything of a study: design, texts, pictures, truth, database (as SQLite).

    It may be made while the study is served. Returns the number of answers in it.

    Raises:
        UserError: a file cannot be read or written.
    """
    folder, out = Path(folder), Path(out)
    load_design(folder)
    stimuli = load_stimuli(folder)
    names = [name for name in _FILES if (folder / name).is_file()]
    names += [f"texts/{path.name}" for path in sorted((folder / "texts").glob("*.toml"))]
    names += [f"pictures/{name}.png" for name in sorted(stimuli.pictures)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=out.parent, prefix=".omokage-") as place,
            files.replacing(out, durable=True) as unfinished,
        ):
            copy = Path(place) / DATABASE
            with Store(database_url(copy), create=True) as target:
                copied = copy_database(store, target, panel_too=panel_too)
                target.tidy()
            with (
                zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
                opened(progress, "backup", len(names)) as task,
            ):
                archive.write(copy, DATABASE)
                for name in names:
                    kind = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
                    archive.write(folder / name, name, kind)
                    task.advance(1)
            unfinished.chmod(0o600)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from None
    return copied


def restore(archive: str | Path, folder: str | Path, database: str | None = None) -> int:
    """Make a study's folder from a backup; returns the number of answers.

    Args:
        archive: what `backup` has written.
        folder: must not exist yet, or be empty.
        database: an empty database to copy the rows into; None: ``study.sqlite`` in the folder.

    Raises:
        UserError: the file is no backup or is damaged, or the folder or database has something in it. Nothing
            is left then.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty; give the name of a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".omokage-") as place:
            made = Path(place) / "study"
            _unpack(archive, made)
            load_design(made)
            stimuli = load_stimuli(made)
            for name in stimuli.pictures:
                stimuli.read(name)
            with Store(database_url(made / DATABASE)) as copy:
                with copy.reading() as connection:
                    count = connection.execute(sa.select(sa.func.count()).select_from(answers)).scalar() or 0
                if database is not None:
                    with Store(database_url(database), create=True) as target:
                        _check_empty(target)
                        copy_database(copy, target)
            if database is not None:
                (made / DATABASE).unlink()
            if folder.is_dir():
                folder.rmdir()
            shutil.move(made, folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror or error}") from None
    return int(count)


def _check_empty(store: Store) -> None:
    with store.reading() as connection:
        if connection.execute(sa.select(participants.c.id).limit(1)).first():
            raise UserError(f"{store.shown} has a study with participants in it; give an empty database")


def _unpack(archive: Path, into: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            names = [member.filename for member in members]
            if "study.sqlite" not in names or "design.toml" not in names or len(set(names)) < len(names):
                raise UserError(f"{archive} is not a backup of a study")
            if strange := [name for name in names if not _MEMBER.fullmatch(name)]:
                raise UserError(f"{archive} is not a backup of a study: {strange[0]!r} does not belong there")
            if sum(member.file_size for member in members) > _MOST_BYTES:
                raise UserError(f"{archive} would unpack to more than {_MOST_BYTES:,} bytes")
            for member in members:
                path = into / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
            if (into / "tokens.json").is_file():
                (into / "tokens.json").chmod(0o600)
    except FileNotFoundError:
        raise UserError(f"there is no {archive}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive} is damaged or not a ZIP: {error}") from None


def erase_panel(store: Store) -> int:
    """Delete all identifiers of the recruiting service; answers stay. Returns how many there were."""

    def work(connection: Connection) -> int:
        count = connection.execute(panel.delete()).rowcount
        note(connection, "erased panel identifiers", str(count))
        return int(count)

    return _tidied(store, work)


def erase_pilots(store: Store) -> int:
    """Delete everything of participants who were pilots; returns how many there were."""

    def work(connection: Connection) -> int:
        whose = sa.select(participants.c.id).where(participants.c.pilot == 1)
        for table in (answers, showings, trials, questions, panel):
            connection.execute(table.delete().where(table.c.participant.in_(whose)))
        count = connection.execute(participants.delete().where(participants.c.pilot == 1)).rowcount
        note(connection, "erased pilots", str(count))
        return int(count)

    return _tidied(store, work)


def erase_participant(store: Store, participant: str) -> None:
    """Delete all data of one participant, given by identifier or withdrawal code, also after the last day.

    Raises UserError if there is no such participant.
    """

    def work(connection: Connection) -> None:
        code = sessions.hashed(sessions.read_code(participant))
        query = sa.select(participants.c.id).where(
            sa.or_(participants.c.id == participant, participants.c.code_hash == code)
        )
        found = connection.execute(query).scalar()
        if found is None:
            raise UserError(f"{participant}: no such participant or withdrawal code")
        sessions.forget(connection, str(found))
        note(connection, "erased a participant")

    _tidied(store, work)


def _tidied(store: Store, work: Callable[[Connection], T]) -> T:
    result = store.write(work)
    store.tidy()
    return result
