"""The database: the same on SQLite and on PostgreSQL."""

import sqlite3
import threading
from concurrent.futures import wait

import pytest
import sqlalchemy as sa

from omokage.errors import UserError
from omokage.study import store as tables
from omokage.study.store import Store, database_url, minute, note


def events(store: Store) -> list[str]:
    return [row["event"] for row in store.log()]


class TestWriting:
    def test_what_is_written_is_there_when_the_future_is_done(self, database):
        with Store(database_url(database), create=True) as store:
            assert store.write(lambda c: note(c, "first")) is None
            assert events(store) == ["first"]
            assert store.log()[0]["at"] == minute()

    def test_many_threads_lose_nothing_and_a_failure_undoes_its_own_work_alone(self, database):
        def fails(connection):
            note(connection, "never")
            raise ValueError("no")

        with Store(database_url(database), create=True) as store:
            futures = []
            lock = threading.Lock()

            def many(name):
                for number in range(20):
                    works = store.submit(lambda c, n=number: note(c, f"{name}-{n}"))
                    broken = store.submit(fails)
                    with lock:
                        futures.extend([works, broken])

            threads = [threading.Thread(target=many, args=(name,)) for name in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            wait(futures)
            assert sorted(events(store)) == sorted(f"{name}-{n}" for name in "abcd" for n in range(20))
            assert sum(isinstance(future.exception(), ValueError) for future in futures) == 80

    def test_closing_finishes_what_waits(self, database):
        store = Store(database_url(database), create=True)
        futures = [store.submit(lambda c: note(c, "late")) for _ in range(50)]
        store.close()
        store.close()
        assert all(future.done() and future.exception() is None for future in futures)
        with Store(database_url(database)) as again:
            assert len(events(again)) == 50
        with pytest.raises(RuntimeError, match="closed"):
            store.submit(lambda c: None)

    def test_an_answer_stands_once_for_each_trial(self, database):
        with Store(database_url(database), create=True) as store:

            def twice(connection):
                connection.execute(tables.participants.insert().values(id="p", pilot=0, status="started"))
                row = {"id": "t", "participant": "p", "position": 0, "phase": "main"}
                connection.execute(tables.trials.insert().values(**row))
                answer = {"trial": "t", "participant": "p", "response": "left", "rt": 1, "time_elapsed": 1}
                for _ in range(2):
                    connection.execute(tables.answers.insert().values(**answer, resumed=0, answered_at="x"))

            with pytest.raises(sa.exc.IntegrityError):
                store.write(twice)
            with store.reading() as connection:
                assert connection.execute(sa.select(tables.trials)).all() == []


class TestOpening:
    def test_a_newer_version_is_refused_by_name(self, database):
        with Store(database_url(database), create=True) as store:
            store.write(lambda c: c.execute(tables.study.update().values(version=tables.VERSION + 1)))
        with pytest.raises(UserError, match=f"version {tables.VERSION + 1}.*up to {tables.VERSION}"):
            Store(database_url(database))

    def test_an_older_version_is_upgraded_or_refused(self, database, monkeypatch):
        Store(database_url(database), create=True).close()
        monkeypatch.setattr(tables, "VERSION", 3)
        monkeypatch.setattr(tables, "UPGRADES", {1: lambda c: note(c, "to 2")})
        with pytest.raises(UserError, match="version 2, which this Omokage no longer reads"):
            Store(database_url(database))
        monkeypatch.setitem(tables.UPGRADES, 2, lambda c: note(c, "to 3"))
        with Store(database_url(database)) as store:
            assert events(store) == ["to 2", "to 3"]  # the refused attempt has left nothing
            with store.reading() as connection:
                assert connection.execute(sa.select(tables.study.c.version)).scalar() == 3

    def test_a_database_of_something_else_is_refused(self, database):
        engine = sa.create_engine(database_url(database))
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE answers (x integer)"))
        engine.dispose()
        with pytest.raises(UserError, match="has no study in it"):
            Store(database_url(database))
        with pytest.raises(UserError, match="tables of something else: answers"):
            Store(database_url(database), create=True)

    def test_a_file_that_is_no_database_is_refused(self, tmp_path):
        (tmp_path / "x.sqlite").write_bytes(b"nothing of the kind" * 100)
        with pytest.raises(UserError, match="cannot be used as a database"):
            Store(database_url(tmp_path / "x.sqlite"))
        with pytest.raises(UserError, match="no such database"):
            Store(database_url(tmp_path / "none.sqlite"))

    def test_a_server_that_is_not_there_is_told_in_one_line_without_the_password(self):
        with pytest.raises(UserError) as refusal:
            Store(database_url("postgresql://me:secret@127.0.0.1:1/x"), create=True)
        assert "secret" not in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_other_kinds_of_databases_are_refused(self):
        with pytest.raises(UserError, match="mysql"):
            database_url("mysql://x/y")

    def test_sqlite_survives_a_power_cut(self, tmp_path):
        url = database_url(tmp_path / "x.sqlite")
        with Store(url, create=True) as store, store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1

    def test_deleted_words_are_gone_from_the_files(self, tmp_path):
        path = tmp_path / "x.sqlite"
        with Store(database_url(path), create=True) as store:
            store.note("a word that must vanish", "x" * 3000)
            store.write(lambda c: c.execute(tables.log.delete()))
            store.tidy()
            files = [path, path.with_name("x.sqlite-wal")]
            assert not any(b"must vanish" in file.read_bytes() for file in files if file.exists())
            assert sqlite3.connect(path).execute("SELECT count(*) FROM log").fetchone() == (0,)
