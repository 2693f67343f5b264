"""Files that want to do more than to hold numbers are refused, and nothing in them runs."""

import builtins
import io
import os
import pickle
import struct
import subprocess
import tracemalloc
import zipfile
from collections import OrderedDict

import pytest
import torch

from omokage.errors import UserError
from omokage.interop.reader import StoredTensor, read_objects


class Reduced:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def zipped(data: bytes, **others: bytes) -> bytes:
    """A file like those of torch.save around the pickle ``data``."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in others.items():
            archive.writestr(f"archive/{name.replace('_', '/')}", content)
    return held.getvalue()


def older(data: bytes) -> bytes:
    """torch.save's older format around the pickle ``data``."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(entry, 2) for entry in head) + data + pickle.dumps([], 2)


def calls(marker):
    """Ways to write the file ``marker``, and the name that each needs."""
    write = f"open({str(marker)!r}, 'w').close()"
    return {
        "posix.system": Reduced(os.system, f"touch {marker}"),
        "builtins.eval": Reduced(eval, write),
        "builtins.exec": Reduced(exec, write),
        "io.open": Reduced(open, str(marker), "w"),
        "subprocess.Popen": Reduced(subprocess.Popen, ["touch", str(marker)]),
        "builtins.getattr": Reduced(getattr, "text", "upper"),
        "builtins.__import__": Reduced(builtins.__import__, "os"),
        "torch.serialization.load": Reduced(torch.load, str(marker)),
        "torch.serialization._load": Reduced(torch.serialization._load, str(marker)),
    }


WRAPPED = {"plain": lambda data: data, "zip": zipped, "older": older}
NAMES = list(calls("x"))


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_is_not_needed_is_refused_by_name_and_does_not_run(tmp_path, name, wrapped, protocol):
    marker, path = tmp_path / "ran", tmp_path / "weights.pkl"
    hostile = {"weights": [1, 2], "G_ema": calls(marker)[name]}
    path.write_bytes(WRAPPED[wrapped](pickle.dumps(hostile, protocol)))
    with pytest.raises(UserError) as caught:
        read_objects(path)
    old = {"builtins": "__builtin__", "subprocess": "commands"} if protocol == 2 else {}
    module, _, last = name.rpartition(".")
    named = f"{old.get(module, module)}.{last}"
    assert f"{named}," in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_the_same_files_do_run_where_nobody_takes_care(tmp_path):
    """So the test above tests something."""
    for name in ("posix.system", "builtins.eval", "builtins.exec", "io.open"):
        marker = tmp_path / name
        pickle.loads(pickle.dumps(calls(marker)[name]))
        assert marker.exists()


def stack_global(module: str, name: str) -> bytes:
    """Opcodes that name something, in the way of protocol 4."""
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("collections", "OrderedDict.__init__"),
        ("collections", "abc.sys.modules"),
        ("builtins", "set.__class__"),
        ("torch", "os.system"),
        ("torch.storage", "io"),
    ],
)
def test_chains_of_attributes_are_refused(tmp_path, module, name):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x04" + stack_global(module, name) + b".")
    with pytest.raises(UserError, match=rf"wants to use {module}\.{name}"):
        read_objects(path)


def test_a_hostile_file_in_a_storage_in_a_file_is_refused(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "weights.pkl"
    inner = older(pickle.dumps(Reduced(os.system, f"touch {marker}"), 2))
    path.write_bytes(pickle.dumps(Reduced(torch.storage._load_from_bytes, inner)))
    with pytest.raises(UserError, match=r"posix\.system"):
        read_objects(path)
    twice = older(pickle.dumps(Reduced(torch.storage._load_from_bytes, inner), 2))
    path.write_bytes(pickle.dumps(Reduced(torch.storage._load_from_bytes, twice)))
    with pytest.raises(UserError, match="_load_from_bytes"):  # not within itself
        read_objects(path)
    assert not marker.exists()


def test_classes_of_this_process_cannot_be_changed(tmp_path):
    """A state for the class OrderedDict, or for a stand-in's class, in place of an object."""
    path = tmp_path / "weights.pkl"
    for module, name in (
        ("collections", "OrderedDict"),
        ("argparse", "Namespace"),
        ("dnnlib.util", "EasyDict"),
    ):
        state = pickle.dumps({"update": 1, "__setstate__": 2}, 4)[2:-1]
        if state[:1] == b"\x95":  # its frame
            state = state[9:]
        path.write_bytes(b"\x80\x04" + stack_global(module, name) + state + b"b.")
        with pytest.raises(UserError, match="damaged"):
            read_objects(path)
    assert callable(OrderedDict.update)


TENSOR = stack_global("torch._utils", "_rebuild_tensor_v2")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",  # bytes of an exabyte
        b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",  # a text of one
        b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b"0.",  # a place far out in the memo
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",  # a number of 2 GB
        b"\x80\x04I" + b"9" * 5000 + b"\n.",  # a number that takes long to read
    ],
)
def test_huge_demands_are_refused_without_the_memory(tmp_path, data):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"damaged|neither"):
            read_objects(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def storage_pickle(count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A pickle of a tensor in the storage 0 of a zip file."""

    the_storage = object()

    class Pickler(pickle._Pickler):
        def persistent_id(self, found):
            return ("storage", torch.FloatStorage, "0", "cpu", count) if found is the_storage else None

    held = io.BytesIO()
    Pickler(held, 2).dump(
        Reduced(torch._utils._rebuild_tensor_v2, the_storage, offset, size, stride, False, OrderedDict())
    )
    return held.getvalue()


def test_a_tensor_lies_within_its_storage(tmp_path):
    path = tmp_path / "weights.pt"
    numbers = struct.pack("<6f", *range(6))

    def stored(*described):
        path.write_bytes(zipped(storage_pickle(*described), data_0=numbers))
        return read_objects(path).value()

    assert stored(6, (2, 3), (3, 1)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert stored(6, (2,), (2,), 1).tolist() == [1, 3]
    for described in (
        (6, (7,), (1,)),
        (6, (2, 3), (3, 2)),
        (6, (2,), (1,), 5),
        (7, (7,), (1,)),
        (6, (2**40,), (0,)),
        (2**40, (2**40,), (1,)),
    ):
        with pytest.raises(ValueError, match="storage"):
            stored(*described)
    for described in ((6, (-1,), (1,)), (6, (2,), (-1,)), (6, (2, 3), (1,)), (-6, (1,), (1,))):
        with pytest.raises(UserError, match="damaged"):
            stored(*described)


def test_compressed_parts_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N." + bytes(10_000_000))
    with pytest.raises(UserError, match="compressed"):
        read_objects(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"hello", b"\x80\x04", b"\x80\x04.", bytes(100)])
def test_other_files_are_refused_in_one_line(tmp_path, data):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_objects(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        read_objects(tmp_path / "none.pkl")


@pytest.mark.parametrize("newer", [True, False])
def test_tensors_of_torch_save_come_back(tmp_path, newer):
    path = tmp_path / "weights.pt"
    torch.manual_seed(0)
    tensors = OrderedDict(
        a=torch.randn(3, 4).T,
        b=torch.arange(5),
        c=torch.randn(2).half(),
        d=torch.nn.Parameter(torch.ones(())),
    )
    tensors["e"] = tensors["a"][1:]
    torch.save({"held": tensors}, path, _use_new_zipfile_serialization=newer)
    found = read_objects(path)["held"]
    assert all(isinstance(entry, StoredTensor) for entry in found.values())
    for name, tensor in tensors.items():
        assert torch.equal(found[name].value(), tensor)
        assert found[name].value().dtype == tensor.dtype
    path.write_bytes(pickle.dumps({"held": tensors}))  # each with a file of torch.save within
    for name, stored in read_objects(path)["held"].items():
        assert torch.equal(stored.value(), tensors[name])
