"""Export of a study: CSV and JSON with a codebook, and a Psych-DS package."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UserError
from ..files import replacing
from ..progress import Progress, opened
from .columns import ANSWERS, EXCLUSION, PARTICIPANTS, QUESTION, Column, names
from .design import Design
from .tables import Row, Tables, keep, read

PSYCH_DS = "Psych-DS 0.1.0"


def write(
    study: str | Path | Tables,
    out: str | Path,
    *,
    psych_ds: bool = True,
    progress: Progress | None = None,
) -> list[Path]:
    """Write all of a study's data into the folder ``out``.

    Files: ``answers.csv``, ``participants.csv``, ``study.json`` (both tables, the design, metrics, log and
    exclusions), ``codebook.csv`` and ``codebook.md``, ``design.toml``, ``metrics.json``, ``log.json``; and
    with ``psych_ds`` a folder ``psych-ds`` with ``dataset_description.json``. `tables.read` reads the folder.

    Nothing that names a person is in it: no token, no withdrawal code, no identifier of a recruiting service.

    Returns:
        The paths of the files.

    Raises:
        UserError: ``out`` cannot be written.
    """
    given = study if isinstance(study, Tables) else read(study)
    participants, answers = rows(given)
    columns = {"answers": answer_columns(), "participants": participant_columns(given)}
    texts = {
        "answers.csv": to_csv(answers, columns["answers"]),
        "participants.csv": to_csv(participants, columns["participants"]),
        "study.json": _json(
            {
                "design": given.design.model_dump(mode="json"),
                "design_hash": given.design.hash(),
                "exclusions": [
                    {"rule": rule.text, "people": rule.people, "answers": rule.answers}
                    for rule in keep(given).rules
                ],
                "metrics": given.metrics,
                "log": list(given.log),
                "codebook": {
                    table: [_described(column) for column in its] for table, its in columns.items()
                },
                "participants": participants,
                "answers": answers,
            }
        ),
        "codebook.csv": codebook_csv(columns),
        "codebook.md": codebook_md(columns, given.design),
        "design.toml": given.design.to_toml(),
        "metrics.json": _json(given.metrics),
        "log.json": _json(list(given.log)),
    }
    if psych_ds:
        texts |= {f"psych-ds/{name}": text for name, text in psych_ds_files(given).items()}
    folder, paths = Path(out), []
    try:
        with opened(progress, "writing files", len(texts)) as task:
            for name, text in texts.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as unfinished:
                    unfinished.write_text(text, encoding="utf-8", newline="")
                paths.append(path)
                task.advance(1, name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return paths


def answer_columns() -> tuple[Column, ...]:
    """The columns of the exported answers."""
    return (*ANSWERS, *EXCLUSION)


def participant_columns(given: Tables) -> tuple[Column, ...]:
    """The columns of the exported participants, with one for each question."""
    known = {QUESTION + one.id: one for one in given.design.questions}
    seen = dict.fromkeys(
        [*known, *sorted({name for row in given.participants for name in row if name.startswith(QUESTION)})]
    )
    asked = []
    for name in seen:
        question = known.get(name)
        words = next(iter(question.label.values()), name) if question else name.removeprefix(QUESTION)
        values = tuple(choice.id for choice in question.choices) if question else ()
        asked.append(Column(name, "text", f"The answer to the researcher's question: {words}", values))
    return (*PARTICIPANTS, *asked, *EXCLUSION)


def rows(given: Tables) -> tuple[list[Row], list[Row]]:
    """Participants and answers with the columns that say what is left out, and why."""
    people, out = [], []
    kept = {pilot: keep(given, pilot=pilot) for pilot in (False, True)}
    for row in given.participants:
        why = kept[bool(row["pilot"])].reason_of_person.get(row["participant"], "")
        people.append(row | {"excluded": int(bool(why)), "exclusion_reason": why or None})
    for row in given.answers:
        rules = kept[bool(row["pilot"])]
        key = (row["participant"], row["trial_index"])
        reason = rules.reason_of_person.get(row["participant"]) or rules.reason_of_answer.get(key)
        out.append(row | {"excluded": int(bool(reason)), "exclusion_reason": reason})
    return people, out


def to_csv(table: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """A table as CSV (RFC 4180). A text that a spreadsheet would run as a formula gets an apostrophe first.

    >>> to_csv([{"participant": "a", "pilot": 0}], ANSWERS[:2])
    'participant,pilot\\r\\na,0\\r\\n'
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(names(tuple(columns)))
    for row in table:
        writer.writerow([_cell(row.get(column.name), column) for column in columns])
    return out.getvalue()


def _cell(value: Any, column: Column) -> Any:
    if value is None:
        return ""
    if column.kind == "text" and str(value)[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + str(value)
    return value


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _described(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "kind": column.kind,
        "meaning": column.meaning,
        "values": list(column.values),
        "unit": column.unit,
    }


def codebook_csv(columns: Mapping[str, Sequence[Column]]) -> str:
    """The codebook as CSV, one row a column."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["table", "column", "kind", "unit", "values", "meaning"])
    for table, its in columns.items():
        for one in its:
            writer.writerow([table, one.name, one.kind, one.unit, "; ".join(one.values), one.meaning])
    return out.getvalue()


def codebook_md(columns: Mapping[str, Sequence[Column]], design: Design) -> str:
    """The codebook to read."""
    lines = [
        f"# Codebook: {design.title}",
        "",
        f"Kind of study: {design.kind}. Times are in UTC, to the minute. A flag is 0 or 1.",
        "An empty cell: not applicable, or not known.",
    ]
    for table, its in columns.items():
        lines += ["", f"## {table}.csv", "", "| column | kind | meaning | values |", "|---|---|---|---|"]
        for one in its:
            kind = f"{one.kind}, {one.unit}" if one.unit else one.kind
            lines.append(f"| `{one.name}` | {kind} | {_md(one.meaning)} | {_md(', '.join(one.values))} |")
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def psych_ds_files(given: Tables) -> dict[str, str]:
    """The files of a Psych-DS package, by their path in it.

    Names of data files are ``key-value_..._data.csv`` and the metadata is JSON-LD of schema.org, as Psych-DS
    asks.
    """
    participants, answers = rows(given)
    design = given.design
    people = participant_columns(given)
    described: dict[str, Column] = {}
    for column in (*answer_columns(), *people):
        described.setdefault(column.name, column)
    about: dict[str, Any] = {
        "@context": "http://schema.org/",
        "@type": "Dataset",
        "name": design.title,
        "description": f"A study of the kind {design.kind}: people judge real and generated pictures.",
        "schemaVersion": PSYCH_DS,
        "variableMeasured": [_variable(column) for column in described.values()],
        "measurementTechnique": f"omokage study {__version__}, design {design.hash()[:16]}",
    }
    if design.researcher.name:
        about["author"] = [{"@type": "Person", "name": design.researcher.name}]
    notes = [
        f"# {design.title}",
        "",
        "Collected with omokage study. `data/` has one row for each answer and one for each participant.",
        "`dataset_description.json` explains every column. Rows with `excluded` 1 are left out of the",
        "analysis by rules that were fixed beforehand.",
        "",
    ]
    return {
        "dataset_description.json": _json(about),
        "README.md": "\n".join(notes),
        "data/study-omokage_table-answers_data.csv": to_csv(answers, answer_columns()),
        "data/study-omokage_table-participants_data.csv": to_csv(participants, people),
        "materials/design.toml": design.to_toml(),
    }


def _variable(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {
        "@type": "PropertyValue",
        "name": column.name,
        "description": column.meaning,
    }
    if column.unit:
        found["unitText"] = column.unit
    if column.values:
        found["levels"] = list(column.values)
    return found
