"""Rolling a page of new faces: which seeds are shown, and how fixed values come about.

A model with conditions draws what is asked for. With any other, faces are drawn until enough of them show
it, as `omokage select` does; if that is rare and the model has directions, the rest are steered there.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ..attributes import ATTRIBUTES, AttributeNetwork, Estimates, known_value
from ..explore.alignment import detected
from ..explore.directions import Directions, named
from ..explore.steering import REACHED
from ..model import Model
from ..sampling import chosen_latents, latents
from ..settings import Settings
from . import faces
from .caches import Cache
from .drawing import Drawn
from .faces import Face
from .refused import Refused

MOST_TRIED = 16  # times the faces of a page, before it is shown with fewer
STEERED_AFTER = 4  # times the faces of a page, before faces are steered
FACE_AT = 0.5  # score from which a picture counts as one of a face
APPLIES = 0.75  # share of a model's pictures in which the detector must find a face, so that they are judged
JUDGED = 16  # faces that this is tried on
TRIED = 3.0  # faces that a critic tries for each one kept, on average
SCORES = 2**20  # bytes of scores that are remembered

Draw = Callable[[Sequence[Face]], Sequence[Drawn]]


class Critic(Protocol):
    """Says which faces are broken, for models that have no critic of their own.

    Attributes:
        told: a sentence that says what was replaced, with a place for how many and one for "was" or "were".
        code: a word for it.
    """

    told: str
    code: str

    def __call__(self, drawn: Sequence[Drawn]) -> tuple[np.ndarray, list[float | None]]:
        """Which are whole, bool (N,), and their scores, 0 to 1, if there are any."""


class OnlyFinite:
    """Broken are faces with numbers that are not finite."""

    code = "finite"

    told = "{} with numbers that are not finite {} replaced; this model has no critic that sees more."

    def __call__(self, drawn: Sequence[Drawn]) -> tuple[np.ndarray, list[float | None]]:
        """Which are finite; no scores."""
        return np.array([one.finite for one in drawn], bool), [None] * len(drawn)


class Looking:
    """Broken are also faces that a network calls broken (`omokage.broken`). Scores: 1 whole, 0 broken.

    Scores are remembered: a picture costs some milliseconds, and the page that opens is the same each time.
    """

    code = "broken"

    told = "{} that looked broken to a network {} replaced."

    def __init__(self, network: Any) -> None:
        self.network = network
        self._scores: Cache[bytes, float] = Cache(SCORES, lambda _: 200)

    def __call__(self, drawn: Sequence[Drawn]) -> tuple[np.ndarray, list[float | None]]:
        """Which are whole, and the score of each."""
        scores = [self._score(one.pixels) for one in drawn]
        most = self.network.threshold
        whole = [one.finite and score <= most for one, score in zip(drawn, scores, strict=True)]
        return np.array(whole, bool), [round(min(max(1 - score, 0.0), 1.0), 3) for score in scores]

    def _score(self, pixels: np.ndarray) -> float:
        """How broken a face is; more: worse."""
        name = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        score = self._scores.get(name)
        if score is None:
            score = float(self.network.scores(pixels[None])[0])
            self._scores.put(name, score)
        return score


def critic_for(model: Model, draw: Draw) -> Critic:
    """For a model without a critic: the network that finds broken faces, if the model draws faces at all."""
    if model.critic is not None:
        return OnlyFinite()  # `roll` lets the critic choose
    from ..broken import broken_faces
    from ..data.steps.detect import open_detector

    detector = open_detector(threshold=FACE_AT)
    tried = [Face(model.snapshot_hash[: faces.ID], faces.Seed(seed)) for seed in range(JUDGED)]
    seen = np.mean([bool(detected(one.pixels, detector)) for one in draw(tried)])
    return Looking(broken_faces()) if seen >= APPLIES else OnlyFinite()


@dataclass
class Rolled:
    """A page of new faces.

    Attributes:
        faces: in order; fewer than asked for if what is fixed is rare.
        next: the seed to go on from.
        replaced: how many broken faces were left out.
        told: sentences for the user.
        notes: the same for programs: a code with its numbers, so that a page has words in its own language.
        scores: of the critic, one for each face.
    """

    faces: list[Face] = field(default_factory=list)
    next: int = 0
    replaced: int = 0
    told: list[str] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)

    def tell(self, sentence: str, code: str, **values: Any) -> None:
        """Add something to say."""
        self.told.append(sentence)
        self.notes.append({"code": code, **values})


@dataclass(frozen=True)
class Roll:
    """What is asked for; see `omokage.studio.bodies.Wall`."""

    model: str
    start: int
    count: int
    psi: float
    settings: Mapping[str, Any]
    fixed: Mapping[str, str]
    replace: bool

    @property
    def wanted(self) -> dict[str, str]:
        """The values that are fixed."""
        return {name: value for name, value in self.fixed.items() if value != "random"}

    def face(self, seed: int, conditions: Mapping[str, str] | None = None) -> Face:
        """The face of a seed."""
        return faces.parse(
            {
                "model": self.model,
                "from": {"seed": seed},
                "psi": self.psi,
                "settings": dict(self.settings),
                "conditions": dict(conditions or {}),
            }
        )


def roll(
    model: Model,
    asked: Roll,
    draw: Draw,
    *,
    critic: Critic | None = None,
    network: AttributeNetwork | None = None,
    directions: Directions | None = None,
) -> Rolled:
    """The faces of a page.

    Args:
        critic: leaves broken faces out; None: all are shown.
        network: sees what is fixed, in a model without conditions.

    Raises:
        Refused, UserError: a value that cannot be fixed here, or the page is no longer wanted.
    """
    wanted = asked.wanted
    conditions = wanted if model.conditions else {}
    seen = {} if model.conditions else {name: known_value(name, value) for name, value in wanted.items()}
    if seen and network is None:
        raise Refused("Nothing can be fixed here: the network that sees attributes cannot be read.", "lacks")
    if critic is not None and model.critic is not None:
        tries = max(TRIED, float(asked.settings.get("critic", 1)))
        asked, critic = replace(asked, settings={**asked.settings, "critic": tries}), None
    found, passed = Rolled(next=asked.start), list[Face]()
    tried, most = 0, asked.count * (MOST_TRIED if seen else 4)
    while len(found.faces) < asked.count and tried < most:
        missing = asked.count - len(found.faces)
        many = min(max(missing, 32) if seen else missing, most - tried)
        some = [asked.face(found.next + i, conditions) for i in range(many)]
        drawn = draw(some)
        whole, scores = (np.ones(many, bool), [None] * many) if critic is None else critic(drawn)
        fits = whole.copy()
        if seen:
            assert network is not None
            fits &= _show(network(np.stack([one.pixels for one in drawn])), seen)
        for number, face in enumerate(some):
            if len(found.faces) == asked.count:
                break
            found.next += 1
            tried += 1
            found.replaced += int(not whole[number])
            if fits[number]:
                found.faces.append(face)
                found.scores.append(scores[number])
            elif whole[number]:
                passed.append(face)
        if seen and _can_steer(directions, wanted) and tried >= STEERED_AFTER * asked.count:
            break
    if critic is not None and found.replaced:
        found.tell(critic.told.format(*_many(found.replaced)), f"replaced_{critic.code}", n=found.replaced)
    if asked.settings.get("critic", 1) != 1:
        found.replaced = _replaced(model, found.faces)
        if found.replaced:
            seeds = "1 seed" if found.replaced == 1 else f"{found.replaced} seeds"
            sentence = f"The model's critic chose another face for {seeds}."
            found.tell(sentence, "replaced", n=found.replaced)
    if wanted:
        _tell(found, asked, tried, bool(model.conditions))
    if seen and len(found.faces) < asked.count and _can_steer(directions, wanted):
        assert directions is not None
        _steer(found, asked, passed, directions)
    return found


def _show(estimates: Estimates, places: Mapping[str, int]) -> np.ndarray:
    """Which faces show all values, as `omokage.explore.steering.select` decides it."""
    fits = np.ones(len(estimates), bool)
    for name, place in places.items():
        rows = estimates.probabilities[name]
        fits &= (rows.argmax(1) == place) & (rows[:, place] >= REACHED)
    return fits


def _many(number: int) -> tuple[str, str]:
    return ("1 face", "was") if number == 1 else (f"{number} faces", "were")


def _replaced(model: Model, shown: Sequence[Face]) -> int:
    """How many faces are other ones than their seeds have without the critic."""
    seeds = [face.seed for face in shown if face.seed is not None]
    critic = float(shown[0].settings["critic"]) if shown else 1.0
    chosen = chosen_latents(model, seeds, Settings(critic=critic))
    return int((chosen != latents(seeds, model.latent_shape)).flatten(1).any(1).sum())


def _tell(found: Rolled, asked: Roll, tried: int, conditions: bool) -> None:
    words = ", ".join(f"{name} {value}" for name, value in asked.wanted.items())
    fixed, shown = asked.wanted, len(found.faces)
    if conditions:
        found.tell(f"Drawn with {words}, which this model was trained with.", "conditions", fixed=fixed)
    elif shown < asked.count:
        sentence = f"Chosen by {words}: seen in {shown} of {tried:,} faces."
        found.tell(sentence, "few", fixed=fixed, n=shown, tried=tried)
    else:
        sentence = f"Chosen by {words} among {tried:,} faces."
        found.tell(sentence, "chosen", fixed=fixed, n=shown, tried=tried)


def _can_steer(directions: Directions | None, wanted: Mapping[str, str]) -> bool:
    offered = set() if directions is None else {row.name for row in directions.rows if row.offered}
    return bool(wanted) and all(named(name, value) in offered for name, value in wanted.items())


def _steer(found: Rolled, asked: Roll, passed: Sequence[Face], directions: Directions) -> None:
    """Fill the page with faces that are moved along the directions of what is fixed."""
    edits = {}
    for name, value in asked.wanted.items():
        row = directions.find(named(name, value))
        # To a goal all the way: a face that is nearer stops soon after it.
        steps = row.steps if row.goal is None and row.steps is not None else row.chosen
        backwards = ATTRIBUTES[name].binary and value == ATTRIBUTES[name].values[0]
        edits[row.name] = round(-steps if backwards else steps, 2)
    some = passed[: asked.count - len(found.faces)]
    found.faces += [faces.parse({**faces.document(face), "edits": edits}) for face in some]
    found.scores += [None] * len(some)
    if some:
        found.tell(f"{len(some)} of them were steered there.", "steered", n=len(some))
