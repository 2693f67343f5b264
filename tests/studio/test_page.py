"""What a designer does on the studio's page, in a headless Chromium with the real server."""

import json

import pytest
from browsing import DESKTOP, PHONE, serving
from standins import CONDITIONS
from studio_designer import Designer, plain, styled, violations

from omokage.studio.exports import board_text
from omokage.studio.server import create_app

STYLED, DCGAN, VAE, GLOW, LABELLED = (number * 12 for number in "12345")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    models = [
        styled(1), plain("dcgan", 2), plain("vae", 3), plain("glow", 4), plain("dcgan", 5, CONDITIONS)
    ]  # fmt: skip
    with serving(create_app(models, data=tmp_path_factory.mktemp("boards"))) as address:
        yield address


@pytest.fixture
def designer(browser, address):
    """On an empty board of their own."""
    designer = Designer(browser, address, **DESKTOP)
    name = designer.page.locator(".board-name")
    name.click()
    designer.page.get_by_role("button", name="New board").click()
    designer.page.keyboard.press("Enter")
    designer.pins(0)
    yield designer
    designer.close()


def test_roll_keep_note_undo_and_find_it_all_again(designer):
    page = designer.page
    designer.settle()
    # What the mouse has pressed does not keep the space bar.
    page.locator("h1").click()
    first = designer.seeds()
    assert first == ["Face 0", "Face 1", "Face 2", "Face 3"]
    page.keyboard.press("Space")
    page.wait_for_function(
        "() => document.querySelector('studio-wall .face').getAttribute('aria-label') !== 'Face 0'"
    )
    designer.settle()
    assert not set(designer.seeds()) & set(first)
    page.keyboard.press("Shift+Space")
    page.wait_for_function(
        "() => document.querySelector('studio-wall .face').getAttribute('aria-label') === 'Face 0'"
    )
    designer.settle()
    # More faces with daring are other pictures of the same seeds.
    painted = "document.querySelector('studio-wall .face').style.backgroundImage"
    before = page.evaluate(painted)
    page.get_by_label("Typical to daring").first.fill("1.2")
    page.wait_for_function(f"before => {painted} !== before", arg=before)
    assert designer.seeds() == first
    # Arrows move, Enter keeps, the heart keeps.
    page.locator("studio-wall").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    designer.pins(1)
    designer.said("Faces on the board: 1")
    assert page.evaluate("document.activeElement.dataset.pinned") == ""
    designer.faces().nth(0).hover()
    page.click("studio-wall .heart")
    pins = designer.pins(2)
    # A note and a favourite.
    pins.nth(0).locator(".note").fill("for the café")
    page.keyboard.press("Enter")
    pins.nth(0).hover()
    pins.nth(0).locator(".star").click()
    page.wait_for_selector(".pin .star[aria-pressed=true]")
    page.keyboard.press("Control+z")
    page.wait_for_selector(".pin .star[aria-pressed=true]", state="detached")
    page.keyboard.press("Control+Shift+Z")
    page.wait_for_selector(".pin .star[aria-pressed=true]")
    # Cleared, but the favourite stays; brought back.
    page.get_by_label("More", exact=True).click()
    page.get_by_role("menuitem", name="Clear, keep favourites").click()
    designer.pins(1)
    page.get_by_label("Undo", exact=True).click()
    designer.pins(2)
    name = page.locator(".board-name").inner_text()
    designer.open()
    pins = designer.pins(2)
    assert page.locator(".board-name").inner_text() == name
    assert pins.nth(0).locator(".note").input_value() == "for the café"
    assert pins.nth(0).locator(".star").get_attribute("aria-pressed") == "true"
    # The heart takes a face off the board, and undo brings it back.
    pins.nth(1).locator(".face").hover()
    page.click("studio-board .heart")
    designer.pins(1)
    page.get_by_label("Undo", exact=True).click()
    designer.pins(2)
    # Moved without dragging, taken off by a key.
    pins.nth(1).locator(".face").focus()
    page.keyboard.press("Alt+ArrowLeft")
    page.wait_for_function("() => document.querySelectorAll('.pin .note')[1].value === 'for the café'")
    page.keyboard.press("Delete")
    designer.pins(1)
    # Opening one puts it on the table, and the key M mixes it with another.
    page.locator(".pin .face").click()
    page.wait_for_selector("studio-panel:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector("studio-panel[hidden]", state="attached")


def test_steer_with_sliders_swatches_and_layers(designer):
    page = designer.page
    designer.model(STYLED)
    designer.take(3)
    assert page.locator("studio-wall .face[data-open]").get_attribute("aria-label") == "Face 3"
    base = designer.picture()
    blue = designer.drawn(lambda: page.click("[data-name='hair=blue']"))
    assert page.get_attribute("[data-name='hair=blue']", "aria-pressed") == "true"
    red = designer.drawn(lambda: page.click("[data-name='hair=red']"))
    assert len({base, blue, red}) == 3
    # One colour at a time: the same picture as red alone.
    page.get_by_role("button", name="Reset all").click()
    page.wait_for_function(
        "base => document.querySelector('.large').style.backgroundImage === base", arg=base
    )
    assert designer.drawn(lambda: page.click("[data-name='hair=red']")) == red
    glasses = page.get_by_label("glasses", exact=True)
    both = designer.drawn(lambda: glasses.fill("2"))
    assert both != red
    assert designer.drawn(lambda: glasses.dblclick()) == red
    # Beside the sliders, undo is for them: the board has nothing to take back.
    page.wait_for_timeout(600)
    designer.drawn(lambda: glasses.fill("1"))
    page.wait_for_timeout(600)
    assert designer.drawn(lambda: page.keyboard.press("Control+z")) == red
    # Held, B shows the face before.
    page.locator(".face-name").focus()
    page.keyboard.down("b")
    page.wait_for_selector(".earlier:not([hidden])")
    page.keyboard.up("b")
    page.wait_for_selector(".earlier[hidden]", state="attached")
    # Layers of another face.
    page.locator(".layers .slot").nth(2).click()
    designer.settle()
    taken = designer.drawn(lambda: page.locator("dialog .face").nth(1).click())
    assert taken != red
    assert designer.drawn(lambda: page.click(".layers .small-round:visible")) == red
    page.click(".large-heart")
    designer.pins(1)
    assert page.locator(".face-name").inner_text().endswith("red hair")


def test_the_rest_is_put_back_when_a_slider_rests(designer):
    page = designer.page
    designer.model(STYLED)
    designer.take(2)
    asked = []

    def keeps(request):
        if not request.url.endswith("/api/draw"):
            return False
        (face,) = request.post_data_json["faces"]
        asked.append(face)
        return bool(face.get("keep"))

    page.get_by_label("Keep the rest").check()
    with page.expect_request(keeps):
        for steps in ("0.5", "1", "1.5"):
            page.get_by_label("glasses", exact=True).fill(steps)
    *moving, rests = [face for face in asked if "edits" in face]
    assert moving
    assert all("keep" not in face for face in moving)
    assert rests["edits"] == {"glasses": 1.5}
    assert "hair" in rests["keep"]
    assert "glasses" not in rests["keep"]
    # On the board it is the face that keeps the rest, whenever it is pinned.
    page.get_by_label("glasses", exact=True).fill("1")
    with page.expect_request("**/edits") as request:
        page.click(".large-heart")
    designer.pins(1)
    pinned = request.value.post_data_json["face"]
    assert (pinned["edits"], pinned["keep"]) == ({"glasses": 1}, rests["keep"])


def test_vary_mix_glide_and_grid(designer):
    page = designer.page
    designer.model(STYLED)
    designer.take(0)
    designer.tab("vary")
    designer.settle()
    assert designer.faces("studio-vary").count() == 12
    first = page.evaluate("document.querySelector('studio-vary .face').style.backgroundImage")
    page.get_by_label("How far from the face").fill("0.8")
    page.wait_for_function(
        "first => document.querySelector('studio-vary .face').style.backgroundImage !== first", arg=first
    )
    # A variation of a variation, kept by a key from the table's own list.
    designer.drawn(lambda: designer.faces("studio-vary").nth(2).click())
    designer.settle()
    designer.drawn(lambda: designer.faces("studio-vary").nth(5).click())
    assert page.locator(".face-name").inner_text() == "Variation"
    designer.settle()
    designer.faces("studio-vary").nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    designer.pins(1)
    page.get_by_label("The face before").last.click()
    # Mix: a second face from the dialog, a child on the table.
    designer.tab("mix")
    page.get_by_role("button", name="Mix with …").click()
    designer.settle()
    page.locator("dialog .face").nth(2).click()
    page.wait_for_selector("studio-mix .faces .face[data-drawn]")
    designer.settle()
    names = [one.get_attribute("aria-label") for one in designer.faces("studio-mix .faces").all()]
    assert len(names) == len(set(names)) == 9
    assert "shape of B, features of A, colours of A" in names
    designer.drawn(lambda: designer.faces("studio-mix .faces").nth(0).click())
    assert page.locator(".face-name").inner_text() == "Mix"
    assert designer.faces("studio-mix .faces").count() == 9, "the other children stay to choose from"
    # Glide: arrow keys, and a click without dragging.
    designer.tab("glide")
    designer.settle()
    pad = page.get_by_role("slider", name="Between four faces")
    assert pad.get_attribute("aria-valuetext").startswith("corner 1 100 %, corner 2 0 %")
    designer.drawn(lambda: pad.press("ArrowRight"))
    assert pad.get_attribute("aria-valuetext").startswith("corner 1 95 %, corner 2 5 %")
    designer.drawn(lambda: pad.click())
    assert pad.get_attribute("aria-valuetext").count("25 %") == 4
    assert page.locator(".face-name").inner_text() == "Between"
    # Grid: hair against psi.
    designer.tab("grid")
    page.get_by_label("Down").select_option("psi")
    page.get_by_label("Across").select_option("hair=red")
    page.wait_for_selector("studio-grid [aria-label='typical – daring 0.6, red hair +1.5'][data-drawn]")
    assert page.locator("studio-grid .face").count() == 25
    designer.drawn(lambda: page.click("studio-grid [aria-label='typical – daring 0.6, red hair +1.5']"))
    assert page.locator(".face-name").inner_text().endswith("red hair")


def test_faces_dropped_on_each_other_and_on_the_board(designer):
    page = designer.page
    designer.model(STYLED)
    designer.faces().nth(0).drag_to(page.locator("studio-board .empty"))
    designer.pins(1)
    designer.faces().nth(1).drag_to(designer.faces().nth(2), target_position={"x": 30, "y": 30})
    page.wait_for_selector("studio-mix .faces .face[data-drawn]")
    designer.settle()
    a, b = (page.locator("studio-mix .slot").nth(at).get_attribute("aria-label") for at in (0, 1))
    assert a.startswith("A: Face 2")
    assert b.startswith("B: Face 1")
    # The family tree knows parents.
    designer.drawn(lambda: designer.faces("studio-mix .faces").nth(0).click())
    page.click(".large-heart")
    designer.pins(2)
    page.get_by_label("Family tree").click()
    page.locator("dialog .face").nth(3).wait_for()
    designer.settle()
    labels = [one.get_attribute("aria-label") for one in page.locator("dialog .face").all()]
    assert "Mix, made of Face 2, Face 1, on the board" in labels
    assert len(labels) == 4
    page.keyboard.press("Escape")


LACKS = {
    "dcgan": (DCGAN, ["no directions", "no layers"]),
    "vae": (VAE, ["no directions", "no layers"]),
    "glow": (GLOW, ["no directions", "no layers"]),
    "styled": (STYLED, []),
}


@pytest.mark.parametrize("name", LACKS)
def test_controls_that_a_model_lacks_are_absent_with_a_line_why(designer, name):
    page = designer.page
    id, why = LACKS[name]
    designer.model(id)
    designer.take(1)
    lines = page.locator("studio-steer .lacks").all_inner_texts()
    assert len(lines) == len(why)
    assert all(words in line for words, line in zip(why, lines, strict=True))
    assert page.locator(".swatch-button").count() == (0 if why else 2)
    assert page.locator(".layers").count() == (0 if why else 1)
    # Every model has this one, and it works.
    sliders = page.locator("studio-steer input[type=range]")
    designer.drawn(lambda: sliders.first.fill("0.3"))
    assert sliders.count() == (1 if why else 3)
    page.keyboard.press("Escape")


def test_a_model_with_labels_draws_what_is_fixed_and_steers_by_it(designer):
    page = designer.page
    designer.model(LABELLED)
    first = "document.querySelector('studio-wall .face').style.backgroundImage"
    before = page.evaluate(first)
    page.click("[data-chip=hair]")
    assert page.get_by_role("radio").all_inner_texts() == ["random", "blue", "red"]
    page.get_by_role("radio", name="red").click()
    page.wait_for_function(f"before => {first} !== before", arg=before)
    page.get_by_text("Drawn as asked: hair: red.").wait_for()
    designer.settle()
    designer.take(0)
    assert designer.drawn(lambda: page.locator("studio-steer select").first.select_option("blue"))
    page.click("[data-chip=hair]")
    page.get_by_role("radio", name="random").click()


def test_the_wall_forgets_faces_far_away_and_draws_them_again(designer):
    page = designer.page
    designer.model(DCGAN)
    most = 0
    for _ in range(40):
        page.evaluate("document.querySelector('studio-wall').scrollTop += 4000")
        page.wait_for_timeout(30)
        designer.settle()
        most = max(most, page.evaluate("document.querySelectorAll('*').length"))
    told = page.evaluate(
        """() => { const wall = document.querySelector("studio-wall");
        return [wall.starts.length, wall.pages.size]; }"""
    )
    assert told[0] > 100
    assert told[1] <= 30
    assert most < 600
    page.evaluate("document.querySelector('studio-wall').scrollTop = 0")
    page.wait_for_selector("studio-wall .face[aria-label='Face 0'][data-drawn]")
    designer.settle()
    assert designer.seeds() == ["Face 0", "Face 1", "Face 2", "Face 3"]


NODES = "document.querySelectorAll('*').length"
PLACE = """(() => { const item = document.activeElement.closest("li");
    return item && ["posinset", "setsize"].map((name) => Number(item.getAttribute(`aria-${name}`))); })()"""


def bring_board(page, path):
    """Open a board file by the menu."""
    page.get_by_label("More", exact=True).click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("menuitem", name="Open a board file").click()
    chooser.value.set_files(path)


def test_a_board_of_500_faces_is_in_the_document_only_where_it_is_seen(designer, tmp_path):
    page = designer.page
    designer.model(DCGAN)
    pins = [
        {"face": {"model": DCGAN, "from": {"seed": seed}}, "note": f"no {seed + 1}"} for seed in range(500)
    ]
    for at in range(250, 500):
        pins[at]["parents"] = [at - 250]
    (tmp_path / "many.omokage-board").write_bytes(board_text("Many", pins, {}))
    bring_board(page, tmp_path / "many.omokage-board")
    shown = designer.pins(500)
    most = 0
    for _ in range(25):
        page.evaluate("document.querySelector('.pins-scroll').scrollTop += 1400")
        page.wait_for_timeout(30)
        page.wait_for_selector("studio-board .face:not([data-drawn])", state="detached")
        most = max(most, page.evaluate(NODES))
    assert page.locator("[aria-label='no 500']").is_visible()
    assert 0 < shown.count() < 40
    # Tab leads to what is in sight, keys to the others, and a screen reader hears where it is.
    shown.last.locator(".face").focus()
    page.keyboard.press("Home")
    assert page.evaluate(PLACE) == [1, 500]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(PLACE) == [4, 500]
    page.keyboard.press("End")
    assert page.evaluate(PLACE) == [500, 500]
    assert page.evaluate("document.querySelectorAll('studio-board .face[tabindex=\"0\"]').length") == 1
    assert violations(page, within="studio-board") == []
    # The one that is taken off leaves its place to its neighbour; undo brings it back.
    page.keyboard.press("Delete")
    designer.pins(499)
    assert page.evaluate(PLACE) == [499, 499]
    page.get_by_label("Undo", exact=True).click()
    designer.pins(500)
    # A note that is being written stays while others are looked at, and is kept.
    page.locator(".pin", has=page.locator("[aria-label='no 500']")).locator(".note").fill("the last one")
    page.evaluate("document.querySelector('.pins-scroll').scrollTop = 0")
    page.wait_for_selector("[aria-label='no 1']")
    page.keyboard.press("Enter")
    page.evaluate("document.querySelector('.pins-scroll').scrollTop = 1e6")
    page.wait_for_selector("[aria-label='the last one']")
    # Moved by keys, it keeps the focus.
    page.locator("[aria-label='the last one']").focus()
    page.keyboard.press("Alt+ArrowLeft")
    page.wait_for_function(f"() => String({PLACE}) === '499,500'")
    # A second face is chosen among all of them.
    page.keyboard.press("m")
    designer.settle()
    most = max(most, page.evaluate(NODES))
    page.locator("dialog .pin .face").first.focus()
    page.keyboard.press("End")
    assert page.evaluate(PLACE) == [500, 500]
    designer.settle()
    most = max(most, page.evaluate(NODES))
    assert violations(page, within="dialog") == []
    page.keyboard.press("Escape")
    # The family tree has all of them too.
    page.get_by_label("Family tree").click()
    designer.settle()
    page.locator("dialog .face").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(PLACE) == [251, 500]
    assert (
        page.evaluate("document.activeElement.getAttribute('aria-label')")
        == "no 251, made of no 1, on the board"
    )
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(PLACE)[0] <= 250
    designer.settle()
    most = max(most, page.evaluate(NODES))
    assert violations(page, within="dialog") == []
    page.keyboard.press("Escape")
    assert most < 600


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, address, theme):
    # The dark page has the same elements in other colours.
    only = ["color-contrast"] if theme == "dark" else None
    designer = Designer(browser, address, color_scheme=theme, **DESKTOP)
    page = designer.page
    designer.model(STYLED)
    assert violations(page, only) == []
    page.click(".chip >> nth=0")
    assert violations(page, only) == []
    page.keyboard.press("Escape")
    designer.take(2)
    for tab in ("steer", "vary", "mix", "glide", "grid", "export", "info"):
        designer.tab(tab)
        designer.settle()
        assert violations(page, only, "studio-panel") == [], tab
    page.click(".drawing")
    assert violations(page, only, "studio-panel") == []
    page.keyboard.press("?")
    assert violations(page, only, "dialog") == []
    page.keyboard.press("Escape")
    designer.close()


def test_on_a_phone_in_japanese_everything_fits(browser, address):
    designer = Designer(browser, address, **{**PHONE, "locale": "ja-JP"})
    page = designer.page
    assert page.evaluate("document.documentElement.lang") == "ja"
    designer.model(STYLED)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    designer.faces().nth(0).tap()
    for tab in ("steer", "vary", "mix", "glide", "grid", "export", "info"):
        page.tap(f"#tab-{tab}")
        designer.settle()
        assert page.evaluate(wide) <= 0, tab
        inner = page.locator(".tab-body").evaluate("body => body.scrollWidth - body.clientWidth")
        assert inner <= 0, tab
    page.tap(".large-heart")
    page.tap(".panel-head .close")
    page.tap(".foot-button[data-view=board]")
    page.wait_for_selector("studio-board .pin .face[data-drawn]")
    # The other language, without losing the board.
    page.tap("studio-bar [lang=en]")
    page.wait_for_function("() => document.documentElement.lang === 'en'")
    page.wait_for_selector("studio-board .pin .face[data-drawn]")
    assert page.get_by_role("button", name="Board", exact=False).count() > 0
    designer.close()


def test_the_keys_are_listed_and_letters_can_be_switched_off(designer):
    page = designer.page
    designer.model(DCGAN)
    page.keyboard.press("?")
    page.get_by_label("Single letters are keys").uncheck()
    page.get_by_role("button", name="Close").click()
    designer.faces().nth(0).focus()
    page.keyboard.press("o")
    assert page.locator("studio-panel").is_hidden()
    page.keyboard.press("?")
    page.get_by_label("Single letters are keys").check()
    page.keyboard.press("Escape")
    designer.faces().nth(0).focus()
    page.keyboard.press("o")
    page.wait_for_selector("studio-panel:not([hidden])")
    assert json.loads(page.evaluate("localStorage.getItem('omokage-studio:letters')")) is True
