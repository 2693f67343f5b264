import numpy as np
import pytest
from standins import DiskModel, Faulty, PlainDisks, StyledDisks

from omokage.errors import UserError
from omokage.explore.points import of_seeds
from omokage.explore.truncation import PSIS, check_psis, psis_for, truncated
from omokage.sampling import latents, to_pixels
from omokage.settings import Settings


def test_truncation_has_the_faces_at_every_psi():
    model = StyledDisks()
    shown = truncated(model, of_seeds(model, [3, 9], Settings(), "w"))
    assert [faces.heading for faces in shown] == [f"psi {psi:g}" for psi in PSIS]
    z = latents([3, 9], (3,))
    for faces, psi in zip(shown, PSIS, strict=True):
        meant = to_pixels(model.decode(z, Settings(psi=psi))).astype(int)
        assert np.abs(faces.pixels - meant).max() <= 1
        assert faces.not_finite == 0


def test_other_settings_stay_as_they_are():
    model, z = StyledDisks(), latents([3], (3,))
    (shown,) = truncated(
        model, of_seeds(model, [3], Settings(), "w"), [0.5], Settings(noise="none", psi=0.1)
    )
    meant = to_pixels(model.decode(z, Settings(noise="none", psi=0.5))).astype(int)
    assert np.abs(shown.pixels - meant).max() <= 1


def test_without_styles_truncation_ends_at_psi_0():
    assert psis_for(PlainDisks()) == (1.2, 1, 0.7, 0.5, 0.25, 0)
    points = of_seeds(PlainDisks(), [0], Settings(), "z")
    assert [faces.heading for faces in truncated(PlainDisks(), points)][-1] == "psi 0"
    with pytest.raises(UserError, match=r"psi -0.5 .* dcgan has no styles; give psi of 0 or more"):
        truncated(PlainDisks(), points, [1, -0.5])


@pytest.mark.parametrize(
    ("psis", "said"),
    [([], "no psi given"), ([3], "psi 3, allowed is -2 to 2"), ([1, float("nan")], "psi nan, allowed")],
)
def test_impossible_psis_are_refused_in_one_line(psis, said):
    with pytest.raises(UserError, match=f"figure truncation: {said}") as refused:
        check_psis(StyledDisks(), psis, "truncation")
    assert "\n" not in str(refused.value)


def test_faces_that_are_not_finite_are_counted():
    faulty = Faulty(DiskModel(), [4])
    shown = truncated(faulty, of_seeds(faulty, [3, 4, 5], Settings(), "z"), [1, 0.5])
    assert [faces.finite.tolist() for faces in shown] == [[True, False, True]] * 2
    assert sum(faces.not_finite for faces in shown) == 2
