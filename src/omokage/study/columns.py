"""The columns of a study's two tables: the one record of their names, kinds and meanings.

The store, the CSV files, the codebook and the statistics all read them here. The names are those of
jsPsych where jsPsych has a name: ``trial_index``, ``trial_type``, ``stimulus``, ``response``, ``rt``,
``correct``, ``time_elapsed``.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "flag", "time"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: as it stands in the CSV file.
        kind: ``flag`` is 0 or 1; ``time`` is ISO 8601 in UTC.
        meaning: one sentence.
        values: all values that occur; empty: not listed.
        unit: of a number; "" if it has none.
    """

    name: str
    kind: Kind
    meaning: str
    values: tuple[str, ...] = ()
    unit: str = ""


ANSWERS = (
    Column("participant", "text", "The random identifier of the person who answered."),
    Column("pilot", "flag", "1 if the answer was given while the study was a pilot; it is reported apart."),
    Column("trial_index", "integer", "The place of the trial in the person's order, counted from 0."),
    Column(
        "trial_type",
        "text",
        "The kind of trial.",
        ("pairs", "single", "timed", "rating", "preference"),
    ),
    Column(
        "phase",
        "text",
        "What the trial is for: practice, the study itself, or a check of attention.",
        ("practice", "main", "check"),
    ),
    Column("stimulus", "text", "The identifier of the picture, in trials that show one picture."),
    Column("stimulus_left", "text", "The identifier of the left picture, in trials that show two."),
    Column("stimulus_right", "text", "The identifier of the right picture, in trials that show two."),
    Column("source", "text", "The source of the picture: real, or the name of a run or folder."),
    Column("source_left", "text", "The source of the left picture."),
    Column("source_right", "text", "The source of the right picture."),
    Column(
        "side_correct", "text", "The side of the real picture, in trials of pairs.", ("left", "right")
    ),
    Column(
        "response",
        "text",
        "The answer: left or right for two pictures, real or generated for one, a number for a rating.",
    ),
    Column("correct", "flag", "1 if the answer is right, 0 if it is wrong, empty where none is right."),
    Column("rt", "number", "The time from the first paint of the pictures to the answer.", unit="ms"),
    Column(
        "part",
        "text",
        "The part of the face that was rated.",
        ("overall", "hair", "eyes", "contour", "mouth"),
    ),
    Column("exposure_ms", "number", "How long the picture was meant to be shown.", unit="ms"),
    Column("exposure_measured_ms", "number", "How long the picture was shown, by frame time.", unit="ms"),
    Column("exposure_flagged", "flag", "1 if the measured exposure is off by more than one frame."),
    Column("time_elapsed", "number", "The time from the person's start to the answer.", unit="ms"),
    Column("resumed", "flag", "1 if the page was loaded again while this trial was open."),
    Column("answered_at", "time", "When the answer was stored, to the minute."),
)

PARTICIPANTS = (
    Column("participant", "text", "The random identifier of the person."),
    Column("pilot", "flag", "1 if the person took part while the study was a pilot."),
    Column(
        "status",
        "text",
        "How far the person came. Of withdrawn persons no data is kept, of refusals only the count.",
        ("started", "completed", "withdrawn", "refused", "screened_out"),
    ),
    Column("language", "text", "The language of the page, as a two-letter code."),
    Column("started_at", "time", "When the person agreed to take part, to the minute."),
    Column("finished_at", "time", "When the last answer was stored, to the minute; empty if unfinished."),
    Column("resumes", "integer", "How often the person came back after the page was closed or reloaded."),
    Column("device", "text", "The kind of device.", ("phone", "tablet", "desktop")),
    Column("viewport_width", "integer", "The width of the page.", unit="CSS px"),
    Column("viewport_height", "integer", "The height of the page.", unit="CSS px"),
    Column("pixel_ratio", "number", "Device pixels for each CSS pixel."),
    Column("refresh_hz", "number", "The measured refresh rate of the screen.", unit="Hz"),
    Column("pointer", "text", "What the person pointed with.", ("touch", "mouse")),
    Column("checks_passed", "integer", "How many checks of attention the person passed."),
    Column("checks", "integer", "How many checks of attention the person answered."),
)

# Each of the researcher's questions adds a column ``question_<id>`` to the participants.
QUESTION = "question_"

# What the statistics add on export: which rows a rule fixed beforehand leaves out, and which rule.
EXCLUSION = (
    Column("excluded", "flag", "1 if a rule fixed beforehand leaves this row out of the analysis."),
    Column("exclusion_reason", "text", "The rule that leaves the row out; empty if none does."),
)


def names(columns: tuple[Column, ...]) -> list[str]:
    """The names of columns, in order.

    >>> names(ANSWERS)[:3]
    ['participant', 'pilot', 'trial_index']
    """
    return [column.name for column in columns]


def question(identifier: str) -> str:
    """The participants' column of one of the researcher's questions.

    >>> question("anime")
    'question_anime'
    """
    return QUESTION + identifier
