"""Reads run folders for the report. A broken file becomes one line of text, and the rest is still read."""

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import UserError
from ..listing import not_a_run, snapshots
from ..parameters import counted
from ..recipe import Recipe, read_recipe
from ..snapshot import read_snapshot

MINUTES, SPEED, MEMORY = "minutes", "speed/images per second", "memory/peak MB"


@dataclass
class Run:
    """The contents of a run folder.

    Attributes:
        name: short, and unique among the runs that are shown together.
        recipe: None if it cannot be read.
        snapshot: the newest snapshot that can be read, or None.
        progress: the metadata of that snapshot.
        lines: records of the log. Each has ``images``, which never decreases.
        troubles: images seen, and the watchdog's message at that point.
        evaluations: records of `omokage evaluate`, oldest first.
        problems: one line for each thing that could not be read.
    """

    name: str
    folder: Path
    recipe: Recipe | None = None
    snapshot: Path | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    troubles: list[tuple[int, str]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def images(self) -> int | None:
        """Images seen, from the newest snapshot, else from the log."""
        seen = number(self.progress.get("images"))
        if seen is None and self.lines:
            seen = self.lines[-1]["images"]
        return None if seen is None else int(seen)

    @property
    def minutes(self) -> float | None:
        """Minutes trained, all sessions of the run together."""
        seconds = number(self.progress.get("seconds"))
        if seconds is not None:
            return seconds / 60
        told = [value for line in self.lines if (value := number(line.get(MINUTES))) is not None]
        return told[-1] if told else None

    @property
    def speed(self) -> float | None:
        """Images per second: the median over the lines of the log."""
        told = [value for line in self.lines if (value := number(line.get(SPEED))) is not None]
        return median(told) if told else None

    @property
    def memory(self) -> float | None:
        """Peak memory of the training in megabytes."""
        told = [value for line in self.lines if (value := number(line.get(MEMORY))) is not None]
        return max(told) if told else None

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Trained parameters of each network, from the snapshot, else counted from the recipe."""
        told = self.progress.get("parameters")
        if isinstance(told, dict):
            found = {
                role: number(count.get("trained")) for role, count in told.items() if isinstance(count, dict)
            }
            known = {role: int(value) for role, value in found.items() if value is not None}
            return dict(sorted(known.items(), key=lambda pair: pair[0] != "generator"))
        if self.recipe is None:
            return {}
        return {role: count.trained for role, count in counted(self.recipe).items()}

    def minutes_at(self, images: float) -> float | None:
        """Minutes trained after ``images`` images, interpolated between lines of the log; None: unknown."""
        points = [
            (line["images"], value) for line in self.lines if (value := number(line.get(MINUTES))) is not None
        ]
        if self.minutes is not None and self.images is not None:
            points = [point for point in points if point[0] < self.images] + [(self.images, self.minutes)]
        if not points or images > points[-1][0] * 1.001:
            return None
        points = [(0, 0.0), *points]
        after = min(max(1, bisect_left([point[0] for point in points], images)), len(points) - 1)
        (x0, y0), (x1, y1) = points[after - 1], points[after]
        return y0 + (y1 - y0) * min(1.0, (images - x0) / (x1 - x0)) if x1 > x0 else y1


def number(value: Any) -> float | None:
    """``value`` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def read_runs(folders: Sequence[str | Path]) -> tuple[list[Run], list[str]]:
    """The runs in ``folders``, and one line for each thing that could not be read.

    Raises:
        UserError: none of the folders is a run.
    """
    paths = list(dict.fromkeys(Path(folder) for folder in folders))
    runs, problems = [], []
    names = _names(paths)
    for path in paths:
        run = read_run(path, names[path])
        if isinstance(run, str):
            problems.append(run)
        else:
            runs.append(run)
            problems += run.problems
    if not runs:
        raise UserError(f"{problems[0] if problems else 'no run given'}; omokage train makes a run")
    return runs, problems


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each path: its last part, and more parts if two names would be the same."""
    names = {}
    for path in paths:
        parts = path.absolute().parts
        for length in range(1, len(parts) + 1):
            name = "/".join(parts[-length:])
            alike = [other for other in paths if "/".join(other.absolute().parts[-length:]) == name]
            if len(alike) == 1:
                break
        names[path] = name
    return names


def read_run(folder: Path, name: str | None = None) -> Run | str:
    """The run in ``folder``, or one line that says why there is none."""
    if told := not_a_run(folder):
        return told
    run = Run(name or folder.name, folder)
    _read_snapshot(run)
    _read_recipe(run)
    _read_log(run)
    _read_evaluations(run)
    return run


def _read_snapshot(run: Run) -> None:
    for path in reversed(snapshots(run.folder)):
        try:
            _, run.recipe, run.progress = read_snapshot(path, "nothing.")
            run.snapshot = path
            return
        except UserError as error:
            run.problems.append(str(error))
    if not run.problems:
        run.problems.append(f"{run.folder}: no snapshot, so no samples; continue omokage train to write one")


def _read_recipe(run: Run) -> None:
    if run.recipe is not None:
        return
    path = run.folder / "recipe.toml"
    try:
        run.recipe = read_recipe(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        run.problems.append(f"{path}: {error.strerror or error}")
    except (UserError, UnicodeDecodeError) as error:
        run.problems.append(str(error) if isinstance(error, UserError) else f"{path}: not a text file")


def _lines(path: Path, run: Run) -> list[dict[str, Any]]:
    """The records of a file of JSON lines. Other lines are counted in one entry of ``run.problems``."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        run.problems.append(f"{path}: {error.strerror or error}")
        return []
    records, bad = [], []
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            bad.append(place)
    if bad:
        many = f"{len(bad):,} lines are" if len(bad) > 1 else "one line is"
        run.problems.append(
            f"{path}: {many} not JSON and left out (line {bad[0]:,}{' first' * (len(bad) > 1)})"
        )
    return records


def _read_log(run: Run) -> None:
    path = run.folder / "log.jsonl"
    if not path.exists():
        run.problems.append(f"{path}: missing, so no curves")
        return
    for record in _lines(path, run):
        images = number(record.get("images"))
        if images is None:
            continue
        if isinstance(record.get("watchdog"), str):
            run.troubles.append((int(images), record["watchdog"]))
            back = number(record.get("back to"))
            if back is not None:  # training went back and repeated the lines after this point
                run.lines = [line for line in run.lines if line["images"] <= back]
        else:
            if run.lines and run.lines[-1]["images"] > images:  # a killed run, resumed from an older snapshot
                run.lines = [line for line in run.lines if line["images"] < images]
            run.lines.append(record)


def _read_evaluations(run: Run) -> None:
    path = run.folder / "evaluations.jsonl"
    run.evaluations = [record for record in _lines(path, run) if isinstance(record.get("protocol"), str)]
