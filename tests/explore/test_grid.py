import os

import numpy as np
import pytest
from omokage.explore.contact_sheet import write_contact_sheet
from omokage.explore.grid import write_each, write_grid
from omokage.explore.video import write_walk
from PIL import Image

from omokage import __version__
from omokage.errors import UserError
from omokage.sampling import latents, sample


def faces_of(model, seeds, psi=1.0):
    return np.concatenate(list(sample(model, seeds, psi)))


def test_a_grid_shows_the_faces_in_the_order_of_the_seeds(disk_model, tmp_path):
    seeds = [5, 0, 1, 2, 70, 71, 3]
    out = write_grid(disk_model, seeds, tmp_path / "grid.png", psi=0.7, columns=4)
    picture = np.asarray(Image.open(out))
    assert picture.shape == (2 * 32 + 1, 4 * 32 + 3, 3)
    for i, face in enumerate(faces_of(disk_model, seeds, 0.7)):
        y, x = (i // 4) * 33, (i % 4) * 33
        assert (picture[y : y + 32, x : x + 32] == face).all()
    assert (picture[33:, 99:] == 255).all()  # the place that no face fills


def test_a_grid_says_how_it_was_made(disk_model, tmp_path):
    text = Image.open(write_grid(disk_model, [0, 1, 2, 9], tmp_path / "grid.png", psi=0.5)).text
    assert text == {
        "Software": f"omokage {__version__}",
        "recipe": "disk",
        "snapshot": disk_model.snapshot_hash,
        "images seen": "12345",
        "seeds": "0-2,9",
        "psi": "0.5",
        "columns": "2",
    }


def test_a_file_a_seed(disk_model, tmp_path):
    seeds = [17, 3, 1_234_567]
    paths = write_each(disk_model, seeds, tmp_path / "new" / "faces")
    assert [path.name for path in paths] == ["seed-000017.png", "seed-000003.png", "seed-1234567.png"]
    for path, seed, face in zip(paths, seeds, faces_of(disk_model, seeds), strict=True):
        image = Image.open(path)
        assert (np.asarray(image) == face).all()
        assert image.text["seeds"] == str(seed)
    assert len(os.listdir(tmp_path / "new" / "faces")) == 3


@pytest.mark.parametrize("name", ["grid.jpg", "grid", "grid.mp4"])
def test_a_wrong_name_is_refused_before_sampling(disk_model, tmp_path, name):
    disk_model.decode = None
    with pytest.raises(UserError, match=r"\.png"):
        write_grid(disk_model, [0], tmp_path / name)


def test_a_picture_too_large_to_open_is_refused_before_sampling(disk_model, tmp_path):
    disk_model.resolution = (512, 512)
    disk_model.decode = None
    with pytest.raises(UserError, match="one file a seed"):
        write_grid(disk_model, range(1000), tmp_path / "grid.png")


def test_progress_counts_the_faces(disk_model, tmp_path):
    class Counter:
        def task(self, label, total):
            self.total, self.done = total, 0
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def advance(self, n=1, note=""):
            self.done += n

    counter = Counter()
    write_grid(disk_model, range(70), tmp_path / "grid.png", progress=counter)
    assert (counter.total, counter.done) == (70, 70)


class Faulty:
    """Breaks the images of some seeds, as a flow does whose numbers overflow."""

    def __init__(self, model, seeds):
        self.model, self.latent_shape, self.resolution = model, model.latent_shape, model.resolution
        self.recipe, self.images_seen, self.snapshot_hash = model.recipe, 1, "0" * 64
        self.faults = latents(seeds, model.latent_shape)

    def decode(self, z, psi=1.0):
        images = self.model.decode(z, psi).clone()
        hit = (z[:, None] == self.faults).flatten(2).all(2).any(1)
        images[hit, :, 3, 4] = float("nan")
        return images


def test_images_that_are_not_finite_are_named_and_never_hidden(disk_model, tmp_path):
    faulty, broken = Faulty(disk_model, [17, 3]), []
    path = write_grid(faulty, range(20), tmp_path / "grid.png", broken=broken)
    assert broken == [3, 17]  # though the last batch is filled up with copies
    assert Image.open(path).text["not finite"] == "3,17"
    broken = []
    paths = write_each(faulty, [2, 3], tmp_path / "each", broken=broken)
    assert broken == [3]
    assert ["not finite" in Image.open(path).text for path in paths] == [False, True]
    assert Image.open(write_contact_sheet(faulty, [3], tmp_path / "sheet.png")).text["not finite"] == "3"
    broken = []
    write_walk(faulty, [1, 3, 5], tmp_path / "walk.mp4", frames_per_leg=2, broken=broken)
    assert broken == [2]
