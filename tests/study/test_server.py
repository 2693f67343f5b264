"""The server, called as a browser calls it."""

import warnings
from contextlib import contextmanager

import pytest

from omokage.study.server import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


@contextmanager
def browser(folder, **options):
    """A client of a study's server."""
    with TestClient(create_app(folder, **options), base_url="http://localhost") as client:
        yield client


def start(client, **more) -> dict[str, str]:
    """Agree to everything; the headers of the new participant."""
    statements = [one["id"] for one in client.get("/api/study").json()["consent"]]
    reply = client.post(
        "/api/participants",
        json={"language": "en", "consents": statements, "age_confirmed": True, **more},
    )
    assert reply.status_code == 201, reply.text
    return {"Authorization": f"Bearer {reply.json()['token']}"}


def answer(client, who, response=None, **more):
    """Answer the current trial, by default with the first option."""
    trial = client.get("/api/trials/next", headers=who).json()["trial"]
    said = response or trial["options"][0]
    given = {"trial": trial["id"], "response": said, "rt": 400, "time_elapsed": 900}
    return client.post("/api/answers", headers=who, json=given | more)


@pytest.mark.parametrize("kind", ["pairs", "single", "timed", "rating", "preference"])
def test_a_study_of_each_kind_is_clicked_through(new_study, kind):
    folder, _ = new_study(kind=kind, trials=4, practice=1, checks=1, sources=("real", "gan", "vae"))
    with browser(folder) as client:
        who, told = start(client), []
        while (trial := client.get("/api/trials/next", headers=who).json()["trial"]) is not None:
            pictures = [client.get(f"/{one['url']}", headers=who) for one in trial["pictures"]]
            assert {one.headers["content-type"] for one in pictures} == {"image/png"}
            reply = answer(client, who)
            assert reply.json()["stored"], reply.text
            told.append(trial["phase"])
        assert sorted(told) == ["check", "main", "main", "main", "main", "practice"]
        assert client.get("/api/session", headers=who).json()["stage"] == "debriefing"
        shown = client.get("/api/debriefing", headers=who).json()
        assert len(shown["answers"]) == 4
        assert (shown["score"] is None) == (kind in ("rating", "preference"))
