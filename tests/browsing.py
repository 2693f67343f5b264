"""A study's server in a thread, a headless Chromium, and a hand that clicks through the pages of a study."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
INSTALL = "no Chromium found (on Debian: apt-get install chromium)"

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 380, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}

HURRY = """(speed => {
    const [now, later] = [performance.now.bind(performance), window.setTimeout.bind(window)];
    const stamp = Object.getOwnPropertyDescriptor(Event.prototype, "timeStamp").get;
    performance.now = () => now() * speed;
    Object.defineProperty(Event.prototype, "timeStamp", {get() { return stamp.call(this) * speed; }});
    window.setTimeout = (call, ms = 0, ...rest) => later(call, ms / speed, ...rest);
    window.requestAnimationFrame = (call) => later(() => call(performance.now()), 1000 / 60 / speed);
    window.cancelAnimationFrame = window.clearTimeout.bind(window);
})(4)"""
"""A page's clock, four times as fast: frames, timers and the stamps of events."""

ARRIVE = """async () => {
    while (!document.querySelector(".trial")) {
        for (const box of document.querySelectorAll("input[type=checkbox]:not(:checked)")) box.click();
        document.querySelector(".button.main:not([disabled])")?.click();
        await new Promise((go) => setTimeout(go, 20));
    }
}"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless Chromium for all tests; they are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(INSTALL)
    with playwright.sync_playwright() as started:
        # Containers run as root and have little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        # Without a graphics card, Chromium computes one, which takes twice the time of all the rest.
        options += ["--disable-gpu", "--disable-software-rasterizer"]
        browser = started.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An application in a thread of its own; gives its address."""
    import uvicorn

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server ended before it was ready")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def served(folder: Path, **options: Any) -> Iterator[str]:
    """The real server of the study in ``folder``, in a thread; gives its address."""
    from omokage.study.server import create_app

    with serving(create_app(folder, **options)) as address:
        yield address


class Visitor:
    """A participant in a browser window of its own, who notes what should not happen.

    Args:
        hurried: the page's clock is faster than ours; for all tests but those of times.

    Attributes:
        page: Playwright's page.
        stages: the stages seen, in order.
        problems: errors on the console, requests to other hosts, stages that are wider than the screen.
    """

    def __init__(
        self, browser: Any, address: str, query: str = "", hurried: bool = True, **options: Any
    ) -> None:
        self.context = browser.new_context(**{"locale": "en-GB", **options})
        if hurried:
            self.context.add_init_script(HURRY)
        self.context.set_default_timeout(15_000)
        self.address = address
        self.stages: list[str] = []
        self.problems: list[str] = []
        self.open(query)

    def open(self, query: str = "") -> None:
        """Open the page in a new tab; ``query`` is appended to the address."""
        self.page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.goto(self.address + query)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"another host: {request.url}")

    def stage(self, *wanted: str) -> str:
        """Wait for one of these stages; returns which it is."""
        choice = ", ".join(f"body[data-stage={name!r}]" for name in wanted)
        self.page.wait_for_selector(choice, state="attached")
        name = str(self.page.evaluate("document.body.dataset.stage"))
        self.stages.append(name)
        self.measure(name)
        return name

    def measure(self, what: str) -> None:
        """Note a problem if the page is wider than the screen."""
        wide = self.page.evaluate("document.body.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.problems.append(f"{what}: {wide} pixels wider than the screen")

    def main(self) -> None:
        """Press the main button of the stage."""
        self.page.click(".button.main:not([disabled])")

    def begin(self, answers: dict[str, str] | None = None) -> None:
        """From the briefing to the first trial."""
        self.stage("briefing")
        self.main()
        self.stage("consent")
        for box in self.page.query_selector_all("input[type=checkbox]"):
            box.check()
        self.main()
        while (stage := self.stage("code", "questions", "device")) != "device":
            if stage == "questions":
                for name, value in (answers or {}).items():
                    field = self.page.locator(f"[name=question-{name}][value={value!r}], #question-{name}")
                    if field.get_attribute("type") == "radio":
                        field.check()
                    else:
                        field.fill(value)
            self.main()
            self.page.wait_for_function("name => document.body.dataset.stage !== name", arg=stage)
        self.main()

    def arrive(self) -> None:
        """From the briefing to the first trial at once, where what lies between is not the matter."""
        self.stage("briefing")
        self.page.evaluate(ARRIVE)

    def ready(self) -> Any:
        """Wait until the trial can be answered; returns its element."""
        self.page.wait_for_selector(".trial[data-ready]")
        return self.page.locator(".trial")

    def answer(self, how: Callable[["Visitor"], None] | None = None) -> None:
        """Answer the trial on the screen, by ``how`` or with a click, and wait until it is gone."""
        name = self.ready().get_attribute("data-trial")
        if how:
            how(self)
        else:
            choices = self.page.locator("[data-response]")
            choices.nth(choices.count() // 2).click()
        self.page.wait_for_function(
            """name => document.querySelector(".feedback")
                || document.querySelector(".trial")?.dataset.trial !== name""",
            arg=name,
        )
        if self.page.locator(".feedback").count():
            self.page.keyboard.press("Enter")
            self.page.wait_for_function(
                "name => document.querySelector('.trial')?.dataset.trial !== name", arg=name
            )

    def finish(self, how: Callable[["Visitor"], None] | None = None) -> None:
        """Answer all trials, up to the debriefing."""
        while (stage := self.stage("trial", "break", "practice-over", "debriefing")) != "debriefing":
            if stage == "trial":
                self.answer(how)
            else:
                self.main()
                self.page.wait_for_function("name => document.body.dataset.stage !== name", arg=stage)

    def close(self) -> None:
        self.context.close()
