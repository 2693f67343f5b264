"""The drawing service: one thread for each model draws the faces of all users, in shared batches.

Rows of different users, seeds and psi stand in one batch of `omokage.sampling.BATCH`, which is padded, so
that a face is the same whatever it is drawn with. Requests of one channel replace one another: only the
latest is drawn. Small requests go first, because somebody is moving a slider.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import ReferenceType, ref

import numpy as np
import torch
from torch import Tensor

from ..explore.points import Points, images, joined
from ..model import Model
from ..sampling import BATCH, to_pixels
from ..settings import Settings
from . import faces
from .caches import Cache
from .faces import Face, Resolver
from .refused import Refused

PIXELS = 8 * 2**20  # bytes of drawn faces that are kept
POINTS = 4 * 2**20  # bytes of points that are kept
SMALL = 4  # requests of so many faces go before larger ones
MOST_WAITING = 256  # requests
MOST_ROWS = 8192  # faces of all waiting requests
MOST_CHANNELS = 4096  # whose latest order is remembered


class Quick(Protocol):
    """Draws previews, one by one; `omokage.studio.quick.Preview` does."""

    def draws(self, point: Points, settings: Settings) -> bool:
        """Whether it can draw this point with these settings."""

    def __call__(self, point: Points, settings: Settings) -> Tensor:
        """The image of a point, float (1, 3, H, W) in [-1, 1]."""


@dataclass(frozen=True)
class Drawn:
    """A face that was drawn.

    Attributes:
        key: of its document.
        pixels: uint8 (H, W, 3).
        finite: whether all values were finite; where they were not, it is black.
    """

    key: str
    pixels: np.ndarray
    finite: bool


@dataclass
class _Row:
    key: str
    point: Points
    settings: Settings
    alike: tuple[Any, ...]
    quick: bool


@dataclass(eq=False)
class Ticket:
    """A request to draw faces: `result` has them when they are drawn; `cancel` takes it back."""

    faces: Sequence[Face]
    preview: bool
    result: "Future[list[Drawn]]"
    number: int
    keys: list[str]
    found: dict[str, Drawn] = field(default_factory=dict)
    rows: list[_Row] | None = None  # those that are still to be drawn; None: points not found yet
    cancelled: bool = False
    last: bool = False  # what is being drawn just now is the rest of it

    def cancel(self, refused: Refused | None = None) -> None:
        """Take the request back. Faces that are being drawn just now are still drawn."""
        self.cancelled = True
        if not self.result.done():
            try:
                self.result.set_exception(refused or Refused("No longer wanted.", "superseded", 409))
            except Exception:  # answered in the same moment
                return


class Drawing:
    """Draws the faces of one model for everybody.

    Args:
        resolver: finds the points of documents.
        quick: draws previews; None: they are drawn as exact faces are. Requests of at most `SMALL` faces are
            previews, unless they ask for the exact way. May be set later.
    """

    def __init__(self, resolver: Resolver, quick: Quick | None = None) -> None:
        self.resolver, self.model, self.quick = resolver, resolver.model, quick
        self._pixels: Cache[tuple[str, bool], Drawn] = Cache(PIXELS, lambda one: one.pixels.nbytes + 400)
        self._points: Cache[str, Points] = Cache(POINTS, _point_bytes)
        self._waiting: list[Ticket] = []
        self._channels: OrderedDict[tuple[str, str], tuple[int, ReferenceType[Ticket]]] = OrderedDict()
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="studio-drawing", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def submit(
        self,
        wanted: Sequence[Face],
        *,
        exact: bool = False,
        channel: tuple[str, str] | None = None,
        order: int = 0,
    ) -> Ticket:
        """Have faces drawn; the ticket's result has them in order.

        ``channel``: of one user; a request with a higher ``order`` takes the place of earlier ones.

        Raises:
            Refused: "superseded" by a later request of the channel; "busy" if too much waits.
        """
        preview = not exact and self.quick is not None and len(wanted) <= SMALL
        keys = [faces.key(face) for face in wanted]
        ticket = Ticket(wanted, preview, Future(), next(self._numbers), keys)
        for key in keys:
            if (found := self._pixels.get((key, preview))) is not None:
                ticket.found[key] = found
        with self._changed:
            if channel is not None:
                self._replace(channel, order, ticket)
            if all(key in ticket.found for key in keys):
                ticket.result.set_result([ticket.found[key] for key in keys])
                return ticket
            if self._ended:
                raise Refused("The studio is being closed.", "busy", 429)
            rows = sum(len(one.faces) for one in self._waiting)
            if len(self._waiting) >= MOST_WAITING or rows + len(wanted) > MOST_ROWS:
                raise Refused("Too much is waiting to be drawn. Please try again in a moment.", "busy", 429)
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def _replace(self, channel: tuple[str, str], order: int, ticket: Ticket) -> None:
        latest = self._channels.pop(channel, None)
        if latest is not None and latest[0] > order:
            self._channels[channel] = latest
            raise Refused("A later request has taken its place.", "superseded", 409)
        earlier = None if latest is None else latest[1]()
        if earlier is not None and not earlier.last:
            earlier.cancel()
            if earlier in self._waiting:
                self._waiting.remove(earlier)
        self._channels[channel] = (order, ref(ticket))  # its pictures are not kept alive
        while len(self._channels) > MOST_CHANNELS:
            self._channels.popitem(last=False)

    def drop(self, ticket: Ticket) -> None:
        """Take a request back, because its client has gone."""
        with self._changed:
            ticket.cancel()
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def close(self) -> None:
        """End the thread; what waits is not drawn."""
        with self._changed:
            self._ended = True
            for ticket in self._waiting:
                ticket.cancel(Refused("The studio is being closed.", "busy", 429))
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(10)

    def points(self, wanted: Sequence[Face]) -> list[Points]:
        """The points of faces; those that take long to find are remembered."""
        keys = [faces.key(face) for face in wanted]
        known = {key: point for key in keys if (point := self._points.get(key)) is not None}
        missing = [(key, face) for key, face in zip(keys, wanted, strict=True) if key not in known]
        for (key, face), point in zip(
            missing, self.resolver.points([face for _, face in missing]), strict=True
        ):
            known[key] = point
            if face.inner or face.edits:
                self._points.put(key, point)
        return [known[key] for key in keys]

    # What follows runs in the thread.

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if self._ended:
                    return
                tickets = sorted(self._waiting, key=lambda one: (len(one.faces) > SMALL, one.number))
            try:
                self._draw_some(tickets)
            except BaseException as error:  # of a bug: whoever waits must be told, and the thread goes on
                self._finish(tickets[0], error)

    def _draw_some(self, tickets: list[Ticket]) -> None:
        """Draw one batch, with rows of as many requests as fit, the first of them first."""
        first = tickets[0]
        if not self._prepared(first):
            return
        assert first.rows
        if first.rows[0].quick:
            assert self.quick is not None
            row = first.rows[0]
            self._mark([first], {row.key})
            self._store([row], *_previewed(self.quick, row))
            return
        batch: dict[str, _Row] = {}
        for ticket in tickets:
            if len(batch) >= BATCH:
                break
            if ticket is first or self._prepared(ticket):
                for row in ticket.rows or ():
                    fits = not row.quick and row.alike == first.rows[0].alike
                    if fits and len(batch) < BATCH:
                        batch.setdefault(row.key, row)
        self._mark(tickets, set(batch))
        rows = list(batch.values())
        self._store(rows, *_drawn(self.model, rows))

    def _mark(self, tickets: list[Ticket], keys: set[str]) -> None:
        """Note whose last faces are drawn now: they are not superseded, or a quick hand would see nothing."""
        with self._changed:
            for ticket in tickets:
                ticket.last = bool(ticket.rows) and all(row.key in keys for row in ticket.rows or ())

    def _prepared(self, ticket: Ticket) -> bool:
        """Find the points of a request; False: it is done or cannot be drawn."""
        if ticket.cancelled or ticket.result.cancelled():
            self._finish(ticket)
            return False
        if ticket.rows is None:
            try:
                missing = {
                    key: face
                    for key, face in zip(ticket.keys, ticket.faces, strict=True)
                    if key not in ticket.found
                }
                ticket.rows = []
                points = self.points(list(missing.values()))
                for (key, face), point in zip(missing.items(), points, strict=True):
                    own, quick = faces.drawing_settings(self.model, face), self.quick
                    preview = ticket.preview and quick is not None and quick.draws(point, own)
                    alike = faces.alike(self.model, point, own)
                    ticket.rows.append(_Row(key, point, own, alike, preview))
            except Exception as error:
                self._finish(ticket, error)
                return False
        self._take(ticket)
        return bool(ticket.rows)

    def _store(self, rows: list[_Row], pixels: np.ndarray, finite: np.ndarray) -> None:
        """Keep what was drawn, and answer the requests that have all their faces."""
        drawn = {
            row.key: Drawn(row.key, picture.copy(), bool(whole))
            for row, picture, whole in zip(rows, pixels, finite, strict=True)
        }
        quick = rows[0].quick
        for key, one in drawn.items():
            self._pixels.put((key, quick), one)
        with self._changed:
            waiting = list(self._waiting)
        for ticket in waiting:
            if ticket.rows is not None:
                own = [row.key for row in ticket.rows if row.quick == quick]
                ticket.found |= {key: drawn[key] for key in own if key in drawn}
                self._take(ticket)

    def _take(self, ticket: Ticket) -> None:
        """Take what has been drawn in the meantime, and answer if that is all."""
        assert ticket.rows is not None
        for row in list(ticket.rows):
            found = ticket.found.get(row.key) or self._pixels.get((row.key, row.quick))
            if found is not None:
                ticket.found[row.key] = found
                ticket.rows.remove(row)
        if not ticket.rows:
            self._finish(ticket)

    def _finish(self, ticket: Ticket, error: BaseException | None = None) -> None:
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
        if ticket.result.done():
            return
        try:
            if error is not None:
                ticket.result.set_exception(error)
            elif not ticket.cancelled:
                ticket.result.set_result([ticket.found[key] for key in ticket.keys])
        except Exception:  # cancelled in the same moment
            return


def _point_bytes(point: Points) -> int:
    parts = [part for part in (point.z, point.w) if part is not None]
    return sum(part.numel() * 4 for part in parts) + 400


def _drawn(model: Model, rows: Sequence[_Row]) -> tuple[np.ndarray, np.ndarray]:
    stack = joined([_in_its_space(row.point) for row in rows])
    found = torch.cat(list(images(model, stack, rows[0].settings)))
    return to_pixels(found), found.isfinite().flatten(1).all(1).cpu().numpy()


def _in_its_space(point: Points) -> Points:
    return point if point.w is None else Points(w=point.w)


def _previewed(quick: Quick, row: _Row) -> tuple[np.ndarray, np.ndarray]:
    found = quick(_in_its_space(row.point), row.settings)
    return to_pixels(found), found.isfinite().flatten(1).all(1).numpy()
