from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from omokage.data.drawn import draw_face
from omokage.metrics.sharpness import Detail, detail, sharpness


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.stack([draw_face(seed, 64).image for seed in range(12)])


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))) for image in images]
    )


def test_faces_are_as_sharp_as_themselves(faces):
    real = detail([faces])
    record = sharpness(detail([faces[:5], faces[5:]]), real)
    assert record["value"] == pytest.approx(1.0)
    assert (record["samples"], record["faces"]) == (12, 12)


def test_the_more_blur_the_lower(faces):
    real = detail([faces])
    values = [sharpness(detail([blurred(faces, radius)]), real)["value"] for radius in (0.4, 0.7, 1, 1.5, 3)]
    assert values[0] < 1
    assert all(more < less for less, more in pairwise(values))
    assert values[-1] < 0.05


def test_less_contrast_and_other_brightness_are_no_blur(faces):
    grey = (faces.astype(float) * 0.5 + 60).round().astype(np.uint8)
    assert sharpness(detail([grey]), detail([faces]))["value"] == pytest.approx(1.0, abs=0.03)


def test_noise_counts_as_detail(faces):
    noise = np.random.default_rng(0).normal(0, 12, faces.shape)
    noisy = (faces + noise).clip(0, 255).astype(np.uint8)
    assert sharpness(detail([noisy]), detail([faces]))["value"] > 1.05


def test_the_share_is_that_of_an_independent_calculation(faces):
    """The whole spectrum by PyTorch's transform, without the half that is left out by symmetry."""
    luma = torch.tensor(faces).double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double) / 255
    window = torch.hann_window(66, periodic=False, dtype=torch.double)[1:-1]
    window = window[:, None] * window
    luma = luma - (luma * window).sum((1, 2), keepdim=True) / window.sum()
    energy = torch.fft.fft2(luma * window).abs().square().sum(0)
    frequency = torch.fft.fftfreq(64, dtype=torch.double)
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    assert Detail().add(faces).share() == pytest.approx(
        float(energy[radius > 0.25].sum() / energy.sum()), 1e-5
    )


def test_images_without_any_contrast_give_no_figure(faces):
    flat = np.full((3, 8, 8, 3), 77, np.uint8)
    assert Detail().share() == detail([flat]).share() == 0.0
    assert sharpness(detail([faces]), detail([flat])) is None
    assert sharpness(detail([flat]), detail([faces]))["value"] == 0.0
