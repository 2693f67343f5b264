"""Broken faces: the network that ships, and the seeds that it leaves."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omokage import broken
from omokage.__main__ import main
from omokage.broken import broken_faces, whole_seeds
from omokage.errors import UserError
from omokage.model import load_model
from omokage.sampling import gathered, sample
from omokage.settings import Settings

TABLE = Path(__file__).resolve().parents[1] / "bench" / "broken_marks.csv"


@pytest.fixture(scope="module")
def model():
    return load_model("style-64")


def marked(model, psi="1"):
    """Seeds that every mark calls whole, and those that every mark calls broken."""
    seen = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] == model.snapshot_hash[:12] and row["psi"] == psi:
                seen.setdefault(int(row["number"]), set()).add(row["mark"])
    return (
        [seed for seed, marks in seen.items() if marks == {"whole"}],
        [seed for seed, marks in seen.items() if not marks & {"whole", "unsure"}],
    )


def test_marks_name_models_that_ship_and_real_faces_by_number_alone():
    hashes = {load_model(name).snapshot_hash[:12] for name in ("style-64", "fast-64")}
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows if row["psi"]} == hashes
    assert len({row["model"] for row in rows if not row["psi"]}) == 1
    assert len(rows) > 1000


def test_most_broken_faces_have_higher_scores_than_whole_ones(model):
    good, bad = (seeds[:24] for seeds in marked(model))
    pixels, _ = gathered(sample(model, good + bad))
    scores = broken_faces().scores(pixels)
    higher = (scores[24:, None] > scores[None, :24]).mean()
    assert higher > 0.8  # they taught it; that the file and the features fit is what is tested
    again = broken_faces().scores(pixels[30:31])
    assert again[0] == scores[30]  # whatever the batch


def test_mirrored_faces_have_the_same_score(model):
    pixels, _ = gathered(sample(model, range(3)))
    one, other = (broken_faces().scores(some) for some in (pixels, pixels[:, :, ::-1]))
    assert np.allclose(one, other, atol=1e-4)
    with pytest.raises(ValueError, match="uint8"):
        broken_faces().scores(pixels.astype("f4"))


def test_whole_seeds_keep_their_faces_and_go_on(model, monkeypatch):
    class Judge:
        def whole(self, faces):
            return np.arange(len(faces)) % 2 == 0

    monkeypatch.setattr(broken, "broken_faces", Judge)
    assert whole_seeds(model, range(6)) == ([0, 2, 4], 3)
    assert whole_seeds(model, range(3), 3) == ([0, 2, 4], 2)
    assert whole_seeds(model, [5, 9], None, Settings(psi=0.7)) == ([5], 1)


def test_where_nothing_is_whole_a_line_says_so(model, monkeypatch, tmp_path, capsys):
    class Judge:
        def whole(self, faces):
            return np.zeros(len(faces), bool)

    monkeypatch.setattr(broken, "broken_faces", Judge)
    with pytest.raises(UserError, match="0 of 4 faces are judged to be whole"):
        whole_seeds(model, range(4))
    with pytest.raises(UserError, match="0 of 32 faces are judged"):
        whole_seeds(model, range(2), 2)
    out = tmp_path / "faces.png"
    assert main(["sample", "-n", "2", "--whole", "-o", str(out)]) == 2
    assert "leave --whole out" in capsys.readouterr().err
    assert not out.exists()


def test_sample_whole_passes_over_seeds(model, tmp_path, capsys):
    out = tmp_path / "faces"
    assert main(["sample", "style-64", "-n", "4", "--whole", "--each", "-o", str(out)]) in (0, None)
    assert "judged to be broken and left out" in capsys.readouterr().err
    seeds, _ = whole_seeds(model, range(4), 4)
    files = sorted(out.glob("*.png"))
    assert len(files) == 4
    plain, _ = gathered(sample(model, seeds))
    for file, face in zip(files, plain, strict=True):
        assert (np.asarray(Image.open(file)) == face).all()


@pytest.mark.parametrize("more", [["-o", "out", "--psi", "0.7,1"], ["-o", "out.png", "--video", "walk.mp4"]])
def test_whole_is_refused_where_it_chooses_nothing(more, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "-n", "2", "--whole", *more]) == 2
    assert "--whole chooses pictures" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(broken, "WEIGHTS_SHA256", "0" * 64)
    broken_faces.cache_clear()
    with pytest.raises(UserError, match="reinstall omokage"):
        broken_faces()
    broken_faces.cache_clear()
