"""Points in latent space to pixels: padding, order, what is not finite."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from standins import DiskModel, Faulty, StyledDisks

from omokage.errors import UserError
from omokage.sampling import (
    BATCH,
    decoded,
    gathered,
    in_batches,
    latents,
    pixels,
    sample,
    sampled,
    seed_ranges,
    styles,
    synthesised,
    to_pixels,
)
from omokage.settings import Settings


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_seed_ranges_say_exactly_the_seeds_in_their_order(seeds):
    said = []
    for part in seed_ranges(seeds).split(","):
        first, _, last = part.partition("-")
        said += range(int(first), int(last or first) + 1)
    assert said == seeds


def test_a_latent_follows_from_its_seed_alone():
    together = latents([3, 2**40, 17], (2, 3))
    assert together.shape == (3, 2, 3)
    assert torch.equal(latents([17], (2, 3))[0], together[2])
    assert not torch.equal(together[0], together[2])
    assert latents([], (4,)).shape == (0, 4)


@pytest.mark.parametrize("n", [1, BATCH, BATCH + 1, 2 * BATCH + 5])
def test_batches_are_always_full_and_give_back_what_was_asked(n):
    seen, points = [], torch.arange(3.0 * n).view(n, 3)

    def double(part):
        seen.append(part.clone())
        return 2 * part

    assert torch.equal(torch.cat(list(in_batches(double, points))), 2 * points)
    assert {len(part) for part in seen} == {BATCH}
    assert (seen[-1][(n - 1) % BATCH :] == points[-1]).all()  # the last one is repeated


def test_each_row_has_its_own_psi_whatever_its_batch():
    seen = []

    class Watched(DiskModel):
        def decode(self, z, settings):
            seen.append(settings.psi)
            return super().decode(z, settings)

    psis = tuple(i / 20 for i in range(20))
    found, _ = gathered(sample(Watched(), range(20), Settings(psi=psis)))
    assert seen == [psis[:16], psis[16:] + psis[-1:] * 12]
    for i, psi in enumerate(psis):
        assert (found[i] == gathered(sample(DiskModel(), [i], Settings(psi=psi)))[0][0]).all()
    z = latents(range(20), DiskModel.latent_shape)
    assert (gathered(pixels(decoded(DiskModel(), z, Settings(psi=psis))))[0] == found).all()


@pytest.mark.parametrize("psis", [(), (0.5,), (0.5,) * 19, (0.5,) * 21])
def test_another_number_of_psis_than_of_points_is_refused(psis):
    model, settings = StyledDisks(), Settings(psi=psis)
    z, told = latents(range(20), model.latent_shape), f"psi: {len(psis)} numbers? for 20 points"
    for draw in (
        lambda: sample(model, range(20), settings),
        lambda: list(sampled(model, range(20), settings)),
        lambda: list(decoded(model, z, settings)),
        lambda: styles(model, range(20), settings),
    ):
        with pytest.raises(UserError, match=told):
            draw()


def test_styles_and_what_is_made_of_them_are_those_of_decode():
    model, psis = StyledDisks(), tuple(1 - i / 20 for i in range(20))
    w = styles(model, range(20), Settings(psi=psis))
    assert w.shape == (20, 10, 3)
    torch.testing.assert_close(w[:, 0], latents(range(20), (3,)) * torch.tensor(psis)[:, None])
    drawn, finite = gathered(pixels(synthesised(model, w, "none")))
    assert finite.all()
    assert (drawn == gathered(sample(model, range(20), Settings(psi=psis, noise="none")))[0]).all()


def test_what_is_not_finite_is_black_and_told_in_its_place():
    faces, finite = gathered(sample(Faulty(DiskModel(), [3, 18, 19]), range(20)))
    assert np.flatnonzero(~finite).tolist() == [3, 18, 19]  # and no copies that fill up a batch
    assert (faces[~finite][:, 1, 2] == 0).all()
    assert (faces[finite] == gathered(sample(DiskModel(), np.flatnonzero(finite)))[0]).all()


def test_infinities_are_not_finite_and_shown_black_or_white():
    images = torch.zeros(3, 3, 2, 2)
    images[0, 0, 0, 0], images[1, 1, 1, 1] = torch.inf, torch.nan
    ((shown, finite),) = pixels([images])
    assert finite.tolist() == [False, False, True]
    assert shown.shape == (3, 2, 2, 3)
    assert shown[1, 1, 1, 1] == 0


def test_pixels_are_rounded_and_grey_is_repeated():
    values = torch.tensor([-1.0, 1.0, 0.0, 0.003, -2.0, 2.0, torch.nan]).view(-1, 1, 1, 1)
    found = to_pixels(values)
    assert found.shape == (7, 1, 1, 3)
    assert found.dtype == np.uint8
    assert found[:, 0, 0].tolist() == [[value] * 3 for value in (0, 255, 128, 128, 0, 255, 0)]


def test_progress_counts_the_faces(disk_model):
    advanced = []

    class Counter:
        def task(self, label, total):
            advanced.append((label, total))
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def advance(self, n=1, note=""):
            advanced.append(n)

    list(sample(disk_model, range(20), progress=Counter()))
    assert advanced == [("sampling", 20), 16, 4]
