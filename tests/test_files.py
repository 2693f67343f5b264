"""Files that are there whole or not at all, and the cache folder."""

import os
from pathlib import Path

import pytest

from omokage.files import cache_folder, discard_unfinished, replacing


@pytest.mark.parametrize("locked", [False, True])
def test_replacing_is_whole_or_not_at_all(tmp_path, locked):
    path = tmp_path / "a.png"
    path.write_text("old")

    def fail():
        with replacing(path, locked=locked) as unfinished:
            unfinished.write_text("half")
            assert path.read_text() == "old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.png", "old")]
    with replacing(path, locked=locked, durable=True) as unfinished:
        unfinished.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.png", "new")]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with replacing(tmp_path / "a.png") as one, replacing(tmp_path / "a.png") as other:
        assert one != other
        assert {one.suffix, other.suffix} == {".png"}  # from which libraries tell the format
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.png").read_text() == "one"


def test_what_a_killed_writer_left_is_overwritten_where_nobody_else_writes(tmp_path):
    (tmp_path / "a.png.writing").write_text("half")
    with replacing(tmp_path / "a.png", locked=True) as unfinished:
        unfinished.write_text("whole")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_what_is_being_written_can_be_discarded(tmp_path):
    with replacing(tmp_path / "a.png") as unfinished:
        unfinished.write_text("half")
        discard_unfinished()
        assert list(tmp_path.iterdir()) == []
        unfinished.write_text("whole")


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("OMOKAGE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if os.uname().sysname == "Linux":
        assert cache_folder() == tmp_path / ".cache" / "omokage"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        assert cache_folder() == tmp_path / "elsewhere" / "omokage"
    (tmp_path / ".cache" / "omokage").mkdir(parents=True)
    assert cache_folder() == tmp_path / ".cache" / "omokage"  # there already: it stays
    monkeypatch.setenv("OMOKAGE_CACHE", "given")
    assert cache_folder() == Path("given")
