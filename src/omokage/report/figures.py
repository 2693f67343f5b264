"""The measurements of runs, grouped by how they were measured, as table cells and as CSV."""

import csv
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..catalogue import objective
from ..metrics.metric import Column
from ..metrics.protocol import DEFAULT_PROTOCOL
from ..metrics.table import FEATURE_COLUMNS, PIXEL_COLUMNS, option_of
from .read import Run, number

MISSING = "–"
FID = FEATURE_COLUMNS[0]  # the only figure shown for further feature spaces


@dataclass(frozen=True)
class Way:
    """What must be the same for two numbers to be comparable."""

    protocol: str
    face_set: str
    resolution: tuple[int, ...]
    precision: str

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Way":
        """How one record was measured. Missing or wrong entries are allowed."""
        sides = record.get("resolution")
        sides = sides if isinstance(sides, list | tuple) else ()
        return cls(
            str(record.get("protocol", "unknown protocol")),
            str(record.get("face_set_hash", "unknown")),
            tuple(int(side) for side in sides if number(side) is not None),
            str(record.get("extractor_precision", "unknown")),
        )

    @property
    def size(self) -> str:
        """Such as 64×64."""
        return "×".join(map(str, self.resolution)) or "unknown size"


@dataclass
class Measured:
    """The measurement of one run in one way, at one snapshot.

    Attributes:
        record: as `omokage evaluate` wrote it, completed from other records of the same snapshot.
        seconds: the figures in further feature spaces, by protocol.
    """

    run: Run
    way: Way
    record: dict[str, Any]
    seconds: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def images(self) -> int | None:
        """Images seen by the model that was measured."""
        seen = number(self.record.get("images_seen"))
        return None if seen is None else int(seen)

    @property
    def minutes(self) -> float | None:
        """Minutes of training until then."""
        return None if self.images is None else self.run.minutes_at(self.images)


@dataclass(frozen=True)
class Cell:
    """A number as shown. ``bar``: length of its bar in [0, 1]; ``title``: the tooltip."""

    text: str
    note: str = ""
    title: str = ""
    best: bool = False
    bar: float | None = None

    @property
    def missing(self) -> bool:
        """Whether there is no number."""
        return self.text == MISSING


def measurements(run: Run) -> list[Measured]:
    """For each way of measuring, the measurement of the run's newest state."""
    found: dict[Way, Measured] = {}
    for record in run.evaluations:
        way = Way.of(record)
        known = found.get(way)
        if known is not None and known.images is not None:
            seen = number(record.get("images_seen"))
            if seen is None or seen < known.images:
                continue
        record = dict(record)
        if known is not None and known.record.get("snapshot_hash") == record.get("snapshot_hash"):
            for column in PIXEL_COLUMNS:
                if column.table in known.record:
                    record.setdefault(column.table, known.record[column.table])
            seconds = known.seconds
        else:
            seconds = {}
        found[way] = Measured(run, way, record, {**seconds, **_seconds(record)})
    return list(found.values())


# Keys of a record that hold its own protocol's figures. They do not apply to other features.
_NUMBERS = {
    "also",
    *(column.table for column in PIXEL_COLUMNS),
    *(key for column in FEATURE_COLUMNS for key in (column.key, column.error) if key),
}


def _seconds(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    also = record.get("also")
    about = {key: value for key, value in record.items() if key not in _NUMBERS}
    return {
        other["protocol"]: {**about, **other}
        for other in (also if isinstance(also, list) else ())
        if isinstance(other, dict) and isinstance(other.get("protocol"), str)
    }


@dataclass
class Group:
    """A table of all runs measured in one way: best FID first, then runs without any measurement."""

    way: Way
    faces: int | None
    columns: list[tuple[str, str]]  # title, and the protocol if it differs from the table's
    rows: list[tuple[Run, Measured | None, list[Cell]]]


def groups(runs: Sequence[Run]) -> list[Group]:
    """All tables, the default protocol's first. Runs without any measurement are in the first table."""
    by_way: dict[Way, list[Measured]] = {}
    for run in runs:
        for measured in measurements(run):
            by_way.setdefault(measured.way, []).append(measured)
    unmeasured = [run for run in runs if not any(m.run is run for rows in by_way.values() for m in rows)]
    order = sorted(
        by_way, key=lambda way: (way.protocol != DEFAULT_PROTOCOL, -len(by_way[way]), way.protocol)
    )
    found = [_group(way, by_way[way], unmeasured if i == 0 else []) for i, way in enumerate(order)]
    if not found and runs:
        found = [_group(Way(DEFAULT_PROTOCOL, "", (), ""), [], list(runs))]
    return found


def _group(way: Way, rows: list[Measured], unmeasured: Sequence[Run]) -> Group:
    rows = sorted(
        rows, key=lambda m: fid if (fid := number(m.record.get("fid"))) is not None else float("inf")
    )
    further = list(dict.fromkeys(name for m in rows for name in m.seconds))
    if not further and "-tags" not in way.protocol:
        further = [re.sub(r"-full-[a-z0-9]+", "-full-tags", way.protocol)]
    # A figure measured on pixels has a column for each of its protocols, and one column if there is none.
    own: list[tuple[Column, str]] = []
    for figure in PIXEL_COLUMNS:
        protocols = list(dict.fromkeys(name for m in rows if (name := figure.protocol(m.record))))
        own += [(figure, name) for name in protocols or [""]]
    columns: list[tuple[str, str]] = [(figure.title, "") for figure in FEATURE_COLUMNS]
    columns += [(FID.title, name) for name in further]
    columns += [(figure.title, name) for figure, name in own]
    columns += [("k images", "")]

    wanted: list[list[tuple[float | None, str, str, int]]] = []  # value, text, note, direction of better
    for m in rows:
        line = [_cell(figure, m.record) for figure in FEATURE_COLUMNS]
        line += [_cell(FID, m.seconds.get(name, {})) for name in further]
        line += [_cell(figure, m.record if figure.protocol(m.record) == name else {}) for figure, name in own]
        line.append((None, MISSING if m.images is None else f"{m.images / 1000:,.1f}", "", 0))
        wanted.append(line)
    cells: list[list[Cell]] = [[] for _ in rows]
    for column in range(len(columns)):
        values = [line[column][0] for line in wanted]
        known = [value for value in values if value is not None]
        better = next((line[column][3] for line in wanted), 0)
        best = None
        if len(set(known)) > 1 and better:
            best = min(known) if better < 0 else max(known)
        for row, line in zip(cells, wanted, strict=True):
            value, text, note, _ = line[column]
            bar = value / max(known) if column == 0 and value is not None and max(known) > 0 else None
            row.append(Cell(text, note, best=value is not None and value == best, bar=bar))
    shown: list[tuple[Run, Measured | None, list[Cell]]] = [
        (m.run, m, row) for m, row in zip(rows, cells, strict=True)
    ]
    shown += [(run, None, [Cell(MISSING) for _ in columns]) for run in unmeasured]
    faces = next((int(n) for m in rows if (n := number(m.record.get("faces"))) is not None), None)
    return Group(way, faces, columns, shown)


def _cell(column: Column, record: dict[str, Any]) -> tuple[float | None, str, str, int]:
    text = column.text(record)
    return column.value(record), text or MISSING, column.note(record) if text else "", column.better


@dataclass(frozen=True)
class Wanting:
    """Something that a run lacks, and the command that makes it."""

    run: Run
    what: str
    command: str


def wanting(runs: Sequence[Run]) -> list[Wanting]:
    """What is missing in the tables, run by run."""
    found = []
    for run in runs:
        place = shlex.quote(str(run.folder))
        if run.snapshot is None:
            if run.recipe is not None:
                command = f"omokage train {shlex.quote(run.recipe.name)} --data faces/ --out {place}"
                found.append(Wanting(run, "a snapshot, which everything else needs", command))
            continue
        known = measurements(run)
        evaluate = f"omokage evaluate {place} --data faces/"
        if not known:
            # Each once: a metric may have two columns.
            asked = dict.fromkeys(filter(None, map(option_of, PIXEL_COLUMNS)))
            full = " ".join([evaluate, "--also tags", *asked])
            found.append(Wanting(run, "all figures of quality", full))
        for m in known:
            lacks, options = [], ""
            if m.way.protocol != DEFAULT_PROTOCOL:
                options += f" --protocol {shlex.quote(m.way.protocol)}"
            if not m.seconds and "-tags" not in m.way.protocol:
                lacks.append("second feature space")
                options += " --also tags"
            for column in PIXEL_COLUMNS:
                if not column.protocol(m.record):
                    lacks.append(column.words)
                    if (option := option_of(column)) and option not in options:
                        options += f" {option}"
            if lacks:
                found.append(Wanting(run, f"{', '.join(lacks)} ({m.way.protocol})", evaluate + options))
        if run.memory is None and run.recipe is not None:
            command = f"omokage train {shlex.quote(run.recipe.name)} --data faces/ --out {place}"
            found.append(Wanting(run, "peak memory: logged when training goes on", command))
    return found


def _csv_names(column: Column) -> dict[str, str]:
    """The CSV columns of a figure; an interval has two.

    >>> list(_csv_names(PIXEL_COLUMNS[0]))
    ['two_sample_protocol', 'two_sample_accuracy', 'two_sample_low', 'two_sample_high']
    """
    if not column.table:
        return {key: key for key in (column.key, column.error) if key}
    table = column.table
    names = {f"{table}_protocol": f"{table}.protocol"}
    names[column.key.replace(".", "_").removesuffix("_value")] = column.key
    if column.interval:
        names |= {f"{table}_{end}": column.interval for end in ("low", "high")}
    return names


CSV_COLUMNS = (
    *("run", "recipe", "family", "objective", "training_seed"),
    *("parameters_generator", "parameters_discriminator"),
    *("images_seen", "minutes_trained", "images_per_second", "peak_memory_mb", "trained_on"),
    *("protocol", "measured_at_images", "measured_at_minutes", "psi", "samples", "seed_first", "seed_last"),
    # Columns of one metric share the one that names their protocol.
    *dict.fromkeys(name for column in (*FEATURE_COLUMNS, *PIXEL_COLUMNS) for name in _csv_names(column)),
    *("face_set_hash", "faces", "resolution", "extractor_precision", "snapshot_hash", "time", "measured_on"),
)


def csv_rows(runs: Sequence[Run]) -> Iterable[dict[str, Any]]:
    """One row for each run and each protocol that measured it; a run without measurements has one row."""
    for run in runs:
        counts, recipe = run.parameters, run.recipe
        machine = run.progress.get("machine")
        about: dict[str, Any] = {
            "run": run.name,
            "recipe": recipe and recipe.name,
            "family": recipe and recipe.model["name"],
            "objective": recipe and objective(recipe.objective),
            "training_seed": recipe and recipe.training.seed,
            "parameters_generator": counts.get("generator"),
            "parameters_discriminator": counts.get("discriminator"),
            "images_seen": run.images,
            "minutes_trained": run.minutes and round(run.minutes, 2),
            "images_per_second": run.speed and round(run.speed, 2),
            "peak_memory_mb": run.memory,
            "trained_on": machine.get("device") if isinstance(machine, dict) else None,
        }
        if not run.evaluations:
            yield about
        for record in run.evaluations:
            for numbers in (record, *_seconds(record).values()):
                yield about | _measured_row(run, numbers, first=numbers is record)


def _measured_row(run: Run, record: dict[str, Any], first: bool) -> dict[str, Any]:
    row: dict[str, Any] = {name: record.get(name) for name in CSV_COLUMNS[CSV_COLUMNS.index("protocol") :]}
    seen = number(record.get("images_seen"))
    minutes = None if seen is None else run.minutes_at(seen)
    seeds = record.get("seeds")
    row |= {
        "measured_at_images": seen,
        "measured_at_minutes": minutes and round(minutes, 2),
        "resolution": Way.of(record).size,
        "measured_on": record.get("device"),
    }
    if isinstance(seeds, list) and len(seeds) == 2:
        row["seed_first"], row["seed_last"] = seeds
    for column in PIXEL_COLUMNS:
        told = record.get(column.table)
        for name, key in _csv_names(column).items():
            value = told.get(key.partition(".")[2]) if first and isinstance(told, dict) else None
            if key == column.interval:
                whole = isinstance(value, list) and len(value) == 2
                value = value[name.endswith("_high")] if value and whole else None
            row[name] = value
    return row


def to_csv(runs: Sequence[Run]) -> str:
    """All numbers of the tables as CSV, one protocol in a row, in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_rows(runs))
    return text.getvalue()
