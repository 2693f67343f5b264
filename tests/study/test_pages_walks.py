"""Whole studies clicked through in a headless Chromium."""

import json

import pytest
from browsing import DESKTOP, PHONE, Visitor, served

SETTINGS = {
    "pairs": {},
    "single": {},
    "timed": {"exposures_ms": [50, 100]},
    "rating": {"parts": ["overall", "eyes"]},
    "preference": {},
}
QUESTIONS = [
    {
        "id": "anime",
        "required": True,
        "label": {"en": "Do you watch anime?", "ja": "アニメを見ますか。"},
        "choices": [{"id": "no", "label": {"en": "No"}}, {"id": "yes", "label": {"en": "Yes"}}],
    },
    {"id": "age", "kind": "number", "label": {"en": "Your age?"}, "minimum": 16, "maximum": 120},
]


def answers(folder):
    """What the study has stored."""
    from omokage.study.design import load_design
    from omokage.study.opening import open_store
    from omokage.study.stimuli import load_stimuli

    with open_store(folder) as store:
        return store.answers(load_stimuli(folder).source_of, load_design(folder).kind)


def participants(folder):
    from omokage.study.opening import open_store

    with open_store(folder) as store:
        return store.participants()


# Each kind; both sizes in both languages.
WALKS = [
    ("pairs", "en", "desktop"),
    ("pairs", "ja", "phone"),
    ("single", "en", "phone"),
    ("timed", "ja", "desktop"),
    ("rating", "ja", "phone"),
    ("preference", "en", "desktop"),
]


@pytest.mark.parametrize(("kind", "language", "size"), WALKS)
def test_a_whole_study(browser, new_study, kind, language, size):
    folder, _ = new_study(
        kind=kind, trials=3, practice=1, checks=1, break_every=2, questions=QUESTIONS,
        researcher={"name": "Ada", "email": "ada@example.org"}, **SETTINGS[kind],
    )
    options = {"desktop": DESKTOP, "phone": PHONE}[size]
    locale = {"en": "en-GB", "ja": "ja-JP"}[language]
    with served(folder) as address:
        visitor = Visitor(browser, address, locale=locale, **options)
        assert visitor.page.evaluate("document.documentElement.lang") in (language, "")
        visitor.begin({"anime": "yes", "age": "３０"})
        visitor.finish()
        visitor.page.click("summary")
        visitor.page.wait_for_selector(".gallery [data-state=picture]")
        visitor.measure("gallery")
        visitor.main()
        visitor.stage("completion")
        assert visitor.page.evaluate("document.documentElement.lang") == language
        visitor.close()
    assert visitor.problems == []
    assert {"briefing", "consent", "code", "questions", "device", "break"} <= set(visitor.stages)
    assert "practice-over" in visitor.stages
    assert visitor.stages[-1] == "completion"
    rows, (person,) = answers(folder), participants(folder)
    parts = len(SETTINGS[kind].get("parts", "1"))
    assert len(rows) == 4 * parts + 1
    assert all(row["rt"] > 0 and not row["resumed"] for row in rows)
    assert person["status"] == "completed"
    assert (person["language"], person["question_anime"], person["question_age"]) == (language, "yes", "30")
    assert (person["device"], person["pointer"]) == (
        ("phone", "touch") if size == "phone" else ("desktop", "mouse")
    )
    assert person["viewport_width"] == options["viewport"]["width"]
    assert 20 < person["refresh_hz"] < 300
    assert person["resumes"] == 0


def test_by_keyboard_alone(browser, new_study):
    folder, _ = new_study(kind="pairs", trials=4, practice=1, break_every=2)
    keys = iter(["f", "ArrowRight", "J", "ArrowLeft", "F"])

    def press(visitor):
        visitor.page.keyboard.press(next(keys))

    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        keyboard = visitor.page.keyboard
        visitor.stage("briefing")
        for _ in range(30):  # to the button at the end
            keyboard.press("Tab")
            if visitor.page.evaluate("document.activeElement.matches('.button.main')"):
                break
        keyboard.press("Enter")
        visitor.stage("consent")
        while True:
            keyboard.press("Tab")
            if visitor.page.evaluate("document.activeElement.type") != "checkbox":
                break
            keyboard.press("Space")
        keyboard.press("Enter")
        for stage in ("code", "device"):
            visitor.stage(stage)
            visitor.page.wait_for_selector(".button.main:not([disabled])")
            keyboard.press("Enter")
        while (stage := visitor.stage("trial", "break", "practice-over", "debriefing")) != "debriefing":
            if stage == "trial":
                visitor.answer(press)
            else:
                keyboard.press("Space")
                visitor.page.wait_for_function("name => document.body.dataset.stage !== name", arg=stage)
        visitor.close()
    assert [row["response"] for row in answers(folder)] == ["left", "right", "right", "left", "left"]
    assert visitor.problems == []


def test_pictures_have_the_size_of_the_design_or_fit_the_screen(browser, new_study):
    folder, _ = new_study(kind="pairs", trials=1, size=300)
    with served(folder) as address:
        for options, least, most in ((DESKTOP, 300, 300), (PHONE, 150, 190)):
            visitor = Visitor(browser, address, **options)
            visitor.arrive()
            visitor.ready()
            ratio = visitor.page.evaluate("devicePixelRatio")
            for picture in visitor.page.locator("study-picture").all():
                box = picture.bounding_box()
                assert least <= box["width"] <= most
                assert box["height"] == box["width"]
                assert picture.evaluate("one => one.canvas.width") == round(box["width"] * ratio)
            high = visitor.page.evaluate("document.documentElement.scrollHeight - innerHeight")
            assert high <= 0, "a trial needs scrolling"
            visitor.close()


def test_ratings_by_the_keys_1_to_5_and_other_keys_do_nothing(browser, new_study):
    folder, _ = new_study(kind="rating", trials=5)
    keys = iter("51342")

    def press(visitor):
        for key in ("0", "6", "f", "Control+2", next(keys)):
            visitor.page.keyboard.press(key)

    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        visitor.arrive()
        visitor.finish(press)
        visitor.close()
    assert [int(row["response"]) for row in answers(folder)] == [5, 1, 3, 4, 2]


def test_exposures_are_within_one_frame_of_what_was_asked(browser, new_study):
    folder, _ = new_study(kind="timed", trials=6, exposures_ms=[50, 100, 150, 200])
    with served(folder) as address:
        visitor = Visitor(browser, address, hurried=False, **DESKTOP)
        visitor.arrive()
        visitor.finish(lambda one: one.page.keyboard.press("f"))
        visitor.close()
    (person,) = participants(folder)
    frame = 1000 / person["refresh_hz"]
    rows = answers(folder)
    off = [abs(row["exposure_measured_ms"] - row["exposure_ms"]) for row in rows]
    assert sum(one > frame for one in off) <= 1, sorted(off)
    assert [bool(row["exposure_flagged"]) for row in rows] == [one > frame for one in off]


def test_the_picture_is_painted_for_the_time_and_the_mask_covers_it(browser, new_study):
    folder, _ = new_study(kind="timed", trials=2, exposures_ms=[200])
    with served(folder) as address:
        visitor = Visitor(browser, address, hurried=False, **DESKTOP)
        visitor.page.add_init_script(
            """window.states = [];
            new MutationObserver((changes) => changes.forEach(({target}) => target.dataset.state
                && states.push([target.dataset.state, performance.now()]))).observe(
                document, {subtree: true, attributes: true, attributeFilter: ["data-state"]})"""
        )
        visitor.page.reload()
        visitor.arrive()
        visitor.ready()
        seen = visitor.page.evaluate("states")
        visitor.close()
    names = [name for name, _ in seen]
    at = names.index("picture")
    assert names[at - 1 : at + 2] == ["cross", "picture", "mask"]
    assert seen[at + 1][1] - seen[at][1] == pytest.approx(200, abs=60)


def test_no_serious_finding_for_people_with_disabilities(browser, new_study):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []

    def look(page, where):
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            only = {} if theme == "light" else {"runOnly": ["color-contrast"]}  # the rest is the same in both
            for one in axe.run(page, options=only).response["violations"]:
                if one["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:120] for node in one["nodes"]]
                    found.append(f"{where}, {theme}: {one['id']}: {json.dumps(nodes)}")

    still = {"reduced_motion": "reduce"}  # colours would change by and by
    folder, token = new_study(kind="single", trials=2, practice=1, break_every=1, questions=QUESTIONS)
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP, **still)
        for stage in ("briefing", "consent", "code", "questions", "device"):
            visitor.stage(stage)
            look(visitor.page, stage)
            if stage == "consent":
                visitor.main()
                look(visitor.page, "consent, nothing ticked")
                for box in visitor.page.query_selector_all("input[type=checkbox]"):
                    box.check()
            if stage == "questions":
                visitor.page.locator("input[type=radio]").first.check()
            visitor.main()
        visitor.ready()
        look(visitor.page, "trial")
        visitor.page.click(".corner button")
        visitor.page.wait_for_selector("dialog")
        look(visitor.page, "stop")
        visitor.page.click("dialog .main")
        visitor.finish()
        look(visitor.page, "debriefing")
        visitor.page.click("summary")
        visitor.page.wait_for_selector(".gallery [data-state=picture]")
        look(visitor.page, "answers")
        visitor.open("#withdraw")
        visitor.stage("withdrawal")
        look(visitor.page, "withdrawal")
        visitor.open("dashboard")
        visitor.page.wait_for_selector("#token")
        look(visitor.page, "token")
        visitor.page.fill("#token", token)
        visitor.main()
        visitor.page.wait_for_selector(".chart")
        look(visitor.page, "dashboard")
        visitor.close()
    folder, _ = new_study(kind="rating", trials=1)
    with served(folder) as address:
        visitor = Visitor(browser, address, **PHONE, **still)
        visitor.arrive()
        visitor.ready()
        look(visitor.page, "a rating on a phone")
        visitor.close()
    assert found == []


def test_the_page_fills_texts_as_the_server_does(browser, new_study):
    from omokage.study import pages

    folder, _ = new_study(trials=2)
    values = {"a": "x", "b": "", "c": 3}
    texts = ["{a} and {c}", "{a}\n\n{b} gone\n\n{c}", "{none}", "no words", "{a}{b}", "1 {c}\n\n2"]
    with served(folder) as address:
        visitor = Visitor(browser, address, **DESKTOP)
        filled = visitor.page.evaluate(
            """async ([texts, values]) => {
                const {Words} = await import(new URL("static/words.js", document.baseURI));
                return texts.map((text) => new Words({}, values).fill(text));
            }""",
            [texts, values],
        )
        visitor.close()
    assert filled == [pages.fill(text, values) for text in texts]
