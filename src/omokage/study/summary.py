"""What can be said about a study of which only totals were published.

Without the single answers nobody can say how much people and pictures differ, so no interval can allow for
it. This module computes what the totals allow, shows how wide intervals would be under stated assumptions,
and names the analyses that are impossible.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from ..errors import UserError
from ..files import replacing
from .analysis import p_text, percent
from .statistics import exact_interval

POWER = 0.8


@dataclass(frozen=True)
class Totals:
    """The totals of a study in which each person judged the same number of pairs or pictures.

    Args:
        name: of the study.
        people: how many took part.
        trials: answers of each person.
        share: the mean share of right answers, as published.
        pictures: pairs or pictures shown; None: as many as trials, the same for all.
        above: a share of right answers, and how many people were above it; None: not published.
        digits: the digits of ``share`` in percent; 0 for "49%".
        chosen_by_hand: whether pictures were picked by hand.
        chance: the share of right answers of guessing.
    """

    name: str
    people: int
    trials: int
    share: float
    pictures: int | None = None
    above: tuple[float, int] | None = None
    digits: int = 0
    chosen_by_hand: bool = False
    chance: float = 0.5


RAI2020 = Totals("rai2020", 26, 12, 0.49, above=(0.70, 6), chosen_by_hand=True)
"""Twelve pairs of a real and a generated face, 26 people, 49% right on average, 6 people above 70%."""


@dataclass(frozen=True)
class Assumed:
    """The interval if people and pictures differed this much. low, high: of the mean share."""

    person_sd: float
    picture_sd: float
    low: float
    high: float
    margin: float


@dataclass(frozen=True)
class Summary:
    """What the totals allow.

    Attributes:
        answers, right: all answers, and the right ones; ``right`` is the range that rounding allows.
        naive: the exact interval for independent answers, and its half width near chance.
        p: of the exact binomial test against chance.
        provable: the smallest margin that these answers show, if they were independent.
        planned: the smallest margin that a study of this size shows with 80% power, if independent.
        needed: independent answers needed to show the margin with 80% power.
        expected_above, p_above: people above the limit if all guess, and the chance of so many or more.
        person_sd: how much people must differ to give so many above the limit; NaN: not known.
        assumed: intervals under assumptions.
    """

    totals: Totals
    margin: float
    answers: int
    right: tuple[int, int]
    naive: tuple[float, float]
    half_width: float
    p: tuple[float, float]
    provable: float
    planned: float
    needed: int
    expected_above: float
    p_above: float
    person_sd: float
    assumed: list[Assumed] = field(default_factory=list)


def analyse(totals: Totals, margin: float = 0.05) -> Summary:
    """Compute what the totals allow.

    Raises:
        UserError: totals that contradict each other.

    >>> found = analyse(RAI2020)
    >>> found.answers, found.right, f"{found.half_width:.3f}", f"{found.planned:.3f}", found.needed
    (312, (152, 154), '0.055', '0.083', 857)
    """
    t = totals
    if t.people < 1 or t.trials < 1 or not 0 <= t.share <= 1:
        raise UserError(f"{t.name}: people and trials are 1 or more, and the share lies between 0 and 1")
    if t.above is not None and not (0 <= t.above[0] < 1 and 0 <= t.above[1] <= t.people):
        raise UserError(f"{t.name}: {t.above[1]} of {t.people} people above {t.above[0]:.0%} is impossible")
    n = t.people * t.trials
    rounding = 0.5 * 10.0 ** -(t.digits + 2)
    low = int(np.ceil(n * max(0.0, t.share - rounding) - 1e-9))
    high = int(np.floor(n * min(1.0, t.share + rounding) + 1e-9))
    if low > high:
        low = high = round(n * t.share)
    middle = round((low + high) / 2)
    noise = t.chance * (1 - t.chance)
    z = float(stats.norm.ppf(0.95) + stats.norm.ppf(0.5 + POWER / 2))
    reach = float(stats.norm.ppf(0.95)) * np.sqrt(noise / n)
    expected, p_above, person_sd = float("nan"), float("nan"), float("nan")
    if t.above is not None:
        least = int(np.floor(t.above[0] * t.trials + 1e-9)) + 1
        tail = float(stats.binom.sf(least - 1, t.trials, t.chance))
        expected = t.people * tail
        p_above = float(stats.binom.sf(t.above[1] - 1, t.people, tail))
        person_sd = _person_sd(t.share, t.trials, least, t.above[1] / t.people)
    p = [float(stats.binomtest(k, n, t.chance).pvalue) for k in (low, high)]
    summary = Summary(
        t,
        margin,
        n,
        (low, high),
        exact_interval(middle, n),
        float(stats.norm.ppf(0.975)) * float(np.sqrt(noise / n)),
        (min(p), max(p)),
        float(max(abs(low / n - t.chance), abs(high / n - t.chance)) + reach),
        float(z * np.sqrt(noise / n)),
        int(np.ceil(z * z * noise / margin**2)),
        expected,
        p_above,
        person_sd,
    )
    own = [0.0] if not np.isfinite(person_sd) else [0.0, round(person_sd, 3)]
    for people_differ in sorted({*own, 0.1}):
        for pictures_differ in (0.0, 0.1, 0.2):
            summary.assumed.append(_assumed(t, people_differ, pictures_differ))
    return summary


def _person_sd(share: float, trials: int, least: int, part: float) -> float:
    """The standard deviation of a beta distribution of persons that puts this part at ``least`` or more."""

    def excess(sd: float) -> float:
        total = share * (1 - share) / sd**2 - 1
        law = stats.betabinom(trials, share * total, (1 - share) * total)
        return float(law.sf(least - 1)) - part

    top = float(np.sqrt(share * (1 - share))) * 0.999
    if not 0 < share < 1 or excess(1e-3) >= 0:
        return 0.0 if 0 < share < 1 else float("nan")
    return float(optimize.brentq(excess, 1e-3, top)) if excess(top) > 0 else float("nan")


def _assumed(t: Totals, person_sd: float, picture_sd: float) -> Assumed:
    noise = t.share * (1 - t.share)
    pictures = t.pictures or t.trials
    own = max(0.0, noise - person_sd**2 - picture_sd**2) / (t.people * t.trials)
    variance = own + person_sd**2 / t.people + picture_sd**2 / pictures
    # Where nothing differs, answers are independent and there is no scarcer side.
    groups = min([t.people] * (person_sd > 0) + [pictures] * (picture_sd > 0) or [t.people * t.trials])
    wide = float(stats.t.ppf(0.975, groups - 1) * np.sqrt(variance)) if groups > 1 else float("nan")
    narrow = float(stats.t.ppf(0.95, groups - 1) * np.sqrt(variance)) if groups > 1 else float("nan")
    low, high = max(0.0, t.share - wide), min(1.0, t.share + wide)
    return Assumed(person_sd, picture_sd, low, high, abs(t.share - t.chance) + narrow)


def report(totals: Totals, margin: float = 0.05) -> str:
    """The summary's report as Markdown."""
    s = analyse(totals, margin)
    t = totals
    right = f"{s.right[0]} to {s.right[1]}" if s.right[0] != s.right[1] else f"{s.right[0]}"
    points = f"± {100 * margin:g} points"
    shown = s.provable < margin
    lines = [
        f"# {t.name}: what its totals allow",
        "",
        f"Published: {t.people} people, {t.trials} trials each, {percent(t.share, t.digits)} right on average"
        + (f", {t.above[1]} people above {percent(t.above[0], 0)}" if t.above else "")
        + ".",
        "",
        "## What can be computed",
        "",
        f"- {s.answers:,} answers, of which {right} were right"
        + (" (the published share is rounded)." if s.right[0] != s.right[1] else "."),
        f"- If all answers were independent: 95% interval {percent(s.naive[0])} to {percent(s.naive[1])} "
        f"(exact; about ± {100 * s.half_width:.1f} points). They are not, so the right interval is wider.",
        f"- Exact binomial test against {percent(t.chance, 0)}: "
        + (p_text(s.p[0]) if abs(s.p[0] - s.p[1]) < 5e-4 else f"p from {s.p[0]:.2f} to {s.p[1]:.2f}")
        + ". A difference from chance is "
        + ("shown, if all answers were independent." if s.p[1] < 0.05 else "not shown."),
        f"- Equivalence with chance within {points}: not shown, even if all answers were independent. "
        f"The smallest margin that these answers show is then ± {100 * s.provable:.1f} points."
        if not shown
        else f"- Equivalence with chance within {points}: shown if all answers were independent "
        f"(down to ± {100 * s.provable:.1f} points).",
        f"- A study of this size shows margins down to ± {100 * s.planned:.1f} points with {POWER:.0%} "
        f"power, at best. {points} needs {s.needed:,} independent answers, and more as answers are alike.",
    ]
    if t.above is not None:
        lines.append(
            f"- If all guessed, {s.expected_above:.1f} people would be above {percent(t.above[0], 0)}; "
            f"there were {t.above[1]} ({p_text(s.p_above)} for so many or more)."
        )
        if s.person_sd > 0.005:
            lines.append(
                f"- So people probably differ: a standard deviation of {100 * s.person_sd:.0f} points "
                "between them (a beta distribution) gives so many. Then some can tell, and others take "
                "generated pictures for real more often than not."
            )
    lines += [
        "",
        "The interval, if people and pictures differ by so much (standard deviations of their true shares of "
        "right answers, in points):",
        "",
        "| people differ by | pictures differ by | 95% interval | smallest margin shown |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {100 * row.person_sd:.0f} | {100 * row.picture_sd:.0f} "
        f"| {percent(row.low)} to {percent(row.high)} | ± {100 * row.margin:.1f} |"
        for row in s.assumed
    ]
    lines += [
        "",
        "## What the study could show, and what not",
        "",
        "- It could show that people are much better than chance: "
        f"a mean of {percent(t.chance + 1.5 * s.half_width, 0)} or more would have been noticed.",
        "- It could not show that people cannot tell. For that, accuracy must be shown to lie within a small "
        f"margin of chance, and a study of {s.answers:,} answers can count on ± {100 * s.planned:.1f} points "
        "at best.",
        "- A mean near chance does not say that every person guesses, nor that every picture fools."
        + (" The number of people far above chance speaks against the first." if s.p_above < 0.05 else ""),
    ]
    if t.chosen_by_hand:
        lines.append(
            "- The pictures were picked by hand. The result holds for these pictures, and not for what the "
            "model makes in general."
        )
    lines += [
        "",
        "## What is impossible without the single answers",
        "",
        "- An interval that allows for people and pictures, which is the one to report.",
        "- Accuracy of each picture and each person; which pictures fooled people.",
        "- A leaning towards the left or right side, and so d′ free of it.",
        "- Response times, learning or tiring over the trials, devices, groups of people.",
        "- Exclusion of people who did not pay attention.",
        "- A mixed model; agreement with FID or other metrics, which also needs several models.",
    ]
    return "\n".join(lines) + "\n"


def write(totals: Totals, out: str | Path, margin: float = 0.05) -> Path:
    """Write the report as ``summary.md`` into the folder ``out``; returns its path."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "summary.md") as unfinished:
            unfinished.write_text(report(totals, margin), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder / "summary.md"
