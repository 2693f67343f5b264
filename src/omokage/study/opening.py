"""Opening a study's database by its folder."""

from pathlib import Path

from .design import load_design
from .store import Store, database_url

DATABASE = "study.sqlite"


def open_store(folder: str | Path, database: str | None = None, *, create: bool = False) -> Store:
    """The database of the study in ``folder``: ``database`` (a URL or file), else its ``study.sqlite``.

    Raises UserError if the folder is no study, or the database cannot be used.
    """
    load_design(folder)
    return Store(database_url(database or Path(folder) / DATABASE), create=create)
