"""What a browser does in a study, for the tests of its server."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from PIL import Image

from omokage.study.server import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would like another client
    from starlette.testclient import TestClient


def squares(count: int, seed: int, side: int = 24) -> list[tuple[str, Image.Image]]:
    """Small pictures of noise; no two are alike."""
    rng = np.random.default_rng(seed)
    return [
        (f"{number:03d}.png", Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)))
        for number in range(count)
    ]


DATABASE: str | None = None
"""The database of all studies here, if it is not the one in their folder; tests set it."""


def app(folder: Path, **options: Any) -> FastAPI:
    """A study's application."""
    return create_app(folder, **{"database": DATABASE, **options})


@contextmanager
def browser(folder: Path, **options: Any) -> Iterator[TestClient]:
    """A client of a study's server."""
    with TestClient(app(folder, **options), base_url="http://localhost") as client:
        yield client


def statements(client: TestClient) -> list[str]:
    return [one["id"] for one in client.get("/api/study").json()["consent"]]


def start(client: TestClient, **more: Any) -> dict[str, str]:
    """Agree to everything; the headers of the new participant."""
    agreed = {"language": "en", "consents": statements(client), "age_confirmed": True}
    reply = client.post("/api/participants", json=agreed | more)
    assert reply.status_code == 201, reply.text
    return {"Authorization": f"Bearer {reply.json()['token']}"}


def current(client: TestClient, who: dict[str, str]) -> Any:
    """The current trial, or None."""
    return client.get("/api/trials/next", headers=who).json()["trial"]


def answer(client: TestClient, who: dict[str, str], trial_: Any = None, /, **more: Any) -> Any:
    """Answer the current trial, by default with the first option; the reply."""
    trial = trial_ or current(client, who)
    given = {"trial": trial["id"], "response": trial["options"][0], "rt": 400, "time_elapsed": 900}
    return client.post("/api/answers", headers=who, json=given | more)


def finish(client: TestClient, who: dict[str, str]) -> None:
    """Answer all trials."""
    while (trial := current(client, who)) is not None:
        assert answer(client, who, trial).status_code == 200
