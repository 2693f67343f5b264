"""Load on a study's server: many people at once, cut connections, a server that is killed again and again.

    python bench/study_load.py [--quick] [--people 200] [--every 3] [--answers 40] [--kills 5]
                               [--database postgresql://...] [--write]

Everybody answers every few seconds over HTTP. Some answers are sent twice, some connections are cut before
the reply comes, and the server is killed with SIGKILL and started again. In the end every acknowledged
answer must be in the database exactly once, and nothing else. The time of storing an answer is that from
sending it to reading the acknowledgement, in the client, for answers whose first sending got through.

People have a known accuracy (with an effect of the person and the picture, and lapses), so the table can be
checked: they know the truth from the study's own record, by the bytes of each picture. ``--quick`` is a small
size for a look. ``--write`` appends a line to bench/results/study_load.md.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import random
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omokage.study.design import load_design
from omokage.study.making import make_study
from omokage.study.opening import open_store
from omokage.study.stimuli import Source, load_stimuli

RESULTS = Path(__file__).parent / "results" / "study_load.md"
HEAD = """# Many people at once, and a server that is killed

Written by `python bench/study_load.py --write`. "Stored" is the time from sending an answer to its
acknowledgement, in milliseconds. Lost: acknowledged and not in the database. Doubled: there twice. Wrong:
there with another response, or never acknowledged. The load says how many other processes wanted the
processor when the measurement began: on a machine with other work, times are those of waiting for it.

| people | an answer every | database | killed | acknowledged | sent again | cut | lost | doubled | wrong | \
stored p50 | p99 | most | server's CPU, ms an answer | machine | date |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""


class Line:
    """One HTTP connection, kept open; the smallest client that can also cut it in the middle."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.head: dict[str, str] = {}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, method: str, path: str, token: str | None = None, body: Any = None, *, cut: bool = False
    ) -> tuple[int, bytes]:
        """Status and body. With ``cut``, the connection is closed after sending; ConnectionError then."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body is not None:
            lines.append("Content-Type: application/json")
        try:
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            await writer.drain()
            if cut:
                await asyncio.sleep(random.random() * 0.01)
                raise ConnectionError("cut")
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(
                line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line
            )
            self.head = fields
            content = await reader.readexactly(int(fields.get("content-length", 0)))
            if fields.get("connection") == "close":
                self.close()
            return int(head.split(b" ", 2)[1]), content
        except (OSError, EOFError) as error:
            self.close()
            raise ConnectionError(str(error)) from None

    def close(self) -> None:
        """Close the connection at once."""
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].transport.abort()
            self._streams = None


@dataclass
class Seen:
    """What all people together have seen."""

    acknowledged: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Crowd:
    """How people behave.

    accuracy: the mean share of right answers; person, picture: standard deviations of both effects, on the
    logit scale; lapses: the share of answers given at random.
    again, cut: the share of answers that are sent a second time, and whose connection is cut.
    """

    accuracy: float = 0.6
    person: float = 0.0
    picture: float = 0.0
    lapses: float = 0.0
    again: float = 0.05
    cut: float = 0.05


def truths(folder: Path) -> dict[str, tuple[str, str]]:
    """Identifier and source of each picture, by the SHA-256 of its file without padding."""
    return {one.sha256: (one.id, one.source) for one in load_stimuli(folder).pictures.values()}


def unpadded(data: bytes) -> bytes:
    """A picture as it lies in the study's folder: the private chunk before the end is taken out."""
    start = data.rindex(b"paDd") - 4
    (length,) = struct.unpack(">I", data[start : start + 4])
    return data[:start] + data[start + 12 + length :]


class Person:
    """Somebody who takes part until the last trial, whatever happens to the connection."""

    def __init__(
        self,
        number: int,
        port: int,
        truth: dict[str, tuple[str, str]],
        crowd: Crowd,
        every: float,
        seen: Seen,
    ) -> None:
        self.rng = random.Random(number)
        self.line, self.truth, self.crowd, self.every, self.seen = Line(port), truth, crowd, every, seen
        self.skill = math.log(crowd.accuracy / (1 - crowd.accuracy)) if 0 < crowd.accuracy < 1 else 0.0
        self.skill += self.rng.gauss(0, crowd.person)
        self.token = ""

    async def sure(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """The reply to a call, sent again until there is one."""
        while True:
            try:
                return await self.line.call(method, path, self.token or None, body)
            except ConnectionError:
                self.seen.counts["broken"] += 1
                await asyncio.sleep(0.2 + self.rng.random() * 0.3)

    async def take_part(self) -> None:
        """Agree, answer everything."""
        await asyncio.sleep(self.rng.random() * self.every)
        study = json.loads((await self.sure("GET", "/api/study"))[1])
        agreed = {
            "language": "en",
            "consents": [one["id"] for one in study["consent"]],
            "age_confirmed": True,
            "attempt": secrets.token_hex(20),
        }
        status, content = await self.sure("POST", "/api/participants", agreed)
        if status != 201:
            raise RuntimeError(f"could not start: {status} {content!r}")
        self.token = json.loads(content)["token"]
        due = time.monotonic()
        while (trial := json.loads((await self.sure("GET", "/api/trials/next"))[1])["trial"]) is not None:
            files = [unpadded((await self.sure("GET", f"/{one['url']}"))[1]) for one in trial["pictures"]]
            pictures = [hashlib.sha256(one).hexdigest() for one in files]
            due = max(time.monotonic(), due + self.every * self.rng.uniform(0.8, 1.2))
            await asyncio.sleep(due - time.monotonic())
            await self.answer(trial, pictures)
        self.line.close()

    def judge(self, trial: dict[str, Any], pictures: list[str]) -> tuple[Any, Any]:
        """The response, and the right one or None."""
        options = trial["options"]
        sources = [self.truth[one][1] for one in pictures]
        if trial["phase"] == "check":
            asked = trial["prompt"].removeprefix("check_")
            right = int(asked) if trial["kind"] == "rating" else asked
            return right, right
        if trial["kind"] == "rating":
            return self.rng.choice(options), None
        effect = sum(random.Random(one).gauss(0, self.crowd.picture) for one in pictures)
        share = 1 / (1 + math.exp(-self.skill - effect))
        if trial["kind"] == "preference":  # who prefers, prefers the source that comes first by name
            right, told = options[sources.index(min(sources))], None
        else:
            kinds = ["real" if source == "real" else "generated" for source in sources]
            right = told = options[kinds.index("real")] if len(kinds) == 2 else kinds[0]
        if self.rng.random() < self.crowd.lapses:
            return self.rng.choice(options), told
        wrong = next(option for option in options if option != right)
        return (right if self.rng.random() < share else wrong), told

    async def answer(self, trial: dict[str, Any], pictures: list[str]) -> None:
        """Send the answer until it is acknowledged; sometimes once more, sometimes with the line cut."""
        response, right = self.judge(trial, pictures)
        body = {
            "trial": trial["id"],
            "response": response,
            "rt": round(self.rng.lognormvariate(7, 0.4), 1),
            "time_elapsed": round(time.monotonic() * 1000 % 1e7, 1),
            "exposure_measured_ms": trial["exposure_ms"],
        }
        if self.rng.random() < self.crowd.cut:
            self.seen.counts["cut"] += 1
            with suppress(ConnectionError):
                await self.line.call("POST", "/api/answers", self.token, body, cut=True)
        before, began = self.seen.counts["broken"], time.monotonic()
        status, content = await self.sure("POST", "/api/answers", body)
        took = (time.monotonic() - began) * 1000
        if status != 200:
            raise RuntimeError(f"not stored: {status} {content!r}")
        if before == self.seen.counts["broken"]:
            self.seen.milliseconds.append(took)
        self.seen.acknowledged[trial["id"]] = response
        names = ("stimulus_left", "stimulus_right") if len(pictures) == 2 else ("stimulus",)
        self.seen.rows[trial["id"]] = {
            "trial_index": trial["index"],
            "trial_type": trial["kind"],
            "phase": trial["phase"],
            "part": trial["part"],
            "exposure_ms": trial["exposure_ms"],
            "response": response,
            "correct": None if right is None else int(response == right),
            "rt": body["rt"],
            "time_elapsed": body["time_elapsed"],
            **{name: self.truth[one][0] for name, one in zip(names, pictures, strict=True)},
            **{
                name.replace("stimulus", "source"): self.truth[one][1]
                for name, one in zip(names, pictures, strict=True)
            },
        }
        if self.rng.random() < self.crowd.again:
            self.seen.counts["again"] += 1
            other = next(option for option in trial["options"] if option != response)
            if (again := await self.sure("POST", "/api/answers", body)) != (status, content):
                raise RuntimeError(f"another reply to the same answer: {again}")
            changed = await self.sure("POST", "/api/answers", body | {"response": other})
            if changed[0] != 409:
                raise RuntimeError(f"a second response was taken: {changed}")


class Server:
    """The server as a process, which can be killed and started again."""

    def __init__(self, folder: Path, port: int, database: str | None = None, workers: int = 1) -> None:
        self.arguments = [
            *(sys.executable, "-m", "omokage", "study", "serve", str(folder), "--port", str(port)),
            *(("--database", database, "--workers", str(workers)) if database else ()),
        ]
        self.port, self.process = port, None
        self.seconds = 0.0  # of the processor, by the processes that were ended

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(self.process.stderr.read().decode())
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError("the server does not answer")

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End it at once, with all its processes."""
        if self.process is not None and self.process.poll() is None:
            with suppress(OSError):  # Linux; one process
                fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
                self.seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            os.killpg(self.process.pid, how)
        if self.process is not None:
            self.process.wait()
            self.process.stderr.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def crowded(
    folder: Path, server: Server, people: int, every: float, crowd: Crowd, kills: int, seconds: float
) -> Seen:
    """Let everybody take part while the server is killed ``kills`` times within about ``seconds``."""
    seen, truth = Seen(), truths(folder)
    tasks = [
        asyncio.create_task(Person(number, server.port, truth, crowd, every, seen).take_part())
        for number in range(people)
    ]

    async def killer() -> None:
        for _ in range(kills):
            await asyncio.sleep(seconds / (kills + 1))
            await asyncio.to_thread(server.kill)
            seen.counts["killed"] += 1
            await asyncio.to_thread(server.start)

    killing = asyncio.create_task(killer())
    try:
        await asyncio.gather(*tasks)
    finally:
        killing.cancel()
        with suppress(asyncio.CancelledError):
            await killing
    return seen


def compared(folder: Path, database: str | None, seen: Seen) -> dict[str, int]:
    """What is in the database against what was acknowledged."""
    import sqlalchemy as sa

    from omokage.study import store as tables

    with open_store(folder, database) as store, store.reading() as connection:
        rows = connection.execute(sa.select(tables.answers.c.trial, tables.answers.c.response)).all()
    there: dict[str, list[str]] = {}
    for trial, response in rows:
        there.setdefault(trial, []).append(response)
    return {
        "stored": len(rows),
        "lost": sum(trial not in there for trial in seen.acknowledged),
        "doubled": sum(len(responses) > 1 for responses in there.values()),
        "wrong": sum(
            there.get(trial, [str(response)])[0] != str(response)
            for trial, response in seen.acknowledged.items()
        ),
        "strange": sum(trial not in seen.acknowledged for trial in there),
    }


def noise(count: int, seed: int, side: int) -> list[tuple[str, Image.Image]]:
    """Pictures of smooth noise, no two alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return [
        (f"{number:05d}.png", Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC))
        for number, one in enumerate(small)
    ]


def machine() -> str:
    """Processor, cores and the load when the measurement began."""
    name = "unknown processor"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    return f"{' '.join(name.split()[:2])}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before"


def main() -> None:
    """Run the crowd and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 people, 6 answers each, two kills")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two answers of a person")
    parser.add_argument("--answers", type=int, default=40, help="answers of each person")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--database", help="postgresql://..., an empty database; default: SQLite")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server (PostgreSQL)")
    parser.add_argument("--side", type=int, default=128, help="pixels a side of the pictures")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.people, options.every, options.answers, options.kills = 20, 0.5, 6, 2
    where = machine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        sources = [Source("real", noise(200, 0, options.side)), Source("gan", noise(200, 1, options.side))]
        make_study(folder, {"trials": options.answers, "practice": 0}, sources)
        server = Server(folder, free_port(), options.database, options.workers)
        server.start()
        seconds = options.every * options.answers
        try:
            seen = asyncio.run(
                crowded(folder, server, options.people, options.every, Crowd(), options.kills, seconds)
            )
        finally:
            server.kill(signal.SIGTERM)
        found = compared(folder, options.database, seen)
        trials = load_design(folder).answers * options.people
    p50, p99 = np.percentile(seen.milliseconds, [50, 99])
    kind = "PostgreSQL" if options.database else "SQLite"
    line = (
        f"| {options.people} | {options.every:g} s | {kind} | {seen.counts['killed']} | "
        f"{len(seen.acknowledged):,} of {trials:,} | {seen.counts['again']} | {seen.counts['cut']} | "
        f"{found['lost']} | {found['doubled']} | {found['wrong'] + found['strange']} | "
        f"{p50:.1f} | {p99:.1f} | {max(seen.milliseconds):.0f} | "
        f"{1000 * server.seconds / len(seen.acknowledged):.1f} | {where} | {date.today()} |"
    )
    print(line)
    if options.write:
        before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
        RESULTS.write_text(f"{before}{line}\n", encoding="utf-8")
    wrong = sum(found[name] for name in ("lost", "doubled", "wrong", "strange"))
    if wrong or len(seen.acknowledged) != trials:
        sys.exit(f"not every acknowledged answer is there exactly once: {found}")


if __name__ == "__main__":
    main()
