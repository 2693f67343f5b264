"""Steering faces along directions, choosing samples by what is seen in them, and measuring both.

Everything is judged by the attribute network, which errs. So what else changes is compared with the same
steps along a null direction, which changes no attribute on purpose: only the excess counts as leakage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from omokage.attributes import ATTRIBUTES, AttributeNetwork, Estimates, apart, known, known_value
from omokage.errors import UserError
from omokage.explore.directions import Direction, Directions, ends, moved, named
from omokage.explore.points import Points, drawn
from omokage.model import Model
from omokage.progress import Progress, Task, opened
from omokage.sampling import BATCH, sample
from omokage.settings import Settings

RUNG = 0.75  # steps between two tries
REACHED = 0.5  # probability from which a value counts as reached
KEEPING = 3  # tries to bring back an attribute that is to be kept


@dataclass(frozen=True)
class Look:
    """What is seen in N faces.

    Attributes:
        pixels: uint8 (N, H, W, 3).
        finite: bool (N,).
        estimates: of the attribute network.
        faces: float32 (N, cells, channels), for `omokage.attributes.apart`.
    """

    pixels: np.ndarray
    finite: np.ndarray
    estimates: Estimates
    faces: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def put(self, rows: np.ndarray, other: "Look") -> "Look":
        """This look with ``rows`` replaced by those of ``other``, in order."""

        def new(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
            mine = mine.copy()
            mine[rows] = theirs
            return mine

        probabilities = {
            name: new(mine, other.estimates.probabilities[name])
            for name, mine in self.estimates.probabilities.items()
        }
        return Look(
            new(self.pixels, other.pixels),
            new(self.finite, other.finite),
            Estimates(probabilities),
            new(self.faces, other.faces),
        )


def look(
    model: Model, network: AttributeNetwork, points: Points, settings: Settings, task: Task | None = None
) -> Look:
    """Draw points and see what is in them. ``task`` advances by the number of faces drawn."""
    parts, seen = [], []
    for pixels, finite in drawn(model, points, settings):
        parts.append((pixels, finite))
        seen.append(network.seen(pixels))
        if task is not None:
            task.advance(len(pixels))
    return Look(
        np.concatenate([pixels for pixels, _ in parts]),
        np.concatenate([finite for _, finite in parts]),
        Estimates.joined([estimates for estimates, _ in seen]),
        np.concatenate([faces for _, faces in seen]),
    )


@dataclass(frozen=True)
class Want:
    """One thing that faces are to become.

    Attributes:
        direction: its name, like "hair=blue" or "glasses".
        value: to go on until this value is seen; empty: go ``steps``.
        steps: how far to go, in standard deviations.
    """

    direction: str
    value: str = ""
    steps: float = 0.0

    @property
    def attribute(self) -> str:
        """The attribute that it is about; empty for a direction without labels."""
        name = self.direction.partition("=")[0]
        return name if name in ATTRIBUTES else ""

    def text(self) -> str:
        """As typed, in words.

        >>> Want("hair=blue", "blue").text(), Want("glasses", steps=-2).text()
        ('hair blue', 'glasses -2')
        """
        if self.value:
            return f"{self.attribute} {self.value}"
        return f"{self.direction.replace('=', ' ')} {self.steps:g}"


def parse_want(attribute: str, text: str) -> Want:
    """What ``--hair blue``, ``--glasses yes``, ``--glasses -2`` or ``--hair blue:1.5`` ask for.

    Raises:
        UserError: no such attribute or value, or no number.

    >>> parse_want("glasses", "-2"), parse_want("hair", "blue:1.5").steps
    (Want(direction='glasses', value='', steps=-2.0), 1.5)
    """
    about = known(attribute)
    value, colon, number = (part.strip() for part in text.partition(":"))
    if about.binary and not colon and _number(value) is not None:
        return Want(attribute, steps=_number(value) or 0.0)
    known_value(attribute, value)
    if colon:
        steps = _number(number)
        if steps is None:
            raise UserError(f"--{attribute} {text}: write a number of steps after the colon, like {value}:2")
        sign = -1.0 if about.binary and value == about.values[0] else 1.0
        return Want(named(attribute, value), steps=sign * steps)
    return Want(named(attribute, value), value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) and abs(number) <= 20 else None


@dataclass(frozen=True)
class Steered:
    """Faces after steering.

    Attributes:
        points: where they are now.
        before, after: what is seen in them.
        wants: what was asked for.
        steps: float (N, wants), how far each went along each direction.
        reached: bool (N, wants); a want in steps counts as reached.
        kept: bool (N,), whether all attributes to be kept look as before.
        trusted: the attributes whose estimates are good enough to tell changes by.
        null: what is seen after as many steps along the null direction; None: not asked for.
    """

    points: Points
    before: Look
    after: Look
    wants: tuple[Want, ...]
    steps: np.ndarray
    reached: np.ndarray
    kept: np.ndarray
    trusted: tuple[str, ...]
    null: Look | None = None

    def others(self) -> list[str]:
        """The trusted attributes that nothing was asked of."""
        return [name for name in self.trusted if name not in {want.attribute for want in self.wants}]

    def changed(self, number: int) -> list[str]:
        """What else looks different in one face, like "mouth closed → open"."""
        return [
            f"{name} {was} → {now}"
            for name in self.others()
            if (was := self.before.estimates.values(name)[number])
            != (now := self.after.estimates.values(name)[number])
        ]

    def leakage(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """For each other attribute: the share of faces where it changed, less that along the null direction.

        Only faces count in which it is seen with confidence before and after, see `Estimates.changes`.

        rows: bool (N,), the faces that count; None: those that reached everything.
        """
        counted: np.ndarray = np.asarray(self.reached.all(1)) if rows is None else rows
        if self.null is None or not counted.any():
            return {}
        found = {}
        was, edit, null = (each.estimates.rows(counted) for each in (self.before, self.after, self.null))
        for name in self.others():
            found[name] = round(was.changes(edit, name) - was.changes(null, name), 4)
        return found

    def identity(self) -> np.ndarray:
        """How far each face's middle moved, float (N,); 1 is the mean distance of two different faces."""
        faces = self.before.faces
        scale = float(apart(faces, np.roll(faces, 1, 0)).mean()) if len(faces) > 1 else 0.0
        moved_by = apart(faces, self.after.faces)
        return moved_by / scale if scale > 0 else np.full(len(faces), np.nan)


def steer(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    wants: Sequence[Want],
    directions: Directions,
    *,
    keep: Sequence[str] = (),
    settings: Settings | None = None,
    null: bool = False,
    progress: Progress | None = None,
) -> Steered:
    """Move faces until what is asked for is seen in them, or as many steps as asked for.

    A face goes to the goal of the value and half as far again, or without a goal along the direction to the
    end of its range. It goes in steps of `RUNG`, until the network sees the value with a probability of at
    least `REACHED`. A face in which it is seen already stays.
    With ``keep``, a face in which one of these attributes changed is moved back along that attribute's own
    direction, as long as what was asked for is still seen.

    Args:
        null: also go as far along the null direction, for `Steered.leakage`.

    Raises:
        UserError: a direction that there is not, or points of another space.
    """
    if points.space != directions.space:
        raise UserError(f"these directions are in {directions.space}, the faces in {points.space}")
    settings = settings or Settings()
    ways = [directions.find(want.direction) for want in wants]
    asked = {want.attribute for want in wants}
    for name in keep:
        known(name)
        if name in asked:
            raise UserError(f"--keep {name}: it is also to be changed; leave one of them out")
    steps = np.zeros((len(points), len(wants)), np.float32)
    with opened(progress, "steering", None) as task:
        before = look(model, network, points, settings, task)
        now, after = points, before
        for column, (want, way) in enumerate(zip(wants, ways, strict=True)):
            if want.value:
                now, after, steps[:, column] = _until(model, network, now, after, way, want, settings, task)
            else:
                steps[:, column] = want.steps
                now = moved(now, way, want.steps)
                after = look(model, network, now, settings, task)
        if keep:
            now, after = _keeping(model, network, now, before, after, wants, keep, directions, settings, task)
        seen = None
        if null:
            layers = sorted({layer for way in ways for layer in way.layers})
            aside = Direction("null", directions.null, layers=tuple(layers))
            far = np.sqrt(np.square(steps).sum(1))
            seen = look(model, network, moved(points, aside, far), settings, task)
    reached = np.stack(
        [_reached(after.estimates, want) if want.value else np.ones(len(points), bool) for want in wants], 1
    )
    kept = np.ones(len(points), bool)
    for name in keep:
        kept &= before.estimates.places(name) == after.estimates.places(name)
    return Steered(now, before, after, tuple(wants), steps, reached, kept, tuple(network.trusted), seen)


def _reached(estimates: Estimates, want: Want) -> np.ndarray:
    place = known_value(want.attribute, want.value)
    rows = estimates.probabilities[want.attribute]
    return (rows.argmax(1) == place) & (rows[:, place] >= REACHED)


def _sign(want: Want) -> float:
    """-1 for the first of two values, to which the direction leads backwards."""
    about = ATTRIBUTES[want.attribute]
    return -1.0 if about.binary and want.value == about.values[0] else 1.0


def _until(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    seen: Look,
    way: Direction,
    want: Want,
    settings: Settings,
    task: Task,
) -> tuple[Points, Look, np.ndarray]:
    """Points moved until the value is seen, what is seen then, and the steps of each."""
    steps = np.zeros(len(points), np.float32)
    values = points.values.clone()
    open_ = np.flatnonzero(~_reached(seen.estimates, want))
    place = known_value(want.attribute, want.value)
    best = seen.estimates.probabilities[want.attribute][:, place].copy()
    rung, last = RUNG, ends(points, way).numpy()
    while len(open_):
        far = np.minimum(rung, last[open_]) * _sign(want)
        tried = moved(points[open_.tolist()], way, torch.from_numpy(far))
        found = look(model, network, tried, settings, task)
        hit = _reached(found.estimates, want)
        nearer = found.estimates.probabilities[want.attribute][:, place] > best[open_]
        rows = open_[hit | nearer]  # a face that never gets there stays where it came nearest
        values[rows] = tried.values[hit | nearer]
        kept = np.flatnonzero(hit | nearer)
        seen = seen.put(rows, _rows(found, kept))
        best[rows] = found.estimates.probabilities[want.attribute][kept, place]
        steps[rows] = far[kept]
        open_ = open_[~hit & (last[open_] > rung)]
        rung += RUNG
    return points.moved(values), seen, steps


def _rows(seen: Look, rows: np.ndarray) -> Look:
    probabilities = {name: each[rows] for name, each in seen.estimates.probabilities.items()}
    return Look(seen.pixels[rows], seen.finite[rows], Estimates(probabilities), seen.faces[rows])


def _keeping(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    before: Look,
    after: Look,
    wants: Sequence[Want],
    keep: Sequence[str],
    directions: Directions,
    settings: Settings,
    task: Task,
) -> tuple[Points, Look]:
    """Points in which attributes that changed are brought back, where that works."""
    values = points.values.clone()
    ways = {row.name: row for row in directions.rows}
    for name in keep:
        about, was = ATTRIBUTES[name], before.estimates.places(name)
        for place, value in enumerate(about.values):
            way = ways.get(named(name, value))
            if way is None:
                continue
            sign = -1.0 if about.binary and place == 0 else 1.0
            open_ = np.flatnonzero((was == place) & (after.estimates.places(name) != place))
            for number in range(1, KEEPING + 1):
                if not len(open_):
                    break
                start = points.moved(values)[open_.tolist()]
                tried = moved(start, way, sign * RUNG * number)
                found = look(model, network, tried, settings, task)
                good = found.estimates.places(name) == place
                for want in wants:
                    if want.value:
                        held = _reached(_rows(after, open_).estimates, want)
                        good &= ~held | _reached(found.estimates, want)
                rows, kept = open_[good], np.flatnonzero(good)
                values[rows] = tried.values[kept]
                after = after.put(rows, _rows(found, kept))
                open_ = open_[~good]
    return points.moved(values), after


@dataclass(frozen=True)
class Selected:
    """Samples in which what was asked for is seen.

    Attributes:
        seeds: theirs, in the order in which they were drawn.
        look: what is seen in them.
        drawn: how many samples were drawn.
        wanted: how many were asked for.
        nearest: for each want, in how many of the drawn samples it alone was seen.
    """

    seeds: list[int]
    look: Look | None
    drawn: int
    wanted: int
    nearest: Mapping[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether there are as many as asked for."""
        return len(self.seeds) >= self.wanted


def select(
    model: Model,
    network: AttributeNetwork,
    wants: Mapping[str, str],
    number: int,
    *,
    settings: Settings | None = None,
    first: int = 0,
    most: int = 20_000,
    confidence: float = REACHED,
    progress: Progress | None = None,
) -> Selected:
    """Draw seeds ``first``, ``first`` + 1, … until ``number`` of them show all ``wants``, at most ``most``.

    wants: values by attribute, like {"hair": "blue"}. confidence: least probability of each of them.

    Raises:
        UserError: no wants, or an attribute or value that there is not.
    """
    if not wants:
        raise UserError("nothing to select by; name an attribute, like --hair blue")
    if not 0 <= confidence <= 1:
        raise UserError(f"--confidence {confidence:g} is impossible: give 0 to 1")
    places = {name: known_value(name, value) for name, value in wants.items()}
    settings = settings or Settings()
    seeds, parts, count = list[int](), list[Look](), 0
    single = dict.fromkeys((f"{name} {value}" for name, value in wants.items()), 0)
    with opened(progress, "selecting", number) as task:
        while len(seeds) < number and count < most:
            those = range(first + count, first + min(count + 2 * BATCH, most))
            for pixels, finite in sample(model, those, settings):
                estimates, faces = network.seen(pixels)
                fits = finite.copy()
                for name, place in places.items():
                    rows = estimates.probabilities[name]
                    own = (rows.argmax(1) == place) & (rows[:, place] >= confidence) & finite
                    single[f"{name} {wants[name]}"] += int(own.sum())
                    fits &= own
                rows_ = np.flatnonzero(fits)
                if len(rows_):
                    seeds += [first + count + int(row) for row in rows_]
                    parts.append(_rows(Look(pixels, finite, estimates, faces), rows_))
                    task.advance(len(rows_), f"{count + len(pixels):,} drawn")
                count += len(pixels)
    if not parts:
        return Selected([], None, count, number, single)
    joined = Look(
        np.concatenate([part.pixels for part in parts])[:number],
        np.concatenate([part.finite for part in parts])[:number],
        _rows(
            Look(
                np.concatenate([part.pixels for part in parts]),
                np.concatenate([part.finite for part in parts]),
                Estimates.joined([part.estimates for part in parts]),
                np.concatenate([part.faces for part in parts]),
            ),
            np.arange(min(number, len(seeds))),
        ).estimates,
        np.concatenate([part.faces for part in parts])[:number],
    )
    return Selected(seeds[:number], joined, count, number, single)


def measured(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    direction: Direction,
    directions: Directions,
    settings: Settings,
    progress: Progress | None = None,
) -> tuple[Direction, Steered]:
    """The direction with its reach, mean steps and leakage, measured on faces without its value."""
    value = direction.value
    alone = replace(directions, rows=(direction,), refused={})
    want = Want(direction.name, value)
    steered = steer(model, network, points, [want], alone, settings=settings, null=True, progress=progress)
    without = ~_reached(steered.before.estimates, want)
    if not without.any():
        return direction, steered
    got = without & steered.reached[:, 0]
    return (
        replace(
            direction,
            reach=round(float(steered.reached[without, 0].mean()), 4),
            steps=round(float(np.abs(steered.steps[got, 0]).mean()), 3) if got.any() else None,
            leakage=steered.leakage(got),
        ),
        steered,
    )


def acting_layers(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    direction: Direction,
    before: Look,
    settings: Settings,
    *,
    steps: float = 2.0,
    share: float = 0.9,
    task: Task | None = None,
) -> tuple[int, ...]:
    """The layers in which a direction acts: the sizes of features that together make ``share`` of its effect.

    The effect of a size is the change of the value's mean probability when only its layers are moved.
    """
    place = known_value(direction.attribute, direction.value)

    def mean(seen: Look) -> float:
        rows = seen.estimates.probabilities[direction.attribute][:, place].clip(1e-3, 1 - 1e-3)
        return float(np.log(rows / (1 - rows)).mean())

    sizes = sorted(set(model.layer_sizes))
    groups = [tuple(i for i, size in enumerate(model.layer_sizes) if size == each) for each in sizes]
    start = mean(before)
    effects = [
        max(
            0.0,
            mean(look(model, network, moved(points, replace(direction, layers=group), steps), settings, task))
            - start,
        )
        for group in groups
    ]
    total = sum(effects)
    if total < 0.05:
        return tuple(range(model.layers))
    chosen: list[int] = []
    covered = 0.0
    for number in np.argsort(effects)[::-1]:
        chosen += groups[number]
        covered += effects[number]
        if covered >= share * total:
            break
    return tuple(sorted(chosen))


def moves(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    direction: Direction,
    settings: Settings,
    *,
    steps: float = 2.0,
    task: Task | None = None,
) -> dict[str, float]:
    """What a direction moves: the change of each value's mean probability from -``steps`` to +``steps``.

    Only changes of at least 0.05 are listed, the largest first.
    """
    low = look(model, network, moved(points, direction, -steps), settings, task).estimates
    high = look(model, network, moved(points, direction, steps), settings, task).estimates
    found = {}
    for name, about in ATTRIBUTES.items():
        change = high.probabilities[name].mean(0) - low.probabilities[name].mean(0)
        for place, value in enumerate(about.values):
            if about.binary and place == 0:
                continue
            if abs(change[place]) >= 0.05:
                found[named(name, value)] = round(float(change[place]), 3)
    return dict(sorted(found.items(), key=lambda each: -abs(each[1])))


def null_points(points: Points, directions: Directions, steps: float) -> Points:
    """The points moved along the null direction."""
    return moved(points, Direction("null", directions.null), torch.full((len(points),), steps))
