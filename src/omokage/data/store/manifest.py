"""The manifest of a face set: what it is made of, and how."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ... import __version__
from ...errors import UserError
from ..sources.places import url_of
from ..text import one_line
from .format import (
    FORMAT,
    INDEX,
    KIND,
    MANIFEST,
    REJECTED,
    content_hash,
    json_bytes,
    parquet_bytes,
    write_file,
)


def read_manifest(folder: Path, shown: str) -> dict[str, Any]:
    """The manifest of a face set; raises `UserError` if this version cannot read it."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        message = f"{shown} is not a face set (it has no {MANIFEST}): make one with `omokage build`"
        inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}") if is_face_set(path.parent))
        if inside:
            named = ", ".join(one_line(Path(shown) / name) for name in inside[:4])
            message = f"{shown} is a folder of face sets, name one of them: {named}"
        raise UserError(message) from None
    return parse_manifest(text, shown)


def parse_manifest(text: bytes, shown: str) -> dict[str, Any]:
    """The manifest in the bytes of a `manifest.json`; raises `UserError` if this version cannot read it."""
    try:
        manifest = json.loads(text)
        good = manifest["kind"] == KIND and isinstance(manifest["content_hash"], str)
        newer = good and manifest["format"] > FORMAT
        names = [shard["name"] for shard in manifest["shards"]]
        # Names from a file are not trusted: they must not lead out of the folder.
        good = good and all(isinstance(n, str) and Path(n).name == n and n not in ("", "..") for n in names)
        good = good and all(isinstance(shard["bytes"], int) for shard in manifest["shards"])
        good = good and isinstance(manifest["counts"]["kept"], int)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = newer = False
    if newer:
        version = one_line(manifest.get("omokage"))
        raise UserError(f"{shown} was made by a newer omokage ({version}): update this one")
    if not good:
        raise UserError(f"{shown} is not a face set, or its {MANIFEST} is damaged: build it again")
    return manifest


def is_face_set(path: str | Path) -> bool:
    """Whether ``path``, a local folder, is a finished face set. Only its manifest is checked."""
    try:
        parse_manifest((Path(path).expanduser() / MANIFEST).read_bytes(), "")
    except (OSError, ValueError, UserError):
        return False
    return True


def refuse_face_set(path: str | Path, instead: str) -> None:
    """Raises `UserError` if ``path`` is a face set. For places that take something else.

    instead: what the user can do; a part of the message.
    """
    if url_of(path) is None and is_face_set(path):
        raise UserError(f"{one_line(path)} is a face set already: {instead}")


def counted(index: pa.Table, found: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    """The counts that every manifest has.

    index: the rows that are kept, of ``found``. reasons: how many were left out for each reason.
    """
    return {
        "found": found,
        "kept": len(index),
        "rejected": found - len(index),
        "duplicates": len(index) - pc.count_distinct(index["sha256"]).as_py(),
        "bytes": int(pc.sum(index["bytes"].cast(pa.int64())).as_py() or 0),
        "reasons": dict(sorted(reasons.items())),
    }


def manifest_of(
    entries: Mapping[str, Any],
    counts: Mapping[str, Any],
    index: pa.Table,
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest of a face set, ready for JSON.

    entries: what it was made from, and how. counts: `counted`, and further ones. shards: `shards.Written`.
    """
    return {
        "kind": KIND,
        "format": FORMAT,
        "omokage": __version__,
        **entries,
        "counts": counts,
        "content_hash": content_hash(index["key"].to_pylist(), index["sha256"].to_pylist()),
        "shards": [{name: shard[name] for name in ("name", "bytes", "pictures")} for shard in shards],
    }


def write_set(
    folder: Path,
    manifest: Mapping[str, Any],
    index: pa.Table,
    rejected: bytes,
    further: Mapping[str, bytes] | None = None,
) -> None:
    """Write the files beside the shards. The manifest comes last: it shows that the face set is whole.

    rejected: the content of `rejected.csv`. further: contents of other files, by name.
    """
    files = {
        **(further or {}),
        REJECTED: rejected,
        INDEX: parquet_bytes(index),
        MANIFEST: json_bytes(manifest),
    }
    for name, data in files.items():
        write_file(folder / name, data)
