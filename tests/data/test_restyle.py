import numpy as np
import pytest
from PIL import Image

from omokage.data.drawn import draw_face
from omokage.data.steps.colours import ColourNames
from omokage.data.steps.restyle import STYLES, augmented, recoloured, restyled
from omokage.errors import UserError


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.stack([draw_face(seed, 64).image for seed in range(6)])


def lightness(faces: np.ndarray) -> np.ndarray:
    import cv2

    return np.stack([cv2.cvtColor(face, cv2.COLOR_RGB2LAB)[..., 0] for face in faces]).astype(float)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (40, 24)])
def test_a_style_keeps_size_and_type_and_depends_on_the_seed(faces, style, size):
    small = np.stack([np.asarray(Image.fromarray(face).resize(size[::-1])) for face in faces])
    before = small.copy()
    made = restyled(small, style, seed=3)
    assert made.shape == small.shape
    assert made.dtype == np.uint8
    assert (small == before).all()
    assert (restyled(small, style, seed=3) == made).all()
    assert (restyled(small[:2], style, seed=3) == made[:2]).all()  # whatever else is in the batch
    if style != "flat-shaded" or size == (64, 64):
        assert (restyled(small, style, seed=4) != made).any()


def test_recolouring_turns_hues_and_keeps_lightness(faces):
    made = restyled(faces, "recoloured")
    # Colours beyond sRGB are cut off, which changes the lightness of some pixels.
    assert np.median(np.abs(lightness(made) - lightness(faces))) <= 3
    names = ColourNames()
    hair = [(names(a, None)[0], names(b, None)[0]) for a, b in zip(faces, made, strict=True)]
    assert sum(before != after for before, after in hair) >= 3
    grey = np.full((8, 8, 3), 130, np.uint8)
    assert np.abs(recoloured(grey, np.random.default_rng(0)).astype(int) - 130).max() <= 1


def test_line_art_is_dark_lines_on_white(faces):
    made = restyled(faces, "line-art").astype(int)
    assert np.median(made) == 255
    assert np.ptp(made, axis=3).max() <= 10  # without colour but for the tint of the ink
    assert (made < 128).mean() > 0.01
    edge = np.full((1, 32, 32, 3), 255, np.uint8)
    edge[:, :, 15:17] = 0
    line = restyled(edge, "line-art")[0, 16, :, 0]
    assert line[15:17].max() < 100
    assert (line[:8] == 255).all()


def test_flat_shading_leaves_few_levels(faces):
    def levels(faces):
        return np.mean([len(np.unique(one.round())) for one in lightness(faces)])

    assert levels(restyled(faces, "flat-shaded")) < levels(faces) / 3
    assert np.abs(lightness(restyled(faces, "flat-shaded")) - lightness(faces)).mean() < 25


def test_an_unknown_style_is_refused(faces):
    with pytest.raises(UserError, match="no style 'oil': give one of recoloured, line-art, flat-shaded"):
        restyled(faces, "oil")
    assert restyled(faces[:0], "line-art").shape == (0, 64, 64, 3)


def test_what_an_encoder_sees_and_what_it_should_lead_back_to(faces):
    many = np.concatenate([faces] * 10)
    seen, wanted = augmented(many, share=0.6, seed=1)
    changed = (seen != many).any((1, 2, 3))
    assert 0.4 < changed.mean() < 0.8
    moved = (wanted != many).any((1, 2, 3))
    assert 0 < moved.sum() < changed.sum()
    assert (seen[moved] == wanted[moved]).all()  # recoloured faces lead back to themselves
    assert all((one == 0).all() for one in (augmented(many, share=0.0)[0].astype(int) - many,))
    again, _ = augmented(many, share=0.6, seed=1)
    assert (again == seen).all()
