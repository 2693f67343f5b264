"""The model card of one run in Markdown (Mitchell et al. 2019, "Model cards for model reporting")."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..data.derive.provenance import FACES
from ..data.text import one_line
from ..errors import UserError
from ..metrics.table import FEATURE_COLUMNS
from .figures import MISSING, Measured, measurements
from .read import Run, read_run

_LISTED = 50  # most names in one row of the card


def write_card(run: str | Path) -> str:
    """The card of a run folder: the model, its training data, its measurements and its limits.

    Raises:
        UserError: ``run`` is not a run folder, or none of its snapshots can be read.
    """
    read = read_run(Path(run))
    if isinstance(read, str):
        raise UserError(read)
    if read.recipe is None or read.snapshot is None:
        raise UserError(f"{run} has no snapshot that can be read: train it first")
    parts = [f"# {_cell(read.name)}", *_model(read), *_data(read), *_figures(read), *_limits()]
    return "\n".join(parts) + "\n"


def _model(run: Run) -> list[str]:
    assert run.recipe is not None
    assert run.snapshot is not None
    recipe, machine = run.recipe, run.progress.get("machine") or {}
    with open(run.snapshot, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    parameters = ", ".join(f"{count:,} {role}" for role, count in run.parameters.items())
    rows = [
        ("recipe", f"`{_cell(recipe.name)}`"),
        ("network, objective", f"{_cell(recipe.model['name'])}, {_cell(recipe.objective['name'])}"),
        ("trained parameters", parameters),
        ("images seen", f"{run.images or 0:,}"),
        ("time", "unknown" if run.minutes is None else f"{run.minutes:,.0f} minutes"),
        ("machine", ", ".join(f"{_cell(name)} {_cell(value)}" for name, value in machine.items())),
        ("seed", str(recipe.training.seed)),
        ("snapshot", f"`{_cell(run.snapshot.name)}`, SHA-256 `{digest}`"),
    ]
    return ["", "## Model", "", *_table(rows)]


def _data(run: Run) -> list[str]:
    told = _provenance(run)
    head = ["", "## Data", ""]
    if told is None:
        return [*head, f"Not known: the run has no {FACES}. Training writes this file."]
    rows = [("faces", f"{told['faces']:,}, content hash `{told['content_hash']}`")]
    rows += [
        (
            "source",
            f"{_cell(source.get('name', '?'))} ({_cell(source.get('kind', '?'))}), "
            f"fingerprint `{_cell(source.get('fingerprint', '?'))}`",
        )
        for source in told["sources"]
    ]
    for title, name in (("licences", "licenses"), ("artists", "artists"), ("ratings", "ratings")):
        rows.append((title, _names(told.get(name))))
    if told["rating_filter"]:
        rows.append(("ratings allowed", ", ".join(map(_cell, told["rating_filter"])) + ", and unrated"))
    if told["opt_out"]:
        listed = f"a list of {told['opt_out']['entries']:,}, SHA-256 `{_cell(told['opt_out']['sha256'])}`"
        rows.append(("opt-out", f"{listed}; pictures left out by it: {told['opted_out']:,}"))
    else:
        rows.append(("opt-out", "no list was given"))
    return [*head, *_table(rows)]


def _provenance(run: Run) -> dict[str, Any] | None:
    path = run.folder / FACES
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {one_line(error)}; delete it, and the card will say that it is missing"
        ) from None
    needed = ("faces", "content_hash", "sources", "rating_filter", "opt_out", "opted_out")
    if not isinstance(told, dict) or any(name not in told for name in needed):
        raise UserError(
            f"{path} is not the file that training wrote; delete it, and the card will say that it is missing"
        )
    return told


def _names(told: dict[str, Any] | None) -> str:
    """Names with their counts, for example: CC-BY 4.0 (120), 2 others; unknown of 30 faces."""
    if told is None:
        return "not recorded"
    named = list(told["named"].items())
    parts = [f"{_cell(name)} ({count:,})" for name, count in named[:_LISTED]]
    if rest := len(named) - len(parts) + told["others"]:
        parts.append(f"{rest:,} others")
    known = ", ".join(parts)
    if not told["unknown"]:
        return known
    return f"{known}; unknown of {told['unknown']:,} faces" if known else "unknown"


def _figures(run: Run) -> list[str]:
    head = ["", "## Figures", ""]
    measured = measurements(run)
    if not measured:
        return [*head, f"Not measured: `omokage evaluate {_cell(run.folder)} --data FACES`."]
    names = [column.title for column in FEATURE_COLUMNS]
    lines = [
        f"| protocol | images seen | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for one in measured:
        lines.append(_figures_of(one.way.protocol, one, one.record))
        lines += [_figures_of(protocol, one, record) for protocol, record in one.seconds.items()]
    return [*head, *lines]


def _figures_of(protocol: str, one: Measured, record: dict[str, Any]) -> str:
    cells = [column.text(record) or MISSING for column in FEATURE_COLUMNS]
    seen = MISSING if one.images is None else f"{one.images:,}"
    return f"| `{_cell(protocol)}` | {seen} | {' | '.join(cells)} |"


def _limits() -> list[str]:
    return [
        "",
        "## Limits",
        "",
        "- It draws only what its data shows. Kinds of faces that are rare in the data are rare in its "
        "samples (`omokage faces stats` counts them).",
        "- Its faces were not checked for likeness to existing characters or people; "
        "`omokage evaluate RUN --data FACES --neighbours` shows the training faces nearest to samples.",
        "- Whether its faces may be published depends on the licences above.",
    ]


def _table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _cell(text: object) -> str:
    """Text from a file, escaped for a cell of a table."""
    line = one_line(text)
    return "".join(f"\\{c}" if c in "\\|`<>[]*_#" else c for c in line)
