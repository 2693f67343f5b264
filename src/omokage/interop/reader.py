"""Reads tensors out of other people's pickles and executes nothing that stands in them.

A pickle is a program that may call whatever it names. Here it may name a short list of things, each of which
is replaced by a stand-in that only remembers what it was given; everything else is refused by name. Python's
own slow unpickler is used, because the fast one reserves memory for whatever place a file asks for.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import UserError

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
    """Numbers of one kind that lie in the file; ``data`` None until they are read."""

    def __init__(self, dtype: torch.dtype, count: Any, data: bytes | None = None) -> None:
        if not isinstance(count, int) or count < 0:
            raise ValueError("a storage without a size")
        self.dtype, self.count, self.data = dtype, count, data


class StoredTensor:
    """A tensor as the file describes it."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> None:
        if not isinstance(storage, Storage):
            raise ValueError("a tensor without a storage")
        numbers = [offset, *size, *stride]
        if len(size) != len(stride) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor without a shape")
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)

    def value(self) -> Tensor:
        """The tensor itself; ValueError where it reaches out of its storage."""
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


class Inert:
    """Stands for an object of a class that is not needed: takes anything, does nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class Record(dict):
    """Stands for a dict with attributes."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


class Module:
    """Stands for a network that was pickled with its source code, which is not looked at.

    Attributes:
        name: of its class.
        state: its attributes, among them ``_parameters``, ``_buffers`` and ``_modules``.
    """

    def __init__(self, meta: Any) -> None:
        if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
            raise ValueError("a network without a state")
        self.name, self.state = str(meta.get("class_name")), meta["state"]

    def children(self) -> dict[str, Any]:
        """Networks within it, by name."""
        return _dictionary(self.state.get("_modules"))

    def tensors(self, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
        """Its parameters and buffers and those of all within it, by their paths."""
        if depth > 8:
            raise ValueError("networks within networks without end")
        found = {}
        for kind in ("_parameters", "_buffers"):
            for name, stored in _dictionary(self.state.get(kind)).items():
                if isinstance(stored, StoredTensor):
                    found[f"{prefix}{name}"] = stored.value()
        for name, child in self.children().items():
            if isinstance(child, Module):
                found |= child.tensors(f"{prefix}{name}.", depth + 1)
        return found


def _dictionary(value: Any) -> dict[str, Any]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}


def _storage_of(kind: str) -> type:
    """Stands for a type of storage; calling it is of no use to a file."""
    return type(kind, (Inert,), {"dtype": DTYPES[kind]})


def _nested_storage(data: Any) -> Any:
    """Stands for ``torch.storage._load_from_bytes``: a storage in torch.save's older format."""
    if not isinstance(data, bytes):
        raise ValueError("a storage without bytes")
    return _older(io.BytesIO(data), nested=True)


def _parameter(tensor: Any, *others: Any) -> Any:
    return tensor


# Everything that a file may name, and what stands for it.
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): tuple,
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
        (module, name): Inert
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    },
    ("numpy", "dtype"): Inert,
    ("numpy", "ndarray"): Inert,
}
NESTED = {key: value for key, value in ALLOWED.items() if value is not _nested_storage}


class _Restricted(pickle._Unpickler):  # type: ignore[name-defined]
    """Python's unpickler with a list of what may be named."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(
        self, file: Any, allowed: dict[tuple[str, str], Callable[..., Any]], persistent: Callable[[Any], Any]
    ) -> None:
        super().__init__(file, encoding="latin1")
        self.allowed, self.persistent = allowed, persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise UserError(
                f"the file wants to use {module}.{name}, which no weights need; nothing was executed"
            )
        return self.allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return self.persistent(pid)

    def load_build(self) -> None:
        """As usual, but of stand-ins alone: nothing that exists in this process is changed."""
        if not isinstance(self.stack[-2], Inert | Record | OrderedDict):  # type: ignore[attr-defined]
            raise ValueError("a state for something that has none")
        state = self.stack.pop()  # type: ignore[attr-defined]
        if not isinstance(self.stack[-1], OrderedDict):  # type: ignore[attr-defined]
            self.stack[-1].__setstate__(state)  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build


def read_objects(path: Path) -> Any:
    """What the pickle or torch.save file ``path`` holds, with stand-ins; nothing of it is executed.

    Raises:
        UserError: it names something that weights do not need, or is no such file, or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        file = io.BytesIO(data)
        if data.startswith(b"PK"):
            return _zipped(file)
        first = _load(file, ALLOWED)
        if first == MAGIC:
            file.seek(0)
            return _older(file)
        return first
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # A file decides what goes wrong here, so it may be anything.
    except Exception as error:
        why = f"{type(error).__name__}: {error}"[:200]
        raise UserError(f"{path} is damaged, or neither a pickle nor a file of torch.save ({why})") from None


def _load(file: Any, allowed: Any, persistent: Callable[[Any], Any] | None = None) -> Any:
    def none(pid: Any) -> Any:
        raise ValueError("a storage outside of a file of torch.save")

    return _Restricted(file, allowed, persistent or none).load()


def _described(pid: Any) -> tuple[torch.dtype, str, int]:
    """Kind, name and size of the storage that a file of torch.save refers to."""
    word, kind, key, _, count, *_ = pid
    if word != "storage" or not isinstance(key, str) or not hasattr(kind, "dtype"):
        raise ValueError("a reference to something that is no storage")
    return kind.dtype, key, count


def _zipped(file: io.BytesIO) -> Any:
    """torch.save's newer format: a zip file of a pickle and of a file for each storage, none compressed."""
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
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
        if order != b"little":
            raise ValueError("numbers in big-endian order")
        known: dict[str, Storage] = {}

        def storage(pid: Any) -> Storage:
            dtype, key, count = _described(pid)
            if key not in known:
                known[key] = Storage(dtype, count, archive.read(f"{root}data/{key}"))
            return known[key]

        return _load(io.BytesIO(archive.read(pickles[0])), NESTED, storage)


def _older(file: io.BytesIO, nested: bool = False) -> Any:
    """torch.save's older format: pickles one after the other, then the storages."""
    known: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        dtype, key, count = _described(pid)
        return known.setdefault(key, Storage(dtype, count))

    if _load(file, {}) != MAGIC:
        raise ValueError("no file of torch.save")
    for _ in ("version", "system"):
        _load(file, {})
    held = _load(file, NESTED, storage)
    for key in _load(file, {}):
        count = int.from_bytes(file.read(8), "little")
        if count != known[key].count:
            raise ValueError("a storage of another size than it says")
        known[key].data = file.read(count * known[key].dtype.itemsize)
    if nested and not isinstance(held, Storage):
        raise ValueError("something else where a storage should be")
    return held
