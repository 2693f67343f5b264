"""The tables of a study as the analysis takes them, and the rules that leave rows out."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .columns import ANSWERS, PARTICIPANTS, QUESTION, Column
from .design import Design, load_design
from .statistics import Clusters

Row = dict[str, Any]

MAX_TABLE_BYTES = 2**30
LOOKED = "looked at results"


@dataclass(frozen=True)
class Tables:
    """A study's design and everything that was recorded.

    Attributes:
        participants, answers: rows with the columns of `columns`; an empty value is None.
        metrics: for each source, the names and values of its metrics.
        log: what happened to the study, rows with ``at``, ``event``, ``detail``.
    """

    design: Design
    participants: list[Row]
    answers: list[Row]
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    log: Sequence[Mapping[str, str]] = ()

    @property
    def looks(self) -> list[str]:
        """When somebody looked at results while the study ran."""
        return [str(line.get("at", "")) for line in self.log if line.get("event") == LOOKED]


def tables(
    design: Design,
    participants: Iterable[Mapping[str, Any]],
    answers: Iterable[Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    log: Sequence[Mapping[str, str]] = (),
) -> Tables:
    """Check rows from a store, a file or a simulation, and turn text into numbers.

    Raises:
        UserError: a column that is needed is missing, or a value is not of the column's kind.
    """
    people = [_typed(row, PARTICIPANTS, f"participants, row {i}") for i, row in enumerate(participants, 1)]
    given = [_typed(row, ANSWERS, f"answers, row {i}") for i, row in enumerate(answers, 1)]
    known = {row["participant"] for row in people}
    if lost := sorted({row["participant"] for row in given} - known):
        raise UserError(f"answers: {lost[0]} is not among the participants ({len(lost)} such persons)")
    return Tables(design, people, given, dict(metrics or {}), tuple(log))


def of_store(store: Any, folder: str | Path) -> Tables:
    """The tables of the study in ``folder`` from its open `store.Store`."""
    from .stimuli import load_stimuli, read_metrics

    design = load_design(folder)
    return tables(
        design,
        store.participants(),
        store.answers(load_stimuli(folder).source_of, design.kind),
        read_metrics(folder),
        store.log(),
    )


def read(folder: str | Path) -> Tables:
    """The tables of an export (``answers.csv`` and the files beside it), or of a study's folder.

    Raises:
        UserError: the folder is neither, or a file in it is broken.
    """
    place = Path(folder)
    if (place / "answers.csv").is_file():
        return _read_export(place)
    from .opening import open_store

    with open_store(place) as store:
        return of_store(store, place)


def _read_export(folder: Path) -> Tables:
    rows = {}
    for name in ("participants", "answers"):
        path = folder / f"{name}.csv"
        if not path.is_file():
            raise UserError(f"{folder}: there is no {path.name}; run omokage study export again")
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise UserError(f"{path}: larger than {MAX_TABLE_BYTES:,} bytes; this is not a study's table")
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows[name] = list(csv.DictReader(file, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a CSV table in UTF-8: {error}") from None
    return tables(
        load_design(folder),
        rows["participants"],
        rows["answers"],
        _json(folder / "metrics.json", {}),
        _json(folder / "log.json", []),
    )


def _json(path: Path, absent: Any) -> Any:
    if not path.is_file():
        return absent
    try:
        if path.stat().st_size > 2**24:
            raise ValueError("it is larger than 16 MB")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, type(absent)):
        raise UserError(f"{path}: not what an export has there; export the study again")
    return found


def _typed(row: Mapping[str, Any], columns: Sequence[Column], where: str) -> Row:
    found: Row = {}
    for column in columns:
        value = row.get(column.name)
        found[column.name] = None if value is None or value == "" else _value(value, column, where)
    if not found["participant"]:
        raise UserError(f"{where}: there is no participant")
    for name, value in row.items():
        if isinstance(name, str) and name.startswith(QUESTION):
            found[name] = None if value is None or value == "" else str(value)
    return found


def _value(value: Any, column: Column, where: str) -> Any:
    if column.kind in ("text", "time"):
        text = str(value)
        if column.values and text not in column.values:
            known = ", ".join(column.values)
            raise UserError(f"{where}: {column.name} is {text[:60]!r}; possible are {known}")
        return text
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (column.kind == "flag" and number not in (0, 1)):
        raise UserError(f"{where}: {column.name} is {str(value)[:60]!r}; it should be a number")
    return number if column.kind == "number" else int(number)


@dataclass(frozen=True)
class Rule:
    """A rule for leaving rows out, and what it left out.

    Attributes:
        text: the rule in words.
        people, answers: how many it left out.
        who: the persons.
    """

    text: str
    people: int
    answers: int
    who: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """What the analysis uses.

    Attributes:
        participants, answers: rows that are used; answers of the main phase only.
        rules: every rule of the design with what it left out, in order; a person counts for the first rule.
        reason_of_person, reason_of_answer: the rule that leaves a row out; answers by person and trial index.
        everyone: main answers before any rule, pilots apart.
        pilots: persons and main answers of the pilot.
    """

    participants: list[Row]
    answers: list[Row]
    rules: list[Rule]
    reason_of_person: dict[str, str]
    reason_of_answer: dict[tuple[str, int], str]
    everyone: list[Row]
    pilots: tuple[int, int]


def keep(given: Tables, *, pilot: bool = False) -> Kept:
    """Apply the design's rules. pilot: analyse the pilot instead of the study."""
    rules = given.design.exclusion
    people = [row for row in given.participants if bool(row["pilot"]) == pilot]
    began = [row for row in people if row["status"] in ("started", "completed")]
    answers = [row for row in given.answers if bool(row["pilot"]) == pilot]
    main = [row for row in answers if row["phase"] == "main"]
    count = Counter(row["participant"] for row in main)
    flagged = Counter(row["participant"] for row in main if row["exposure_flagged"])

    tests = [("the person did not finish", lambda row: row["status"] != "completed")]
    if rules.min_checks_passed is not None:
        least = rules.min_checks_passed
        tests.append(
            (
                f"fewer than {least} attention checks passed",
                lambda row: (row["checks_passed"] or 0) < least,
            )
        )
    if rules.max_flagged_share is not None:
        most = rules.max_flagged_share
        tests.append(
            (
                f"more than {most:.0%} of exposures off by more than a frame",
                lambda row: flagged[row["participant"]] > most * count[row["participant"]],
            )
        )
    told: list[Rule] = []
    reason: dict[str, str] = {}
    for text, broken in tests:
        who = [row["participant"] for row in began if row["participant"] not in reason and broken(row)]
        reason.update(dict.fromkeys(who, text))
        told.append(Rule(text, len(who), sum(count[one] for one in who), tuple(who)))

    kept = [row for row in main if row["participant"] not in reason]
    answer_reason: dict[tuple[str, int], str] = {}
    for text, limit, quick in (
        (f"answered in less than {rules.min_rt_ms or 0:g} ms", rules.min_rt_ms, True),
        (f"answered after more than {rules.max_rt_ms or 0:g} ms", rules.max_rt_ms, False),
    ):
        if limit is None:
            continue
        timed = [row for row in kept if row["rt"] is not None]
        out = [row for row in timed if (row["rt"] < limit if quick else row["rt"] > limit)]
        for row in out:
            answer_reason[row["participant"], row["trial_index"]] = text
        told.append(Rule(text, 0, len(out)))
        kept = [row for row in kept if (row["participant"], row["trial_index"]) not in answer_reason]
    other = [row for row in given.answers if bool(row["pilot"]) != pilot and row["phase"] == "main"]
    return Kept(
        [row for row in began if row["participant"] not in reason],
        kept,
        told,
        reason,
        answer_reason,
        main,
        (0, 0) if pilot else (len({row["participant"] for row in other}), len(other)),
    )


def column(rows: Sequence[Row], name: str) -> NDArray[Any]:
    """A column as an array; numbers with NaN for what is missing, else objects."""
    values = [row.get(name) for row in rows]
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    return np.array(values, dtype=object)


def clusters(rows: Sequence[Row], kind: str) -> Clusters:
    """People and pictures of answers.

    In pairs the first column of pictures is the real one, in preferences that of the source that comes first
    in the alphabet.
    """
    people = [row["participant"] for row in rows]
    if kind not in ("pairs", "preference"):
        return Clusters.of(people, [row["stimulus"] for row in rows]) if rows else _NOBODY
    if not rows:
        return _NOBODY
    first, second = [], []
    for row in rows:
        left, right = (row["source_left"], row["stimulus_left"]), (row["source_right"], row["stimulus_right"])
        swap = row["side_correct"] == "right" if kind == "pairs" else str(left[0]) > str(right[0])
        one, two = (right, left) if swap else (left, right)
        first.append(one[1])
        second.append(two[1])
    return Clusters.of(people, first, second)


_NOBODY = Clusters(np.zeros(0, np.int64), np.zeros((0, 1), np.int64))


def generated_source(row: Row, kind: str) -> str:
    """The source of the generated picture of a pair; the source of a single picture."""
    if kind == "pairs":
        return str(row["source_right"] if row["side_correct"] == "left" else row["source_left"])
    return str(row["source"])
