import numpy as np
import pytest
from PIL import Image, ImageFilter

from omokage import tag_encoder
from omokage.errors import UserError
from omokage.metrics.features import load_extractor
from omokage.metrics.fid import fid, statistics
from omokage.metrics.tag_features import tag_extractor
from omokage.tag_encoder import TagEncoder, encoder_bytes, network_input


@pytest.fixture(scope="module")
def real_faces(real_data) -> np.ndarray:
    import tarfile

    faces: list[np.ndarray] = []
    with tarfile.open(real_data / "getchu-faces-64.tar") as tar:
        for member in tar:
            if member.isfile() and len(faces) < 1200:
                image = Image.open(tar.extractfile(member)).convert("RGB").resize((64, 64))
                faces.append(np.asarray(image))
    return np.stack(faces)[np.random.default_rng(0).permutation(1200)]


def noise(n: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_the_shipped_encoder_is_small_and_pinned():
    extractor = tag_extractor()
    assert load_extractor("tags") is extractor
    assert len(encoder_bytes()) < 2_000_000
    assert 500_000 < sum(p.numel() for p in extractor.encoder.parameters()) < 900_000
    assert (extractor.name, extractor.resize_rule) == ("tags", "antialiased-bilinear-64")
    assert extractor.file_hash == tag_encoder.WEIGHTS_SHA256


def test_features_do_not_depend_on_the_batch():
    extractor, images = tag_extractor(), noise(9)
    together = extractor(images)
    assert together.shape == (9, extractor.dimensions)
    assert together.dtype == np.float32
    alone = np.concatenate([extractor(images[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-4)
    assert together.std(axis=0).mean() > 1e-3
    assert extractor(images[:0]).shape == (0, extractor.dimensions)


def test_the_resize_rule_is_a_triangle_as_wide_as_the_shrinking():
    images = noise(2, 128, 64)
    shrunk = network_input(images).numpy()
    # Halving: source rows 2i-1 .. 2i+2 at distances 1.5, 0.5, 0.5, 1.5 of a triangle of half-width 2.
    rows = [images[:, start : start + 121 : 2].astype(float) for start in (1, 2, 3, 4)]
    expected = sum(w * r for w, r in zip((1, 3, 3, 1), rows, strict=True)) / 8 / 127.5 - 1
    np.testing.assert_allclose(shrunk[:, :, 1:62], expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert np.array_equal(
        network_input(images[:, :64]).numpy(), (images[:, :64] / np.float32(127.5) - 1).transpose(0, 3, 1, 2)
    )


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"float32 \(1, 64, 64, 3\)"):
        network_input(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(64, 64, 3\)"):
        network_input(np.zeros((64, 64, 3), np.uint8))


def test_altered_weights_are_refused(monkeypatch):
    monkeypatch.setattr(tag_encoder, "WEIGHTS_SHA256", "f" * 64)
    with pytest.raises(UserError, match="SHA-256"):
        encoder_bytes()
    monkeypatch.setattr(tag_encoder, "WEIGHTS", "absent.safetensors")
    with pytest.raises(UserError, match="tag encoder is missing"):
        encoder_bytes()


def test_the_encoder_is_deterministic_code():
    encoder = TagEncoder()
    assert encoder.dimensions == 416
    at16, at8, at4 = encoder.maps(network_input(noise(2)))
    assert [tuple(m.shape[2:]) for m in (at16, at8, at4)] == [(16, 16), (8, 8), (4, 4)]


def test_distance_rises_with_damage_to_real_faces(real_faces):
    extractor = tag_extractor()

    def distance(images: np.ndarray) -> float:
        features = np.concatenate([extractor(images[i : i + 100]) for i in range(0, len(images), 100)])
        return fid(*reference, *statistics(features))

    half = len(real_faces) // 2
    others = real_faces[half:]
    first = np.concatenate([extractor(real_faces[i : i + 100]) for i in range(0, half, 100)])
    reference = statistics(first)

    def blurred(radius: float) -> np.ndarray:
        return np.stack(
            [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(radius))) for i in others]
        )

    floor = distance(others)
    assert floor < distance(blurred(1)) < distance(blurred(3))
    assert floor < distance(np.roll(others, 1, axis=3))
    assert floor < distance(np.resize(others[:40], others.shape))
