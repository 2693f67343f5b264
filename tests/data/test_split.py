import json
import shutil
import subprocess
import sys
import tarfile
import textwrap
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from omokage.data.build import build
from omokage.data.derive import split as splitting
from omokage.data.derive.signatures import signatures
from omokage.data.derive.split import split
from omokage.data.store import shards
from omokage.data.store.faceset import FaceSet
from omokage.data.store.format import partial_folder
from omokage.errors import UserError


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def forty(make_set, encode, drawing):
    """40 drawings, of which 8 come twice, at another quality; artists of 6; another six share one pair."""
    pictures = {f"{i}.jpg": encode(drawing(i), quality=92) for i in range(40)}
    pictures |= {f"copy-{i}.jpg": encode(drawing(i), quality=60) for i in range(8)}
    names = {
        "10.jpg": "Ann",
        "11.jpg": "ann ",
        "12.jpg": "Bo|Cy",
        "13.jpg": "Cy",
        "14.jpg": "Di",
        "15.jpg": "Di",
    }
    labels = {name: {"artist": artist, "series": name[:1]} for name, artist in names.items()}
    return make_set("set", pictures, labels)


def test_nothing_of_one_side_is_on_the_other(forty, tmp_path):
    whole = FaceSet.open(forty)
    report = split(forty, tmp_path / "out", holdout=0.25, seed=3)
    train, held = (FaceSet.open(tmp_path / "out" / name) for name in ("train", "heldout"))
    assert (report.train, report.heldout) == (len(train), len(held)) == (36, 12)
    assert report.groups == 40 - 3
    assert sorted(train.keys + held.keys) == sorted(whole.keys)
    side = {key: "train" for key in train.keys} | {key: "held" for key in held.keys}
    for i in range(8):
        assert side[str(i)] == side[f"copy-{i}"]
    for a, b in (("10", "11"), ("12", "13"), ("14", "15")):
        assert side[a] == side[b]
    at = {key: i for i, key in enumerate(whole.keys)}
    for part in (train, held):
        rows = whole.index.take([at[key] for key in part.keys])
        assert part.index.drop_columns(["shard", "offset", "length"]).equals(
            rows.drop_columns(["shard", "offset", "length"])
        )
        assert [part.image_bytes(i) for i in range(len(part))] == [
            whole.image_bytes(at[key]) for key in part.keys
        ]
        told = part.manifest["split"]
        assert told.pop("groups")["number"] == 37
        assert told == {"of": whole.content_hash, "part": part.path.name, "holdout": 0.25, "seed": 3}
        with tarfile.open(part.path / "faces-000000.tar.gz") as shard:
            assert [member.name for member in shard] == [f"{key}.jpg" for key in part.keys]


def test_the_same_again_and_another_seed(forty, tmp_path):
    first = split(forty, tmp_path / "a", holdout=0.25)
    again = split(forty, tmp_path / "b", holdout=0.25, workers=1)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert not again.already
    assert split(forty, tmp_path / "a", holdout=0.25).already
    with pytest.raises(UserError, match=r"there already.*another folder with -o"):
        split(forty, tmp_path / "a", holdout=0.25, seed=1)
    assert first.heldout == 12
    split(forty, tmp_path / "c", holdout=0.25, seed=1)
    assert FaceSet.open(tmp_path / "a/heldout").keys != FaceSet.open(tmp_path / "c/heldout").keys


def test_any_column_can_stay_together(forty, tmp_path):
    report = split(forty, tmp_path / "out", holdout=0.25, together=["series"])
    sides = [
        FaceSet.open(tmp_path / "out" / name).index["series"].to_pylist() for name in ("train", "heldout")
    ]
    assert report.together == ["series"]
    assert not ({v for v in sides[0] if v} & {v for v in sides[1] if v})
    with pytest.raises(UserError, match="no column 'serie': did you mean 'series'"):
        split(forty, tmp_path / "no", together=["serie"])


def test_sources_stay_together_only_where_there_are_many(tmp_path, encode, drawing):
    for i in range(24):
        (tmp_path / f"s{i}").mkdir()
        for j in range(2):
            (tmp_path / f"s{i}" / f"{j}.jpg").write_bytes(encode(drawing(100 * i + j)))
    build([tmp_path / f"s{i}" for i in range(24)], tmp_path / "set", as_faces=True)
    assert split(tmp_path / "set", tmp_path / "out", holdout=0.25).together == ["source"]
    index = [FaceSet.open(tmp_path / "out" / name).index for name in ("train", "heldout")]
    assert not set(index[0]["source"].to_pylist()) & set(index[1]["source"].to_pylist())
    assert split(tmp_path / "set", tmp_path / "none", holdout=0.25, together=[]).together == []


def test_the_order_of_rows_does_not_matter_and_groups_are_fairly_drawn():
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(4000), draw.integers(1, 6, 4000))
    digests = [draw.bytes(32) for _ in groups]
    shuffled = draw.permutation(len(groups))
    held = splitting.held_out(pa.chunked_array([digests], pa.binary(32)), groups, 0.2, 5)
    other = splitting.held_out(
        pa.chunked_array([[digests[i] for i in shuffled]], pa.binary(32)), groups[shuffled], 0.2, 5
    )
    assert (held[shuffled] == other).all()
    assert held.sum() == round(0.2 * len(groups))
    sizes = np.bincount(groups)
    for size in range(1, 6):
        share = held[np.cumsum(sizes)[sizes == size] - 1].mean()
        assert 0.14 < share < 0.26


def test_pairs_that_hashing_misses_do_not_cross(forty, tmp_path, monkeypatch):
    monkeypatch.setattr(splitting, "TABLES", 0)  # hashing finds nothing at all
    split(forty, tmp_path / "out", holdout=0.25)
    train, held = (FaceSet.open(tmp_path / "out" / name) for name in ("train", "heldout"))
    side = {key: "train" for key in train.keys} | {key: "held" for key in held.keys}
    assert all(side[str(i)] == side[f"copy-{i}"] for i in range(8))
    assert len(held) == 12
    assert train.manifest["split"]["groups"]["number"] < 48 - 3


def test_what_joins_rows(drawing):
    columns = {
        "source": ["a", "a", "b", "b", "c", "c"],
        "file": ["1", "1", "1", "2", "3", "4"],
        "artist": [None, "", "Ann|Bo", "Cy", "bo", "cy"],
        "picture_sha256": ["x", None, None, "y", "", "y"],
        "year": pa.array([1, 2, 3, 3, None, None], pa.int32()),
    }
    index, rows = pa.table(columns), signatures(drawing(i) for i in range(6))
    assert splitting.split_groups(index, rows).tolist() == [0, 0, 1, 2, 3, 2]
    assert splitting.split_groups(index, rows, ["artist"]).tolist() == [0, 0, 1, 2, 1, 2]
    assert splitting.split_groups(index, rows, ["year"]).tolist() == [0, 0, 1, 1, 2, 1]


@pytest.mark.parametrize("holdout", [0, 1, -0.1, 1.5, float("nan")])
def test_impossible_shares_are_refused(forty, tmp_path, holdout):
    with pytest.raises(UserError, match=r"holdout .* is impossible"):
        split(forty, tmp_path / "out", holdout=holdout)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_held_out_is_said_and_nothing_is_left(forty, tmp_path):
    with pytest.raises(UserError, match="another --holdout"):
        split(forty, tmp_path / "out", holdout=0.001)
    assert not (tmp_path / "out").exists()
    assert not partial_folder(tmp_path / "out").exists()


def test_foreign_targets_are_not_touched(forty, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, told in (("full", "not empty"), ("file", "is a file")):
        with pytest.raises(UserError, match=told):
            split(forty, tmp_path / name)
    partial_folder(tmp_path / "new").mkdir()
    (partial_folder(tmp_path / "new") / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="in the way"):
        split(forty, tmp_path / "new")
    with pytest.raises(UserError, match="not empty"):
        split(forty, forty)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_damage_in_the_source_ends_the_split(forty, tmp_path):
    shard = forty / "faces-000000.tar.gz"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    with pytest.raises(UserError, match="damaged at face"):
        split(forty, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_before_and_in_between(forty, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(UserError, match=r"needs about .* MB and its disk has 1 MB free"):
            split(forty, tmp_path / "out", holdout=0.25)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(shards, "_write", full)
        with pytest.raises(UserError, match=r"disk of .* is full: make room and repeat"):
            split(forty, tmp_path / "out", holdout=0.25)
    split(forty, tmp_path / "out", holdout=0.25)
    split(forty, tmp_path / "unbroken", holdout=0.25)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "unbroken")


def test_no_permission_is_told(forty, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / ".out.partial"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"out failed at .*\.out\.partial: Permission denied"):
        split(forty, tmp_path / "out")


KILLED = """
import os, random, signal, sys
from pathlib import Path
from omokage.data.derive import parts
from omokage.data.derive import split
from omokage.data.store import shards
source, out, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
shards.SHARD_PICTURES = 7

def child(kill_at):
    events = 0
    def before(call):
        def wrapped(*args, **kwargs):
            nonlocal events
            events += 1
            if events == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return wrapped
    for name in ("replace", "fsync", "rename", "mkdir", "unlink", "rmdir"):
        setattr(os, name, before(getattr(os, name)))
    parts._member = before(parts._member)
    split.split(source, out, holdout=0.25, workers=1)

rng, rounds = random.Random(seed), 0
while True:
    rounds += 1
    assert rounds < 80
    pid = os.fork()
    if pid == 0:
        child(rng.randrange(1, 10 + 8 * rounds))
        os._exit(0)
    rng.random()
    if os.waitpid(pid, 0)[1] == 0:
        break
print(rounds)
"""


def test_killed_again_and_again_equals_unbroken(forty, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 7)
    split(forty, tmp_path / "unbroken", holdout=0.25)
    script = [sys.executable, "-c", textwrap.dedent(KILLED), forty, tmp_path / "out", "1"]
    run = subprocess.run(script, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 3
    assert files_of(tmp_path / "out") == files_of(tmp_path / "unbroken")
    assert not partial_folder(tmp_path / "out").exists()
    assert len(json.loads((tmp_path / "out/train/manifest.json").read_bytes())["shards"]) == 6
