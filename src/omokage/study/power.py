"""How many people a study needs, by simulating the design and testing it as the report does."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import UserError
from ..progress import Progress, opened
from . import simulate
from .design import Design
from .simulate import Batch, Effects
from .statistics import wilson

Floats = NDArray[np.float64]

MOST_PEOPLE = 3000
CELLS = 1_500_000  # answers that are simulated at once


@dataclass(frozen=True)
class Step:
    """A number of people that was tried.

    Attributes:
        people: how many.
        difference: the share of simulated studies in which the clustered test finds a difference from chance.
        equivalence: the share in which the equivalence test finds none beyond the margin.
        half_width: the mean half width of the 95% interval.
        studies: simulated studies behind these shares.
    """

    people: int
    difference: float
    equivalence: float
    half_width: float
    studies: int


@dataclass(frozen=True)
class Plan:
    """The answer to "how many people?".

    Attributes:
        people: the smallest number that reaches the power; None if no number up to 3,000 does.
        reached: the power there, with its 95% simulation interval.
        aim: "difference" from chance, or "equivalence" with it.
        pictures: of each kind, as simulated.
        steps: all numbers that were tried, in order.
        sentence: for the paper or the pre-registration.
        notes: what is assumed, and what would help.
    """

    people: int | None
    reached: tuple[float, float, float] | None
    aim: str
    effect: float
    power: float
    margin: float
    trials: int
    pictures: int
    effects: Effects
    seed: int
    steps: list[Step] = field(default_factory=list)
    sentence: str = ""
    notes: list[str] = field(default_factory=list)


def plan(
    design: Design,
    effect: float = 0.5,
    power: float = 0.8,
    *,
    margin: float | None = None,
    pictures: int | None = None,
    effects: Effects = Effects(),
    alpha: float = 0.05,
    studies: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """The number of people for a design of pairs, single or timed pictures, or preference.

    Args:
        effect: the true share of right answers (in preference: of wins). At chance the aim is to show
            equivalence; elsewhere it is to show a difference from chance.
        power: the share of studies that should show it.
        margin: of equivalence; None: the design's.
        pictures: of each kind; None: as many as one person sees. More pictures are better than the same few.
        effects: how much people and pictures differ, and lapses.
        studies: simulated studies for each number of people.

    Raises:
        UserError: a value is out of range, the design is a rating, or one person needs more pictures.
    """
    if not 0.0 < effect < 1.0:
        raise UserError(f"--effect {effect:g}: give a share of right answers between 0 and 1, like 0.55")
    if not 0.0 < power < 1.0:
        raise UserError(f"--power {power:g}: give a share between 0 and 1, like 0.8")
    if design.kind == "rating":
        raise UserError("a plan is made for shares; for ratings there is none yet")
    if studies < 100:
        raise UserError(f"--studies {studies}: at least 100")
    if not 0 <= effects.lapses < 1 or min(effects.person_sd, effects.picture_sd, effects.bias_sd) < 0:
        raise UserError("lapses lie between 0 and 1, and standard deviations are not below 0")
    chance = 0.5
    best = 1 - effects.lapses / 2
    if not 1 - best < effect < best:
        raise UserError(f"--effect {effect:g}: with {effects.lapses:.0%} lapses {best:g} is the most")
    wide = design.hypotheses.equivalence_margin if margin is None else margin
    if not 0 < wide < 0.5:
        raise UserError(f"--margin {wide:g}: give a margin between 0 and 0.5, like 0.05")
    aim = "equivalence" if abs(effect - chance) < 1e-9 else "difference"
    single = design.kind in ("single", "timed")
    least = -(-design.trials // 2) if single else design.trials
    count = least if pictures is None else pictures
    if count < least:
        raise UserError(f"--pictures {count}: one person sees {least} of each kind; give at least as many")

    tried: dict[int, Step] = {}

    def share(step: Step) -> float:
        return step.equivalence if aim == "equivalence" else step.difference

    with opened(progress, "simulating studies", None) as task:

        def attempt(people: int, many: int) -> Step:
            step = _simulate(design, people, count, effect, wide, effects, alpha, many, seed + people)
            task.advance(many, f"{people} people: {share(step):.0%}")
            tried[people] = step
            return step

        rough = max(100, studies // 4)
        low, high = 0, 10
        while share(attempt(high, rough)) < power and high < MOST_PEOPLE:
            low, high = high, min(MOST_PEOPLE, int(high * 1.7) + 1)
            # Pictures, not people, may be what is scarce: then more people no longer help.
            if len(tried) > 4 and tried[low].half_width > 0.97 * sorted(tried.items())[-2][1].half_width:
                done = [share(step) for _, step in sorted(tried.items())[-2:]]
                if max(done) < power and high >= MOST_PEOPLE // 4:
                    break
        found: int | None = None
        if share(tried[max(tried)]) >= power:
            low, high = max([n for n in tried if n < max(tried)], default=1), max(tried)
            while high - low > max(1, high // 25):
                middle = (low + high) // 2
                if share(attempt(middle, studies)) >= power:
                    high = middle
                else:
                    low = middle
            while share(attempt(high, 2 * studies)) < power and high < MOST_PEOPLE:
                high += max(1, high // 25)
            found = high if share(tried[high]) >= power else None
    reached = None
    if found is not None:
        step = tried[found]
        ends = wilson(share(step) * step.studies, step.studies)
        reached = (share(step), float(ends[0]), float(ends[1]))
    plan_ = Plan(
        found,
        reached,
        aim,
        effect,
        power,
        wide,
        design.trials,
        count,
        effects,
        seed,
        [tried[people] for people in sorted(tried)],
    )
    return _told(plan_, design)


def _told(plan_: Plan, design: Design) -> Plan:
    what = (
        f"equivalence with chance within ± {100 * plan_.margin:g} points, if accuracy is chance,"
        if plan_.aim == "equivalence"
        else f"a difference from chance, if accuracy is {100 * plan_.effect:g}%,"
    )
    kinds = "pictures of each kind" if design.kind != "preference" else "pictures of each source"
    if plan_.people is None or plan_.reached is None:
        best = plan_.steps[-1]
        share = best.equivalence if plan_.aim == "equivalence" else best.difference
        sentence = (
            f"No number of people shows {what} with a power of {plan_.power:.0%}: {best.people:,} people "
            f"reach {share:.0%} with {plan_.pictures} {kinds}."
        )
        help_ = "Give more pictures (--pictures); with few of them their differences hide what is looked for."
    else:
        sentence = (
            f"{plan_.people:,} people with {plan_.trials} trials each on {plan_.pictures} {kinds} show "
            f"{what} in {plan_.reached[0]:.0%} of simulated studies "
            f"(95% interval {plan_.reached[1]:.1%} to {plan_.reached[2]:.1%}; clustered test at 5%)."
        )
        help_ = "Recruit somewhat more, for those who do not finish or are left out."
    e = plan_.effects
    notes = [
        f"Assumed, where the noise of one answer is 1: people differ by {e.person_sd:g}, pictures by "
        f"{e.picture_sd:g}, leanings to one answer by {e.bias_sd:g}; {e.lapses:.0%} of answers are given "
        "blindly. A pilot shows better values.",
        help_,
    ]
    return replace(plan_, sentence=sentence, notes=notes)


def _simulate(
    design: Design,
    people: int,
    pictures: int,
    effect: float,
    margin: float,
    effects: Effects,
    alpha: float,
    studies: int,
    seed: int,
) -> Step:
    rng = np.random.default_rng(seed)
    at_once = max(1, min(studies, CELLS // (people * max(design.trials, pictures))))
    different, equivalent, width, done = 0, 0, 0.0, 0
    while done < studies:
        batch_size = min(at_once, studies - done)
        if design.kind in ("single", "timed"):
            batch = simulate.single(rng, batch_size, people, design.trials, pictures, effect, effects)
        else:  # a preference between two sources is a pair whose right answer is the first
            batch = simulate.pairs(rng, batch_size, people, design.trials, pictures, effect, effects)
        mean, se, df = batch_accuracy(batch)
        away = np.abs(mean - 0.5)
        with np.errstate(divide="ignore", invalid="ignore"):
            different += int((2 * stats.t.sf(away / se, df) < alpha).sum())
            equivalent += int((away + stats.t.ppf(1 - alpha, df) * se < margin).sum())
        width += float((stats.t.ppf(0.975, df) * se).sum())
        done += batch_size
    return Step(people, different / studies, equivalent / studies, width / studies, studies)


def batch_accuracy(batch: Batch) -> tuple[Floats, Floats, int]:
    """Mean, clustered standard error and degrees of freedom of the accuracy of many studies at once.

    The same numbers as `statistics.proportion` gives for each study, which a test compares. It relies on
    every person seeing a picture at most once.
    """
    correct = batch.correct
    studies, people, trials = correct.shape
    n = people * trials
    mean = correct.reshape(studies, n).mean(1)
    e = correct - mean[:, None, None]
    by_person = (e.sum(2) ** 2).sum(1)
    alone = (e * e).sum((1, 2))
    shown = batch.pictures.reshape(studies, n, -1)
    size = int(shown.max()) + 1
    flat = e.reshape(studies, n)
    offset = np.arange(studies)[:, None]

    def squares(keys: NDArray[np.int64], many: int) -> Floats:
        sums = np.bincount((offset * many + keys).ravel(), flat.ravel(), minlength=studies * many)
        found: Floats = (sums.reshape(studies, many) ** 2).sum(1)
        return found

    by_picture = sum(squares(shown[:, :, i], size) for i in range(shown.shape[2]))
    if shown.shape[2] == 2:
        low = shown.min((0, 1))
        spans = shown.max((0, 1)) - low + 1
        pair = (shown[:, :, 0] - low[0]) * int(spans[1]) + shown[:, :, 1] - low[1]
        by_picture = by_picture - squares(pair, int(spans[0] * spans[1]))
    # Every study shows all its pictures, as soon as there are more than a few people.
    pictures = min(len(np.unique(shown[0, :, i])) for i in range(shown.shape[2]))
    groups = min(people, pictures)
    variance = np.maximum(by_person + by_picture - alone, np.maximum(by_person, by_picture))
    return mean, np.sqrt(variance * groups / (groups - 1)) / n, groups - 1
