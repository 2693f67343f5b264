"""The design: written, read again, checked, hashed."""

import re
import tomllib
from pathlib import Path

import pytest

from omokage.errors import UserError
from omokage.study.design import (
    Design,
    check_pictures,
    design_of,
    load_design,
    pictures_needed,
    preset,
    preset_names,
)


def full() -> Design:
    return design_of(
        {
            "title": 'A "title"\nin two lines ☂',
            "kind": "timed",
            "sources": ["real", "gan v2.1"],
            "chosen_by_hand": {"gan v2.1": 1000},
            "exposures_ms": [50, 200],
            "researcher": {"name": "Ada", "email": "ada@example.org"},
            "consent": [{"id": "read"}, {"id": "own", "text": {"en": "I agree.", "ja": "同意します。"}}],
            "questions": [
                {
                    "id": "anime",
                    "label": {"en": "Anime?"},
                    "choices": [{"id": "y", "label": {"en": "Yes"}}, {"id": "n", "label": {"en": "No"}}],
                },
                {"id": "age", "kind": "number", "label": {"en": "Age"}, "minimum": 16},
            ],
            "panel": {"completed": "C1"},
            "exclusion": {"min_rt_ms": 200, "max_flagged_share": 0.2},
            "stopping": {"participants": 26},
        },
        "x",
    )


def test_what_is_written_is_read(tmp_path):
    for design in (Design(), full()):
        design.write(tmp_path)
        assert load_design(tmp_path) == design


def test_the_hash_changes_with_every_setting_and_with_the_pictures():
    design = full()
    assert design.hash("a") == full().hash("a")
    assert design.hash("a") != design.hash("b")
    changed = [
        design.model_copy(update=update)
        for update in ({"trials": 25}, {"title": "x"}, {"show_score": False}, {"panel": None})
    ]
    assert len({one.hash() for one in [design, *changed]}) == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trails": 3}, "did you mean trials"),
        ({"kind": "quiz"}, "kind"),
        ({"trials": 0}, "trials"),
        ({"scale": [1, 7]}, "only 1 to 5"),
        ({"sources": ["gan"], "kind": "pairs"}, "needs real and generated"),
        ({"sources": ["gan", "real"], "kind": "pairs"}, "must stand first"),
        ({"sources": ["gan"], "kind": "preference"}, "two or more"),
        ({"sources": ["a", "a"]}, "twice"),
        ({"chosen_by_hand": {"x": 1}}, "not among the sources"),
        ({"kind": "timed", "exposures_ms": []}, "one or more"),
        ({"consent": [{"id": "a"}, {"id": "a"}]}, "same id"),
        ({"questions": [{"id": "a", "label": {"en": "A"}, "kind": "choice"}]}, "two choices or more"),
        ({"panel": {"url": "javascript:alert(1)"}}, "url"),
        ({"title": "a\0b"}, "control characters"),
        ({"consent": [{"id": "../x"}]}, "id"),
        ({"languages": ["../en"]}, "languages"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings, told):
    with pytest.raises(UserError, match="x: ") as refusal:
        design_of(settings, "x")
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_broken_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="omokage study new"):
        load_design(tmp_path)
    (tmp_path / "design.toml").write_text("trials = = 3")
    with pytest.raises(UserError, match="is not TOML"):
        load_design(tmp_path)
    (tmp_path / "design.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UserError, match="larger than"):
        load_design(tmp_path)


def test_every_preset_is_a_design():
    assert "rai2020" in preset_names()
    for name in preset_names():
        assert design_of(preset(name), name).preset == name
    assert len(design_of(preset("rai2020"), "x").consent) == 8  # as its consent form
    with pytest.raises(UserError, match=r"these exist: .*rai2020"):
        preset("rai2021")


def test_the_design_in_the_docs_is_one():
    page = Path(__file__).resolve().parents[2] / "docs" / "study-server.md"
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        design = design_of(tomllib.loads(block), "docs")
        assert set(tomllib.loads(block)) <= set(Design.model_fields)
        assert design_of(tomllib.loads(design.to_toml()), "again") == design


def test_too_few_pictures_are_told():
    design = Design(kind="preference", sources=("a", "b", "c"), trials=7, practice=1)
    assert pictures_needed(design) == {"a": 7, "b": 7, "c": 7}
    with pytest.raises(UserError, match="b: 6 pictures, and one participant needs 7"):
        check_pictures(design, {"a": 8, "b": 6, "c": 8})
