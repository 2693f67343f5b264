import json
import shutil
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest

from omokage.data.build import build
from omokage.data.steps.read import cover
from omokage.data.store import shards
from omokage.data.store.faceset import FaceSet
from omokage.data.store.format import content_hash
from omokage.errors import UserError
from omokage.report.read import read_run
from omokage.snapshot import newest_snapshot


@pytest.fixture
def faces(folder_of_faces, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 8)
    build([folder_of_faces(30)], tmp_path / "set", as_faces=True)
    return FaceSet.open(tmp_path / "set")


def test_pixels_image_and_everything_agree(faces):
    assert len(faces) == 30
    pixels = faces.pixels([3, 0, 29, -1], (20, 12))
    assert (pixels.shape, pixels.dtype) == ((4, 20, 12, 3), np.uint8)
    assert np.array_equal(pixels[2], pixels[3])
    for row, i in zip(pixels, (3, 0, 29, 29), strict=True):
        assert np.array_equal(row, np.asarray(cover(faces.image(i), (20, 12))))
    all_of_them = faces.everything((20, 12), workers=3)
    assert np.array_equal(all_of_them[[3, 0, 29]], pixels[:3])
    assert np.array_equal(faces.everything(24)[5], np.asarray(faces.image(5)))
    with pytest.raises(IndexError):
        faces.image_bytes(30)
    with pytest.raises(UserError, match="size"):
        faces.pixels([0], 0)


def test_threads_may_share_it(faces):
    faces = FaceSet.open(faces.path)
    expected = FaceSet.open(faces.path).pixels(range(30), 16)
    wrong: list[int] = []

    def read(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(30)
        if not np.array_equal(faces.pixels(order, 16), expected[order]):
            wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_more_shards_than_open_files(faces, monkeypatch):
    monkeypatch.setattr("omokage.data.store.faceset._OPEN_SHARDS", 1)
    fresh = FaceSet.open(faces.path)
    assert np.array_equal(fresh.everything(16), faces.everything(16))
    assert len(fresh._handles) == 1


def test_content_hash_depends_on_keys_pictures_and_order(faces):
    digests = faces.index["sha256"].to_pylist()
    assert content_hash(faces.keys, digests) == faces.content_hash
    assert content_hash(faces.keys[::-1], digests) != faces.content_hash
    assert content_hash(faces.keys, digests[::-1]) != faces.content_hash


def spoil(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def respell_shard(path):
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["shards"][0]["name"] = "../outside.tar.gz"
    (path / "manifest.json").write_text(json.dumps(manifest))


def rewrite_index(path, column, value):
    table = pq.read_table(path / "index.parquet")
    place = table.column_names.index(column)
    values = [value, *table[column].to_pylist()[1:]]
    changed = table.set_column(place, column, [type_of(values, table[column].type)])
    pq.write_table(changed, path / "index.parquet")


def type_of(values, kind):
    import pyarrow as pa

    return pa.array(values, kind)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p), "there is no face set"),
        (lambda p: (p / "manifest.json").unlink(), "not a face set"),
        (lambda p: (p / "manifest.json").write_text("{"), "damaged"),
        (lambda p: (p / "manifest.json").write_text("[" * 100_000), "damaged"),
        (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe"), "damaged"),
        (lambda p: spoil(p, kind="something else"), "not a face set"),
        (lambda p: spoil(p, shards=None), "damaged"),
        (lambda p: spoil(p, content_hash="0" * 64), "does not belong"),
        (lambda p: spoil(p, format=2, omokage="9.9"), "newer omokage \\(9.9\\)"),
        (respell_shard, "damaged"),
        (lambda p: (p / "index.parquet").unlink(), "index.parquet"),
        (lambda p: (p / "index.parquet").write_bytes(b"PAR1 half"), "cannot be read"),
        (lambda p: (p / "faces-000001.tar.gz").unlink(), "is missing"),
        (lambda p: (p / "faces-000001.tar.gz").write_bytes(b"half"), "4 bytes, not"),
        (lambda p: rewrite_index(p, "offset", 2**60), "does not belong"),
        (lambda p: rewrite_index(p, "offset", -1), "does not belong"),
        (lambda p: rewrite_index(p, "shard", 77), "does not belong"),
        (lambda p: rewrite_index(p, "length", 2**31 - 1), "does not belong"),
        (lambda p: rewrite_index(p, "width", 2**30), "does not belong"),
        (lambda p: rewrite_index(p, "key", "other"), "does not belong"),
        (lambda p: rewrite_index(p, "key", None), "cannot be read|does not belong"),
    ],
)
def test_damaged_sets_are_refused(faces, damage, message):
    damage(faces.path)
    with pytest.raises(UserError, match=message) as caught:
        FaceSet.open(faces.path)
    assert "\n" not in str(caught.value)


def test_flipped_bytes_in_a_shard_are_found(faces):
    path = faces.path / "faces-000001.tar.gz"
    data = bytearray(path.read_bytes())
    row = next(row for row in faces.index.to_pylist() if row["shard"] == 1)
    for at in (row["offset"] + row["length"] // 2, row["offset"]):
        spoilt = bytearray(data)
        spoilt[at] ^= 255
        path.write_bytes(bytes(spoilt))
        with pytest.raises(UserError, match=r"damaged at face .* in faces-000001"):
            FaceSet.open(faces.path).everything(24)


def test_wrong_size_in_the_index_is_no_way_to_a_bomb(faces):
    rewrite_index(faces.path, "width", 25)
    with pytest.raises(UserError, match="not the size"):
        FaceSet.open(faces.path).image(0)


def test_a_face_set_where_none_can_work_is_named(make_set, encode, picture, tmp_path):
    faces = make_set("set", {"0.png": encode(picture(0), "PNG")}, {"0.png": {"hair": "blue"}})
    for arguments, words in (
        ({"sources": [faces], "as_faces": True}, "a face set already: `omokage faces merge`"),
        ({"sources": [faces]}, "a face set already"),
        ({"sources": [tmp_path / "set-pictures", faces], "as_faces": True}, "a face set already"),
        ({"sources": [tmp_path / "set-pictures"], "as_faces": True, "labels": faces}, "takes a table"),
        ({"sources": [tmp_path / "set-pictures"], "detections": faces}, "built with --as-faces"),
    ):
        with pytest.raises(UserError, match=words) as told:
            build(out=tmp_path / "new", **arguments)
        assert str(faces) in str(told.value)
        assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="a face set, not a run"):
        newest_snapshot(faces)
    assert "a face set, not a run" in read_run(faces)
    # And a folder of face sets where one is wanted.
    (tmp_path / "sets").mkdir()
    faces.rename(tmp_path / "sets" / "train")
    with pytest.raises(UserError, match=r"a folder of face sets, name one of them: .*sets/train"):
        FaceSet.open(tmp_path / "sets")
    # A folder that only looks like one is a source like any other.
    (tmp_path / "set-pictures" / "manifest.json").write_text("{}")
    assert build([tmp_path / "set-pictures"], tmp_path / "new", as_faces=True).kept == 1
