"""Pictures of a study: all sources go through the same resize, encoding and removal of metadata.

Nothing in a file may tell real from generated: names are random, every PNG has the same size in pixels, the
same encoder settings and no text, and `padded` gives all of them the same length in bytes.
"""

import hashlib
import io
import json
import secrets
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import files
from ..errors import UserError
from ..progress import Progress, opened

VERSION = 1
SMALLEST = 16
LARGEST = 1024
PIXEL_RULE = "centre square, lanczos, png rgb 8 bits"
MAX_PICTURES = 100_000


@dataclass
class Source:
    """Pictures of one origin.

    Attributes:
        name: "real", or the name of a model.
        pictures: (original name, RGB picture or the reason why there is none), in order.
        about: how they came to be, kept in the record: a path, a run, seeds, settings.
        count: how many there are, for the progress bar.
    """

    name: str
    pictures: Iterable[tuple[str, Image.Image | str]]
    about: dict[str, Any] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True)
class Picture:
    """A picture of the study in the record ``truth.json``, which is never served.

    id: random; the name of its file.
    source: where it came from.
    original: its name there.
    sha256: of the file in the study, in hex.
    """

    id: str
    source: str
    original: str
    sha256: str


@dataclass(frozen=True)
class Stimuli:
    """All pictures of a study.

    pixels: width and height of every picture.
    pictures: by identifier.
    sources: what is known about each source.
    """

    folder: Path
    pixels: int
    pictures: dict[str, Picture]
    sources: dict[str, dict[str, Any]]

    @property
    def hash(self) -> str:
        """Hex SHA-256 over identifiers, sources and contents."""
        total = hashlib.sha256()
        for picture in sorted(self.pictures.values(), key=lambda one: one.id):
            total.update(f"{picture.id}\0{picture.source}\0{picture.sha256}\n".encode())
        return total.hexdigest()

    @property
    def source_of(self) -> dict[str, str]:
        """The source of each picture, by identifier."""
        return {picture.id: picture.source for picture in self.pictures.values()}

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each source."""
        return dict(Counter(picture.source for picture in self.pictures.values()))

    def read(self, identifier: str) -> bytes:
        """The file of a picture. UserError if it is missing or not the one that was taken in."""
        path = self.folder / "pictures" / f"{identifier}.png"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != self.pictures[identifier].sha256:
            raise UserError(f"{path} was changed after it was taken in; make the study again")
        return data


@dataclass
class Told:
    """What the intake did, to be told: nothing is left out in silence.

    pixels: of every picture; why: which picture decided that.
    counts: pictures taken in, by source.
    unreadable, too_small, twice: names left out, by reason.
    cropped, resized: how many pictures, by source.
    """

    pixels: int = 0
    why: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    too_small: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    cropped: Counter[str] = field(default_factory=Counter)
    resized: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The report, one fact a line."""
        lines = [f"{name}: {count:,} pictures" for name, count in self.counts.items()]
        lines.append(f"all pictures are {self.pixels}×{self.pixels} px{self.why}")
        for what, count in (("cropped to a square", self.cropped), ("resized", self.resized)):
            if count:
                lines.append(f"{what}: " + ", ".join(f"{n:,} of {name}" for name, n in sorted(count.items())))
        for what, names in (
            ("not readable", self.unreadable),
            ("too small", self.too_small),
            ("the same picture twice", self.twice),
        ):
            if names:
                shown = "; ".join(names[:3]) + (" …" if len(names) > 3 else "")
                lines.append(f"left out, {what}: {len(names):,} ({shown})")
        return lines


def take_in(
    folder: str | Path,
    sources: Iterable[Source],
    *,
    pixels: int | None = None,
    progress: Progress | None = None,
) -> tuple[Stimuli, Told]:
    """Write the pictures of all sources into ``folder`` and the record ``truth.json``; both are new.

    Every picture is cropped to its centre square and resized to the same number of pixels: ``pixels``, or
    without it the smallest side of all pictures, at most 1024, so that no picture is enlarged. With
    ``pixels``, smaller pictures are left out. All are written as RGB PNG with the same settings and without
    metadata, under random names.

    Raises:
        UserError: a source without pictures, the same picture in two sources, or files that cannot be
            written.
    """
    folder = Path(folder)
    # Originals wait as PNG in memory until the common size is known.
    told, kept = Told(), list[tuple[str, str, int, bytes]]()
    about: dict[str, dict[str, Any]] = {}
    seen: dict[str, tuple[str, str]] = {}
    for source in sources:
        about[source.name] = {**about.get(source.name, {}), **source.about}
        with opened(progress, f"reading {source.name}", source.count) as task:
            for name, image in source.pictures:
                task.advance(1)
                if isinstance(image, str):
                    told.unreadable.append(f"{source.name}/{name}: {image}")
                    continue
                side = min(image.size)
                if side < (pixels or SMALLEST):
                    told.too_small.append(f"{source.name}/{name}: {image.width}×{image.height}")
                    continue
                if image.width != image.height:
                    told.cropped[source.name] += 1
                image = _square(image)
                digest = hashlib.sha256(image.tobytes()).hexdigest()
                if digest in seen:
                    other, first = seen[digest]
                    if other != source.name:
                        raise UserError(f"{name} of {source.name} is the same picture as {first} of {other}")
                    told.twice.append(f"{source.name}/{name} is {first}")
                    continue
                seen[digest] = (source.name, name)
                kept.append((source.name, name, image.width, _png(image, 1)))
                if len(kept) > MAX_PICTURES:
                    raise UserError(f"more than {MAX_PICTURES:,} pictures; a study needs hundreds")
    for name in about:
        if not any(source == name for source, *_ in kept):
            left = [*told.unreadable, *told.too_small]
            raise UserError(f"{name}: no picture could be used" + (f" ({left[0]})" if left else ""))
    if pixels is None:
        source_name, name, width, _ = min(kept, key=lambda one: one[2])
        pixels = min(width, LARGEST)
        if pixels < max(one[2] for one in kept):
            smallest = f", because {name} of {source_name} is the smallest"
            told.why = smallest if width <= LARGEST else ", the most"
    told.pixels = pixels
    pictures: dict[str, Picture] = {}
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    secrets.SystemRandom().shuffle(kept)  # so that times of writing tell nothing
    with opened(progress, "writing pictures", len(kept)) as task:
        for source_name, name, width, original in kept:
            told.resized[source_name] += width != pixels
            data = encoded(Image.open(io.BytesIO(original)), pixels)
            identifier = secrets.token_hex(8)
            with files.replacing(folder / "pictures" / f"{identifier}.png") as unfinished:
                unfinished.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            pictures[identifier] = Picture(identifier, source_name, name, digest)
            task.advance(1)
    told.counts = dict(Counter(picture.source for picture in pictures.values()))
    told.counts = {name: told.counts[name] for name in about}
    told.resized = +told.resized
    stimuli = Stimuli(folder, pixels, pictures, about)
    _write(stimuli)
    return stimuli, told


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.convert("RGB").crop((left, top, left + side, top + side))


def encoded(image: Image.Image, pixels: int) -> bytes:
    """A square picture as the study's PNG: resized by Lanczos, RGB, no metadata.

    >>> data = encoded(Image.new("RGBA", (64, 64), "red"), 32)
    >>> Image.open(io.BytesIO(data)).size, Image.open(io.BytesIO(data)).info
    ((32, 32), {})
    """
    image = image.convert("RGB")
    if image.width != pixels:
        image = image.resize((pixels, pixels), Image.Resampling.LANCZOS)
    return _png(image, 6)


def _png(image: Image.Image, level: int) -> bytes:
    clean = Image.fromarray(np.asarray(image))  # pixels only: nothing that a reader may have left in `info`
    file = io.BytesIO()
    clean.save(file, format="PNG", compress_level=level)
    return file.getvalue()


_CHUNK = 12
"""Bytes of a PNG chunk besides its content: length, type, checksum."""


def padded(data: bytes, length: int) -> bytes:
    """A PNG of ``length`` bytes with the same pixels as ``data``: a private chunk is put before the end.

    The chunk's bytes look random, so that compression on the way cannot undo it. ``length`` must be at least
    ``len(data) + 12``.

    >>> data = encoded(Image.new("RGB", (8, 8)), 8)
    >>> len(padded(data, 500)), Image.open(io.BytesIO(padded(data, 500))).size
    (500, (8, 8))
    """
    room = length - len(data) - _CHUNK
    if room < 0 or data[-12:-8] != bytes(4) or data[-8:-4] != b"IEND":
        raise ValueError("not a PNG, or longer than the padded length")
    filler = hashlib.shake_128(data).digest(room)
    body = b"paDd" + filler
    chunk = struct.pack(">I", room) + body + struct.pack(">I", zlib.crc32(body))
    return data[:-12] + chunk + data[-12:]


def all_padded(stimuli: Stimuli) -> dict[str, bytes]:
    """Every picture of the study at one length, by identifier; UserError if a file was changed or is gone."""
    read = {identifier: stimuli.read(identifier) for identifier in stimuli.pictures}
    length = max(map(len, read.values()), default=0) + _CHUNK
    return {identifier: padded(data, length) for identifier, data in read.items()}


def _write(stimuli: Stimuli) -> None:
    plain = {
        "version": VERSION,
        "pixels": stimuli.pixels,
        "rule": PIXEL_RULE,
        "sources": stimuli.sources,
        "pictures": [
            {"id": one.id, "source": one.source, "original": one.original, "sha256": one.sha256}
            for one in sorted(stimuli.pictures.values(), key=lambda one: one.id)
        ],
    }
    with files.replacing(stimuli.folder / "truth.json", durable=True) as unfinished:
        unfinished.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_stimuli(folder: str | Path) -> Stimuli:
    """The pictures of the study in ``folder``, from its ``truth.json``.

    Raises UserError if the record is missing, damaged or of a newer version. The files themselves are read
    and checked by `Stimuli.read`.
    """
    path = Path(folder) / "truth.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is not a study (no truth.json); make one: omokage study new") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    try:
        if plain["version"] > VERSION:
            raise UserError(f"{path} is of version {plain['version']}; install a newer Omokage")
        pictures = {one["id"]: Picture(**one) for one in plain["pictures"]}
        if not all(isinstance(name, str) and name.isalnum() for name in pictures):
            raise ValueError("an identifier that is not one")
        return Stimuli(Path(folder), int(plain["pixels"]), pictures, dict(plain["sources"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from None


def read_metrics(folder: str | Path) -> dict[str, Mapping[str, float]]:
    """The table ``metrics.json``: source → metric → value; empty if there is none. UserError: damaged."""
    path = Path(folder) / "metrics.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {str(k): float(v) for k, v in its.items()} for name, its in plain.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a table of metrics by source: {error}") from None
