import csv
import errno
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build, building, pieces
from omokage.data.store import format as files
from omokage.data.store import manifest as manifests
from omokage.data.store import shards
from omokage.data.store.faceset import FaceSet
from omokage.data.store.format import partial_folder
from omokage.data.store.unfinished import locked
from omokage.errors import UserError


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rejected(folder: Path) -> dict[str, str]:
    with open(folder / "rejected.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 8)
    monkeypatch.setattr(pieces, "PIECE_FACES", 8)


def test_a_face_set_from_a_folder(folder_of_faces, tmp_path):
    folder = folder_of_faces(21)
    report = build([folder], tmp_path / "set", as_faces=True)
    assert (report.found, report.kept, report.rejected, report.already) == (21, 21, 0, False)
    faces = FaceSet.open(report.path)
    assert sorted(p.name for p in report.path.iterdir()) == [
        "faces-000000.tar.gz",
        "faces-000001.tar.gz",
        "faces-000002.tar.gz",
        "index.parquet",
        "manifest.json",
        "rejected.csv",
        "report.html",
    ]
    assert not partial_folder(report.path).exists()
    assert faces.keys == [
        *(str(i) for i in range(21) if i % 5),
        *(f"more/{i}" for i in range(0, 21, 5)),
    ]
    for i, row in enumerate(faces.index.to_pylist()):
        assert faces.image_bytes(i) == (folder / row["file"]).read_bytes()
        assert (row["source"], row["width"], row["height"], row["done"]) == ("pictures", 24, 24, "")
    again = build([folder], tmp_path / "set", as_faces=True)
    assert again.already
    assert (again.found, again.kept, again.rejected) == (21, 21, 0)


def test_same_pictures_from_tar_zip_list_and_folder(folder_of_faces, tmp_path):
    folder = folder_of_faces(12)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))
    with (
        tarfile.open(tmp_path / "a.tar", "w") as plain,
        tarfile.open(tmp_path / "a.tar.xz", "w:xz") as packed,
    ):
        for name in names:
            plain.add(folder / name, name)
            packed.add(folder / name, name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, name)
    (folder / "all.txt").write_text("\n".join(names))
    sources = [tmp_path / "a.tar", tmp_path / "a.tar.xz", tmp_path / "a.zip", folder / "all.txt"]
    hashes = set()
    for i, source in enumerate(sources):
        build([source], tmp_path / f"set{i}", as_faces=True)
        hashes.add(FaceSet.open(tmp_path / f"set{i}").content_hash)
    (folder / "all.txt").unlink()
    build([folder], tmp_path / "set", as_faces=True)
    hashes.add(FaceSet.open(tmp_path / "set").content_hash)
    assert len(hashes) == 1


def test_workers_do_not_change_a_byte(folder_of_faces, tmp_path):
    folder = folder_of_faces(40)
    for workers in (1, 2, 5):
        build([folder], tmp_path / f"set{workers}", as_faces=True, size=16, workers=workers)
    sets = [files_of(tmp_path / f"set{workers}") for workers in (1, 2, 5)]
    assert sets[0] == sets[1] == sets[2]


def test_every_bad_file_is_listed_and_counted(folder_of_faces, tmp_path, encode, picture, capfd):
    folder = folder_of_faces(10)
    good = encode(picture(99, 64, 64))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "text.png").write_text("not a picture")
    (folder / 'evil\n\x1b[31mname,".txt').write_text("no")
    (folder / "archive.jpg").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "wrong-extension.png").write_bytes(good)
    (folder / "cmyk.jpg").write_bytes(encode(picture(98).convert("CMYK")))
    (folder / "alpha.png").write_bytes(encode(picture(97).convert("RGBA"), "PNG"))
    (folder / "no-extension").write_bytes(good)
    os.symlink("nowhere", folder / "link.jpg")
    report = build([folder], tmp_path / "set", as_faces=True)
    assert (report.found, report.kept, report.rejected) == (20, 14, 6)
    assert report.duplicates == 1
    reasons = rejected(tmp_path / "set")
    assert len(reasons) == 6
    assert reasons["pictures/empty.jpg"] == "empty file"
    assert reasons["pictures/cut.jpg"].startswith("cut short")
    assert reasons["pictures/text.png"] == "text, not a picture"
    assert sum(report.reasons.values()) == 6
    assert all(re.fullmatch(r"[ -~]+", name) for name in reasons)
    rows = {row["key"]: row for row in FaceSet.open(tmp_path / "set").index.to_pylist()}
    assert rows["wrong-extension"]["format"] == "jpg"
    assert (rows["cmyk"]["format"], rows["cmyk"]["done"]) == ("png", "CMYK to RGB")
    assert capfd.readouterr() == ("", "")


def test_labels_beside_faces_are_no_pictures_left_out(tmp_path, encode, picture, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "-n", "3", "-o", "drawn", "--size", "32", "--workers", "1"]) == 0
    told = capsys.readouterr().out
    assert "omokage build drawn --as-faces --labels drawn/factors.csv -o faces/" in told
    assert main(["build", "drawn", "--as-faces", "-o", "faces"]) == 0
    told = capsys.readouterr().out
    assert "3 of 3 images kept" in told
    assert "left out" not in told
    assert "--labels drawn/factors.csv joins it" in told
    assert rejected(tmp_path / "faces") == {}
    assert main(["build", "drawn", "--as-faces", "-o", "joined", "--labels", "drawn/factors.csv"]) == 0
    assert "not used" not in capsys.readouterr().out
    assert "hair" in FaceSet.open("joined").index.column_names
    assert FaceSet.open("joined").content_hash == FaceSet.open("faces").content_hash


def test_sidecars_of_faces_are_counted_in_every_container(tmp_path, encode, picture):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.webp")):
        (folder / name).write_bytes(encode(picture(i), {"png": "PNG", "jpg": "JPEG"}.get(name[-3:], "WEBP")))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    beside = ("a.txt", "b.jpg.json", "sub/c.json", "broken.txt")
    others = ("c.txt", "notes.txt", "sub/a.json")  # beside no picture of this folder
    for name in (*beside, *others):
        (folder / name).write_text('{"tags": "smile"}' if name.endswith("json") else "smile")
    (folder / "boxes.json").write_text('{"a.png": [[1, 2, 3, 4]]}')
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file():
                archive.add(path, str(path.relative_to(folder)))
    shutil.make_archive(str(tmp_path / "z"), "zip", folder)
    for i, source in enumerate((folder, tmp_path / "t.tar.gz", tmp_path / "z.zip")):
        report = build([source], tmp_path / f"set{i}", as_faces=True, workers=i + 1)
        assert (report.found, report.kept, report.rejected, report.beside) == (7, 3, 4, 5)
        assert sum(report.reasons.values()) == 4
        assert [table.partition("/")[2] for table in report.tables] == ["boxes.json"]
        listed = {name.partition("/")[2] for name in rejected(tmp_path / f"set{i}")}
        assert listed == {"broken.png", *others}
    again = build([folder], tmp_path / "set0", as_faces=True)
    assert (again.already, again.beside) == (True, 5)


def test_hostile_tar_ends_in_the_list(tmp_path, encode, picture):
    face = encode(picture(1))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("ok.jpg", "../up.jpg", "/root.jpg", "same.jpg", "same.jpg", "SAME.png", "same-2.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(face)
            archive.addfile(info, io.BytesIO(face))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    report = build([tmp_path / "a.tar"], tmp_path / "set", as_faces=True)
    assert (report.found, report.kept, report.rejected) == (8, 5, 3)
    assert set(rejected(tmp_path / "set")) == {"a.tar/../up.jpg", "a.tar//root.jpg", "a.tar/link.jpg"}
    keys = FaceSet.open(tmp_path / "set").keys
    assert len({key.casefold() for key in keys}) == 5
    assert not (tmp_path.parent / "up.jpg").exists()


def test_size_makes_all_alike(tmp_path, encode, picture):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, (w, h) in enumerate([(16, 16), (40, 20), (20, 40), (7, 7)]):
        (folder / f"{i}.png").write_bytes(encode(picture(i, w, h), "PNG"))
    build([folder], tmp_path / "set", as_faces=True, size=16)
    faces = FaceSet.open(tmp_path / "set")
    assert {(row["width"], row["height"]) for row in faces.index.to_pylist()} == {(16, 16)}
    assert faces.image_bytes(0) == (folder / "0.png").read_bytes()  # had that size: kept as it came
    assert faces.index["done"].to_pylist()[1] == "40×20 to 16×16"
    for size in (0, -1, 10**6):
        with pytest.raises(UserError, match="impossible"):
            build([folder], tmp_path / "other", as_faces=True, size=size)


def test_tarfile_streams_the_same_as_the_index(folder_of_faces, tmp_path):
    build([folder_of_faces(20)], tmp_path / "set", as_faces=True)
    faces = FaceSet.open(tmp_path / "set")
    for mode in ("r|*", "r|gz", "r:gz"):  # the first is how WebDataset reads
        streamed = {}
        for shard in sorted((tmp_path / "set").glob("*.tar.gz")):
            with open(shard, "rb") as file, tarfile.open(fileobj=file, mode=mode) as archive:
                for member in archive:
                    assert member.isreg()
                    streamed[member.name] = archive.extractfile(member).read()
        kinds = faces.index["format"].to_pylist()
        indexed = {
            f"{k}.{f}": faces.image_bytes(i) for i, (k, f) in enumerate(zip(faces.keys, kinds, strict=True))
        }
        assert streamed == indexed


def test_labels_are_joined_by_file_name(folder_of_faces, tmp_path):
    folder = folder_of_faces(6)
    table = tmp_path / "labels.csv"
    table.write_text("file,hair,eyes\n1.jpg,red|pink,\nmore/5.jpg,blue,green\n0.jpg,black,\nother.jpg,x,y\n")
    build([folder], tmp_path / "set", as_faces=True, labels=table)
    faces = FaceSet.open(tmp_path / "set")
    hair = dict(zip(faces.keys, faces.index["hair"].to_pylist(), strict=True))
    assert hair == {"1": "red|pink", "2": None, "3": None, "4": None, "more/0": "black", "more/5": "blue"}
    assert faces.index["eyes"].to_pylist()[faces.keys.index("1")] is None
    assert faces.manifest["labels"]["matched"] == 3
    assert build([folder], tmp_path / "set", as_faces=True, labels=table).already
    with pytest.raises(UserError, match="other sources or options"):
        build([folder], tmp_path / "set", as_faces=True)
    for bad, message in {
        "name,hair\n": "`file`",
        "": "first line",
        "file,key\na,b\n": "another name",
        "file,a\nx\n": "line 2 has 1",
    }.items():
        table.write_text(bad)
        with pytest.raises(UserError, match=message):
            build([folder], tmp_path / "set2", as_faces=True, labels=table)
    with pytest.raises(UserError, match="cannot be read"):
        build([folder], tmp_path / "set2", as_faces=True, labels=tmp_path / "none.csv")


def test_refusals(folder_of_faces, tmp_path):
    folder = folder_of_faces(3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "useless").mkdir()
    (tmp_path / "useless" / "a.txt").write_text("no")
    (tmp_path / "useless" / "b.jpg").write_bytes(b"")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.doc").write_text("precious")
    (tmp_path / "file").write_text("precious")
    out = tmp_path / "set"
    for call, message in [
        (lambda: build([folder], out, workers=1), "no face is left of 3 files"),
        (lambda: build([], out, as_faces=True), "no source"),
        (lambda: build([tmp_path / "nowhere"], out, as_faces=True), "there is no"),
        (lambda: build([tmp_path / "empty"], out, as_faces=True), "no files found"),
        (lambda: build([tmp_path / "useless"], out, as_faces=True), "none of the 2 files.*1 empty file"),
        (lambda: build([folder], tmp_path / "foreign", as_faces=True), "not empty, and not what"),
        (lambda: build([folder], tmp_path / "file", as_faces=True), "is a file"),
        (lambda: build([folder], out, as_faces=True, workers=0), "workers"),
        (lambda: build([folder], Path("/proc/none/set"), as_faces=True), "failed"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert not out.exists()
        assert not partial_folder(out).exists()
    assert (tmp_path / "foreign" / "thesis.doc").read_text() == "precious"


def test_another_set_is_not_overwritten(folder_of_faces, tmp_path):
    folder = folder_of_faces(3)
    build([folder], tmp_path / "set", as_faces=True)
    before = files_of(tmp_path / "set")
    for options in ({"size": 8}, {}):
        if not options:
            (folder / "new.jpg").write_bytes((folder / "1.jpg").read_bytes())
        with pytest.raises(UserError, match="already a face set"):
            build([folder], tmp_path / "set", as_faces=True, **options)
    assert files_of(tmp_path / "set") == before
    partial = partial_folder(tmp_path / "other")
    partial.mkdir()
    (partial / "mine").write_text("precious")
    with pytest.raises(UserError, match="in the way"):
        build([folder], tmp_path / "other", as_faces=True)
    assert (partial / "mine").read_text() == "precious"


def test_into_an_empty_folder_and_out_below_the_source(folder_of_faces, tmp_path):
    folder = folder_of_faces(3)
    out = folder / "set"
    out.mkdir()
    assert build([folder], out, as_faces=True).found == 3
    assert build([folder], out, as_faces=True).already


def test_twice_at_once_is_refused(folder_of_faces, tmp_path):
    folder, out = folder_of_faces(3), tmp_path / "set"
    with locked(partial_folder(out), out), pytest.raises(UserError, match="being built"):
        build([folder], out, as_faces=True)
    assert build([folder], out, as_faces=True).kept == 3


@pytest.mark.parametrize("where", ["shard", "index", "state"])
def test_full_disk_is_one_line_and_resumable(folder_of_faces, tmp_path, monkeypatch, where):
    folder, out = folder_of_faces(30), tmp_path / "set"
    build([folder], tmp_path / "unbroken", as_faces=True)
    needed = sum(path.stat().st_size for path in (tmp_path / "unbroken").glob("*.tar.gz"))
    room = [needed * 0.6 if where == "shard" else 10**9]
    write_shard, write_file = shards.ShardWriter._write, files.write_file

    def shard(self: shards.ShardWriter, data: bytes) -> int:
        room[0] -= len(data)
        if room[0] < 0:
            self._file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_shard(self, data)

    def file(path: Path, data: bytes) -> None:
        if (where == "index" and path.name == "index.parquet") or (
            where == "state" and path.name == "000001.json"
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(shards.ShardWriter, "_write", shard)
        patch.setattr(manifests, "write_file", file)
        patch.setattr(pieces, "write_file", file)
        with pytest.raises(UserError, match=r"disk of .* is full: make room and repeat") as caught:
            build([folder], out, as_faces=True)
        assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(partial_folder(out).rglob("*.writing"))
    with pytest.raises(UserError, match="not finished"):
        FaceSet.open(out)
    if where != "index":
        assert list(partial_folder(out).glob(".state/*.json"))  # a part is there already
    build([folder], out, as_faces=True)
    assert files_of(out) == files_of(tmp_path / "unbroken")


KILLED = """
    import os, random, shutil, signal, sys, time
    from pathlib import Path
    from omokage.data import build as b
    from omokage.data.build import pieces as p
    from omokage.data.store import shards as w
    folder, out, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    p.PIECE_FACES = w.SHARD_PICTURES = 8

    def child(kill_at):
        events = 0
        def before(call):
            def wrapped(*args, **kwargs):
                nonlocal events
                events += 1
                if events == kill_at:
                    if call is write:
                        args[0]._file.write(args[1][:-3]); args[0]._file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return wrapped
        write = w.ShardWriter._write
        w.ShardWriter._write = before(write)
        for name in ("replace", "fsync", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, before(getattr(os, name)))
        b.build([folder], out, as_faces=True, workers=2)
        return events

    rng, rounds = random.Random(seed), 0
    while not out.exists():
        rounds += 1
        assert rounds < 60
        pid = os.fork()
        if pid == 0:
            # Most are killed at an exact step, some by the clock; later ones get further.
            child(rng.randrange(1, 12 + 6 * rounds) if rounds % 4 else 0)
            os._exit(0)
        if rounds % 4 == 0:
            time.sleep(rng.uniform(0, 0.15))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.waitpid(pid, 0)
        rng.random()
    print(rounds)
"""


def test_killed_again_and_again_equals_unbroken(folder_of_faces, tmp_path):
    folder, out = folder_of_faces(50), tmp_path / "set"
    (folder / "broken.jpg").write_bytes(b"")
    build([folder], tmp_path / "unbroken", as_faces=True)
    script = textwrap.dedent(KILLED)
    run = subprocess.run(
        [sys.executable, "-c", script, folder, out, "1"], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 3
    report = build([folder], out, as_faces=True)
    assert (report.already, report.found, report.kept) == (True, 51, 50)
    assert files_of(out) == files_of(tmp_path / "unbroken")
    assert not partial_folder(out).exists()


def test_damaged_state_is_built_again(folder_of_faces, tmp_path, monkeypatch):
    folder, out = folder_of_faces(40), tmp_path / "set"
    build([folder], tmp_path / "unbroken", as_faces=True)
    for damage in (".state/000001.faces", ".state/000002.json", ".state/plan.json"):
        with monkeypatch.context() as patch:

            def stop(*_):
                raise KeyboardInterrupt

            patch.setattr(building, "finish", stop)
            with pytest.raises(KeyboardInterrupt):
                build([folder], out, as_faces=True)
        damaged = partial_folder(out) / damage
        damaged.write_bytes(damaged.read_bytes()[:-9])
        build([folder], out, as_faces=True)
        assert files_of(out) == files_of(tmp_path / "unbroken")
        for path in out.iterdir():
            path.unlink()


def test_changed_source_starts_anew(folder_of_faces, tmp_path, monkeypatch):
    folder, out = folder_of_faces(40), tmp_path / "set"
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(building, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            build([folder], out, as_faces=True)
    (folder / "0a.jpg").write_bytes((folder / "1.jpg").read_bytes())
    assert build([folder], out, as_faces=True).found == 41
    assert "0a" in FaceSet.open(out).keys


def test_progress_is_told(folder_of_faces, tmp_path):
    told: list[tuple[str, float | None, float, str]] = []

    class Listening:
        def task(self, label, total):
            from contextlib import contextmanager

            @contextmanager
            def opened():
                class Task:
                    def advance(self, n=1, note=""):
                        told.append((label, total, n, note))

                yield Task()

            return opened()

    build([folder_of_faces(9)], tmp_path / "set", as_faces=True, progress=Listening())
    steps = [entry for entry in told if entry[0] == "building"]
    assert sum(n for _, _, n, _ in steps) == 9
    assert steps[-1][1:] == (9, 1, "9 kept, 0 left out")


def test_manifest_and_index(folder_of_faces, tmp_path):
    build([folder_of_faces(9)], tmp_path / "set", as_faces=True)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["counts"]["found"] == manifest["counts"]["kept"] == 9
    assert manifest["options"] == {"as_faces": True, "size": None, "resize_rule": None}
    assert [shard["pictures"] for shard in manifest["shards"]] == [8, 1]
    table = pq.read_table(tmp_path / "set" / "index.parquet")
    assert sum(table["bytes"].to_pylist()) == manifest["counts"]["bytes"]
    assert str(tmp_path) not in (tmp_path / "set" / "manifest.json").read_text()


def test_the_report_shows_what_was_kept_and_left_out(folder_of_faces, tmp_path):
    folder = folder_of_faces(9)
    (folder / "<b>broken.png").write_bytes(b"")
    labels = folder / "labels.csv"
    labels.write_text("file,hair\n" + "".join(f"{i}.jpg,{'red' if i < 3 else 'blue'}\n" for i in range(9)))
    report = build([folder], tmp_path / "set", as_faces=True, labels=labels)
    counts = FaceSet.open(report.path).manifest["counts"]
    page = (tmp_path / "set" / "report.html").read_text()
    assert (counts["found"], counts["kept"]) == (10, 9)  # labels are no picture
    assert "10 files, 9 kept" in page
    assert page.count("data:image/jpeg") == counts["kept"]
    assert "&lt;b&gt;broken.png: empty file" in page
    assert "<b>broken" not in page
    assert "<td>red</td>" in page
    assert "<td>blue</td>" in page


def test_real_faces_cost_no_more_than_themselves(real_data, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 4096)
    part = tmp_path / "part.tar"
    with tarfile.open(real_data / "getchu-faces-64.tar") as whole, tarfile.open(part, "w") as some:
        for _, member in zip(range(1500), whole, strict=False):
            some.addfile(member, whole.extractfile(member))
    report = build([part], tmp_path / "set", as_faces=True)
    faces = FaceSet.open(tmp_path / "set")
    on_disk = sum(path.stat().st_size for path in (tmp_path / "set").iterdir())
    assert report.rejected == 0
    assert on_disk <= 1.05 * faces.manifest["counts"]["bytes"]
    mean = faces.pixels(range(100), 64).mean()
    assert 60 < mean < 220
    assert np.array_equal(
        faces.pixels([7], 64)[0], np.asarray(Image.open(io.BytesIO(faces.image_bytes(7))).resize((64, 64)))
    )


def test_random_sources_always_add_up(tmp_path, encode, picture):
    rng = random.Random(3)
    good = encode(picture(1))
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(60):
        data = bytearray(good)
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (folder / f"{i}.jpg").write_bytes(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
    report = build([folder], tmp_path / "set", as_faces=True)
    assert report.kept + report.rejected == report.found == 60
    assert len(rejected(tmp_path / "set")) == report.rejected > 5
