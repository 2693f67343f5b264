"""Files that want to do more than to hold numbers are refused, and nothing in them runs."""

import builtins
import io
import os
import pickle
import struct
import subprocess
import time
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from omokage.__main__ import main
from omokage.errors import UserError
from omokage.interop import unpickle
from omokage.interop.reader import StoredTensor, read_objects, values


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


def doubled(times: int, innermost: bytes = b"]") -> bytes:
    """Opcodes for a tuple of twice the same tuple, and so on: 2 to the power of ``times`` entries."""
    return innermost.replace(b"]", b"N") + b"\x85" + b"2\x86" * times


BOMBS = {
    "key": b"\x80\x02}" + doubled(100) + b"Ns.",
    "keys": b"\x80\x02}(" + doubled(100) + b"Nu.",
    "key of a dict": b"\x80\x02(" + doubled(100) + b"Nd.",
    "key of an OrderedDict": b"\x80\x02ccollections\nOrderedDict\n)R" + doubled(100) + b"Ns.",
    "pairs of an OrderedDict": b"\x80\x02ccollections\nOrderedDict\n](" + doubled(100) + b"N\x86e\x85R.",
    "member of a set": b"\x80\x04\x8f(" + doubled(100) + b"\x90.",
    "member of a frozenset": b"\x80\x04(" + doubled(100) + b"\x91.",
    "set of a list": b"\x80\x02c__builtin__\nset\n](" + doubled(100) + b"e\x85R.",
    "set of a text": b"\x80\x02c__builtin__\nset\n" + doubled(60) + b"\x85R.",
    "deep key": b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns.",
    "place": b"\x80\x02" + doubled(100) + b"Q.",
    "name": b"\x80\x04" + doubled(100) + b"\x8c\x01x\x93.",
    "magic": b"\x80\x02" + doubled(100) + b".",
    "size": b"\x80\x04" + stack_global("torch", "Size") + doubled(100) + b"\x85R" + b".",
    "state": b"\x80\x04" + stack_global("argparse", "Namespace") + b")R" + doubled(100) + b"b.",
    "module": b"\x80\x04"
    + stack_global("torch_utils.persistence", "_reconstruct_persistent_obj")
    + b"}(\x8c\x05state}\x8c\x0aclass_name"
    + doubled(100)
    + b"u\x85R.",
    "large key": b"\x80\x02}\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"Ns.",
    "colliding keys": b"\x80\x02}("
    + b"".join(b"\x8a\x14" + (i * (2**61 - 1)).to_bytes(20, "little") + b"N" for i in range(1, 30_000))
    + b"u.",
    "many instructions": b"\x80\x02" + b"N0" * 200_000 + b"N.",
    "many dicts": b"\x80\x02(" + b"}" * 200_000 + b"l.",
    "marks": b"\x80\x02" + b"(" * 200_000 + b".",
    "states again and again": b"\x80\x04"
    + stack_global("dnnlib.util", "EasyDict")
    + b")R}("
    + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(100_000))
    + b"uq\x00"
    + b"b" + b"h\x00b" * 100_000
    + b".",
    "letters of a text again and again": b"\x80\x04"
    + stack_global("torch", "Size")
    + b"q\x00X" + struct.pack("<I", 10**6) + b"x" * 10**6
    + b"\x85q\x01R" + b"0h\x00h\x01R" * 200_000
    + b".",
    "frames": b"\x80\x04" + b"\x95" + struct.pack("<Q", 2**62) + b"N.",
    "frames in frames": b"\x80\x04" + (b"\x95" + struct.pack("<Q", 4)) * 200_000 + b"N.",
    "array": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "buffer": b"\x80\x05\x97\x98.",
    "long line": b"(S'" + b"x" * 10**6,
    "text of digits": b"I" + b"9" * 10**6 + b"\n.",
    "memo": b"\x80\x04N" + b"\x94" * 200_000 + b".",
    "class of the old kind": b"(ccollections\nOrderedDict\no.",
    "instance": b"(icollections\nOrderedDict\n.",
    "extension": b"\x80\x02\x82\x01.",
}  # fmt: skip


HARMLESS = {"frames", "magic", "state", "module"}


@pytest.mark.parametrize("wrapped", ["plain", "zip"])
@pytest.mark.parametrize("name", BOMBS)
def test_small_files_do_not_take_long(tmp_path, monkeypatch, name, wrapped):
    monkeypatch.setattr(unpickle, "MAX_STEPS", 100_000)
    path = tmp_path / "weights.pkl"
    path.write_bytes(WRAPPED[wrapped](BOMBS[name]))
    started = time.process_time()
    if name in HARMLESS:
        read_objects(path)
    else:
        with pytest.raises(UserError) as caught:
            read_objects(path)
        assert len(str(caught.value)) < 400
    assert time.process_time() - started < 5


def test_the_limit_of_steps_is_far_from_what_weights_need_and_soon_reached(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02(" + b"}" * 3_000_000 + b"l.")
    with pytest.raises(UserError, match="500,000 instructions"):
        read_objects(path)
    many = {f"g.{i}.weight": torch.zeros(1) for i in range(3000)}
    torch.save(many, path)
    assert len(read_objects(path)) == 3000


def test_the_command_says_so_in_one_line(tmp_path, capsys):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02}" + doubled(100) + b"Ns.")
    assert path.stat().st_size < 300
    assert main(["import", str(path), "-o", str(tmp_path / "out.safetensors")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "a key that is not plain" in said
    assert not (tmp_path / "out.safetensors").exists()


def test_many_storages_of_the_same_bytes_are_refused(tmp_path):
    path = tmp_path / "weights.pkl"
    inner = older(storage_pickle(3, (3,), (1,)))  # small: what counts is how often
    load = b"ctorch.storage\n_load_from_bytes\nq\x00B" + struct.pack("<I", len(inner)) + inner + b"\x85q\x01R"
    path.write_bytes(b"\x80\x03" + load + b"h\x00h\x01R" * 1000 + b".")
    with pytest.raises(UserError, match="damaged"):
        read_objects(path)


def test_entries_of_a_zip_that_claim_the_same_bytes_are_refused(tmp_path):
    class Twice(pickle._Pickler):
        def persistent_id(self, found):
            return ("storage", torch.FloatStorage, found[1:], "cpu", 250_000) if found in KEYS else None

    held = io.BytesIO()
    Twice(held, 2).dump([[key] for key in KEYS])
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", held.getvalue())
        archive.writestr("archive/data/0", bytes(1_000_000))
        first = archive.getinfo("archive/data/0")
        for key in KEYS[1:]:
            copy = zipfile.ZipInfo(f"archive/data/{key[1:]}")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, field, getattr(first, field))
            archive.filelist.append(copy)
    with pytest.raises(UserError, match="damaged"):
        read_objects(path)


KEYS = [f"k{i}" for i in range(50)]


def test_more_tensors_than_their_storages_hold_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    tensor = torch.zeros(5_000_000)
    torch.save({f"{i}": tensor[i:] for i in range(20)}, path)
    with pytest.raises(ValueError, match="more tensors"):
        values(read_objects(path))
    torch.save({f"{i}": tensor[i:] for i in range(3)}, path)
    assert len(values(read_objects(path))) == 3


def test_names_in_files_cannot_write_on_the_terminal(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x04" + stack_global("os\n\x1b[2J", "system\r") + b".")
    with pytest.raises(UserError) as caught:
        read_objects(path)
    assert str(caught.value).isprintable()


def test_keys_that_files_do_have_are_read(tmp_path):
    path = tmp_path / "weights.pkl"
    held = {"a": 1, 2: "b", 3.5: None, None: True, (1, "x"): [2], b"c": {1, 2}, "d": frozenset({"e"})}
    for protocol in (2, 3, 4, 5):
        some = {k: v for k, v in held.items() if protocol > 3 or k not in (b"c", "d")}
        path.write_bytes(pickle.dumps(some, protocol))
        assert read_objects(path) == some
    path.write_bytes(pickle.dumps({"scale": np.float64(0.25), "n": np.int64(3), "on": np.bool_(True)}))
    assert read_objects(path) == {"scale": 0.25, "n": 3, "on": True}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "is a web page, not a model: "),
        (b"\n\n  <html lang='en'>", "is a web page, not a model: "),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><html>", "is a web page, not a model: "),
        (b"<Error><Code>AccessDenied</Code></Error>", "is text, not a model: "),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 381673535\n",
            "is a pointer of Git LFS, not a model: fetch the file itself with git lfs pull",
        ),
        (
            b"../../.git/annex/objects/xx/yy/SHA256E-s10--00.pkl/SHA256E",
            "is a pointer of git-annex, not a model",
        ),
        (b"", "is empty"),
        (b'{"error": "rate limit"}', "is text, not a model: "),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "is a picture, not a model: "),
        (struct.pack("<Q", 200) + b'{"__metadata__":{}}', "is a safetensors file, not a model: "),
        (b"\x1f\x8b\x08" + bytes(30), "is an archive, not a model: unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(30), "is an HDF5 file, not a model"),
        (b"%PDF-1.4\n", "is a PDF document, not a model"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, data, words):
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_objects(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "KeyError" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(UserError, match="not a regular file"):
        read_objects(tmp_path / "pipe.pkl")
    with pytest.raises(UserError, match="directory"):
        read_objects(tmp_path)
