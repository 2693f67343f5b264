"""A designer before the studio's page in a headless Chromium, who notes what should not happen."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

# What a browser says of an answer that the test wanted: refusals are told on the page.
REFUSED = "Failed to load resource: the server responded with a status of 4"


def styled(number: int = 1) -> Any:
    """A tiny model with styles that has learnt nothing, and directions that lead anywhere."""
    import torch
    from standins import small_model

    from omokage.explore.directions import Direction, Directions
    from omokage.studio.controls import Offered

    model = replace(small_model("stylegan2"), snapshot_hash=str(number) * 64)
    width = model.mapping(torch.zeros(1, *model.latent_shape)).shape[-1]
    steps = torch.eye(width) * 0.8
    rows = (
        Direction("hair=blue", steps[0], "hair", "blue", (1, 2)),
        Direction("hair=red", steps[1], "hair", "red", (1, 2)),
        Direction("glasses", steps[2], "glasses", "yes"),
        Direction("sefa 1", steps[3]),
    )
    names, snapshot = tuple(row.name for row in rows[:3]), str(number) * 64
    none = torch.zeros(width)
    directions = Directions("w", rows, steps[:3], names, {}, none, snapshot, "0" * 64, 10)
    return Offered(model, "runs/styled", directions)


def plain(family: str, number: int, conditions: dict[str, list[str]] | None = None) -> Any:
    """A tiny model without styles."""
    from standins import small_model

    from omokage.studio.controls import Offered

    model = replace(small_model(family, conditions), snapshot_hash=str(number) * 64)
    return Offered(model, f"runs/{family}", None, "This model has no directions yet.")


class Designer:
    """The page in a window of its own.

    Attributes:
        page: Playwright's page.
        problems: errors on the console, requests to other hosts, pages that are wider than the screen.
    """

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"locale": "en-GB", "accept_downloads": True, **options})
        self.context.set_default_timeout(15_000)
        self.address = address
        self.problems: list[str] = []
        self.page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.open()

    def open(self) -> None:
        """Open the page, or load it again, and wait for the first faces."""
        self.page.goto(self.address)
        self.page.wait_for_selector("omokage-studio[data-ready]")
        self.page.wait_for_selector("studio-wall .face[data-drawn]")
        self.page.wait_for_selector("studio-board .board-name", state="attached")

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
            self.problems.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"another host: {request.url}")

    def model(self, id: str) -> None:
        """Choose a model, and wait for its faces."""
        if self.page.locator(".model select").input_value() != id:
            with self.page.expect_response("**/api/wall"):
                self.page.locator(".model select").select_option(id)
            self.page.wait_for_timeout(100)  # until the page has taken the answer in
        self.settle()

    def all_seeds(self) -> None:
        """Show what looks broken too, so that the wall has every seed, in order."""
        with self.page.expect_response("**/api/wall"):
            self.page.get_by_label("show broken ones").set_checked(True)
        self.page.wait_for_timeout(100)  # until the page has taken the answer in
        self.settle()

    def settle(self) -> None:
        """Wait until all faces in sight are drawn."""
        self.page.wait_for_function(
            """() => document.querySelector("studio-wall").getAttribute("aria-busy") !== "true"
            && document.querySelector("studio-wall .face[data-drawn]")
            && !document.querySelector("studio-panel [aria-busy=true]")
            && !document.querySelector(":is(dialog, .faces) .face:not([data-drawn])")""",
        )

    def faces(self, where: str = "studio-wall") -> Any:
        """The tiles there."""
        return self.page.locator(f"{where} .face:visible")

    def seeds(self, count: int = 4) -> list[str]:
        """The names of the first faces on the wall."""
        return [self.faces().nth(at).get_attribute("aria-label") for at in range(count)]

    def take(self, at: int = 0) -> None:
        """Put a face of the wall on the table."""
        self.drawn(lambda: self.faces().nth(at).click(position={"x": 20, "y": 20}))

    def tab(self, name: str) -> None:
        self.page.click(f"#tab-{name}")
        self.page.wait_for_selector(f"studio-{name}")

    def picture(self) -> str:
        """What is painted on the table: the address of a picture that is named by its content."""
        return str(self.page.evaluate("document.querySelector('.large').style.backgroundImage"))

    def drawn(self, act: Callable[[], Any]) -> str:
        """Do something after which the table shows another picture; returns the picture."""
        before = self.picture()
        act()
        self.page.wait_for_function(
            "before => document.querySelector('.large').style.backgroundImage !== before", arg=before
        )
        return self.picture()

    def pins(self, count: int, timeout: float = 15_000) -> Any:
        """Wait until the board has so many faces; returns those in sight."""
        self.page.wait_for_function(
            "count => document.querySelector('.board-head .count [aria-hidden]').textContent === count",
            arg=str(count),
            timeout=timeout,
        )
        return self.page.locator("studio-board .pin")

    def saved(self, act: Callable[[], Any]) -> Any:
        """Do something that saves a file; returns its path."""
        with self.page.expect_download(timeout=60_000) as download:
            act()
        return download.value.path().rename(
            download.value.path().with_name(download.value.suggested_filename)
        )

    def said(self, text: str) -> None:
        """Wait until the page has said this."""
        self.page.wait_for_function(
            "text => document.querySelector('studio-say').textContent.includes(text)",
            arg=text,
        )

    def close(self) -> None:
        """Nothing may have gone wrong."""
        wide = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        self.context.close()
        assert self.problems == []
        assert wide <= 0, "the page is wider than the screen"


def violations(page: Any, only: list[str] | None = None, within: str | None = None) -> list[str]:
    """What axe finds that is serious or critical.

    Args:
        page: Playwright's page.
        only: names of axe's rules; None: all.
        within: a selector of the part that is looked at; None: the whole page.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    options = {"runOnly": only} if only else {}
    found = axe.run(page, context=within, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
