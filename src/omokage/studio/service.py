"""The studio behind the page: its models, what it draws, and what it keeps. It knows nothing of HTTP."""

import json
import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..attributes import AttributeNetwork, attribute_network
from ..errors import UserError
from ..explore.latents import write_latents
from ..explore.points import Points, joined
from ..explore.provenance import Provenance, settings_json, unpacked
from ..model import Model
from . import commands, exports, faces, uploads
from .caches import Cache
from .controls import Offered, described
from .drawing import Drawing, Drawn, Ticket
from .faces import Face, Item, Resolver
from .jobs import File, Job, Jobs
from .pictures import Pictures
from .quick import preview
from .refused import Refused, unknown
from .rolling import Critic, Draw, Roll, Rolled, critic_for, roll
from .store import MADE_BY, Store
from .uploads import Uploads

POINTS = 4 * 2**20  # bytes of points that are kept without being pinned
LATENTS = 4 * 2**20  # bytes of latent files for commands
PART = 64  # faces that are asked for at a time
FIRST, FIRST_PSI = range(24), 0.8  # the faces that a page opens with
FIRST_PAGES = 2  # of so many faces, that it asks for next
RESTORED = 64  # faces of a dropped picture that are shown
SEEN = 4 * 2**20  # bytes of documents that are remembered by their key


class Opened:
    """A model with its drawing thread."""

    def __init__(self, offered: Offered, studio: "Studio") -> None:
        self.offered, self.model = offered, offered.model
        resolver = Resolver(offered.model, studio.point, offered.directions, lambda: studio.network)
        self.drawing = Drawing(resolver)
        self._critic: Critic | None = None
        self._choosing = threading.Lock()

    def quicken(self) -> None:
        """Have previews drawn more quickly, if that is possible; takes a moment, the first time longer."""
        self.drawing.quick = preview(self.model)

    def critic(self, draw: Draw) -> Critic:
        """Says which of this model's faces are broken; chosen, with ``draw``, when it is first needed."""
        with self._choosing:
            if self._critic is None:
                self._critic = critic_for(self.model, draw)
            return self._critic

    def draw(
        self,
        wanted: Sequence[Face],
        *,
        exact: bool = False,
        channel: tuple[str, str] | None = None,
        order: int = 0,
        wait: "Waiting | None" = None,
    ) -> list[Drawn]:
        """Faces in order, drawn while the caller waits; ``wait`` can end that.

        Raises:
            Refused: as `Drawing.submit`, or it was taken back.
        """
        found: list[Drawn] = []
        for first in range(0, len(wanted), PART):
            some = wanted[first : first + PART]
            ticket = self.drawing.submit(some, exact=exact, channel=channel, order=order)
            found += ticket.result.result() if wait is None else wait.for_(self.drawing, ticket)
        return found


class Waiting:
    """Somebody who waits for drawings and may go away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gone = False
        self._now: tuple[Drawing, Ticket] | None = None

    def for_(self, drawing: Drawing, ticket: Ticket) -> list[Drawn]:
        """The result of a ticket; Refused if the one who waited has gone."""
        with self._lock:
            if not self._gone:
                self._now = drawing, ticket
        if self._gone:
            drawing.drop(ticket)
        return ticket.result.result()

    def leave(self) -> None:
        """Take back what is waited for now, and all that would come."""
        with self._lock:
            self._gone, now = True, self._now
        if now is not None:
            now[0].drop(now[1])


class Studio:
    """Everything that the server serves.

    Args:
        offered: the models, the one that is shown first at the front.
        data: the folder of the boards; None: they are forgotten at the end.

    Raises:
        UserError: two models are the same, or the boards cannot be used.
    """

    def __init__(self, offered: Sequence[Offered], data: Path | None = None) -> None:
        _check_distinct(offered)
        self.store = Store(None if data is None else data / "boards.sqlite")
        self.pictures = Pictures()
        self._points: Cache[str, Points] = Cache(POINTS, lambda point: point.values.numel() * 4 + 400)
        self._seen: Cache[str, Face] = Cache(SEEN, lambda face: 800 + 2 * len(faces.canonical(face)))
        self.latents: Cache[str, bytes] = Cache(LATENTS, len)
        self.uploads, self.jobs = Uploads(), Jobs()
        self._looking = threading.Lock()
        self._described: dict[str, list[dict[str, Any]]] = {}
        self.models = {one.id: Opened(one, self) for one in offered}

    def prepare(self) -> threading.Thread:
        """Draw what a page opens with, and make previews quicker, in a thread of its own."""

        def work() -> None:
            for opened in self.models.values():
                with suppress(Refused):  # closed meanwhile
                    first = opened.draw([Face(opened.offered.id, faces.Seed(s), FIRST_PSI) for s in FIRST])
                    self.pictures.sprite([one.pixels for one in first], wall=True)
            self.described("en")
            for opened in self.models.values():
                with suppress(UserError):  # closed meanwhile, or no detector; whoever asks is told
                    self._prepare_pages(opened)
                opened.quicken()

        thread = threading.Thread(target=work, name="studio-preparing", daemon=True)
        thread.start()
        return thread

    def _prepare_pages(self, opened: Opened) -> None:
        """Draw what it asks for next: as many pages as a window shows, with broken faces replaced."""
        start = FIRST.start
        for _ in range(FIRST_PAGES):
            asked = Roll(opened.offered.id, start, len(FIRST), FIRST_PSI, {}, {}, replace=True)
            rolled, _ = self.roll(asked, opened.draw)
            start = rolled.next

    @cached_property
    def network(self) -> AttributeNetwork:
        """The attribute network, loaded when it is first needed."""
        with self._looking:
            return attribute_network()

    def described(self, language: str) -> list[dict[str, Any]]:
        """What the page must know of each model."""
        if language not in self._described:
            self._described[language] = [
                described(opened.offered, self.chooser, language) for opened in self.models.values()
            ]
        return self._described[language]

    @property
    def chooser(self) -> AttributeNetwork | None:
        """The attribute network; None: its weights cannot be read."""
        try:
            return self.network
        except UserError:
            return None

    def close(self) -> None:
        """End the threads, delete the files of jobs, and close the boards."""
        self.jobs.close()
        for opened in self.models.values():
            opened.drawing.close()
        self.store.close()

    def opened(self, model: str) -> Opened:
        """The model of that name; Refused if it is not open."""
        found = self.models.get(model)
        if found is None:
            raise unknown("model", "This model is not open in the studio.")
        return found

    def parse(self, documents: Sequence[Any]) -> tuple[list[Face], Opened]:
        """Faces of one model, remembered by their keys.

        Raises:
            Refused: a document that makes no sense, several models, or one that is not open.
        """
        parsed = [faces.parse(document) for document in documents]
        if not parsed:
            raise Refused("faces: at least one is needed")
        opened = self.opened(parsed[0].model)
        if any(face.model != parsed[0].model for face in parsed):
            raise Refused("All faces of a request must be of one model.")
        self.remember(parsed)
        return parsed, opened

    def parse_all(self, documents: Sequence[Any]) -> list[Face]:
        """Faces, also of several models; Refused as `parse`."""
        parsed = [faces.parse(document) for document in documents]
        for face in parsed:
            self.opened(face.model)
        return parsed

    def remember(self, parsed: Sequence[Face]) -> None:
        """Know these faces by their keys from now on."""
        for face in parsed:
            self._seen.put(faces.key(face), face)

    def seen(self, key: str) -> Face:
        """The face with that key that was drawn or pinned; Refused if it is not known."""
        found = self._seen.get(key)
        if found is None:
            for board in self.store.boards():
                for pin in self.store.state(board["id"]).pins:
                    if pin.key == key:
                        return faces.parse(pin.face)
            raise unknown("face", "This face is not known here; draw it first.")
        return found

    def roll(self, asked: Roll, draw: Draw) -> tuple[Rolled, list[Drawn]]:
        """A page of new faces and their pictures; errors are those of `omokage.studio.rolling.roll`."""
        opened = self.opened(asked.model)
        rolled = roll(
            opened.model,
            asked,
            draw,
            critic=opened.critic(draw) if asked.replace else None,
            network=self.chooser if asked.wanted else None,
            directions=opened.offered.directions,
        )
        return rolled, list(draw(rolled.faces)) if rolled.faces else []

    # Points.

    def point(self, hash_: str) -> Points | None:
        """A kept point; None: it is not known."""
        found = self._points.get(hash_)
        if found is None and (told := self.store.point(hash_)) is not None:
            found = faces.unpacked_point(told)
            self._points.put(hash_, found)
        return found

    def keep_point(self, point: Points) -> str:
        """Keep a point for a while; returns its hash."""
        plain = Points(w=point.w) if point.w is not None else Points(z=point.z)
        hash_ = faces.hash_of(plain)
        self._points.put(hash_, plain)
        return hash_

    def packed_points(self, face: Face) -> Mapping[str, Any]:
        """All points that a face needs, packed for the store; Refused if one is no longer known."""
        found = {}
        for hash_ in faces.points_in(face):
            point = self.point(hash_)
            if point is None:
                raise unknown("point", "This face's point is no longer known, so it cannot be pinned.")
            found[hash_] = faces.packed_point(point)
        return found

    def flatten(self, face: Face) -> Face:
        """A face with the same picture that is not nested."""
        if isinstance(face.base, faces.Seed):
            return face
        opened = self.opened(face.model)
        (point,) = opened.drawing.points([face])
        flat = faces.flattened(opened.model, face, point)
        self.keep_point(point)
        return flat

    # Files.

    def items(
        self,
        wanted: Sequence[Face],
        names: Sequence[str] = (),
        notes: Sequence[str] = (),
        job: Job | None = None,
    ) -> list[Item]:
        """Faces, also of several models, with their exact pictures."""
        found: list[Item] = []
        for number, face in enumerate(wanted):
            if job is not None:
                job.check()
            opened = self.opened(face.model)
            (drawn,) = opened.draw([face], exact=True)
            found.append(self._item(opened.model, face, drawn, _at(names, number), _at(notes, number)))
        return found

    def _item(self, model: Model, face: Face, drawn: Drawn | None, name: str = "", note: str = "") -> Item:
        (point,) = self.opened(face.model).drawing.points([face])
        pixels = np.zeros((*model.resolution, 3), np.uint8) if drawn is None else drawn.pixels
        return Item(
            face,
            model,
            point,
            faces.item_settings(model, face),
            pixels,
            drawn is None or drawn.finite,
            name or faces.kind_of(face),
            note,
        )

    def png(self, key: str) -> bytes:
        """A face that has been drawn or pinned as an exact picture with its recipe."""
        items = self.items([self.seen(key)])
        with tempfile.TemporaryDirectory(prefix="omokage-studio-") as folder:
            return exports.write("png", items, folder).path.read_bytes()

    def export(self, asked: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """The file of an export, made within a job. ``asked``: of `omokage.studio.bodies.Export`."""
        board, names, notes, text = asked.get("board"), list[str](), list[str](), None
        wanted = [faces.parse(one) for one in asked["faces"]]
        name = asked["name"]
        if board is not None:
            state = self.store.state(board)
            name = name or state.name
            text = self._board_text(board)
            if not wanted:
                wanted = [faces.parse(pin.face) for pin in state.pins]
                notes = [pin.note for pin in state.pins]
        if asked["kind"] == "board":
            wanted = []
        job.report(0, None, "drawing")
        made = exports.write(
            asked["kind"],
            self.items(wanted, names, notes, job),
            job.folder,
            name=name,
            notes=asked["notes"],
            scale=asked["scale"],
            transparent=asked["transparent"],
            format=asked["format"],
            recipe=asked["recipe"],
            seconds=asked["seconds"],
            loop=asked["loop"],
            size=asked["size"],
            language=asked["language"],
            board=text,
            progress=job,
        )
        job.files[made.path.name] = File(made.path, made.media_type)
        return {
            "file": f"/files/{job.id}/{quote(made.path.name)}",
            "bytes": made.path.stat().st_size,
            "told": list(made.told),
        }

    def _board_text(self, board: str) -> bytes:
        state = self.store.state(board)
        numbers = {pin.id: number for number, pin in enumerate(state.pins)}
        points: dict[str, Any] = {}
        pins = []
        for pin in state.pins:
            points |= self.packed_points(faces.parse(pin.face))
            pins.append(
                {
                    "face": pin.face,
                    "note": pin.note,
                    "favourite": pin.favourite,
                    "parents": [numbers[parent] for parent in pin.parents if parent in numbers],
                    "made_by": pin.made_by,
                }
            )
        return exports.board_text(state.name, pins, points)

    def bring_board(self, data: bytes) -> dict[str, Any]:
        """A new board with what an untrusted board file has."""
        told = exports.read_board(data)
        points = {}
        for hash_, point in told["points"].items():
            if faces.hash_of(faces.unpacked_point(point)) != faces.checked_hash(hash_):
                raise Refused("This board file is damaged: a point does not fit its name.")
            points[hash_] = point
        ids = [secrets.token_hex(8) for _ in told["pins"]]
        pins = []
        for id_, pin in zip(ids, told["pins"], strict=True):
            face = faces.parse(pin["face"])
            if missing := set(faces.points_in(face)) - set(points):
                raise Refused(f"This board file is damaged: it lacks {len(missing)} of its points.")
            pins.append(
                {
                    "id": id_,
                    "face": faces.document(face),
                    "key": faces.key(face),
                    "note": pin["note"],
                    "favourite": pin["favourite"],
                    "parents": [ids[number] for number in pin["parents"]],
                    "made_by": pin["made_by"] if pin["made_by"] in MADE_BY else "import",
                }
            )
        return self.store.create(told["name"], None, pins, points)

    # How a face was made.

    def describe(self, face: Face) -> dict[str, Any]:
        """A face's making in lines, its parents, and its recipe."""
        item = self._item(self.opened(face.model).model, face, None)
        told = faces.recipe([item])
        lines = [f"{name}: {value}" for name, value in told.lines() if name not in ("kind", "studio")]
        return {
            "lines": [f"made: {faces.kind_of(face)}", *lines],
            "parents": [faces.document(one) for one in face.inner],
            "recipe": json.loads(told.text()["omokage"]),
        }

    def command(self, action: str, wanted: Sequence[Face], name: str) -> dict[str, Any]:
        """The command that repeats something, and the files that it needs."""
        opened = self.opened(wanted[0].model)
        line = commands.command(opened.offered, action, wanted, name=name, directions=opened.offered.place)
        if not line.latents:
            return {"command": line.text, "files": []}
        url = self._latent_file(opened, line.latents)
        return {"command": line.text, "files": [{"name": line.name, "url": url}]}

    def _latent_file(self, opened: Opened, wanted: Sequence[Face]) -> str:
        stacks = [
            Points(w=point.w) if point.w is not None else point for point in opened.drawing.points(wanted)
        ]
        names = [faces.kind_of(face) for face in wanted]
        settings = faces.drawing_settings(opened.model, wanted[0])
        with tempfile.TemporaryDirectory(prefix="omokage-studio-") as folder:
            file = write_latents(
                Path(folder) / "face.safetensors",
                joined(stacks),
                names,
                opened.model.about,
                origins=[{"name": name} for name in names],
                settings=settings,
            )
            data = file.read_bytes()
        name = faces.hash_bytes(data)
        self.latents.put(name, data)
        return f"/latents/{name}.safetensors"

    # Drawings and pictures that are brought.

    def restored(self, told: Provenance) -> dict[str, Any]:
        """The faces of one of Omokage's own pictures, as documents, and how it was made."""
        opened = self.models.get(told.about.snapshot_hash[: faces.ID])
        here = opened is not None and opened.model.snapshot_hash == told.about.snapshot_hash
        found: list[dict[str, Any]] = []
        if here:
            assert opened is not None
            try:
                found = self._documents(opened, told)
            except (ValueError, TypeError, KeyError, UserError):
                found = []
        lines = [f"{name}: {value}" for name, value in told.lines() if name != "studio"]
        return {
            "faces": found,
            "settings": settings_json(told.settings),
            "lines": lines[:200],
            "model_here": here,
        }

    def _documents(self, opened: Opened, told: Provenance) -> list[dict[str, Any]]:
        model, plain = opened.model, told.settings
        model.check(plain)
        own = told.arguments.get("studio")
        written = own if isinstance(own, list) and len(own) == len(told.faces) else [None] * len(told.faces)
        found: list[dict[str, Any]] = []
        for row, (entry, document) in enumerate(zip(told.faces, written, strict=True)):
            if len(found) == RESTORED:
                break
            psi = plain.psi[row] if isinstance(plain.psi, tuple) else plain.psi
            settings = {
                name: value for name in faces.MADE_WITH if (value := getattr(plain, name)) is not None
            }
            plainly: dict[str, Any] = {"model": opened.offered.id, "settings": settings, "psi": psi}
            plainly["conditions"] = dict(plain.conditions)
            if "seed" in entry:
                plainly["from"] = {"seed": int(entry["seed"])}
            else:
                plainly["from"] = {"point": self._entry_point(opened, entry)}
                if "w" in entry:  # psi and conditions are in it
                    plainly |= {"psi": 1.0, "conditions": {}}
            face = faces.parse(plainly)
            if document is not None:
                written_face = faces.parse(document)
                known = all(self.point(point) is not None for point in faces.points_in(written_face))
                face = written_face if known and written_face.model == opened.offered.id else face
            found.append(faces.document(face))
        return found

    def _entry_point(self, opened: Opened, entry: Mapping[str, Any]) -> str:
        space = "w" if "w" in entry else "z"
        values = unpacked(entry[space], faces.shape_of(opened.model, space))[None]
        return self.keep_point(Points(w=values) if space == "w" else Points(z=values))

    def invert(self, upload: str, box: Mapping[str, float] | None, model: str, job: Job) -> dict[str, Any]:
        """Find the face for a drawing, within a job that shows the steps."""
        opened = self.opened(model)
        brought = self.uploads.get(upload)

        def watch(pixels: np.ndarray) -> None:
            job.tell("picture", {"url": self.pictures.sprite([pixels], wall=False).url})

        found = uploads.search(brought, box, opened.model, watch=watch, progress=job)
        point = self.keep_point(found.point)
        face = Face(opened.offered.id, faces.Kept(point))
        return {
            "face": faces.document(face),
            "fit": {"words": found.words, "share": found.share},
            "nearest": self.pictures.sprite([found.face], wall=False).url,
            "before": self.pictures.sprite([found.picture], wall=False).url,
        }


def _check_distinct(offered: Sequence[Offered]) -> None:
    """Raise UserError for a model that is given twice."""
    seen: dict[str, str] = {}
    for one in offered:
        if one.id in seen:
            raise UserError(f"{one.source} and {seen[one.id]} are the same model; give it once")
        seen[one.id] = one.source


def _at(texts: Sequence[str], number: int) -> str:
    return texts[number] if number < len(texts) else ""
