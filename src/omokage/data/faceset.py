"""A face set: tar shards, `index.parquet` and `manifest.json` in one folder.

A shard is an ordinary `.tar.gz`, which tar, tarfile and WebDataset can read as a stream. Its deflate stream
is reset before every member (a "full flush"), so that a member can also be inflated alone, from its offset.
(A file with one gzip member per picture would be a valid `.tar.gz` too, but `tarfile`, and so WebDataset,
reads only the first.) Compression compensates for the tar header, which is large beside a picture of 3 kB.
"""

import hashlib
import io
import json
import os
import tarfile
import threading
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ..errors import UserError
from ..progress import Progress, opened
from .read import MAX_FILE_BYTES, MAX_PIXELS, cover, one_line, quiet
from .remote import url_of

KIND = "omokage face set"
FORMAT = 1
INDEX, MANIFEST, REJECTED, REPORT = "index.parquet", "manifest.json", "rejected.csv", "report.html"

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

GZIP_START = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LEVEL = 6
_OPEN_SHARDS = 128


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


class FaceSet:
    """A finished face set, opened with `FaceSet.open`. Safe to use from several threads.

    path: its folder.
    manifest: `manifest.json` as a dict: options, sources, counts, shards.
    content_hash: hex SHA-256 over keys and pictures; equal hashes mean equal faces in equal order.
    keys: one per picture, in natural order.
    index: the table with `COLUMNS` (and labels, if any), rows in the order of ``keys``.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], index: pa.Table) -> None:
        self.path, self.manifest, self.index = path, manifest, index
        self.content_hash: str = manifest["content_hash"]
        self.keys: list[str] = index["key"].to_pylist()
        self._shards = [path / shard["name"] for shard in manifest["shards"]]
        names = ("shard", "offset", "length", "bytes", "width", "height")
        self._numbers = {name: index[name].to_numpy() for name in names}
        self._digests = index["sha256"].combine_chunks()
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path) -> "FaceSet":
        """Open the face set in folder ``path``. One at a URL (``s3://...``) is downloaded to the cache first.

        Raises `UserError` if there is none, if it is unfinished, or if its files do not belong together.
        """
        if (url := url_of(path)) is not None:
            from .publish import fetch_face_set

            path = fetch_face_set(url)
        path = Path(path).expanduser()
        try:
            return _open(cls, path.resolve(), one_line(path))
        except PermissionError:
            raise UserError(f"no permission to read the face set {one_line(path)}") from None

    def __len__(self) -> int:
        return len(self.keys)

    def __del__(self) -> None:
        for handle in getattr(self, "_handles", {}).values():
            os.close(handle)

    def image_bytes(self, i: int) -> bytes:
        """The stored bytes of picture ``i``; `UserError` if they do not match their SHA-256."""
        return self.member(i)[0]

    def member(self, i: int) -> tuple[bytes, bytes, bytes]:
        """The bytes of picture ``i``, its whole tar member, and that member in its stored, deflated form."""
        i = range(len(self))[i]
        numbers = self._numbers
        shard, size = int(numbers["shard"][i]), int(numbers["bytes"][i])
        try:
            deflated = self._pread(shard, int(numbers["length"][i]), int(numbers["offset"][i]))
            end = 512 + size + -size % 512
            raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, end)
        except (OSError, zlib.error) as error:
            raise self._damaged(i, shard, one_line(error)) from None
        data = raw[512 : 512 + size]
        if len(data) != size or hashlib.sha256(data).digest() != self._digests[i].as_py():
            raise self._damaged(i, shard, "wrong checksum")
        return data, raw, deflated

    def image(self, i: int) -> Image.Image:
        """Picture ``i``, decoded, RGB, in its own size."""
        i = range(len(self))[i]
        try:
            with quiet():
                image = Image.open(io.BytesIO(self.image_bytes(i)), formats=("JPEG", "PNG", "WEBP"))
                if image.size != (self._numbers["width"][i], self._numbers["height"][i]):
                    raise self._damaged(i, int(self._numbers["shard"][i]), "not the size that the index says")
                return image.convert("RGB")
        except UserError:
            raise
        except Exception as error:
            raise self._damaged(i, int(self._numbers["shard"][i]), one_line(error)) from None

    def pixels(self, indices: Sequence[int] | np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
        """Pictures ``indices`` as uint8 (N, height, width, 3), resized by `read.RESIZE_RULE`.

        size: side of a square, or (height, width).
        """
        shape = _shape(size)
        out = np.empty((len(indices), *shape, 3), np.uint8)
        for row, i in enumerate(indices):
            out[row] = np.asarray(cover(self.image(int(i)), shape))
        return out

    def everything(
        self, size: int | tuple[int, int], progress: Progress | None = None, workers: int | None = None
    ) -> np.ndarray:
        """All pictures as uint8 (len, height, width, 3), like `pixels`, decoded by ``workers`` threads."""
        shape = _shape(size)
        try:
            out = np.empty((len(self), *shape, 3), np.uint8)
        except MemoryError:
            raise UserError(f"{len(self):,} faces of {shape[0]}×{shape[1]} do not fit into memory") from None
        # Read in the order on the disk.
        order = np.lexsort((self._numbers["offset"], self._numbers["shard"]))
        parts = np.array_split(order, max(1, len(order) // 64))

        def decode(part: np.ndarray) -> int:
            for i in part:
                out[i] = np.asarray(cover(self.image(int(i)), shape))
            return len(part)

        pool = ThreadPoolExecutor(workers or cores())
        try:
            with quiet(), opened(progress, "decoding faces", len(self)) as task:
                for n in pool.map(decode, parts):
                    task.advance(n)
        finally:
            pool.shutdown(cancel_futures=True)
        return out

    def _pread(self, shard: int, length: int, offset: int) -> bytes:
        handle = self._handles.get(shard)
        if handle is None:
            with self._lock:
                handle = self._handles.get(shard)
                if handle is None:
                    handle = os.open(self._shards[shard], os.O_RDONLY | os.O_CLOEXEC)
                    if len(self._handles) < _OPEN_SHARDS:
                        self._handles[shard] = handle
                        return os.pread(handle, length, offset)
            if shard not in self._handles:
                try:
                    return os.pread(handle, length, offset)
                finally:
                    os.close(handle)
        return os.pread(handle, length, offset)

    def _damaged(self, i: int, shard: int, why: str) -> UserError:
        place = f"face {one_line(self.keys[i])} in {self._shards[shard].name}"
        return UserError(f"{one_line(self.path)} is damaged at {place} ({why}): delete it and build it again")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shape(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if min(height, width) < 1:
        raise UserError(f"size {size} is impossible: give a positive number of pixels")
    return int(height), int(width)


def read_manifest(folder: Path, shown: str) -> dict[str, Any]:
    """The manifest of a face set; raises `UserError` if this version cannot read it."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        message = f"{shown} is not a face set (it has no {MANIFEST}): make one with `omokage build`"
        inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}") if is_face_set(path.parent))
        if inside:
            named = ", ".join(one_line(Path(shown) / name) for name in inside[:4])
            message = f"{shown} is a folder of face sets, name one of them: {named}"
        raise UserError(message) from None
    return parse_manifest(text, shown)


def is_face_set(path: str | Path) -> bool:
    """Whether ``path``, a local folder, is a finished face set. Only its manifest is checked."""
    try:
        parse_manifest((Path(path).expanduser() / MANIFEST).read_bytes(), "")
    except (OSError, ValueError, UserError):
        return False
    return True


def refuse_face_set(path: str | Path, instead: str) -> None:
    """Raises `UserError` if ``path`` is a face set. For places that take something else.

    instead: what the user can do; a part of the message.
    """
    if url_of(path) is None and is_face_set(path):
        raise UserError(f"{one_line(path)} is a face set already: {instead}")


def parse_manifest(text: bytes, shown: str) -> dict[str, Any]:
    """The manifest in the bytes of a `manifest.json`; raises `UserError` if this version cannot read it."""
    try:
        manifest = json.loads(text)
        good = manifest["kind"] == KIND and isinstance(manifest["content_hash"], str)
        newer = good and manifest["format"] > FORMAT
        names = [shard["name"] for shard in manifest["shards"]]
        # Names from a file are not trusted: they must not lead out of the folder.
        good = good and all(isinstance(n, str) and Path(n).name == n and n not in ("", "..") for n in names)
        good = good and all(isinstance(shard["bytes"], int) for shard in manifest["shards"])
        good = good and isinstance(manifest["counts"]["kept"], int)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = newer = False
    if newer:
        version = one_line(manifest.get("omokage"))
        raise UserError(f"{shown} was made by a newer omokage ({version}): update this one")
    if not good:
        raise UserError(f"{shown} is not a face set, or its {MANIFEST} is damaged: build it again")
    return manifest


def _open(cls: type[FaceSet], path: Path, shown: str) -> FaceSet:
    if not path.exists():
        if partial_folder(path).exists():
            raise UserError(f"{shown} is not finished: repeat its `omokage build` command to go on")
        raise UserError(f"there is no face set {shown}: make one with `omokage build`")
    manifest = read_manifest(path, shown)
    again = "delete the folder and build the face set again"
    for shard in manifest["shards"]:
        try:
            size = (path / shard["name"]).stat().st_size
        except FileNotFoundError:
            raise UserError(f"{shown} is damaged, {shard['name']} is missing: {again}") from None
        if size != shard["bytes"]:
            sizes = f"{size:,} bytes, not {shard['bytes']:,}"
            raise UserError(f"{shown} is damaged, {shard['name']} has {sizes}: {again}")
    try:
        index = pq.read_table(path / INDEX)
        fixed = index.select(list(COLUMNS)).cast(SCHEMA)
        keys, digests = fixed["key"].to_pylist(), fixed["sha256"].to_pylist()
        good = not any(column.null_count for column in fixed.columns)
        good = good and content_hash(keys, digests) == manifest["content_hash"] and _in_range(fixed, manifest)
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"{shown} is damaged, {INDEX}: {one_line(error.strerror)}: {again}") from None
    except Exception as error:  # pyarrow raises many kinds of errors for a damaged file
        message = f"{shown} is damaged, {INDEX} cannot be read ({one_line(error, 80)}): {again}"
        raise UserError(message) from None
    if not good:
        raise UserError(f"{shown} is damaged, {INDEX} does not belong to {MANIFEST}: {again}")
    return cls(path, manifest, index)


def _in_range(index: pa.Table, manifest: dict[str, Any]) -> bool:
    if index.num_rows != manifest["counts"]["kept"]:
        return False
    integers = [name for name, kind in COLUMNS.items() if pa.types.is_integer(kind)]
    n = {name: index[name].to_numpy().astype(np.int64) for name in integers}
    sizes = np.array([shard["bytes"] for shard in manifest["shards"]] or [0], np.int64)
    good = (n["shard"] >= 0) & (n["shard"] < len(manifest["shards"])) & (n["offset"] >= 0) & (n["length"] > 0)
    good &= (n["bytes"] > 0) & (n["bytes"] <= 4 * MAX_FILE_BYTES) & (n["width"] > 0) & (n["height"] > 0)
    good &= n["width"] * n["height"] <= MAX_PIXELS
    good &= n["offset"] <= sizes[np.clip(n["shard"], 0, len(sizes) - 1)] - n["length"]
    return bool(good.all())
