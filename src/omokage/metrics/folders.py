"""FID between two folders of pictures, without a model or a run."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..data.sources.opening import open_source
from ..data.steps.read import Unreadable, cover, read_picture
from ..data.store.faceset import FaceSet
from ..data.store.format import KIND, MANIFEST, content_hash
from ..data.text import one_line
from ..errors import UserError
from ..hardware import best_device
from ..progress import Progress, opened
from .context import Warnings
from .features import EXTRACTORS, face_features, load_extractor
from .fid import fid
from .protocol import Measurement, parse_protocol
from .report import about, few_pictures

Size = tuple[int, int]


class _Side(Protocol):
    """Pictures in an order that depends on their content only."""

    @property
    def path(self) -> Path:
        """The path of the pictures."""

    @property
    def content_hash(self) -> str:
        """Hash of the bytes of all pictures."""

    @property
    def sizes(self) -> list[Size]:
        """Height and width of each picture."""

    @property
    def digests(self) -> list[bytes]:
        """SHA-256 of the bytes of each picture."""

    @property
    def skipped(self) -> list[str]:
        """Files that could not be used, with the reason."""

    def __len__(self) -> int: ...

    def pixels(self, indices: Sequence[int] | np.ndarray, size: Size) -> np.ndarray:
        """Pictures as uint8 (N, height, width, 3)."""


class _Faces:
    """The first pictures of a face set, or all of them."""

    def __init__(self, faces: FaceSet, limit: int | None) -> None:
        count = len(faces) if limit is None else min(limit, len(faces))
        self._faces = faces
        self.path = faces.path
        self.digests: list[bytes] = faces.index["sha256"].to_pylist()[:count]
        whole = count == len(faces)
        self.content_hash = faces.content_hash if whole else content_hash(faces.keys[:count], self.digests)
        numbers = zip(faces.index["height"].to_pylist(), faces.index["width"].to_pylist(), strict=True)
        self.sizes: list[Size] = list(numbers)[:count]
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return len(self.digests)

    def pixels(self, indices: Sequence[int] | np.ndarray, size: Size) -> np.ndarray:
        """See `FaceSet.pixels`."""
        return self._faces.pixels(indices, size)


class _Pictures:
    """The first pictures of a folder or archive, or all of them. They are never all in memory.

    They are read twice. The first pass counts, hashes and measures them, and finds what cannot be read. The
    second pass yields pixels, in order.
    """

    def __init__(self, path: str | Path, limit: int | None, progress: Progress | None) -> None:
        self.path = Path(path)
        self._place = path
        self.digests: list[bytes] = []
        self.sizes: list[Size] = []
        self.skipped: list[str] = []
        self._limit = limit
        self._reading: Iterator[tuple[int, Image.Image]] | None = None
        self._reached = 0
        names = []
        with opened(progress, f"reading {one_line(path)}", None) as task:
            for name, digest, image in self._each(self.skipped.append):
                names.append(name)
                self.digests.append(digest)
                self.sizes.append((image.height, image.width))
                task.advance()
        self.content_hash = content_hash(names, self.digests)

    def _each(self, skip: Callable[[str], None]) -> Iterator[tuple[str, bytes, Image.Image]]:
        done = 0
        with open_source(self._place) as source:
            for found in source:
                if self._limit is not None and done >= self._limit:
                    return
                data = found.read()
                try:
                    if isinstance(data, str):
                        raise Unreadable(data)
                    image = read_picture(data).image
                except Unreadable as reason:
                    skip(f"{one_line(found.name)}: {one_line(reason)}")
                    continue
                done += 1
                yield found.name, hashlib.sha256(data).digest(), image

    def __len__(self) -> int:
        return len(self.digests)

    def _images(self) -> Iterator[tuple[int, Image.Image]]:
        for i, (_, digest, image) in enumerate(self._each(lambda line: None)):
            if i >= len(self) or digest != self.digests[i]:
                raise UserError(f"{one_line(self.path)} changed while it was read: begin again")
            yield i, image

    def pixels(self, indices: Sequence[int] | np.ndarray, size: Size) -> np.ndarray:
        """The pictures at ``indices``. If they do not ascend, within and between calls, reading restarts."""
        out = np.empty((len(indices), *size, 3), np.uint8)
        for row, wanted in enumerate(indices):
            if self._reading is None or wanted < self._reached:
                self._reading, self._reached = self._images(), 0
            for i, image in self._reading:
                self._reached = i + 1
                if i == wanted:
                    out[row] = np.asarray(cover(image, size))
                    break
            else:
                raise UserError(f"{one_line(self.path)} changed while it was read: begin again")
        return out


def _opened_side(path: str | Path, limit: int | None, progress: Progress | None) -> _Side:
    try:
        is_faces = json.loads((Path(path).expanduser() / MANIFEST).read_bytes())["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        is_faces = False
    if is_faces:
        return _Faces(FaceSet.open(path), limit)
    return _Pictures(path, limit, progress)


@dataclass(frozen=True)
class FidOfFolders:
    """What `fid_folders` found.

    Attributes:
        fid: the distance.
        protocol: how many pictures of the first side, and which feature network.
        pictures: number of pictures on each side.
        skipped: for each side, the files that could not be used, with the reason.
        size: height and width to which all pictures were resized.
        resized: for each side, how many pictures had another size.
        record: the number and everything it depends on, as plain values for a line of JSON.
        warnings: what makes the number doubtful, one line each.
    """

    fid: float
    protocol: str
    pictures: tuple[int, int]
    skipped: tuple[tuple[str, ...], tuple[str, ...]]
    size: Size
    resized: tuple[int, int]
    record: dict[str, Any]
    warnings: tuple[str, ...]


def counted(number: int, what: str) -> str:
    """A number of things in words.

    >>> counted(1, "picture"), counted(2000, "picture")
    ('1 picture', '2,000 pictures')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def skipped_in_words(skipped: Sequence[str]) -> str:
    """How many files were skipped, and the reason for the first; "" if none.

    >>> skipped_in_words(["labels.csv: text, not a picture", "x"])
    ', 2 files skipped (labels.csv: text, not a picture; ...)'
    """
    if not skipped:
        return ""
    return f", {counted(len(skipped), 'file')} skipped ({skipped[0]}{'; ...' if len(skipped) > 1 else ''})"


def fid_folders(
    a: str | Path,
    b: str | Path,
    protocol: str | None = None,
    *,
    extractor: str = "inception2015",
    size: int | Size | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> FidOfFolders:
    """The Fréchet distance between two sets of pictures: folders, archives or face sets.

    Both sides are resized to one size (scaled to cover, centre cropped) and go through the same feature
    network. For the same pixels the figure equals that of `report.evaluate`. Features are cached.

    Args:
        a: the side that is measured, such as samples.
        b: the side it is compared with.
        protocol: ``fid2k-full-inception2015``, for example, takes the first 2,000 pictures of ``a`` in the
            order of their names. The name of a feature network, or None, takes all. All of ``b`` are used.
        extractor: the feature network, if ``protocol`` names none.
        size: pixels a side, or (height, width); None for the most frequent size in ``a``.
        tell: called with one line for each thing that makes the figure doubtful.

    Raises:
        UserError: there is nothing to read, a side has fewer than two pictures (or fewer than the protocol
            asks for), the protocol is unknown, or the feature network is missing.
    """
    protocol = protocol or extractor
    asked = None if protocol in EXTRACTORS else parse_protocol(protocol)
    if asked is not None and (asked.psi, asked.critic) != (1, 1):
        raise UserError(f"protocol {protocol!r}: pictures have no psi and no critic; leave both out")
    if size is not None and (min(size) if isinstance(size, tuple) else size) < 1:
        raise UserError(f"size {size} is impossible: give a positive number of pixels")
    place = device or str(best_device())
    network = load_extractor(asked.extractor if asked else protocol, device=place, progress=progress)
    sides = _opened_side(a, asked.samples if asked else None, progress), _opened_side(b, None, progress)
    for side, path, least in zip(sides, (a, b), (asked.samples if asked else 2, 2), strict=True):
        if len(side) < least:
            raise UserError(
                f"{one_line(path)} has {counted(len(side), 'picture')}{skipped_in_words(side.skipped)}: "
                f"this measurement needs {least:,} or more"
            )
    if size is None:
        counts = Counter(sides[0].sizes)
        shape = min(counts, key=lambda each: (-counts[each], each[0] * each[1], each))
    else:
        shape = (size, size) if isinstance(size, int) else size

    warn = Warnings(tell=tell)
    for side, path in zip(sides, (a, b), strict=True):
        few_pictures(warn, len(side), len(set(side.digests)), f"pictures in {one_line(path)}")
    features = [face_features(side, shape, network, progress=progress) for side in sides]
    distance = fid(*features[0].moments, *features[1].moments)
    name = Measurement(len(sides[0]), network.name).name
    resized = [sum(each != shape for each in side.sizes) for side in sides]
    record = {
        "protocol": name,
        "fid": distance,
        "pictures": [len(side) for side in sides],
        "content_hashes": [side.content_hash for side in sides],
        "skipped": [len(side.skipped) for side in sides],
        "resolution": list(shape),
        "resized": resized,
        "pictures_resize_rule": features[0].key["faces_resize_rule"],
        **about(network),
        **({"warnings": warn.lines} if warn.lines else {}),
    }
    return FidOfFolders(
        distance,
        name,
        (len(sides[0]), len(sides[1])),
        (tuple(sides[0].skipped), tuple(sides[1].skipped)),
        shape,
        (resized[0], resized[1]),
        record,
        tuple(warn.lines),
    )
