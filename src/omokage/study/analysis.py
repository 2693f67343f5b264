"""The analysis of a study: everything that the report, its figures and its files show, as one record."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import UserError
from ..progress import Progress
from . import statistics
from .columns import QUESTION
from .correlation import Correlation, correlate
from .design import REAL, Design
from .mixed import Mixed, fit
from .ranking import Ranking, rank
from .signal_detection import Sensitivity, d_prime_of_people, sensitivity
from .statistics import Clusters, Equivalence, ExactTest, Interval, Spread
from .tables import Kept, Row, Tables, clusters, column, generated_source, keep

TOLD = ("pairs", "single", "timed")
"""The kinds of study in which an answer can be right."""

FEW = 3
"""A group of fewer people has no interval of its own."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Share:
    """A share of something in one row of a table: accuracy of a source, a group, a device."""

    name: str
    people: int
    answers: int
    interval: Interval


@dataclass(frozen=True)
class Accuracy:
    """Right answers, all together or of one source.

    Attributes:
        interval: the share of right answers.
        p: of the clustered t test against chance; Holm-adjusted where several sources are tested.
        exact: the exact test that nobody can tell at all, and the binomial test most papers give.
        equivalence: the test that accuracy is as good as chance.
        detection: d′ and bias.
    """

    name: str
    interval: Interval
    p: float
    exact: ExactTest
    binomial: ExactTest
    equivalence: Equivalence
    detection: Sensitivity


@dataclass(frozen=True)
class Exposure:
    """One exposure of a timed study. measured: quartiles of the measured time in ms, or None."""

    ms: float
    answers: int
    measured: tuple[float, float, float] | None
    flagged: int
    accuracy: Interval
    detection: Sensitivity


@dataclass(frozen=True)
class Rated:
    """The mean rating of a source on a part, and its difference from the reference source."""

    part: str
    source: str
    mean: Interval
    difference: Interval | None
    p: float
    shares: tuple[float, ...]  # of the ratings 1 to 5


@dataclass(frozen=True)
class Judged:
    """A picture or a person: how many answers, how many right, and Wilson's interval."""

    name: str
    source: str
    hits: int
    answers: int
    share: float
    low: float
    high: float
    d_prime: float = float("nan")


@dataclass(frozen=True)
class Times:
    """Response times of a group of answers, in ms: quartiles and geometric mean."""

    name: str
    answers: int
    lower: float
    median: float
    upper: float
    geometric: Interval


@dataclass(frozen=True)
class Grouping:
    """Accuracy (or mean rating) by groups of people or answers.

    Attributes:
        title: what the groups are.
        rows: one for each group.
        difference: of the first two groups where there are just two.
        p: for each group, that it differs from all others together; Holm-adjusted within the report.
        note: what was done or left out.
    """

    title: str
    rows: list[Share]
    difference: Interval | None
    p: list[float]
    note: str = ""


@dataclass(frozen=True)
class Analysis:
    """A study, analysed. What a kind of study does not have is None or empty."""

    design: Design
    pilot: bool
    people: int
    answers: int
    pictures: int
    kept: Kept
    looks: list[str]
    accuracy: Accuracy | None = None
    everyone: Interval | None = None
    sources: list[Accuracy] = field(default_factory=list)
    side: Interval | None = None
    exposures: list[Exposure] = field(default_factory=list)
    slope: Interval | None = None
    unflagged: Interval | None = None
    ranking: Ranking | None = None
    ratings: list[Rated] = field(default_factory=list)
    reference: str = ""
    by_picture: list[Judged] = field(default_factory=list)
    by_person: list[Judged] = field(default_factory=list)
    picture_spread: Spread | None = None
    person_spread: Spread | None = None
    guessing: list[float] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)
    slower: Interval | None = None
    groups: list[Grouping] = field(default_factory=list)
    order: Interval | None = None
    mixed: Mixed | None = None
    correlation: Correlation | None = None
    finding: str = ""
    sentence: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def analyse(
    given: Tables,
    *,
    pilot: bool | None = None,
    mixed: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse a study.

    Args:
        pilot: analyse the pilot. None: only if there is nothing else.
        mixed: fit the mixed model too, which takes some seconds.
        resamples, seed: of the bootstraps.

    Raises:
        UserError: there are no answers at all, or none are left after the exclusions.
    """
    if not given.answers:
        raise UserError("the study has no answers yet; there is nothing to report")
    if pilot is None:
        pilot = all(row["pilot"] for row in given.answers)
    kept = keep(given, pilot=pilot)
    if not kept.everyone:
        raise UserError("there are no answers of the main phase" + (" in the pilot" if pilot else ""))
    if not kept.answers:
        told = "; ".join(f"{rule.text}: {persons(rule.people)}" for rule in kept.rules if rule.people)
        raise UserError(f"no answers are left after the exclusions ({told}); check the design's rules")
    worker = _Worker(given, kept, pilot, resamples, seed, progress)
    return worker.whole(mixed)


class _Worker:
    """The steps of an analysis over the same rows."""

    def __init__(
        self,
        given: Tables,
        kept: Kept,
        pilot: bool,
        resamples: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.given, self.kept, self.pilot = given, kept, pilot
        self.design, self.kind = given.design, given.design.kind
        self.rows = kept.answers
        self.who = np.array([row["participant"] for row in self.rows], dtype=object)
        self.clusters = clusters(self.rows, self.kind)
        self.chance = self.design.hypotheses.chance
        self.resamples, self.seed, self.progress = resamples, seed, progress
        self.right = column(self.rows, "correct") if self.kind in TOLD else np.zeros(0)
        # What an answer is about, in numbers: right or wrong, or a rating.
        self.value = self.right if self.kind in TOLD else np.zeros(len(self.rows))
        if self.kind == "rating":
            self.value = np.array([float(row["response"]) for row in self.rows])

    def whole(self, mixed: bool) -> Analysis:
        # Pictures are counted as such here; the statistics count the scarcer side.
        found = Analysis(
            self.design,
            self.pilot,
            len(set(self.who)),
            len(self.rows),
            len(np.unique(self.clusters.pictures)),
            self.kept,
            self.given.looks,
        )
        changes: dict[str, Any] = {}
        if self.kind in TOLD:
            changes |= self._told()
        if self.kind == "preference":
            changes["ranking"] = self._ranking()
        if self.kind == "rating":
            changes |= self._ratings()
        changes |= self._pictures_and_people()
        changes |= self._times()
        if self.kind != "preference":
            changes |= self._groups()
        changes["correlation"] = self._correlation()
        notes = []
        if mixed and self.kind in TOLD:
            try:
                changes["mixed"] = fit(self.right, self.clusters)
            except UserError as error:
                notes.append(f"No mixed model: {error}.")
        elif mixed:
            notes.append("The mixed model is only for studies in which an answer can be right.")
        found = replace(found, **changes, notes=notes, warnings=self._warnings())
        finding, sentence = words(found)
        return replace(found, finding=finding, sentence=sentence)

    # Right and wrong

    def _signal(self, rows: NDArray[np.bool_]) -> tuple[NDArray, NDArray, int]:
        """Says left and is left, or says real and is real; and the number of pictures in a trial."""
        chosen = [row for row, taken in zip(self.rows, rows, strict=True) if taken]
        if self.kind == "pairs":
            said = np.array([row["response"] == "left" for row in chosen])
            return said, np.array([row["side_correct"] == "left" for row in chosen]), 2
        said = np.array([row["response"] == "real" for row in chosen])
        return said, np.array([row["source"] == REAL for row in chosen]), 1

    def _accuracy(self, name: str, rows: NDArray[np.bool_], apart: bool = False) -> Accuracy:
        right, those = self.right[rows], self.clusters[rows]
        said, signal, pictures = self._signal(rows)
        if apart and pictures == 1 and signal.any() and not signal.all():
            # There may be many more real pictures than pictures of one source: both count alike.
            found = statistics.difference(right, signal, ~signal, those, weights=(0.5, 0.5))
            found = replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
        else:
            found = statistics.proportion(right, those)
        exact = statistics.exact_labels(said, signal, self.who[rows])
        # In right answers, which go up and down with hits.
        expected = self._expected_right(said, signal, self.who[rows])
        exact = replace(exact, hits=int(right.sum()), expected=expected)
        margin = self.design.hypotheses.equivalence_margin
        return Accuracy(
            name,
            found,
            statistics.p_value(found, self.chance),
            exact,
            statistics.exact_guessing(right, self.chance),
            statistics.equivalence(found, self.chance, margin),
            sensitivity(said, signal, those, pictures=pictures),
        )

    @staticmethod
    def _expected_right(said: NDArray, signal: NDArray, who: NDArray) -> float:
        _, number = np.unique(who.astype(str), return_inverse=True)
        n = np.bincount(number)
        says, ones = np.bincount(number, said), np.bincount(number, signal)
        return float(((says * ones + (n - says) * (n - ones)) / n).sum())

    def _told(self) -> dict[str, Any]:
        every = np.ones(len(self.rows), bool)
        found: dict[str, Any] = {"accuracy": self._accuracy("all", every)}
        before = self.kept.everyone
        if len(before) > len(self.rows):
            found["everyone"] = statistics.proportion(column(before, "correct"), clusters(before, self.kind))
        source = np.array([generated_source(row, self.kind) for row in self.rows], dtype=object)
        names = [name for name in self.design.generated if (source == name).any()]
        if len(names) > 1:
            # A source of single pictures is judged against the real ones, so these belong to every source.
            real = (source == REAL) & (self.kind != "pairs")
            each = [self._accuracy(name, (source == name) | real, apart=True) for name in names]
            adjusted = statistics.holm([one.p for one in each])
            found["sources"] = [replace(one, p=p) for one, p in zip(each, adjusted, strict=True)]
        if self.kind == "pairs":
            left = np.array([row["response"] == "left" for row in self.rows], float)
            found["side"] = statistics.proportion(left, self.clusters)
        if self.kind == "timed":
            found |= self._exposures()
        index = column(self.rows, "trial_index")
        if len(np.unique(index)) > 2:
            # Over the whole of a session: from the first trial to the last.
            found["order"] = statistics.trend(self.right, index, self.clusters).scaled(float(np.ptp(index)))
        return found

    def _exposures(self) -> dict[str, Any]:
        meant = column(self.rows, "exposure_ms")
        measured, flags = column(self.rows, "exposure_measured_ms"), column(self.rows, "exposure_flagged")
        rows = []
        for ms in np.unique(meant[np.isfinite(meant)]):
            mine = meant == ms
            times = measured[mine & np.isfinite(measured)]
            lower, middle, upper = np.quantile(times, [0.25, 0.5, 0.75]) if len(times) else (np.nan,) * 3
            said, signal, _ = self._signal(mine)
            rows.append(
                Exposure(
                    float(ms),
                    int(mine.sum()),
                    (float(lower), float(middle), float(upper)) if len(times) else None,
                    int(np.nansum(flags[mine])),
                    statistics.proportion(self.right[mine], self.clusters[mine]),
                    sensitivity(said, signal, self.clusters[mine]),
                )
            )
        found: dict[str, Any] = {"exposures": rows}
        known = np.isfinite(meant)
        if len(rows) > 1:
            found["slope"] = statistics.trend(self.right[known], np.log2(meant[known]), self.clusters[known])
        good = ~(flags == 1)
        if 0 < good.sum() < len(good):
            found["unflagged"] = statistics.proportion(self.right[good], self.clusters[good])
        return found

    # Preferences and ratings

    def _ranking(self) -> Ranking:
        won, lost, winner, loser = [], [], [], []
        for row in self.rows:
            side, other = ("left", "right") if row["response"] == "left" else ("right", "left")
            won.append(str(row[f"source_{side}"]))
            lost.append(str(row[f"source_{other}"]))
            winner.append(row[f"stimulus_{side}"])
            loser.append(row[f"stimulus_{other}"])
        return rank(
            won,
            lost,
            self.who,
            winner,
            loser,
            resamples=self.resamples,
            seed=self.seed,
            progress=self.progress,
        )

    def _ratings(self) -> dict[str, Any]:
        source = np.array([str(row["source"]) for row in self.rows], dtype=object)
        part = np.array([str(row["part"] or "overall") for row in self.rows], dtype=object)
        names = [name for name in self.design.sources if (source == name).any()]
        reference = REAL if REAL in names else names[0]
        parts = [name for name in self.design.parts if (part == name).any()]
        rows = []
        for one in parts:
            for name in names:
                mine, other = (part == one) & (source == name), (part == one) & (source == reference)
                if not mine.any():
                    continue
                apart = (
                    statistics.difference(self.value, mine, other, self.clusters)
                    if name != reference and other.any()
                    else None
                )
                counts = Counter(self.value[mine].tolist())
                rows.append(
                    Rated(
                        one,
                        name,
                        statistics.mean(self.value[mine], self.clusters[mine], bounds=(1.0, 5.0)),
                        apart,
                        statistics.p_value(apart, 0.0) if apart is not None else float("nan"),
                        tuple(counts[float(k)] / int(mine.sum()) for k in range(1, 6)),
                    )
                )
        adjusted = statistics.holm([row.p for row in rows])
        return {
            "ratings": [replace(row, p=p) for row, p in zip(rows, adjusted, strict=True)],
            "reference": reference,
        }

    # Pictures and people

    def _pictures_and_people(self) -> dict[str, Any]:
        hits: dict[str, float] = defaultdict(float)
        answers: Counter[str] = Counter()
        source: dict[str, str] = {}
        for row, value in zip(self.rows, self._good(), strict=True):
            for picture, name, good in _shown(row, self.kind, value):
                hits[picture] += good
                answers[picture] += 1
                source[picture] = name
        names = sorted(answers, key=lambda name: (hits[name] / answers[name], name))
        found: dict[str, Any] = {}
        if self.kind == "rating":
            return {
                "by_picture": [
                    Judged(name, source[name], 0, answers[name], hits[name] / answers[name], np.nan, np.nan)
                    for name in names
                ]
            }
        low, high = statistics.wilson([hits[name] for name in names], [answers[name] for name in names])
        found["by_picture"] = [
            Judged(
                name, source[name], int(hits[name]), answers[name], hits[name] / answers[name], lo, hi
            )
            for name, lo, hi in zip(names, low.tolist(), high.tolist(), strict=True)
        ]
        if self.kind not in TOLD:
            return found
        # Of generated pictures alone: real ones may be taken for real at another rate altogether.
        made = [name for name in names if source[name] != REAL]
        found["picture_spread"] = statistics.between(
            [hits[name] for name in made], [answers[name] for name in made]
        )
        said, signal, pictures = self._signal(np.ones(len(self.rows), bool))
        people, d_prime, _ = d_prime_of_people(said, signal, self.who.astype(str), pictures=pictures)
        _, number = np.unique(self.who.astype(str), return_inverse=True)
        right, given = np.bincount(number, self.right), np.bincount(number)
        low, high = statistics.wilson(right, given)
        rows = [
            Judged(str(person), "", int(k), int(n), float(k / n), float(lo), float(hi), float(own))
            for person, k, n, lo, hi, own in zip(people, right, given, low, high, d_prime, strict=True)
        ]
        found["by_person"] = sorted(rows, key=lambda row: (row.share, row.name))
        found["person_spread"] = statistics.between(
            [row.hits for row in rows], [row.answers for row in rows]
        )
        most = Counter(row.answers for row in rows).most_common(1)[0][0]
        law = stats.binom(most, self.chance).pmf(np.arange(most + 1))
        found["guessing"] = (law * sum(row.answers == most for row in rows)).tolist()
        return found

    def _good(self) -> NDArray[np.float64]:
        """What counts for a picture: taken for real, preferred, or the rating."""
        if self.kind in ("single", "timed"):
            return np.array([float(row["response"] == "real") for row in self.rows])
        return self.value

    # Times

    def _times(self) -> dict[str, Any]:
        rt = column(self.rows, "rt")
        known = np.isfinite(rt) & (rt > 0)
        if not known.any():
            return {}
        sets: list[tuple[str, NDArray[np.bool_]]] = [("all answers", known)]
        if self.kind in TOLD:
            sets.append(("right answers", known & (self.right == 1)))
            sets.append(("wrong answers", known & (self.right == 0)))
        if self.kind in ("single", "timed"):
            for said in ("real", "generated"):
                sets.append((f'answer "{said}"', known & (column(self.rows, "response") == said)))
        log = np.log(np.where(known, rt, 1.0))
        rows = []
        for name, mine in sets:
            if mine.any():
                lower, median, upper = np.quantile(rt[mine], [0.25, 0.5, 0.75])
                rows.append(
                    Times(
                        name,
                        int(mine.sum()),
                        float(lower),
                        float(median),
                        float(upper),
                        _exp(statistics.mean(log[mine], self.clusters[mine])),
                    )
                )
        found: dict[str, Any] = {"times": rows}
        if self.kind in TOLD and (known & (self.right == 0)).any() and (known & (self.right == 1)).any():
            found["slower"] = _exp(
                statistics.difference(
                    log, known & (self.right == 0), known & (self.right == 1), self.clusters
                )
            )
        return found

    # Groups

    def _groups(self) -> dict[str, Any]:
        people = {row["participant"]: row for row in self.kept.participants}
        told: list[tuple[str, Callable[[Row], str | None], str]] = [
            ("Device", lambda row: row["device"], ""),
            ("Language of the page", lambda row: row["language"], ""),
        ]
        for question in self.design.questions:
            told.append(self._question(question, list(people.values())))
        found = []
        for title, of, note in told:
            labels = {person: of(row) for person, row in people.items()}
            found.append(self._grouping(title, [labels.get(person) for person in self.who], note))
        found = [group for group in found if len(group.rows) > 1 or group.note]
        flat = statistics.holm([p for group in found for p in group.p])
        place, adjusted = 0, []
        for group in found:
            adjusted.append(replace(group, p=flat[place : place + len(group.p)]))
            place += len(group.p)
        return {"groups": adjusted}

    def _question(
        self, question: Any, people: Sequence[Row]
    ) -> tuple[str, Callable[[Row], str | None], str]:
        name = QUESTION + question.id
        language = "en" if "en" in question.label else next(iter(question.label), "")
        title = question.label.get(language, question.id)
        given = [row.get(name) for row in people if row.get(name) is not None]
        if question.kind == "choice":
            labels = {one.id: one.label.get(language, one.id) for one in question.choices}
            return title, lambda row: labels.get(str(row.get(name)), row.get(name)), ""
        if question.kind == "text":
            return title, lambda row: None, f"A question with free text: {len(given)} answers, not analysed."
        numbers = [float(str(value)) for value in given if _is_number(value)]
        if not numbers:
            return title, lambda row: None, "Nobody gave a number."
        middle = float(np.median(numbers))

        def half(row: Row) -> str | None:
            value = row.get(name)
            if not _is_number(value):
                return None
            return f"up to {middle:g}" if float(str(value)) <= middle else f"above {middle:g}"

        return title, half, f"A number, split at its median of {middle:g}."

    def _grouping(self, title: str, labels: Sequence[str | None], note: str) -> Grouping:
        label = np.array([one if one is not None else "" for one in labels], dtype=object)
        names = [name for name in dict.fromkeys(sorted(label)) if name]
        rows, p = [], []
        bounds = (0.0, 1.0) if self.kind in TOLD else (1.0, 5.0)
        for name in names:
            mine, others = label == name, (label != name) & (label != "")
            people = len(set(self.who[mine]))
            found = (
                statistics.proportion(self.value[mine], self.clusters[mine])
                if self.kind in TOLD
                else statistics.mean(self.value[mine], self.clusters[mine], bounds=bounds)
            )
            if people < FEW:
                found = Interval(found.value, notes=(f"Fewer than {FEW} people: no interval.",))
            rows.append(Share(name, people, int(mine.sum()), found))
            apart = people >= FEW and len(set(self.who[others])) >= FEW
            p.append(
                statistics.p_value(statistics.difference(self.value, mine, others, self.clusters), 0.0)
                if apart
                else float("nan")
            )
        both = None
        if len(names) == 2:
            both = statistics.difference(self.value, label == names[0], label == names[1], self.clusters)
            p = [p[0], float("nan")]  # two groups are one comparison
        missing = len({w for w, one in zip(self.who, labels, strict=True) if one is None})
        if missing and names:
            note = f"{note} {persons(missing)} gave no answer.".strip()
        return Grouping(title, rows, both, p, note)

    # Metrics

    def _correlation(self) -> Correlation | None:
        if not self.given.metrics:
            return None
        runs = [name for name in self.design.generated if name in self.given.metrics]
        sums: dict[str, NDArray[np.float64]] = {}
        people = sorted(set(self.who))
        number = {person: i for i, person in enumerate(people)}
        totals = {name: np.zeros((len(people), 2)) for name in runs}
        for row, value in zip(self.rows, self._good(), strict=True):
            for source, good in _judgement(row, self.kind, value):
                if source in totals:
                    totals[source][number[row["participant"]]] += (good, 1.0)
        judged = {
            name: float(total[:, 0].sum() / total[:, 1].sum())
            for name, total in totals.items()
            if total[:, 1].sum()
        }
        rng = np.random.default_rng(self.seed)
        weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=self.resamples)
        for name in judged:
            drawn = weights @ totals[name]
            with np.errstate(invalid="ignore", divide="ignore"):
                sums[name] = drawn[:, 0] / drawn[:, 1]
        return correlate(judged, self.given.metrics, sums)

    def _warnings(self) -> list[str]:
        design, found = self.design, []
        if self.pilot:
            found.append("This is a pilot. Its answers are no result of the study.")
        for source, of in design.chosen_by_hand.items():
            among = f" out of {of:,}" if of else "; out of how many is not recorded"
            found.append(
                f"The pictures of {source} were picked by hand{among}. "
                f"The result holds for these pictures and not for what {source} makes in general."
            )
        if self.given.looks:
            when = ", ".join(self.given.looks[:10]) + (" …" if len(self.given.looks) > 10 else "")
            times = len(self.given.looks)
            found.append(
                f"Results were looked at {'once' if times == 1 else f'{times} times'} while the study ran "
                f"({when}). Whoever stops a study after a look at its results finds differences too often."
            )
        wanted = design.stopping.participants
        finished = sum(
            1
            for row in self.given.participants
            if row["status"] == "completed" and bool(row["pilot"]) == self.pilot
        )
        if wanted is None and not self.pilot:
            found.append("No number of participants was fixed beforehand: there is no stopping rule.")
        elif wanted is not None and finished < wanted and not self.pilot:
            found.append(
                f"The stopping rule asks for {wanted:,} complete participants; there are {finished:,}. "
                "The study is not finished."
            )
        return found


def _is_number(value: object) -> bool:
    try:
        return bool(np.isfinite(float(str(value))))
    except ValueError:
        return False


def _exp(found: Interval) -> Interval:
    """An interval of logarithms as one of ratios or geometric means; the standard error is left out."""
    value, low, high = (float(np.exp(end)) for end in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high, se=float("nan"))


def _shown(row: Row, kind: str, value: float) -> list[tuple[str, str, float]]:
    """The pictures of a trial with their sources, and what the answer says for each.

    1: taken for real or preferred; in ratings the rating.
    """
    if kind in ("pairs", "preference"):
        return [
            (str(row[f"stimulus_{side}"]), str(row[f"source_{side}"]), float(row["response"] == side))
            for side in ("left", "right")
        ]
    return [(str(row["stimulus"]), str(row["source"]), float(value))]


def _judgement(row: Row, kind: str, value: float) -> list[tuple[str, float]]:
    return [(source, good) for _, source, good in _shown(row, kind, value)]


def persons(count: int) -> str:
    """A number of people in words.

    >>> persons(1), persons(1200)
    ('1 person', '1,200 people')
    """
    return f"{count:,} {'person' if count == 1 else 'people'}"


def percent(value: float, digits: int = 1) -> str:
    """A share as text.

    >>> percent(0.4936)
    '49.4%'
    """
    return "–" if not np.isfinite(value) else f"{100 * value:.{digits}f}%"


def p_text(p: float) -> str:
    """A p value as papers print it.

    >>> p_text(0.0001), p_text(0.034), p_text(float("nan"))
    ('p < 0.001', 'p = 0.034', 'p not known')
    """
    if not np.isfinite(p):
        return "p not known"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def signed_text(value: float) -> str:
    """A number with two digits and a minus sign that is one.

    >>> signed_text(-0.126)
    '−0.13'
    """
    return f"{value:.2f}".replace("-", "−")


def clustered_text(found: Interval) -> str:
    """The interval of a share as papers print it."""
    if not found.known:
        return "no interval"
    return f"{found.level:.0%} CI {100 * found.low:.1f} to {100 * found.high:.1f}%"


def words(found: Analysis) -> tuple[str, str]:
    """What was found in one short sentence, and the sentence for the paper."""
    design = found.design
    if found.accuracy is not None:
        return _words_of_accuracy(found)
    if found.ranking is not None:
        rows = found.ranking.rows
        first = rows[0]
        finding = f"{first.name} was preferred most often: in {percent(first.share.value, 0)} of its trials."
        listed = "; ".join(
            f"{row.name} {signed_text(row.strength.value)} "
            f"({signed_text(row.strength.low)} to {signed_text(row.strength.high)})"
            for row in rows
            if np.isfinite(row.strength.value)
        )
        strengths = f"Bradley-Terry strengths were {listed} (95% CI clustered by person and picture). "
        sure = (
            f"{first.name} came first in {percent(first.first, 0)} of {found.ranking.resamples:,} "
            "bootstrap resamples of people."
            if np.isfinite(first.first)
            else ""
        )
        return finding, (
            f"{persons(found.people)} chose the better of two pictures in {found.answers:,} trials. "
            f"{strengths if listed else ''}{sure}"
        ).strip()
    overall = [row for row in found.ratings if row.part == found.ratings[0].part]
    best = max(overall, key=lambda row: row.mean.value)
    listed = "; ".join(
        f"{row.source} {row.mean.value:.2f}"
        + (f" ({row.mean.low:.2f} to {row.mean.high:.2f})" if row.mean.known else "")
        for row in overall
    )
    return (
        f"{best.source} was rated best ({overall[0].part}): {best.mean.value:.2f} on a scale of 1 to 5.",
        f"{persons(found.people)} rated {found.pictures} pictures from {design.scale[0]} to "
        f"{design.scale[1]} ({found.answers:,} ratings). Mean ratings ({overall[0].part}) were {listed} "
        "(95% CI clustered by person and picture).",
    )


def _words_of_accuracy(found: Analysis) -> tuple[str, str]:
    told = found.accuracy
    assert told is not None
    chance, margin = told.equivalence.centre, told.equivalence.margin
    points = f"±{100 * margin:g} percentage points"
    above = told.interval.value > chance
    verdict = told.equivalence.verdict
    if verdict == "equivalent":
        finding = f"People cannot tell: their accuracy is chance within {points}."
    elif verdict == "different but within the margin":
        finding = f"People are {'better' if above else 'worse'} than chance, but by less than {points}."
    elif verdict == "different":
        finding = (
            "People can tell generated pictures from real ones."
            if above
            else "People take generated pictures for real more often than real ones."
        )
    else:
        finding = "Undecided: neither a difference from chance nor equality with it is shown."
    what = {
        "pairs": "pairs of one real and one generated picture",
        "single": "single pictures, real or generated,",
        "timed": "single pictures, real or generated, shown for a limited time,",
    }[found.design.kind]
    trials = found.answers / found.people
    whole = abs(trials - round(trials)) < 0.05
    exactly = found.answers == round(trials) * found.people
    each = f"{'' if exactly else 'about '}{trials:.0f}" if whole else f"on average {trials:.1f}"
    test = (
        f"t({told.interval.df}) test against {percent(chance, 0)}: {p_text(told.p)}"
        if np.isfinite(told.p)
        else f"exact test: {p_text(told.exact.p)}"
    )
    equal = (
        f"equivalence with chance within {points} was "
        + ("shown" if verdict in ("equivalent", "different but within the margin") else "not shown")
        + (f" (two one-sided tests, {p_text(told.equivalence.p)})" if np.isfinite(told.equivalence.p) else "")
    )
    d_prime = told.detection.d_prime
    sense = (
        f" Sensitivity was d′ = {signed_text(d_prime.value)} "
        f"(95% CI {signed_text(d_prime.low)} to {signed_text(d_prime.high)})."
        if d_prime.known
        else ""
    )
    sentence = (
        f"{persons(found.people)} judged {each} {what} each "
        f"({found.answers:,} answers, {found.pictures} pictures). They were right in "
        f"{percent(told.interval.value)} of answers ({clustered_text(told.interval)}, clustered by person "
        f"and picture; {test}); {equal}.{sense}"
    )
    return finding, sentence


def plain(value: Any) -> Any:
    """Results as JSON has them: dataclasses as objects, NaN as null.

    >>> plain(Interval(0.5))["low"] is None
    True
    """
    if isinstance(value, Design):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {
            " ".join(map(str, key)) if isinstance(key, tuple) else str(key): plain(its)
            for key, its in value.items()
        }
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def results(found: Analysis) -> dict[str, Any]:
    """The analysis without the rows it rests on, for ``results.json``."""
    whole = replace(found, kept=replace(found.kept, participants=[], answers=[], everyone=[]))
    told: dict[str, Any] = plain(whole)
    kept = told.pop("kept")
    told["exclusions"] = kept["rules"]
    told["pilots"] = {"people": kept["pilots"][0], "answers": kept["pilots"][1]}
    return told


__all__ = ["Analysis", "Clusters", "analyse", "results", "words"]
