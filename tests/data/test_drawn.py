"""The drawn faces: their factors show, their boxes fit, and a seed is a picture."""

import csv
import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from omokage.data.drawn import (
    FACTORS,
    NAMED,
    RANGES,
    draw,
    draw_face,
    draw_figure,
    draw_illustration,
    face_seed,
)
from omokage.data.drawn.backgrounds import paint_background
from omokage.data.drawn.canvas import Canvas
from omokage.data.drawn.factors import EYE_COLOURS, HAIR_COLOURS, SKIN_TONES, draw_factors, stream
from omokage.data.drawn.figure import Figure
from omokage.data.drawn.scene import Plan, plan_face, plan_illustration
from omokage.errors import UserError

OPEN = {"glasses": False, "bangs": "parted", "hair_style": "bun", "accessory": "none", "background": "plain"}
STRAIGHT = {"yaw": 0, "pitch": 0, "roll": 0}


def mean_colour(face, mask):
    return face.image[face.masks[mask] == 255].mean(0)


def nearest(colour, named):
    return min(named, key=lambda name: np.abs(np.array(named[name]) - colour).sum())


def test_a_seed_is_a_picture():
    first, again, other = draw_face(5), draw_face(5), draw_face(6)
    assert first.image.shape == (64, 64, 3)
    assert first.image.dtype == np.uint8
    assert np.array_equal(first.image, again.image)
    assert first.factors == again.factors
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_size_is_the_same_drawing(seed):
    small, large = draw_face(seed, 48), draw_face(seed, 192)
    assert small.factors == large.factors
    np.testing.assert_allclose(np.array(small.box) * 4, large.box, atol=8)
    shrunk = large.image.reshape(48, 4, 48, 4, 3).mean((1, 3))
    difference = np.abs(shrunk - small.image).mean()
    unlike = np.abs(draw_face(seed + 100, 48).image.astype(float) - small.image).mean()
    assert difference < 5
    assert difference < unlike / 4


@pytest.mark.parametrize("size", [16, 17, 65, 333])
def test_odd_sizes(size):
    face = draw_face(4, size, masks=True)
    assert face.image.shape == (size, size, 3)
    assert all(mask.shape == (size, size) for mask in face.masks.values())


def test_eye_colour_shows_in_the_iris_and_nowhere_else():
    faces = {name: draw_face(11, 128, masks=True, eyes=name, **OPEN) for name in EYE_COLOURS}
    means = {name: mean_colour(face, "iris") for name, face in faces.items()}
    # The iris is shaded, so compare hues: blue is bluer than red, and all colours differ.
    assert means["blue"][2] - means["blue"][0] > 40
    assert means["red"][0] - means["red"][2] > 40
    assert means["green"][1] > max(means["green"][0], means["green"][2]) + 20
    for a in means:
        assert all(np.abs(means[a] - means[b]).max() > 8 for b in means if b != a)
    changed = (faces["blue"].image != faces["red"].image).any(2)
    assert changed.any()
    # The lid's shadow, which also falls on the white beside the iris, takes a hint of the eye's colour.
    ys, xs = np.nonzero(faces["blue"].masks["iris"])
    for y, x in np.argwhere(changed):
        assert np.hypot(ys - y, xs - x).min() < 7


def test_hair_colour_shows_in_the_hair():
    for name, colour in HAIR_COLOURS.items():
        face = draw_face(21, 96, masks=True, hair=name, **OPEN)
        assert np.abs(mean_colour(face, "hair") - colour).mean() < 40, name
    names = {
        nearest(mean_colour(draw_face(21, 96, masks=True, hair=n, **OPEN), "hair"), HAIR_COLOURS)
        for n in HAIR_COLOURS
    }
    assert len(names) >= 10
    dark, light = (draw_face(21, 96, hair=n, **OPEN).image for n in ("black", "white"))
    assert (dark[-4:, :4] == light[-4:, :4]).all()  # a corner of background


def test_skin_tones_run_from_light_to_dark():
    def cheeks(tone):
        face = draw_face(8, 96, masks=True, skin=tone, **OPEN)
        bare = (face.masks["face"] == 255) & (face.masks["hair"] == 0) & (face.masks["iris"] == 0)
        return np.median(face.image[bare], 0).sum()

    brightness = [cheeks(tone) for tone in SKIN_TONES]
    assert len(brightness) >= 5
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[0] - brightness[-1] > 250


def assert_all_differ(pictures, by):
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert (np.abs(a.astype(int) - b).max(2) > by).sum() >= 12


@pytest.mark.parametrize("factor", ["hair_style", "bangs", "eye_shape", "mouth"])
def test_every_value_of_a_shape_looks_different(factor):
    fixed = {"glasses": False, "accessory": "none"}
    assert_all_differ([draw_face(31, 96, **fixed, **{factor: value}).image for value in NAMED[factor]], 40)


def test_every_background_looks_different():
    assert_all_differ([draw_face(31, 48, background=value).image for value in NAMED["background"]], 10)


def test_all_clothes_look_different():
    pictures = []
    for value in NAMED["clothes"]:
        factors = draw_factors(31, {"clothes": value})
        whole = Plan(96, 96, 31, [Figure(31, factors, (48, 30), 14)], "plain", clutter=False)
        pictures.append(whole.paint().finished())
    assert_all_differ(pictures, 40)


def test_glasses_show_around_the_eyes():
    without, with_them = (draw_face(12, 96, masks=True, glasses=g, bangs="parted") for g in (False, True))
    changed = np.argwhere((without.image != with_them.image).any(2))
    x, y, w, h = without.box
    assert len(changed) > 60
    assert (changed[:, 1] > x - 8).all()
    assert (changed[:, 1] < x + w + 8).all()
    assert (changed[:, 0] > y).all()
    assert (changed[:, 0] < y + h).all()


def test_the_head_turns():
    def iris_centre(**pose):
        face = draw_face(14, 128, masks=True, **{**STRAIGHT, **pose})
        return np.argwhere(face.masks["iris"] > 127).mean(0)

    straight = iris_centre()
    assert iris_centre(yaw=20)[1] > straight[1] + 5
    assert iris_centre(yaw=-20)[1] < straight[1] - 5
    assert iris_centre(pitch=10)[0] < straight[0] - 3
    left = draw_face(14, 128, masks=True, **{**STRAIGHT, "roll": 12}).masks["iris"]
    eyes = np.argwhere(left > 127)
    middle = np.median(eyes[:, 1])
    assert eyes[eyes[:, 1] > middle, 0].mean() > eyes[eyes[:, 1] < middle, 0].mean() + 3  # turned clockwise


def test_boxes_fit_the_face():
    for seed in range(12):
        face = draw_face(seed, 80, masks=True)
        rows, columns = np.nonzero(face.masks["face"] > 0)
        x, y, w, h = face.box
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose([x, y, x + w, y + h], found, atol=1)
        iris = np.argwhere(face.masks["iris"] > 127)
        assert ((iris >= (y, x)) & (iris < (y + h, x + w))).all()


def test_boxes_of_illustrations():
    counts = Counter()
    for seed in range(60):
        plan = plan_illustration(seed, (240, 320))
        counts[len(plan.boxes)] += 1
        lefts = [box[0] for box in plan.boxes]
        assert lefts == sorted(lefts)
        for i, (x, y, w, h) in enumerate(plan.boxes):
            assert 0 <= x < x + w <= 320
            assert 0 <= y < y + h <= 240
            for a, b, c, d in plan.boxes[:i]:
                assert min(x + w, a + c) <= max(x, a) or min(y + h, b + d) <= max(y, b)
    assert set(counts) == {1, 2, 3, 4}
    for seed in range(2):
        scene = draw_illustration(seed, (240, 320), masks=True)
        assert len(scene.boxes) == len(scene.factors) == len(scene.masks)
        for (x, y, w, h), mask in zip(scene.boxes, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose([x, y, x + w, y + h], found, atol=1)


@pytest.mark.parametrize("size", [(96, 96), (96, 500), (500, 96)])
def test_illustrations_of_extreme_shape_hold_their_faces(size):
    for seed in range(20):
        for x, y, w, h in plan_illustration(seed, size).boxes:
            assert x >= 0
            assert y >= 0
            assert x + w <= size[1]
            assert y + h <= size[0]
            assert min(w, h) >= 5


def test_factors_are_balanced_and_independent():
    drawn = [draw_factors(face_seed(0, i)) for i in range(3000)]
    assert set(drawn[0]) == set(FACTORS)
    for name, values in NAMED.items():
        counts = Counter(factors[name] for factors in drawn)
        assert set(counts) == set(values)
        expected = 3000 / len(values)
        chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi2 < len(values) - 1 + 5 * np.sqrt(2 * len(values)), name
    assert 0.2 < np.mean([factors["glasses"] for factors in drawn]) < 0.3
    for name, (low, high) in RANGES.items():
        values = np.array([factors[name] for factors in drawn])
        assert values.min() >= low
        assert values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low)
        assert values.std() > 0.15 * (high - low)
    table = np.zeros((len(HAIR_COLOURS), len(EYE_COLOURS)))
    for factors in drawn:
        table[list(HAIR_COLOURS).index(factors["hair"]), list(EYE_COLOURS).index(factors["eyes"])] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 110 + 5 * np.sqrt(220)


def test_fixing_a_factor_leaves_the_others():
    free = draw_factors(9)
    fixed = draw_factors(9, {"hair": "pink", "yaw": 3})
    assert fixed["hair"] == "pink"
    assert fixed["yaw"] == 3.0
    assert {k: v for k, v in free.items() if k not in ("hair", "yaw")} == {
        k: v for k, v in fixed.items() if k not in ("hair", "yaw")
    }


def test_edges_are_antialiased():
    face = draw_face(2, 64, masks=True)
    soft = (face.masks["face"] > 0) & (face.masks["face"] < 255)
    outline = 2 * sum(face.box[2:])
    assert soft.sum() > outline / 3
    # Along a slanted edge the coverage takes many values, not two.
    assert len(np.unique(face.masks["face"])) > 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 0, "size": 15}, "16 to 4096"),
        ({"seed": 0, "size": 4097}, "16 to 4096"),
        ({"seed": 0, "size": "64"}, "whole number"),
        ({"seed": 0, "hair": "plaid"}, "blonde"),
        ({"seed": 0, "hare": "pink"}, "no factor"),
        ({"seed": 0, "yaw": 90}, "-24 to 24"),
        ({"seed": 0, "yaw": float("nan")}, "-24 to 24"),
    ],
)
def test_impossible_faces(arguments, words):
    with pytest.raises(UserError, match=words):
        draw_face(**arguments)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_draw_writes_a_folder(tmp_path):
    assert draw(20, tmp_path / "a", size=32, seed=3, workers=1) == tmp_path / "a"
    draw(20, tmp_path / "b", size=32, seed=3, workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 21
    with (tmp_path / "a" / "factors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"face-{i:06d}.png" for i in range(20)]
    face = draw_face(int(rows[7]["seed"]), 32)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a" / "face-000007.png")), face.image)
    assert [int(rows[7][k]) for k in "xywh"] == face.box
    assert {name: rows[7][name] for name in NAMED} == {name: face.factors[name] for name in NAMED}
    assert rows[7]["glasses"] == str(int(face.factors["glasses"]))
    draw(1, tmp_path / "c", size=32, seed=4)
    assert contents(tmp_path / "c")["face-000000.png"] != contents(tmp_path / "a")["face-000000.png"]


def test_draw_resumes(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    draw(6, whole, size=24, workers=1)
    draw(6, broken, size=24, workers=1)
    (broken / "face-000002.png").unlink()
    (broken / "factors.csv").unlink()
    (broken / ".face-000002.png.123.part").write_bytes(b"half")
    (broken / "face-000003.png.writing").write_bytes(b"half")
    kept = (broken / "face-000001.png").stat().st_mtime_ns
    draw(6, broken, size=24, workers=1)
    assert contents(whole) == contents(broken)
    assert (broken / "face-000001.png").stat().st_mtime_ns == kept
    draw(8, broken, size=24, workers=1)
    assert len(contents(broken)) == 9


def test_draw_illustrations(tmp_path):
    draw(2, tmp_path, size=(96, 128), illustrations=True, workers=1)
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    assert list(boxes) == ["illustration-000000.png", "illustration-000001.png"]
    with (tmp_path / "factors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [[int(row[k]) for k in "xywh"] for row in rows] == [
        box for faces in boxes.values() for box in faces
    ]
    assert Image.open(tmp_path / "illustration-000000.png").size == (128, 96)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "1 or more"),
        ({"n": 2.0}, "1 or more"),
        ({"n": 1, "workers": 0}, "workers"),
        ({"n": 1, "size": 8}, "16 to 4096"),
        ({"n": 1, "size": (64, 32)}, "square"),
        ({"n": 1, "size": 64, "illustrations": True}, "96 to 4096"),
        ({"n": 1, "seed": -3}, "seed"),
    ],
)
def test_impossible_folders(tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        draw(out=tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_draw_keeps_out_of_foreign_folders(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        draw(1, tmp_path / "file")
    with pytest.raises(UserError, match="not a folder"):
        draw(1, tmp_path / "file" / "deeper")
    with pytest.raises(UserError, match="'file', which is not a drawn picture"):
        draw(1, tmp_path)
    assert os.listdir(tmp_path) == ["file"]

    mine = tmp_path / "mine"
    draw(3, mine, size=16, workers=1)
    before = contents(mine)
    for other in ({"seed": 1, "size": 16}, {"size": 24}):
        with pytest.raises(UserError, match="name another folder"):
            draw(3, mine, workers=1, **other)
    with pytest.raises(UserError, match="more than 2"):
        draw(2, mine, size=16, workers=1)
    with pytest.raises(UserError, match="drawn faces"):
        draw(3, mine, illustrations=True, workers=1)
    assert contents(mine) == before
    (mine / "face-000001.png").write_bytes(before["face-000001.png"][:40])
    with pytest.raises(UserError, match=r"face-000001\.png"):
        draw(3, mine, size=16, workers=1)


def test_two_at_once_are_told_apart(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            draw(1, tmp_path, size=16)
    finally:
        os.close(handle)


def test_plans_need_no_painting():
    plan = plan_face(3, 64)
    assert plan.boxes == [draw_face(3, 64).box]


def test_a_figure_alone_over_the_background_is_the_face():
    for seed in range(3):
        plan = plan_face(seed, 64)
        background = Canvas(64, 64)
        paint_background(background, stream(seed, 13), plan.background)
        figure = draw_figure(seed, 64).astype(float)
        alpha = figure[..., 3:] / 255
        laid = figure[..., :3] * alpha + (1 - alpha) * background.finished()
        differ = np.abs(laid - draw_face(seed, 64).image).max(2)
        assert (differ > 2).mean() < 0.005  # at edges where the background changes within a pixel
        assert 0.3 < alpha.mean() < 0.9


def test_more_room_around_a_figure_shows_the_same_head_smaller():
    near, far = draw_figure(2, 64), draw_figure(2, 128, room=2)
    # Twice the size at twice the room: the pixels in the middle are those of the near view.
    middle = far[32:96, 32:96].astype(int)
    assert np.abs(middle - near)[near[..., 3] == 255].mean() < 3
    with pytest.raises(UserError, match="from 1 to 4"):
        draw_figure(2, 64, room=9)
