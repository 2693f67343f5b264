import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from omokage import cutout
from omokage.cutout import cut_out, foreground
from omokage.data.drawn import draw_face, draw_figure
from omokage.errors import UserError
from omokage.explore.provenance import read_provenance
from omokage.exploring import remake, same_pixels
from omokage.model import load_model
from omokage.pages.upscale import Upscale
from omokage.samples import write_each, write_grid
from omokage.sampling import gathered, sample

MASKS = json.loads((Path(__file__).parent / "cutout_masks.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return load_model("fast-64", "cpu")


def overlap(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


def area(polygons):
    large = Image.new("L", (512, 512))
    for polygon in polygons:
        ImageDraw.Draw(large).polygon([(x * 8, y * 8) for x, y in polygon], fill=255)
    return np.asarray(large.resize((64, 64), Image.Resampling.BOX)) > 127


@pytest.mark.parametrize("size", [64, 128, 256])
def test_drawn_faces_are_cut_out(size):
    """Seeds that no training picture has."""
    seeds = range(700, 700 + {64: 20, 128: 10, 256: 5}[size])
    found = [
        overlap(cut_out(draw_face(seed, size).image).alpha > 0.5, draw_figure(seed, size)[..., 3] > 127)
        for seed in seeds
    ]
    assert np.mean(found) >= 0.95


def test_generated_faces_are_cut_out_as_by_hand(model):
    seeds = [int(seed) for seed in MASKS["masks"]]
    assert len(seeds) == 20
    assert model.snapshot_hash.startswith(MASKS["snapshot"])
    found = []
    for seed, face in zip(seeds, gathered(sample(model, seeds))[0], strict=True):
        drawn = MASKS["masks"][str(seed)]
        figure, known = ~area(drawn["background"]), ~area(drawn["unknown"])
        found.append(overlap((cut_out(face).alpha > 0.5) & known, figure & known))
    assert np.mean(found) >= 0.90


def test_the_colours_of_soft_edges_have_nothing_of_the_old_background():
    """The figure over a background in a colour that it does not have."""
    for seed in (701, 704, 709):
        figure = draw_figure(seed, 128).astype(float)
        alpha = figure[..., 3] / 255
        green = np.array([0, 255, 0])
        picture = figure[..., :3] * alpha[..., None] + green * (1 - alpha[..., None])
        edge = (alpha > 0.1) & (alpha < 0.9)
        colours = foreground(picture.round().astype(np.uint8), alpha.astype(np.float32)).astype(float)

        def greenness(pixels):
            return (pixels[..., 1] - pixels[..., [0, 2]].max(-1)).clip(0)

        true, before, after = (greenness(each)[edge].mean() for each in (figure[..., :3], picture, colours))
        assert before - true > 40
        assert after - true < 0.15 * (before - true)
        far = np.abs(picture - figure[..., :3])[edge].mean()
        assert np.abs(colours - figure[..., :3])[edge].mean() < 0.5 * far
    assert (colours[alpha == 1] == picture.round()[alpha == 1]).all()  # inside, nothing changes


def test_it_says_where_it_is_unsure():
    """A face on a plain background is clean; noise is not a face."""
    figure = draw_figure(703, 128).astype(float)
    alpha = figure[..., 3:] / 255
    plain = (figure[..., :3] * alpha + 250 * (1 - alpha)).round().astype(np.uint8)
    sure = cut_out(plain)
    assert sure.clean
    assert sure.doubt.shape == (128, 128)
    assert 0 <= sure.doubt.min() <= sure.doubt.max() <= 1
    blur = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)).resize((128, 128))
    unsure = cut_out(np.asarray(blur))
    assert unsure.doubt.mean() > 3 * sure.doubt.mean()
    assert not unsure.clean


def test_a_face_and_its_mirror_image_are_cut_out_alike():
    face = draw_face(705, 96).image
    mirrored = cut_out(np.ascontiguousarray(face[:, ::-1]))
    assert np.abs(cut_out(face).alpha - mirrored.alpha[:, ::-1]).max() < 1e-4


def test_sides_that_are_not_alike_or_odd_are_taken():
    face = draw_face(706, 128).image[:101, 10:]
    found = cut_out(face)
    assert found.rgba.shape == (101, 118, 4)
    with pytest.raises(UserError, match="16 to 4096"):
        cut_out(face[:8])
    with pytest.raises(ValueError, match="uint8"):
        cut_out(face.astype(float))


def test_samples_without_background_keep_their_recipe_and_are_made_again(model, tmp_path):
    finish = Upscale(2, "lanczos", transparent=True)
    seeds = [1006, 1017]
    (first, _) = write_each(model, seeds, tmp_path, enlarge=finish)
    assert finish.clean == [True, False]
    picture = Image.open(first)
    assert (picture.mode, picture.size) == ("RGBA", (128, 128))
    told = read_provenance(first)
    assert told.upscale == {"factor": 2, "name": "lanczos", "transparent": True}
    assert ("background", "cut out") in told.lines()
    assert same_pixels(first, remake(model, told, tmp_path / "again.png")) == "the same, bit for bit"
    again = np.asarray(Image.open(tmp_path / "again.png"))
    assert (again == np.asarray(picture)).all()  # the alpha too
    grid = Image.open(write_grid(model, seeds, tmp_path / "grid.png", enlarge=finish))
    assert grid.mode == "RGBA"
    assert (np.asarray(grid)[:, 128:132, 3] == 0).all()  # nothing between the faces


def test_other_weights_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(cutout, "WEIGHTS_SHA256", "0" * 64)
    cutout._network.cache_clear()
    try:
        with pytest.raises(UserError, match="reinstall omokage"):
            cut_out(draw_face(1, 64).image)
    finally:
        cutout._network.cache_clear()
