import cv2
import numpy as np
import pytest

from omokage.data.drawn import draw_face
from omokage.data.steps.clean import CRITERIA, colour, detail, measure, sharpness, thresholds, verdict
from omokage.data.steps.face import Face
from omokage.errors import UserError

FACE = Face(0, 0, 64, 64, 0.9)


def test_numbers_follow_what_they_name():
    face = draw_face(3, 128).image
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    blurred = [sharpness(cv2.GaussianBlur(grey, (0, 0), s)) for s in (0.5, 1, 2, 4)]
    assert [sharpness(grey), *blurred] == sorted([sharpness(grey), *blurred], reverse=True)
    assert blurred[-1] < CRITERIA["sharpness"].threshold < sharpness(grey)
    tinted = np.clip(grey[..., None] * np.array([1.0, 0.97, 0.94]), 0, 255).astype(np.uint8)
    assert colour(tinted) < CRITERIA["colour"].threshold < colour(face)
    assert detail(np.full((64, 64), 9, np.uint8)) == 0 < detail(grey) <= 5


def test_verdicts_need_only_numbers():
    numbers = measure(draw_face(3, 128).image, FACE, 1.0, 0.9)
    assert set(numbers) == set(CRITERIA)
    assert verdict(numbers, thresholds()) is None
    assert verdict(numbers, thresholds(["face_side=65"])) == "too small: face_side 64 < 65"
    assert verdict({**numbers, "face_score": 0.01}, thresholds()).startswith("not a face")
    assert verdict({**numbers, "aspect": 9.0}, thresholds(["aspect=off"])) is None
    assert verdict({**numbers, "face_score": None}, thresholds()) is None
    flat = measure(np.full((50, 80, 3), 128, np.uint8), FACE, 1.0, 0.9)
    assert verdict(flat, thresholds()).startswith("too blurred")


@pytest.mark.parametrize("change", ["sharpness", "size=3", "text=much", "=", ""])
def test_thresholds_that_make_no_sense(change):
    with pytest.raises(UserError, match="threshold"):
        thresholds([change])
