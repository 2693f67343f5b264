import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.derive import export as exporting
from omokage.data.derive.export import export, file_names
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError


@pytest.fixture
def labelled(make_set, encode, drawing):
    pictures = {f"more/{i}.jpg" if i % 2 else f"{i}.png": b"" for i in range(7)}
    pictures = {name: encode(drawing(i, 24), "JPEG" if i % 2 else "PNG") for i, name in enumerate(pictures)}
    hair = {
        name: {"hair": ["blue", 'red|"a"', ""][i % 3], "artist": "Ann" if i == 5 else ""}
        for i, name in enumerate(pictures)
    }
    return make_set("set", pictures, hair)


def test_a_folder_can_be_built_again(labelled, tmp_path):
    report = export(labelled, tmp_path / "out")
    assert (report.found, report.kept, report.opted_out, report.unmet) == (7, 7, 0, 0)
    build([tmp_path / "out/pictures"], tmp_path / "again", as_faces=True, labels=tmp_path / "out/labels.csv")
    one, two = FaceSet.open(labelled), FaceSet.open(tmp_path / "again")
    assert one.content_hash == two.content_hash
    assert one.index["hair"].to_pylist() == two.index["hair"].to_pylist()
    assert export(labelled, tmp_path / "out").already


@pytest.mark.parametrize("as_faces", [True, False])
def test_a_folder_without_labels_can_be_built_again(make_set, encode, drawing, tmp_path, as_faces):
    made = make_set("set", {f"{i}.png": encode(drawing(i, 24), "PNG") for i in range(3)})
    export(made, tmp_path / "out")
    assert (tmp_path / "out/labels.csv").read_text() == "file\n0.png\n1.png\n2.png\n"
    options = None if as_faces else Options(detector=None, clean=False, format="png")
    sources, labels = [tmp_path / "out/pictures"], tmp_path / "out/labels.csv"
    build(sources, tmp_path / "again", as_faces=as_faces, labels=labels, options=options, workers=1)
    one, two = FaceSet.open(made), FaceSet.open(tmp_path / "again")
    assert two.manifest["labels"]["matched"] == 3
    assert one.keys == two.keys
    assert not as_faces or one.content_hash == two.content_hash


def test_parquet_has_the_bytes_and_the_labels(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_SHARD_BYTES", 4000)
    export(labelled, tmp_path / "out", layout="parquet")
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(files) > 1
    assert files[0].name == f"faces-00000-of-{len(files):05d}.parquet"
    table = pa.concat_tables(pq.read_table(file) for file in files)
    faces = FaceSet.open(labelled)
    assert table["key"].to_pylist() == faces.keys
    assert table["image"].to_pylist() == [faces.image_bytes(i) for i in range(7)]
    assert table["hair"].to_pylist() == faces.index["hair"].to_pylist()
    assert table["sha256"].to_pylist() == [digest.hex() for digest in faces.index["sha256"].to_pylist()]


@pytest.mark.parametrize("layout", ["imagefolder", "datasets"])
def test_hugging_face_reads_it(labelled, tmp_path, layout, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    export(labelled, tmp_path / "out", layout=layout, name="heldout" if layout == "datasets" else "train")
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    faces = FaceSet.open(labelled)
    rows = read["heldout" if layout == "datasets" else "train"]
    at = {key: i for i, key in enumerate(faces.keys)}
    assert len(rows) == 7
    for row in rows:
        i = at[row["key"]]
        assert (np.asarray(row["image"].convert("RGB")) == np.asarray(faces.image(i))).all()
        assert row["hair"] == faces.index["hair"][i].as_py()


def test_the_layout_of_an_imagefolder(labelled, tmp_path):
    export(labelled, tmp_path / "out", layout="imagefolder")
    lines = (tmp_path / "out/train/metadata.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["file_name"] for r in records] == file_names(FaceSet.open(labelled), np.arange(7))
    assert all((tmp_path / "out/train" / r["file_name"]).is_file() for r in records)
    assert {"hair", "sha256", "width"} <= set(records[0])
    assert not {"shard", "offset"} & set(records[0])


def test_filters_and_opt_out_are_counted(labelled, tmp_path):
    (tmp_path / "list.txt").write_text("ann\n")
    report = export(labelled, tmp_path / "out", conditions=["hair!=blue"], opt_out=tmp_path / "list.txt")
    assert (report.found, report.kept, report.opted_out, report.unmet) == (7, 3, 1, 3)
    with pytest.raises(UserError, match=r"export already.*another folder"):
        export(labelled, tmp_path / "out")
    with pytest.raises(UserError, match="did you mean 'hair'"):
        export(labelled, tmp_path / "no", conditions=["hairs=blue"])
    with pytest.raises(UserError, match=r"nothing would be left.*hair has no 'green', it has"):
        export(labelled, tmp_path / "no", conditions=["hair=green"])
    with pytest.raises(UserError, match="give folder, parquet, imagefolder, datasets"):
        export(labelled, tmp_path / "no", layout="zip")
    with pytest.raises(UserError, match="impossible"):
        export(labelled, tmp_path / "no", name="../up")
    assert not (tmp_path / "no").exists()


def test_a_value_that_no_face_has_is_told_where_faces_are_left(labelled, tmp_path, capsys):
    report = export(labelled, tmp_path / "out", conditions=["hair!=bleu"])
    assert (report.kept, report.unknown) == (7, "hair has no 'bleu', did you mean 'blue'?")
    for verb in (["export", "-o", f"{tmp_path / 'out'}"], ["show", "-o", f"{tmp_path / 'out.png'}"]):
        assert main(["faces", verb[0], f"{labelled}", *verb[1:], "--where", "hair!=bleu"]) == 0
        assert "--where: hair has no 'bleu', did you mean 'blue'?" in capsys.readouterr().err


def test_names_from_a_hostile_index_stay_in_the_folder(labelled):
    faces = FaceSet.open(labelled)
    keys = ["../../up", "/root", "a/../../b", "C:\\x", "same", "SAME", "nul\0"]
    faces.index = faces.index.set_column(0, "key", pa.array(keys, pa.string()))
    names = file_names(faces, np.arange(7))
    assert len({name.casefold() for name in names}) == 7
    for name in names:
        assert not name.startswith("/")
        assert not {"..", ""} & set(name.split("/"))
        assert "\\" not in name
    faces.index = faces.index.set_column(7, "format", pa.array(["exe"] * 7))
    with pytest.raises(UserError, match="format 'exe' is unknown"):
        file_names(faces, np.arange(7))


@pytest.mark.parametrize("layout", ["folder", "datasets"])
def test_an_interrupted_export_goes_on(labelled, tmp_path, monkeypatch, layout):
    monkeypatch.setattr(exporting, "_SHARD_BYTES", 2000)
    export(labelled, tmp_path / "unbroken", layout=layout)
    read, calls = FaceSet.image_bytes, []

    def stop(self, i):
        calls.append(i)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return read(self, i)

    monkeypatch.setattr(FaceSet, "image_bytes", stop)
    with pytest.raises(UserError, match=r"disk of .* is full"):
        export(labelled, tmp_path / "out", layout=layout)
    assert not (tmp_path / "out").exists()
    export(labelled, tmp_path / "out", layout=layout)
    assert len(calls) < 5 + 7
    one, two = (sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in ("unbroken", "out"))
    assert [p.name for p in one] == [p.name for p in two]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))
