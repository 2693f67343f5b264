"""Which pictures a participant sees, in which order and on which side.

Everything follows from the participant's own seed, which is recorded, and from how often each picture has
been shown so far. A picture counts as shown in every answered trial and in every open trial of a participant
who was active lately, so that many people who start at once get different pictures, and the pictures of
people who left become free again.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from .design import Design

EXPIRY_SECONDS = 3600
"""After this time without a sign of life the open trials of a participant no longer count as shown."""


@dataclass(frozen=True)
class Planned:
    """One trial of a participant.

    phase: "practice", "main" or "check".
    pictures: identifiers, from left to right.
    expected: the right answer, or None where no answer is right. In a check, the answer asked for.
    part: what is rated, or None.
    exposure_ms: how long the picture is shown, or None: until the answer.
    """

    phase: str
    pictures: tuple[str, ...]
    expected: str | None
    part: str | None = None
    exposure_ms: int | None = None


def plan(
    design: Design, pictures: Mapping[str, str], shown: Mapping[str, int], seed: int
) -> list[Planned]:
    """The trials of one participant, in order.

    Args:
        design: kind and number of trials.
        pictures: the source of each picture, by identifier.
        shown: how often each picture has been shown so far; absent: never.
        seed: of this participant. The same arguments give the same trials.

    Each picture is shown at most once, in a rating once for each part. Main trials take the pictures that
    were shown least; ties are broken by the seed. Sides and kinds are balanced: they differ by at most one.

    >>> design = Design(kind="pairs", sources=("real", "a"), trials=2, practice=0)
    >>> pictures = {"p": "real", "q": "real", "r": "a", "s": "a", "t": "a"}
    >>> trials = plan(design, pictures, {"s": 1}, seed=3)
    >>> sorted(picture for trial in trials for picture in trial.pictures)
    ['p', 'q', 'r', 't']
    """
    rng = random.Random(f"omokage study {design.seed} {seed}")
    pile = _Pile(pictures, shown, rng)
    main = _trials(design, "main", design.trials, pile, rng)
    practice = _trials(design, "practice", design.practice, pile, rng)
    checks = [_asked(trial, design, rng) for trial in _trials(design, "check", design.checks, pile, rng, 1)]
    for check, place in zip(checks, _places(len(main), len(checks), rng), strict=True):
        main.insert(place, check)
    return [trial for group in [*practice, *main] for trial in group]


class _Pile:
    """Pictures by source; each is taken once, the least shown first."""

    def __init__(self, pictures: Mapping[str, str], shown: Mapping[str, int], rng: random.Random) -> None:
        order = sorted(pictures)  # the order of a mapping must not matter
        rng.shuffle(order)
        order.sort(key=lambda picture: -shown.get(picture, 0))  # stable: ties stay shuffled
        self._left: dict[str, list[str]] = {}
        for picture in order:
            self._left.setdefault(pictures[picture], []).append(picture)

    def take(self, source: str) -> str:
        return self._left[source].pop()


def _spread(values: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """``count`` values, each about equally often, in random order; which get one more is random."""
    extra = list(values)
    rng.shuffle(extra)
    spread = [*extra * (count // len(extra)), *extra[: count % len(extra)]]
    rng.shuffle(spread)
    return spread


def _trials(
    design: Design, phase: str, count: int, pile: _Pile, rng: random.Random, parts: int | None = None
) -> list[list[Planned]]:
    """``count`` groups of trials; the trials of a group stay together."""
    if design.kind == "pairs":
        sides = _spread(("left", "right"), count, rng)
        models = _spread(design.generated, count, rng)
        groups = []
        for side, model in zip(sides, models, strict=True):
            pair = (pile.take(design.real[0]), pile.take(model))
            groups.append([Planned(phase, pair if side == "left" else pair[::-1], side)])
        return groups
    if design.kind == "preference":
        pairs = list(combinations(design.sources, 2))
        order = _spread([str(number) for number in range(len(pairs))], count, rng)
        sides = _spread(("left", "right"), count, rng)
        groups = []
        for number, side in zip(order, sides, strict=True):
            first, second = pairs[int(number)]
            pair = (pile.take(first), pile.take(second))
            groups.append([Planned(phase, pair if side == "left" else pair[::-1], None)])
        return groups
    if design.kind == "rating":
        groups = []
        for source in _spread(design.sources, count, rng):
            picture = pile.take(source)
            groups.append([Planned(phase, (picture,), None, part) for part in design.parts[:parts]])
        return groups
    kinds = _spread(("real", "generated"), count, rng)
    models = _spread(design.generated, kinds.count("generated"), rng)
    # Each kind gets each exposure about equally often.
    times: dict[str, list[str]] = {
        kind: _spread([str(one) for one in design.exposures_ms], kinds.count(kind), rng)
        for kind in ("real", "generated")
    }
    groups = []
    for kind in kinds:
        picture = pile.take(design.real[0] if kind == "real" else models.pop())
        exposure = int(times[kind].pop()) if design.kind == "timed" else None
        groups.append([Planned(phase, (picture,), kind, None, exposure)])
    return groups


def _asked(group: list[Planned], design: Design, rng: random.Random) -> list[Planned]:
    """An attention check: a trial like the others whose prompt names the answer to give."""
    from .design import RESPONSES

    asked = rng.choice(RESPONSES[design.kind])
    return [Planned("check", trial.pictures, asked, trial.part, trial.exposure_ms) for trial in group]


def _places(groups: int, count: int, rng: random.Random) -> list[int]:
    """Where checks go among the main trials: one in each of ``count`` equal stretches, from the last on."""
    edges = [round(groups * number / max(1, count)) for number in range(count + 1)]
    return [rng.randint(low, max(low, high - 1)) for low, high in pairwise(edges)][::-1]
