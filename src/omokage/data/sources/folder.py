"""A folder of pictures, of this machine or behind a URL."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..steps.read import MAX_FILE_BYTES, read_file
from ..text import one_line
from .idx import IdxFiles, looks_like_idx
from .keys import natural
from .places import Entry, Place
from .source import Found, Source, digest, hidden, refused, unsafe


class Folder(Source):
    kind = "folder"

    def __init__(self, path: Path, skip: tuple[Path, ...]) -> None:
        super().__init__(path)
        self.path = path
        skipped = {str(p.resolve()) for p in skip}
        found: list[tuple[str, str | None]] = []
        marks = 0
        folders = [(str(path), "")]
        while folders:
            folder, prefix = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                if not prefix:
                    raise
                reason = f"a folder that cannot be read: {one_line(error.strerror)}"
                found.append((prefix.rstrip("/"), reason))
                continue
            for entry in entries:
                name = prefix + entry.name
                if hidden(entry.name) or entry.path in skipped:
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((entry.path, name + "/"))
                        continue
                    status = entry.stat()
                except OSError:
                    found.append((name, "a link that leads nowhere"))
                    continue
                if stat.S_ISDIR(status.st_mode):
                    found.append((name, "a link to a folder, not followed"))
                elif not stat.S_ISREG(status.st_mode):
                    found.append((name, "not a regular file"))
                else:
                    # Use a sum: it does not depend on the order in which the system lists a folder.
                    marks += int(digest(name, status.st_size, status.st_mtime_ns), 16)
                    found.append((name, None))
        found.sort(key=lambda item: natural(item[0]))
        self._found, self._idx = (
            found,
            IdxFiles(path, [n for n, r in found if r is None and looks_like_idx(n)]),
        )
        self._found = [(n, r or self._idx.reasons.get(n)) for n, r in found if n not in self._idx.read]
        self.labels = self._idx.labels
        self.total = sum(self._idx.count(name) for name, _ in self._found)
        self.fingerprint = digest(marks, *(f"{n}:{r}" for n, r in found if r))

    def __iter__(self) -> Iterator[Found]:
        for name, reason in self._found:
            if name in self._idx.pictures:
                yield from self._idx.found(name)
            elif reason is None:
                full = os.path.join(self.path, name)
                yield Found(name, lambda full=full: read_file(full))  # type: ignore[misc]
            else:
                yield refused(name, reason)


class RemoteFolder(Source):
    kind, far = "folder", True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._place = place
        entries = [entry for entry in place.files() if not hidden(entry.name)]
        self._entries = sorted(entries, key=lambda entry: natural(entry.name))
        self.total = len(entries)
        self.fingerprint = digest(*(f"{e.name}\0{e.size}\0{e.mark}" for e in self._entries))

    def __iter__(self) -> Iterator[Found]:
        for entry in self._entries:
            if reason := unsafe(entry.name):
                yield refused(entry.name, reason)
            else:
                yield Found(entry.name, lambda entry=entry: self._read(entry))  # type: ignore[misc]

    def _read(self, entry: Entry) -> bytes:
        return self._place.at(entry.path).read(MAX_FILE_BYTES, entry.size)
