"""The pictures of docs/studio.md: the studio's page with generated faces, in a headless Chromium.

    python bench/studio_pictures.py [RUN]     # default: the model that ships; writes docs/images/studio*.png

Needs Chromium and playwright, as the tests of pages do.
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
KEPT = (2, 5, 9, 12, 15, 19)  # faces of the wall that are put on the board
OPENED, PARTNER = 3, 4


def settled(page: Any) -> None:
    """Wait until everything in sight is drawn."""
    page.wait_for_timeout(300)
    page.wait_for_function(
        """() => document.querySelector("studio-wall").getAttribute("aria-busy") !== "true"
        && !document.querySelector("studio-panel [aria-busy=true]")
        && !document.querySelector(":is(dialog, .faces, .pins) .face:not([data-drawn])")""",
        timeout=60_000,
    )
    page.wait_for_timeout(300)


def opened(browser: Any, address: str, **how: Any) -> Any:
    """The page in a window of its own."""
    page = browser.new_context(locale="en-GB", **how).new_page()
    page.goto(address)
    page.wait_for_selector("studio-wall .face[data-drawn]", timeout=60_000)
    page.wait_for_selector("studio-board .board-name", state="attached")
    page.wait_for_timeout(1500)  # broken faces are replaced after the first look
    settled(page)
    return page


def saved(page: Any, name: str) -> None:
    """A screenshot with few colours enough for a small file, and the path on the terminal."""
    from PIL import Image

    page.mouse.move(2, 2)
    page.wait_for_timeout(4500)  # until the line at the foot is gone
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.FLOYDSTEINBERG).save(
            IMAGES / name, optimize=True
        )
    print(IMAGES / name)


def overview(browser: Any, address: str) -> None:
    """The wall, a board, and a face that is steered."""
    page = opened(browser, address, viewport={"width": 1280, "height": 800})
    for at in KEPT:
        page.locator("studio-wall .face").nth(at).focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
    notes = page.locator(".pin .note")
    notes.nth(0).fill("heroine")
    notes.nth(1).fill("her rival")
    page.keyboard.press("Enter")
    page.locator(".pin").nth(0).hover()
    page.locator(".pin .star").nth(0).click()
    page.locator("studio-wall .face").nth(OPENED).click(position={"x": 20, "y": 20})
    settled(page)
    if page.locator("[data-name='hair=blue']").count():
        page.click("[data-name='hair=blue']")
    else:
        page.click("#tab-vary")
    settled(page)
    saved(page, "studio.png")


def mixing(browser: Any, address: str) -> None:
    """Two faces and their children, in the dark."""
    page = opened(browser, address, viewport={"width": 1280, "height": 800}, color_scheme="dark")
    tiles = page.locator("studio-wall .face")
    tiles.nth(PARTNER).drag_to(tiles.nth(OPENED), target_position={"x": 20, "y": 20})
    page.wait_for_selector("studio-mix .faces .face[data-drawn]", timeout=30_000)
    settled(page)
    page.locator(".tab-body").evaluate("body => body.scrollTop = 1000")
    saved(page, "studio-mix.png")


def telephone(browser: Any, address: str) -> None:
    """The wall and the table side by side, as a telephone shows them."""
    from PIL import Image

    page = opened(
        browser, address, viewport={"width": 380, "height": 740}, device_scale_factor=2, is_mobile=True,
        has_touch=True,
    )  # fmt: skip
    shots = [page.screenshot()]
    for tab in ("vary", "glide"):
        page.locator("studio-wall .face").nth(OPENED).tap()
        page.tap(f"#tab-{tab}")
        settled(page)
        shots.append(page.screenshot())
        page.tap(".panel-head .close")
    pictures = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots]
    width = sum(one.width for one in pictures) + 40 * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, pictures[0].height), "white")
    for at, one in enumerate(pictures):
        sheet.paste(one, (at * (one.width + 40), 0))
    sheet = sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)
    sheet.quantize(256, kmeans=3, dither=Image.Dither.FLOYDSTEINBERG).save(
        IMAGES / "studio-phone.png", optimize=True
    )
    print(IMAGES / "studio-phone.png")


PICTURES = {"overview": overview, "mixing": mixing, "telephone": telephone}


def main() -> None:
    """Serve the model, look at it, keep the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="shipped", help="a run, a snapshot, or a model that ships")
    parser.add_argument("--only", choices=PICTURES, help="one picture; default: all")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from browsing import NAMES, serving
    from playwright.sync_api import sync_playwright

    from omokage.studio.controls import open_model
    from omokage.studio.server import create_app

    program = next(filter(None, map(shutil.which, NAMES)))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(create_app([open_model(asked.run)], data=Path(folder))) as address,
        sync_playwright() as started,
    ):
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, picture in PICTURES.items():
            if asked.only in (None, name):
                picture(browser, address)
        browser.close()


if __name__ == "__main__":
    main()
