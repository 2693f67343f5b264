import csv
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.data.drawn import draw_face
from omokage.data.steps import colours
from omokage.data.steps.colours import DOWN, ENLARGED, EYE_COLOURS, HAIR_COLOURS, ColourNames, around
from omokage.data.steps.crop import cut
from omokage.data.steps.face import Face
from omokage.errors import UserError


def test_the_cut_of_a_face_in_a_tight_picture_is_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    side = 96 / ENLARGED
    face = Face(48 - side / 2, 96 * DOWN - side / 2, side, side, 1)
    assert np.array_equal(cut(picture, around(face)), picture)


def test_names_do_not_depend_on_threads_or_on_what_is_far_from_the_face():
    name, face = ColourNames(), Face(70, 90, 64, 64, 1)
    picture = np.full((300, 300, 3), 128, np.uint8)
    box = around(face)
    left, top = box.corner
    drawn = draw_face(3, box.width).image
    picture[top : top + box.height, left : left + box.width] = drawn
    before = torch.get_num_threads()
    assert name(picture, face) == name(drawn, None)
    picture[200:] = 0
    assert name(picture, face) == name(drawn, None)
    assert torch.get_num_threads() == before


def test_pictures_of_one_pixel_and_faces_beyond_the_border_have_names():
    name = ColourNames()
    for picture, face in (
        (np.zeros((1, 1, 3), np.uint8), None),
        (np.zeros((3, 400, 3), np.uint8), Face(0, 0, 400, 400, 1)),
        (np.zeros((64, 64, 3), np.uint8), Face(60, 60, 0.2, 0.2, 1)),
    ):
        hair, eyes = name(picture, face)
        assert (hair in HAIR_COLOURS, eyes in EYE_COLOURS) == (True, True)


def test_names_agree_with_the_tags_of_a_crowd(real_data):
    with open(real_data / "tagged-faces-96.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    held = np.random.default_rng(0).permutation(len(rows))[: len(rows) // 10][:200]  # not trained on
    wanted = {rows[i]["file"]: rows[i] for i in held}
    name, hits = ColourNames(), {"hair": [], "eyes": []}
    with tarfile.open(real_data / "tagged-faces-96.tar") as tar:
        for member in tar:
            if (row := wanted.get(member.name.rpartition("/")[2])) is None:
                continue
            picture = np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))
            for what, found in zip(("hair", "eyes"), name(picture, None), strict=True):
                if row[what]:
                    hits[what].append(found in row[what].split("|"))
    assert np.mean(hits["hair"]) > 0.62
    assert np.mean(hits["eyes"]) > 0.6


def test_damaged_weights_are_refused(monkeypatch):
    colours._shipped.cache_clear()
    monkeypatch.setattr(colours, "HEADS", "tag-encoder.safetensors")
    with pytest.raises(UserError, match="damaged"):
        ColourNames()
    monkeypatch.setattr(colours, "HEADS", "absent.safetensors")
    with pytest.raises(UserError, match="reinstall"):
        ColourNames()
    colours._shipped.cache_clear()


def test_confidence_is_a_probability_and_does_not_depend_on_the_threads():
    name = ColourNames()
    picture = draw_face(3, 96, hair="blonde").image
    hair, eyes = name.estimates(picture, None)
    assert (hair.name, eyes.name) == name(picture, None)
    assert 1 / len(HAIR_COLOURS) <= hair.confidence <= 1
    assert 1 / len(EYE_COLOURS) <= eyes.confidence <= 1
    torch.set_num_threads(before := torch.get_num_threads())
    torch.set_num_threads(2)
    again = name.estimates(picture, None)
    torch.set_num_threads(before)
    assert again == (hair, eyes)
    weights = {f"{of}.weight": torch.zeros(n, 416) for of, n in (("hair", 12), ("eyes", 11))}
    weights |= {"hair.bias": torch.zeros(12), "eyes.bias": torch.eye(11)[4] * 50}
    hair, eyes = ColourNames(weights).estimates(picture, None)
    assert hair.confidence == pytest.approx(1 / 12, abs=1e-3)
    assert (eyes.name, eyes.confidence) == (EYE_COLOURS[4], 1.0)
