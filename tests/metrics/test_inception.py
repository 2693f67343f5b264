from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omokage.errors import UserError
from omokage.metrics import inception as network
from omokage.metrics.features import InceptionExtractor, inception_file


@pytest.fixture(scope="module")
def file() -> Path:
    try:
        return inception_file()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Coloured rectangles with soft noise: edges, flats and texture."""
    generator = np.random.default_rng(0)
    pixels = np.full((5, 64, 64, 3), 128.0)
    for image in pixels:
        for _ in range(12):
            top, left = generator.integers(0, 48, 2)
            image[top : top + generator.integers(4, 32), left : left + generator.integers(4, 32)] = (
                generator.uniform(0, 255, 3)
            )
    return (pixels + generator.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)


def _reference_input(images: np.ndarray) -> torch.Tensor:
    """The resize as usual measurements do it: a sampling grid that is shifted to the rule of TensorFlow 1."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    batch, channels, height, width = x.shape
    theta = torch.eye(2, 3, dtype=torch.float64)
    theta[0, 2] += 1 / width - 1 / 299
    theta[1, 2] += 1 / height - 1 / 299
    grid = F.affine_grid(theta[None].repeat(batch, 1, 1), [batch, channels, 299, 299], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return ((x - 128) / 128).float()


def test_the_resize_is_that_of_the_reference(images: np.ndarray) -> None:
    for part in (images, images[:, :40], images[:, :, :51]):
        found = network.resized(torch.from_numpy(part))
        torch.testing.assert_close(found, _reference_input(part), rtol=0, atol=1e-6)


def test_a_resize_to_the_same_size_changes_nothing() -> None:
    torch.testing.assert_close(network.bilinear_matrix(299), torch.eye(299))


@pytest.fixture(scope="module")
def exact(file: Path) -> InceptionExtractor:
    return InceptionExtractor(file, precision="fp32")


@pytest.fixture(scope="module")
def features(exact: InceptionExtractor, images: np.ndarray) -> np.ndarray:
    """Of the first three images, together."""
    return exact(images[:3])


def test_float32_equals_the_torchscript(file: Path, images: np.ndarray, features: np.ndarray) -> None:
    with torch.inference_mode():
        expected = torch.jit.load(str(file)).eval()(_reference_input(images[:3]))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)


def test_bfloat16_is_close_and_features_do_not_depend_on_the_batch(
    file: Path, images: np.ndarray, exact: InceptionExtractor, features: np.ndarray
) -> None:
    fast = InceptionExtractor(file, precision="bf16")
    for extractor, together, tolerance in ((exact, features, 1e-4), (fast, fast(images[:3]), 0.1)):
        np.testing.assert_allclose(together, features, atol=tolerance)
        np.testing.assert_allclose(extractor(images[1:2]), together[1:2], atol=tolerance)
    assert np.abs(together - features).mean() < 0.03 * features.mean()


def test_no_images_no_features(exact: InceptionExtractor) -> None:
    assert exact(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, 2048)
    with pytest.raises(ValueError, match="uint8"):
        exact(np.zeros((1, 8, 8, 3), np.float32))


def test_another_file_is_not_loaded(tmp_path: Path) -> None:
    false = tmp_path / "network.pt"
    false.write_bytes(b"not a network")
    with pytest.raises(UserError, match="not the 2015 Inception"):
        network.folded_weights(false)


def test_an_unknown_precision_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"int4.*auto, bf16, fp32"):
        InceptionExtractor(file, precision="int4")


@pytest.mark.parametrize("sides", [(9, 9), (8, 13), (17, 6)])
def test_operations_on_the_bits_of_bfloat16_equal_the_plain_ones(sides: tuple[int, int]) -> None:
    x = torch.randn(2, 8, *sides, generator=torch.Generator().manual_seed(0)).bfloat16()
    x[0, 0, 0, :2] = torch.tensor([-0.0, 0.0])
    x = x.contiguous(memory_format=torch.channels_last)
    rectified = network.rectify_(x.clone(memory_format=torch.preserve_format))
    assert torch.equal(rectified, x.relu())
    assert torch.equal(network.max_pool(rectified), F.max_pool2d(x.relu(), 3, 2))


def test_the_fused_convolution_equals_the_plain_one() -> None:
    if not network._fused_convolution_works():
        pytest.skip("this PyTorch has no fused convolution")
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(24, 16, 3, 3, generator=generator), torch.randn(24, generator=generator)
    x = torch.randn(2, 16, 9, 9, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
    convolution = network.Convolution(weight.clone(), bias.clone(), stride=2, padding="valid")
    mean = x.float().mean((0, 2, 3))
    convolution.round_(mean)
    rest = (weight - weight.bfloat16().float()).sum((2, 3)) @ mean
    expected = F.conv2d(x.float(), weight.bfloat16().float(), bias + rest, stride=2).relu()
    torch.testing.assert_close(convolution(x).float(), expected, rtol=0.01, atol=0.01)
