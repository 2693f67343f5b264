"""Making a study's folder, and tokens of its dashboard."""

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError
from ..progress import Progress
from .design import Design, check_pictures, design_of
from .sessions import hashed
from .stimuli import Source, Told, take_in
from .store import Store, database_url

TOKENS = "tokens.json"


def make_study(
    folder: str | Path,
    settings: Mapping[str, Any],
    sources: Sequence[Source],
    *,
    pixels: int | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    progress: Progress | None = None,
) -> tuple[Design, Told, str]:
    """Make a study's folder: design, pictures, record of the truth, database, dashboard token.

    Args:
        folder: must not exist yet, or be empty.
        settings: those of `design.Design` that differ from its defaults; the sources follow from ``sources``.
        sources: of pictures. "real" comes first, if there is one.
        pixels: see `stimuli.take_in`.
        metrics: figures of the sources, like their FID, for the report; may be filled while ``sources`` are
            read.

    Returns the design, what the intake did, and the dashboard's token, of which only a hash is kept.

    Raises:
        UserError: the folder has something in it, a setting is impossible, or there are too few pictures.
            Nothing is left then.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty; give the name of a new folder")
    names = list(dict.fromkeys(source.name for source in sources))
    design = design_of({**settings, "sources": names}, str(folder / "design.toml"))
    was_there = folder.is_dir()
    unfinished = folder.parent / f".{folder.name}.{os.getpid()}.unfinished"
    try:
        unfinished.mkdir(parents=True)
        stimuli, told = take_in(unfinished, sources, pixels=pixels, progress=progress)
        check_pictures(design, stimuli.counts)
        design.write(unfinished)
        if metrics:
            (unfinished / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        token = new_token(unfinished)
        with Store(database_url(unfinished / "study.sqlite"), create=True) as store:
            store.note("made", design.hash(stimuli.hash))
        if was_there:
            folder.rmdir()
        os.replace(unfinished, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return design, told, token


def new_token(folder: str | Path) -> str:
    """A new token for the dashboard of the study in ``folder``; the old one no longer opens it."""
    token = secrets.token_urlsafe(24)
    with files.replacing(Path(folder) / TOKENS, durable=True) as unfinished:
        unfinished.write_text(json.dumps({"dashboard_sha256": hashed(token)}) + "\n", encoding="utf-8")
        os.chmod(unfinished, 0o600)
    return token
