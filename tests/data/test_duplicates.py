import io

import numpy as np
import pytest
from PIL import Image

from omokage.data.derive import duplicates, pairs
from omokage.data.derive.duplicates import best_of_groups, duplicate_groups
from omokage.data.derive.pairs import ALIKE, SAME, near_pairs, pairs_between
from omokage.data.derive.signatures import CENTRE, face_set_signatures, meetings, signatures
from omokage.data.store.faceset import FaceSet


def saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out).convert("RGB"))


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def shifted(pixels: np.ndarray, right: int, down: int) -> np.ndarray:
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="edge")
    return padded[2 - down : 66 - down, 2 - right : 66 - right]


def brighter(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(pixels * factor, 0, 255).astype(np.uint8)


COPIES = {
    "quality 60": lambda p: saved(p, 60),
    "smaller": lambda p: resized(p, 48),
    "larger": lambda p: saved(resized(p, 100), 90),
    "right": lambda p: saved(shifted(p, 2, 0), 90),
    "up and left": lambda p: shifted(p, -2, -2),
    "one pixel": lambda p: shifted(p, 1, -1),
    "brighter": lambda p: brighter(p, 1.05),
    "darker": lambda p: saved(brighter(p, 0.95), 80),
    "all at once": lambda p: saved(resized(brighter(shifted(p, -2, 2), 1.05), 56), 60),
}


@pytest.fixture(scope="module")
def pictures(drawing):
    return [np.asarray(drawing(seed)) for seed in range(60)]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(pictures, kind):
    copies = [COPIES[kind](p) for p in pictures[:20]]
    groups = duplicate_groups(signatures([*pictures, *copies]))
    assert groups.tolist() == [*range(60), *range(20)]


def test_mirror_images_are_found_on_demand(pictures):
    rows = signatures([*pictures, *(saved(shifted(p[:, ::-1], 2, 0), 75) for p in pictures[:20])])
    assert len(set(duplicate_groups(rows))) == 80
    assert duplicate_groups(rows, mirrored=True).tolist() == [*range(60), *range(20)]


def test_equal_pixels_are_exact_duplicates_whatever_the_likeness(pictures):
    other = pictures[3].copy()
    other[0, 0, 0] ^= 1
    rows = signatures([pictures[3], pictures[4], pictures[3], other])
    assert duplicate_groups(rows, likeness=None).tolist() == [0, 1, 0, 3]
    assert duplicate_groups(rows).tolist() == [0, 1, 0, 0]
    turned = signatures([pictures[0][:32], pictures[0][:32].reshape(64, 32, 3)])
    assert (turned["content"][0] != turned["content"][1]).any()


def test_recoloured_pictures_are_alike_but_not_the_same(pictures):
    weights = np.array([0.299, 0.587, 0.114])
    grey = [np.repeat(np.rint(p @ weights)[..., None], 3, 2).astype(np.uint8) for p in pictures[:10]]
    rows = signatures([*pictures, *grey])
    assert len(set(duplicate_groups(rows))) == 70
    assert duplicate_groups(rows, likeness=ALIKE).tolist() == [*range(60), *range(10)]


def test_a_chain_is_one_group_only_on_demand(pictures):
    steps = [
        np.rint(a * pictures[1] + (1 - a) * pictures[0].astype(float)).astype(np.uint8)
        for a in np.linspace(0, 1, 24)
    ]
    rows = signatures(steps)
    chained, guarded = duplicate_groups(rows, chaining=True), duplicate_groups(rows)
    assert set(chained) == {0}
    assert 2 <= len(set(guarded)) <= 10
    centre = rows["hashes"][:, CENTRE]
    for group in set(guarded):
        members = np.nonzero(guarded == group)[0]
        apart = [np.bitwise_count(centre[members] ^ centre[m]).sum(-1).max() for m in members]
        assert min(apart) <= SAME.bits
    assert np.bitwise_count(centre[0] ^ centre[-1]).sum() > 3 * SAME.bits


def test_features_can_forbid_a_pair(pictures):
    rows = signatures([pictures[0], pictures[1], saved(pictures[0], 60), saved(pictures[1], 60)])
    features = np.array([[1, 0], [0, 1], [0.9, 0.1], [1, 0]])
    assert duplicate_groups(rows, features).tolist() == [0, 1, 0, 3]
    with pytest.raises(ValueError, match="3 rows of features for 4"):
        duplicate_groups(rows, features[:3])


def test_pairs_agree_with_a_search_of_all_pairs(pictures):
    draw = np.random.default_rng(5)
    rows = np.repeat(signatures(pictures), 6)
    turn = (draw.random((len(rows), 9, 256)) < draw.choice([0.01, 0.04, 0.1], (len(rows), 1, 1))).astype(
        np.uint8
    )
    rows["hashes"] ^= np.packbits(turn, axis=-1, bitorder="little").view("<u8")
    apart = np.full((len(rows), len(rows)), 256)
    for window, others in meetings(False).items():
        for other in others:
            words = rows["hashes"][:, None, other] ^ rows["hashes"][None, :, window]
            apart = np.minimum(apart, np.bitwise_count(words).sum(-1, dtype=int))
    apart = np.minimum(apart, apart.T)
    want = {(a, b): apart[a, b] for a, b in zip(*np.nonzero(np.triu(apart <= SAME.bits, 1)), strict=True)}
    near, bits = near_pairs(rows)
    found = {tuple(p): d for p, d in zip(near.tolist(), bits, strict=True)}
    assert len(want) > 300
    assert set(found) <= set(want)
    assert all(found[pair] >= want[pair] for pair in found)
    assert {pair for pair in want if want[pair] <= 24} <= set(found)
    assert len(found) > 0.95 * len(want)
    between = pairs_between(rows[:100], rows[100:])
    assert {(a, b + 100) for a, b in between.tolist()} == {(a, b) for a, b in want if a < 100 <= b}


@pytest.mark.parametrize("mirrored", [False, True])
def test_chains_are_those_of_all_pairs(pictures, mirrored):
    draw = np.random.default_rng(8)
    rows = np.repeat(signatures(pictures[:40]), 5)
    rows["content"] = draw.integers(0, 2**63, (len(rows), 2), dtype=np.uint64)
    turn = draw.random((len(rows), 9, 256)) < draw.choice([0.02, 0.05, 0.12], (len(rows), 1, 1))
    rows["hashes"] ^= np.packbits(turn, axis=-1, bitorder="little").view("<u8")
    features = draw.normal(size=(len(rows), 3))
    near, _ = near_pairs(rows, ALIKE, mirrored=mirrored)
    for chosen, given in ((near, None), (near[duplicates._cosines(features, near) > 0.2], features)):
        want = np.arange(len(rows))
        while True:  # every row takes the lowest number among its neighbours until none changes
            before = want.copy()
            np.minimum.at(want, chosen[:, 0], want[chosen[:, 1]])
            np.minimum.at(want, chosen[:, 1], want[chosen[:, 0]])
            if (before == want).all():
                break
        chains = duplicate_groups(
            rows, given, likeness=ALIKE, mirrored=mirrored, chaining=True, feature_likeness=0.2
        )
        assert chains.tolist() == want.tolist()
        assert 20 < len(set(chains.tolist())) < 150


def test_what_is_joined_is_not_compared_again(pictures):
    rows = np.repeat(signatures(pictures[:2]), 30)
    rows["content"] = np.arange(120).reshape(60, 2)
    joined = np.repeat([0, 30], 30)
    assert list(pairs.meeting(rows, SAME, False, 2, None, joined)) == []
    joined[:30:2] = 1
    met = [np.stack(found[:2]) for found in pairs.meeting(rows, SAME, False, 2, None, joined)]
    assert {tuple(sorted(joined[pair])) for pair in np.concatenate(met, 1).T} == {(0, 1)}


def test_a_thousand_of_one_picture_cost_no_square(drawing):
    base = np.asarray(drawing(1))
    rows = np.repeat(signatures([base]), 1000)
    rows["content"] = np.arange(2000).reshape(1000, 2)
    assert set(duplicate_groups(rows, chaining=True, tables=2)) == {0}
    assert set(duplicate_groups(rows, tables=2)) == {0}


def test_flat_pictures_of_other_colours_are_not_the_same():
    rows = signatures([np.full((32, 32, 3), c, np.uint8) for c in (0, 255, 128, [255, 0, 0], [0, 0, 255])])
    assert duplicate_groups(rows).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures(pictures, n):
    rows = signatures(pictures[:n])
    assert duplicate_groups(rows).tolist() == list(range(n))
    assert duplicate_groups(rows, chaining=True, mirrored=True).tolist() == list(range(n))
    assert best_of_groups(np.arange(n), rows).tolist() == [True] * n


def test_the_best_has_the_most_pixels_then_bytes_then_comes_first(pictures):
    p = pictures[0]
    rows = signatures([p, resized(p, 96), resized(p, 96), p, pictures[1]])
    groups = np.array([0, 0, 0, 0, 4])
    assert best_of_groups(groups, rows).tolist() == [False, True, False, False, True]
    size = np.array([9, 5, 7, 9, 1])
    assert best_of_groups(groups, rows, size).tolist() == [False, False, True, False, True]


def test_what_is_no_picture_is_refused(pictures):
    for wrong in (pictures[0].astype(float), pictures[0][..., 0], np.zeros((8, 8, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8 RGB"):
            signatures([wrong])


def test_bits_are_counted_alike_without_help_of_numpy(monkeypatch):
    words = np.random.default_rng(0).integers(0, 2**64, (50, 4), dtype=np.uint64)
    counted = pairs._ones(words).sum(-1)
    monkeypatch.delattr(np, "bitwise_count")
    assert (pairs._ones(words).sum(-1) == counted).all()
    assert counted[0] == sum(int(word).bit_count() for word in words[0])


def test_a_face_set_has_the_signatures_of_its_pictures(make_set, encode, drawing):
    path = make_set("set", {f"{i}.png": encode(drawing(i, 40 + i), "PNG") for i in range(5)})
    rows = face_set_signatures(FaceSet.open(path), workers=2)
    assert (rows == signatures(drawing(i, 40 + i) for i in range(5))).all()
    assert (face_set_signatures(FaceSet.open(path), [4, 1]) == rows[[4, 1]]).all()
