import numpy as np
import pytest
from PIL import Image

from omokage.errors import UserError
from omokage.metrics.neighbours import nearer_interval, nearest, neighbours, pixel_features
from omokage.pages.neighbours import neighbour_sheet


class Colours:
    """A feature space of its own: mean colours of the four quarters."""

    name = "quarters"
    dimensions = 12
    file_hash = "0" * 64
    resize_rule = "none"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        n, h, w, c = images.shape
        quarters = images.reshape(n, 2, h // 2, 2, w // 2, c).mean(axis=(2, 4))
        return quarters.reshape(n, -1).astype(np.float32)


def pictures(n: int, seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(c).resize((64, 64), Image.Resampling.BICUBIC)) for c in coarse]
    )


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return pictures(300, 0)


def test_nearest_agrees_with_plain_distances():
    rng = np.random.default_rng(3)
    queries, points = rng.normal(size=(150, 7)).astype("f"), rng.normal(size=(90, 7)).astype("f")
    plain = np.linalg.norm(queries[:, None].astype(float) - points[None], axis=2)
    indices, distances = nearest(queries, points, 4)
    assert np.array_equal(indices, np.argsort(plain, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(plain, axis=1)[:, :4], rtol=1e-5)

    own = np.arange(90)
    plain = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
    np.fill_diagonal(plain, np.inf)
    indices, _ = nearest(points, points, leave_out=own)
    assert np.array_equal(indices[:, 0], plain.argmin(axis=1))


def test_a_copy_is_at_distance_zero_even_far_from_the_origin():
    points = np.random.default_rng(0).normal(1000, 1, (50, 64)).astype("f")
    indices, distances = nearest(points[[7, 3]], points, 2)
    assert indices[:, 0].tolist() == [7, 3]
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 1).all()


def test_planted_copies_are_found_and_fresh_faces_are_not_accused(faces):
    planted = [5, 17, 240]
    copies = faces[planted].copy()
    copies[1] = copies[1][:, ::-1]
    copies[2] = np.clip(copies[2].astype(int) + 2, 0, 255).astype(np.uint8)
    fresh = pictures(200, 1)

    report = neighbours(copies, faces, extractor=Colours(), k=3)
    features, pixels = report.spaces
    assert (features.space, pixels.space) == ("quarters", "pixels-32")
    assert pixels.indices[:, 0].tolist() == planted
    assert features.indices[[0, 2], 0].tolist() == [5, 240]
    assert pixels.copied == 1
    assert pixels.ratio < 0.2
    assert pixels.nearer > 0.99
    assert pixels.indices.shape == pixels.distances.shape == (3, 3)
    assert (np.diff(pixels.distances, axis=1) >= 0).all()

    features, pixels = neighbours(fresh, faces, extractor=Colours()).spaces
    for space in (features, pixels):
        assert space.copied < 0.05
        assert 0.9 < space.ratio < 1.1
        assert 0.4 < space.nearer < 0.6


def test_a_share_of_copies_shows_as_that_share(faces):
    mixed = np.concatenate([pictures(75, 2), faces[:25]])
    (pixels,) = neighbours(mixed, faces).spaces
    assert 0.25 <= pixels.copied <= 0.30
    assert pixels.as_dict()["copied"] == pixels.copied


def test_known_features_are_used_as_they_are(faces):
    class Refuses(Colours):
        def __call__(self, images):
            raise AssertionError("features were given")

    samples = pictures(4, 7)
    quarters = Colours()
    given = neighbours(
        samples, faces, extractor=Refuses(), sample_features=quarters(samples), face_features=quarters(faces)
    )
    made = neighbours(samples, faces, extractor=quarters)
    assert np.array_equal(given.spaces[0].indices, made.spaces[0].indices)


def test_the_picture_shows_the_sample_and_its_neighbour(faces, tmp_path):
    out = tmp_path / "neighbours.png"
    spaces = neighbours(faces[:16], faces, k=2).spaces
    assert neighbour_sheet(faces[:16], faces, spaces, out, labels=[f"seed {i}" for i in range(16)]) == out
    assert [p.name for p in tmp_path.iterdir()] == ["neighbours.png"]
    sheet = np.asarray(Image.open(out).convert("RGB")).astype(int)
    pitch = 96 + 18 + 6
    assert sheet.shape[0] >= 16 * pitch
    for row in (0, 15):
        top = 52 + row * pitch
        sample, first = sheet[top : top + 96, 24:120], sheet[top : top + 96, 168:264]
        assert np.array_equal(sample, first)
        assert sample.std() > 10


def test_pixel_distance_is_a_root_mean_square():
    a, b = pictures(2, 4)
    small = [x.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)) / 255 for x in (a, b)]
    expected = np.sqrt(np.mean((small[0] - small[1]) ** 2))
    found = np.linalg.norm(np.subtract(*pixel_features(np.stack([a, b]))))
    assert found == pytest.approx(expected, rel=1e-4)


def test_bad_input_is_one_line(faces):
    with pytest.raises(UserError, match="no samples"):
        neighbours(faces[:0], faces)
    with pytest.raises(UserError, match="3 training faces are too few for 5"):
        neighbours(faces[:2], faces[:3])


def test_held_out_faces_take_the_place_of_training_faces(faces):
    heldout, fresh = pictures(150, 20), pictures(200, 21)
    # Of 150 faces, the nearest hundredth is one face, which says nothing; the nearest tenth does.
    report = neighbours(fresh, faces, extractor=Colours(), heldout=heldout, percentile=10)
    features, pixels = report.spaces
    for space in (features, pixels):
        assert space.reference == "held-out faces"
        assert len(space.real_distances) == 150
        low, high = space.nearer_interval
        assert low < 0.5 < high
        assert low <= space.nearer <= high
        assert space.copied_interval[0] <= 0.1 <= space.copied_interval[1]
    # Copies in the training set do not blur the comparison, as they do without held-out faces.
    doubled = np.concatenate([faces, faces])
    copies = np.concatenate([faces[:60], pictures(40, 22)])
    (strict,) = neighbours(copies, doubled, heldout=heldout).spaces
    (blurred,) = neighbours(copies, doubled).spaces
    assert strict.copied >= 0.6
    assert strict.nearer_interval[0] > 0.6
    assert blurred.nearer < strict.nearer


def test_intervals_hold_the_true_share_as_often_as_they_say(faces):
    """Of 40 models that copy nothing, nearly all have 50% in the interval; it is not needlessly wide."""
    rng, hits, widths = np.random.default_rng(0), 0, []
    for _ in range(40):
        low, high = nearer_interval(rng.normal(size=200), np.sort(rng.normal(size=200)))
        hits += low <= 0.5 <= high
        widths.append(high - low)
    assert hits >= 34
    assert 0.08 < np.mean(widths) < 0.15


def test_further_spaces_and_words(faces):
    colours = Colours()
    report = neighbours(faces[:4], faces, more=[(colours, colours(faces))], k=2)
    assert [space.space for space in report.spaces] == ["quarters", "pixels-32"]
    words = report.spaces[1].words()
    assert words.startswith("pixels-32: 100.0% of 4 samples")
    assert "99% of 300 training faces, each left out" in words
    told = report.as_dict()["spaces"][0]
    assert told["samples"] == 4
    assert told["copied_interval"][1] == 1.0
