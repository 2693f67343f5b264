import json

import pytest

from omokage.data.label import (
    Labels,
    LabelTable,
    from_record,
    is_table,
    merge,
    read_sidecar,
)
from omokage.errors import UserError


def test_tags_of_both_styles():
    for text in (
        b"1girl long_hair blue_eyes",
        b"1girl, long hair, blue eyes\n",
        b"1girl\nlong_hair\nblue_eyes",
    ):
        assert read_sidecar("a.txt", text).tags == ("1girl", "long hair", "blue eyes")
    labels = read_sidecar("a.txt", b"silver_hair, rating:questionable, artist:someone")
    blond = read_sidecar("a.txt", b"blonde hair, yellow eyes")
    assert (blond.colour("hair"), blond.colour("eyes")) == ("blonde", "yellow")
    assert (labels.rating, labels.artist, labels.colour("hair")) == ("questionable", "someone", "gray")


def test_records_of_boorus():
    danbooru = {
        "tag_string_general": "red_hair solo",
        "tag_string_artist": "some_one",
        "rating": "g",
        "source": "http://x",
    }
    assert from_record(danbooru) == Labels(("red hair", "solo"), "general", "some one", None, "http://x")
    old = {"rating": "q", "tags": [{"name": "smile", "category": "0"}, {"name": "kei", "category": "1"}]}
    assert from_record(old) == Labels(("smile",), "questionable", "kei")
    by_category = {"tags": {"general": ["hat"], "artist": ["mo"]}, "rating": "safe"}
    assert from_record(by_category) == Labels(("hat",), "general", "mo")
    assert from_record({"rating": "weird"}).rating == "explicit"  # unknown words are not taken for harmless
    assert from_record({"rating": None, "tags": 7}) == Labels()


@pytest.mark.parametrize("data", [b"{broken", b"[1, 2]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_broken_sidecars_say_why(data):
    with pytest.raises(ValueError, match="labels"):
        read_sidecar("a.json", data)


def test_the_stricter_rating_holds():
    assert merge(Labels(rating="general"), Labels(rating="explicit")).rating == "explicit"
    assert merge(Labels(("a",), artist="x"), Labels(("b", "a"), artist="y")) == Labels(("a", "b"), artist="x")


def test_tables(tmp_path):
    (tmp_path / "t.csv").write_text("file,hair,rating,tags\na.jpg,red,g,smile|hat\nb/c.png,,e,\n")
    table = LabelTable(tmp_path / "t.csv")
    assert (len(table), table.columns) == (2, ["hair"])
    assert table.get("x/a.jpg") == Labels(("smile", "hat"), "general", other=(("hair", "red"),))
    assert table.get("b/c.png").rating == "explicit"
    assert table.get("d.png") is None
    lines = [{"id": 12, "tags": "hat", "rating": "s"}, {"md5": "f" * 32, "tag_string": "smile"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = LabelTable(tmp_path / "t.jsonl")
    assert table.get("0012/12.jpg").rating == "sensitive"
    assert table.get("f" * 32 + ".png").tags == ("smile",)
    for text in ("name,x\n", "", "file,a\nx\n", '{"a": 1}', "[1]", "{"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(UserError, match="bad"):
            LabelTable(tmp_path / "bad")


@pytest.mark.parametrize(
    ("name", "data", "table"),
    [
        ("a.csv", b"\xef\xbb\xbffile,hair\na.png,red\n", True),
        ("a.csv", b"name,hair\na.png,red\n", False),
        ("a.csv", b"file\na.png\n", False),
        ("a.csv", b"\x89PNG\r\n\x1a\n", False),
        ("A.CSV", b'"file","tags"\n', True),
        ("a.txt", b"file,hair\n", False),
        ("a.json", b'{"b/a.PNG": [[1, 2, 3, 4]]}', True),
        ("a.json", b'{"tags": "smile", "file": "a.png"}', False),
        ("a.json", b'[{"id": 1, "tags": "smile"}, {"id": 2}]', True),
        ("a.json", b'[{"id": 1, "tags": "smile"}]', False),
        ("a.json", b'["smile", "tea"]', False),
        ("a.jsonl", b'{"md5": "ab"}\r\n{"md5": "cd"}\n', True),
        ("a.jsonl", b'{"tags": "ab"}\n{"tags": "cd"}\n', False),
        ("a.json", b"{" * 70_000, False),
        ("a.json", b"", False),
    ],
)
def test_which_files_are_tables(name, data, table):
    assert is_table(name, data) == table
    if table:
        assert read_sidecar(name, data) == Labels()

