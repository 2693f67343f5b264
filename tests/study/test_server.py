"""The server, called as a browser calls it."""

import json
import re
import socket
import time

import pytest
import study_visitors
from study_visitors import answer, app, browser, current, finish, start, statements

from omokage.errors import UserError
from omokage.study import sessions
from omokage.study.making import new_token
from omokage.study.security import MOST_BYTES
from omokage.study.server import chosen_language, serve


@pytest.fixture
def on_both(database, monkeypatch):
    """The same on SQLite and on PostgreSQL."""
    monkeypatch.setattr(study_visitors, "DATABASE", database)


both = pytest.mark.usefixtures("on_both")


def table(client, kind="pairs"):
    served = client.app.state.served
    return served.store.answers(served.stimuli.source_of, kind)


@pytest.mark.parametrize("kind", ["pairs", "single", "timed", "rating", "preference"])
def test_a_study_of_each_kind_is_clicked_through(new_study, kind):
    folder, _ = new_study(kind=kind, trials=4, practice=1, checks=1, sources=("real", "gan", "vae"))
    with browser(folder) as client:
        who, told = start(client), []
        while (trial := current(client, who)) is not None:
            pictures = [client.get(f"/{one['url']}", headers=who) for one in trial["pictures"]]
            assert {one.headers["content-type"] for one in pictures} == {"image/png"}
            reply = answer(client, who, trial)
            assert reply.json()["stored"], reply.text
            told.append(trial["phase"])
        assert sorted(told) == ["check", "main", "main", "main", "main", "practice"]
        assert client.get("/api/session", headers=who).json()["stage"] == "debriefing"
        shown = client.get("/api/debriefing", headers=who).json()
        assert len(shown["answers"]) == 4
        assert (shown["score"] is None) == (kind in ("rating", "preference"))
        assert [row["phase"] for row in table(client, kind)] == told


@both
class TestAnswers:
    def test_the_same_answer_again_gives_the_same_reply_and_stands_once(self, new_study):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            who = start(client)
            trial = current(client, who)
            replies = [answer(client, who, trial, response="left") for _ in range(3)]
            assert {reply.status_code for reply in replies} == {200}
            assert {reply.text for reply in replies} == {replies[0].text}
            assert [row["response"] for row in table(client)] == ["left"]

    def test_another_response_to_an_answered_trial_is_refused(self, new_study):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            who = start(client)
            trial = current(client, who)
            assert answer(client, who, trial, response="left").status_code == 200
            assert answer(client, who, trial, response="right").status_code == 409
            assert [row["response"] for row in table(client)] == ["left"]

    def test_nobody_answers_for_another(self, new_study):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            one, other = start(client), start(client)
            trial = current(client, one)
            assert answer(client, other, trial).status_code == 404
            assert client.get("/" + trial["pictures"][0]["url"], headers=other).status_code == 404
            assert client.get("/" + trial["pictures"][0]["url"]).status_code == 401
            assert table(client) == []

    def test_only_the_current_trial_can_be_answered(self, new_study):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            who = start(client)
            first = current(client, who)
            store = client.app.state.served.store
            import sqlalchemy as sa

            from omokage.study.store import trials

            with store.reading() as connection:
                later = connection.execute(sa.select(trials.c.id).where(trials.c.position == 2)).scalar()
            assert answer(client, who, first | {"id": later}).status_code == 409
            assert current(client, who)["id"] == first["id"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"response": "up"},
            {"response": 1},
            {"response": True},
            {"response": None},
            {"rt": -1},
            {"rt": "soon"},
            {"rt": 1e300},
            {"trial": 7},
            {"trial": "x\0y"},
            {"extra": 1},
        ],
    )
    def test_impossible_answers_are_refused_in_one_sentence(self, new_study, wrong):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            who = start(client)
            reply = answer(client, who, **wrong)
            assert reply.status_code == 422
            assert reply.json()["error"].endswith(".")
            assert table(client) == []

    def test_numbers_that_json_does_not_have_are_refused(self, new_study):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            who = start(client)
            trial = current(client, who)
            given = {"trial": trial["id"], "response": "left", "rt": float("nan"), "time_elapsed": 1}
            body = json.dumps(given)
            reply = client.post(
                "/api/answers", headers=who | {"Content-Type": "application/json"}, content=body
            )
            assert reply.status_code == 422

    def test_feedback_comes_in_practice_alone(self, new_study):
        folder, _ = new_study(trials=2, practice=1)
        with browser(folder) as client:
            who = start(client)
            assert answer(client, who).json()["feedback"] in ({"correct": True}, {"correct": False})
            assert answer(client, who).json()["feedback"] is None

    def test_an_exposure_that_is_off_by_more_than_a_frame_is_flagged(self, new_study):
        folder, _ = new_study(kind="timed", trials=4, exposures_ms=(100,))
        with browser(folder) as client:
            who = start(client)
            device = {"refresh_hz": 100.0, "visit": "a"}
            client.post("/api/session/device", headers=who, json=device)
            answer(client, who, exposure_measured_ms=109)
            answer(client, who, exposure_measured_ms=111)
            answer(client, who, exposure_measured_ms=100, frames_off=99)
            answer(client, who)
            assert [row["exposure_flagged"] for row in table(client, "timed")] == [0, 1, 1, 1]

    def test_checks_ask_for_an_answer_and_count(self, new_study):
        folder, _ = new_study(kind="rating", trials=4, checks=2, parts=("hair", "eyes"))
        with browser(folder) as client:
            who, said = start(client), []
            while (trial := current(client, who)) is not None:
                if trial["phase"] == "check":
                    asked = int(trial["prompt"].removeprefix("check_"))
                    said.append(asked if not said else asked % 5 + 1)
                    answer(client, who, trial, response=said[-1])
                else:
                    assert trial["prompt"] == f"rating_{trial['part']}"
                    answer(client, who, trial, response=4)
            (person,) = client.app.state.served.store.participants()
            assert (person["checks"], person["checks_passed"]) == (2, 1)
            assert {row["response"] for row in table(client, "rating") if row["phase"] == "main"} == {4}


@both
class TestStarting:
    def test_all_statements_must_be_agreed_to(self, new_study):
        folder, _ = new_study()
        with browser(folder) as client:
            body = {"language": "en", "consents": statements(client)[1:], "age_confirmed": True}
            reply = client.post("/api/participants", json=body)
            assert reply.status_code == 422
            assert "agreed" in reply.json()["error"]
            body = {"language": "en", "consents": statements(client), "age_confirmed": False}
            assert client.post("/api/participants", json=body).status_code == 422

    def test_a_start_whose_reply_was_lost_can_be_asked_for_again(self, new_study):
        folder, _ = new_study()
        with browser(folder) as client:
            attempt = "0123456789abcdefghijklmn"
            assert start(client, attempt=attempt) == start(client, attempt=attempt)
            assert start(client, attempt=attempt + "x") != start(client, attempt=attempt)
            assert len(client.app.state.served.store.participants()) == 2

    def test_pictures_are_shown_equally_often(self, new_study):
        import sqlalchemy as sa

        from omokage.study.store import participants, showings

        folder, _ = new_study(trials=3, pictures=12)
        with browser(folder) as client:
            for _ in range(8):
                start(client)
            store = client.app.state.served.store
            counts = sa.select(sa.func.count()).select_from(showings).group_by(showings.c.picture)
            with store.reading() as connection:
                assert connection.execute(counts).scalars().all() == [2] * 24
                times = sessions.times_shown(connection, int(time.time()), False)
                assert set(times.values()) == {2}
            # Nobody has answered, so after some time without a sign of life nothing counts as shown.
            store.write(lambda c: c.execute(participants.update().values(last_seen=0)))
            with store.reading() as connection:
                assert not sessions.times_shown(connection, int(time.time()), False)

    def test_words_as_shown_are_kept_once(self, new_study):
        folder, _ = new_study()
        with browser(folder) as client:
            for language in ("en", "en", "ja"):
                start(client, language=language)
            told = client.app.state.served.store.shown_texts()
            assert sorted((one["language"], one["participants"]) for one in told) == [("en", 2), ("ja", 1)]

    def test_statements_are_kept_as_shown(self, new_study):
        import sqlalchemy as sa

        from omokage.study.store import participants

        own = {"id": "own", "text": {"en": "I like {title}.", "ja": "はい。"}}
        folder, _ = new_study(title="Faces & co", consent=[{"id": "withdraw"}, own])
        with browser(folder) as client:
            start(client)
            with client.app.state.served.store.reading() as connection:
                kept = json.loads(connection.execute(sa.select(participants.c.consent)).scalar())
            assert [one["id"] for one in kept] == ["withdraw", "own"]
            assert "14 days" in kept[0]["text"]
            assert kept[1]["text"] == "I like Faces & co."

    def test_a_statement_without_words_is_refused_when_serving_begins(self, new_study):
        folder, _ = new_study(consent=[{"id": "strange"}])
        with pytest.raises(UserError, match="strange"):
            app(folder)
        folder, _ = new_study(consent=[{"id": "own", "text": {"en": "Yes."}}])
        with pytest.raises(UserError, match="own has no text in the language ja"):
            app(folder)

    def test_paused_lets_nobody_start_and_everybody_go_on(self, new_study):
        folder, token = new_study(trials=2)
        owner = {"Authorization": f"Bearer {token}"}
        with browser(folder) as client:
            who = start(client)
            client.post("/api/dashboard/state", headers=owner, json={"state": "paused"})
            assert not client.get("/api/study").json()["open"]
            body = {"language": "en", "consents": statements(client), "age_confirmed": True}
            assert client.post("/api/participants", json=body).status_code == 403
            assert answer(client, who).status_code == 200
            client.post("/api/dashboard/state", headers=owner, json={"state": "closed"})
            assert client.get("/api/trials/next", headers=who).status_code == 403
            assert client.get("/api/session", headers=who).json()["stage"] == "closed"

    def test_a_full_study_takes_nobody_more_but_a_pilot(self, new_study):
        folder, _ = new_study(trials=1, stopping={"participants": 1})
        with browser(folder) as client:
            finish(client, start(client))
            body = {"language": "en", "consents": statements(client), "age_confirmed": True}
            assert "all its participants" in client.post("/api/participants", json=body).text
            assert not client.get("/api/study").json()["open"]
        with browser(folder, pilot=True) as client:
            start(client)

    def test_refusals_are_counted_and_nothing_else_is_kept(self, new_study):
        codes = {"completed": "C1", "refused": "C2", "screened_out": "C3"}
        folder, _ = new_study(panel=codes)
        with browser(folder) as client:
            reply = client.post("/api/refusals", json={"reason": "no_consent"})
            assert reply.json()["redirect"].endswith("cc=C2")
            reply = client.post("/api/refusals", json={"reason": "too_young"})
            assert reply.json()["redirect"].endswith("cc=C3")
            rows = client.app.state.served.store.participants()
            assert sorted(row["status"] for row in rows) == ["refused", "screened_out"]
            assert all(row["language"] is None for row in rows)

    def test_panel_identifiers_stand_apart_and_start_once(self, new_study):
        import sqlalchemy as sa

        from omokage.study.store import panel

        folder, _ = new_study(trials=1, panel={"completed": "DONE"})
        ids = {"PROLIFIC_PID": "p1", "STUDY_ID": "s", "SESSION_ID": "x"}
        with browser(folder) as client:
            who = start(client, panel=ids)
            assert client.get("/api/debriefing", headers=who).status_code == 409  # not before the last answer
            body = {"language": "en", "consents": statements(client), "age_confirmed": True, "panel": ids}
            assert client.post("/api/participants", json=body).status_code == 409
            finish(client, who)
            told = client.get("/api/debriefing", headers=who).json()["completion"]
            assert told["code"] == "DONE"
            assert told["redirect"].endswith("cc=DONE")
            with client.app.state.served.store.reading() as connection:
                assert connection.execute(sa.select(panel.c.prolific_pid)).scalars().all() == ["p1"]
            assert "p1" not in json.dumps(client.app.state.served.store.participants())

    def test_panel_identifiers_are_dropped_where_nobody_asked_for_them(self, new_study):
        import sqlalchemy as sa

        from omokage.study.store import panel

        folder, _ = new_study(trials=1)
        with browser(folder) as client:
            start(client, panel={"PROLIFIC_PID": "p1"})
            with client.app.state.served.store.reading() as connection:
                assert connection.execute(sa.select(panel)).all() == []


@both
class TestQuestions:
    QUESTIONS = (
        {
            "id": "anime",
            "kind": "choice",
            "required": True,
            "label": {"en": "Do you watch anime?"},
            "choices": [{"id": "yes", "label": {"en": "Yes"}}, {"id": "no", "label": {"en": "No"}}],
        },
        {"id": "age", "kind": "number", "label": {"en": "Age"}, "minimum": 16, "maximum": 120},
        {"id": "else", "kind": "text", "label": {"en": "Anything else?"}},
    )

    def test_they_come_before_the_trials_and_become_columns(self, new_study):
        folder, _ = new_study(trials=2, questions=self.QUESTIONS)
        with browser(folder) as client:
            who = start(client)
            assert client.get("/api/session", headers=who).json()["stage"] == "questions"
            assert client.get("/api/trials/next", headers=who).status_code == 409
            for given in (
                {"anime": "maybe"},
                {"age": 20},
                {"anime": "yes", "age": 3},
                {"anime": "yes", "age": "x"},
                {"anime": "yes", "other": "x"},
                {"anime": "yes", "else": 3},
            ):
                reply = client.post("/api/session/questions", headers=who, json={"answers": given})
                assert reply.status_code == 422, given
            for _ in range(2):  # sent again
                given = {"anime": "yes", "age": 31, "else": "「はい」"}
                reply = client.post("/api/session/questions", headers=who, json={"answers": given})
                assert reply.json() == {"stored": True}
            (row,) = client.app.state.served.store.participants()
            assert (row["question_anime"], row["question_age"], row["question_else"]) == (
                "yes",
                "31",
                "「はい」",
            )
            assert answer(client, who).status_code == 200
            given = {"anime": "no"}
            reply = client.post("/api/session/questions", headers=who, json={"answers": given})
            assert reply.status_code == 409


@both
class TestResuming:
    def test_a_loaded_page_goes_on_at_the_same_trial(self, new_study):
        folder, _ = new_study(trials=3)
        with browser(folder) as client:
            who = start(client)
            answer(client, who)
            trial = current(client, who)
            for visit in ("a", "a", "b", "c"):
                device = {"device": "phone", "viewport_width": 390, "visit": visit}
                reply = client.post("/api/session/device", headers=who, json=device)
            assert reply.json() == {"resumed": 2}
            told = client.get("/api/session", headers=who).json()
            assert told == {"stage": "trials", "answered": 1, "of": 3, "resumed": 2}
        with browser(folder) as client:  # also after the server was started again
            assert current(client, who) == trial
            (row,) = client.app.state.served.store.participants()
            assert (row["resumes"], row["device"], row["viewport_width"]) == (2, "phone", 390)


@both
class TestWithdrawal:
    def test_a_code_deletes_everything(self, new_study):
        folder, _ = new_study(trials=2, questions=TestQuestions.QUESTIONS[1:])
        with browser(folder) as client:
            body = {"language": "en", "consents": statements(client), "age_confirmed": True}
            given = client.post("/api/participants", json=body).json()
            who = {"Authorization": f"Bearer {given['token']}"}
            text = {"else": "words that must vanish"}
            client.post("/api/session/questions", headers=who, json={"answers": text})
            client.post("/api/session/device", headers=who, json={"device": "tablet"})
            other = start(client)
            client.post("/api/session/questions", headers=other, json={"answers": {}})
            finish(client, who)
            finish(client, other)
            assert not client.post("/api/withdrawals", json={"code": "AAAA-AAAA-AAAA"}).json()["deleted"]
            code = given["withdrawal_code"].replace("-", " ").lower()
            for _ in range(2):
                assert client.post("/api/withdrawals", json={"code": code}).json()["deleted"]
            assert len(table(client)) == 2  # of the other one
            people = client.app.state.served.store.participants()
            gone = [row for row in people if row["status"] == "withdrawn"]
            assert len(gone) == 1
            values = {key: value for key, value in gone[0].items() if key not in ("participant", "status")}
            assert not any(values.values())
            assert client.get("/api/session", headers=who).json()["stage"] == "withdrawn"
            assert client.get("/api/debriefing", headers=who).status_code == 403
            assert client.get("/api/trials/next", headers=who).status_code == 403
        held = b"".join(path.read_bytes() for path in folder.parent.rglob("*.sqlite*"))
        assert b"must vanish" not in held

    def test_after_the_last_day_it_is_too_late(self, new_study, monkeypatch):
        folder, _ = new_study(trials=2, withdrawal_days=3)
        with browser(folder) as client:
            body = {"language": "en", "consents": statements(client), "age_confirmed": True}
            code = client.post("/api/participants", json=body).json()["withdrawal_code"]

            class Later(sessions.datetime):
                @classmethod
                def now(cls, zone=None):
                    return super().now(zone) + sessions.timedelta(days=4)

            monkeypatch.setattr(sessions, "datetime", Later)
            reply = client.post("/api/withdrawals", json={"code": code})
            assert reply.status_code == 403
            assert re.search(r"last day for withdrawal was \d{4}-\d\d-\d\d", reply.json()["error"])


@both
class TestDashboard:
    def test_nobody_sees_it_without_the_token(self, new_study):
        folder, token = new_study()
        with browser(folder) as client:
            person = start(client)
            for headers in ({}, person, {"Authorization": "Bearer x"}, {"Authorization": token}):
                assert client.get("/api/dashboard", headers=headers).status_code == 401
                path = "/api/dashboard/results?reveal=true"
                assert client.get(path, headers=headers).status_code == 401
                state = client.post("/api/dashboard/state", headers=headers, json={"state": "closed"})
                assert state.status_code == 401
            assert client.get("/api/study").json()["open"]

    def test_results_are_hidden_and_looking_is_noted(self, new_study):
        folder, token = new_study(trials=2)
        owner = {"Authorization": f"Bearer {token}"}
        with browser(folder) as client:
            finish(client, start(client))
            told = client.get("/api/dashboard", headers=owner).json()
            assert told["counts"]["completed"] == 1
            assert told["completions"][-1]["completed"] == 1
            assert told["looks"] == []
            assert "correct" not in json.dumps(told)
            assert client.get("/api/dashboard/results", headers=owner).status_code == 403
            shown = client.get("/api/dashboard/results?reveal=true", headers=owner).json()
            assert shown["rows"]
            assert len(client.get("/api/dashboard", headers=owner).json()["looks"]) == 1

    def test_a_new_token_takes_the_place_of_the_old(self, new_study):
        folder, old = new_study()
        new = new_token(folder)
        with browser(folder) as client:
            assert client.get("/api/dashboard", headers={"Authorization": f"Bearer {old}"}).status_code == 401
            assert client.get("/api/dashboard", headers={"Authorization": f"Bearer {new}"}).status_code == 200
        assert new not in (folder / "tokens.json").read_text()


@both
class TestFreezing:
    def test_a_changed_design_is_refused_after_the_first_participant(self, new_study):
        folder, _ = new_study(trials=3)
        path = folder / "design.toml"
        with browser(folder, pilot=True) as client:
            start(client)
        path.write_text(path.read_text().replace("trials = 3", "trials = 4"))
        with browser(folder) as client:  # pilots freeze nothing
            start(client)
        path.write_text(path.read_text().replace("trials = 4", "trials = 5"))
        with pytest.raises(UserError, match=r"design\.toml or the pictures were changed"):
            app(folder)
        path.write_text(path.read_text().replace("trials = 5", "trials = 4"))
        with browser(folder) as client:
            start(client)
            pilots = [row["pilot"] for row in client.app.state.served.store.participants()]
            assert sorted(pilots) == [0, 0, 1]

    def test_a_changed_picture_is_refused(self, new_study):
        folder, _ = new_study()
        picture = next((folder / "pictures").iterdir())
        picture.write_bytes(picture.read_bytes() + b"x")
        with pytest.raises(UserError, match="was changed after it was taken in"):
            app(folder)


class TestGuard:
    @pytest.mark.parametrize(
        "path",
        [
            "/../design.toml",
            "/static/../../design.toml",
            "/static/..%2f..%2fdesign.toml",
            "/static/%2e%2e/design.toml",
            "/api/pictures/..%2f..%2ftruth.json",
            "/truth.json",
            "/design.toml",
            "/study.sqlite",
            "/pictures",
            "/docs",
            "/redoc",
        ],
    )
    def test_no_file_outside_is_read(self, new_study, path):
        folder, _ = new_study()
        with browser(folder) as client:
            reply = client.get(path, headers=start(client))
            assert reply.status_code == 404
            assert reply.json() == {"error": reply.json()["error"]}

    def test_neither_the_page_nor_a_cache_knows_a_picture(self, new_study):
        """Page source and caches: the same bytes for everybody, and nothing to compare pictures by."""
        folder, _ = new_study(trials=4)
        with browser(folder) as client:
            scripts = re.findall(r'(?:src|href)="([^"]+)"', client.get("/").text)
            before = [client.get(path).content for path in ("/", *scripts)]
            for who in (start(client), start(client)):
                seen = []
                while (trial := current(client, who)) is not None:
                    for shown in trial["pictures"]:
                        once, again = (client.get(f"/{shown['url']}", headers=who) for _ in range(2))
                        assert once.status_code == 200
                        assert again.status_code == 200  # never 304
                        for name in ("etag", "last-modified", "expires", "age", "vary"):
                            assert name not in once.headers
                        seen.append(sorted(name for name in once.headers))
                    answer(client, who, trial)
                    assert [client.get(path).content for path in ("/", *scripts)] == before
                assert all(one == seen[0] for one in seen)

    def test_every_reply_has_the_headers(self, new_study):
        folder, _ = new_study()
        with browser(folder) as client:
            who = start(client)
            picture = current(client, who)["pictures"][0]["url"]
            for path in ("/api/study", "/nothing", "/api/session", f"/{picture}"):
                reply = client.get(path, headers=who)
                assert reply.headers["cache-control"] == "no-store", path
                assert "default-src 'none'" in reply.headers["content-security-policy"]
                assert reply.headers["x-content-type-options"] == "nosniff"
                assert reply.headers["referrer-policy"] == "no-referrer"
                assert "server" not in reply.headers
                assert "set-cookie" not in reply.headers

    def test_other_host_names_are_refused(self, new_study):
        folder, _ = new_study()
        with browser(folder, hosts=("friend.example",)) as client:
            for host, status in {
                "evil.example": 400,
                "localhost.evil.example": 400,
                "": 400,
                "localhost:8000": 200,
                "127.0.0.1": 200,
                "[::1]:80": 200,
                "FRIEND.example": 200,
            }.items():
                assert client.get("/api/study", headers={"Host": host}).status_code == status, host

    def test_a_public_path_works_with_and_without_it(self, new_study):
        folder, token = new_study()
        with browser(folder, public_url="https://lab.example.org/faces/") as client:
            for path in ("/faces/api/study", "/api/study"):
                assert client.get(path, headers={"Host": "lab.example.org"}).status_code == 200
            moved = client.get("/faces", follow_redirects=False)
            assert (moved.status_code, moved.headers["location"]) == (308, "/faces/")
            owner = {"Authorization": f"Bearer {token}"}
            link = client.get("/api/dashboard", headers=owner).json()["link"]
            assert link == "https://lab.example.org/faces/"

    @pytest.mark.parametrize("url", ["lab.example.org", "ftp://x.org", "https://x.org/a?b", "https:///x"])
    def test_an_address_that_is_none_is_refused(self, new_study, url):
        folder, _ = new_study()
        with pytest.raises(UserError, match="--public-url"):
            app(folder, public_url=url)

    def test_long_requests_are_refused(self, new_study):
        folder, _ = new_study()
        with browser(folder) as client:
            reply = client.post("/api/withdrawals", json={"code": "x" * MOST_BYTES})
            assert reply.status_code == 413
            parts = (b" " * 1024 for _ in range(MOST_BYTES // 1024 + 2))  # no length is told
            assert client.post("/api/withdrawals", content=parts).status_code == 413
            assert client.get("/api/study?" + "x" * 3000).status_code == 414

    def test_what_is_no_json_is_refused(self, new_study):
        folder, _ = new_study()
        with browser(folder) as client:
            for content in (b"", b"{", b"[]", b"null", b"\xff", b'{"code": "\\ud800"}', b"[" * 30_000):
                reply = client.post(
                    "/api/withdrawals", content=content, headers={"Content-Type": "application/json"}
                )
                assert reply.status_code in (400, 422), content[:20]
                assert reply.json()["error"]


def test_a_port_that_is_taken_is_told(new_study, capsys):
    folder, _ = new_study()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: something listens there already"):
            serve(folder, port=port)
    with pytest.raises(UserError, match="need PostgreSQL"):
        serve(folder, workers=2)


def test_the_language_of_a_page():
    assert chosen_language(("en", "ja"), "ja", "en") == "ja"
    assert chosen_language(("en", "ja"), "xx", "de, ja-JP;q=0.8, en;q=0.5") == "ja"
    assert chosen_language(("en", "ja"), None, "de;q=x, *") == "en"
    assert chosen_language(("ja", "en"), None, "") == "ja"
