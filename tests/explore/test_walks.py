import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from standins import Faulty

from omokage.explore.walks import closed_walk, eased, frames, slerp
from omokage.sampling import gathered, latents, sample


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000), st.floats(0, 1))
def test_slerp_turns_evenly_and_keeps_to_the_sphere(seed, t):
    a, b = torch.nn.functional.normalize(random(2, 7, seed=seed)).unsqueeze(1)
    middle = slerp(a, b, t)
    angle = torch.acos((a * b).sum().clamp(-1, 1))
    assert middle.norm().item() == pytest.approx(1, abs=1e-9)
    assert torch.acos((a * middle).sum().clamp(-1, 1)).item() == pytest.approx(t * angle.item(), abs=1e-6)


def test_slerp_begins_and_ends_at_its_ends_and_keeps_shapes():
    a, b = random(3, 2, 4, 4).float(), random(3, 2, 4, 4, seed=1).float()
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    assert slerp(a, b, 0.3).shape == a.shape


def test_normal_latents_keep_the_length_that_normal_latents_have():
    a, b = random(1, 512), random(1, 512, seed=1)
    assert slerp(a, b, 0.5).norm().item() == pytest.approx(math.sqrt(512), rel=0.1)
    assert ((a + b) / 2).norm().item() < 0.8 * math.sqrt(512)


def test_equal_opposite_and_zero_latents_take_the_straight_line():
    a = torch.tensor([[1.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[1.0, 2.0], [-1.0, 0.0], [2.0, 2.0]])
    torch.testing.assert_close(slerp(a, b, 0.25), torch.tensor([[1.0, 2.0], [0.5, 0.0], [0.5, 0.5]]))


def test_nearly_equal_latents_keep_their_digits():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for angle in (1e-3, 1e-5, 1e-7, 1e-9):
        b = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        assert slerp(a, b, 0.5)[0, 1].item() == pytest.approx(math.sin(angle / 2), rel=1e-6)


def test_easing_rests_at_both_ends():
    step = 1e-4
    assert (eased(step) - eased(0)) / step < 1e-3
    assert (eased(1) - eased(1 - step)) / step < 1e-3
    assert [eased(t / 10) for t in range(11)] == sorted(eased(t / 10) for t in range(11))


def test_a_walk_visits_every_stop_and_closes():
    stops = random(3, 2, 5)
    points = list(closed_walk(stops, 8))
    assert len(points) == 24
    for i in range(3):
        torch.testing.assert_close(points[8 * i], stops[i])
    # The step over the seam is like the first step of every leg: small, and no frame is shown twice.
    seam = (points[-1] - points[0]).norm()
    assert 0 < seam < 2 * max((b - a).norm() for a, b in pairwise(points))


def test_the_faces_on_the_way_are_those_of_their_points_and_what_breaks_is_named(disk_model):
    faulty = Faulty(disk_model, [3])
    stops = latents(range(6), faulty.latent_shape).unflatten(0, (3, 2))  # two walks side by side
    shown = list(frames(faulty.decode, closed_walk(stops, 7)))
    assert len(shown) == 21
    assert [finite.tolist() for _, finite in shown] == [[True, i != 7] for i in range(21)]
    for stop in range(3):
        expected, _ = gathered(sample(faulty, [2 * stop, 2 * stop + 1]))
        assert (shown[7 * stop][0] == expected).all()
    assert not (shown[3][0] == shown[0][0]).all()
