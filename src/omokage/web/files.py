"""The files that a page's browser loads, read once from one folder. No name from outside becomes a path."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """A file that a browser loads: its bytes, its media type and a tag that changes with the bytes."""

    content: bytes
    media_type: str
    etag: str


def static_files(folder: Path) -> dict[str, StaticFile]:
    """Every file of a page in a folder, by name."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in MEDIA_TYPES:
            content = path.read_bytes()
            kind = MEDIA_TYPES[path.suffix]
            charset = "" if path.suffix == ".svg" else "; charset=utf-8"
            files[path.name] = StaticFile(content, kind + charset, tag_of(content))
    return files


def tag_of(content: bytes) -> str:
    """The entity tag of a file's bytes.

    >>> tag_of(b"")
    '"e3b0c44298fc1c149afb"'
    """
    return f'"{hashlib.sha256(content).hexdigest()[:20]}"'
