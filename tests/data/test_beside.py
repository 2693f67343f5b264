import io
import tarfile
import zipfile

import pytest

from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.sources import beside
from omokage.data.sources.beside import pictures
from omokage.data.sources.opening import open_source
from omokage.errors import UserError

FILES = {
    "a.png": b"1", "a.txt": b"smile", "b.png": b"2", "b.png.json": b"{}", "C.PNG": b"3", "C.TXT": b"hat",
    "sub/d.jpg": b"4", "sub/D.Caption": b"tea", "e.f.png": b"5", "e.f.txt": b"x", "notes.txt": b"alone",
    "か\u3099.png": b"6", "が.txt": b"nfc", "table.csv": b"file,hair\na.png,red\n", "g.png": b"7",
}  # fmt: skip
BESIDE = {
    "a.png": ["a.txt", "table.csv"], "b.png": ["b.png.json"], "C.PNG": ["C.TXT"],
    "sub/d.jpg": ["sub/D.Caption"],
    "e.f.png": ["e.f.txt"], "notes.txt": [], "か\u3099.png": ["が.txt"], "g.png": [],
}  # fmt: skip
ORDERS = {
    "sorted": sorted,
    "pictures first": lambda names: sorted(names, key=lambda n: (not n.lower().endswith(("png", "jpg")), n)),
    "labels first": lambda names: sorted(names, key=lambda n: (n.lower().endswith(("png", "jpg")), n)),
}


def tar(files, order, mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name in ORDERS[order](files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            archive.addfile(info, io.BytesIO(files[name]))
    return out.getvalue()


def found(source):
    with open_source(source) as opened:
        got = {}
        for picture, files in pictures(opened, True):
            assert picture.name not in got
            got[picture.name] = {one.name: one.load() for one in files}
            assert picture.load() == FILES[picture.name]
        return got


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "tar.xz", "zip", "remote tar", "remote tar.gz"])
def test_the_same_from_every_container(tmp_path, order, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "folder":
        for name, data in FILES.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ORDERS[order](FILES):
                archive.writestr(name, FILES[name])
    else:
        compressed = kind.rpartition(".")[2]
        data = tar(FILES, order, "w:" if compressed.endswith("tar") else f"w:{compressed}")
        if kind.startswith("remote"):
            import fsspec

            path = f"memory://{tmp_path.name}/a"
            with fsspec.open(path, "wb") as file:
                file.write(data)
        else:
            path.write_bytes(data)
    got = found(path)
    first = min(got, key=list(got).index)
    assert {name: [one for one in files if one != "table.csv"] for name, files in got.items()} == {
        name: [one for one in files if one != "table.csv"] for name, files in BESIDE.items()
    }
    assert "table.csv" in got[first]
    assert all(data == FILES[name] for files in got.values() for name, data in files.items())


def test_a_list_and_a_single_picture_have_their_labels_too(tmp_path):
    for name in ("a.png", "a.txt", "C.PNG", "C.TXT", "g.png"):
        (tmp_path / name).write_bytes(FILES[name])
    (tmp_path / "list").mkdir()
    (tmp_path / "list/list.txt").write_text(f"../a.png\n{tmp_path}/C.PNG\n../g.png\n")
    with open_source(tmp_path / "list/list.txt") as opened:
        got = [{one.name: one.load() for one in files} for _, files in pictures(opened, True)]
        before = opened.fingerprint
    assert got == [{"../a.txt": b"smile"}, {f"{tmp_path}/C.TXT": b"hat"}, {}]
    (tmp_path / "a.txt").write_bytes(b"another")
    assert open_source(tmp_path / "list/list.txt").fingerprint != before
    (tmp_path / "listed.txt").write_text("a.png\na.txt\n")
    with open_source(tmp_path / "listed.txt") as opened:
        assert [[one.name for one in files] for _, files in pictures(opened, True)] == [["a.txt"]]
    with open_source(tmp_path / "a.png") as opened:
        assert [[one.name for one in files] for _, files in pictures(opened, True)] == [["a.txt"]]


def test_letters_of_another_case_are_told_apart_where_both_are_there(tmp_path):
    for name in ("a.png", "A.png", "a.txt", "A.txt"):
        (tmp_path / name).write_bytes(name.encode())
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system takes them for one")
    with open_source(tmp_path) as opened:
        got = {picture.name: [one.name for one in files] for picture, files in pictures(opened, True)}
    assert got == {"a.png": ["a.txt"], "A.png": ["A.txt"]}


def test_labels_of_a_stream_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "MAX_KEPT_BYTES", 10)
    (tmp_path / "a.tgz").write_bytes(tar(FILES, "sorted", "w:gz"))
    with pytest.raises(UserError, match="unpack it"):
        found(tmp_path / "a.tgz")


@pytest.mark.parametrize("container", ["tar", "tar.gz"])
def test_ratings_and_opt_outs_hold_whatever_the_order(tmp_path, encode, drawing, container):
    files = {f"{i}.png": encode(drawing(i, 48), "PNG") for i in range(4)}
    files |= {"labels.txt": b"none", "0.txt": b"rating:e", "1.TXT": b"artist:mira", "2.caption": b"rating:g"}
    mode = "w:" if container == "tar" else "w:gz"
    (tmp_path / f"a.{container}").write_bytes(tar(files, "pictures first", mode))
    (tmp_path / "out.txt").write_text("mira # mail\n")
    options = Options(detector=None, clean=False, opt_out=str(tmp_path / "out.txt"))
    report = build([tmp_path / f"a.{container}"], tmp_path / "set", options=options, workers=1)
    assert report.pictures["reasons"] == {"opted out": 1, "rating": 1, "text, not a picture": 1}
    assert (report.kept, report.opt_out["met"]) == (2, 1)
