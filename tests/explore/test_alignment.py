import numpy as np
import pytest
from PIL import Image

from omokage.data.drawn import draw_face
from omokage.data.steps.crop import CROPS
from omokage.data.steps.detect import open_detector
from omokage.data.steps.face import Face
from omokage.errors import UserError
from omokage.explore.alignment import EYES, aligned, check_framing, eyes_of, faces_of, framing


class Fixed:
    """A detector that finds the same faces in every picture; coordinates are shares of its sides."""

    def __init__(self, *boxes, tilt=0.0) -> None:
        self.boxes, self.tilt = boxes, tilt

    def __call__(self, picture):
        height, width = picture.shape[:2]
        return [
            Face(x * width, y * height, w * width, h * height, 0.9, self.tilt) for x, y, w, h in self.boxes
        ]


def picture(height=200, width=300):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 0 * x + 40], 2).astype(np.uint8)


MIDDLE = (0.4, 0.35, 0.2, 0.3)  # 60 px of 300, and 60 of 200


def test_the_largest_face_is_cut_out_at_the_size_asked_for():
    found = aligned(picture(), (64, 64), CROPS["tight"], Fixed((0.1, 0.1, 0.05, 0.075), MIDDLE))
    assert found.pixels.shape == (64, 64, 3)
    assert (found.box.width, found.box.height) == (90, 90)
    assert found.how.startswith("face of 60 px, the largest of 2, cropped to 90x90")
    assert "turned" not in found.how
    # The face's centre, at (150, 100), lies at the height that the crop says.
    red, green, _ = found.pixels[round(0.56 * 64), 32].astype(int)
    assert abs(red - 150 * 255 / 300) < 4
    assert abs(green - 100 * 255 / 200) < 4


@pytest.mark.parametrize(("tilt", "turned"), [(0.0, False), (5.0, False), (20.0, True), (-15.0, True)])
def test_a_head_that_leans_is_turned_upright(tilt, turned):
    found = aligned(picture(), (32, 32), CROPS["tight"], Fixed(MIDDLE, tilt=tilt))
    assert found.box.angle == (tilt if turned else 0)
    assert (f"turned by {-tilt:.0f}°" in found.how) == turned


def test_a_picture_that_is_a_crop_already_stays_as_it_is():
    whole = picture(90, 90)
    found = aligned(whole, (90, 90), CROPS["tight"], Fixed((0.17, 0.23, 0.66, 0.66)))
    assert "taken whole: the face fills the picture" in found.how
    assert (found.pixels == whole).all()
    assert found.box is None


def test_what_is_missing_is_said():
    edge = aligned(picture(), (64, 64), CROPS["tight"], Fixed((0.0, 0.0, 0.2, 0.3)))
    assert "of the crop is beyond the picture and mirrored" in edge.how
    small = aligned(picture(), (256, 256), CROPS["tight"], Fixed(MIDDLE))
    assert "it is small, so fine detail is missing" in small.how
    assert aligned(picture(), (64, 64), CROPS["tight"], Fixed()) is None


def test_framing_leads_other_pictures_to_the_same_crop():
    faces = np.zeros((4, 100, 100, 3), np.uint8)
    factor, down = framing(faces, Fixed((0.25, 0.3, 0.5, 0.5)))
    assert factor == pytest.approx(2.0)
    assert down == pytest.approx(0.55)
    assert framing(faces, Fixed()) is None


def test_the_shipped_detector_finds_drawn_faces(tmp_path):
    file, told = tmp_path / "face.png", []
    around = np.full((300, 400, 3), 235, np.uint8)
    around[60:220, 200:360] = draw_face(5, 160).image
    Image.fromarray(around).save(file)
    (found,) = faces_of([file], (64, 64), crop="tight", tell=told.append)
    assert 180 < found.box.x < 380
    assert 40 < found.box.y < 240
    assert told == [f"face.png: {found.how}"]


def test_samples_are_drawn_only_where_they_are_needed(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(picture()).save(file)

    def never():
        raise AssertionError("drawn")

    (whole,) = faces_of([file], (32, 32), whole=True, samples=never)
    assert whole.how == "taken whole"
    (tight,) = faces_of([file], (32, 32), crop="tight", samples=never, detector=Fixed(MIDDLE))
    drawn = np.zeros((2, 50, 50, 3), np.uint8)
    detector = Fixed(MIDDLE)
    (model,) = faces_of([file], (32, 32), samples=lambda: drawn, detector=detector)
    assert model.box.width != tight.box.width


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n....", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_hostile_files_are_refused_in_one_line(tmp_path, content):
    file = tmp_path / "bad\n.png"
    file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        faces_of([file], (32, 32), whole=True)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="there are model, portrait, tight"):
        check_framing("loose")


def test_the_band_over_the_eyes_lies_in_the_largest_face():
    faces = np.zeros((2, 64, 64, 3), np.uint8)
    band = eyes_of(faces, Fixed((0.0, 0.0, 0.1, 0.1), (0.25, 0.25, 0.5, 0.5)))
    assert band.shape == (2, 64, 64)
    assert (band[0] == band[1]).all()
    left, top, right, bottom = (round(16 + 32 * share) for share in EYES)
    assert band[0, top + 2 : bottom - 2, left + 2 : right - 2].min() > 0.99
    band[:, top - 3 : bottom + 3, left - 3 : right + 3] = 0
    assert band.max() < 0.01
    assert eyes_of(faces, Fixed()).max() == 0
    assert eyes_of(faces[:0], Fixed(MIDDLE)).shape == (0, 64, 64)


def test_the_band_covers_the_eyes_of_drawn_faces():
    drawn = [draw_face(seed, 128, masks=True) for seed in range(20)]
    bands = eyes_of(np.stack([one.image for one in drawn]), open_detector())
    irises = [one.masks["iris"].astype(float) for one in drawn]
    seen = [(iris * band).sum() / iris.sum() for iris, band in zip(irises, bands, strict=True) if iris.any()]
    assert len(seen) > 10
    assert np.median(seen) > 0.95
    assert np.mean(np.array(seen) > 0.8) > 0.85
    assert bands.mean() < 0.25  # and little else
