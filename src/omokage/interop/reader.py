"""Reads tensors from other people's pickles without executing any code in them.

A pickle is a program that may call anything it names. Here only a short list of names is allowed, and each
is replaced by a harmless stand-in that only stores its arguments. All other names are refused with an error.
Time and memory are limited too: see `unpickle`.
"""

import io
import os
import stat
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.text import one_line
from ..errors import UserError
from ..sniff import begins_like_picture, is_text, what_it_is
from .unpickle import Budget, Inert, Record, read_pickle

MAX_FILE_BYTES = 16 * 2**30
MAX_DIMENSIONS = 16
MAX_NETWORKS = 10_000  # networks within one network
MAX_VIEWS = 4  # tensors may have this many times the bytes of their storages (views overlap)

MAGIC = 0x1950A86A20F9469CFC6C  # the first object of torch.save's older format
DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Storage:
    """The numbers of a storage in the file; ``data`` is None until they are read."""

    def __init__(self, dtype: torch.dtype, count: Any, data: bytes | None = None) -> None:
        if not isinstance(count, int) or count < 0:
            raise ValueError("a storage without a size")
        self.dtype, self.count, self.data = dtype, count, data


class StoredTensor:
    """A tensor as the file describes it."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> None:
        if not isinstance(storage, Storage):
            raise ValueError("a tensor without a storage")
        if type(size) is not tuple or type(stride) is not tuple or len(size) > MAX_DIMENSIONS:
            raise ValueError("a tensor without a shape")
        numbers = [offset, *size, *stride]
        if len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise ValueError("a tensor without a shape")
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)

    def value(self) -> Tensor:
        """The tensor itself; ValueError if it reaches beyond its storage."""
        storage, entries = self.storage, prod(self.size)
        if entries == 0:
            return torch.zeros(self.size, dtype=storage.dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if storage.data is None or last >= storage.count or entries > storage.count:
            raise ValueError("a tensor larger than its storage")
        if len(storage.data) != storage.count * storage.dtype.itemsize:
            raise ValueError("a storage of another size than it says")
        flat = torch.frombuffer(bytearray(storage.data), dtype=storage.dtype)
        return flat.as_strided(self.size, self.stride, self.offset).clone()


class Kind(Inert):
    """Stands for ``numpy.dtype``. ``code``: like "f8", or empty."""

    def __init__(self, *arguments: Any) -> None:
        self.code = arguments[0] if arguments and isinstance(arguments[0], str) else ""


def _scalar(kind: Any = None, raw: Any = b"", *others: Any) -> Any:
    """Stands for a NumPy scalar: returns the number if its type is a usual one."""
    formats = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "?"}
    form = formats.get(kind.code) if isinstance(kind, Kind) else None
    if form is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(form):
        return Inert()
    return struct.unpack(form, raw)[0]


class Module:
    """Stands for a network that was pickled with its source code. The source code is ignored.

    Attributes:
        name: the name of its class.
        state: its attributes, such as ``_parameters``, ``_buffers`` and ``_modules``.
    """

    def __init__(self, meta: Any) -> None:
        if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
            raise ValueError("a network without a state")
        name = meta.get("class_name")
        self.name, self.state = name if isinstance(name, str) else "", meta["state"]

    def children(self) -> dict[str, Any]:
        """Its submodules, by name."""
        return _dictionary(self.state.get("_modules"))

    def tensors(self) -> dict[str, Tensor]:
        """Its parameters and buffers and those of all submodules, by their paths."""
        stored: dict[str, StoredTensor] = {}
        self._collect("", stored, [0], 0)
        return values(stored)

    def _collect(self, prefix: str, stored: dict[str, StoredTensor], seen: list[int], depth: int) -> None:
        seen[0] += 1
        if depth > 8 or seen[0] > MAX_NETWORKS:
            raise ValueError("networks within networks without end")
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _dictionary(self.state.get(kind)).items():
                if isinstance(tensor, StoredTensor):
                    stored[f"{prefix}{name}"] = tensor
        for name, child in self.children().items():
            if isinstance(child, Module):
                child._collect(f"{prefix}{name}.", stored, seen, depth + 1)


def values(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The tensors themselves; ValueError if they are much larger together than their storages."""
    storages = {id(tensor.storage): tensor.storage for tensor in stored.values()}
    held = sum(storage.count * storage.dtype.itemsize for storage in storages.values())
    drawn = sum(prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in stored.values())
    if drawn > MAX_VIEWS * held + 2**26:
        raise ValueError("more tensors than their storages hold")
    return {name: tensor.value() for name, tensor in stored.items()}


def _dictionary(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {key: entry for key, entry in value.items() if isinstance(key, str)}


def _storage_of(kind: str) -> type:
    """Stands for a storage type; calling it does nothing."""
    return type(kind, (Inert,), {"dtype": DTYPES[kind]})


def _nested_storage(data: Any) -> Any:
    """Stands for ``torch.storage._load_from_bytes``: a storage in torch.save's older format; see `_names`."""
    raise ValueError("a storage within a storage")


def _parameter(tensor: Any = None, *others: Any) -> Any:
    return tensor


def _ordered(*arguments: Any) -> OrderedDict[Any, Any]:
    """Stands for OrderedDict; its entries follow later in the pickle."""
    if arguments not in ((), ([],)):
        raise ValueError("a dict made of something else")
    return OrderedDict()


def _set(*arguments: Any) -> Any:
    """Stands for set, made from a list of plain members."""
    members = arguments[0] if arguments else []
    plain = (str, bytes, int, float, bool, type(None))
    if type(members) is not list or not all(type(member) in plain for member in members):
        raise ValueError("a set of things that are not plain")
    return set(members)


def _size(*arguments: Any) -> tuple[int, ...]:
    """Stands for torch.Size."""
    found = arguments[0] if arguments else ()
    if type(found) not in (tuple, list) or len(found) > MAX_DIMENSIONS:
        raise ValueError("a shape that is none")
    if not all(type(side) is int for side in found):
        raise ValueError("a shape that is none")
    return tuple(found)


# All names that a file may use, and the stand-in for each.
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("torch", "Size"): _size,
    ("torch", "device"): Inert,
    ("torch._utils", "_rebuild_tensor"): StoredTensor,
    ("torch._utils", "_rebuild_tensor_v2"): StoredTensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _nested_storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Module,
    ("dnnlib.util", "EasyDict"): Record,
    ("argparse", "Namespace"): Inert,
    **{("torch", kind): _storage_of(kind) for kind in DTYPES},
    **{("torch", str(dtype).removeprefix("torch.")): Inert for dtype in DTYPES.values()},
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("scalar", _scalar), ("_reconstruct", Inert))
    },
    ("numpy", "dtype"): Kind,
    ("numpy", "ndarray"): Inert,
}
NESTED = {key: value for key, value in ALLOWED.items() if value is not _nested_storage}


def read_objects(path: Path) -> Any:
    """The contents of the pickle or torch.save file ``path``, with stand-ins; no code in it is executed.

    Raises:
        UserError: the file names something that weights do not need, is of another kind, or is damaged.
    """
    data = _bytes(path)
    if (reason := _other(data[:1024])) is not None:
        raise UserError(f"{path} is {reason}")
    budget = Budget(len(data))
    try:
        file = io.BytesIO(data)
        if data.startswith(b"PK"):
            return _zipped(file, budget)
        first = _load(file, _names(budget), budget)
        if type(first) is int and first == MAGIC:
            file.seek(0)
            return _older(file, budget)
        return first
    except UserError as error:
        raise UserError(f"{path}: {one_line(error)}") from None
    # A hostile file can cause any error here.
    except Exception as error:
        why = one_line(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{path} is damaged, or neither a pickle nor a file of torch.save ({why})") from None


def _bytes(path: Path) -> bytes:
    try:
        # O_NONBLOCK: opening a named pipe must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path} is not a regular file; give a .pkl or .pt")
            if status.st_size > MAX_FILE_BYTES:
                raise UserError(f"{path} has {status.st_size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _other(start: bytes) -> str | None:
    """What the file is, in words, if it is neither a pickle nor a zip; None: it may be one."""
    if not start:
        return "empty (0 bytes)"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return None
    if (known := what_it_is(start)) is not None:
        name, hint = known
        if name == "a safetensors file":
            hint = "if omokage wrote it, it needs no import; else give the .pkl or .pt it was made of"
        elif name == "an archive":
            hint = "unpack it and give the .pkl or .pt in it"
        return f"{name}, not a model" + (f": {hint}" if hint else "")
    if begins_like_picture(start):
        return "a picture, not a model: give a .pkl or .pt"
    if start[:1] not in b"(]}cl.NIFLSVd" and is_text(start):
        return "text, not a model: give a .pkl or .pt"
    return None


def _names(budget: Budget) -> dict[tuple[str, str], Callable[..., Any]]:
    """`ALLOWED`, where nested storages count against ``budget``."""

    def nested_storage(data: Any = None, *others: Any) -> Any:
        if not isinstance(data, bytes):
            raise ValueError("a storage without bytes")
        budget.take(len(data))
        return _older(io.BytesIO(data), budget, nested=True)

    return {key: nested_storage if value is _nested_storage else value for key, value in ALLOWED.items()}


def _load(file: Any, names: Any, budget: Budget, persistent: Callable[[Any], Any] | None = None) -> Any:
    def none(pid: Any) -> Any:
        raise ValueError("a storage outside of a file of torch.save")

    return read_pickle(file, names, persistent or none, budget)


def _described(pid: Any) -> tuple[torch.dtype, str, int]:
    """Type, name and size of the storage that a torch.save file refers to."""
    if type(pid) is not tuple or len(pid) < 5:
        raise ValueError("a reference to something that is not a storage")
    word, kind, key, _, count, *_ = pid
    dtype = getattr(kind, "dtype", None)
    if word != "storage" or not isinstance(key, str) or not isinstance(dtype, torch.dtype):
        raise ValueError("a reference to something that is not a storage")
    return dtype, key, count


def _zipped(file: io.BytesIO, budget: Budget) -> Any:
    """torch.save's newer format: an uncompressed zip with a pickle and one file for each storage."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        whole = file.getbuffer().nbytes
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > whole:
                raise ValueError("compressed parts, which torch.save does not write")
        pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in it")
        root = pickles[0].removesuffix("data.pkl")

        def part(name: str) -> bytes:
            if name not in entries:
                raise ValueError(f"no part {name[:80]!r} in it")
            budget.take(entries[name].file_size)  # several entries may claim the same bytes
            return archive.read(entries[name])

        order = part(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
        if order != b"little":
            raise ValueError("numbers in big-endian order")
        known: dict[str, Storage] = {}

        def storage(pid: Any) -> Storage:
            dtype, key, count = _described(pid)
            if key not in known:
                known[key] = Storage(dtype, count, part(f"{root}data/{key}"))
            return known[key]

        return _load(io.BytesIO(part(pickles[0])), NESTED, budget, storage)


def _older(file: io.BytesIO, budget: Budget, nested: bool = False) -> Any:
    """torch.save's older format: several pickles, then the storages."""
    known: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        dtype, key, count = _described(pid)
        return known.setdefault(key, Storage(dtype, count))

    magic = _load(file, {}, budget)
    if type(magic) is not int or magic != MAGIC:
        raise ValueError("no file of torch.save")
    for _ in ("version", "system"):
        _load(file, {}, budget)
    held = _load(file, NESTED, budget, storage)
    keys = _load(file, {}, budget)
    if type(keys) is not list or not all(isinstance(key, str) and key in known for key in keys):
        raise ValueError("a list of storages that are not there")
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        if count != known[key].count:
            raise ValueError("a storage of another size than it says")
        known[key].data = file.read(count * known[key].dtype.itemsize)
    if nested and not isinstance(held, Storage):
        raise ValueError("something else where a storage should be")
    return held
