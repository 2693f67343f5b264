"""From a click to a saved file: faces made in every way, all sizes, no background, and behind a token."""

import json

import numpy as np
import pytest
import safetensors
from browsing import DESKTOP, serving
from PIL import Image
from studio_designer import Designer, styled, violations

from omokage.cutout import cut_out
from omokage.sampling import gathered, sample
from omokage.settings import Settings
from omokage.studio import uploads
from omokage.studio.controls import open_model
from omokage.studio.server import create_app

STYLED = "1" * 12


@pytest.fixture(scope="module")
def offered():
    return [open_model("shipped"), styled(1)]


@pytest.fixture(scope="module")
def address(offered, tmp_path_factory):
    with serving(create_app(offered, data=tmp_path_factory.mktemp("boards"))) as address:
        yield address


@pytest.fixture
def designer(browser, address):
    designer = Designer(browser, address, **DESKTOP)
    yield designer
    designer.close()


def save(designer, *, scale=1, transparent=False):
    """The face on the table as a file."""
    page = designer.page
    designer.tab("export")
    page.locator("studio-export .segments label", has_text=f"{scale}×").click()
    page.get_by_label("transparent background").set_checked(transparent)
    return designer.saved(page.get_by_role("button", name="Save PNG").click)


def made(path):
    """How the face in a file was made: its document."""
    data = path.read_bytes()
    assert b"generated" in data
    recipe = uploads.recipe_in(data)
    (document,) = recipe.arguments["studio"]
    return document


def steered(page, designer):
    designer.drawn(lambda: page.get_by_label("glasses", exact=True).fill("1.5"))
    designer.drawn(lambda: page.click("[data-name='hair=red']"))


def layered(page, designer):
    page.locator(".layers .slot").nth(2).click()
    designer.settle()
    designer.drawn(lambda: page.locator("dialog .face").nth(1).click())


def varied(page, designer):
    designer.tab("vary")
    designer.settle()
    designer.drawn(lambda: designer.faces("studio-vary").nth(2).click())


def mixed(page, designer):
    designer.tab("mix")
    page.get_by_role("button", name="Mix with …").click()
    designer.settle()
    page.locator("dialog .face").nth(2).click()
    page.wait_for_selector("studio-mix .faces .face[data-drawn]")
    designer.settle()
    designer.drawn(lambda: designer.faces("studio-mix .faces").nth(0).click())


def glided(page, designer):
    designer.tab("glide")
    designer.settle()
    designer.drawn(lambda: page.get_by_role("slider", name="Between four faces").press("ArrowRight"))


def from_the_grid(page, designer):
    designer.tab("grid")
    page.get_by_label("Down").select_option("psi")
    page.get_by_label("Across").select_option("hair=red")
    cell = "studio-grid [aria-label='typical – daring 0.6, red hair +1.5']"
    page.wait_for_selector(f"{cell}[data-drawn]")
    designer.drawn(lambda: page.click(cell))


@pytest.mark.parametrize(
    ("way", "source", "edits"),
    [
        (lambda page, designer: None, {"seed"}, {}),
        (steered, {"seed"}, {"glasses": 1.5, "hair=red": 2}),
        (layered, {"mix", "layers"}, {}),
        (varied, {"near", "seed", "distance"}, {}),
        (mixed, {"mix", "layers"}, {}),
        (glided, {"between", "weights"}, {}),
        (from_the_grid, {"seed"}, {"hair=red": 1.5}),
    ],
    ids=["rolled", "steered", "layered", "varied", "mixed", "glided", "grid"],
)
def test_a_face_made_in_any_way_is_saved_with_how_it_was_made(designer, way, source, edits):
    page = designer.page
    designer.model(STYLED)
    designer.take(3)
    way(page, designer)
    document = made(save(designer))
    assert set(document["from"]) == source
    assert set(document.get("edits", {})) == set(edits)


def test_the_command_and_its_file_are_saved(designer):
    page = designer.page
    designer.model(STYLED)
    designer.take(1)
    varied(page, designer)
    designer.tab("info")
    command = page.locator("studio-info .command").inner_text()
    assert command.startswith("omokage ")
    path = designer.saved(page.locator("studio-info a[download]").click)
    assert path.name in command
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()


def test_chosen_faces_become_a_film(designer):
    page = designer.page
    designer.model(STYLED)
    for number, at in enumerate((0, 2, 5), 1):
        designer.faces().nth(at).focus()
        page.keyboard.press("Enter")
        designer.pins(number)
    page.get_by_label("Choose several").click()
    for at in (0, 2):
        page.locator(".pin .face").nth(at).click()
    page.get_by_text("Chosen: 2").wait_for()
    with page.expect_request("**/api/jobs") as request:
        page.locator(".chosen").get_by_role("button", name="Film").click()
        page.get_by_label("seconds").fill("1")
        path = designer.saved(page.get_by_role("button", name="Save film").click)
    assert [face["from"]["seed"] for face in request.value.post_data_json["faces"]] == [0, 5]
    assert path.read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_picture_has_the_size_that_was_chosen(designer, offered, scale):
    designer.model(offered[0].id)
    designer.all_seeds()
    designer.take(5)
    path = save(designer, scale=scale)
    with Image.open(path) as picture:
        assert picture.size == (64 * scale, 64 * scale)
        assert picture.mode == "RGB"
    assert made(path)["from"] == {"seed": 5}


@pytest.mark.parametrize("clean", [True, False])
def test_a_picture_without_background_says_where_it_is_not_clean(designer, offered, clean):
    page = designer.page
    designer.model(offered[0].id)
    designer.all_seeds()
    faces, _ = gathered(sample(offered[0].model, range(24), Settings(psi=0.8)))
    at = next(seed for seed, pixels in enumerate(faces) if cut_out(pixels).clean is clean)
    designer.take(at)
    path = save(designer, transparent=True)
    with Image.open(path) as picture:
        assert picture.mode == "RGBA"
        alpha = np.asarray(picture)[..., 3]
        assert alpha.min() < 64
        assert alpha.max() > 192
        assert 0.2 < (alpha > 127).mean() < 0.99
    designer.said("Saved")
    unclean = "not cut out cleanly; look at the edges"
    assert (unclean in page.locator("studio-say").inner_text()) is not clean


def test_beyond_this_machine_the_page_asks_for_its_token(browser, offered, tmp_path):
    app = create_app(offered[1:], data=tmp_path, token="s3cret-token")
    with serving(app) as address:
        context = browser.new_context(**DESKTOP, locale="en-GB", accept_downloads=True)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.goto(address)
        page.get_by_role("alert").get_by_text("asks for its token").wait_for()
        assert violations(page) == []
        assert page.locator("studio-wall").count() == 0
        field = page.get_by_label("Token")
        field.fill("guessed")
        page.keyboard.press("Enter")
        page.wait_for_selector("input[aria-invalid=true]")
        field.fill("s3cret-token")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("studio-wall .face[data-drawn]")
        # From then on the cookie opens it, and scripts of the page cannot read it.
        page.reload()
        page.wait_for_selector("studio-wall .face[data-drawn]")
        assert page.evaluate("document.cookie") == ""
        context.close()

        # The printed address opens it at once, keeps the token out of the address bar, and files are saved.
        designer = Designer(browser, f"{address}#token=s3cret-token", **DESKTOP)
        assert designer.page.evaluate("location.href") == address
        designer.take(1)
        assert made(save(designer))["from"] == {"seed": 1}
        designer.problems = [one for one in designer.problems if not one.startswith("another host")]
        designer.close()


def test_what_looks_broken_is_shown_where_that_is_wanted(designer, offered):
    page = designer.page
    designer.model(offered[0].id)
    for checked, told in ((True, "show"), (False, "replace")):
        with page.expect_request("**/api/wall") as request:
            page.get_by_label("show broken ones").set_checked(checked)
        assert json.loads(request.value.post_data)["broken"] == told
        designer.settle()
