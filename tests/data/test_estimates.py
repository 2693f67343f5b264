"""Estimated colours of faces, with their confidence and a threshold."""

import csv
from dataclasses import replace

import pytest
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.drawn import draw_face
from omokage.data.store.columns import COLUMNS, ESTIMATED
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimates") / "in"
    folder.mkdir()
    for i in range(6):
        Image.fromarray(draw_face(i, 64).image).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def estimated(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("estimated") / "set"
    build([faces], out, as_faces=True, estimate=True, workers=1)
    return FaceSet.open(out)


def test_faces_get_colours_with_a_confidence(faces, estimated, tmp_path):
    assert estimated.index.column_names == [*COLUMNS, *ESTIMATED]
    for row in estimated.index.to_pylist():
        assert (row["hair_from"], row["eyes_from"]) == ("network", "network")
        assert row["hair"]
        assert row["eyes"]
        assert 0 < row["hair_confidence"] <= 1
        assert 0 < row["eyes_confidence"] <= 1
    build([faces], tmp_path / "plain", as_faces=True)
    plain = FaceSet.open(tmp_path / "plain")
    assert plain.content_hash == estimated.content_hash
    assert plain.index.column_names == list(COLUMNS)  # only where it is asked for
    assert set(plain.manifest["options"]) == {"as_faces", "size", "resize_rule"}


def test_workers_change_nothing(faces, estimated, tmp_path):  # slow: each of them loads PyTorch
    build([faces], tmp_path / "two", as_faces=True, estimate=True, workers=2)
    assert FaceSet.open(tmp_path / "two").index.equals(estimated.index)


def test_labels_go_first_and_what_is_not_sure_stays_empty(faces, estimated, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sure = sorted(estimated.index["hair_confidence"].to_pylist())
    least = (sure[2] + sure[3]) / 2
    with open("labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "hair", "pose"), ("1.png", "green", "left"), ("2.png", "", "")])
    options = ("--as-faces", "--estimate", "--min-confidence", f"{least}", "--labels", "labels.csv")
    options += ("--workers", "1")
    assert main(["build", str(faces), "-o", "set", *options, "--drop", "near"]) == 0
    before = {row["key"]: row for row in estimated.index.to_pylist()}
    for row in FaceSet.open("set").index.to_pylist():
        was = before[row["key"]]
        if row["key"] == "1":
            assert (row["hair"], row["hair_from"], row["hair_confidence"]) == ("green", "table", None)
            assert row["pose"] == "left"
        elif was["hair_confidence"] < least:
            assert (row["hair"], row["hair_from"]) == (None, None)
            assert row["hair_confidence"] == was["hair_confidence"]  # to choose a threshold by
        else:
            assert (row["hair"], row["hair_from"]) == (was["hair"], "network")


def test_illustrations_have_the_confidence_and_the_threshold_too(faces, estimated, tmp_path):
    (tmp_path / "in").mkdir()
    for path in faces.iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "in" / "0.txt").write_text("blue_hair, solo")
    options = Options(detector=None, clean=False, upscale="lanczos", duplicates=False, precision="fp32")
    strict = replace(options, min_confidence=1.0)
    build([tmp_path / "in"], tmp_path / "a", options=options, workers=1)
    build([tmp_path / "in"], tmp_path / "b", options=strict, workers=1)
    first, second = (FaceSet.open(tmp_path / name) for name in "ab")
    assert "min_confidence" not in first.manifest["options"]
    assert first.content_hash == second.content_hash
    rows = {row["key"]: row for row in first.index.to_pylist()}
    assert (rows["0"]["hair"], rows["0"]["hair_from"], rows["0"]["hair_confidence"]) == ("blue", "tags", None)
    whole = {row["key"]: row for row in estimated.index.to_pylist()}
    assert {key: rows[key]["eyes_confidence"] for key in rows} == {
        key: whole[key]["eyes_confidence"] for key in rows
    }
    for row in second.index.to_pylist():
        assert row["eyes"] is None or row["eyes_confidence"] == 1.0
        assert row["eyes_confidence"] is not None


def test_impossible_estimates(faces, tmp_path, capsys):
    for options, words in (
        ({"as_faces": True, "min_confidence": 0.5}, "add --estimate"),
        ({"as_faces": True, "estimate": True, "min_confidence": 1.5}, "give 0 to 1"),
        ({"estimate": True}, "for --as-faces"),
        ({"options": Options(min_confidence=-1)}, "give 0 to 1"),
        ({"as_faces": True, "estimate": True, "labels_from": "(?P<hair_from>.)"}, "a column of estimates"),
    ):
        with pytest.raises(UserError, match=words):
            build([faces], tmp_path / "set", **options)
    out = str(tmp_path / "set")
    assert main(["build", str(faces), "-o", out, "--as-faces", "--min-confidence", "2"]) == 2
    assert "0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
