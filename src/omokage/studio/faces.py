"""Face documents: how page, log and board files write down a face, and the points that they mean.

A document says where a face comes from (a seed, two faces mixed, a place between faces, a variation, or a
point that the server keeps), then its truncation, its edits along directions, and what these must keep. The
same document always gives the same picture. `key` is its name.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..abilities import HasStyles, Truncates
from ..attributes import AttributeNetwork
from ..explore.directions import Directions, apply
from ..explore.mixing import mixed_styles, parse_choices
from ..explore.points import Points, Space, default_space, of_seeds
from ..explore.provenance import Provenance, packed, settings_of, unpacked
from ..explore.steering import Want, steer
from ..explore.traversal import average_style
from ..explore.walks import slerp
from ..model import Model
from ..settings import NOISE, SAMPLER, Settings
from .refused import Refused, unknown

MOST_DEEP = 12
MOST_BYTES = 16 * 2**10
MOST_FACES = 16  # that one face is between
MOST_STEPS = 20.0  # along a direction
MOST_NUMBERS = 2**22  # of a point
ID = 12  # hexadecimal digits of a snapshot's hash that name a model
# Settings of a document, beside psi: those that a point is drawn with, and those that it is made with.
DRAWN_WITH = ("noise", "guidance", "jacobi", "sampler", "sampler_steps")
MADE_WITH = (*DRAWN_WITH, "layers", "critic")
WORDS = {"noise": NOISE, "sampler": SAMPLER}  # those whose values are words
HEX = frozenset("0123456789abcdef")
PLAIN = Settings()


@dataclass(frozen=True)
class Seed:
    """The face of a seed."""

    seed: int


@dataclass(frozen=True)
class Mix:
    """Face ``a`` with some layers of face ``b``; ``layers``: "coarse", "middle", "fine" or like "1-3,8"."""

    a: "Face"
    b: "Face"
    layers: str


@dataclass(frozen=True)
class Between:
    """A place between faces; the weights are 0 or more and sum to 1."""

    faces: tuple["Face", ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Near:
    """A variation of a face in the direction of ``seed``; ``distance``: 0 the face itself, 1 unrelated."""

    face: "Face"
    seed: int
    distance: float


@dataclass(frozen=True)
class Kept:
    """A point that the server keeps, by its hash; see `hash_of`."""

    point: str


Base = Seed | Mix | Between | Near | Kept


@dataclass(frozen=True)
class Face:
    """A face document, checked.

    Attributes:
        model: the first digits of the snapshot's hash.
        base: where the face comes from.
        psi: truncation of that.
        settings: others than psi, by name; those left out have their defaults.
        conditions: values by the name of a condition.
        edits: steps along directions, by name.
        keep: attributes that the edits must not change.
    """

    model: str
    base: Base
    psi: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, float] = field(default_factory=dict)
    keep: tuple[str, ...] = ()

    @property
    def seed(self) -> int | None:
        """The seed, if the face is that of a seed, edited or not."""
        return self.base.seed if isinstance(self.base, Seed) else None

    @property
    def inner(self) -> tuple["Face", ...]:
        """The faces that it is made from."""
        match self.base:
            case Mix(a, b):
                return a, b
            case Between(faces):
                return faces
            case Near(face):
                return (face,)
        return ()

    @property
    def sampling(self) -> Settings:
        """The settings that it is sampled with, if it is a seed's."""
        return settings_of({**self.settings, "psi": self.psi, "conditions": dict(self.conditions)})


# From JSON and back.


def parse(document: Any) -> Face:
    """The face of a document.

    Raises:
        Refused: something else, with one sentence that says what is wrong; "too_deep" for a document that is
            nested too deep or too large.

    >>> parse({"model": "0" * 12, "from": {"seed": 17}, "psi": 0.7}).seed
    17
    """
    if _depth(document) > MOST_DEEP:
        raise Refused(f"a face may be nested {MOST_DEEP} deep; flatten its inner faces", "too_deep")
    face = _face(document)
    if len(canonical(face)) > MOST_BYTES:
        raise Refused(f"a face's document may have {MOST_BYTES:,} bytes; flatten it", "too_deep")
    return face


def _depth(document: Any) -> int:
    """How deep documents are nested; stops counting a little beyond `MOST_DEEP`."""
    level, depth = [document], 0
    while level and depth <= MOST_DEEP:
        depth += 1
        bases = [one.get("from") for one in level if isinstance(one, dict)]
        level = []
        for base in bases:
            if isinstance(base, dict):
                for name in ("mix", "between", "near"):
                    inner = base.get(name)
                    level += inner if isinstance(inner, list) else [inner] if inner is not None else []
    return depth


def _face(document: Any) -> Face:
    if not isinstance(document, dict):
        raise Refused('a face is an object like {"model": "…", "from": {"seed": 17}}')
    known = {"model", "from", "psi", "settings", "conditions", "edits", "keep"}
    if other := set(document) - known:
        raise Refused(f"a face has no {_shown(min(map(str, other)))}; it has {', '.join(sorted(known))}")
    model = document.get("model")
    if not isinstance(model, str) or len(model) != ID or not HEX.issuperset(model):
        raise Refused(f"model: {ID} hexadecimal digits are needed")
    settings = _mapping(document, "settings")
    for name, value in settings.items():
        if name not in MADE_WITH:
            raise Refused(f"settings: there is no {_shown(name)}; there are {', '.join(MADE_WITH)}")
        if name in WORDS:
            if value not in WORDS[name].choices:
                raise Refused(f"{name}: {WORDS[name].allowed}")
        else:
            whole = name not in ("guidance", "critic")
            _number(value, name, int(name == "critic"), 65_536, whole=whole)
    conditions = _mapping(document, "conditions")
    if not all(map(_is_word, conditions.values())):
        raise Refused("conditions: values are words")
    edits = _mapping(document, "edits")
    keep = document.get("keep", [])
    if not isinstance(keep, list) or len(keep) > 32 or not all(map(_is_word, keep)):
        raise Refused("keep: a list of attributes is needed")
    face = Face(
        model,
        _base(document.get("from")),
        float(_number(document.get("psi", 1.0), "psi", -2, 2)),
        settings,
        dict(sorted(conditions.items())),
        {
            name: float(number)
            for name, steps in sorted(edits.items())  # sums in another order differ in the last digit
            if (number := _number(steps, f"edits: {_shown(name)}", -MOST_STEPS, MOST_STEPS)) != 0
        },
        tuple(sorted(set(keep))),
    )
    if any(inner.model != model for inner in face.inner):
        raise Refused("faces of different models cannot be combined")
    return face


def _mapping(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = document.get(name, {})
    if not isinstance(given, dict) or len(given) > 64 or not all(_is_word(key) for key in given):
        raise Refused(f"{name}: an object with at most 64 names is needed")
    return given


def _is_word(value: Any) -> bool:
    """Whether a value is text that can be written anywhere: printable, so no half of a surrogate pair."""
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()


def _number(value: Any, name: str, low: float, high: float, whole: bool = False) -> float | int:
    kinds = (int,) if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise Refused(f"{name}: a {kind} from {low:,g} to {high:,g} is needed")
    return value


def _seed(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Refused("a seed is a whole number from 0 to 2**63 - 1")
    return value


def _shown(name: object) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(name)[:40].encode("utf-8", "replace").decode())
    return f'"{text}"'


def _base(base: Any) -> Base:
    shapes = {
        frozenset({"seed"}),
        frozenset({"mix", "layers"}),
        frozenset({"between", "weights"}),
        frozenset({"near", "seed", "distance"}),
        frozenset({"point"}),
    }
    if not isinstance(base, dict) or frozenset(base) not in shapes:
        raise Refused(
            "from: seed, mix with layers, between with weights, near with seed and distance, or point"
        )
    if "near" in base:
        distance = _number(base["distance"], "distance", 0, 1)
        return Near(_face(base["near"]), _seed(base["seed"]), float(distance))
    if "seed" in base:
        return Seed(_seed(base["seed"]))
    if "point" in base:
        return Kept(checked_hash(base["point"]))
    if "mix" in base:
        pair, layers = base["mix"], base["layers"]
        if not isinstance(pair, list) or len(pair) != 2:
            raise Refused("mix: two faces are needed")
        if not _is_word(layers):
            raise Refused("layers: coarse, middle, fine, or numbers like 1-3,8")
        return Mix(_face(pair[0]), _face(pair[1]), layers)
    faces, weights = base["between"], base["weights"]
    if not isinstance(faces, list) or not isinstance(weights, list) or not 1 <= len(faces) <= MOST_FACES:
        raise Refused(f"between: 1 to {MOST_FACES} faces are needed, and a weight for each")
    given = tuple(float(_number(weight, "weights", 0, 1)) for weight in weights)
    if len(given) != len(faces) or abs(sum(given) - 1) > 1e-3:
        raise Refused("weights: one for each face, and they sum to 1")
    return Between(tuple(_face(face) for face in faces), given)


def checked_hash(text: Any) -> str:
    """A hash of 64 hexadecimal digits; Refused if it is none."""
    if not isinstance(text, str) or len(text) != 64 or not HEX.issuperset(text):
        raise Refused("point: 64 hexadecimal digits are needed")
    return text


def document(face: Face) -> dict[str, Any]:
    """The document of a face, with all defaults left out.

    >>> document(parse({"model": "0" * 12, "from": {"seed": 17}, "psi": 1.0, "edits": {"hair=blue": 0}}))
    {'model': '000000000000', 'from': {'seed': 17}}
    """
    base: dict[str, Any]
    match face.base:
        case Seed(seed):
            base = {"seed": seed}
        case Mix(a, b, layers):
            base = {"mix": [document(a), document(b)], "layers": layers}
        case Between(faces, weights):
            base = {"between": [document(one) for one in faces], "weights": [_short(w) for w in weights]}
        case Near(inner, seed, distance):
            base = {"near": document(inner), "seed": seed, "distance": _short(distance)}
        case Kept(point):
            base = {"point": point}
    settings = {name: _short(value) for name, value in face.settings.items() if value != getattr(PLAIN, name)}
    told = {
        "model": face.model,
        "from": base,
        "psi": _short(face.psi),
        "settings": settings,
        "conditions": dict(face.conditions),
        "edits": {name: _short(steps) for name, steps in face.edits.items()},
        "keep": list(face.keep) if face.edits else [],
    }
    return {
        name: value
        for name, value in told.items()
        if value not in ({}, []) and not (name == "psi" and value == 1)
    }


def _short(value: Any) -> Any:
    """A number in its shortest form: 2.0 is 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def canonical(face: Face) -> str:
    """The document as JSON in its one form: sorted keys, no blanks, no defaults, shortest numbers."""
    return json.dumps(document(face), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key(face: Face) -> str:
    """SHA-256 of the canonical document: the name of a face.

    >>> one, other = ({"model": "0" * 12, "from": {"seed": 3}, "psi": psi} for psi in (2, 2.0))
    >>> key(parse(one)) == key(parse(other))
    True
    """
    return hashlib.sha256(canonical(face).encode()).hexdigest()


def points_in(face: Face) -> list[str]:
    """The hashes of all points that a face needs."""
    own = [face.base.point] if isinstance(face.base, Kept) else []
    return own + [point for inner in face.inner for point in points_in(inner)]


def hash_bytes(data: bytes) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(data).hexdigest()


# Points that the server keeps.


def hash_of(points: Points) -> str:
    """The name of a single point: SHA-256 of its space, shape and float32 coordinates."""
    values = np.ascontiguousarray(points.values[0].numpy(), "<f4")
    about = f"{points.space} {'x'.join(map(str, values.shape))} ".encode()
    return hashlib.sha256(about + values.tobytes()).hexdigest()


def packed_point(points: Points) -> dict[str, Any]:
    """A single point as JSON: its space and its exact coordinates."""
    return {"space": points.space, "packed": packed(points.values[0])}


def unpacked_point(told: Any) -> Points:
    """The point that `packed_point` wrote.

    Raises:
        Refused: damaged.
    """
    try:
        space, shape = told["space"], [int(side) for side in told["packed"]["shape"]]
        if space not in ("z", "w") or not 1 <= len(shape) <= 4 or not 0 < math.prod(shape) <= MOST_NUMBERS:
            raise ValueError("no such space or shape")
        if min(shape) < 1:
            raise ValueError("no such shape")
        values = unpacked(told["packed"], shape)[None]
    except (ValueError, TypeError, KeyError, OverflowError):
        raise Refused("A point of this board is damaged.") from None
    return Points(z=values) if space == "z" else Points(w=values)


def shape_of(model: Model, space: str) -> tuple[int, ...]:
    """The shape of one point; UserError for w of a family without styles."""
    if space == "z":
        return tuple(model.latent_shape)
    return tuple(average_style(model).shape[1:])


# Points of documents.


@dataclass(frozen=True)
class Resolver:
    """Finds the points of faces of one model.

    Attributes:
        model: the model.
        kept: gives a kept point by its hash, or None.
        directions: along which faces are edited; None: there are none.
        network: gives the attribute network, for faces that keep attributes.
    """

    model: Model
    kept: Callable[[str], Points | None] = lambda _: None
    directions: Directions | None = None
    network: Callable[[], AttributeNetwork] | None = None

    @property
    def space(self) -> Space:
        """Where faces are edited and combined."""
        return default_space(self.model)

    def points(self, faces: Sequence[Face]) -> list[Points]:
        """The point of each face, with edits applied: stacks of one.

        Raises:
            Refused, UserError: a face that this model cannot draw, or a point that is not known.
        """
        seeds = self._seeds(faces)
        return [self._point(face, seeds) for face in faces]

    def _seeds(self, faces: Sequence[Face]) -> dict[tuple[Any, ...], Points]:
        """The points of all seeds in the documents; those with the same settings are found together."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for face in _all(faces):
            if isinstance(face.base, Seed):
                groups.setdefault(_group(face), []).append(face.base.seed)
        found: dict[tuple[Any, ...], Points] = {}
        for group, seeds in groups.items():
            own = self._settings(*group)
            self.model.check(own)
            stack = of_seeds(self.model, seeds, own, self.space)
            found |= {(group, seed): stack[[row]] for row, seed in enumerate(seeds)}
        return found

    def _settings(
        self, psi: float, layers: int, conditions: tuple[tuple[str, str], ...], critic: float = 1.0
    ) -> Settings:
        return Settings(psi=psi, layers=layers, conditions=dict(conditions), critic=critic)

    def _point(self, face: Face, seeds: Mapping[tuple[Any, ...], Points]) -> Points:
        match face.base:
            case Seed(seed):
                point = seeds[_group(face), seed]
            case Kept(hash_):
                known = self.kept(hash_)
                if known is None:
                    raise unknown("point", "This face's point is no longer known; it was not pinned.")
                point = self._truncated(self._fitting(known), face)
            case Mix(a, b, layers):
                self.model.require(HasStyles)
                chosen = [i for choice in parse_choices(self.model, layers) for i in choice.layers]
                one, other = self._point(a, seeds), self._point(b, seeds)
                assert one.w is not None
                assert other.w is not None
                point = self._truncated(Points(w=mixed_styles(one.w, other.w, chosen)), face)
            case Between(faces, weights):
                inner = [self._point(one, seeds) for one in faces]
                point = self._truncated(_between(inner, weights), face)
            case Near(inner_face, seed, distance):
                own = self._point(inner_face, seeds)
                point = self._truncated(self._near(own, inner_face, seed, distance), face)
        return self._edited(point, face)

    def _fitting(self, point: Points) -> Points:
        if point.space != self.space or tuple(point.values.shape[1:]) != shape_of(self.model, point.space):
            raise Refused("This point is of another model.")
        return point

    def _truncated(self, point: Points, face: Face) -> Points:
        if face.psi == 1:
            return point
        own = self._settings(face.psi, int(face.settings.get("layers", 0)), tuple(face.conditions.items()))
        self.model.check(own)
        if point.w is None:
            assert point.z is not None
            return Points(z=point.z, psi=(point.psi[0] * face.psi,))
        w = average_style(self.model, replace(own, psi=1.0, layers=0)).lerp(point.w, face.psi)
        if own.layers:
            w = torch.cat([w[:, : own.layers], point.w[:, own.layers :]], 1)
        return Points(w=w)

    def _near(self, point: Points, face: Face, seed: int, distance: float) -> Points:
        """The point turned towards an unrelated one: on a circle, so that it stays as typical as it was."""
        angle = distance * math.pi / 2
        own = Settings(psi=daring(face), conditions=dict(face.conditions))
        if point.w is None:
            assert point.z is not None
            other = of_seeds(self.model, [seed], PLAIN, "z").z
            assert other is not None
            return Points(z=_turned(point.z, other, angle), psi=point.psi)
        other = of_seeds(self.model, [seed], own, "w").w
        assert other is not None
        average = average_style(self.model, replace(own, psi=1.0))
        return Points(w=average + _turned(point.w - average, other - average, angle))

    def _edited(self, point: Points, face: Face) -> Points:
        if not face.edits:
            return point
        if self.directions is None:
            raise Refused("This model has no directions, so its faces cannot be steered.", "lacks")
        if not face.keep:
            return apply(point, face.edits, self.directions)
        if self.network is None:
            raise Refused("Nothing can be kept here: the network that sees attributes is missing.", "lacks")
        wants = [Want(name, steps=steps) for name, steps in face.edits.items()]
        settings = drawing_settings(self.model, face)
        steered = steer(
            self.model, self.network(), point, wants, self.directions, keep=face.keep, settings=settings
        )
        return steered.points


def _all(faces: Sequence[Face]) -> Iterator[Face]:
    for face in faces:
        yield face
        yield from _all(face.inner)


def _group(face: Face) -> tuple[Any, ...]:
    layers, critic = int(face.settings.get("layers", 0)), float(face.settings.get("critic", 1))
    return face.psi, layers, tuple(sorted(face.conditions.items())), critic


def _turned(one: torch.Tensor, other: torch.Tensor, angle: float) -> torch.Tensor:
    return math.cos(angle) * one + math.sin(angle) * other


def _between(points: Sequence[Points], weights: Sequence[float]) -> Points:
    """Between two points as `omokage.explore.walks.at_places` goes; further ones are met in their order.

    Straight in w, on the sphere in z. A face of weight 0 has no influence; one of weight 1 is met exactly.
    """
    found, total = points[0], 0.0
    for point, weight in zip(points, weights, strict=True):
        if weight <= 0:
            continue
        if total == 0:
            found, total = point, weight
            continue
        total += weight
        t = weight / total
        if found.space == "w":
            found = Points(w=found.values.lerp(point.values, t))
        else:
            psi, other = found.psi[0], point.psi[0]
            values = slerp(found.values, point.values, t)
            found = Points(z=values, psi=(psi if psi == other else psi + (other - psi) * t,))
    return found


def daring(face: Face) -> float:
    """The truncation of a face all in all: psi times that of the faces that it is made from.

    >>> daring(parse({"model": "0" * 12, "psi": 0.5, "from": {"near": {"model": "0" * 12, "psi": 0.8,
    ...     "from": {"seed": 3}}, "seed": 1, "distance": 0.2}}))
    0.4
    """
    inner = [daring(one) for one in face.inner]
    return face.psi * (sum(inner) / len(inner) if inner else 1.0)


def drawing_settings(model: Model, face: Face) -> Settings:
    """The settings that a face's point is drawn with. psi is the point's own; so are conditions in w."""
    given = {name: face.settings[name] for name in DRAWN_WITH if name in face.settings}
    if not model.can(HasStyles):
        given["conditions"] = dict(_conditions(face))
    settings = settings_of(given)
    model.check(settings)
    return settings


def _conditions(face: Face) -> Mapping[str, str]:
    """In z, those of the face, or else of the first face that it is made from and that has some."""
    if face.conditions:
        return face.conditions
    return next((found for inner in face.inner if (found := _conditions(inner))), {})


def flattened(model: Model, face: Face, point: Points) -> Face:
    """A face with the same picture that is not nested: its point, which must be kept under `hash_of`."""
    settings = {name: face.settings[name] for name in DRAWN_WITH if name in face.settings}
    psi = point.psi[0] if point.w is None else 1.0
    conditions = {} if model.can(HasStyles) else dict(_conditions(face))
    return Face(face.model, Kept(hash_of(point)), psi, settings, conditions)


def changed(model: Model, face: Face, what: str, value: float | str) -> Face:
    """A face with one thing changed: psi, another setting, a condition, the seed, or steps along a direction.

    Raises:
        Refused: a value that does not fit.
    """
    told = document(face)
    if what == "psi":
        told["psi"] = value
    elif what == "seed" and face.seed is not None:
        told["from"] = {"seed": _short(value)}
    elif what in MADE_WITH:
        told["settings"] = {**told.get("settings", {}), what: _short(value)}
    elif what in model.conditions:
        told["conditions"] = {**told.get("conditions", {}), what: value}
    else:
        told["edits"] = {**told.get("edits", {}), what: value}
    return parse(told)


def alike(model: Model, point: Points, settings: Settings) -> tuple[Any, ...]:
    """Points with the same value are drawn in one batch; ``settings``: of `drawing_settings`."""
    conditions = tuple(sorted(settings.conditions.items()))
    own_psi = model.can(Truncates) or bool(model.conditions)  # then each psi takes a run of the whole batch
    psi = point.psi[0] if own_psi and point.w is None else None
    return *(getattr(settings, name) for name in DRAWN_WITH), conditions, psi


# Faces for files.


@dataclass(frozen=True)
class Item:
    """A face with its exact picture, for files.

    Attributes:
        face: its document.
        model: the model that drew it.
        points: its point, a stack of one.
        settings: of sampling for a seed without edits; any other is drawn from its point with them.
        pixels: uint8 (H, W, 3).
        finite: whether its values were finite; it is black where they were not.
        name, note: the user's words.
    """

    face: Face
    model: Model
    points: Points
    settings: Settings
    pixels: np.ndarray
    finite: bool = True
    name: str = ""
    note: str = ""

    @property
    def plain(self) -> bool:
        """Whether seed and settings alone give the face."""
        return is_plain(self.face)

    @property
    def caption(self) -> str:
        """Its name, or in a few words where it comes from."""
        return self.name or kind_of(self.face)


def item_settings(model: Model, face: Face) -> Settings:
    """The settings of an `Item`."""
    return face.sampling if is_plain(face) else drawing_settings(model, face)


def is_plain(face: Face) -> bool:
    """Whether seed and settings alone give the face."""
    return face.seed is not None and not face.edits


def kind_of(face: Face) -> str:
    """In a few words where a face comes from.

    >>> kind_of(parse({"model": "0" * 12, "from": {"seed": 3}, "edits": {"hair=blue": 2}}))
    'seed 3, hair blue +2'
    """
    match face.base:
        case Seed(seed):
            words = f"seed {seed}"
        case Mix(a, b, layers):
            words = f"{kind_of(a)} with {layers} of {kind_of(b)}"
        case Between(faces):
            words = f"between {' and '.join(kind_of(one) for one in faces)}"
        case Near(inner):
            words = f"variation of {kind_of(inner)}"
        case Kept():
            words = "kept face"
    steps = "".join(f", {name.replace('=', ' ')} {number:+g}" for name, number in face.edits.items())
    words += steps
    return words if len(words) <= 120 else words[:119] + "…"


def recipe(
    items: Sequence[Item], kind: str = "face", arguments: Mapping[str, Any] | None = None
) -> Provenance:
    """The recipe of a picture of faces of one model, with their documents, from which the page restores them.

    Faces that are seeds with the same settings are written as seeds, all others with their coordinates.
    """
    first = items[0]
    plain = all(item.plain for item in items)
    seeds = plain and len({repr(replace(item.settings, psi=1.0)) for item in items}) == 1
    space, entries, psis = first.points.space, list[dict[str, Any]](), list[float]()
    for item in items:
        if seeds:
            entries.append({"seed": item.face.seed})
            psis.append(item.face.psi)
        else:
            entries.append({"name": item.caption, space: packed(item.points.values[0])})
            psis.append(item.points.psi[0] if space == "z" else 1.0)
    settings = first.settings if seeds else replace(first.settings, critic=1.0, layers=0)
    settings = replace(settings, psi=psis[0] if len(set(psis)) == 1 else tuple(psis))
    height, width = first.model.resolution
    told = {**(arguments or {}), "studio": [document(item.face) for item in items]}
    return Provenance(kind, first.model.about, entries, settings, told, size=(width, height))
