import numpy as np
import pytest

from omokage.data.drawn import draw_face
from omokage.data.steps.upscale import to_size, upscaler
from omokage.errors import UserError


def psnr(a, b):
    return 10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean())


def test_down_by_area_up_by_lanczos():
    face = draw_face(1, 64).image
    small, done = to_size(face, (32, 32))
    assert done == "64×64 to 32×32 by area"
    assert np.abs(small.astype(float) - face.reshape(32, 2, 32, 2, 3).mean((1, 3))).max() <= 0.5
    large, done = to_size(small, (64, 64))
    assert (large.shape, done) == ((64, 64, 3), "32×32 to 64×64 by lanczos")
    assert psnr(large, face) > 20
    assert to_size(face, (64, 64)) == (face, "")


def test_waifu2x_beats_lanczos_and_repeats_itself():
    pytest.importorskip("ncnn")
    enlarge = upscaler("waifu2x", 0)
    face = draw_face(2, 96).image
    small, _ = to_size(face, (48, 48))
    large, done = to_size(small, (96, 96), enlarge)
    assert done == "48×48 to 96×96 by waifu2x anime noise 0"
    assert psnr(large, face) > psnr(to_size(small, (96, 96))[0], face)
    assert all(np.array_equal(to_size(small, (96, 96), enlarge)[0], large) for _ in range(3))
    odd = enlarge(np.ascontiguousarray(face[:31, :45]))
    assert odd.shape == (62, 90, 3)


def test_the_last_doubling_ends_at_the_size():
    sides = []

    def enlarge(image):
        sides.append(image.shape[:2])
        return image.repeat(2, 0).repeat(2, 1)

    enlarge.name = "doubled"
    face = draw_face(3, 50).image
    for small, size, want in (
        (50, (128, 128), [50, 64]),  # not 100, to be shrunk from 200
        (20, (150, 150), [20, 40, 75]),
        (40, (75, 75), [40]),  # what was there is not shrunk before
        (47, (99, 99), [47]),  # the last twentieth by Lanczos
        (30, (97, 97), [30, 49]),
    ):
        sides.clear()
        large, done = to_size(to_size(face, (small, small))[0], size, enlarge)
        assert large.shape == (*size, 3)
        assert sides == [(side, side) for side in want]
        assert ("times" in done) == (len(want) > 1)


def test_refusals():
    for arguments in (("bicubic",), ("waifu2x", 7), ("waifu2x", 0, "photo")):
        with pytest.raises(UserError):
            upscaler(*arguments)
    assert upscaler("lanczos") is None
