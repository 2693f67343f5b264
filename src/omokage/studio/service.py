"""The studio behind the page: its models, what it draws, and what it keeps. It knows nothing of HTTP."""

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..attributes import AttributeNetwork, attribute_network
from ..errors import UserError
from ..explore.points import Points
from . import faces
from .caches import Cache
from .controls import Offered
from .drawing import Drawing
from .faces import Face, Resolver
from .pictures import Pictures
from .quick import quick
from .refused import unknown
from .store import Store

POINTS = 4 * 2**20  # bytes of points that are kept without being pinned
SEEN = 4 * 2**20  # bytes of documents that are remembered by their key


class Opened:
    """A model with its drawing thread."""

    def __init__(self, offered: Offered, studio: "Studio") -> None:
        self.offered, self.model = offered, offered.model
        resolver = Resolver(offered.model, studio.point, offered.directions, lambda: studio.network)
        self.drawing = Drawing(resolver, quick(offered.model))


class Studio:
    """Everything that the server serves.

    Args:
        offered: the models, the one that is shown first at the front.
        data: the folder of the boards; None: they are forgotten at the end.

    Raises:
        UserError: two models are the same, or the boards cannot be used.
    """

    def __init__(self, offered: Sequence[Offered], data: Path | None = None) -> None:
        self.store = Store(None if data is None else data / "boards.sqlite")
        self.pictures = Pictures()
        self._points: Cache[str, Points] = Cache(POINTS, lambda point: point.values.numel() * 4 + 400)
        self._seen: Cache[str, Face] = Cache(SEEN, lambda face: 800 + 2 * len(faces.canonical(face)))
        self._looking = threading.Lock()
        self.models: dict[str, Opened] = {}
        for one in offered:
            if one.id not in self.models:
                self.models[one.id] = Opened(one, self)

    @cached_property
    def network(self) -> AttributeNetwork:
        """The attribute network, loaded when it is first needed."""
        with self._looking:
            return attribute_network()

    @property
    def chooser(self) -> AttributeNetwork | None:
        """The attribute network; None: its weights cannot be read."""
        try:
            return self.network
        except UserError:
            return None

    def close(self) -> None:
        """End the threads and close the boards."""
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
        opened = self.opened(parsed[0].model)
        if any(face.model != parsed[0].model for face in parsed):
            raise faces.Refused("All faces of a request must be of one model.")
        for face in parsed:
            self._seen.put(faces.key(face), face)
        return parsed, opened

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

    # Points.

    def point(self, hash_: str) -> Points | None:
        """A kept point; None: it is not known."""
        found = self._points.get(hash_)
        if found is None and (told := self.store.point(hash_)) is not None:
            for opened in self.models.values():
                try:
                    found = faces.unpacked_point(told, opened.model)
                except UserError:
                    continue
                self._points.put(hash_, found)
                return found
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
