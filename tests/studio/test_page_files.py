"""Drawings that are brought to the studio's page, files that it saves, and a server that is killed."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import pytest
from browsing import DESKTOP, serving
from PIL import Image
from studio_designer import Designer, styled, violations

from omokage.explore import inversion
from omokage.studio import uploads
from omokage.studio.controls import open_model
from omokage.studio.server import create_app


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        quick = inversion.Effort(steps=8, samples=16)
        patch.setattr(uploads, "inverted", functools.partial(inversion.inverted, effort=quick))
        app = create_app([open_model("shipped"), styled(1)], data=tmp_path_factory.mktemp("boards"))
        with serving(app) as address:
            yield address


@pytest.fixture(scope="module")
def designer(browser, address):
    """One window for all tests of this file, in order."""
    designer = Designer(browser, address, **DESKTOP)
    yield designer
    designer.close()


@pytest.fixture(scope="module")
def files(designer):
    """A face of the wall, saved in every way that there is; two faces are on the board."""
    page = designer.page
    for at in (3, 9):
        designer.faces().nth(at).focus()
        page.keyboard.press("Enter")
    designer.pins(2).nth(1).locator(".note").fill("heroine")
    page.keyboard.press("Enter")
    designer.take(9)
    designer.tab("export")
    page.get_by_label("Name", exact=True).fill("綾波 Akari")
    page.get_by_label("Notes").fill("likes rain / 雨が好き")
    page.get_by_label("seconds").fill("1")
    buttons = {
        "png": "Save PNG",
        "sheet": "Save the character sheet as PNG",
        "pdf": "Save the character sheet as PDF",
        "film": "Save film",
        "contact": "Contact sheet",
        "folder": "Folder",
        "board": "Board file",
    }
    return {
        kind: designer.saved(page.locator("studio-export").get_by_role("button", name=name, exact=True).click)
        for kind, name in buttons.items()
    }


def test_every_kind_of_export_saves_a_file_that_opens(files):
    with Image.open(files["png"]) as picture:
        assert picture.size == (256, 256)
        assert "generated" in " ".join(picture.text.values())
    with Image.open(files["sheet"]) as picture:
        assert min(picture.size) > 500
    assert files["pdf"].read_bytes().startswith(b"%PDF")
    with Image.open(files["contact"]) as picture:
        assert picture.width > 64
    assert files["film"].read_bytes()[4:8] == b"ftyp"
    with zipfile.ZipFile(files["folder"]) as folder:
        assert len([name for name in folder.namelist() if name.endswith(".png")]) >= 2
    notes = json.dumps(json.loads(files["board"].read_text("utf-8")), ensure_ascii=False)
    assert files["board"].suffix == ".omokage-board"
    assert "heroine" in notes


def test_a_board_file_opens_as_a_board(designer, files):
    page = designer.page
    page.get_by_label("More", exact=True).click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("menuitem", name="Open a board file").click()
    chooser.value.set_files(files["board"])
    designer.said("is open")
    pins = designer.pins(2)
    assert pins.nth(1).locator(".note").input_value() == "heroine"
    page.wait_for_function("() => document.querySelectorAll('.pin .face[data-drawn]').length === 2")


def drop(page, path):
    """Let go of a file over the page, as from a folder's window."""
    page.evaluate(
        """async ([name, bytes]) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], name));
            const how = { dataTransfer: carried, bubbles: true, cancelable: true };
            document.dispatchEvent(new DragEvent("drop", how));
        }""",
        [path.name, list(path.read_bytes())],
    )


def test_a_picture_of_ours_comes_back_beside_the_settings(designer, files):
    page = designer.page
    page.get_by_label("Typical to daring").first.fill("1.1")
    drop(page, files["png"])
    page.get_by_role("heading", name="Omokage made this picture").wait_for()
    designer.settle()
    assert violations(page, within="studio-panel") == []
    assert page.locator(".facts").get_by_text("0.8", exact=True).count() == 1
    page.get_by_role("button", name="Open the face").click()
    page.get_by_role("heading", name="Face 9").wait_for()
    assert page.get_by_label("Typical to daring").first.input_value() == "1.1"
    page.keyboard.press("Escape")


def test_a_drawing_is_found_imitated_and_steered(designer, files, tmp_path):
    page = designer.page
    canvas = Image.new("RGB", (500, 400), "white")
    with Image.open(files["png"]) as face:
        canvas.paste(face.convert("RGB"), (40, 60))
    canvas.save(tmp_path / "drawing.jpg", quality=95)
    with page.expect_file_chooser() as chooser:
        page.click(".drawing")
        page.click(".drop")
    chooser.value.set_files(tmp_path / "drawing.jpg")
    page.locator(".uploaded-frame").wait_for()
    assert page.locator("studio-drawing h3").inner_text() == "Is this the face?"
    box = page.locator(".uploaded-frame .box").first.bounding_box()
    frame = page.locator(".uploaded-frame").bounding_box()
    assert 0.1 < (box["x"] - frame["x"]) / frame["width"] < 0.4
    assert violations(page, within="studio-panel") == []
    page.evaluate(
        """() => { const seen = (window.seen = new Set());
        new MutationObserver(() => { const step = document.querySelector("img.beside");
            if (step?.src) seen.add(step.src); }).observe(document, { subtree: true, attributes: true }); }"""
    )
    page.get_by_role("button", name="Imitate it").click()
    page.get_by_role("button", name="Steer it").wait_for(timeout=60_000)
    assert page.evaluate("seen.size") >= 2, "its steps are seen"
    assert re.search(r"(Near|Similar|Far):", page.locator(".fit").inner_text())
    page.get_by_role("button", name="Steer it").click()
    page.get_by_role("heading", name="Own face").wait_for()
    page.click(".large-heart")
    designer.pins(3)
    designer.tab("vary")
    designer.settle()
    assert designer.faces("studio-vary").count() == 12
    page.keyboard.press("Escape")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("page.png", b"<!doctype html><p>no picture</p>"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    ],
)
def test_what_is_no_picture_gets_a_friendly_sentence(designer, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    drop(designer.page, tmp_path / name)
    trouble = designer.page.locator(".trouble")
    trouble.wait_for()
    assert re.search(r"picture|empty", trouble.inner_text())
    assert designer.page.locator(".drop").is_visible(), "another can be chosen"
    designer.page.keyboard.press("Escape")


def test_what_is_fixed_is_asked_for_until_it_is_random_again(designer):
    page = designer.page

    def asked(value):
        page.click("[data-chip=glasses]")
        with page.expect_request("**/api/wall") as request:
            page.get_by_role("radio", name=value, exact=True).click()
        page.wait_for_selector("[data-chip=glasses]:not([aria-expanded=true])")
        return request.value.post_data_json["fixed"], page.locator("[data-chip=glasses]").inner_text()

    assert asked("no") == ({"glasses": "no"}, "glasses: no")
    assert asked("random") == ({}, "glasses: random")
    designer.settle()


def start(folder, port):
    """The real program; returns its process and its address."""
    words = [sys.executable, "-m", "omokage", "studio", str(folder / "model.safetensors"), "--no-browser"]
    process = subprocess.Popen(
        [*words, "--port", str(port), "--data-folder", str(folder / "boards")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    address = re.search(r"http\S+", process.stdout.readline())[0]
    return process, address


def test_after_a_killed_server_the_board_is_as_it_was(browser, tmp_path):
    from standins import small_model

    from omokage.model import write_small

    write_small(small_model("dcgan"), tmp_path / "model.safetensors")
    process, address = start(tmp_path, 0)
    port = int(re.search(r":(\d+)/", address)[1])
    try:
        designer = Designer(browser, address, **DESKTOP)
        page = designer.page
        for at in (1, 4):
            designer.faces().nth(at).focus()
            page.keyboard.press("Enter")
            designer.pins(1 if at == 1 else 2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # What is done meanwhile is told, and done when the server is back.
        designer.faces().nth(6).focus()
        page.keyboard.press("Enter")
        designer.said("The studio does not answer")
        process, _ = start(tmp_path, port)
        designer.pins(3, timeout=90_000)
        designer.open()
        labels = [pin.get_attribute("aria-label") for pin in page.locator(".pin .face").all()]
        assert labels == ["Face 1", "Face 4", "Face 6"]
        page.keyboard.press("Control+z")
        designer.pins(2)
        designer.problems = [one for one in designer.problems if "ERR_" not in one]
        designer.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
