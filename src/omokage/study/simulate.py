"""Simulated studies of known truth, as arrays and as tables.

All kinds share one model. A person has a hidden amount of evidence; it is the sum of a mean, the person's
effect, the effects of the pictures, and noise with standard deviation 1. The answer is where the evidence
lies. With normal effects the mean over all persons and pictures has a closed form, so the truth that an
interval should cover is known exactly. A lapse is an answer given blindly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .statistics import Clusters

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Effects:
    """How much people and pictures differ, on the scale where the noise of one answer is 1.

    Args:
        person_sd: of how well (or how high) persons judge.
        picture_sd: of how real (or good) single pictures look.
        bias_sd: of the leaning of persons towards one answer or side.
        lapses: the share of answers given blindly.
    """

    person_sd: float = 0.3
    picture_sd: float = 0.3
    bias_sd: float = 0.2
    lapses: float = 0.02


@dataclass(frozen=True)
class Batch:
    """Answers of many studies of one design.

    Attributes:
        response: shape (studies, people, trials). 1 or 0 (says left, says real, prefers the first source), or
            a rating.
        truth: the same shape; what would be right: 1 if real is left, or if the picture is real. In ratings
            and preferences the number of the source, or of the first source.
        second: in preferences, the number of the second source; else None.
        pictures: shape (studies, people, trials, 1 or 2); a number is one picture of the study.
        exposure: shape (studies, people, trials), the number of the exposure; None if not timed.
    """

    response: Integers
    truth: Integers
    pictures: Integers
    second: Integers | None = None
    exposure: Integers | None = None

    @property
    def correct(self) -> NDArray[np.float64]:
        return (self.response == self.truth).astype(np.float64)

    def clusters(self, study: int) -> Clusters:
        """Of one study, answers in the order of ``response[study].reshape(-1)``."""
        people, trials = self.response.shape[1:]
        shown = self.pictures[study].reshape(people * trials, -1)
        return Clusters(np.repeat(np.arange(people), trials), shown)


def _draw(rng: np.random.Generator, shape: tuple[int, int], count: int, wanted: int) -> Integers:
    """For each person ``wanted`` of ``count`` pictures, without repetition, in random order."""
    if wanted > count:
        raise ValueError(f"{wanted} different pictures wanted of {count}")
    return np.argsort(rng.random((*shape, count)), axis=2)[:, :, :wanted].astype(np.int64)


def _at(effects: Floats, pictures: Integers) -> Floats:
    """The effect of each picture shown; effects: shape (studies, pictures)."""
    studies = np.arange(len(effects))[:, None, None]
    return effects[studies, pictures]


def _half(rng: np.random.Generator, shape: tuple[int, int, int]) -> Integers:
    """Zeros and ones, equally often for each person (a rest of one is drawn), in random order."""
    order = np.argsort(rng.random(shape), axis=2)
    extra = rng.integers(0, 2, (*shape[:2], 1)) * (shape[2] % 2)
    return (order < shape[2] // 2 + extra).astype(np.int64)


def _mean_for(share: float, effects: Effects, spread: float) -> float:
    """The mean evidence at which a share of answers is right, with effects of total variance ``spread``."""
    whole = (share - effects.lapses / 2) / (1 - effects.lapses)
    if not 0 < whole < 1:
        raise ValueError(f"a share of {share} cannot be reached with {effects.lapses} lapses")
    return float(stats.norm.ppf(whole) * np.sqrt(1 + spread))


def _answer(rng: np.random.Generator, evidence: Floats, lapses: float) -> Integers:
    said = evidence + rng.standard_normal(evidence.shape) > 0
    blind = rng.random(evidence.shape) < lapses
    return np.where(blind, rng.integers(0, 2, evidence.shape), said).astype(np.int64)


def pairs(
    rng: np.random.Generator,
    studies: int,
    people: int,
    trials: int,
    pictures: int,
    accuracy: float,
    effects: Effects = Effects(),
) -> Batch:
    """Studies with one real and one generated picture a trial; ``pictures`` of each kind.

    Over all persons and pictures the share of right answers is ``accuracy``.

    >>> batch = pairs(np.random.default_rng(0), 50, 40, 20, 40, 0.6)
    >>> abs(float(batch.correct.mean()) - 0.6) < 0.02
    True
    """
    shape = (studies, people)
    real, other = (_draw(rng, shape, pictures, trials) for _ in range(2))
    spread = effects.person_sd**2 + 2 * effects.picture_sd**2 + effects.bias_sd**2
    left = _half(rng, (*shape, trials))
    evidence = (
        _mean_for(accuracy, effects, spread)
        + rng.normal(0, effects.person_sd, shape)[..., None]
        + _at(rng.normal(0, effects.picture_sd, (studies, pictures)), real)
        + _at(rng.normal(0, effects.picture_sd, (studies, pictures)), other)
    )
    sign = 2 * left - 1  # evidence for what is right becomes evidence for "left"
    said = _answer(
        rng, sign * evidence + rng.normal(0, effects.bias_sd, shape)[..., None], effects.lapses
    )
    return Batch(said, left, np.stack([real, other + pictures], axis=3))


def single(
    rng: np.random.Generator,
    studies: int,
    people: int,
    trials: int,
    pictures: int,
    accuracy: float | Sequence[float],
    effects: Effects = Effects(),
) -> Batch:
    """Studies with one picture a trial, half of them real; ``pictures`` of each kind.

    accuracy: of all answers; a list gives the accuracy at each exposure, which trials take in turn.
    """
    shape = (studies, people)
    levels = [accuracy] if isinstance(accuracy, int | float) else list(accuracy)
    real = _half(rng, (*shape, trials))
    # Pictures of both kinds in one list for each person: the n-th real trial takes the n-th real picture.
    most = -(-trials // 2)
    of_kind = [_draw(rng, shape, pictures, most) for _ in range(2)]
    place = np.where(real == 1, np.cumsum(real, 2) - 1, np.cumsum(1 - real, 2) - 1)
    shown = np.where(
        real == 1,
        np.take_along_axis(of_kind[1], np.minimum(place, most - 1), 2),
        np.take_along_axis(of_kind[0], np.minimum(place, most - 1), 2) + pictures,
    )
    spread = effects.person_sd**2 + effects.picture_sd**2 + effects.bias_sd**2
    means = np.array([_mean_for(level, effects, spread) for level in levels])
    exposure = place % len(levels) if len(levels) > 1 else np.zeros_like(place)
    sign = 2 * real - 1
    evidence = (
        sign * (means[exposure] + rng.normal(0, effects.person_sd, shape)[..., None])
        + rng.normal(0, effects.bias_sd, shape)[..., None]
        + _at(rng.normal(0, effects.picture_sd, (studies, 2 * pictures)), shown)
    )
    said = _answer(rng, evidence, effects.lapses)
    return Batch(said, real, shown[..., None], exposure=exposure if len(levels) > 1 else None)


CUTS = np.array([-1.5, -0.5, 0.5, 1.5])
"""Evidence above the n-th cut gives a rating above n."""


def mean_rating(centre: float, effects: Effects) -> float:
    """The mean rating over all persons and pictures, for a source with this mean evidence."""
    spread = np.sqrt(1 + effects.person_sd**2 + effects.picture_sd**2)
    whole = 1 + float(stats.norm.sf((CUTS - centre) / spread).sum())
    return (1 - effects.lapses) * whole + effects.lapses * 3.0


def ratings(
    rng: np.random.Generator,
    studies: int,
    people: int,
    trials: int,
    pictures: int,
    centres: Sequence[float],
    effects: Effects = Effects(),
) -> Batch:
    """Studies with ratings from 1 to 5; ``pictures`` of each source, each source about equally often.

    centres: mean evidence of each source; `mean_rating` gives the mean rating that belongs to it.
    """
    shape, sources = (studies, people), len(centres)
    order = np.argsort(rng.random((*shape, trials)), axis=2)
    source = (order + rng.integers(0, sources, (*shape, 1))) % sources
    most = -(-trials // sources)
    shown = np.zeros((*shape, trials), np.int64)
    for number in range(sources):
        mine = source == number
        drawn = _draw(rng, shape, pictures, most)
        place = np.clip(np.cumsum(mine, 2) - 1, 0, most - 1)
        shown = np.where(mine, np.take_along_axis(drawn, place, 2) + number * pictures, shown)
    evidence = (
        np.asarray(centres, np.float64)[source]
        + rng.normal(0, effects.person_sd, shape)[..., None]
        + _at(rng.normal(0, effects.picture_sd, (studies, sources * pictures)), shown)
        + rng.standard_normal((*shape, trials))
    )
    rating = 1 + (evidence[..., None] > CUTS).sum(-1)
    blind = rng.random(rating.shape) < effects.lapses
    rating = np.where(blind, rng.integers(1, 6, rating.shape), rating)
    return Batch(rating.astype(np.int64), source, shown[..., None])


def win_share(ahead: float, effects: Effects) -> float:
    """The share of wins over all persons and pictures of a source that is ``ahead`` of the other."""
    spread = 1 + 2 * effects.person_sd**2 + 2 * effects.picture_sd**2 + effects.bias_sd**2
    whole = float(stats.norm.cdf(ahead / np.sqrt(spread)))
    return (1 - effects.lapses) * whole + effects.lapses / 2


def preferences(
    rng: np.random.Generator,
    studies: int,
    people: int,
    trials: int,
    pictures: int,
    quality: Sequence[float],
    effects: Effects = Effects(),
) -> Batch:
    """Studies with pictures of two sources a trial; ``pictures`` of each source.

    quality: of each source; `win_share` of the difference of two gives the share of wins. Persons differ in
    their taste for each source.
    """
    shape, sources = (studies, people), len(quality)
    couples = np.array([(a, b) for a in range(sources) for b in range(a + 1, sources)])
    order = np.argsort(rng.random((*shape, trials)), axis=2)
    which = (order + rng.integers(0, len(couples), (*shape, 1))) % len(couples)
    sides = couples[which]  # (studies, people, trials, 2)
    drawn = np.stack([_draw(rng, shape, pictures, min(trials, pictures)) for _ in range(sources)], axis=2)
    used = np.zeros((*shape, sources), np.int64)
    shown = np.zeros((*shape, trials, 2), np.int64)
    s, p = np.ogrid[:studies, :people]
    for trial in range(trials):
        for side in range(2):
            source = sides[:, :, trial, side]
            shown[:, :, trial, side] = (
                drawn[s, p, source, used[s, p, source] % drawn.shape[3]] + source * pictures
            )
            used[s, p, source] += 1
    taste = rng.normal(0, effects.person_sd, (*shape, sources)) + np.asarray(quality, np.float64)
    looks = rng.normal(0, effects.picture_sd, (studies, sources * pictures))
    s3, p3 = np.arange(studies)[:, None, None], np.arange(people)[None, :, None]
    worth = [taste[s3, p3, sides[..., side]] + _at(looks, shown[..., side]) for side in range(2)]
    first_left = 2 * _half(rng, (*shape, trials)) - 1
    leaning = rng.normal(0, effects.bias_sd, shape)[..., None] * first_left
    said = _answer(rng, worth[0] - worth[1] + leaning, effects.lapses)
    return Batch(said, sides[..., 0], shown, second=sides[..., 1])


def tables(
    kind: str,
    sources: Sequence[str],
    *,
    people: int = 40,
    trials: int = 24,
    pictures: int = 40,
    accuracy: float | Mapping[str, float] = 0.6,
    exposures_ms: Sequence[int] = (50, 100, 250, 500, 1000, 2000),
    parts: Sequence[str] = ("overall",),
    effects: Effects = Effects(),
    seed: int = 0,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One simulated study as the two tables of `columns`: participants and answers.

    Args:
        kind: of the design.
        sources: names, "real" first where real pictures are shown.
        pictures: of each source.
        accuracy: share of right answers (pairs, single, timed), for each generated source or for all. In
            ratings and preferences larger means a worse source: its mean lies lower.

    Response times are log-normal, and longer for answers that are hard.
    """
    rng = np.random.default_rng(seed)
    others = [name for name in sources if name != "real"]
    level = {name: accuracy[name] if isinstance(accuracy, Mapping) else accuracy for name in others}
    answers: list[dict[str, Any]] = []
    person_names = [f"p{rng.integers(16**8):08x}{number:04x}" for number in range(people)]
    for number, who in enumerate(person_names):
        pace = float(np.exp(rng.normal(0.0, 0.3)))
        elapsed = 4000.0
        shown = _one_person(
            rng, kind, sources, others, level, trials, pictures, exposures_ms, parts, effects, seed, number
        )
        for index, trial in enumerate(shown):
            hard = abs(trial.pop("_evidence"))
            rt = float(np.exp(rng.normal(7.4 - 0.25 * min(hard, 2.0), 0.5))) * pace
            elapsed += rt + 600.0
            answers.append(
                {
                    "participant": who,
                    "pilot": 0,
                    "trial_index": index,
                    "trial_type": kind,
                    "phase": "main",
                    **trial,
                    "rt": round(rt, 1),
                    "time_elapsed": round(elapsed, 1),
                    "resumed": 0,
                    "answered_at": f"2026-03-{1 + number % 28:02d}T12:{index % 60:02d}Z",
                }
            )
    participants = [
        {
            "participant": who,
            "pilot": 0,
            "status": "completed",
            "language": ("en", "ja")[number % 2],
            "started_at": f"2026-03-{1 + number % 28:02d}T12:00Z",
            "finished_at": f"2026-03-{1 + number % 28:02d}T12:20Z",
            "resumes": 0,
            "device": ("phone", "desktop", "desktop", "tablet")[number % 4],
            "viewport_width": (390, 1440, 1280, 820)[number % 4],
            "viewport_height": (760, 900, 720, 1100)[number % 4],
            "pixel_ratio": (3, 1, 1, 2)[number % 4],
            "refresh_hz": 60,
            "pointer": ("touch", "mouse", "mouse", "touch")[number % 4],
            "checks_passed": 0,
            "checks": 0,
        }
        for number, who in enumerate(person_names)
    ]
    return participants, answers


def _one_person(
    rng: np.random.Generator,
    kind: str,
    sources: Sequence[str],
    others: Sequence[str],
    level: Mapping[str, float],
    trials: int,
    pictures: int,
    exposures_ms: Sequence[int],
    parts: Sequence[str],
    effects: Effects,
    seed: int,
    number: int,
) -> list[dict[str, Any]]:
    """The trials of one person, in order, without times."""
    looks = {  # the same for all persons of the study
        name: np.random.default_rng([seed, 1, place]).normal(0, effects.picture_sd, pictures)
        for place, name in enumerate(sources)
    }
    spread = effects.person_sd**2 + effects.bias_sd**2 + (2 if kind == "pairs" else 1) * effects.picture_sd**2
    skill, bias = rng.normal(0, effects.person_sd), rng.normal(0, effects.bias_sd)
    unseen = {name: list(rng.permutation(pictures)) for name in sources}

    def take(source: str) -> tuple[str, float]:
        if not unseen[source]:
            raise ValueError(f"{source}: too few pictures for {trials} trials")
        picture = int(unseen[source].pop())
        name = f"{np.random.default_rng([seed, 2, list(sources).index(source), picture]).integers(16**8):08x}"
        return name, float(looks[source][picture])

    def blindly(options: Sequence[str], said: str) -> str:
        return str(rng.choice(list(options))) if rng.random() < effects.lapses else said

    couples = [(a, b) for i, a in enumerate(sources) for b in sources[i + 1 :]]
    order = rng.permutation(trials)
    taste = {name: rng.normal(0, effects.person_sd) for name in sources}
    found: list[dict[str, Any]] = []
    for i in order:
        i = int(i)
        if kind in ("pairs", "preference"):
            first, second = ("real", others[(i + number) % len(others)]) if kind == "pairs" else couples[
                (i + number) % len(couples)
            ]
            left = (i // 2 + i) % 2 == 0 if kind == "pairs" else bool(rng.integers(2))
            (one, looks_one), (two, looks_two) = take(first), take(second)
            if kind == "pairs":
                evidence = _mean_for(level[second], effects, spread) + skill + looks_one - looks_two
            else:
                evidence = (
                    level.get(second, 0.5) - level.get(first, 0.5)
                ) * 2 + taste[first] - taste[second] + looks_one - looks_two
            evidence = (evidence if left else -evidence) + bias
            said = blindly(("left", "right"), "left" if evidence + rng.standard_normal() > 0 else "right")
            trial: dict[str, Any] = {
                "stimulus_left": one if left else two,
                "stimulus_right": two if left else one,
                "source_left": first if left else second,
                "source_right": second if left else first,
                "response": said,
                "_evidence": evidence,
            }
            if kind == "pairs":
                right = "left" if left else "right"
                trial |= {"side_correct": right, "correct": int(said == right)}
            found.append(trial)
        elif kind == "rating":
            source = sources[(i + number) % len(sources)]
            picture, how = take(source)
            for part in parts:
                evidence = (0.5 - level.get(source, 0.3)) * 3 + skill + how
                rating = 1 + int((evidence + rng.standard_normal() > CUTS).sum())
                said = blindly(("1", "2", "3", "4", "5"), str(rating))
                found.append(
                    {
                        "stimulus": picture,
                        "source": source,
                        "part": part,
                        "response": said,
                        "_evidence": evidence,
                    }
                )
        else:
            real = i % 2 == 0
            source = "real" if real else others[(i // 2 + number) % len(others)]
            picture, how = take(source)
            share = level[source] if not real else float(np.mean(list(level.values())))
            extra: dict[str, Any] = {}
            if kind == "timed":
                ms = exposures_ms[(i // 2) % len(exposures_ms)]
                gain = np.log(ms / min(exposures_ms) + 1) / np.log(max(exposures_ms) / min(exposures_ms) + 1)
                share = 0.5 + (share - 0.5) * float(gain)
                measured = round(ms + float(rng.normal(0, 1.5)), 1)
                extra = {
                    "exposure_ms": ms,
                    "exposure_measured_ms": measured,
                    "exposure_flagged": int(abs(measured - ms) > 1000 / 60),
                }
            mean = _mean_for(share, effects, spread) + skill
            evidence = (mean if real else -mean) + bias + how
            heard = evidence + rng.standard_normal() > 0
            said = blindly(("real", "generated"), "real" if heard else "generated")
            found.append(
                {
                    "stimulus": picture,
                    "source": source,
                    "response": said,
                    "correct": int((said == "real") == real),
                    **extra,
                    "_evidence": evidence,
                }
            )
    return found
