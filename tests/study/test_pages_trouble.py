"""What the pages do when tabs close, connections break, people withdraw, or a study is paused."""

import json

from browsing import DESKTOP, PHONE, Visitor, served

HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def stored(folder, what="answers"):
    """The rows that the study has stored."""
    from omokage.study.design import load_design
    from omokage.study.opening import open_store
    from omokage.study.stimuli import load_stimuli

    with open_store(folder) as store:
        if what == "participants":
            return store.participants()
        return store.answers(load_stimuli(folder).source_of, load_design(folder).kind)


def kept(visitor):
    """Answers that the browser has not had acknowledged."""
    return visitor.page.evaluate(
        """() => Object.entries(localStorage).filter(([key]) => key.endsWith(":outbox"))
            .flatMap(([, text]) => JSON.parse(text)).length"""
    )


def test_a_closed_tab_resumes_at_the_same_trial(browser, new_study):
    folder, _ = new_study(trials=3)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.answer()
        left = visitor.ready().get_attribute("data-trial")
        visitor.page.close()
        visitor.open()
        visitor.stage("resume")
        assert "1 of 3" in visitor.page.inner_text("main")
        visitor.main()
        assert visitor.ready().get_attribute("data-trial") == left
        visitor.finish()
        visitor.open()  # the debriefing is there again, and nothing begins anew
        visitor.stage("debriefing")
        visitor.close()
    assert [row["resumed"] for row in stored(folder)] == [0, 1, 0]
    (person,) = stored(folder, "participants")
    assert person["resumes"] == 1
    assert visitor.problems == []


def test_a_lost_connection_loses_no_answer_and_stores_none_twice(browser, new_study):
    folder, _ = new_study(trials=3)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        # The answer reaches the server, and the reply is lost: the page sends it again.
        losses = iter([True])

        def lose_reply(route):
            if next(losses, False):
                route.fetch()
                route.abort()
            else:
                route.continue_()

        visitor.context.route("**/api/answers", lose_reply)
        visitor.answer()
        visitor.context.unroute("**/api/answers")
        assert len(stored(folder)) == 1

        # No connection at all: the answer is kept, the page says so, and a closed tab does not lose it.
        visitor.context.route("**/api/**", lambda route: route.abort())
        name = visitor.ready().get_attribute("data-trial")
        visitor.page.keyboard.press("f")
        visitor.page.wait_for_selector(".notice:text('No connection. Your answer is kept')")
        assert kept(visitor) == 1
        visitor.page.close()
        visitor.context.unroute("**/api/**")
        visitor.open()
        visitor.stage("resume")
        assert kept(visitor) == 0
        visitor.main()
        assert visitor.ready().get_attribute("data-trial") != name
        visitor.finish()
        visitor.close()
    rows = stored(folder)
    assert len(rows) == 3
    assert rows[1]["response"] == "left"
    assert not [one for one in visitor.problems if "ERR_FAILED" not in one]


def test_the_connection_comes_back_while_the_page_waits(browser, new_study):
    folder, _ = new_study(trials=2)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.ready()
        visitor.context.set_offline(True)
        visitor.page.keyboard.press("j")
        visitor.page.wait_for_selector(".notice:text('No connection')")
        visitor.context.set_offline(False)
        visitor.finish()
        visitor.close()
    first, _ = stored(folder)
    assert first["response"] == "right"


def test_a_lost_reply_to_consent_starts_nobody_twice(browser, new_study):
    folder, _ = new_study(trials=2)
    losses = iter([True])

    def lose_reply(route):
        if next(losses, False):
            route.fetch()
            route.abort()
        else:
            route.continue_()

    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.context.route("**/api/participants", lose_reply)
        visitor.begin()
        visitor.finish()
        visitor.close()
    (person,) = stored(folder, "participants")
    assert person["status"] == "completed"


def test_withdrawal_during_the_study_and_afterwards_by_code(browser, new_study):
    folder, _ = new_study(trials=2)
    with served(folder) as address:
        visitor = Visitor(browser, address, **PHONE)
        visitor.arrive()
        visitor.answer()
        visitor.ready()
        visitor.page.click(".corner button")
        visitor.page.click("dialog .danger")
        visitor.stage("withdrawn")
        assert visitor.page.evaluate("localStorage.length") == 0
        assert stored(folder) == []
        visitor.open()
        visitor.stage("briefing")
        visitor.arrive()
        visitor.finish()
        code = visitor.page.inner_text(".code code")
        assert len(stored(folder)) == 2
        visitor.close()

        other = Visitor(browser, address, "#withdraw", **DESKTOP)
        other.stage("withdrawal")
        other.page.click(".danger")
        assert other.page.inner_text("#code-error") == "Please enter your code."
        other.page.fill("#code", "ABCD-EFGH-0000")
        other.page.click(".danger")
        other.page.wait_for_selector("#code-error:text('No answers belong')")
        other.page.fill("#code", f" {code.lower().replace('-', ' ')} ")
        other.page.click(".danger")
        other.stage("withdrawn")
        other.close()
    assert stored(folder) == []
    assert [one["status"] for one in stored(folder, "participants")] == ["withdrawn", "withdrawn"]
    assert visitor.problems == []
    assert other.problems == []


def test_stopping_for_now_keeps_the_answers(browser, new_study):
    folder, _ = new_study(trials=2)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.answer()
        visitor.ready()
        visitor.page.click(".corner button")
        visitor.page.wait_for_selector("dialog[open]")
        visitor.page.keyboard.press("f")  # no answer to the trial behind the dialog
        visitor.page.keyboard.press("Escape")
        visitor.page.wait_for_selector("dialog", state="detached")
        assert len(stored(folder)) == 1
        visitor.page.click(".corner button")
        visitor.page.click("dialog button:text('Stop for now')")
        visitor.stage("stopped")
        visitor.page.keyboard.press("j")  # nor to the one that was left
        visitor.page.wait_for_timeout(300)
        assert len(stored(folder)) == 1
        visitor.main()
        visitor.stage("resume")
        visitor.main()
        visitor.finish()
        visitor.close()
    assert len(stored(folder)) == 2


def test_a_hidden_tab_spoils_an_exposure_and_restarts_an_open_trial(browser, new_study):
    folder, _ = new_study(kind="timed", trials=2, exposures_ms=[2000])
    with served(folder) as address:
        visitor = Visitor(browser, address, hurried=False, **DESKTOP)
        visitor.arrive()
        visitor.page.wait_for_selector("study-picture[data-state=picture]")
        visitor.page.evaluate(HIDE, True)
        assert visitor.page.get_attribute("study-picture", "data-state") == "mask"
        visitor.page.evaluate(HIDE, False)
        visitor.answer()
        visitor.finish()
        visitor.close()
    first, second = stored(folder)
    assert first["exposure_flagged"]
    assert first["exposure_measured_ms"] < 1900
    assert not second["exposure_flagged"]

    folder, _ = new_study(kind="single", trials=1)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.ready()
        visitor.page.evaluate(HIDE, True)
        assert visitor.page.get_attribute("study-picture", "data-state") == "empty"
        visitor.page.keyboard.press("f")  # no answer to a picture that is not shown
        visitor.page.evaluate(HIDE, False)
        visitor.page.wait_for_selector(".away")
        visitor.page.keyboard.press("Enter")
        visitor.answer()
        visitor.stage("debriefing")
        visitor.close()
    (row,) = stored(folder)
    assert row["resumed"]


def test_a_second_tab_asks_before_it_takes_over(browser, new_study):
    folder, _ = new_study(trials=2)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.ready()
        first = visitor.page
        visitor.open()
        visitor.stage("other-tab")
        visitor.main()
        visitor.stage("device")
        first.wait_for_selector("body[data-stage=moved]", state="attached")
        visitor.main()
        visitor.finish()
        visitor.close()
    assert len(stored(folder)) == 2


def test_refusals_are_counted_and_go_back_to_the_panel(browser, new_study):
    codes = {"completed": "DONE1", "refused": "NO2", "screened_out": "YOUNG3"}
    folder, _ = new_study(trials=1, panel={**codes, "url": "https://panel.example.org/?cc={code}"})
    with served(folder) as address:
        for button, code in (("I do not agree", "NO2"), ("I am younger than 16", "YOUNG3")):
            visitor = Visitor(browser, address, f"?PROLIFIC_PID=p{code}&STUDY_ID=s&SESSION_ID=t", **DESKTOP)
            visitor.stage("briefing")
            visitor.main()
            visitor.stage("consent")
            visitor.page.click(f"button:text('{button}')")
            visitor.stage("refused")
            assert visitor.page.get_attribute(".button.main", "href") == f"https://panel.example.org/?cc={code}"
            visitor.close()
        visitor = Visitor(browser, address, "?PROLIFIC_PID=p1&STUDY_ID=s&SESSION_ID=t", **DESKTOP)
        visitor.stage("briefing")
        assert "recruiting service" in visitor.page.inner_text("main")
        visitor.page.click(".languages a[lang=ja]")  # the identifiers survive a change of language
        visitor.page.wait_for_selector("html[lang=ja] .brief")
        visitor.arrive()
        visitor.ready()
        assert visitor.page.locator("a[href*='panel.example.org']").count() == 0
        visitor.finish()
        assert visitor.page.get_attribute(".panel a", "href") == "https://panel.example.org/?cc=DONE1"
        assert "DONE1" in visitor.page.inner_text(".panel")
        visitor.close()
        again = Visitor(browser, address, "?PROLIFIC_PID=p1&STUDY_ID=s&SESSION_ID=t", **DESKTOP)
        again.stage("briefing")
        again.main()
        again.stage("consent")
        for box in again.page.query_selector_all("input[type=checkbox]"):
            box.check()
        again.main()
        again.page.wait_for_selector("h1:text('You have taken part already')")
        again.close()
    assert sorted(one["status"] for one in stored(folder, "participants")) == [
        "completed", "refused", "screened_out",
    ]


def test_a_study_that_is_paused_or_closed_and_the_dashboard(browser, new_study):
    folder, token = new_study(trials=2)
    with served(folder) as address:
        begun = Visitor(browser, address, **DESKTOP)
        begun.arrive()
        begun.ready()
        board = Visitor(browser, address, f"dashboard#{token}", **DESKTOP)
        page = board.page
        page.wait_for_selector(".cards")
        assert token not in page.url
        cards = page.locator(".card").all_inner_texts()
        assert {"Not finished\n1", "Active now\n1", "Completed\n0"} <= set(cards)
        assert page.locator("table").count() == 0

        page.click("button:text-is('Pause')")
        page.wait_for_selector(".chip.paused")
        new = Visitor(browser, address, **DESKTOP)
        new.stage("paused", "closed")
        begun.finish()  # whoever has begun goes on

        page.click("button:text-is('Look at the results')")
        page.click("dialog button:text-is('Cancel')")
        assert page.locator("table").count() == 0
        page.click("button:text-is('Look at the results')")
        page.click("dialog .main")
        page.wait_for_selector("table")
        page.reload()
        page.wait_for_selector(".cards")
        assert "Looked at the results: " in page.inner_text("main")
        assert page.locator("table").count() == 0

        page.click("button:text-is('Close')")
        page.click("dialog .main")
        page.wait_for_selector(".chip.closed")
        new.page.reload()
        new.stage("closed")
        page.click("button:text-is('Sign out')")
        page.wait_for_selector("#token")
        page.fill("#token", "wrong")
        page.click(".button.main")
        page.wait_for_selector("#token-error:text('not valid')")
        for one in (begun, board, new):
            one.close()
    assert begun.problems == []
    assert new.problems == []
    assert not [one for one in board.problems if "401" not in one]


def test_below_a_path_of_another_site_with_own_words(browser, new_study):
    own = {"id": "film", "text": {"en": "I have seen the film of {researcher}."}}
    folder, _ = new_study(
        trials=1, languages=["en"], consent=[{"id": "voluntary"}, own], researcher={"name": "Ada"}
    )
    (folder / "texts").mkdir()
    (folder / "texts" / "en.toml").write_text('[prompts]\npairs = "Which one, {title}?"\n', "utf-8")
    with served(folder, public_url="http://127.0.0.1/lab/faces/") as address:
        visitor = Visitor(browser, address, "lab/faces", **DESKTOP)  # without the slash at the end
        assert visitor.page.url == address + "lab/faces/"
        asked = []
        visitor.page.on("request", lambda request: asked.append(request.url))
        visitor.stage("briefing")
        assert "@" not in visitor.page.inner_text("main")  # no address given, none shown
        visitor.main()
        visitor.stage("consent")
        assert "I have seen the film of Ada." in visitor.page.inner_text("main")
        visitor.page.reload()
        visitor.arrive()
        visitor.ready()
        assert visitor.page.inner_text("h1") == "Which one, Faces?"
        visitor.finish()
        visitor.close()
    assert asked
    assert all(url.startswith(address + "lab/faces/") for url in asked)
    assert visitor.problems == []


def test_a_key_that_the_server_does_not_know_begins_anew(browser, new_study):
    folder, _ = new_study(trials=1)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.ready()
        visitor.page.evaluate(
            """() => Object.keys(localStorage).filter((key) => key.endsWith(":token"))
                .forEach((key) => localStorage.setItem(key, JSON.stringify("unknown")))"""
        )
        visitor.page.reload()
        visitor.stage("briefing")
        assert json.loads(visitor.page.evaluate("JSON.stringify(localStorage)")) == {}
        visitor.close()
