"""IDX files, the format of MNIST (LeCun et al. 1998): sizes, then one byte per pixel or label.

Files may be hostile: the sizes in the header are compared with the real size first, and a compressed file is
unpacked no further than its header claims. Any fault is raised as `Unreadable` with the reason.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import Image

from ...errors import UserError
from ..steps.read import MAX_PIXELS, Unreadable, to_png
from ..text import one_line
from .source import Found, Source, digest, file_fingerprint

MAX_BYTES = 2**31
"""A file whose header claims more bytes is refused before it is read."""

_GZIP, _BYTES = b"\x1f\x8b", 0x08
_BLOCK = 2**20
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class Idx:
    """The header of an IDX file; the rest is checked by `check` and read by `items`.

    shape: (pictures, height, width), or (labels,).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with self._opened() as file:
                start = file.read(4)
                if len(start) < 4 or start[:2] != b"\0\0":
                    raise Unreadable("named like an IDX file, but it does not begin like one")
                if start[2] != _BYTES or start[3] not in (1, 3):
                    raise Unreadable(
                        f"an IDX file of type {start[2]:#04x} with {start[3]} dimensions: pictures have type "
                        "0x08 and 3, labels 1"
                    )
                sizes = file.read(4 * start[3])
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"damaged: {one_line(error)}") from None
        if len(sizes) < 4 * start[3]:
            raise Unreadable("cut short: the IDX header is not whole")
        self.shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
        self.start = 4 + len(sizes)
        if 0 in self.shape:
            raise Unreadable("an IDX file without anything in it")
        if prod(self.shape[1:]) > MAX_PIXELS:
            raise Unreadable(f"too many pixels: {self.shape[2]}×{self.shape[1]}, the limit is {MAX_PIXELS:,}")
        if prod(self.shape) > MAX_BYTES:
            raise Unreadable(
                f"an IDX file that claims {prod(self.shape):,} bytes, the limit is {MAX_BYTES:,}"
            )

    def check(self) -> None:
        """Raise `Unreadable` unless the file has exactly the bytes that the header claims."""
        claimed = prod(self.shape)
        try:
            if self._compressed():
                there = 0
                with self._opened() as file:
                    file.read(self.start)
                    while there <= claimed and (block := file.read(min(_BLOCK, claimed + 1 - there))):
                        there += len(block)
            else:
                there = self.path.stat().st_size - self.start
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"damaged: {one_line(error)}") from None
        if there != claimed:
            more = "more" if there > claimed else f"{there:,}"
            raise Unreadable(f"an IDX file whose header claims {claimed:,} bytes, but it has {more}")

    def items(self) -> Iterator[bytes]:
        """The bytes of each picture, or of each label, in order."""
        with self._opened() as file:
            file.read(self.start)
            for _ in range(self.shape[0]):
                try:
                    item = file.read(prod(self.shape[1:]))
                except (OSError, EOFError, zlib.error):  # changed since it was checked
                    item = b""
                yield item

    def png(self, item: bytes) -> bytes:
        """An item as a PNG."""
        if len(item) != prod(self.shape[1:]):
            raise Unreadable("cut short: the IDX file has changed since it was checked")
        return to_png(Image.fromarray(np.frombuffer(item, np.uint8).reshape(self.shape[1:])))

    def _compressed(self) -> bool:
        with open(self.path, "rb") as file:
            return file.read(2) == _GZIP

    def _opened(self) -> IO[bytes]:
        handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        raw = os.fdopen(handle, "rb")
        start = raw.read(2)
        raw.seek(0)
        if start != _GZIP:
            return raw
        raw.close()
        return cast("IO[bytes]", gzip.open(self.path))


def looks_like_idx(name: str) -> bool:
    """Whether a file is named like those of MNIST: ``train-images-idx3-ubyte.gz``, ``x.idx3``, ...

    >>> looks_like_idx("t10k-labels.idx1-ubyte"), looks_like_idx("idx3.png")
    (True, False)
    """
    last = name.rsplit("/", 1)[-1].lower()
    return re.search("idx[0-9]|ubyte", last) is not None and not last.endswith(_PICTURES)


def begins_like_pictures(path: Path) -> bool:
    """Whether a file, compressed or not, starts like an IDX file of pictures."""
    try:
        return len(Idx(path).shape) == 3
    except Unreadable:
        return False


def labels_beside(name: str) -> list[str]:
    """Possible names of the label file for a file of pictures.

    >>> labels_beside("train-images-idx3-ubyte.gz")
    ['train-labels-idx1-ubyte.gz', 'train-labels-idx1-ubyte']
    """
    folder, slash, last = name.rpartition("/")
    for images, labels in (("images", "labels"), ("idx3", "idx1")):
        last = last.replace(images, labels)
    other = last.removesuffix(".gz") if last.endswith(".gz") else last + ".gz"
    return [folder + slash + last, folder + slash + other]


class IdxFiles:
    """The IDX files among the files ``names`` of a folder.

    pictures: valid files of pictures. reasons: why other files are left out, by name. read: label files that
    belong to files of pictures. labels: labels of pictures, by the names of the pictures.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.pictures: dict[str, Idx] = {}
        self.reasons: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.read: set[str] = set()
        others: dict[str, Idx] = {}
        for name in names:
            try:
                if name.endswith(".gz") and name.removesuffix(".gz") in names:
                    raise Unreadable("the same file lies there unpacked")
                idx = Idx(folder / name)
                idx.check()
            except Unreadable as reason:
                self.reasons[name] = str(reason)
                continue
            (self.pictures if len(idx.shape) == 3 else others)[name] = idx
        for name, idx in self.pictures.items():
            for beside in labels_beside(name):
                if (known := others.get(beside)) is not None and known.shape[0] == idx.shape[0]:
                    del others[beside]
                    self.read.add(beside)
                    values = (str(value[0]) for value in known.items())
                    self.labels |= zip(self._names(name), values, strict=True)
        self.reasons |= {name: "IDX labels without as many pictures beside them" for name in others}

    def count(self, name: str) -> int:
        """Number of items that the file ``name`` gives."""
        return self.pictures[name].shape[0] if name in self.pictures else 1

    def found(self, name: str) -> Iterator[Found]:
        """The pictures in the file ``name``."""
        idx = self.pictures[name]
        for item_name, item in zip(self._names(name), idx.items(), strict=True):
            yield Found(item_name, lambda item=item: idx.png(item))  # type: ignore[misc]

    def _names(self, name: str) -> Iterator[str]:
        return (f"{name}/{number:05d}" for number in range(self.pictures[name].shape[0]))


class IdxFile(Source):
    kind = "idx"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        beside = [name for name in labels_beside(path.name) if (path.parent / name).is_file()]
        self._idx = IdxFiles(path.parent, [path.name, *beside[:1]])
        if path.name not in self._idx.pictures:
            reason = self._idx.reasons[path.name]
            raise UserError(f"{one_line(path)} cannot be read: {reason}")
        self.labels, self.total = self._idx.labels, self._idx.count(path.name)
        self.fingerprint = digest(*(file_fingerprint(path.parent / name) for name in (path.name, *beside)))

    def __iter__(self) -> Iterator[Found]:
        return self._idx.found(self.path.name)
