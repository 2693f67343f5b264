"""Copies among faces that come as such: equal bytes, other encodings, and variants, which are none."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.derive.copies import VARIANT, difference
from omokage.data.drawn import draw_face
from omokage.data.store import shards
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

FACE = {"glasses": False, "hair_style": "bob", "pitch": 0}


def with_closed_eyes(seed: int, size: int) -> Image.Image:
    """A drawn face with lids in the colour of its skin over the eyes."""
    face = draw_face(seed, size, masks=True, **FACE)
    rows, columns = np.nonzero(face.masks["iris"])
    skin = tuple(int(v) for v in np.median(face.image[face.masks["face"] > 0], 0))
    image = Image.fromarray(face.image)
    pen = ImageDraw.Draw(image)
    middle = (columns.min() + columns.max()) / 2
    for side in (columns < middle, columns >= middle):
        x0, x1, y0, y1 = columns[side].min(), columns[side].max(), rows[side].min(), rows[side].max()
        wide, high = 0.35 * (x1 - x0), 0.25 * (y1 - y0)
        pen.ellipse((x0 - wide, y0 - high, x1 + wide, y1 + high), fill=skin)
        pen.arc((x0 - wide, y0, x1 + wide, y1 + high), 20, 160, fill=(60, 40, 40))
    return image


def encoded_again(image: Image.Image, kind: int) -> bytes:
    out = io.BytesIO()
    if kind == 1:
        image = image.resize((image.width * 3 // 4,) * 2, Image.Resampling.LANCZOS)
    elif kind == 2:
        image = image.crop((2, 1, image.width, image.height - 1))
    elif kind == 3:
        image = image.point(lambda value: min(255, int(value * 1.04 + 2)))
    image.save(out, "WEBP" if kind == 4 else "JPEG", quality=70)
    return out.getvalue()


@pytest.mark.parametrize("seed", range(4))
def test_encodings_differ_little_and_variants_much(seed):
    face = Image.fromarray(draw_face(seed, 96, **FACE).image)
    for kind in range(5):
        again = Image.open(io.BytesIO(encoded_again(face, kind))).convert("RGB")
        assert difference(np.asarray(face), np.asarray(again)) < VARIANT
        closed = Image.open(io.BytesIO(encoded_again(with_closed_eyes(seed, 96), kind))).convert("RGB")
        assert difference(np.asarray(face), np.asarray(closed)) > VARIANT


def test_pictures_without_detail_can_be_compared():
    plain, other = (np.full((8, 8, 3), value, np.uint8) for value in (0, 255))
    assert difference(plain, other) == 0  # brighter, not drawn anew
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    assert difference(plain, noise) > VARIANT


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Six drawn faces; 0 to 3 again with equal bytes, 0 to 4 encoded again, 0 and 1 with closed eyes."""
    folder = tmp_path_factory.mktemp("copies") / "in"
    folder.mkdir()
    for i in range(6):
        face = Image.fromarray(draw_face(i, 96, **FACE).image)
        face.save(folder / f"{i}.png")
        if i < 4:
            shutil.copy(folder / f"{i}.png", folder / f"same-{i}.png")
        if i < 5:
            (folder / f"{i}-again.img").write_bytes(encoded_again(face, i))
        if i < 2:
            with_closed_eyes(i, 96).save(folder / f"{i}-closed.png")
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 3)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_copies_are_told_kept_or_left_out(faces, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["build", str(faces), "--as-faces", "-o", "all"]) == 0
    told = capsys.readouterr().out
    assert "17 of 17 images kept" in told
    assert "4 byte-for-byte copies of others are kept: --drop exact" in told
    assert "drop" not in FaceSet.open("all").manifest["options"]  # as before there was a choice

    assert main(["build", str(faces), "--as-faces", "-o", "exact", "--drop", "exact", "--workers", "3"]) == 0
    told = capsys.readouterr().out
    assert "13 of 17 images kept" in told
    assert "4  duplicate" in told
    assert "copies of others" not in told
    exact = FaceSet.open("exact")
    assert set(exact.keys) == {*"012345", *(f"{i}-again" for i in range(5)), "0-closed", "1-closed"}
    lines = (tmp_path / "exact" / "rejected.csv").read_text().splitlines()
    assert "in/same-2.png,duplicate: of 2" in lines

    assert main(["build", str(faces), "--as-faces", "-o", "near", "--drop", "near"]) == 0
    told = capsys.readouterr().out
    assert "8 of 17 images kept" in told
    assert "2 variants of others (eyes closed, other clothes) are kept" in told
    near = FaceSet.open("near")
    assert {key[-1] if "same" in key else key[0] for key in near.keys} == set("012345")
    assert {"0-closed", "1-closed"} <= set(near.keys)
    assert all(row["bytes"] and near.image(i).size for i, row in enumerate(near.index.to_pylist()))
    counts = near.manifest["counts"]
    assert (counts["kept"] + counts["rejected"], counts["duplicates"]) == (counts["found"], 0)
    assert counts["reasons"] == {"duplicate": 9}
    assert main(["build", str(faces), "--as-faces", "-o", "near", "--drop", "near"]) == 0
    assert "complete already" in capsys.readouterr().out


@pytest.mark.parametrize("drop", ["exact", "near"])
def test_workers_and_interruptions_change_nothing(faces, tmp_path, drop, monkeypatch):
    build([faces], tmp_path / "one", as_faces=True, drop=drop, workers=1)
    build([faces], tmp_path / "three", as_faces=True, drop=drop, workers=3)
    assert files(tmp_path / "one") == files(tmp_path / "three")

    original, calls = shards.ShardWriter.close, 0

    def interrupted(self):
        nonlocal calls
        calls += 1
        if calls in (2, 4, 7):
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(shards.ShardWriter, "close", interrupted)
    broken = 0
    while not (tmp_path / "broken").exists():
        try:
            build([faces], tmp_path / "broken", as_faces=True, drop=drop, workers=2)
        except KeyboardInterrupt:
            broken += 1
    assert broken >= 2
    assert files(tmp_path / "broken") == files(tmp_path / "one")


def test_impossible_drops(faces, tmp_path):
    with pytest.raises(UserError, match="'some' is unknown: give none, exact, near"):
        build([faces], tmp_path / "set", as_faces=True, drop="some")
    with pytest.raises(UserError, match="for --as-faces"):
        build([faces], tmp_path / "set", drop="near")
    build([faces], tmp_path / "set", as_faces=True, drop="near")
    with pytest.raises(UserError, match="other sources or options"):
        build([faces], tmp_path / "set", as_faces=True)
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["options"]["drop"] == "near"
