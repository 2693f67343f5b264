"""Boards on the disk: what is acknowledged stays, whatever happens to the server."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omokage.errors import UserError
from omokage.studio.refused import Refused
from omokage.studio.store import MOST_UNDO, Store


def pin(number, **more):
    return {"face": {"seed": number}, "key": f"{number:064x}", "made_by": "roll", **more}


def seeds(board):
    return [one["face"]["seed"] for one in board["pins"]]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "boards.sqlite")
    yield store
    store.close()


@pytest.fixture
def board(store):
    """A board with the pins 0 to 3."""
    made = store.create("Heroine")["id"]
    for number in range(4):
        store.edit(made, "pin", pin(number), None)
    return made


def test_every_edit_does_what_it_says_and_is_undone(store, board):
    ids = [one["id"] for one in store.board(board)["pins"]]
    edits = [
        ("note", {"pin": ids[1], "text": "warm\neyes"}, lambda b: b["pins"][1]["note"] == "warm\neyes"),
        ("favourite", {"pin": ids[2], "on": True}, lambda b: b["pins"][2]["favourite"]),
        ("move", {"pin": ids[3], "position": 1}, lambda b: seeds(b) == [0, 3, 1, 2]),
        ("rename", {"name": "ヒロイン"}, lambda b: b["name"] == "ヒロイン"),
        ("remove", {"pins": [ids[0], ids[1]]}, lambda b: seeds(b) == [3, 2]),
        ("clear", {"keep": "favourites"}, lambda b: seeds(b) == [2]),
        ("clear", {"keep": "none"}, lambda b: seeds(b) == []),
    ]
    states = [store.board(board)]
    for edit, body, holds in edits:
        told = store.edit(board, edit, body, None)
        assert holds(told), edit
        states.append(told)
    for before in reversed(states[:-1]):
        told = store.undo(board)
        assert (told["name"], told["pins"]) == (before["name"], before["pins"])
    for after in states[1:]:
        told = store.redo(board)
        assert (told["name"], told["pins"]) == (after["name"], after["pins"])
    assert not told["can_redo"]


def test_parents_are_pins_of_the_board(store, board):
    first = store.board(board)["pins"][0]["id"]
    told = store.edit(board, "pin", pin(9, parents=[first, "0" * 16]), None)
    assert told["pins"][-1]["parents"] == [first]


def test_a_repeated_request_is_applied_once(store, board):
    for _ in range(3):
        assert seeds(store.edit(board, "pin", pin(4), "again")) == [0, 1, 2, 3, 4]
    for _ in range(2):
        assert seeds(store.undo(board, "undone")) == [0, 1, 2, 3]
    assert store.create("Two", "new")["id"] == store.create("Two", "new")["id"]


def test_undo_is_capped(store, board):
    for number in range(MOST_UNDO + 20):
        store.edit(board, "rename", {"name": f"name {number}"}, None)
    steps = 0
    while store.board(board)["can_undo"]:
        store.undo(board)
        steps += 1
    assert steps == MOST_UNDO
    assert store.board(board)["name"] == "name 19"


def test_a_deleted_board_comes_back(store, board):
    store.delete(board)
    assert store.boards() == []
    with pytest.raises(Refused, match="no such board"):
        store.board(board)
    assert seeds(store.restore(board)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("edit", "body", "code"),
    [
        ("note", {"pin": "0" * 16, "text": ""}, "unknown_pin"),
        ("remove", {"pins": ["0" * 16]}, "unknown_pin"),
        ("note", {"text": "x"}, "unknown_pin"),
        ("clear", {"keep": "some"}, "invalid"),
        ("rename", {"name": " "}, "invalid"),
        ("rename", {"name": "a\ud800"}, "invalid"),
        ("pin", pin(1, made_by="magic"), "invalid"),
        ("burn", {}, "invalid"),
    ],
)
def test_edits_that_make_no_sense_leave_no_trace(store, board, edit, body, code):
    before = store.board(board)
    with pytest.raises(Refused) as refused:
        store.edit(board, edit, body, None)
    assert refused.value.code == code
    assert store.board(board) == before


STEPS = st.one_of(
    st.tuples(st.just("pin"), st.integers(0, 50)),
    st.tuples(st.sampled_from(["undo", "redo", "clear", "favourite", "remove", "move"]), st.integers(0, 5)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_boards_are_what_the_log_replays_to(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("store") / "boards.sqlite"
    store = Store(path)
    board = store.create("One")["id"]
    for what, number in steps:
        pins = store.board(board)["pins"]
        chosen = pins[number % len(pins)]["id"] if pins else None
        if what in ("undo", "redo"):
            getattr(store, what)(board)
        elif what == "pin":
            store.edit(board, "pin", pin(number), None)
        elif what == "clear":
            store.edit(board, "clear", {"keep": "favourites"}, None)
        elif chosen is not None:
            body = {"pin": chosen, "pins": [chosen], "on": bool(number % 2), "position": number}
            store.edit(board, what, body, None)
    told = store.board(board)
    store.close()
    again = Store(path)
    assert again.board(board) == told
    again.close()


def test_two_studios_do_not_share_boards(store, tmp_path):
    with pytest.raises(UserError, match="another studio"):
        Store(tmp_path / "boards.sqlite")


def test_the_log_only_grows(store, board, tmp_path):
    store.close()
    with sqlite3.connect(tmp_path / "boards.sqlite") as other:
        for statement in ("DELETE FROM edits", "UPDATE edits SET body = '{}'"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                other.execute(statement)


def test_another_database_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(UserError, match="something else"):
        Store(path)
    path.write_bytes(b"no database at all, but long enough to be looked at" * 50)
    with pytest.raises(UserError, match="cannot be used"):
        Store(path)


EDITING = """
import sys
from pathlib import Path
from omokage.studio.store import Store
store = Store(Path(sys.argv[1]))
board = store.create("One")["id"]
print(board, flush=True)
number = 0
while True:
    face = {"seed": number}
    store.edit(board, "pin", {"face": face, "key": "0" * 64, "made_by": "roll"}, f"request-{number}")
    print(number, flush=True)
    number += 1
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    path = tmp_path / "boards.sqlite"
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", EDITING, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        board = process.stdout.readline().strip()
        for _ in range(20):
            process.stdout.readline()
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().split() if line.isdigit()]
        process.wait()
        store = Store(path)
        kept = seeds(store.board(board))
        last = max(told, default=19)
        assert kept[: last + 1] == list(range(last + 1))
        assert kept == list(range(len(kept)))
        assert len(kept) <= last + 2  # at most the one that was being acknowledged
        again = store.edit(board, "pin", pin(last), f"request-{last}")
        assert seeds(again) == kept
        store.close()
