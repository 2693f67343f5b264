"""Backups, restoring them into either kind of database, and erasing."""

import json
import zipfile

import pytest
import sqlalchemy as sa
from study_visitors import browser, finish, start, statements

from omokage.__main__ import main
from omokage.errors import UserError
from omokage.study.backup import backup, erase_panel, erase_participant, erase_pilots, restore
from omokage.study.opening import open_store
from omokage.study.stimuli import load_stimuli
from omokage.study.store import metadata, panel


def rows(folder, database=None):
    """Everything in a study's database, by table."""
    with open_store(folder, database) as store, store.reading() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table)).all()))
            for table in metadata.sorted_tables
        }


@pytest.fixture
def answered(new_study):
    """A study with a pilot, a complete participant with a panel identifier, and one who has just begun."""
    folder, _ = new_study(panel={"completed": "C"})
    with browser(folder, pilot=True) as client:
        finish(client, start(client))
    with browser(folder) as client:
        finish(client, start(client, panel={"PROLIFIC_PID": "panel-identifier-1"}))
        start(client)
    return folder


def test_a_backup_restores_everything_into_either_database(answered, database, tmp_path):
    with open_store(answered) as store:
        assert backup(answered, store, tmp_path / "b.zip") == 6
    assert (tmp_path / "b.zip").stat().st_mode & 0o077 == 0
    assert restore(tmp_path / "b.zip", tmp_path / "again", database) == 6
    assert rows(tmp_path / "again", database) == rows(answered)
    assert load_stimuli(tmp_path / "again").hash == load_stimuli(answered).hash
    with open_store(tmp_path / "again", database) as store:  # and from there into a file
        backup(tmp_path / "again", store, tmp_path / "c.zip", panel_too=False)
    restore(tmp_path / "c.zip", tmp_path / "third")
    wanted = rows(answered) | {"panel": []}
    assert rows(tmp_path / "third") == wanted
    with browser(tmp_path / "third") as client:  # it goes on, and is frozen as before
        start(client)
    with pytest.raises(UserError, match="with participants in it"):
        restore(tmp_path / "b.zip", tmp_path / "fourth", database)
    assert not (tmp_path / "fourth").exists()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.txt"], "not a backup"),
        (["design.toml", "study.sqlite", "../x"], "does not belong"),
        (["design.toml", "study.sqlite", "pictures/../../x.png"], "does not belong"),
        (["design.toml", "study.sqlite", "/etc/x"], "does not belong"),
        (["design.toml", "study.sqlite"], "not a study"),
    ],
)
def test_what_is_no_backup_is_refused_and_nothing_is_left(tmp_path, names, told):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(UserError, match=told):
        restore(tmp_path / "b.zip", tmp_path / "new")
    (tmp_path / "c.zip").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(UserError, match="damaged or not a ZIP"):
        restore(tmp_path / "c.zip", tmp_path / "new")
    with pytest.raises(UserError, match="there is no"):
        restore(tmp_path / "d.zip", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "c.zip"]


def test_panel_identifiers_are_erased_from_the_files_too(answered):
    with open_store(answered) as store:
        assert erase_panel(store) == 1
        with store.reading() as connection:
            assert connection.execute(sa.select(panel)).all() == []
        assert len(store.answers(load_stimuli(answered).source_of, "pairs")) == 6
        assert store.log()[-1]["event"] == "erased panel identifiers"
    held = b"".join(path.read_bytes() for path in answered.glob("study.sqlite*"))
    assert b"panel-identifier-1" not in held


def test_pilots_and_single_people_are_erased(answered):
    with open_store(answered) as store:
        assert erase_pilots(store) == 1
        people = {row["status"]: row["participant"] for row in store.participants()}
        assert set(people) == {"completed", "started"}
        erase_participant(store, people["completed"])
        assert {row["status"] for row in store.participants()} == {"withdrawn", "started"}
        assert store.answers(load_stimuli(answered).source_of, "pairs") == []
        with pytest.raises(UserError, match="no such participant"):
            erase_participant(store, "AAAA-AAAA-AAAA")


def test_the_commands(answered, new_study, tmp_path, capsys):
    with browser(answered) as client:
        body = {"language": "en", "consents": statements(client), "age_confirmed": True}
        code = client.post("/api/participants", json=body).json()["withdrawal_code"]
    assert main(["study", "backup", str(answered), "-o", str(tmp_path / "b.zip")]) == 0
    assert "6 answers" in capsys.readouterr().out
    assert main(["study", "restore", str(tmp_path / "b.zip"), str(tmp_path / "new")]) == 0
    assert main(["study", "erase", str(tmp_path / "new"), "--panel"]) == 0
    assert main(["study", "erase", str(tmp_path / "new"), "--pilots"]) == 0
    assert main(["study", "erase", str(tmp_path / "new"), "--participant", code]) == 0
    assert main(["study", "erase", str(tmp_path / "new")]) == 2
    assert main(["study", "close", str(tmp_path / "new")]) == 0
    assert main(["study", "pause", str(tmp_path / "none")]) == 2
    assert "make one: omokage study new" in capsys.readouterr().err
    before = json.loads((answered / "tokens.json").read_text())
    assert main(["study", "token", str(answered)]) == 0
    assert json.loads((answered / "tokens.json").read_text()) != before
