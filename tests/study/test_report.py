"""From tables to the report, the export, the sheet, the pre-registration and the summary."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from omokage.errors import UserError
from omokage.study import (
    analysis,
    columns,
    ethics,
    export,
    figures,
    power,
    preregistration,
    report,
    simulate,
    summary,
    tables,
)
from omokage.study.design import Design

KINDS = ("pairs", "single", "timed", "rating", "preference")
SOURCES = ("real", "fast", "dcgan")


def study(kind="pairs", people=14, trials=12, *, metrics=None, log=(), change=None, **settings):
    participants, answers = simulate.tables(
        kind, SOURCES, people=people, trials=trials, pictures=20, exposures_ms=(50, 500)
    )
    if change is not None:
        change(participants, answers)
    design = Design.model_validate(
        {"kind": kind, "sources": SOURCES, "trials": trials, "exposures_ms": (50, 500), **settings}
    )
    return tables.tables(design, participants, answers, metrics, log)


METRICS = {name: {"fid": 10.0 + i, "recall": 0.4} for i, name in enumerate(SOURCES[1:])}


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_every_kind_is_whole_and_asks_no_other_host(kind):
    found = analysis.analyse(study(kind, metrics=METRICS), resamples=50)
    drawn = figures.draw(found)
    text = report.render(found, drawn)
    assert "The sentence for the paper" in text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "<script" not in text
    assert "nan" not in re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", text, flags=re.DOTALL).lower().split()
    assert set(re.findall(r'<figure id="figure-([a-z-]+)"', text)) == {figure.name for figure in drawn}
    assert len(drawn) > 2
    assert found.sentence in text.replace("&#39;", "'")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_report_is_a_page_with_figures_and_numbers_beside_it(tmp_path):
    page = report.write(study("preference", metrics=METRICS), tmp_path / "out", resamples=50)
    text = page.read_text(encoding="utf-8")
    files = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    drawn = set(re.findall(r'<figure id="figure-([a-z-]+)"', text))
    assert files == {f"{name}.{kind}" for name in drawn for kind in ("svg", "pdf")}
    its = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert its["sentence"] == re.search(r"<blockquote><p>(.*)</p>", text)[1]
    assert its["people"] == 14


def test_odd_names_do_no_harm():
    names = ("real", "a$b$_{", "<b>&\"'", "_hidden", "東京" * 20)
    participants, answers = simulate.tables("preference", names, people=4, trials=10, pictures=20)
    design = Design.model_validate({"kind": "preference", "sources": names, "title": "<script>x</script>"})
    found = analysis.analyse(tables.tables(design, participants, answers), resamples=10)
    drawn = figures.draw(found)
    text = report.render(found, drawn)
    assert "<script" not in text
    assert "<b>&" not in text
    assert ("no font here has" in text) == any(figure.lacks_letters for figure in drawn)
    assert "a$b$_{" in text


def test_the_same_study_gives_the_same_figures(tmp_path):
    found = analysis.analyse(study("rating", people=4))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        figures.draw(found)[0].write(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_accuracy_is_counted_by_hand():
    given = study("single")
    found = analysis.analyse(given, resamples=20)
    rows = given.answers
    assert found.accuracy.interval.value == np.mean([row["correct"] for row in rows])
    assert found.accuracy.exact.hits == sum(row["correct"] for row in rows)
    assert found.accuracy.exact.expected == pytest.approx(14 * 6)  # six of twelve are real for everybody
    reals = [row for row in rows if row["source"] == "real"]
    assert found.accuracy.detection.hit_rate.value == np.mean([row["response"] == "real" for row in reals])
    fast = [row for row in rows if row["source"] == "fast"]
    one = next(one for one in found.sources if one.name == "fast")
    right = [np.mean([row["correct"] for row in some]) for some in (reals, fast)]
    assert one.interval.value == pytest.approx(np.mean(right))
    taken = sum(row.hits for row in found.by_picture)
    assert taken == sum(row["response"] == "real" for row in rows)
    assert sum(row.hits for row in found.by_person) == sum(row["correct"] for row in rows)


def test_what_must_be_said_is_said_on_the_page(tmp_path):
    def change(participants, answers):
        for row in participants[:2]:
            row["status"] = "started"
        participants[2]["pilot"] = 1
        for row in answers:
            if row["participant"] == participants[2]["participant"]:
                row["pilot"] = 1

    given = study(
        change=change,
        log=[{"at": "2026-03-04T10:00Z", "event": "looked at results", "detail": ""}],
        chosen_by_hand={"fast": 200},
        stopping={"participants": 30},
    )
    found = analysis.analyse(given)
    told = " ".join(found.warnings)
    assert "picked by hand out of 200" in told
    assert "looked at once" in told
    assert "asks for 30 complete participants; there are 11" in told
    assert found.people == 11
    assert found.kept.pilots == (1, 12)
    assert [(rule.people, rule.answers) for rule in found.kept.rules] == [(2, 24)]
    page = report.render(found, [])
    assert "Pilots are kept apart: 1 person with 12 answers" in page
    for warning in found.warnings:
        assert warning in page.replace("&#39;", "'")


def test_exclusions_follow_the_rules_and_are_counted():
    def change(participants, answers):
        participants[0]["checks_passed"], participants[0]["checks"] = 1, 3
        for row in participants[1:]:
            row["checks_passed"] = row["checks"] = 3
        for row in answers:
            if row["participant"] == participants[1]["participant"]:
                row["exposure_flagged"] = int(row["trial_index"] < 6)
            else:
                row["exposure_flagged"] = 0
        mine = [row for row in answers if row["participant"] == participants[2]["participant"]]
        mine[0]["rt"], mine[1]["rt"] = 90.0, 99_999.0

    rules = {"min_checks_passed": 2, "min_rt_ms": 150, "max_rt_ms": 60_000, "max_flagged_share": 0.4}
    given = study("timed", change=change, exclusion=rules)
    kept = tables.keep(given)
    assert [(rule.people, rule.answers) for rule in kept.rules] == [(0, 0), (1, 12), (1, 12), (0, 1), (0, 1)]
    assert len(kept.answers) == 12 * 12 - 2
    assert len(kept.everyone) == 14 * 12
    people, answers = export.rows(given)
    assert sum(row["excluded"] for row in people) == 2
    assert sum(row["excluded"] for row in answers) == 26
    assert next(row for row in people if row["excluded"])["exclusion_reason"].startswith("fewer than 2")


def test_groups_come_from_questions_and_devices():
    def change(participants, answers):
        for i, row in enumerate(participants):
            row["question_anime"] = ("yes", "no")[i % 2] if i else ""
            row["question_age"] = str(20 + i)
            row["question_why"] = "=cmd"

    label = {"en": "Do you watch anime?"}
    choices = [{"id": name, "label": {"en": name.title()}} for name in ("yes", "no")]
    questions = [
        {"id": "anime", "label": label, "choices": choices},
        {"id": "age", "kind": "number", "label": {"en": "Your age?"}},
        {"id": "why", "kind": "text", "label": {"en": "Why?"}},
    ]
    given = study(change=change, questions=questions)
    groups = {group.title: group for group in analysis.analyse(given).groups}
    assert [row.name for row in groups["Do you watch anime?"].rows] == ["No", "Yes"]
    assert "1 person gave no answer" in groups["Do you watch anime?"].note
    assert [row.people for row in groups["Your age?"].rows] == [7, 7]
    assert "not analysed" in groups["Why?"].note
    assert {row.name for row in groups["Device"].rows} == {"phone", "desktop", "tablet"}
    # A formula of a participant is no formula in a spreadsheet.
    assert "'=cmd" in export.to_csv(export.rows(given)[0], export.participant_columns(given))


def test_a_tiny_study_says_what_it_cannot_tell():
    found = analysis.analyse(study(people=1))
    assert "nothing about people" in found.accuracy.interval.notes[0]
    assert "says nothing about people" in report.render(found, [])

    def right(participants, answers):
        for row in answers:
            row["response"], row["correct"] = row["side_correct"], 1

    all_right = analysis.analyse(study(change=right))
    assert all_right.accuracy.interval.high == 1.0
    assert "People can tell" in all_right.finding
    report.render(all_right, [])
    for kind in ("timed", "rating", "preference"):
        tiny = analysis.analyse(study(kind, people=1, trials=2), resamples=10)
        report.render(tiny, figures.draw(tiny))


def test_a_study_without_answers_is_refused():
    empty = tables.tables(Design(), [], [])
    with pytest.raises(UserError, match="no answers yet"):
        analysis.analyse(empty)

    def nobody(participants, answers):
        for row in participants:
            row["status"] = "started"

    with pytest.raises(UserError, match="did not finish: 14 people"):
        analysis.analyse(study(change=nobody))


def test_a_pilot_alone_is_reported_as_one():
    def pilot(participants, answers):
        for row in [*participants, *answers]:
            row["pilot"] = 1

    found = analysis.analyse(study(change=pilot))
    assert found.pilot
    assert "This is a pilot" in found.warnings[0]


@pytest.mark.parametrize(
    ("table", "name", "value", "said"),
    [
        ("answers", "rt", "soon", "rt is 'soon'"),
        ("answers", "correct", 2, "correct is '2'"),
        ("answers", "trial_type", "quiz", "possible are pairs"),
        ("answers", "participant", "nobody", "nobody is not among the participants"),
        ("participants", "device", "toaster", "participants, row 1: device"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(table, name, value, said):
    participants, answers = simulate.tables("pairs", SOURCES, people=2, trials=2)
    (answers if table == "answers" else participants)[0][name] = value
    with pytest.raises(UserError, match=re.escape(said)):
        tables.tables(Design(), participants, answers)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_read_back_and_gives_the_same_report(tmp_path, kind):
    given = study(kind, metrics={"fast": {"fid": 3.5}}, log=[{"at": "x", "event": "open", "detail": ""}])
    paths = export.write(given, tmp_path)
    again = tables.read(tmp_path)
    assert again.answers == given.answers
    assert again.participants == given.participants
    assert (again.design, again.metrics, list(again.log)) == (given.design, given.metrics, list(given.log))
    assert analysis.analyse(again, resamples=20).sentence == analysis.analyse(given, resamples=20).sentence
    assert all(path.is_file() for path in paths)


def test_the_codebook_explains_every_column(tmp_path):
    export.write(study(), tmp_path)
    for table in ("answers", "participants"):
        with open(tmp_path / f"{table}.csv", newline="", encoding="utf-8") as file:
            head = next(csv.reader(file))
        with open(tmp_path / "codebook.csv", newline="", encoding="utf-8") as file:
            told = [row["column"] for row in csv.DictReader(file) if row["table"] == table]
        assert head == told
    # What jsPsych's users know.
    assert {"trial_index", "trial_type", "rt", "response", "stimulus", "correct", "time_elapsed"} <= set(
        columns.names(columns.ANSWERS)
    )
    whole = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert len(whole["answers"]) == 14 * 12


def test_the_psych_ds_package_has_what_the_standard_asks(tmp_path):
    export.write(study(), tmp_path)
    folder = tmp_path / "psych-ds"
    about = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
    assert about["@type"] == "Dataset"
    assert {"@context", "name", "description", "variableMeasured"} <= set(about)
    described = {one["name"] for one in about["variableMeasured"]}
    files = sorted((folder / "data").iterdir())
    assert len(files) == 2
    for file in files:
        assert re.fullmatch(r"([a-z]+-[A-Za-z0-9]+_)+data\.csv", file.name)
        with open(file, newline="", encoding="utf-8") as opened:
            assert set(next(csv.reader(opened))) <= described


def test_a_broken_export_is_refused(tmp_path):
    export.write(study(people=3), tmp_path)
    (tmp_path / "metrics.json").write_text("[1", encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.json"):
        tables.read(tmp_path)
    (tmp_path / "participants.csv").unlink()
    with pytest.raises(UserError, match=r"no participants\.csv"):
        tables.read(tmp_path)


def test_the_ethics_sheet_answers_twelve_questions_and_marks_what_is_open():
    bare = ethics.sheet(Design())
    assert bare.count("\n## ") == 12
    assert "Add name and address of the researcher and the supervisor" in bare
    people = {"name": "A. Person", "email": "a@example.org"}
    full = Design(researcher=people, supervisor=people, minimum_age=12, withdrawal_days=0)
    points = ethics.points(full)
    assert not points[10].open
    assert "parent" in points[8].open
    assert "withdrawal_days = 0" in points[1].open
    assert "open: " in ethics.sheet(full)


def test_the_preregistration_says_rules_and_marks_what_is_open():
    bare = preregistration.text(Design(sources=SOURCES))
    assert bare.count("**Open:**") == 2
    full = Design(sources=SOURCES, stopping={"participants": 80}, exclusion={"min_rt_ms": 200})
    plan = power.Plan(80, (0.8, 0.7, 0.9), "difference", 0.6, 0.8, 0.05, 24, 24, simulate.Effects(), 0)
    text = preregistration.text(full, plan)
    assert "80 complete participants" in text
    assert "less than 200 ms" in text
    assert "**Open:**" not in text
    for kind in KINDS:
        assert "## Analysis" in preregistration.text(Design(kind=kind, sources=SOURCES))


def test_the_summary_of_rai2020_is_counted_by_hand():
    found = summary.analyse(summary.RAI2020)
    assert found.answers == 312
    assert found.right == (152, 154)  # 48.5% to 49.5% of 312
    assert found.half_width == pytest.approx(1.96 * np.sqrt(0.25 / 312), abs=1e-4)
    assert found.planned == pytest.approx((1.6449 + 1.2816) * np.sqrt(0.25 / 312), abs=1e-4)
    # Nine or more of twelve: (220 + 66 + 12 + 1) / 4096.
    assert found.expected_above == pytest.approx(26 * 299 / 4096)
    law = summary.stats.betabinom(
        12,
        *(
            share * (0.49 * 0.51 / found.person_sd**2 - 1)
            for share in (0.49, 0.51)
        ),
    )
    assert law.sf(8) == pytest.approx(6 / 26, abs=1e-6)
    text = summary.report(summary.RAI2020)
    assert "could not show that people cannot tell" in text
    assert "picked by hand" in text
    assert "impossible" in text


def test_totals_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match="impossible"):
        summary.analyse(summary.Totals("x", 5, 10, 0.5, above=(0.7, 9)))
    with pytest.raises(UserError, match="x: people"):
        summary.analyse(summary.Totals("x", 0, 10, 0.5))
    text = summary.report(summary.Totals("x", 1000, 40, 0.5))
    assert "shown if all answers were independent" in text


def test_p_values_and_shares_are_written_as_papers_do():
    assert analysis.p_text(0.00004) == "p < 0.001"
    assert analysis.percent(float("nan")) == "–"
    with pytest.raises(UserError, match="cannot be written"):
        report.write(study(people=3), "/dev/null/out", resamples=10)


def test_the_page_of_the_docs_has_what_the_code_prints():
    page = (Path(__file__).resolve().parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    for line in summary.report(summary.RAI2020).splitlines()[2:]:
        assert line.removeprefix("## ") in page, line


@pytest.mark.parametrize("kind", KINDS)
def test_a_served_study_is_reported_and_its_export_gives_the_same(tmp_path, new_study, kind):
    visitors = pytest.importorskip("study_visitors")
    folder, _ = new_study(kind=kind, trials=4, practice=1, checks=1, exposures_ms=(50, 500))
    (folder / "metrics.json").write_text('{"gan": {"fid": 12.5}}', encoding="utf-8")
    rng = np.random.default_rng(0)
    answered = 0
    with visitors.browser(folder) as client:
        for _ in range(3):
            who = visitors.start(client)
            while (trial := visitors.current(client, who)) is not None:
                shown = {"exposure_measured_ms": trial["exposure_ms"]} if trial["exposure_ms"] else {}
                said = trial["options"][rng.integers(len(trial["options"]))]
                assert visitors.answer(client, who, trial, response=said, **shown).status_code == 200
                answered += trial["phase"] == "main"
    given = tables.read(folder)
    found = analysis.analyse(given, resamples=20)
    assert found.answers == answered == 12
    assert found.people == 3
    assert given.metrics == {"gan": {"fid": 12.5}}
    export.write(given, tmp_path / "data")
    assert analysis.analyse(tables.read(tmp_path / "data"), resamples=20).sentence == found.sentence
