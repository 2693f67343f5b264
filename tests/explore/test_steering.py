"""Steering, keeping, selecting."""

import numpy as np
import pytest
from seeing import READ, Patches, Reader

from omokage.errors import UserError
from omokage.explore.finding import find
from omokage.explore.points import of_seeds
from omokage.explore.steering import Want, parse_want, select, steer
from omokage.settings import Settings


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    return find(Patches(), Reader(), tmp_path_factory.mktemp("found"), samples=2500, check=32, unnamed=0)


def points(number=24):
    return of_seeds(Patches(), range(5000, 5000 + number), Settings(), "z")


def test_a_value_is_sought_until_it_is_seen(ways):
    start = points()
    steered = steer(Patches(), Reader(), start, [Want("glasses", "yes")], ways, null=True)
    assert steered.reached.all()
    already = steered.before.estimates.places("glasses") == 1
    assert already.any()
    assert not already.all()
    assert (steered.steps[already] == 0).all()
    assert (steered.points.values[already] == start.values[already]).all()
    assert (steered.steps[~already] > 0).all()
    assert steered.others() == [name for name in READ if name != "glasses"]
    assert max(steered.leakage().values()) <= 0.05


def test_the_first_of_two_values_leads_backwards(ways):
    steered = steer(Patches(), Reader(), points(), [Want("mouth", "closed")], ways)
    assert steered.reached.all()
    assert steered.steps.max() <= 0


def test_steps_are_taken_as_they_are(ways):
    steered = steer(Patches(), Reader(), points(4), [Want("glasses", steps=-2)], ways)
    expected = points(4).values - 2 * ways.find("glasses").vector
    assert np.allclose(steered.points.values, expected, atol=1e-6)
    assert steered.reached.all()


def test_two_wants_at_once(ways):
    wants = [Want("glasses", "yes"), Want("length", "long")]
    steered = steer(Patches(), Reader(), points(), wants, ways)
    assert steered.reached.all(1).mean() > 0.95


def test_what_cannot_be_reached_is_not_claimed(ways):
    class Blind(Reader):
        def seen(self, images):
            estimates, faces = super().seen(images)
            estimates.probabilities["glasses"][:] = (0.9, 0.1)
            return estimates, faces

    steered = steer(Patches(), Blind(), points(4), [Want("glasses", "yes")], ways)
    assert not steered.reached.any()
    assert (steered.points.values == points(4).values).all()


def test_what_is_kept_is_brought_back(ways):
    start = points(40)
    wants = [Want("glasses", steps=2.5)]
    # A direction that leaks: the sum of two.
    from dataclasses import replace

    leaky = replace(
        ways.find("glasses"), vector=ways.find("glasses").vector + 0.8 * ways.find("mouth").vector
    )
    rows = tuple(leaky if row.name == "glasses" else row for row in ways.rows)
    leaking = replace(ways, rows=rows)
    free = steer(Patches(), Reader(), start, wants, leaking)
    kept = steer(Patches(), Reader(), start, wants, leaking, keep=["mouth"])
    changed = [
        int((one.before.estimates.places("mouth") != one.after.estimates.places("mouth")).sum())
        for one in (free, kept)
    ]
    assert changed[0] > 4
    assert changed[1] <= 1
    assert kept.kept.sum() >= 39


def test_keeping_what_is_to_change_is_refused(ways):
    with pytest.raises(UserError, match="--keep glasses"):
        steer(Patches(), Reader(), points(2), [Want("glasses", "yes")], ways, keep=["glasses"])
    with pytest.raises(UserError, match="no attribute 'nose'"):
        steer(Patches(), Reader(), points(2), [Want("glasses", "yes")], ways, keep=["nose"])


def test_identity_grows_with_steps(ways):
    near = steer(Patches(), Reader(), points(), [Want("glasses", steps=0.5)], ways).identity().mean()
    far = steer(Patches(), Reader(), points(), [Want("glasses", steps=3)], ways).identity().mean()
    assert 0 < near < far
    assert steer(Patches(), Reader(), points(), [Want("glasses", steps=0)], ways).identity().max() == 0


@pytest.mark.parametrize(
    ("attribute", "text", "message"),
    [
        ("hair", "purpel", "choose from aqua, black"),
        ("hair", "blue:x", "write a number of steps after the colon"),
        ("har", "blue", "did you mean hair"),
        ("glasses", "maybe", "choose from no, yes"),
    ],
)
def test_wants_that_make_no_sense(attribute, text, message):
    with pytest.raises(UserError, match=message):
        parse_want(attribute, text)


def test_wants_are_read():
    assert parse_want("hair", "blue") == Want("hair=blue", "blue")
    assert parse_want("glasses", "2") == Want("glasses", steps=2)
    assert parse_want("mouth", "closed:1.5") == Want("mouth", steps=-1.5)


def test_selected_samples_have_what_was_asked_for():
    model, reader = Patches(), Reader()
    wants = {"glasses": "yes", "mouth": "closed"}
    found = select(model, reader, wants, 10, confidence=0.8)
    assert found.complete
    assert len(found.seeds) == 10
    from omokage.sampling import gathered, sample

    pixels, _ = gathered(sample(model, found.seeds))
    assert (pixels == found.look.pixels).all()
    seen = reader(pixels)
    assert (seen.probabilities["glasses"][:, 1] >= 0.8).all()
    assert (seen.probabilities["mouth"][:, 0] >= 0.8).all()
    skipped = [seed for seed in range(found.seeds[-1]) if seed not in found.seeds]
    rest = reader(gathered(sample(model, skipped))[0])
    fits = (rest.probabilities["glasses"][:, 1] >= 0.8) & (rest.probabilities["mouth"][:, 0] >= 0.8)
    assert not fits.any()


def test_selecting_stops_honestly():
    found = select(Patches(), Reader(), {"lids": "shut"}, 3, most=100)
    assert not found.complete
    assert found.seeds == []
    assert found.look is None
    assert found.drawn == 100
    few = select(Patches(), Reader(), {"glasses": "yes"}, 1000, most=64)
    assert few.drawn == 64
    assert 0 < len(few.seeds) < 64
    assert few.nearest["glasses yes"] == len(few.seeds)


def test_selecting_by_nothing_is_refused():
    with pytest.raises(UserError, match="nothing to select by"):
        select(Patches(), Reader(), {}, 3)
    with pytest.raises(UserError, match="choose from no, yes"):
        select(Patches(), Reader(), {"glasses": "perhaps"}, 3)


def test_attributes_that_are_read_have_directions(ways):
    assert set(READ) <= set(ways.names)
