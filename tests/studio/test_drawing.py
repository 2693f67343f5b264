"""The drawing service: batches over users, latest wins, cancellation, bounds."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch

from omokage.sampling import BATCH, gathered, sample
from omokage.settings import Settings
from omokage.studio import drawing as module
from omokage.studio.caches import Cache
from omokage.studio.drawing import Drawing
from omokage.studio.faces import Resolver, parse
from omokage.studio.refused import Refused


class Gate:
    """Stands before the drawing of every batch: keeps it until it is opened, and counts."""

    def __init__(self, draw):
        self.draw, self.open, self.batches, self.keys = draw, threading.Event(), [], []

    def __call__(self, model, rows):
        assert self.open.wait(20)
        self.batches.append(len(rows))
        self.keys.append({row.key for row in rows})
        return self.draw(model, rows)

    def wait_for(self, drawing):
        """Wait until the thread stands before the gate with its first batch."""
        deadline = time.monotonic() + 20
        while not any(ticket.rows is not None for ticket in drawing._waiting):
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(module._drawn)
    monkeypatch.setattr(module, "_drawn", gate)
    yield gate
    gate.open.set()


@pytest.fixture
def drawing(models, gate):
    drawing = Drawing(Resolver(models[1].model))
    yield drawing
    gate.open.set()
    drawing.close()


@pytest.fixture
def seed(plain):
    def made(number, psi=1.0):
        return parse({"model": plain, "from": {"seed": number}, "psi": psi})

    return made


def test_rows_of_users_with_different_psi_share_a_batch(drawing, gate, seed, models):
    first = drawing.submit([seed(0)])
    gate.wait_for(drawing)
    tickets = [drawing.submit([seed(user * 10 + i, 0.5 + user / 10) for i in range(5)]) for user in range(3)]
    gate.open.set()
    first.result.result(20)
    for user, ticket in enumerate(tickets):
        drawn = ticket.result.result(20)
        expected, _ = gathered(
            sample(models[1].model, range(user * 10, user * 10 + 5), Settings(psi=0.5 + user / 10))
        )
        assert (np.stack([one.pixels for one in drawn]) == expected).all()
    assert gate.batches == [1, 15]


def test_of_a_channel_only_the_latest_is_drawn(drawing, gate, seed):
    running = drawing.submit([seed(0)], channel=("me", "slider"), order=1)
    gate.wait_for(drawing)
    most = 0
    tickets = []
    for order in range(2, 1002):  # a slider that is dragged
        tickets.append(drawing.submit([seed(order)], channel=("me", "slider"), order=order))
        most = max(most, drawing.waiting)
    other = drawing.submit([seed(1)], channel=("you", "slider"), order=1)
    with pytest.raises(Refused) as late:
        drawing.submit([seed(5)], channel=("me", "slider"), order=5)
    assert late.value.code == "superseded"
    gate.open.set()
    assert tickets[-1].result.result(20)
    assert other.result.result(20)
    assert most <= 2
    assert running.result.result(
        20
    )  # it was being drawn already: a slider that moves on still shows something
    for ticket in tickets[:-1]:
        with pytest.raises(Refused) as refused:
            ticket.result.result(1)
        assert (refused.value.code, refused.value.status) == ("superseded", 409)
    assert sum(gate.batches) <= 3


def test_a_slider_goes_before_a_wall(drawing, gate, seed):
    drawing.submit([seed(0)])
    gate.wait_for(drawing)
    wall = drawing.submit([seed(number) for number in range(100, 148)])
    slider = drawing.submit([seed(7, psi=0.3)])
    gate.open.set()
    slider.result.result(20)
    assert len(wall.result.result(20)) == 48
    assert slider.keys[0] in gate.keys[1]
    assert gate.batches[1] == BATCH  # it was filled up with faces of the wall


def test_what_is_no_longer_wanted_is_not_drawn(drawing, gate, seed):
    drawing.submit([seed(0)])
    gate.wait_for(drawing)
    gone = drawing.submit([seed(number) for number in range(100, 148)])
    drawing.drop(gone)
    assert drawing.waiting == 1
    gate.open.set()
    drawing.submit([seed(1)]).result.result(20)
    assert sum(gate.batches) == 2
    with pytest.raises(Refused):
        gone.result.result(1)


def test_too_much_at_once_is_refused(drawing, gate, seed, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    for number in range(3):
        drawing.submit([seed(number)])
    with pytest.raises(Refused) as refused:
        drawing.submit([seed(9)])
    assert (refused.value.code, refused.value.status) == ("busy", 429)
    gate.open.set()


def test_a_face_that_cannot_be_drawn_stops_nobody_else(drawing, gate, plain, seed):
    gate.open.set()
    wrong = drawing.submit([parse({"model": plain, "from": {"point": "0" * 64}})])
    right = drawing.submit([seed(3)])
    with pytest.raises(Refused, match="no longer known"):
        wrong.result.result(20)
    assert right.result.result(20)


def test_a_bug_is_told_and_the_thread_goes_on(drawing, gate, seed, monkeypatch):
    gate.open.set()
    with monkeypatch.context() as patched:
        patched.setattr(gate, "draw", lambda model, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            drawing.submit([seed(3)]).result.result(20)
    assert drawing.submit([seed(3)]).result.result(20)


def test_the_same_face_is_drawn_once(drawing, gate, seed):
    gate.open.set()
    for _ in range(3):
        first, second = drawing.submit([seed(3), seed(3)]).result.result(20)
        assert first.key == second.key
    assert gate.batches == [1]


def test_what_was_answered_is_not_kept_for_its_channel(drawing, gate, seed):
    gate.open.set()
    ticket = drawing.submit([seed(3)], channel=("me", "wall"), order=5)
    ticket.result.result(20)
    gone = weakref.ref(ticket)
    deadline = time.monotonic() + 20
    while drawing.waiting:
        assert time.monotonic() < deadline
    del ticket
    drawing.submit([seed(4)]).result.result(20)  # the thread has turned to something else
    gc.collect()
    assert gone() is None
    with pytest.raises(Refused, match="later"):
        drawing.submit([seed(3)], channel=("me", "wall"), order=4)


def test_previews_are_drawn_one_by_one_and_exact_faces_are_not(models, gate, seed):
    gate.open.set()
    calls = []

    class Quick:
        def draws(self, point, settings):
            return point.psi != (0.9,)

        def __call__(self, point, settings):
            calls.append((tuple(point.z.shape), point.psi))
            return torch.full((1, 3, 16, 16), 0.5)

    drawing = Drawing(Resolver(models[1].model), Quick())
    try:
        preview = drawing.submit([seed(3, 0.5), seed(4, 0.7)]).result.result(20)
        exact = drawing.submit([seed(3, 0.5)], exact=True).result.result(20)
        wall = drawing.submit([seed(3, 0.5), *(seed(number) for number in range(10, 16))]).result.result(20)
        mixed = drawing.submit([seed(3, 0.9), seed(4, 0.7)]).result.result(20)
    finally:
        drawing.close()
    assert calls == [((1, 8), (0.5,)), ((1, 8), (0.7,))]
    assert (preview[0].pixels == 191).all()
    expected, _ = gathered(sample(models[1].model, [3], Settings(psi=0.5)))
    assert (exact[0].pixels == expected[0]).all()
    assert (wall[0].pixels == expected[0]).all()
    assert (mixed[1].pixels == 191).all()
    assert (mixed[0].pixels != 191).any()  # what previews cannot draw is drawn exactly


def test_caches_hold_so_many_bytes():
    cache = Cache(100, len)
    for number in range(50):
        cache.put(number, bytes(30))
        cache.get(0)
    assert cache.bytes <= 100
    assert cache.get(0) is not None  # used again and again
    assert cache.get(47) is None
    cache.put("large", bytes(101))
    assert cache.get("large") is None
    assert cache.drop(0)
    assert not cache.drop(0)
