import numpy as np
import pytest
import torch
from standins import BrokenStyles, StyledDisks

from omokage.errors import UserError
from omokage.explore.mixing import mixing, style_ranges
from omokage.explore.points import Points, of_seeds
from omokage.sampling import latents, to_pixels
from omokage.settings import Settings


def mixed_seeds(model, a, b, settings=Settings()):
    return mixing(model, *(of_seeds(model, seeds, settings, "w") for seeds in (a, b)), settings)


def test_coarse_middle_and_fine_are_by_size():
    def of(*counts):
        sizes = [(4 << i, 4 << i) for i, count in enumerate(counts) for _ in range(count)]
        return [(part.start, part.stop) for part in style_ranges(sizes)]

    assert of(2, 2, 2, 2, 2) == [(0, 4), (4, 8), (8, 10)]  # StyleGAN at 64 px
    assert of(1, 2, 2, 2, 3) == [(0, 3), (3, 7), (7, 10)]  # StyleGAN2
    assert of(2, 2, 2) == [(0, 2), (2, 4), (4, 6)]
    assert of(2, 2) == [(0, 2), (2, 3), (3, 4)]


def test_mixing_takes_the_styles_it_says():
    model = StyledDisks()
    mixed = mixed_seeds(model, [1, 2, 3, 4, 5, 6], [11, 12], Settings(psi=0.8))
    assert mixed.kinds == [0, 0, 0, 1, 1, 2]
    assert mixed.sizes == ["4 to 8 px", "16 to 32 px", "64 px"]
    assert mixed.not_finite == 0
    a, b = (0.8 * latents(seeds, (3,)) for seeds in ([1, 2, 3, 4, 5, 6], [11, 12]))
    layers = [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert np.abs(mixed.of_a - to_pixels(model.decode(a)).astype(int)).max() <= 1
    assert np.abs(mixed.of_b - to_pixels(model.decode(b)).astype(int)).max() <= 1
    for row, kind in enumerate(mixed.kinds):
        for column in range(2):
            w = a[row].expand(1, 10, 3).clone()
            w[:, layers[kind]] = b[column]
            meant = to_pixels(model.synthesis(w))[0].astype(int)
            assert np.abs(mixed.mixed[row, column] - meant).max() <= 1


def test_settings_reach_the_faces():
    mixed = mixed_seeds(StyledDisks(), [1, 2, 3], [11], Settings(noise="none"))
    meant = to_pixels(StyledDisks().decode(latents([1, 2, 3], (3,)), Settings(noise="none"))).astype(int)
    assert np.abs(mixed.of_a - meant).max() <= 1


def test_faces_that_are_not_finite_are_counted():
    # Seed 11 breaks: its own face, and the coarse row that takes its styles.
    assert mixed_seeds(BrokenStyles([11]), [1, 2, 3], [11, 12]).not_finite == 2
    # Seed 3 breaks: its own face, and its row, which keeps its coarse styles.
    assert mixed_seeds(BrokenStyles([3]), [1, 2, 3], [11, 12]).not_finite == 3


def test_fewer_than_three_faces_take_all_three_kinds_in_turn():
    mixed = mixed_seeds(StyledDisks(), [1, 2], [3])
    assert (mixed.kinds, mixed.rows) == ([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1])
    assert mixed.mixed.shape[:2] == (6, 1)
    with pytest.raises(UserError, match="no faces for A or B"):
        mixing(StyledDisks(), Points(w=torch.zeros(2, 10, 3)), Points(w=torch.zeros(0, 10, 3)), Settings())
    in_z = of_seeds(StyledDisks(), [1, 2], Settings(), "z")
    with pytest.raises(UserError, match="styles are mixed in w; leave --in z out"):
        mixing(StyledDisks(), in_z, in_z, Settings())


def test_a_family_without_styles_is_refused_by_name(family_model):
    with pytest.raises(UserError, match=r"dcgan has no styles; .*stylegan.*; .*uncurated") as refused:
        mixing(family_model("dcgan"), Points(torch.zeros(3, 4)), Points(torch.zeros(1, 4)), Settings())
    assert "\n" not in str(refused.value)
