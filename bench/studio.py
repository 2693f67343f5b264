"""The studio under the hand and under load: first wall, slider steps, many users, memory.

    python bench/studio.py [--quick] [--only wall,slider,users,events,rolls,page]
                           [--browser /usr/bin/chromium] [--write]

A server is started as `omokage studio` starts it and called over HTTP; what a browser shows is measured in a
headless Chromium driven by Playwright, and left out where there is none.

wall: from opening the page to the last picture of the first wall, on a server that has just started.
slider: one face, another psi each time: the server's CPU for a step, and the time from the request until the
    picture stands on the screen. For the model that ships, and for `fast-128` with random weights, whose
    faces have 128 px.
users: 20 people roll at once, 24 faces each, again and again.
events: 1,000 steps of one slider, sent as fast as they go; how many wait at most.
rolls: how much memory 10,000 pages of a tiny model take, and 10,000 faces of the model that ships.
page: how many nodes the page has at most while 10,000 rolls of the wall go by, beside a board of 500 faces
    that is scrolled too.

``--quick`` is a small size for a look. ``--write`` writes the rows to bench/results/studio.md; others stay.
"""

import argparse
import asyncio
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import httpx

RESULTS = Path(__file__).parent / "results" / "studio.md"
HEAD = """# The studio under the hand and under load

Written by `python bench/studio.py --write`. CPU is that of the server, over all its threads. The load says
how many other processes wanted the processor when the measurement began: on a machine with other work, times
are those of waiting for it, and CPU grows a little.

| what | measured | aim | machine | date |
|---|---|---|---|---|
"""
PARTS = ("wall", "slider", "users", "events", "rolls", "page")
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")

STEP = """async ([model, steps, client]) => {
  const shown = document.createElement("div");
  const size = { inset: "0 auto auto 0", width: "256px", height: "256px" };
  Object.assign(shown.style, { position: "fixed", zIndex: 9, ...size });
  document.body.append(shown);
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  for (let step = 0; step < steps; step++) {
    const face = { model, from: { seed: 7 }, psi: 0.5 + step / 1e4 };
    await frame();
    const began = performance.now();
    const answer = await fetch("api/draw", { method: "POST",
      headers: { "Content-Type": "application/json", "X-Client": client },
      body: JSON.stringify({ faces: [face], size: "full", channel: "slider", order: step }) });
    const { sprite } = await answer.json();
    const picture = new Image();
    picture.src = sprite;
    await picture.decode();
    shown.style.backgroundImage = `url("${sprite}")`;
    await frame();
    times.push(performance.now() - began);
  }
  shown.remove();
  return times;
}"""


@dataclass
class Table:
    """The rows of the results."""

    rows: list[str] = field(default_factory=list)
    load: float = 0.0

    def add(self, what: str, measured: str, aim: str) -> None:
        """Add a row and print it."""
        machine = f"{_processor()}, {os.cpu_count()} cores, load {self.load:.1f} before"
        self.rows.append(f"| {what} | {measured} | {aim} | {machine} | {date.today().isoformat()} |")
        print(f"{what}: {measured} (aim: {aim})", flush=True)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2].split(" Processor")[0].split(" @")[0]
    except OSError:
        pass
    return platform.machine()


class Served:
    """A studio that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> float:
        """Resident megabytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE / 2**20

    def idle(self) -> None:
        """Wait until it does nothing: it has drawn its first faces and made its previews quicker."""
        calm = 0
        while calm < 4:
            before = self.cpu()
            time.sleep(0.5)
            calm = calm + 1 if self.cpu() - before < 0.05 else 0


@contextmanager
def served(*sources: str) -> Iterator[Served]:
    """A studio for some models; it answers when the block begins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="omokage-bench-") as folder:
        command = [sys.executable, "-m", "omokage", "studio", *sources, "--no-browser", "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--data-folder", folder], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        address = f"http://localhost:{port}/"
        try:
            while True:
                if process.poll() is not None:
                    raise SystemExit("the studio did not start; try omokage studio")
                try:
                    httpx.get(address, timeout=5)
                    break
                except httpx.HTTPError:
                    time.sleep(0.02)
            yield Served(process, address)
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def chromium(path: str) -> Iterator[Any]:
    """A headless Chromium; None where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        yield None
        return
    if not Path(path).exists():
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def p95(values: list[float]) -> float:
    """The value below which 95% of the values are."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def models_of(address: str) -> list[dict[str, Any]]:
    """The models of a studio."""
    return httpx.get(f"{address}api/studio", timeout=60).json()["models"]


def wall(table: Table, browser: Any, quick: bool) -> None:
    """The time to the first wall."""
    times, shown = [], []
    for _ in range(2 if quick else 5):
        with served() as studio:
            studio.idle()
            began = time.perf_counter()
            with httpx.Client(base_url=studio.address, timeout=60) as client:
                client.get("/")
                model = client.get("/api/studio").json()["models"][0]["id"]
                asked = {"model": model, "start": 1000, "count": 24, "psi": 0.8}
                told = client.post("/api/wall", json=asked).json()
                client.get(told["sprite"])
            times.append(time.perf_counter() - began)
            if browser is not None:
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                began = time.perf_counter()
                page.goto(studio.address)
                page.wait_for_function(
                    "() => { const all = [...document.querySelectorAll('studio-wall .face')];"
                    " return all.length >= 12 && all.every((one) => 'drawn' in one.dataset); }"
                )
                page.evaluate("() => new Promise(requestAnimationFrame)")
                shown.append(time.perf_counter() - began)
                page.close()
    table.add("first wall of 24 faces, by HTTP", f"{median(times):.2f} s, most {max(times):.2f}", "1 s")
    if shown:
        said = f"{median(shown):.2f} s, most {max(shown):.2f}"
        table.add("first wall, from opening the page in Chromium", said, "1 s")


def slider(table: Table, browser: Any, quick: bool) -> None:
    """CPU and time of a step of a slider."""
    steps = 60 if quick else 300
    with tempfile.TemporaryDirectory() as folder:
        large = random_model("fast-128", Path(folder) / "random-128.safetensors")
        with served("shipped", str(large)) as studio:
            studio.idle()
            for model in models_of(studio.address):
                side = model["resolution"][0]
                with httpx.Client(base_url=studio.address, timeout=60) as client:
                    step(client, model["id"], 10**6)
                    before, times = studio.cpu(), []
                    for number in range(steps):
                        began = time.perf_counter()
                        step(client, model["id"], number)
                        times.append((time.perf_counter() - began) * 1000)
                    cpu = (studio.cpu() - before) / steps * 1000
                told = f"{cpu:.1f} ms of CPU, {median(times):.0f} ms by HTTP, p95 {p95(times):.0f}"
                table.add(f"slider step at {side} px", told, "25 ms of CPU, p95 80 ms")
                if browser is not None:
                    page = browser.new_page()
                    page.goto(studio.address)
                    found = page.evaluate(STEP, [model["id"], steps, "bench"])
                    page.close()
                    told = f"{median(found):.0f} ms, p95 {p95(found):.0f}"
                    table.add(f"slider step at {side} px, to the screen in Chromium", told, "p95 80 ms")


def step(client: httpx.Client, model: str, number: int) -> None:
    """One step: the face, and its picture."""
    face = {"model": model, "from": {"seed": 7}, "psi": 0.5 + number / 1e7}
    asked = {"faces": [face], "size": "full", "channel": "slider", "order": number}
    reply = client.post("/api/draw", json=asked, headers={"X-Client": f"{time.time()}"})
    assert client.get(reply.raise_for_status().json()["sprite"]).status_code == 200


def random_model(recipe: str, path: Path) -> Path:
    """A model of a recipe whose weights have learned nothing."""
    import torch

    from omokage.families import build_model
    from omokage.model import Model, write_small
    from omokage.recipe import load_recipe

    torch.manual_seed(0)
    told = load_recipe(recipe)
    network = build_model(told.model).eval().requires_grad_(False)
    for name, weight in network.named_parameters():
        if name.endswith("to_image.weight"):
            weight.mul_(0.05)  # else its pictures are black and white, and rounding grows
    write_small(Model(network, told, {"images": 0}, None, "0" * 64), path)
    return path


def users(table: Table, browser: Any, quick: bool) -> None:
    """Many people roll at once."""
    people, rounds = 20, 2 if quick else 6
    with served() as studio:
        studio.idle()
        model = models_of(studio.address)[0]["id"]
        times, errors = [], 0

        async def one(person: int) -> None:
            nonlocal errors
            async with httpx.AsyncClient(base_url=studio.address, timeout=120) as client:
                for number in range(rounds):
                    start = (person * 1000 + number) * 24
                    asked = {"model": model, "start": start, "count": 24, "psi": 0.8, "channel": "wall"}
                    began = time.perf_counter()
                    reply = await client.post(
                        "/api/wall", json={**asked, "order": number}, headers={"X-Client": str(person)}
                    )
                    picture = reply.status_code == 200 and await client.get(reply.json()["sprite"])
                    errors += not (picture and picture.status_code == 200)
                    times.append(time.perf_counter() - began)

        async def all_of_them() -> None:
            await asyncio.gather(*(one(person) for person in range(people)))

        before = studio.cpu()
        asyncio.run(all_of_them())
        cpu = (studio.cpu() - before) / len(times) * 1000
    told = f"{median(times):.1f} s, p95 {p95(times):.1f}, {errors} errors, {cpu:.0f} ms of CPU a wall"
    table.add(f"{people} users rolling, 24 faces each", told, "p95 6 s, no error")


def events(table: Table, browser: Any, quick: bool) -> None:
    """Steps of a slider as fast as they go; in this process, where it can be seen what waits."""
    import threading

    import uvicorn

    from omokage.studio.controls import open_model
    from omokage.studio.server import create_app
    from omokage.web.serving import bound

    number = 200 if quick else 1000
    app = create_app([open_model("shipped")])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        studio = app.state.studio
        ((model, opened),) = studio.models.items()
        opened.quicken()
        waiting: list[int] = []

        async def drag() -> list[int]:
            limits = httpx.Limits(max_connections=64)
            base = f"http://localhost:{port}"
            async with httpx.AsyncClient(base_url=base, timeout=120, limits=limits) as client:

                async def one(order: int) -> int:
                    face = {"model": model, "from": {"seed": 7}, "psi": 0.5 + order / 1e5}
                    asked = {"faces": [face], "size": "full", "channel": "slider", "order": order}
                    reply = await client.post("/api/draw", json=asked, headers={"X-Client": "one"})
                    waiting.append(opened.drawing.waiting)
                    return reply.status_code

                return await asyncio.gather(*(one(order) for order in range(number)))

        told = asyncio.run(drag())
        server.should_exit = True
        thread.join()
    drawn = told.count(200)
    said = f"at most {max(waiting)} wait; {drawn:,} drawn, {told.count(409):,} superseded"
    others = len(told) - drawn - told.count(409)
    table.add(f"{number:,} slider events", said + (f", {others} errors" if others else ""), "2 wait")


def rolls(table: Table, browser: Any, quick: bool) -> None:
    """Memory over many rolls."""
    number = 500 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        tiny = tiny_model(Path(folder) / "tiny.safetensors")
        with served(str(tiny)) as studio:
            studio.idle()
            told = rolled(studio, number, 24)
        table.add(f"{number:,} pages of 24 faces rolled, a tiny model", told, "+50 MB")
    with served() as studio:
        studio.idle()
        told = rolled(studio, number // 24, 24)
        table.add(f"{number:,} faces rolled, the model that ships", told, "+50 MB")


def rolled(studio: Served, pages: int, count: int) -> str:
    """How memory grew over pages of faces, after the first ten."""
    (model,) = (one["id"] for one in models_of(studio.address))
    with httpx.Client(base_url=studio.address, timeout=60) as client:
        for number in range(pages + 10):
            if number == 10:
                before = studio.memory()
            asked = {"model": model, "start": number * count, "count": count, "psi": 0.8}
            told = client.post("/api/wall", json=asked).raise_for_status().json()
            client.get(told["sprite"])
    after = studio.memory()
    return f"{after - before:+.0f} MB, from {before:.0f} to {after:.0f}"


def tiny_model(path: Path) -> Path:
    """A DCGAN of 16 px with random weights, which draws in no time."""
    import torch

    from omokage.families import build_model
    from omokage.model import Model, write_small
    from omokage.recipe import load_recipe

    torch.manual_seed(0)
    told = load_recipe("dcgan")
    told.model = {"name": "dense-dcgan", "channels": [8, 8], "strides": [2, 2], "first_size": 4, "latent": 8}
    network = build_model(told.model).eval().requires_grad_(False)
    write_small(Model(network, told, {"images": 0}, None, "0" * 64), path)
    return path


def page(table: Table, browser: Any, quick: bool) -> None:
    """Nodes of the page while the wall and a full board are scrolled."""
    from omokage.studio.exports import board_text

    if browser is None:
        return
    steps = 20 if quick else 420  # of a page of 24 faces
    with tempfile.TemporaryDirectory() as folder:
        tiny = tiny_model(Path(folder) / "tiny.safetensors")
        with served(str(tiny)) as studio:
            studio.idle()
            (model,) = (one["id"] for one in models_of(studio.address))
            pins = [{"face": {"model": model, "from": {"seed": seed}}} for seed in range(500)]
            board = board_text("Many", pins, {})
            httpx.post(f"{studio.address}api/boards/import", content=board, timeout=60).raise_for_status()
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            tab.goto(studio.address)
            tab.wait_for_selector("studio-wall .face[data-drawn]")
            most = 0
            for _ in range(steps):
                tab.evaluate("document.querySelector('studio-wall').scrollTop += 1e6")
                tab.evaluate("document.querySelector('.pins-scroll').scrollTop += 100")
                tab.wait_for_function(
                    "() => [...document.querySelectorAll('studio-wall .face')]"
                    ".every((one) => 'drawn' in one.dataset)"
                )
                most = max(most, tab.evaluate("document.querySelectorAll('*').length"))
            pages = tab.evaluate("document.querySelector('studio-wall').starts.length")
            tab.close()
    told = f"{most} nodes at most, {pages} pages"
    table.add("scrolling the wall and a board of 500 faces in Chromium", told, "under 600 nodes")


def write(table: Table) -> None:
    """Write the rows; those of what was not measured now stay as they are."""

    def what(row: str) -> str:
        return row.split(" | ")[0]

    own = {what(row): row for row in table.rows}
    earlier = RESULTS.read_text("utf-8").removeprefix(HEAD).splitlines() if RESULTS.exists() else []
    rows = [own.pop(what(row), row) for row in earlier if row.startswith("| ")]
    RESULTS.write_text(HEAD + "\n".join([*rows, *own.values()]) + "\n", encoding="utf-8")
    print(RESULTS)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    table = Table(load=os.getloadavg()[0])
    measures: dict[str, Callable[[Table, Any, bool], None]] = {
        "wall": wall, "slider": slider, "users": users, "events": events, "rolls": rolls, "page": page
    }  # fmt: skip
    # Playwright keeps a loop running in its thread, so what runs a loop of its own comes first.
    wanted = given.only.split(",")
    for part in ("users", "events", "rolls"):
        if part in wanted:
            measures[part](table, None, given.quick)
    if {"wall", "slider", "page"} & set(wanted):
        with chromium(given.browser) as browser:
            if browser is None:
                print("no Chromium: what is seen in a browser is left out")
            for part in ("wall", "slider", "page"):
                if part in wanted:
                    measures[part](table, browser, given.quick)
    if given.write:
        write(table)


if __name__ == "__main__":
    main()
