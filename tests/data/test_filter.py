"""Subsets: by conditions, by verdicts, with and without a copy."""

import json

import numpy as np
import pytest

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.derive.choose import chosen
from omokage.data.derive.reviewing import KEEP, REJECT, Verdicts, read_review
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError


@pytest.fixture
def faces(make_set, encode, picture):
    pictures = {f"{i}_{1998 + i}.jpg": encode(picture(i)) for i in range(8)}
    labels = {name: {"hair": "blue" if i % 2 else "red"} for i, name in enumerate(pictures)}
    return make_set("set", pictures, labels)


def test_a_subset_has_the_same_pictures_and_says_what_it_left_out(faces, tmp_path, capsys):
    out = tmp_path / "subset"
    words = ["faces", "filter", str(faces), "-o", str(out), "--where", "year>=2001", "--where", "hair=blue"]
    assert main(words) == 0
    assert "3 of 8 faces kept" in capsys.readouterr().out
    whole, subset = FaceSet.open(faces), FaceSet.open(out)
    assert subset.keys == ["3_2001", "5_2003", "7_2005"]
    assert [subset.image_bytes(i) for i in range(3)] == [whole.image_bytes(i) for i in (3, 5, 7)]
    assert subset.manifest["counts"]["reasons"] == {"does not meet the conditions": 5}
    assert (out / "rejected.csv").read_text().count("does not meet") == 5
    # The same without a copy.
    view = chosen(whole, ["year>=2001", "hair=blue"])
    assert (view.keys, view.content_hash) == (subset.keys, subset.content_hash)
    assert np.array_equal(view.everything(24), subset.everything(24))
    assert main([*words[:3], "-o", str(tmp_path / "none")]) == 2
    with pytest.raises(UserError, match="hair has no 'blu', did you mean 'blue'"):
        chosen(whole, ["hair=blu"])


def test_the_last_verdict_on_a_face_counts(faces, tmp_path, capsys):
    whole = FaceSet.open(faces)
    digests = [digest.hex() for digest in whole.index["sha256"].to_pylist()]
    list_ = tmp_path / "review.csv"
    for verdicts in ([(0, REJECT), (1, KEEP), (2, REJECT)], [(2, ""), (3, REJECT), (3, KEEP), (4, REJECT)]):
        written = Verdicts(list_)  # written on in a second session
        for row, verdict in verdicts:
            written.add(digests[row], whole.keys[row], verdict)
        written.close()
    assert read_review(list_).rejected(whole.index).nonzero()[0].tolist() == [0, 4]
    out = tmp_path / "subset"
    assert main(["faces", "filter", str(faces), "-o", str(out), "--review", str(list_)]) == 0
    assert "2  rejected by eye" in capsys.readouterr().out
    assert FaceSet.open(out).keys == [key for row, key in enumerate(whole.keys) if row not in (0, 4)]
    assert json.loads((out / "manifest.json").read_text())["derived"]["review"]["name"] == "review.csv"
    for text in (
        "",
        "a,b,c\n",
        "sha256,key,verdict\nabc,k,keep\n",
        f"sha256,key,verdict\n{'0' * 64},k,maybe\n",
    ):
        list_.write_text(text)
        with pytest.raises(UserError, match=r"review\.csv"):
            read_review(list_)


def test_the_year_of_names_can_be_kept(tmp_path, encode, picture):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}_{2000 + i}.jpg").write_bytes(encode(picture(i)))
    (folder / "plain.jpg").write_bytes(encode(picture(9)))
    build([folder], tmp_path / "set", as_faces=True, labels_from="year")
    index = FaceSet.open(tmp_path / "set").index
    assert index["year"].to_pylist() == [2000, 2001, 2002, None]
    assert str(index["year"].type) == "int16"
