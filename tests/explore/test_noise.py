from itertools import pairwise

import numpy as np
import pytest
import torch
from standins import BrokenStyles, StyledDisks

from omokage.errors import UserError
from omokage.explore import noise
from omokage.explore.noise import busiest, noise_components, noise_detail
from omokage.sampling import latents, to_pixels
from omokage.settings import Settings


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(noise, "NOISES", 24)


def test_noise_detail_looks_where_noise_is(few):
    model = StyledDisks()
    (detail,) = noise_detail(model, [2], Settings())
    meant = to_pixels(model.decode(latents([2], (3,))))[0].astype(int)
    assert np.abs(detail.face - meant).max() <= 1
    near = detail.varied[:, *detail.place].astype(int)
    assert near.shape == (4, 16, 16, 3)
    assert all(np.abs(one - other).max() > 5 for one, other in pairwise(near))
    assert detail.deviation[:, :32].mean() > 2  # noise is on the left half alone
    assert detail.deviation[:, 32:].max() < 1e-3
    assert detail.place[1].stop <= 32
    assert detail.not_finite == 0


def test_noise_comes_from_its_seed_and_leaves_others_alone(few):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again, other = (noise_detail(StyledDisks(), [2], Settings(), noise_seed=i)[0] for i in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert (one.varied == again.varied).all()
    assert (one.deviation == again.deviation).all()
    assert not (one.varied == other.varied).all()


def test_faces_that_are_not_finite_are_counted(few):
    details = noise_detail(BrokenStyles([3]), [2, 3], Settings())
    assert [detail.not_finite for detail in details] == [0, 25]
    assert noise_components(BrokenStyles([3]), [2, 3, 4], Settings()).not_finite == 4


def test_noise_components_take_noise_from_the_layers_they_say():
    model = StyledDisks()
    found = noise_components(model, [2, 7], Settings(psi=0.8))
    w = model.mapping(latents([2, 7], (3,)), Settings(psi=0.8))
    kinds = [range(10), range(0), range(8, 10), range(8)]
    assert found.headings == [
        "Noise in all layers",
        "No noise",
        "Only in fine ones (64 px)",
        "Only in coarse ones (4 to 32 px)",
    ]
    for shown, having in zip(found.faces, kinds, strict=True):
        meant = to_pixels(model.synthesis(w, ["constant" if i in having else "none" for i in range(10)]))
        assert np.abs(shown - meant.astype(int)).max() <= 1
    assert all(place[1].stop <= 32 + 16 for place in found.places)  # where noise changes something
    assert found.not_finite == 0


def test_the_busiest_window_is_found():
    change = np.zeros((16, 32))
    change[9:12, 20:25] = 1
    rows, columns = busiest(change)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (4, 8)
    assert rows.start <= 9
    assert rows.stop >= 12
    assert columns.start <= 20
    assert columns.stop >= 25


@pytest.mark.parametrize("look", [noise_detail, noise_components])
def test_a_family_without_styles_is_refused_by_name(family_model, look):
    with pytest.raises(UserError, match=r"dcgan has no styles; .*stylegan.*; .*uncurated") as refused:
        look(family_model("dcgan"), [1], Settings())
    assert "\n" not in str(refused.value)
