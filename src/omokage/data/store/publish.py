"""Remote face sets: uploaded when they are built, downloaded when they are opened.

In both directions the manifest is copied last, so that an incomplete copy does not count as a face set. Both
go on where they were interrupted. Local copies are in the cache (`files.cache_folder`).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import cache_folder, replacing
from ...progress import Progress, opened
from ..sources.places import Place
from ..steps.read import Unreadable
from ..text import one_line
from .format import INDEX, MANIFEST, json_bytes, write_file
from .manifest import parse_manifest
from .unfinished import locked, made_by

NOTE = ".upload.json"
"""File beside an unfinished upload: names the face set and the files that may be replaced."""


class Target:
    """A URL to which a face set is uploaded. staging: the local folder in which it is built first."""

    def __init__(self, url: str) -> None:
        self.place = Place(url)
        if self.place.web:
            raise UserError(
                f"{self.place.shown}: web servers take no face sets; give s3://, gs:// or a folder"
            )
        self._folder = cache_folder() / "staging" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
        self.staging = self._folder / self.place.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the target against other processes of this machine."""
        with locked(self._folder, self.staging, self.place.shown):
            yield

    def manifest(self, plan: dict[str, Any]) -> dict[str, Any] | None:
        """The manifest of the finished face set of ``plan`` at the URL; None if the URL is empty.

        Raises `UserError` if it holds anything else.
        """
        there = {entry.name for entry in self.place.files()}
        if MANIFEST in there:
            manifest = _manifest(self.place)
            if not made_by(manifest, plan):
                raise UserError(
                    f"{self.place.shown} is already a face set, of other sources or options: "
                    "give another place with -o, or delete that one first"
                )
            return manifest
        if there and NOTE not in there:
            raise UserError(f"{self.place.shown} is not empty, and not a face set: give a new place with -o")
        return None

    def forget_other(self, plan: dict[str, Any]) -> None:
        """Delete the finished local copy if it is of another plan."""
        try:
            manifest = parse_manifest((self.staging / MANIFEST).read_bytes(), str(self.staging))
        except (OSError, UserError):
            return
        if not made_by(manifest, plan):
            shutil.rmtree(self.staging)

    def upload(self, progress: Progress | None) -> None:
        """Upload the finished face set in ``staging``."""
        manifest = (self.staging / MANIFEST).read_bytes()
        sizes = {path.name: path.stat().st_size for path in sorted(self.staging.iterdir())}
        note = {"manifest": hashlib.sha256(manifest).hexdigest(), "files": sorted(sizes)}
        there = {entry.name: entry.size for entry in self.place.files()}
        if NOTE in there and (before := _note(self.place)) != note:
            for name in sorted(there.keys() & set(before["files"])):
                (self.place / name).delete()
                del there[name]
            there.pop(NOTE)
        if NOTE not in there:
            (self.place / NOTE).upload(json.dumps(note).encode())
        with opened(progress, "uploading", sum(sizes.values())) as task:
            for name in sorted(sizes, key=lambda name: (name == MANIFEST, name)):
                if there.get(name) != sizes[name]:
                    (self.place / name).upload(self.staging / name)
                    sent = ((self.place / name).info() or {}).get("size")
                    if sent != sizes[name]:
                        raise UserError(
                            f"{self.place.shown}/{name} has {sent} bytes there, not {sizes[name]:,}: "
                            "repeat the command"
                        )
                task.advance(sizes[name])

    def finish(self) -> None:
        """Delete the temporary files, remote and local."""
        (self.place / NOTE).delete()
        if self.staging.exists():
            shutil.rmtree(self.staging)


def fetch_face_set(url: str, progress: Progress | None = None) -> Path:
    """The face set at ``url`` as a local folder; downloaded if it is not in the cache.

    Raises `UserError` if there is none or it cannot be read.
    """
    place = Place(url)
    manifest = _manifest(place)
    there = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:8]
    told = json_bytes(manifest)
    folder = cache_folder() / "faces" / f"{place.name}-{there}-{hashlib.sha256(told).hexdigest()[:16]}"
    sizes = {shard["name"]: shard["bytes"] for shard in manifest["shards"]}
    with locked(folder.with_name(f".{folder.name}.lock"), folder, place.shown):
        folder.mkdir(parents=True, exist_ok=True)
        with opened(progress, f"fetching {place.name}", sum(sizes.values())) as task:
            for name, size in {INDEX: None, **sizes}.items():
                file = folder / name
                if not file.is_file() or (size is not None and file.stat().st_size != size):
                    _fetch(place / name, file)
                task.advance(size or 0)
        write_file(folder / MANIFEST, told)
    return folder


def _fetch(place: Place, file: Path) -> None:
    try:
        with replacing(file, locked=True) as unfinished, open(unfinished, "wb") as into:
            place.download(into)
    except OSError as error:
        where = one_line(file.parent)
        raise UserError(
            f"{place.shown} cannot be written to {where} ({one_line(error.strerror or error)}): make room "
            "there, or set OMOKAGE_CACHE to another folder"
        ) from None


def _manifest(place: Place) -> dict[str, Any]:
    try:
        return parse_manifest((place / MANIFEST).read(), place.shown)
    except Unreadable:
        message = f"{place.shown} is not a face set (it has no {MANIFEST}): make one with `omokage build`"
        raise UserError(message) from None


def _note(place: Place) -> dict[str, Any]:
    with suppress(Unreadable, ValueError, KeyError, TypeError):
        note = json.loads((place / NOTE).read(2**20))
        if isinstance(note["files"], list):
            return note
    return {"files": [NOTE]}
