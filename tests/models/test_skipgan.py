import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from omokage.errors import UserError
from omokage.models.layers import with_halved_chroma
from omokage.models.skipgan import Generator


def luma(images):
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)


def test_halved_chroma_keeps_luma_and_grey_pictures():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    halved = with_halved_chroma(images)
    torch.testing.assert_close(luma(halved), luma(images))
    grey = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(with_halved_chroma(grey), grey)
    assert (halved - images).abs().max() > 0.1


def test_halved_chroma_is_what_jpeg_does_to_colour():
    """A fine JPEG of noise differs from the noise by its chroma alone, and from this hardly at all."""
    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 64) * 0.5 + 0.25
    pixels = (images[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=2)
    jpeg = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)[None] / 255
    assert (with_halved_chroma(images) - jpeg).abs().mean() < 0.1 * (images - jpeg).abs().mean()


def test_a_generator_with_halved_chroma_draws_that():
    torch.manual_seed(0)
    plain = Generator(latent=8, channels=(16, 8, 8)).eval()
    halved = Generator(latent=8, channels=(16, 8, 8), halved_chroma=True).eval()
    smooth = Generator(latent=8, channels=(16, 8, 8), halved_chroma=True, chroma_filter="smooth").eval()
    z = torch.randn(2, 8)
    for one, way in ((halved, "box"), (smooth, "smooth")):
        one.load_state_dict(plain.state_dict())
        torch.testing.assert_close(one(z), with_halved_chroma(plain(z), way))


def test_the_smooth_filter_folds_less_fine_colour_into_a_pattern():
    """A wave finer than half the resolution can hold: what comes through is all pattern."""
    wave = torch.cos(2 * torch.pi * 0.32 * torch.arange(64))  # cycles a pixel; 0.25 is the limit
    red_less_green = torch.tensor([1.0, -0.299 / 0.587, 0.0])[:, None, None]
    images = (red_less_green * wave).expand(1, 3, 64, 64)
    box, smooth = (with_halved_chroma(images, way)[..., 8:-8, 8:-8] for way in ("box", "smooth"))
    # Filters at that frequency: cos(0.32 pi) = 0.54, and its third power.
    assert smooth.std() / box.std() == pytest.approx(0.54**2, rel=0.05)


def test_the_smooth_filter_weighs_four_pixels_by_1_3_3_1():
    kernel = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
    torch.manual_seed(0)
    images = torch.rand(1, 3, 12, 12)
    chroma = images - luma(images)[:, None]
    padded = F.pad(chroma, (1, 1, 1, 1), mode="replicate")
    reduced = F.conv2d(padded, kernel.expand(3, 1, 4, 4), stride=2, groups=3)
    expected = luma(images)[:, None] + F.interpolate(reduced, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(with_halved_chroma(images, "smooth"), expected)


def test_the_smooth_filter_keeps_luma_and_what_is_coarse():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(luma(with_halved_chroma(images, "smooth")), luma(images))
    even = torch.tensor([0.3, -0.2, 0.7])[:, None, None].expand(1, 3, 16, 16)
    torch.testing.assert_close(with_halved_chroma(even, "smooth"), even)


def test_one_channel_has_no_chroma():
    with pytest.raises(UserError, match="halved_chroma"):
        Generator(image_channels=1, halved_chroma=True)


def test_latents_are_drawn_where_faces_lie_and_psi_leads_to_their_centre():
    torch.manual_seed(0)
    generator = Generator(latent=8, channels=(16, 8, 8)).eval()
    z, centre, axes = torch.randn(2, 8), torch.randn(8), torch.randn(8, 8)
    torch.testing.assert_close(generator.decode(z), generator(z))
    generator.location.move(centre, axes)
    torch.testing.assert_close(generator.decode(z), generator(centre + z @ axes.T))
    torch.testing.assert_close(generator.decode(z, 0.5), generator(centre + 0.5 * z @ axes.T))
    torch.testing.assert_close(generator.decode(z, 0.0), generator(centre.expand(2, 8)))
