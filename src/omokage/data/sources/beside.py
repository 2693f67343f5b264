"""Which files of a source are pictures, and which are files of labels beside a picture."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ...errors import UserError
from ..steps.read import Unreadable, read_file
from ..text import one_line
from .labels import SIDECARS, TABLES
from .source import Found, Source
from .spelling import canonical, folded
from .table import is_table

MAX_LABEL_BYTES = 2**22
"""Bytes read at most of a file beside a picture."""

MAX_KEPT_BYTES = 2**32
"""Bytes kept at most of the files beside the pictures of one stream."""

_TEXTS = tuple(dict.fromkeys((*SIDECARS, *TABLES)))


def pictures(source: Source, sidecars: bool) -> Iterator[tuple[Found, tuple[Found, ...]]]:
    """The pictures of a source, each with the files of labels beside it.

    A file of labels has the picture's name with another ending, or with one more: ``a.txt``, ``A.JSON`` and
    ``a.png.json`` belong to ``a.png``. A stream is read twice, so that the order of its files makes no
    difference. Tables with labels of many pictures (`table.is_table`) come with the first picture. Any other
    file counts as a picture and is rejected later, so every file is counted.

    sidecars: False treats every file as a picture.
    """
    if not sidecars:
        yield from ((found, ()) for found in source)
        return
    beside = _Beside(source)
    first = beside.tables
    for found in source.only(lambda name: not beside.serves(name)):
        if not beside.serves(found.name):
            yield found, (*beside.of(found.name), *first)
            first = ()


def names_in(sources: Sequence[Source]) -> Iterator[tuple[int, str, str]]:
    """The files of ``sources`` whose ending is that of a picture, for `matching.Rows.meet`.

    Yields the number of the source, its name, and the name of the file in it. A stream is read once for this.
    """
    for number, source in enumerate(sources):
        for found in source.only(lambda name: False):
            if found.name and not is_text(found.name):
                yield number, source.name, found.name


class _Beside:
    """The files of labels beside the pictures of a source. tables: files with labels of many pictures."""

    def __init__(self, source: Source) -> None:
        stream = source.total is None
        kept = _Kept() if stream else None
        texts: list[Found] = []
        bases: set[str] = set()  # names of the pictures, with and without ending
        for found in source.only(is_text):
            if is_text(found.name):
                texts.append(found if kept is None else kept.keep(found))
            elif found.name:
                bases.update(_bases(found.name))
        self._by_base: dict[str, list[Found]] = {}
        self._served: set[str] = set()
        orphans = []
        for found in texts:
            base = _base(found.name)
            if base is not None and base in bases:
                self._by_base.setdefault(base, []).append(found)
                self._served.add(found.name)
            else:
                orphans.append(found)
        # In a source without pictures, a table is left out like any other file.
        self.tables = tuple(found for found in orphans if bases and _is_table(found))
        self._served.update(found.name for found in self.tables)
        self._folder = None if source.folder is None else _OnDisk(source.folder)

    def serves(self, name: str) -> bool:
        """Whether the file ``name`` has labels of some picture."""
        return name in self._served

    def of(self, name: str) -> tuple[Found, ...]:
        """The files beside the picture ``name``; those with the most similar name come first."""
        found = [one for base in _bases(name) for one in self._nearest(name, base)]
        if self._folder is not None and not is_text(name):
            found += self._folder.of(name, {canonical(one.name) for one in found})
        return tuple(found)

    def _nearest(self, name: str, base: str) -> list[Found]:
        among = self._by_base.get(base, [])
        # Where file names are case-sensitive, A.txt and a.txt belong to different pictures.
        starts = {canonical(name), _bare(canonical(name))}
        exact = [one for one in among if _bare(canonical(one.name)) in starts]
        return sorted(exact or among, key=lambda one: (_ending(one.name), one.name))


class _OnDisk:
    """Files beside pictures that are given by path, so that no source lists their neighbours.

    folder: relative names start here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[str, dict[str, list[str]]] = {}

    def of(self, name: str, known: set[str]) -> list[Found]:
        """The files beside the picture ``name``, without those in ``known``."""
        inside, _, last = name.rpartition("/")
        if inside not in self._listed:
            root = not inside and name[:1] == "/"
            self._listed[inside] = self._texts(Path("/") if root else self._folder / inside)
        start = f"{inside}/" if inside or name[:1] == "/" else ""
        names = [start + one for base in _bases(last) for one in self._listed[inside].get(base, [])]
        return [
            Found(one, partial(read_file, self._folder / one)) for one in names if canonical(one) not in known
        ]

    @staticmethod
    def _texts(folder: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            names = sorted(os.listdir(folder))
        except (OSError, ValueError):
            return found
        for name in names:
            if (base := _base(name)) is not None:
                found.setdefault(base, []).append(name)
        return found


class _Kept:
    """Files of a stream, stored in a temporary file until they are needed."""

    def __init__(self) -> None:
        self._file, self._end = tempfile.TemporaryFile(), 0  # noqa: SIM115 - deleted with this object

    def keep(self, found: Found) -> Found:
        data = found.read()
        if isinstance(data, str):
            return found
        data = data[:MAX_LABEL_BYTES]
        if self._end + len(data) > MAX_KEPT_BYTES:
            raise UserError(
                f"the labels beside the pictures of an archive take more than {MAX_KEPT_BYTES:,} bytes: "
                "unpack it, or build with --no-label"
            )
        start, self._end = self._end, self._end + len(data)
        try:
            self._file.seek(start)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"the labels of an archive do not fit into {tempfile.gettempdir()} "
                f"({one_line(error.strerror)}): make room there, or set TMPDIR"
            ) from None
        return Found(found.name, partial(self._load, start, len(data)))

    def _load(self, start: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, start)


def is_text(name: str) -> bool:
    """Whether a file has labels and is not a picture, judged by its ending."""
    return name.lower().endswith(_TEXTS)


def lies_beside(name: str, picture: str) -> bool:
    """Whether a file belongs to the picture, by its name.

    >>> [lies_beside(name, "a/0.png") for name in ("a/0.JSON", "a/0.png.json", "0.json", "a/boxes.json")]
    [True, True, False, False]
    """
    return _base(name) in _bases(picture)


def _is_table(found: Found) -> bool:
    try:
        return is_table(found.name, found.load())
    except Unreadable:
        return False


def _bare(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _bases(picture: str) -> tuple[str, ...]:
    """The names that files beside a picture may have, without their ending."""
    name = folded(picture)
    return tuple(dict.fromkeys((_bare(name), name)))


def _base(name: str) -> str | None:
    """The name without its ending, of a file that may lie beside a picture; else None."""
    name = folded(name)
    ending = next((one for one in SIDECARS if name.endswith(one)), None)
    return None if ending is None else name[: -len(ending)]


def _ending(name: str) -> int:
    return next((n for n, one in enumerate(SIDECARS) if name.lower().endswith(one)), len(SIDECARS))
