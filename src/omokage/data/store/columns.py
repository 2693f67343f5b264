"""The columns of an index: their names, their types and what they hold."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..sources.names import YEAR, YEAR_IN_NAMES
from ..steps.clean import CRITERIA

COLUMNS = {
    "key": pa.string(),  # unique; name of the member in the shard without its extension
    "shard": pa.int32(),  # number in the manifest's list of shards
    "offset": pa.int64(),  # where the deflated member begins in the shard
    "length": pa.int32(),  # its deflated bytes, tar header and padding included
    "bytes": pa.int32(),  # bytes of the picture itself
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),  # jpg, png or webp
    "done": pa.string(),  # what was done to the picture, "" if its bytes are unchanged
    "source": pa.string(),  # name of the folder or archive it came from
    "file": pa.string(),  # its name there
    "sha256": pa.binary(32),  # of the picture's bytes
}
SCHEMA = pa.schema(list(COLUMNS.items()))

_numbers = {name: pa.float32() for name in CRITERIA}
EXTRA = {
    "frame": pa.int32(),  # of an animation, from 1, if several frames were asked for
    "face": pa.int16(),  # number of the face in its picture, from 1, highest score first
    "face_x": pa.float32(), "face_y": pa.float32(), "face_width": pa.float32(), "face_height": pa.float32(),
    "score": pa.float32(), "tilt": pa.float32(),
    "crop_x": pa.float32(), "crop_y": pa.float32(), "crop_width": pa.int32(), "crop_height": pa.int32(),
    "crop_angle": pa.float32(),
    **_numbers,
    "tags": pa.string(), "rating": pa.string(), "artist": pa.string(), "license": pa.string(),
    "url": pa.string(),
    "hair": pa.string(), "hair_from": pa.string(), "hair_confidence": pa.float32(),
    "eyes": pa.string(), "eyes_from": pa.string(), "eyes_confidence": pa.float32(),
    "picture_sha256": pa.string(), "picture_md5": pa.string(),
}  # fmt: skip
"""Columns of a kept face, in addition to those of every face set."""

FOUND = {
    "source": pa.string(), "file": pa.string(), "key": pa.string(),
    **{name: EXTRA[name] for name in itertools.takewhile(lambda n: n != "tags", EXTRA)},
    # Full precision: boxes that are used again must give the same pixels.
    **dict.fromkeys(("face_x", "face_y", "face_width", "face_height", "score", "tilt"), pa.float64()),
    "face_score": pa.float64(),
    "step": pa.string(), "reason": pa.string(),
}  # fmt: skip
"""Columns of `detected.parquet`: every face that was found, kept or not."""

OF_FACES = ("hair", "eyes")
ESTIMATED = {
    f"{of}{what}": kind
    for of in OF_FACES
    for what, kind in (("", pa.string()), ("_from", pa.string()), ("_confidence", pa.float32()))
}
"""Columns of estimated colours in the index of a set built with ``as_faces``."""
ESTIMATES = {name: kind for name, kind in ESTIMATED.items() if not name.endswith("_from")}


ABOUT = {
    "key": "name of the face; unique, also the name of its file in the shard",
    "shard": "number of its shard",
    "offset": "where it begins in the shard, in bytes",
    "length": "bytes that it takes there, compressed, with its tar header",
    "bytes": "bytes of the picture",
    "width": "width in pixels",
    "height": "height in pixels",
    "format": "jpg, png or webp",
    "done": "what was done to the picture; empty if its bytes are those of the file",
    "source": "name of the folder or archive that it came from",
    "file": "name of the file there",
    "sha256": "SHA-256 of the picture's bytes",
    "frame": "frame of the animation, from 1, if several were asked for",
    "face": "number of the face in its picture, from 1, highest score first",
    "face_x": "left edge of the face's box, in pixels of the picture",
    "face_y": "upper edge of the face's box",
    "face_width": "width of the face's box",
    "face_height": "height of the face's box",
    "score": "how sure the detector is, 0 to 1",
    "tilt": "degrees by which the face is turned",
    "crop_x": "centre of the crop from the left, in pixels of the picture",
    "crop_y": "centre of the crop from above",
    "crop_width": "width of the crop in pixels of the picture",
    "crop_height": "height of the crop",
    "crop_angle": "degrees by which the crop was turned",
    **{name: criterion.about for name, criterion in CRITERIA.items()},
    "tags": "tags of the picture, joined by a bar",
    "rating": "general, sensitive, questionable or explicit",
    "artist": "who drew the picture; several joined by a bar",
    "license": "licence of the picture",
    "url": "page of the picture",
    "hair": "colour of the hair",
    "hair_from": "who said so: table, tags or network",
    "hair_confidence": "how sure the network is, 0 to 1",
    "eyes": "colour of the eyes",
    "eyes_from": "who said so: table, tags or network",
    "eyes_confidence": "how sure the network is, 0 to 1",
    "picture_sha256": "SHA-256 of the whole illustration",
    "picture_md5": "MD5 of the whole illustration, by which boards name pictures",
    YEAR: "year that names of files like INDEX_YEAR.jpg carry, where no other column is called so",
}
"""A few words on each column."""


def has_column(index: pa.Table, name: str) -> bool:
    """Whether ``index`` has the column, or its file names carry it (`YEAR`); some thousand are looked at."""
    if name in index.column_names or name != YEAR:
        return name in index.column_names
    some = index.slice(0, 10_000)
    return _years(some).null_count < len(some)


def column(index: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of ``index``, or the one that its file names carry.

    >>> column(pa.table({"file": ["7_2004.jpg", "8.jpg"]}), "year").to_pylist()
    [2004, None]
    """
    return index[name] if name in index.column_names else _years(index)


def _years(index: pa.Table) -> pa.ChunkedArray:
    found = pc.extract_regex(index["file"], YEAR_IN_NAMES)
    return pc.struct_field(found, YEAR).cast(pa.int16())


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """``column`` as strings: "" for null, hex digits for hashes."""
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.chunked_array([pa.array([v.hex() if v else "" for v in column.to_pylist()], pa.string())])
    try:
        return pc.fill_null(pc.cast(column, pa.string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # lists and other nested types
        values = ["" if v is None else str(v) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.string())])


def is_numeric(column: pa.ChunkedArray) -> bool:
    """Whether a column holds numbers."""
    return pa.types.is_integer(column.type) or pa.types.is_floating(column.type)


def as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """``column`` as float64 (N,), NaN for null. Texts are read as numbers.

    Raises `pyarrow.ArrowInvalid` for a text that is none.
    """
    return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)


def label_columns(index: pa.Table) -> list[str]:
    """The columns that not every face set has."""
    return [name for name in index.column_names if name not in COLUMNS]
