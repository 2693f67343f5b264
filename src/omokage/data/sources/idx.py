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

from ..steps.read import MAX_PIXELS, Unreadable, to_png
from ..text import one_line

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
