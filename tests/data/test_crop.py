import numpy as np
import pytest

from omokage.data.steps.crop import CropBox, closer_box, crop_box, cut, visible
from omokage.data.steps.face import Face
from omokage.errors import UserError

FACE = Face(100, 80, 40, 40, 1.0, 20.0)


def test_presets():
    portrait = crop_box(FACE, (400, 400))
    assert (portrait.width, portrait.height, portrait.angle) == (76, 76, 0)
    assert portrait.x == 120
    assert 100 < portrait.y < 105  # the face lies a little above the middle
    tight = crop_box(FACE, (400, 400), "tight")
    assert (tight.width, tight.height) == (60, 60)
    wide = crop_box(FACE, (400, 400), aspect=2.0)
    assert wide.width / wide.height == pytest.approx(2, rel=0.03)
    assert wide.width * wide.height == pytest.approx(76 * 76, rel=0.05)
    # Head box of the cascade: side 57.2, at 91.4, 74.2.
    old = crop_box(FACE, (400, 400), "rai2020")
    left, top = old.corner
    assert (left, top, left + old.width, top + old.height) == (82, 18, 91 + 71, 74 + 57)
    with pytest.raises(UserError, match="no crop"):
        crop_box(FACE, (9, 9), "wide")


def test_pixels_inside_stay_and_the_rest_is_mirrored():
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    assert np.array_equal(cut(picture, CropBox(30, 25, 20, 10)), picture[20:30, 20:40])
    box = CropBox(0, 0, 20, 20)
    reflected = cut(picture, box)
    assert np.array_equal(reflected[10:, 10:], picture[:10, :10])
    assert np.array_equal(reflected[9], reflected[11])
    assert (cut(picture, box, "white")[:10] == 255).all()
    assert np.array_equal(cut(picture, box, "edge")[0, 10:], picture[0, :10])
    assert visible(box, (50, 60)) == 0.25
    assert cut(picture, CropBox(30, 25, 400, 300)).shape == (300, 400, 3)  # mirrored several times over
    assert cut(picture[:1, :1], CropBox(0, 0, 6, 6)).shape == (6, 6, 3)


def test_upright_turns_the_head_back():
    import cv2

    picture = np.zeros((200, 200, 3), np.uint8)
    upright = Face(80, 80, 40, 40, 1.0, 0.0)
    cv2.circle(picture, (90, 92), 4, (255, 0, 0), -1)  # its right eye
    cv2.circle(picture, (110, 92), 4, (0, 255, 0), -1)
    # OpenCV's angles run anticlockwise: this leans the head clockwise by 25 degrees.
    leaning = cv2.warpAffine(picture, cv2.getRotationMatrix2D((100, 100), -25, 1), (200, 200))
    straight = cut(picture, crop_box(upright, (200, 200), upright=True))
    tilted = Face(80, 80, 40, 40, 1.0, 25.0)
    turned = cut(leaning, crop_box(tilted, (200, 200), upright=True))
    for channel in (0, 1):
        a, b = (np.argwhere(image[..., channel] > 100).mean(0) for image in (straight, turned))
        assert np.abs(a - b).max() < 1.5


def test_close_ups_are_cut_closer_until_most_of_them_is_there():
    filling, off, lost = Face(0, 0, 100, 100, 1.0), Face(-10, 5, 90, 90, 1.0), Face(-80, -80, 100, 100, 1.0)
    assert visible(crop_box(filling, (100, 100)), (100, 100)) < 0.3
    assert visible(crop_box(filling, (100, 100), "tight"), (100, 100)) < 0.5
    box = closer_box(filling, (100, 100), 0.5)
    assert visible(box, (100, 100)) > 0.8
    assert box.width >= 100  # the face is still whole
    assert closer_box(off, (100, 100), 0.5).width < crop_box(off, (100, 100), "tight").width
    assert closer_box(lost, (100, 100), 0.5) is None
    # Where the tight crop lies in the picture, it is taken as it is.
    assert closer_box(FACE, (400, 400), 0.5) == crop_box(FACE, (400, 400), "tight")
    wide = closer_box(filling, (100, 100), 0.5, aspect=0.5)
    assert wide.width / wide.height == pytest.approx(0.5, rel=0.05)
    leaning = Face(10, 10, 80, 80, 1.0, 20.0)
    assert closer_box(leaning, (100, 100), 0.5, upright=True).angle == 20.0
