import numpy as np
import pytest

from omokage.errors import UserError
from omokage.metrics import precision_recall as module
from omokage.metrics.precision_recall import precision_recall


def _brute_force(real: np.ndarray, fake: np.ndarray, k: int, k_density: int) -> tuple[float, ...]:
    """The definitions of the two papers, pair by pair in float64."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None].astype(np.float64) - b[None].astype(np.float64), axis=2)

    def radii(x: np.ndarray, neighbour: int) -> np.ndarray:
        return np.sort(distances(x, x), 1)[:, neighbour]  # the nearest is the vector itself

    across = distances(real, fake)
    inside = across < radii(real, k_density)[:, None]
    return (
        (across <= radii(real, k)[:, None]).any(0).mean(),
        (across <= radii(fake, k)[None]).any(1).mean(),
        inside.sum() / (k_density * len(fake)),
        inside.any(1).mean(),
    )


@pytest.mark.parametrize("block", [7, 64, 2048])
def test_agrees_with_brute_force_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    generator = np.random.default_rng(0)
    real = generator.normal(size=(150, 6)).astype(np.float32) + 30
    fake = (generator.normal(size=(90, 6)) * 0.7 + 0.5).astype(np.float32) + 30
    found = precision_recall(real, fake, k=3, k_density=5)
    np.testing.assert_allclose(found, _brute_force(real, fake, 3, 5), rtol=1e-6)
    assert 0 < found.recall < 1  # the case is not a trivial one


def test_samples_of_one_mode_are_precise_and_cover_half() -> None:
    generator = np.random.default_rng(1)
    modes = np.repeat([[0.0, 0.0], [100.0, 0.0]], 200, axis=0)
    real = modes + generator.normal(size=(400, 2))
    fake = generator.normal(size=(200, 2))
    found = precision_recall(real, fake)
    assert found.precision > 0.9
    assert 0.4 < found.recall <= 0.5
    assert 0.4 < found.coverage <= 0.5


def test_samples_that_are_elsewhere_get_nothing() -> None:
    generator = np.random.default_rng(2)
    real = generator.normal(size=(50, 3))
    assert precision_recall(real, real + 1000) == (0, 0, 0, 0)


def test_hand_made_case_on_a_line() -> None:
    # Real: 0, 1, 2, 10. First neighbours are at 1, 1, 1, 8.
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    # Sample 0.5 lies in the balls of 0 and 1; 17 in that of 10; 100 and 101 in none.
    fake = np.array([[0.5], [17.0], [100.0], [101.0]])
    found = precision_recall(real, fake, k=1, k_density=1)
    assert found.precision == 0.5
    # First neighbours of the samples are at 16.5, 16.5, 1, 1: their balls hold all of the real line.
    assert found.recall == 1.0
    assert found.density == 3 / 4
    assert found.coverage == 3 / 4


def test_as_many_neighbours_as_images_are_refused() -> None:
    with pytest.raises(UserError, match="more than 5"):
        precision_recall(np.zeros((5, 2)), np.zeros((50, 2)))
