"""How many faces of a model are broken? A local page on which a person marks faces without knowing the model.

    python bench/broken_faces.py prepare marks/ --run runs/a --run runs/b 0.7 0-63 --data faces/
    python bench/broken_faces.py mark marks/      # opens a page on this machine; stop and go on at any time
    python bench/broken_faces.py report marks/
    python bench/broken_faces.py keep marks/      # adds the marks to bench/broken_marks.csv

``prepare`` draws the same seeds from every run, mixes them with real faces as controls, and shuffles all.
Some generated faces come twice: the report says how well the two marks of one face agree. The page gets a
number for each face and its pixels, nothing else. ``sheets`` writes numbered sheets for marking many at a
glance; ``typed`` takes a file with the numbers of each kind. Each mark is written at once to ``marks.jsonl``.
A later mark of the same face replaces the earlier one. The report gives the share of broken faces of each
run with its 95% Wilson interval, the same for the real faces, and the agreement (share and Cohen's kappa).
``bench/train_broken.py`` teaches a network with the marks that are kept, and counts without marks.
"""

import argparse
import csv
import io
import json
import os
import shlex
import sys
import threading
import webbrowser
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import binomtest

from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.files import replacing
from omokage.model import load_model
from omokage.progress import TerminalProgress
from omokage.sampling import gathered, sample
from omokage.settings import Settings
from omokage.verbs.options import parse_seeds

PAGE = Path(__file__).with_suffix(".html")
PLAN, MARKS, PIXELS, REPORT = "plan.json", "marks.jsonl", "faces.npy", "report.md"
REAL = "real faces"
WHOLE = "whole"
# The kinds of mark, each with its key. All but the first are faults; a face has the worst of its own.
KINDS = {
    WHOLE: "w",
    "smeared eye": "s",
    "missing eye": "e",
    "broken mouth": "m",
    "half glasses": "g",
    "unsure": "u",
}
UNSURE = "unsure"  # neither whole nor a fault: counted apart
TABLE = Path(__file__).with_name("broken_marks.csv")
COLUMNS = ("set", "model", "psi", "number", "mark", "again")
ACROSS, DOWN, TILE = 8, 5, 160  # faces on a sheet, and the side of one in pixels
APART = 20  # faces between the two times that one is shown, at least (where there are enough)
LONGEST = 1000  # bytes of a message from the page


@dataclass(frozen=True)
class Shown:
    """One face of the shuffled list.

    Attributes:
        source: the run's name, or `REAL`.
        number: its seed, or its number in the face set.
        face: its row in `PIXELS`.
        again: whether it has been shown before.
        psi: of a generated face.
    """

    source: str
    number: int
    face: int
    again: bool = False
    psi: float | None = None


def shuffled(faces: Sequence[Shown], twice: int, seed: int) -> list[Shown]:
    """All faces in random order, ``twice`` of the generated ones a second time, at least `APART` later.

    The runs have equal shares of those that come twice, up to one.
    """
    rng = np.random.default_rng(seed)
    order = [faces[i] for i in rng.permutation(len(faces))]
    drawn: dict[str, list[Shown]] = {}
    for one in order:
        if one.source != REAL:
            drawn.setdefault(one.source, []).append(one)
    turns = [one for turn in zip(*drawn.values(), strict=False) for one in turn]
    for one in turns[:twice]:
        first = order.index(one)
        after = min(first + 1 + APART, len(order))
        order.insert(int(rng.integers(after, len(order) + 1)), replace(one, again=True))
    return order


def prepare(options: argparse.Namespace) -> None:
    """Write the list and the pixels of all faces into the folder."""
    folder = Path(options.folder)
    if (folder / PLAN).exists():
        raise UserError(f"{folder} is prepared already: mark it, or name another folder")
    names = run_names(options.run, options.psi, options.seeds)
    progress = TerminalProgress()
    pixels: list[np.ndarray] = []
    faces: list[Shown] = []
    about: dict[str, Any] = {}
    sizes = {}
    for name, (source, psi, seeds) in names.items():
        model = load_model(None if source == "shipped" else source)
        sizes[name] = model.resolution
        drawn, finite = gathered(sample(model, seeds, Settings(psi=psi), progress))
        about[name] = {
            "psi": psi,
            "recipe": model.recipe.name,
            "images_seen": model.images_seen,
            "snapshot_hash": model.snapshot_hash,
            "not_finite": [seed for seed, good in zip(seeds, finite, strict=True) if not good],
        }
        for seed, picture, good in zip(seeds, drawn, finite, strict=True):
            if good:
                faces.append(Shown(name, seed, len(pixels), psi=psi))
                pixels.append(picture)
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise UserError(f"the size would tell which run drew a face ({told}): name runs of one size")
    real = FaceSet.open(options.data)
    if len(real) < options.real:
        raise UserError(f"{options.data} has {len(real)} faces, --real asks for {options.real}")
    chosen = np.sort(np.random.default_rng(options.seed).choice(len(real), options.real, replace=False))
    for number, picture in zip(chosen.tolist(), real.pixels(chosen, next(iter(sizes.values()))), strict=True):
        faces.append(Shown(REAL, number, len(pixels)))
        pixels.append(picture)
    least = min(sum(one.source == name for one in faces) for name in names)
    if options.twice > least * len(names):
        raise UserError(f"--twice {options.twice}: only {least * len(names)} faces are there to come twice")
    order = shuffled(faces, options.twice, options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / PIXELS) as unfinished, open(unfinished, "wb") as file:
        np.save(file, np.stack(pixels))
    plan = {
        "runs": about,
        "psi": options.psi,
        "face_set": real.content_hash,
        "order": [asdict(one) for one in order],
    }
    with replacing(folder / PLAN) as unfinished:
        unfinished.write_text(json.dumps(plan), encoding="utf-8")
    print(f"{len(order)} faces to mark; next: python bench/broken_faces.py mark {shlex.quote(str(folder))}")


def run_names(
    runs: Sequence[Sequence[str]], psi: float, seeds: str
) -> dict[str, tuple[str, float, list[int]]]:
    """For each RUN [PSI [SEEDS]] a name, the last part of its path, with the run, psi and seeds."""
    found: dict[str, tuple[str, float, list[int]]] = {}
    for run, *more in runs:
        if len(more) > 2:
            raise UserError(f"--run {run}: give a run, perhaps psi, and perhaps seeds")
        try:
            its_psi = float(more[0]) if more else psi
        except ValueError:
            raise UserError(f"--run {run}: psi is a number, got {more[0]!r}") from None
        its_seeds = parse_seeds(more[1] if len(more) > 1 else seeds)
        if len(set(its_seeds)) < len(its_seeds):
            raise UserError("--seeds: a seed is there twice")
        name = f"{Path(run).stem} psi {its_psi:g}" if more else Path(run).stem
        if name in found or name == REAL:
            raise UserError(f"--run: two runs are called {name!r}; rename one folder")
        found[name] = run, its_psi, its_seeds
    return found


class Session:
    """The faces of a folder, and the marks given so far.

    Attributes:
        order: the faces as they are shown.
        marks: by position in ``order``, the kind of the newest mark.
        unread: lines of the marks' file that are no marks (a line cut off when the disk was full).
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            plan = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
            self.order = [Shown(**one) for one in plan["order"]]
            self.about: dict[str, Any] = plan["runs"]
            self.psi: float = plan["psi"]
            self.face_set: str = plan["face_set"]
        except FileNotFoundError:
            raise UserError(
                f"{self.folder}: nothing prepared here; see python bench/broken_faces.py -h"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.folder / PLAN} is damaged: prepare another folder") from None
        self.pixels = np.load(self.folder / PIXELS, mmap_mode="r", allow_pickle=False)
        self.marks: dict[int, str] = {}
        self.unread = 0
        self._lock = threading.Lock()
        path = self.folder / MARKS
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                told = json.loads(line)
                self._check(told["position"], told["mark"])
                self.marks[told["position"]] = told["mark"]
            except (ValueError, KeyError, TypeError):
                self.unread += 1
        self._joint = "" if not text or text.endswith("\n") else "\n"  # after a line that was cut off

    def _check(self, position: Any, mark: Any) -> None:
        if type(position) is not int or not 0 <= position < len(self.order) or mark not in KINDS:
            raise ValueError(f"no such face or mark: {position!r}, {mark!r}")

    def mark(self, position: int, mark: str) -> None:
        """Keep a mark, on the disk first.

        Raises:
            ValueError: there is no such position or kind of mark.
        """
        self._check(position, mark)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"position": position, "mark": mark, "time": now})
        with self._lock, open(self.folder / MARKS, "a", encoding="utf-8") as file:
            file.write(f"{self._joint}{line}\n")
            file.flush()
            os.fsync(file.fileno())
            self._joint = ""
            self.marks[position] = mark

    def next(self) -> int:
        """The first position without a mark; the number of faces if all have one."""
        return next((i for i in range(len(self.order)) if i not in self.marks), len(self.order))

    def png(self, position: int) -> bytes:
        """The face at ``position``; without text, which would tell the recipe."""
        file = io.BytesIO()
        Image.fromarray(self.pixels[self.order[position].face]).save(file, "PNG")
        return file.getvalue()


def server(session: Session, port: int = 0) -> ThreadingHTTPServer:
    """A server of the page for this machine alone; port 0: any that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._ours():
                return
            name, _, number = self.path.lstrip("/").partition("/")
            if name == "":
                self._send(PAGE.read_bytes(), "text/html; charset=utf-8")
            elif name == "state":
                self._told()
            elif name == "face" and number.isdecimal() and int(number) < len(session.order):
                self._send(session.png(int(number)), "image/png")
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            if not self._ours():
                return
            length = self.headers.get("Content-Length", "")
            # A page of another site cannot send this type without being asked first.
            if self.headers.get_content_type() != "application/json" or not length.isdecimal():
                self.send_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            elif int(length) > LONGEST:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            else:
                try:
                    told = json.loads(self.rfile.read(int(length)))
                    session.mark(told["position"], told["mark"])
                except (ValueError, KeyError, TypeError):
                    self.send_error(HTTPStatus.BAD_REQUEST)
                else:
                    self._told()

        def _ours(self) -> bool:
            """Whether the request names this machine, and no other name that leads to it."""
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in ("127.0.0.1", "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
                return False
            return True

        def _told(self) -> None:
            told = {
                "next": session.next(),
                "marked": len(session.marks),
                "total": len(session.order),
                "kinds": KINDS,
            }
            self._send(json.dumps(told).encode(), "application/json")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            policy = "default-src 'self' 'unsafe-inline'; img-src 'self' data:"
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the terminal stays readable."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; name another") from None


def mark(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    session = Session(options.folder)
    with server(session, options.port) as served:
        address = f"http://127.0.0.1:{served.server_address[1]}/"
        print(f"{len(session.marks)} of {len(session.order)} faces are marked. The page: {address}")
        print("Ctrl-C ends it; the same command goes on.", flush=True)
        if options.open:
            webbrowser.open(address)
        try:
            served.serve_forever()
        except KeyboardInterrupt:
            print(f"\n{len(session.marks)} of {len(session.order)} faces are marked")


def sheets(session: Session) -> int:
    """Write all faces onto numbered sheets in the folder; how many sheets."""
    font = ImageFont.load_default(13)
    many = ACROSS * DOWN
    starts = range(0, len(session.order), many)
    for number, start in enumerate(starts):
        sheet = Image.new("RGB", (ACROSS * (TILE + 4), DOWN * (TILE + 17)), "white")
        pen = ImageDraw.Draw(sheet)
        for position in range(start, min(start + many, len(session.order))):
            x, y = (position - start) % ACROSS * (TILE + 4), (position - start) // ACROSS * (TILE + 17)
            face = Image.fromarray(session.pixels[session.order[position].face])
            sheet.paste(face.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y + 15))
            pen.text((x + 2, y), str(position), fill="black", font=font)
        sheet.save(session.folder / f"sheet-{number:02d}.png")
    return len(starts)


def typed(session: Session, path: Path) -> None:
    """Take marks from a file. Its lines are ``kind: numbers``; others up to ``until: number`` are whole."""
    told: dict[int, str] = {}
    until = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, numbers = line.partition(":")
        try:
            positions = [int(number) for number in numbers.split()]
        except ValueError:
            raise UserError(f"{path}: no numbers: {line!r}") from None
        if kind == "until" and len(positions) == 1:
            until = positions[0]
        elif kind in KINDS and kind != WHOLE:
            twice = sorted(set(told) & set(positions))
            if twice:
                raise UserError(f"{path}: {twice[0]} has two kinds")
            told |= dict.fromkeys(positions, kind)
        elif line.strip():
            raise UserError(f"{path}: no kind of mark: {line!r}")
    if not 0 < until <= len(session.order) or any(not 0 <= position < until for position in told):
        raise UserError(f"{path}: a number is not below 'until', or that is not in 1 to {len(session.order)}")
    for position in range(until):
        session.mark(position, told.get(position, WHOLE))


def keep(session: Session, name: str, table: Path = TABLE) -> int:
    """Add the marks of a folder to the table under a name: which model and seed, and the mark. How many."""
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline=""))) if table.exists() else []
    rows = [row for row in rows if row["set"] != name]
    for position, kind in sorted(session.marks.items()):
        one = session.order[position]
        real = one.source == REAL
        psi = session.psi if one.psi is None else one.psi
        rows.append(
            {
                "set": name,
                "model": session.face_set[:12] if real else session.about[one.source]["snapshot_hash"][:12],
                "psi": "" if real else f"{psi:g}",
                "number": str(one.number),
                "mark": kind,
                "again": str(int(one.again)),
            }
        )
    with replacing(table) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(session.marks)


def share(hits: int, of: int) -> str:
    """A share in percent with its 95% Wilson interval (Wilson 1927).

    >>> share(8, 64)
    '12.5% (6.5 to 22.8)'
    """
    if of == 0:
        return "–"
    low, high = (100 * end for end in binomtest(hits, of).proportion_ci(method="wilson"))
    return f"{100 * hits / of:.1f}% ({low:.1f} to {high:.1f})"


def kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Cohen's kappa (Cohen 1960): agreement beyond chance; 1 is full agreement, 0 is that of chance.

    >>> kappa([("a", "a"), ("b", "b"), ("a", "b"), ("b", "a")])
    0.0
    """
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    same = sum(one == other for one, other in pairs) / len(pairs)
    chance = sum(first[kind] * second[kind] for kind in first) / len(pairs) ** 2
    return float("nan") if chance == 1 else (same - chance) / (1 - chance)


def report(session: Session) -> str:
    """What the marks say, as Markdown. The second showing of a face counts for the agreement alone."""
    marked = [(session.order[i], kind) for i, kind in sorted(session.marks.items())]
    faults = [kind for kind in KINDS if kind != WHOLE]
    psis = ", ".join(
        f"{psi:g}" for psi in sorted({told.get("psi", session.psi) for told in session.about.values()})
    )
    lines = [
        "# Broken faces",
        "",
        f"{len(marked)} of {len(session.order)} faces marked, psi {psis}. Shares with 95% Wilson intervals.",
        "",
        f"| drawn by | faces | broken | {' | '.join(faults)} | not finite |",
        "|---" * (4 + len(faults)) + "|",
    ]
    for name in (*session.about, REAL):
        found = Counter(kind for one, kind in marked if one.source == name and not one.again)
        lost = len(session.about[name]["not_finite"]) if name in session.about else 0
        faces = sum(found.values()) + lost
        broken = faces - found[WHOLE] - found[UNSURE]
        cells = (name, str(faces), share(broken, faces), *(str(found[kind]) for kind in faults), str(lost))
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Faces that are not finite were not shown; they count as broken. Unsure ones do not.",
        "",
        agreement(session),
    ]
    for name, told in session.about.items():
        lines.append(
            f"- {name}: recipe {told['recipe']}, {told['images_seen']:,} images seen,"
            f" snapshot {told['snapshot_hash'][:12]}"
        )
    if session.unread:
        lines.append(f"- {session.unread} lines of {MARKS} are no marks and were left out")
    return "\n".join(lines) + "\n"


def agreement(session: Session) -> str:
    """How well the two marks of faces that came twice agree, in a paragraph."""
    first = {session.order[i].face: kind for i, kind in session.marks.items() if not session.order[i].again}
    pairs = [
        (first[session.order[i].face], kind)
        for i, kind in session.marks.items()
        if session.order[i].again and session.order[i].face in first
    ]
    if not pairs:
        return "No face was marked twice yet, so nothing is known of the agreement.\n"
    broken = [tuple(str(kind in (WHOLE, UNSURE)) for kind in pair) for pair in pairs]
    alike, same = (sum(one == other for one, other in way) for way in (broken, pairs))
    return (
        f"Agreement on {len(pairs)} faces marked twice: whole or broken {share(alike, len(pairs))},"
        f" kappa {kappa(broken):.2f}; the same mark {share(same, len(pairs))}, kappa {kappa(pairs):.2f}.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("prepare", help="draw faces and shuffle them")
    first.add_argument("folder")
    first.add_argument(
        "--run",
        action="append",
        nargs="+",
        required=True,
        metavar=("RUN", "PSI SEEDS"),
        help="run, snapshot or shipped, perhaps with its own psi and seeds; give several",
    )
    first.add_argument("--data", required=True, help="the face set of the real faces")
    first.add_argument("--seeds", default="0-255")
    first.add_argument("--psi", type=float, default=1.0)
    first.add_argument("--real", type=int, default=64, help="real faces mixed in")
    first.add_argument("--twice", type=int, default=64, help="generated faces that come twice")
    first.add_argument("--seed", type=int, default=0, help="of the order and of the choice of real faces")
    second = verbs.add_parser("mark", help="open the page")
    second.add_argument("folder")
    second.add_argument("--port", type=int, default=8642)
    second.add_argument("--no-open", dest="open", action="store_false", help="do not open the browser")
    third = verbs.add_parser("report", help="print what the marks say, and write it to report.md")
    third.add_argument("folder")
    fourth = verbs.add_parser("sheets", help="write numbered sheets of the faces into the folder")
    fourth.add_argument("folder")
    fifth = verbs.add_parser(
        "typed", help="take marks from a file: lines 'kind: numbers', and 'until: number'"
    )
    fifth.add_argument("folder")
    fifth.add_argument("file", type=Path)
    sixth = verbs.add_parser("keep", help=f"add the marks to {TABLE.name}: model, seed and mark, no pictures")
    sixth.add_argument("folder")
    sixth.add_argument("--name", help="of this set of marks; without it, the folder's")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "prepare":
            prepare(options)
        elif options.verb == "mark":
            mark(options)
        elif options.verb == "sheets":
            print(f"{sheets(Session(options.folder))} sheets in {options.folder}")
        elif options.verb == "typed":
            typed(Session(options.folder), options.file)
        elif options.verb == "keep":
            session = Session(options.folder)
            print(f"{keep(session, options.name or session.folder.resolve().name)} marks in {TABLE}")
        else:
            text = report(Session(options.folder))
            with replacing(Path(options.folder) / REPORT) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
            print(text, end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
