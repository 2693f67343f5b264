"""Boards on the disk: a log of edits that only grows, and boards that are what the log replays to.

An edit is on the disk (SQLite, write-ahead log, ``synchronous=FULL``) before it is acknowledged, so a killed
server finds every board as it was. Undo and redo are edits like others. A repeated request is applied once.
"""

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.text import one_line
from ..errors import UserError
from .refused import Refused, unknown

VERSION = 1
MOST_BOARDS = 500
MOST_PINS = 2000  # of a board
MOST_UNDO = 100  # edits that can be undone
MOST_LETTERS = 100  # of a name
MOST_NOTE = 2000
MADE_BY = ("roll", "steer", "mix", "vary", "glide", "upload", "import")
EDITS = ("pin", "note", "favourite", "remove", "clear", "move", "rename")

_TABLES = """
CREATE TABLE studio (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
CREATE TABLE edits (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, board TEXT NOT NULL, request TEXT,
    edit TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (board, request)
);
CREATE TABLE points (hash TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TRIGGER edits_stay BEFORE UPDATE ON edits BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER edits_keep BEFORE DELETE ON edits BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
"""


@dataclass(frozen=True)
class Pin:
    """A face on a board.

    Attributes:
        id: random, the same for ever.
        face: the document.
        key: its name, see `omokage.studio.faces.key`.
        parents: identifiers of the pins that it was made from.
        made_by: one of `MADE_BY`.
        at: when it was pinned, UTC.
    """

    id: str
    face: Mapping[str, Any]
    key: str
    note: str = ""
    favourite: bool = False
    parents: tuple[str, ...] = ()
    made_by: str = "roll"
    at: str = ""

    def json(self, position: int) -> dict[str, Any]:
        """As the page gets it."""
        return {
            "id": self.id,
            "face": self.face,
            "key": self.key,
            "note": self.note,
            "favourite": self.favourite,
            "parents": list(self.parents),
            "made_by": self.made_by,
            "at": self.at,
            "position": position,
        }


@dataclass(frozen=True)
class State:
    """What an undo brings back: the name and the pins in order."""

    name: str
    pins: tuple[Pin, ...] = ()


@dataclass
class Board:
    """A board, as replayed so far.

    Attributes:
        version: the number of its last edit in the log.
        before, after: states that undo and redo lead to, the nearest last.
        deleted: whether it has been deleted; it can be restored.
    """

    id: str
    state: State
    version: int = 0
    before: list[State] = field(default_factory=list)
    after: list[State] = field(default_factory=list)
    deleted: bool = False

    def json(self) -> dict[str, Any]:
        """As the page gets it."""
        return {
            "id": self.id,
            "name": self.state.name,
            "pins": [pin.json(position) for position, pin in enumerate(self.state.pins)],
            "can_undo": bool(self.before),
            "can_redo": bool(self.after),
            "version": self.version,
        }

    def apply(self, edit: str, body: Mapping[str, Any], number: int) -> None:
        """Apply an edit of the log. Replaying applies the same ones in the same order."""
        self.version = number
        if edit == "undo":
            if self.before:
                self.after.append(self.state)
                self.state = self.before.pop()
        elif edit == "redo":
            if self.after:
                self.before.append(self.state)
                self.state = self.after.pop()
        elif edit in ("delete", "restore"):
            self.deleted = edit == "delete"
        elif edit != "create":
            new = CHANGES[edit](self.state, body)
            if new != self.state:
                self.before = [*self.before[-(MOST_UNDO - 1) :], self.state]
                self.after, self.state = [], new


def _pin_of(body: Mapping[str, Any]) -> Pin:
    return Pin(**{**body, "parents": tuple(body.get("parents", ()))})


def _pin(state: State, body: Mapping[str, Any]) -> State:
    return replace(state, pins=(*state.pins, _pin_of(body)))


def _note(state: State, body: Mapping[str, Any]) -> State:
    return _changed(state, body["pin"], note=body["text"])


def _favourite(state: State, body: Mapping[str, Any]) -> State:
    return _changed(state, body["pin"], favourite=body["on"])


def _changed(state: State, pin: str, **what: Any) -> State:
    return replace(state, pins=tuple(replace(one, **what) if one.id == pin else one for one in state.pins))


def _remove(state: State, body: Mapping[str, Any]) -> State:
    gone = set(body["pins"])
    return replace(state, pins=tuple(one for one in state.pins if one.id not in gone))


def _clear(state: State, body: Mapping[str, Any]) -> State:
    kept = body["keep"] == "favourites"
    return replace(state, pins=tuple(one for one in state.pins if kept and one.favourite))


def _move(state: State, body: Mapping[str, Any]) -> State:
    moved = [one for one in state.pins if one.id == body["pin"]]
    pins = [one for one in state.pins if one.id != body["pin"]]
    place = min(body["position"], len(pins))
    return replace(state, pins=(*pins[:place], *moved, *pins[place:]))


def _rename(state: State, body: Mapping[str, Any]) -> State:
    return replace(state, name=body["name"])


CHANGES: dict[str, Callable[[State, Mapping[str, Any]], State]] = {
    "pin": _pin,
    "note": _note,
    "favourite": _favourite,
    "remove": _remove,
    "clear": _clear,
    "move": _move,
    "rename": _rename,
}


class Store:
    """The boards of a studio.

    Args:
        path: the file of SQLite, made if it is missing; None: in memory, forgotten at the end.

    Raises:
        UserError: the file is something else, of a newer version, or cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        self._boards: dict[str, Board] = {}
        self._requests: set[tuple[str, str]] = set()
        self._made: dict[str, str] = {}  # the board that a request has made
        shown = "memory" if path is None else one_line(path)
        database = None
        try:
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None, timeout=1
            )
            self._db = database
            self._open(shown)
            self._replay()
        except (sqlite3.Error, OSError, UserError) as error:
            if database is not None:
                database.close()
            if isinstance(error, UserError):
                raise
            if "locked" in str(error):
                raise UserError(f"{shown} is in use by another studio; give another --data-folder") from None
            raise UserError(f"{shown}: cannot be used for boards: {one_line(error)}") from None

    def _open(self, shown: str) -> None:
        there = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if there and "studio" not in there:
            raise UserError(f"{shown} is the database of something else")
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # another studio would not see what this one adds
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN EXCLUSIVE")
        self._db.execute("COMMIT")
        if not there:
            make = f"BEGIN IMMEDIATE; {_TABLES} INSERT INTO studio VALUES (1, {VERSION}); COMMIT;"
            self._db.executescript(make)
            return
        (version,) = self._db.execute("SELECT version FROM studio").fetchone()
        if version > VERSION:
            raise UserError(f"{shown} is of version {version}; this Omokage reads up to {VERSION}")

    def _replay(self) -> None:
        rows = self._db.execute("SELECT id, at, board, request, edit, body FROM edits ORDER BY id")
        for number, at, board, request, edit, body in rows:
            self._applied(number, at, board, request, edit, json.loads(body))

    def _applied(
        self, number: int, at: str, board: str, request: str | None, edit: str, body: Mapping[str, Any]
    ) -> None:
        if edit == "create":
            pins = tuple(_pin_of({"at": at, **pin}) for pin in body.get("pins", ()))
            self._boards[board] = Board(board, State(body["name"], pins))
            if request is not None:
                self._made[request] = board
        if edit == "pin":
            body = {**body, "at": at}
        self._boards[board].apply(edit, body, number)
        if request is not None:
            self._requests.add((board, request))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # Reading.

    def boards(self) -> list[dict[str, Any]]:
        """Identifier, name and number of pins of every board that is not deleted, oldest first."""
        with self._lock:
            return [
                {"id": board.id, "name": board.state.name, "pins": len(board.state.pins)}
                for board in self._boards.values()
                if not board.deleted
            ]

    def board(self, board: str) -> dict[str, Any]:
        """A board as JSON; Refused if there is none."""
        with self._lock:
            return self._known(board).json()

    def state(self, board: str) -> State:
        """Name and pins of a board; Refused if there is none."""
        with self._lock:
            return self._known(board).state

    def point(self, hash_: str) -> dict[str, Any] | None:
        """A kept point, as `omokage.studio.faces.packed_point` wrote it; None: it is not kept."""
        with self._lock:
            row = self._db.execute("SELECT body FROM points WHERE hash = ?", (hash_,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _known(self, board: str, deleted: bool = False) -> Board:
        found = self._boards.get(board)
        if found is None or (found.deleted and not deleted):
            raise unknown("board", "There is no such board.")
        return found

    # Writing.

    def create(
        self,
        name: str,
        request: str | None = None,
        pins: Sequence[Mapping[str, Any]] = (),
        points: Mapping[str, Any] = {},
    ) -> dict[str, Any]:
        """A new board. ``pins``: those of a board file, with the fields of `Pin`; they cannot be undone.

        Raises:
            Refused: a name that cannot be used, or too many pins or boards.
        """
        if len(pins) > MOST_PINS:
            raise Refused(f"A board may have {MOST_PINS:,} pins, and the file has {len(pins):,}.")
        with self._lock:
            if request in self._made:
                return self._known(self._made[request], deleted=True).json()
            if sum(not board.deleted for board in self._boards.values()) >= MOST_BOARDS:
                raise Refused(f"There may be {MOST_BOARDS} boards; delete one first.")
            board = secrets.token_hex(8)
            own = [{**pin, "note": _printable(pin.get("note", ""))} for pin in pins]
            body = {"name": _name(name), **({"pins": own} if own else {})}
            self._write(board, "create", body, request, points)
            return self._boards[board].json()

    def edit(
        self,
        board: str,
        edit: str,
        body: Mapping[str, Any],
        request: str | None,
        points: Mapping[str, Any] = {},
    ) -> dict[str, Any]:
        """Apply one of `EDITS` to a board; returns the board once the edit is on the disk.

        ``body``: what the edit needs, see `checked`. ``points``: packed points by hash that must be kept.

        Raises:
            Refused: no such board or pin, or an edit that makes no sense.
        """
        with self._lock:
            known = self._known(board)
            if request is not None and (board, request) in self._requests:
                return known.json()
            self._write(board, edit, checked(known.state, edit, body), request, points)
            return known.json()

    def undo(self, board: str, request: str | None = None) -> dict[str, Any]:
        """Undo the last edit; nothing happens if there is none."""
        return self._step(board, "undo", request)

    def redo(self, board: str, request: str | None = None) -> dict[str, Any]:
        """Redo what was undone; nothing happens if there is nothing."""
        return self._step(board, "redo", request)

    def _step(self, board: str, edit: str, request: str | None) -> dict[str, Any]:
        with self._lock:
            known = self._known(board)
            there = known.before if edit == "undo" else known.after
            if there and not (request is not None and (board, request) in self._requests):
                self._write(board, edit, {}, request)
            return known.json()

    def delete(self, board: str) -> None:
        """Delete a board; `restore` brings it back."""
        with self._lock:
            self._known(board)
            self._write(board, "delete", {}, None)

    def restore(self, board: str) -> dict[str, Any]:
        """Bring a deleted board back."""
        with self._lock:
            known = self._known(board, deleted=True)
            if known.deleted:
                self._write(board, "restore", {}, None)
            return known.json()

    def _write(
        self,
        board: str,
        edit: str,
        body: Mapping[str, Any],
        request: str | None,
        points: Mapping[str, Any] = {},
    ) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for hash_, point in points.items():
                self._db.execute("INSERT OR IGNORE INTO points VALUES (?, ?)", (hash_, json.dumps(point)))
            number = self._db.execute(
                "INSERT INTO edits (at, board, request, edit, body) VALUES (?, ?, ?, ?, ?)",
                (at, board, request, edit, json.dumps(body)),
            ).lastrowid
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise Refused(f"The board could not be saved: {one_line(error)}.", "not_saved", 503) from None
        assert number is not None
        self._applied(number, at, board, request, edit, body)


def _name(name: Any) -> str:
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if not 0 < len(text) <= MOST_LETTERS or not text.isprintable():
        raise Refused(f"name: 1 to {MOST_LETTERS} letters are needed")
    return text


def checked(state: State, edit: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``body`` goes into the log.

    Raises:
        Refused: an edit that is not one of `EDITS`, a pin that is not on the board, or a wrong value.
    """
    if edit not in EDITS:
        raise Refused(f"edit: there are {', '.join(EDITS)}")
    pins = {pin.id for pin in state.pins}

    def known(pin: Any) -> str:
        if pin not in pins:
            raise unknown("pin", "There is no such pin on this board.")
        return str(pin)

    if edit == "pin":
        if len(pins) >= MOST_PINS:
            raise Refused(f"A board may have {MOST_PINS:,} pins; remove some first.")
        if body["made_by"] not in MADE_BY:
            raise Refused(f"made_by: there are {', '.join(MADE_BY)}")
        parents = [parent for parent in body.get("parents", ()) if isinstance(parent, str)][:16]
        return {
            "id": secrets.token_hex(8),
            "face": body["face"],
            "key": body["key"],
            "parents": [parent for parent in parents if parent in pins],
            "made_by": body["made_by"],
            **({"note": _text(body["note"])} if body.get("note") else {}),
        }
    if edit == "note":
        return {"pin": known(body.get("pin")), "text": _text(body.get("text"))}
    if edit == "favourite":
        return {"pin": known(body.get("pin")), "on": bool(body.get("on"))}
    if edit == "remove":
        return {"pins": [known(pin) for pin in body.get("pins") or ()]}
    if edit == "clear":
        if body.get("keep") not in ("favourites", "none"):
            raise Refused("keep: favourites or none")
        return {"keep": body["keep"]}
    if edit == "move":
        position = body.get("position")
        if not isinstance(position, int) or not 0 <= position <= MOST_PINS:
            raise Refused("position: a whole number from 0 on is needed")
        return {"pin": known(body.get("pin")), "position": position}
    return {"name": _name(body.get("name"))}


def _text(text: Any) -> str:
    if not isinstance(text, str) or len(text) > MOST_NOTE:
        raise Refused(f"text: at most {MOST_NOTE:,} letters")
    return _printable(text)


def _printable(text: str) -> str:
    """A text without what cannot be shown or written, such as half of a surrogate pair."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
