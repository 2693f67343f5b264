"""Who sees what: balanced, about equally often, the same for the same seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omokage.study.assignment import plan
from omokage.study.design import Design, pictures_needed

DESIGNS = st.builds(
    lambda kind, sources, trials, practice, checks, exposures: Design(
        kind=kind,
        sources=("real", *(f"m{number}" for number in range(sources))),
        trials=trials,
        practice=practice,
        checks=checks,
        exposures_ms=(50, 100, 250)[:exposures],
        parts=("hair", "eyes"),
    ),
    st.sampled_from(["pairs", "single", "timed", "rating", "preference"]),
    st.integers(1, 4),
    st.integers(1, 30),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(1, 3),
)


def drawn(design: Design, extra: int = 0) -> dict[str, str]:
    """Just enough pictures of each source, and some more."""
    needed = pictures_needed(design)
    return {f"{name}/{i}": name for name in design.sources for i in range(needed[name] + extra)}


@settings(max_examples=60, deadline=None)
@given(DESIGNS, st.integers(0, 2**63 - 1), st.integers(0, 3))
def test_every_plan_is_balanced_and_shows_no_picture_twice(design, seed, extra):
    pictures = drawn(design, extra)
    trials = plan(design, pictures, {}, seed)
    assert trials == plan(design, dict(reversed(pictures.items())), {}, seed)
    assert len(trials) == design.answers
    assert [one.phase for one in trials] == sorted(
        (one.phase for one in trials), key=lambda phase: phase != "practice"
    )
    shown = Counter(picture for one in trials for picture in one.pictures)
    parts = len(design.parts) if design.kind == "rating" else 1
    assert max(shown.values()) <= parts
    main = [one for one in trials if one.phase == "main"]
    assert len(main) == design.trials * parts
    if design.kind in ("pairs", "single", "timed"):
        answers = Counter(one.expected for one in main)
        assert len(main) == 1 or max(answers.values()) - min(answers.values()) <= 1
        assert len(answers) == min(2, len(main))
        for one in main:
            sources = [pictures[picture] for picture in one.pictures]
            if design.kind == "pairs":
                assert ("left", "right")[sources.index("real")] == one.expected
                assert sources.count("real") == 1
            else:
                assert ("real" if sources == ["real"] else "generated") == one.expected
    if design.kind == "timed":
        for kind in ("real", "generated"):
            times = Counter(one.exposure_ms for one in main if one.expected == kind)
            assert not times or max(times.values()) - min(times.get(t, 0) for t in design.exposures_ms) <= 1
    if design.kind == "preference":
        assert all(pictures[a] != pictures[b] for a, b in (one.pictures for one in main))


@pytest.mark.parametrize("kind", ["pairs", "single", "rating", "preference"])
def test_all_pictures_of_a_source_are_shown_about_equally_often(kind):
    design = Design(kind=kind, sources=("real", "a", "b"), trials=12, practice=2, checks=1)
    pictures = {f"{name}/{i}": name for name in design.sources for i in range(30)}
    shown: Counter[str] = Counter()
    for person in range(50):
        for one in plan(design, pictures, shown, person):
            if one.phase == "main":
                shown.update(one.pictures)
    for name in design.sources:
        counts = [shown[picture] for picture in pictures if pictures[picture] == name]
        assert max(counts) - min(counts) <= 2


def test_sides_are_even_over_people():
    design = Design(kind="pairs", sources=("real", "a"), trials=1, practice=0)
    pictures = {"r": "real", "g": "a"}
    sides = Counter(plan(design, pictures, {}, seed)[0].expected for seed in range(400))
    assert abs(sides["left"] - 200) < 4 * 10  # four standard deviations
