"""Small studies over pictures of noise, and both kinds of databases."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the study needs its extra: pip install 'omokage[study]'")
pytest.importorskip("fastapi", reason="the study needs its extra: pip install 'omokage[study]'")

from study_visitors import squares

from omokage.study.making import make_study
from omokage.study.stimuli import Source

__all__ = ["new_study", "squares"]

_numbers = count(1)


@pytest.fixture
def new_study(tmp_path: Path):
    """Makes a study: settings in, folder and dashboard token out."""

    def make(pictures: int = 12, sources: tuple[str, ...] = ("real", "gan"), **settings: Any):
        folder = tmp_path / f"study-{next(_numbers)}"
        given = [Source(name, squares(pictures, seed)) for seed, name in enumerate(sources)]
        _, _, token = make_study(folder, {"practice": 0, "trials": 3, **settings}, given)
        return folder, token

    return make


@pytest.fixture(scope="session")
def postgresql():
    """The socket folder of a PostgreSQL server; tests are skipped where there is none."""
    from local_postgresql import Missing, running

    try:
        server = running()
        folder = server.__enter__()
    except Missing as missing:
        pytest.skip(str(missing))
    yield folder
    server.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path: Path) -> str:
    """The name of an empty database: a file of SQLite, then a URL of PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / f"database-{next(_numbers)}.sqlite")
    from local_postgresql import new_database

    return new_database(request.getfixturevalue("postgresql"), f"study{next(_numbers)}")
