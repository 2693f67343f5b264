"""The files of a face set, and their bytes.

A shard is an ordinary `.tar.gz`, which tar, tarfile and WebDataset can read as a stream. Its deflate stream
is reset before every member (a "full flush"), so that a member can also be inflated alone, from its offset.
(A file with one gzip member per picture would be a valid `.tar.gz` too, but `tarfile`, and so WebDataset,
reads only the first.) Compression compensates for the tar header, which is large beside a picture of 3 kB.
"""

import csv
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...files import replacing

KIND = "omokage face set"
FORMAT = 1
INDEX, MANIFEST, REJECTED, REPORT = "index.parquet", "manifest.json", "rejected.csv", "report.html"

GZIP_START = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LEVEL = 6


def tar_member(name: str, data: bytes) -> bytes:
    """Header, data and padding of one tar member. The same input gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict") + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def deflate_member(raw: bytes) -> bytes:
    """``raw`` deflated, independent of the data before it, and open to further data after it."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(raw) + deflater.flush(zlib.Z_FULL_FLUSH)


def shard_end(crc: int, size: int) -> bytes:
    """The last bytes of a shard. crc, size: of all its members before compression (CRC-32, bytes)."""
    blocks = bytes(2 * tarfile.BLOCKSIZE)
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    crc, size = zlib.crc32(blocks, crc), (size + len(blocks)) % 2**32
    trailer = crc.to_bytes(4, "little") + size.to_bytes(4, "little")
    return deflater.compress(blocks) + deflater.flush() + trailer


def content_hash(keys: Iterable[str], digests: Iterable[bytes]) -> str:
    """Hex SHA-256 over all pictures in order: of each its key, a zero byte, and the SHA-256 of its bytes."""
    total = hashlib.sha256()
    for key, digest in zip(keys, digests, strict=True):
        total.update(key.encode() + b"\0" + digest)
    return total.hexdigest()


def partial_folder(out: Path) -> Path:
    """The folder of the face set ``out`` until it is finished."""
    return out.parent / f".{out.name}.partial"


def shard_name(number: int) -> str:
    """The file name of a face set's shard ``number``, from 0."""
    return f"faces-{number:06d}.tar.gz"


def json_bytes(value: object) -> bytes:
    """``value`` as readable JSON. The same value gives the same bytes."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def parquet_bytes(table: pa.Table) -> bytes:
    """An index as Parquet. The same table gives the same bytes."""
    out = io.BytesIO()
    plain = ["key", "offset", "length", "bytes", "file", "sha256"]  # a dictionary does not help unique values
    dictionary = [name for name in table.column_names if name not in plain]
    options = {"compression": "zstd", "compression_level": 9, "write_statistics": False}
    pq.write_table(table, out, use_dictionary=dictionary, **options)
    return out.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    with replacing(path, locked=True, durable=True) as unfinished:
        unfinished.write_bytes(data)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, so that they survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rejected_csv(rows: Iterable[Sequence[Any]], columns: Sequence[str] = ("file", "reason")) -> bytes:
    """The bytes of `rejected.csv`: what was left out, and why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
