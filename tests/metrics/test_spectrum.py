import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from omokage.data.drawn import draw_face
from omokage.metrics.spectrum import MAX_IMAGES, Spectrum, of, rings, spectra


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """With a little noise: drawn faces have flat parts, where there is no power to compare with."""
    drawn = np.stack([draw_face(seed, 32).image for seed in range(12)]).astype(float)
    return (drawn + np.random.default_rng(0).normal(0, 4, drawn.shape)).round().clip(0, 255).astype(np.uint8)


def waves(period: float, height: int = 12) -> np.ndarray:
    """A grey wave along the rows, of that period in pixels, to be added to 32x32 pictures."""
    return height * np.cos(2 * np.pi * np.arange(32) / period)[None, :, None] * np.ones((32, 1, 1))


def plus(faces: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    return (faces * 0.8 + 25 + pattern).round().clip(0, 255).astype(np.uint8)


def test_faces_have_their_own_spectrum(faces):
    found = spectra(of([faces[:5], faces[5:]]), of([faces]))
    assert list(found) == ["spectrum", "chroma_spectrum"]
    for table in found.values():
        assert table["ratio"] == pytest.approx([1.0] * 16)
        assert table["corners"] == pytest.approx(1.0)
        assert (table["samples"], table["faces"]) == (12, 12)
    assert found["spectrum"]["protocol"] != found["chroma_spectrum"]["protocol"]


@pytest.mark.parametrize(("period", "frequency"), [(4, 0.25), (8, 0.125), (2, 0.5)])
def test_a_pattern_is_found_at_its_frequency(faces, period, frequency):
    both = spectra(of([plus(faces, waves(period))]), of([plus(faces, 0)]))
    found = both["spectrum"]
    assert found["frequency"] == frequency
    assert found["value"] == found["range"][1] > 1.4
    far = [value for i, value in enumerate(found["ratio"]) if abs((i + 1) / 32 - frequency) > 0.1]
    assert far == pytest.approx([1.0] * len(far), abs=0.2)
    assert both["chroma_spectrum"]["ratio"] == pytest.approx([1.0] * 16, abs=0.2)  # the pattern is grey


def test_a_board_of_single_pixels_is_in_the_corners(faces):
    board = 12.0 * np.where(np.indices((32, 32)).sum(0) % 2, 1, -1)[..., None]
    found = spectra(of([plus(faces, board)]), of([plus(faces, 0)]))["spectrum"]
    assert found["corners"] > 2
    assert max(found["ratio"]) < 1.3


def test_coloured_dots_are_told_of_chroma(faces):
    red_less_green = waves(4) * np.array([1.0, -0.299 / 0.587, 0.0])  # of no luma
    found = spectra(of([plus(faces, red_less_green)]), of([plus(faces, 0)]))
    assert found["spectrum"]["ratio"] == pytest.approx([1.0] * 16, abs=0.1)
    assert found["chroma_spectrum"]["frequency"] == 0.25
    assert found["chroma_spectrum"]["value"] > 2


def test_blur_takes_high_frequencies_away(faces):
    soft = np.stack([np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(1))) for face in faces])
    found = spectra(of([soft]), of([faces]))["spectrum"]
    assert found["value"] == found["range"][0] < 0.1
    assert found["frequency"] > 0.3
    assert found["ratio"][0] > 0.9


def test_the_power_is_that_of_an_independent_calculation(faces):
    x = torch.tensor(faces).double() / 255
    luma = x @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)
    cb, cr = (x[..., 2] - luma) / 1.772, (x[..., 0] - luma) / 1.402  # the definition in ITU-R BT.601
    window = torch.hann_window(34, periodic=False, dtype=torch.double)[1:-1]
    window = window[:, None] * window

    def power(plane):
        centred = plane - (plane * window).sum((1, 2), keepdim=True) / window.sum()
        return torch.fft.fft2(centred * window).abs().square().mean(0)

    frequency = torch.fft.fftfreq(32, dtype=torch.double) * 32
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    found = Spectrum().add(faces).power
    for ring in (1, 5, 16):
        here = (radius.round() == ring) & (radius <= 16)
        assert found[0, ring] == pytest.approx(float(power(luma)[here].mean()), rel=1e-4)
        assert found[1, ring] == pytest.approx(float((power(cb) + power(cr))[here].mean()), rel=1e-4)
    assert found[0, 17] == pytest.approx(float(power(luma)[radius > 16].mean()), rel=1e-4)


def test_sides_may_differ():
    assert rings(8, 12).max() == 5
    wide = np.random.default_rng(0).integers(0, 256, (6, 8, 13, 3), np.uint8)
    assert len(spectra(of([wide]), of([wide]))["spectrum"]["ratio"]) == 4


def test_no_more_images_are_taken_than_wanted(faces):
    few = Spectrum(limit=7)
    for part in (faces[:5], faces[5:]):
        few.add(part)
    assert few.images == 7
    np.testing.assert_allclose(few.power, Spectrum().add(faces[:7]).power, rtol=1e-6)
    assert Spectrum().limit == MAX_IMAGES == 2000


def test_without_anything_to_compare_with_there_is_no_figure(faces):
    grey = np.repeat(faces[..., :1], 3, axis=3)
    assert list(spectra(of([faces]), of([grey]))) == ["spectrum"]
    flat = np.full((3, 32, 32, 3), 77, np.uint8)
    assert spectra(of([faces]), of([flat])) == {}
    assert spectra(Spectrum(), of([faces])) == {}
    assert spectra(of([flat]), of([faces]))["spectrum"]["value"] < 1e-12
