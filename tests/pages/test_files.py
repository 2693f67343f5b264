import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omokage import __version__
from omokage.errors import UserError
from omokage.model import About
from omokage.pages.files import (
    about_text,
    checked_file,
    checked_folder,
    checked_size,
    count_not_finite,
    provenance,
    replacing,
    save_png,
    save_table,
)
from omokage.settings import Settings

ABOUT = About("fast", 12_345, "5" * 64)


def test_a_picture_says_how_it_was_made():
    told = provenance(ABOUT, [0, 1, 2, 9], Settings(psi=0.7, conditions={"hair": "red"}, guidance=2.0))
    recipe, others = json.loads(told.pop("omokage")), told.pop("parameters")
    assert recipe["model"] == {"recipe": "fast", "images": 12_345, "snapshot": "5" * 64}
    assert recipe["settings"]["psi"] == 0.7
    assert "Seed: " in others or "seed" in others.lower()
    assert told == {
        "Software": f"omokage {__version__}",
        "recipe": "fast",
        "snapshot": "5" * 64,
        "images seen": "12345",
        "seeds": "0-2,9",
        "psi": "0.7",
        "conditions": "hair=red",
        "guidance": "2",
    }
    assert about_text(ABOUT).items() <= told.items()


def test_seeds_whose_faces_are_not_finite_are_named():
    finite = np.array([True, False, False, True])
    assert provenance(ABOUT, [4, 5, 6, 9], Settings(), finite)["not finite"] == "5-6"
    assert "not finite" not in provenance(ABOUT, [4, 5], Settings(), [True, True])
    assert count_not_finite(3) == {"not finite": "3 faces"}
    assert count_not_finite(0) == {}


def test_a_picture_too_large_to_open_is_refused():
    checked_size(13_000, 13_000, "a.png")
    with pytest.raises(UserError, match=r"a\.png: the picture would be 14000×14000 px, more than readers"):
        checked_size(14_000, 14_000, "a.png")


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.csv"
    assert save_table(("one", "two"), [[1, "a,b"], [2, 'c"d']], path) == path
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["one", "two"], ["1", "a,b"], ["2", 'c"d']]

    def rows():
        yield [3, "e"]
        raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        save_table(("one", "two"), rows(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.csv"]


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
