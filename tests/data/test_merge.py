import csv

import pytest

from omokage.__main__ import main
from omokage.data.derive.merge import joined_index, merge
from omokage.data.store import shards
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError


@pytest.fixture
def two(make_set, encode, drawing):
    a = {f"{i}.jpg": encode(drawing(i), quality=90) for i in range(6)}
    b = {"0.jpg": encode(drawing(50)), "same.jpg": a["1.jpg"], "copy.png": encode(drawing(2, 100), "PNG")}
    small = make_set("a", a, {"3.jpg": {"artist": "Ann"}, "4.jpg": {"artist": "Bo | Cy"}})
    return small, make_set("b", b, {"0.jpg": {"hair": "blue"}})


def rejected(path):
    with open(path / "rejected.csv", newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def test_all_faces_in_one_set(two, tmp_path):
    report = merge(two, tmp_path / "out")
    assert (report.found, report.kept, report.reasons, report.already) == (9, 9, {}, False)
    out, (a, b) = FaceSet.open(tmp_path / "out"), (FaceSet.open(path) for path in two)
    assert out.keys == ["0", "0-2", "1", "2", "3", "4", "5", "copy", "same"]
    assert out.image_bytes(0) == a.image_bytes(0)
    assert out.image_bytes(1) == b.image_bytes(0)
    assert out.image_bytes(7) == b.image_bytes(1)
    assert out.index["artist"].to_pylist()[4:6] == ["Ann", "Bo | Cy"]
    assert out.index["hair"].to_pylist() == [None, "blue"] + [None] * 7
    assert [s["name"] for s in out.manifest["sources"]] == ["a-pictures", "b-pictures"]
    assert merge(two, tmp_path / "out").already


def test_duplicates_are_dropped_on_demand(two, tmp_path):
    exact = merge(two, tmp_path / "exact", drop="exact")
    assert (exact.kept, exact.reasons) == (8, {"duplicate": 1})
    assert rejected(tmp_path / "exact") == {"b-pictures/same.jpg": "duplicate: of 1"}
    near = merge(two, tmp_path / "near", drop="near")
    assert (near.found, near.kept, near.reasons) == (9, 7, {"duplicate": 2})
    # The copy of 100 pixels is better than its original of 64.
    assert rejected(tmp_path / "near") == {
        "b-pictures/same.jpg": "duplicate: of 1",
        "a-pictures/2.jpg": "duplicate: of copy",
    }
    with pytest.raises(UserError, match="give none, exact, near"):
        merge(two, tmp_path / "no", drop="all")


def test_who_opted_out_is_removed_and_told(two, tmp_path):
    a = FaceSet.open(two[0])
    note = tmp_path / "list.txt"
    note.write_text(f"# remark\n{a.index['sha256'][0].as_py().hex().upper()}  # mine\nartist: CY\nNobody\n")
    report = merge(two, tmp_path / "out", opt_out=note, conditions=["key!=5"])
    assert report.reasons == {"opted out": 2, "does not meet the conditions": 1}
    assert rejected(tmp_path / "out")["a-pictures/0.jpg"] == "opted out"
    assert rejected(tmp_path / "out")["a-pictures/4.jpg"] == "opted out"
    assert FaceSet.open(tmp_path / "out").manifest["derived"]["opt_out"]["name"] == "list.txt"
    note.write_text("Ann\n")
    with pytest.raises(UserError, match="there already"):
        merge(two, tmp_path / "out", opt_out=note, conditions=["key!=5"])


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "names neither"), (b"# nobody\n", "names neither"), (b"\xff\xfe", "not text")]
)
def test_lists_that_name_nobody_are_refused(two, tmp_path, content, told):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=told):
        merge(two, tmp_path / "out", opt_out=tmp_path / "list.txt")
    with pytest.raises(UserError, match="no such file"):
        merge(two, tmp_path / "out", opt_out=tmp_path / "missing.txt")


def test_an_empty_result_is_refused(two, tmp_path):
    with pytest.raises(UserError, match=r"nothing would be left.*hair has no 'green', it has blue"):
        merge(two, tmp_path / "out", conditions=["hair=green"])
    with pytest.raises(UserError, match="hair has no 'Blue', did you mean 'blue'"):
        merge(two, tmp_path / "out", conditions=["hair=Blue"])
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == []


def test_a_value_that_no_set_has_is_told_where_faces_are_left(two, tmp_path, capsys):
    report = merge(two, tmp_path / "out", conditions=["artist!=ann"])
    assert report.unknown == "artist has no 'ann', did you mean 'Ann'?"
    command = ["faces", "merge", *map(str, two), "-o", f"{tmp_path / 'out'}", "--where", "artist!=ann"]
    assert main(command) == 0
    assert "--where: artist has no 'ann', did you mean 'Ann'?" in capsys.readouterr().err
    assert merge(two, tmp_path / "known", conditions=["artist!=Ann", "hair!=blue"]).unknown == ""


def test_columns_of_other_types_are_joined():
    import pyarrow as pa

    sets = [pa.table({"key": ["a"], "age": [3]}), pa.table({"key": ["b"], "age": ["old"], "more": [1.5]})]
    sets = [t.append_column("n", pa.nulls(1)) for t in sets]
    from omokage.data.store.columns import COLUMNS

    for name, kind in COLUMNS.items():
        if name != "key":
            sets = [t.append_column(name, pa.nulls(1, kind)) for t in sets]
    table = joined_index(sets)
    assert table["age"].to_pylist() == ["3", "old"]
    assert table["more"].to_pylist() == [None, 1.5]


def test_an_interrupted_merge_goes_on(two, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 2)
    merge(two, tmp_path / "unbroken")
    write, calls = shards._write, []

    def stop(path, members, pictures, task):
        calls.append(path.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(path, members, pictures, task)

    monkeypatch.setattr(shards, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        merge(two, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="not finished"):
        FaceSet.open(tmp_path / "out")
    merge(two, tmp_path / "out")
    assert [name[6:12] for name in calls] == ["000000", "000001", "000002", "000002", "000003", "000004"]
    for path in (tmp_path / "unbroken").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
