import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omokage.explore.pictures import (
    checked_file,
    checked_folder,
    checked_seeds,
    chosen_columns,
    enlarged,
    near_square_columns,
    replacing,
    save_png,
    seed_ranges,
    tile,
)
from PIL import Image

from omokage.errors import UserError


@given(st.integers(1, 5000))
def test_near_square_columns_waste_less_than_a_row_and_stay_near_a_square(n):
    columns = near_square_columns(n)
    rows = -(-n // columns)
    assert rows <= columns <= 1.5 * n**0.5 + 1
    assert columns * rows - n < columns


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (3, 3), (6, 3), (8, 4), (12, 4), (15, 5), (64, 8)])
def test_near_square_columns_of_usual_counts(n, columns):
    assert near_square_columns(n) == columns


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_seed_ranges_say_exactly_the_seeds_in_their_order(seeds):
    said = []
    for part in seed_ranges(seeds).split(","):
        first, _, last = part.partition("-")
        said += range(int(first), int(last or first) + 1)
    assert said == seeds


def test_columns_are_never_more_than_the_faces():
    assert chosen_columns(3, 10) == 3
    with pytest.raises(UserError, match="columns"):
        chosen_columns(3, 0)


@pytest.mark.parametrize(
    ("seeds", "psi", "says"), [([], 1, "no seeds"), ([3, -1], 1, "-1"), ([1], float("nan"), "psi")]
)
def test_impossible_seeds_and_psi_are_refused(seeds, psi, says):
    with pytest.raises(UserError, match=says):
        checked_seeds(seeds, psi)


def test_tile_puts_each_face_in_its_place():
    faces = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 3, 3), np.uint8)
    picture = tile(faces, 2, gutter=1, border=2, background=(9, 9, 9))
    assert picture.shape == (3 * 4 + 2 + 4, 2 * 3 + 1 + 4, 3)
    for i in range(5):
        y, x = 2 + (i // 2) * 5, 2 + (i % 2) * 4
        assert (picture[y : y + 4, x : x + 3] == i + 1).all()
    assert (picture == 9).sum() + 5 * faces[0].size == picture.size


def test_enlarging_keeps_flat_colour_and_size_times_factor():
    face = np.full((8, 6, 3), 77, np.uint8)
    assert (enlarged(face, 3) == 77).all()
    assert enlarged(face, 3).shape == (24, 18, 3)
    assert enlarged(face, 1) is face


def test_a_name_is_checked_before_any_work(tmp_path):
    assert checked_file(tmp_path / "new" / "deep" / "a.PNG", ".png").parent.is_dir()
    with pytest.raises(UserError, match=r"must end in \.png, for example a\.png"):
        checked_file(tmp_path / "a.jpg", ".png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        checked_file(tmp_path / "folder.png", ".png")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        checked_folder(tmp_path / "file")
    with pytest.raises(UserError, match="parents is a file"):
        checked_file(tmp_path / "file" / "b" / "a.png", ".png")


def test_an_empty_name_is_refused():
    with pytest.raises(UserError, match=r"for example faces\.png"):
        checked_file("", ".png")


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as unfinished:  # noqa: PT012
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.png"
    (tmp_path / f".a.{os.getpid()}.unfinished.png").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with pytest.raises(UserError, match="cannot write: No space left") as caught:
        save_png(Image.fromarray(noise), path, {})
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)
