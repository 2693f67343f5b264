"""The attribute network: its maps, its weight file, and what it sees in drawn and real faces."""

import cv2
import numpy as np
import pytest
import torch

from omokage import attributes
from omokage.attributes import (
    ATTRIBUTES,
    Estimates,
    apart,
    attribute_network,
    estimate,
    known,
    known_value,
    lab,
)
from omokage.data.drawn import draw_face
from omokage.data.steps.colours import EYE_COLOURS, HAIR_COLOURS
from omokage.errors import UserError


@pytest.fixture(scope="module")
def drawn():
    """24 drawn faces of 64 px that training did not use."""
    return [draw_face(910_000 + seed, 64) for seed in range(24)]


@pytest.fixture(scope="module")
def seen(drawn):
    return attribute_network()(np.stack([face.image for face in drawn]))


def test_colours_are_those_of_face_sets():
    assert ATTRIBUTES["hair"].values == HAIR_COLOURS
    assert ATTRIBUTES["eyes"].values == EYE_COLOURS


def test_lab_of_known_colours():
    red, green, blue = lab(torch.eye(3)).tolist()
    assert red == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert green == pytest.approx([87.73, -86.18, 83.18], abs=0.05)
    assert blue == pytest.approx([32.30, 79.19, -107.86], abs=0.05)


def test_probabilities(seen):
    assert len(seen) == 24
    for name, about in ATTRIBUTES.items():
        rows = seen.probabilities[name]
        assert rows.shape == (24, len(about.values))
        assert np.allclose(rows.sum(1), 1, atol=1e-4)
        assert (seen.confidence(name) >= 1 / len(about.values)).all()


def test_drawn_faces_are_recognised(drawn, seen):
    def share(name, right, chosen=lambda factors: True):
        pairs = zip(drawn, seen.values(name), strict=True)
        return np.mean([right(face.factors, value) for face, value in pairs if chosen(face.factors)])

    hits = {
        "hair": share("hair", lambda factors, value: factors["hair"] == value),
        "glasses": share("glasses", lambda factors, value: factors["glasses"] == (value == "yes")),
    }
    assert hits["hair"] >= 0.8
    assert hits["glasses"] >= 0.9


def test_the_batch_does_not_matter(drawn, seen):
    alone = attribute_network()(drawn[5].image[None])
    for name, rows in alone.probabilities.items():
        assert np.allclose(rows[0], seen.probabilities[name][5], atol=1e-4)


def test_any_size_is_taken(drawn):
    large = cv2.resize(drawn[3].image, (150, 130), interpolation=cv2.INTER_CUBIC)
    assert estimate(large)["hair"][0] == estimate(drawn[3].image)["hair"][0]
    with pytest.raises(ValueError, match="expected uint8"):
        attribute_network()(np.zeros((1, 64, 64, 3), np.float32))
    assert len(attribute_network()(np.zeros((0, 64, 64, 3), np.uint8))) == 0


def test_faces_are_apart(drawn):
    _, faces = attribute_network().seen(np.stack([face.image for face in drawn[:6]]))
    assert apart(faces, faces).max() == 0
    other = draw_face(910_000, 64, hair="blue" if drawn[0].factors["hair"] != "blue" else "red")
    _, recoloured = attribute_network().seen(other.image[None])
    assert apart(faces[:1], recoloured)[0] < apart(faces[:1], faces[1:]).min()


def test_names_are_checked():
    assert known("hair").values == HAIR_COLOURS
    assert known_value("mouth", "open") == 1
    with pytest.raises(UserError, match="no attribute 'hiar': did you mean hair"):
        known("hiar")
    with pytest.raises(UserError, match="hair 'grey': choose from"):
        known_value("hair", "grey")


def test_estimates_join():
    one = Estimates({"glasses": np.array([[0.2, 0.8]], "f4")})
    both = Estimates.joined([one, Estimates({"glasses": np.array([[0.9, 0.1]], "f4")})])
    assert both.values("glasses") == ["yes", "no"]
    assert both.face(1) == {"glasses": ("no", 0.9)}


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / attributes.WEIGHTS).write_bytes(b"nothing")
    monkeypatch.setattr(attributes.resources, "files", lambda name: tmp_path)
    attribute_network.cache_clear()
    try:
        with pytest.raises(UserError, match="reinstall omokage"):
            attribute_network()
    finally:
        attribute_network.cache_clear()


def test_only_what_was_measured_is_offered():
    network = attribute_network()
    assert {"hair", "eyes"} <= set(network.offered)
    for name in ATTRIBUTES:
        judged = network.judged[name]
        if name in network.offered and name not in ("hair", "eyes"):
            assert judged["balanced"] >= attributes.LEAST
        if name not in network.offered:
            assert network.why_not(name).startswith(f"{name}: ")


def test_one_changed_factor_changes_no_other_estimate(drawn, seen):
    """The renderer as a model: its latents are its factors. Slow because faces are drawn."""
    network = attribute_network()

    def shares(**factors):
        after = network(np.stack([draw_face(910_000 + seed, 64, **factors).image for seed in range(24)]))
        return {name: seen.changes(after, name) for name in network.offered}

    null = shares(clothes="hoodie")  # no attribute sees this factor
    for name, value in (("hair", "pink"), ("glasses", True)):
        changed = shares(**{name: value})
        for other in set(network.offered) - {name}:
            assert changed[other] - null[other] <= 0.05, (name, other)
