"""How often the intervals of a study cover the truth, and how often the equivalence test is wrong.

Simulates studies of every kind whose truth is known exactly, analyses each as `omokage study report` does,
and counts. Takes about eleven minutes on a free core.

    python bench/study_coverage.py --studies 5000 -o bench/results/study_coverage.md
"""

import argparse
import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from omokage.files import replacing
from omokage.hardware import machine_name
from omokage.progress import TerminalProgress, opened
from omokage.study import ranking, signal_detection, simulate, statistics
from omokage.study.simulate import Batch, Effects

SOME = Effects()
MANY = Effects(person_sd=0.5, picture_sd=0.5, bias_sd=0.4, lapses=0.05)
NONE = Effects(0.0, 0.0, 0.0, 0.0)
AT_ONCE = 50


Estimates = Iterator[tuple[str, statistics.Interval, float]]
"""Name, interval and truth of each estimate of one study."""


class Case(NamedTuple):
    """A design, its effects, how to simulate studies of it, and what to estimate with the truth.

    estimates: of one study, pairs of name and `statistics.Interval`.
    margin: the truth of the first estimate lies this far from ``centre``: at the edge of equivalence.
    """

    name: str
    effects: str
    make: Callable[[np.random.Generator, int], Batch]
    estimates: Callable[[Batch, int], Estimates]
    centre: float | None = None
    margin: float = 0.0


def accuracy_of(truth: float) -> Callable[[Batch, int], Estimates]:
    def estimates(batch: Batch, study: int) -> Estimates:
        correct = batch.correct[study].reshape(-1)
        yield "accuracy", statistics.proportion(correct, batch.clusters(study)), truth

    return estimates


def detection_of(truth: float) -> Callable[[Batch, int], Estimates]:
    def estimates(batch: Batch, study: int) -> Estimates:
        yield from accuracy_of(truth)(batch, study)
        found = signal_detection.sensitivity(
            batch.response[study].reshape(-1), batch.truth[study].reshape(-1), batch.clusters(study)
        )
        yield "hit rate", found.hit_rate, truth
        yield "d′", found.d_prime, 2 * float(stats.norm.ppf(truth))
        yield "bias c", found.bias, 0.0

    return estimates


def timed_of(levels: list[float]) -> Callable[[Batch, int], Estimates]:
    def estimates(batch: Batch, study: int) -> Estimates:
        correct, clusters = batch.correct[study].reshape(-1), batch.clusters(study)
        assert batch.exposure is not None
        exposure = batch.exposure[study].reshape(-1)
        for number, level in enumerate(levels):
            mine = exposure == number
            found = statistics.proportion(correct[mine], clusters[mine])
            yield f"accuracy, exposure {number + 1}", found, level

    return estimates


def rating_of(
    centres: list[float], effects: Effects
) -> Callable[[Batch, int], Estimates]:
    truth = [simulate.mean_rating(centre, effects) for centre in centres]

    def estimates(batch: Batch, study: int) -> Estimates:
        value, clusters = batch.response[study].reshape(-1), batch.clusters(study)
        source = batch.truth[study].reshape(-1)
        yield "mean", statistics.mean(value[source == 0], clusters[source == 0]), truth[0]
        yield (
            "difference",
            statistics.difference(value, source == 0, source == 1, clusters),
            truth[0] - truth[1],
        )

    return estimates


def preference_of(
    quality: list[float], effects: Effects
) -> Callable[[Batch, int], Estimates]:
    share = np.array([[simulate.win_share(a - b, effects) for b in quality] for a in quality])
    np.fill_diagonal(share, 0.0)
    strength = ranking.strengths(share)  # what the model says of endlessly many answers
    wins = share.sum(1) / (len(quality) - 1)

    def estimates(batch: Batch, study: int) -> Estimates:
        assert batch.second is not None
        first, second = batch.truth[study].reshape(-1), batch.second[study].reshape(-1)
        won = batch.response[study].reshape(-1) == 1
        shown = batch.pictures[study].reshape(len(won), 2)
        people = np.repeat(np.arange(batch.response.shape[1]), batch.response.shape[2])
        found = ranking.rank(
            np.where(won, first, second).astype(str).tolist(),
            np.where(won, second, first).astype(str).tolist(),
            people,
            np.where(won, shown[:, 0], shown[:, 1]),
            np.where(won, shown[:, 1], shown[:, 0]),
            resamples=0,
        )
        row = next(row for row in found.rows if row.name == "0")
        yield "share of wins", row.share, float(wins[0])
        yield "strength", row.strength, float(strength[0])

    return estimates


def cases() -> list[Case]:
    found = []
    for label, effects in (("some", SOME), ("many", MANY)):
        for truth in (0.5, 0.6, 0.75):
            found.append(
                Case(
                    f"pairs, 60 people × 20 of 40 pairs, {truth:.0%} right",
                    label,
                    lambda rng, n, t=truth, e=effects: simulate.pairs(rng, n, 60, 20, 40, t, e),
                    accuracy_of(truth),
                )
            )
        found.append(
            Case(
                "pairs, 26 people × the same 12 + 12 pictures, 50% right",
                label,
                lambda rng, n, e=effects: simulate.pairs(rng, n, 26, 12, 12, 0.5, e),
                accuracy_of(0.5),
            )
        )
        for truth in (0.5, 0.6, 0.75):
            found.append(
                Case(
                    f"single, 60 people × 30 of 80 pictures, {truth:.0%} right",
                    label,
                    lambda rng, n, t=truth, e=effects: simulate.single(rng, n, 60, 30, 40, t, e),
                    detection_of(truth),
                )
            )
        levels = [0.5, 0.6, 0.75]
        found.append(
            Case(
                "timed, 60 people × 36 of 80 pictures, three exposures",
                label,
                lambda rng, n, e=effects: simulate.single(rng, n, 60, 36, 40, [0.5, 0.6, 0.75], e),
                timed_of(levels),
            )
        )
        centres = [0.4, -0.2]
        found.append(
            Case(
                "rating, 50 people × 24 of 60 pictures, two sources",
                label,
                lambda rng, n, e=effects: simulate.ratings(rng, n, 50, 24, 30, [0.4, -0.2], e),
                rating_of(centres, effects),
            )
        )
        quality = [0.5, 0.2, 0.0]
        found.append(
            Case(
                "preference, 60 people × 24 of 90 pictures, three sources",
                label,
                lambda rng, n, e=effects: simulate.preferences(rng, n, 60, 24, 30, [0.5, 0.2, 0.0], e),
                preference_of(quality, effects),
            )
        )
    found.append(
        Case(
            "pairs, 60 people × 20 of 40 pairs, all guess",
            "none",
            lambda rng, n: simulate.pairs(rng, n, 60, 20, 40, 0.5, NONE),
            accuracy_of(0.5),
        )
    )
    found.append(
        Case(
            "pairs, 26 people × the same 12 + 12 pictures, all guess",
            "none",
            lambda rng, n: simulate.pairs(rng, n, 26, 12, 12, 0.5, NONE),
            accuracy_of(0.5),
        )
    )
    return found


def edges() -> list[Case]:
    """Designs whose truth lies just at the margin, where calling it equivalent is always wrong."""
    found = []
    for label, effects in (("some", SOME), ("many", MANY)):
        for margin, (people, trials, pictures) in (
            (0.05, (200, 20, 100)),
            (0.10, (60, 20, 40)),
            (0.15, (26, 12, 12)),
        ):
            found.append(
                Case(
                    f"pairs, {people} people × {trials} of {pictures} pairs",
                    label,
                    lambda rng, n, p=people, t=trials, i=pictures, m=margin, e=effects: simulate.pairs(
                        rng, n, p, t, i, 0.5 + m, e
                    ),
                    accuracy_of(0.5 + margin),
                    0.5,
                    margin,
                )
            )
        for people, trials, pictures, margin in ((100, 40, 60, 0.05), (60, 30, 40, 0.10)):
            found.append(
                Case(
                    f"single, {people} people × {trials} of {2 * pictures} pictures",
                    label,
                    lambda rng, n, p=people, t=trials, i=pictures, m=margin, e=effects: simulate.single(
                        rng, n, p, t, i, 0.5 - m, e
                    ),
                    accuracy_of(0.5 - margin),
                    0.5,
                    margin,
                )
            )
    return found


class Counted(NamedTuple):
    case: Case
    estimate: str
    covered: float
    below: float
    above: float
    width: float
    equivalent: float


def count(case: Case, studies: int, seed: int, task) -> list[Counted]:
    rng = np.random.default_rng(seed)
    seen: dict[str, list[tuple[bool, bool, float, bool]]] = {}
    for done in range(0, studies, AT_ONCE):
        batch = case.make(rng, min(AT_ONCE, studies - done))
        for study in range(len(batch.response)):
            for name, interval, truth in case.estimates(batch, study):
                verdict = (
                    statistics.equivalence(interval, case.centre, case.margin).verdict
                    if case.centre is not None
                    else ""
                )
                within = verdict in ("equivalent", "different but within the margin")
                seen.setdefault(name, []).append(
                    (
                        interval.high < truth,
                        interval.low > truth,
                        (interval.high - interval.low) / 2,
                        within,
                    )
                )
        task.advance(len(batch.response), case.name)
    found = []
    for name, rows in seen.items():
        below, above, width, within = np.array(rows, float).T
        found.append(
            Counted(
                case,
                name,
                1 - below.mean() - above.mean(),
                below.mean(),
                above.mean(),
                float(np.nanmean(width)),
                within.mean(),
            )
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=5000, help="simulated studies for each design")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("-o", "--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    every, edge = cases(), edges()
    counted: list[list[Counted]] = []
    with opened(TerminalProgress(), "studies", options.studies * (len(every) + len(edge))) as task:
        for number, case in enumerate([*every, *edge]):
            counted.append(count(case, options.studies, options.seed + number, task))
    text = page(options, counted[: len(every)], counted[len(every) :])
    print(text)
    if options.out:
        with replacing(options.out) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def page(options: argparse.Namespace, every: list[list[Counted]], edge: list[list[Counted]]) -> str:
    noise = 100 * 1.96 * np.sqrt(0.95 * 0.05 / options.studies)
    rows = [row for rows in every for row in rows]
    differ = [row.covered for row in rows if row.case.effects != "none"]
    guess = [row.covered for row in rows if row.case.effects == "none"]
    size = max(row.equivalent for rows in edge for row in rows)
    lines = [
        "# Coverage of a study's intervals",
        "",
        f"{options.studies:,} simulated studies a design, seed {options.seed}, {date.today()}, "
        f"{machine_name()}, {os.cpu_count()} cores.",
        "`python bench/study_coverage.py` makes this table.",
        "",
        "Every study is simulated with a truth that is known exactly, and analysed as the report does it. "
        "A 95% interval should cover the truth in 95% of studies.",
        "",
        f"- Where people and pictures differ: {min(differ):.1%} to {max(differ):.1%}. Chance alone moves "
        f"these shares by ±{noise:.1f} points.",
        f"- Where everybody guesses: {min(guess):.1%} to {max(guess):.1%}. Answers are then independent, and "
        "intervals that allow for more are wider than needed, most so with few pictures.",
        f"- The equivalence test at 5% is wrong in at most {size:.1%} of studies whose truth lies at the "
        "margin.",
        "",
        "Effects, on the scale where the noise of one answer is 1: "
        f"some = people {SOME.person_sd}, pictures {SOME.picture_sd}, leaning {SOME.bias_sd}, "
        f"{SOME.lapses:.0%} lapses; many = people {MANY.person_sd}, pictures {MANY.picture_sd}, "
        f"leaning {MANY.bias_sd}, {MANY.lapses:.0%} lapses; none = everybody guesses.",
        "",
        "| design | effects | estimate | covered | too low | too high | half width |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.case.name} | {row.case.effects} | {row.estimate} | {row.covered:.1%} | {row.below:.1%} | "
        f"{row.above:.1%} | {row.width:.3f} |"
        for row in rows
    ]
    lines += [
        "",
        "## The equivalence test at the edge of its margin",
        "",
        "The truth lies at the margin, so every \"equivalent\" is an error. At most 5% should be.",
        "",
        "| design | effects | margin | called equivalent | covered |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.case.name} | {row.case.effects} | ±{row.case.margin:.0%} | {row.equivalent:.1%} | "
        f"{row.covered:.1%} |"
        for rows in edge
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
