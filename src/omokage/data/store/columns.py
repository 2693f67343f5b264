"""The columns of an index: their names, their types and what they hold."""

import itertools

import pyarrow as pa
import pyarrow.compute as pc

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


def label_columns(index: pa.Table) -> list[str]:
    """The columns that not every face set has."""
    return [name for name in index.column_names if name not in COLUMNS]
