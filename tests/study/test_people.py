"""People of known accuracy take part over HTTP; the server is killed meanwhile; the table is theirs."""

import asyncio
import importlib.util
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from omokage.study import store as tables
from omokage.study.opening import open_store
from omokage.study.server import create_app
from omokage.study.stimuli import load_stimuli

BENCH = Path(__file__).resolve().parents[2] / "bench" / "study_load.py"


@pytest.fixture(scope="module")
def load():
    spec = importlib.util.spec_from_file_location("bench_study_load", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Thread:
    """The server in a thread, over a real socket."""

    def __init__(self, folder: Path, port: int, database: str | None = None) -> None:
        import uvicorn

        config = uvicorn.Config(
            create_app(folder, database=database), port=port, access_log=False, log_level="error"
        )
        self.port, self._server = port, uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Thread":
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)


def run(work):
    """What the coroutine ``work`` returns. In a thread, since a browser may have a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def rows_by_trial(folder: Path, kind: str, database: str | None = None) -> dict[str, dict]:
    """The table of answers, by the identifier of the trial."""
    with open_store(folder, database) as store:
        with store.reading() as connection:
            query = sa.select(tables.trials.c.id, tables.trials.c.participant, tables.trials.c.position)
            names = {(row.participant, row.position): row.id for row in connection.execute(query)}
        rows = store.answers(load_stimuli(folder).source_of, kind)
    return {names[row["participant"], row["trial_index"]]: row for row in rows}


@pytest.mark.parametrize("kind", ["pairs", "single", "timed", "rating", "preference"])
def test_the_table_is_what_people_answered(new_study, load, kind):
    folder, _ = new_study(
        kind=kind, trials=6, checks=1, practice=1, parts=("hair", "eyes"), sources=("real", "gan", "vae")
    )
    crowd = load.Crowd(accuracy=0.75, person=0.3, picture=0.3, lapses=0.05, again=0.2, cut=0.1)
    with Thread(folder, load.free_port()) as server:
        seen = run(load.crowded(folder, server, 4, 0.01, crowd, 0, 0))
    rows = rows_by_trial(folder, kind)
    assert rows.keys() == seen.rows.keys()
    for trial, told in seen.rows.items():
        assert {name: rows[trial][name] for name in told} == told


def test_people_of_known_accuracy_have_it_in_the_table(new_study, load, database):
    folder, _ = new_study(pictures=24, trials=20)
    shares = []
    with Thread(folder, load.free_port(), database) as server:
        for accuracy in (0.5, 0.75, 1.0):
            crowd = load.Crowd(accuracy=accuracy, again=0, cut=0)
            if accuracy == 1:
                crowd = load.Crowd(accuracy=1 - 1e-9, again=0, cut=0)
            seen = run(load.crowded(folder, server, 6, 0, crowd, 0, 0))
            rows = rows_by_trial(folder, "pairs", database)
            shares.append(np.mean([rows[trial]["correct"] for trial in seen.rows]))
    # Three standard errors of 120 answers.
    assert abs(shares[0] - 0.5) < 3 * np.sqrt(0.25 / 120)
    assert abs(shares[1] - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 120)
    assert shares[2] == 1


def test_a_killed_server_keeps_every_acknowledged_answer(new_study, load):
    """Processes are started and killed, which takes some seconds."""
    folder, _ = new_study(trials=10, pictures=30)
    server = load.Server(folder, load.free_port())
    server.start()
    try:
        crowd = load.Crowd(again=0.2, cut=0.2)
        seen = run(load.crowded(folder, server, 8, 0.2, crowd, 1, 2.0))
        errors = os.dup(server.process.stderr.fileno())
    finally:
        server.kill()
    with open(errors, "rb") as said:  # nothing is logged: neither cut connections nor addresses
        assert said.read() == b""
    held = b"".join(path.read_bytes() for path in folder.glob("study.sqlite*"))
    assert b"127.0.0.1" not in held
    assert seen.counts["killed"] == 1
    assert len(seen.acknowledged) == 80
    found = load.compared(folder, None, seen)
    assert found == {"stored": 80, "lost": 0, "doubled": 0, "wrong": 0, "strange": 0}
