"""A face set, read: its index, its pictures, its pixels."""

import hashlib
import io
import os
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ...errors import UserError
from ...progress import Progress, opened
from ..engines.processes import cores
from ..sources.places import url_of
from ..steps.read import MAX_FILE_BYTES, MAX_PIXELS, cover, quiet
from ..text import one_line
from .columns import COLUMNS, SCHEMA
from .format import INDEX, MANIFEST, content_hash, partial_folder
from .manifest import read_manifest

_OPEN_SHARDS = 128


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

    def subset(self, rows: np.ndarray, derived: dict[str, Any]) -> "FaceSet":
        """The faces in ``rows``, in ascending order, as a face set in memory; nothing is copied.

        derived: how they were chosen; the entry `derived` of its manifest.
        """
        index = self.index.take(pa.array(np.sort(rows)))
        digest = content_hash(index["key"].to_pylist(), index["sha256"].to_pylist())
        counts = {**self.manifest["counts"], "kept": len(index)}
        manifest = {**self.manifest, "content_hash": digest, "counts": counts, "derived": derived}
        return FaceSet(self.path, manifest, index)

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


def _shape(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if min(height, width) < 1:
        raise UserError(f"size {size} is impossible: give a positive number of pixels")
    return int(height), int(width)


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
