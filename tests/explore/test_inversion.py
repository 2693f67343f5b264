import numpy as np
import pytest
import torch
from PIL import Image

from omokage.data.steps.read import cover
from omokage.errors import UserError
from omokage.explore.inversion import (
    as_images,
    names,
    read_pictures,
    reconstructions,
    round_trip,
)
from omokage.pages.sheet import bands_of_model
from omokage.sampling import latents
from omokage.settings import Settings

FLOWS = ("glow", "realnvp", "tarflow", "noisy tarflow")


def test_pictures_are_resized_by_the_rule_of_face_sets(picture_files):
    pixels = read_pictures(picture_files, (16, 16))
    assert pixels.shape == (3, 16, 16, 3)
    for file, found in zip(picture_files, pixels, strict=True):
        assert (found == np.asarray(cover(Image.open(file).convert("RGB"), (16, 16)))).all()


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "empty file"), (b"\x89PNG\r\n\x1a\n....", "damaged|not a picture|cut short"), (b"hello", "text")],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, picture_files, content, told):
    bad = tmp_path / "bad\n.png"
    bad.write_bytes(content)
    with pytest.raises(UserError, match=told) as refused:
        read_pictures([picture_files[0], bad], (16, 16))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="no such file"):
        read_pictures([tmp_path / "missing.png"], (16, 16))


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize(("double", "most"), [(False, 1e-3), (True, 1e-9)])
def test_flows_lead_pictures_back_exactly(family_model, picture_files, name, double, most):
    model = family_model(name)
    trip = round_trip(model.double() if double else model, read_pictures(picture_files, model.resolution))
    assert trip.largest.max() < most
    assert (trip.mean <= trip.largest).all()
    assert not trip.changed.any()
    assert (trip.back == trip.pictures).all()
    assert trip.finite.all()
    assert model.network.parameters().__next__().dtype == torch.float32  # the model is left as it was


def test_a_tarflow_takes_off_no_noise_from_a_picture_that_has_none(family_model, picture_files):
    model = family_model("noisy tarflow")
    images = as_images(read_pictures(picture_files, model.resolution))
    z = model.encode(images)
    assert (model.decode(z) - images).abs().max() > 1e-3  # what sampling does
    assert (model.inverse(z) - images).abs().max() < 1e-4


def test_errors_of_a_vae_are_told_as_they_are(family_model, picture_files):
    model = family_model("vae")
    pictures = read_pictures(picture_files, model.resolution)
    trip = round_trip(model, pictures)
    before, after = as_images(pictures), model.decode(model.encode(as_images(pictures)))
    error = (before - after).abs().flatten(1)
    np.testing.assert_allclose(trip.largest, error.amax(1), atol=1e-5)
    np.testing.assert_allclose(trip.mean, error.mean(1), atol=1e-5)
    assert trip.largest.min() > 0.01
    assert trip.changed.min() > 0.1


def test_what_is_not_finite_is_no_small_error(family_model, picture_files):
    model = family_model("glow")
    with torch.no_grad():
        model.network.levels[0][0].log_scale[0, 0] = 200.0
    trip = round_trip(model, read_pictures(picture_files, model.resolution))
    assert np.isnan(trip.largest).all()
    assert not trip.finite.any()
    assert [band.not_finite for band in reconstructions(trip, names(picture_files))] == [0, 3, 0]


def test_a_page_of_reconstructions(family_model, picture_files, tmp_path):
    model, called = family_model("glow"), names(picture_files)
    trip = round_trip(model, read_pictures(picture_files, model.resolution))
    shown = reconstructions(trip, called)
    assert shown[0].captions == called == ["own-0.png", "own-1.png", "own-2.png"]
    text = {"pictures": ", ".join(called)}
    path = bands_of_model(model.about, shown, tmp_path / "back.png", title="Back", columns=3, text=text)
    page = Image.open(path)
    assert page.text["recipe"] == "glow-32"
    assert page.text["pictures"] == "own-0.png, own-1.png, own-2.png"
    # Each picture is there three times: as it was, as it came back, and its difference in grey.
    pixels = np.asarray(page)
    middles = [row for row in range(page.height) if (pixels[row, 64] == 127).all()]
    assert len(middles) > 100
    assert len(trip.latents) == 3


def test_sampling_draws_what_latents_lead_back_to(family_model):
    model = family_model("glow")
    z = latents(range(2), model.latent_shape)
    assert torch.equal(model.inverse(0.7 * z), model.decode(z, Settings(psi=0.7)))
