import numpy as np
import pytest
import torch
from PIL import Image

from omokage.errors import UserError
from omokage.metrics import two_sample
from omokage.metrics.two_sample import PROTOCOLS, prepare, two_sample_accuracy


def blobs(n: int, seed: int) -> np.ndarray:
    """Soft random pictures (n, 64, 64, 3): enough of a distribution to compare with itself."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(c).resize((64, 64), Image.Resampling.BICUBIC)) for c in coarse]
    )


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return blobs(112, 1)


def test_one_distribution_is_not_told_apart(real):
    result = two_sample_accuracy(real, blobs(112, 2))
    assert result.interval[0] < 0.5 < result.interval[1]
    assert result.p_value > 0.01
    assert (result.n_train, result.n_test) == (168, 56)
    assert result.protocol == PROTOCOLS[0]


@pytest.mark.parametrize("change", ["darker", "two-colours"])
def test_another_distribution_is_told_apart(real, change):
    fake = blobs(100, 2)
    if change == "darker":
        fake = (fake * 0.6).astype(np.uint8)
    else:
        fake[..., 2] = fake[..., 1]
    result = two_sample_accuracy(real, fake, seed=3)
    assert result.accuracy > 0.8
    assert result.interval[0] > 0.5
    assert result.p_value < 1e-3
    assert (result.n_train, result.n_test) == (150, 50)


def test_the_same_arguments_give_the_same_result_and_the_global_random_state_is_left_alone(real, monkeypatch):
    monkeypatch.setattr(two_sample, "EPOCHS", 3)  # how long it learns changes neither
    before, results = torch.get_rng_state(), []
    for noise in range(2):
        results.append(two_sample_accuracy(real[:80], blobs(80, 4), seed=5))
        assert torch.equal(before, torch.get_rng_state())
        before = torch.manual_seed(noise).get_state()
    assert results[0] == results[1]
    assert results[0].seed == 5


def test_the_mill_drops_the_finest_detail_and_keeps_the_rest():
    face = blobs(1, 5)[0].astype(int)
    rows, columns = np.indices((64, 64))
    fine = np.where((rows + columns) % 2, 12, -12)[..., None]
    coarse = (12 * np.sin(rows / 4)).round().astype(int)[..., None]

    def kept(change: np.ndarray) -> float:
        pair = np.stack([face, face + change]).clip(0, 255).astype(np.uint8)
        milled = prepare(pair, PROTOCOLS[0]).astype(float)
        return (milled[0] - milled[1]).std() / (pair[0].astype(float) - pair[1]).std()

    assert kept(fine) < 0.4
    assert kept(coarse) > 0.85


def test_both_sides_may_have_other_sizes(real):
    large = np.stack([np.asarray(Image.fromarray(i).resize((96, 80))) for i in blobs(80, 9)])
    assert prepare(large, "c2st64-plain").shape == (80, 64, 64, 3)
    assert np.array_equal(prepare(real, "c2st64-plain"), real)


def test_bad_input_is_one_line(real):
    with pytest.raises(UserError, match="12 faces on one side"):
        two_sample_accuracy(real, real[:12])
    with pytest.raises(UserError, match="unknown two-sample protocol 'c2st'"):
        two_sample_accuracy(real, real, protocol="c2st")
