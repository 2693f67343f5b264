import http.server
import json
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omokage.data.build import build
from omokage.data.sources import places
from omokage.data.sources.opening import open_source
from omokage.data.sources.places import Place, open_remote, shown, url_of
from omokage.data.store import publish, shards
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

pytest.importorskip("fsspec", reason="fsspec is not installed (pip install 'omokage[cloud]')")


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "BLOCK", 2048)
    monkeypatch.setattr(places, "PAUSES", (0.0, 0.01))
    monkeypatch.setattr(shards, "SHARD_PICTURES", 8)
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))


class _Server(http.server.ThreadingHTTPServer):
    """Serves a folder, in parts if ``ranges``; answers 503 as often as ``failures`` says of a path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges, self.failures, self.asked = folder, True, {}, []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, request, address, server) -> None:
        super().__init__(request, address, server, directory=str(server.folder))

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.failures.get(self.path, 0):
            self.server.failures[self.path] -= 1
            self.send_error(503)
            return
        path = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (self.server.ranges and wanted and path.is_file()):
            super().do_GET()
            return
        data = path.read_bytes()
        part = data[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path) -> Iterator[_Server]:
    pytest.importorskip("aiohttp")
    (tmp_path / "www").mkdir()
    with _Server(tmp_path / "www") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def faces(folder_of_faces) -> Path:
    folder = folder_of_faces(21)
    (folder / "with space & umlaut ü.jpg").write_bytes((folder / "1.jpg").read_bytes())
    (folder / ".hidden.jpg").write_bytes((folder / "1.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def told(folder: Path) -> tuple:
    """All of a face set but what its sources were."""
    opened = FaceSet.open(folder)
    return (
        opened.content_hash,
        opened.index.to_pylist(),
        opened.manifest["counts"],
        (opened.path / "rejected.csv").read_text(),
    )


def test_urls_and_paths():
    assert url_of("https://h/a?b=c") == "https://h/a?b=c"
    assert url_of(Path("gs://bucket/a")) == "gs://bucket/a"
    assert [url_of(p) for p in ("/a/b", "a", "C:\\a", "s3:/a", "a:b", "")] == [None] * 6
    assert shown("s3://key:secret@bucket/a?token=1#x") == "s3://bucket/a"


def test_a_folder_of_a_web_server(server, faces, tmp_path):
    faces.rename(server.folder / "pictures")
    build([server.folder / "pictures"], tmp_path / "here", as_faces=True)
    report = build([f"{server.url}/pictures/"], tmp_path / "there", as_faces=True, workers=3)
    assert (report.found, report.kept) == (23, 22)
    assert told(tmp_path / "there") == told(tmp_path / "here")
    assert build([f"{server.url}/pictures"], tmp_path / "there", as_faces=True).already
    (server.folder / "pictures" / "another.jpg").write_bytes(b"new")
    with pytest.raises(UserError, match="of other sources"):
        build([f"{server.url}/pictures"], tmp_path / "there", as_faces=True)


@pytest.mark.parametrize("ranges", [True, False])
def test_archives_of_a_web_server(server, faces, tmp_path, ranges):
    server.ranges = ranges
    names = sorted(str(p.relative_to(faces)) for p in faces.rglob("*") if p.is_file())
    with (
        zipfile.ZipFile(server.folder / "a.zip", "w") as zipped,
        tarfile.open(server.folder / "a.tar", "w") as plain,
        tarfile.open(server.folder / "a.tar.gz", "w:gz") as compressed,
    ):
        for name in names:
            zipped.write(faces / name, name)
            plain.add(faces / name, name)
            compressed.add(faces / name, name)
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        with open_source(server.folder / name) as near, open_source(f"{server.url}/{name}") as far:
            assert {f.name: f.read() for f in far} == {f.name: f.read() for f in near}
            assert far.described["name"] == name
            assert far.kind == near.kind
            assert [f.name for f in far] == [f.name for f in far]  # as often as wanted


def test_an_archive_that_is_cut_short(server, faces):
    with tarfile.open(server.folder / "a.tar", "w") as archive:
        archive.add(faces / "1.jpg", "1.jpg")
        archive.add(faces / "2.jpg", "2.jpg")
    data = (server.folder / "a.tar").read_bytes()
    (server.folder / "a.tar").write_bytes(data[: 512 + 1024 + 512 + 100])
    with open_source(f"{server.url}/a.tar") as source:
        outcomes = [found.read() for found in source]
    assert any(isinstance(outcome, str) and "cut short" in outcome for outcome in outcomes)
    (server.folder / "b.zip").write_bytes(b"PK\3\4 but no more")
    with pytest.raises(UserError, match=r"the zip b\.zip cannot be read"):
        open_source(f"{server.url}/b.zip")


def test_reading_and_seeking(server):
    data = bytes(range(256)) * 40
    (server.folder / "data").write_bytes(data)
    place = Place(f"{server.url}/data")
    with open_remote(place, len(data)) as file:
        assert (file.read(5000), file.seek(-7, 2), file.read()) == (data[:5000], len(data) - 7, data[-7:])
        assert (file.seek(2040), file.read(16), file.tell()) == (2040, data[2040:2056], 2056)
        assert (file.seek(10**6), file.read(1)) == (10**6, b"")


def test_lists_and_single_pictures(server, faces, tmp_path):
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (server.folder / name).write_bytes((faces / name).read_bytes())
    lines = [f"{server.url}/1.jpg?token=secret", f"{server.url}/gone.jpg?token=secret"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    (server.folder / "far.txt").write_text("2.jpg\n../secret.jpg\n")
    sources = [tmp_path / "list.txt", f"{server.url}/far.txt", f"{server.url}/3.jpg?token=secret"]
    report = build(sources, tmp_path / "set", as_faces=True)
    assert (report.found, report.kept) == (5, 3)
    assert report.reasons == {
        "name with '..' in an archive": 1,
        "not there any more, or a link that leads nowhere": 1,
    }
    files = FaceSet.open(tmp_path / "set").index["file"].to_pylist()
    assert sorted(files) == ["2.jpg", "3.jpg", f"{server.url}/1.jpg"]
    for name in ("manifest.json", "rejected.csv", "report.html"):
        assert "token" not in (tmp_path / "set" / name).read_text()


def test_a_bad_network_leaves_nothing_out(server, faces, tmp_path):
    faces.rename(server.folder / "pictures")
    build([server.folder / "pictures"], tmp_path / "here", as_faces=True)
    server.failures = {"/pictures/": 1, "/pictures/2.jpg": 2, "/pictures/16.jpg": 3}
    with pytest.raises(UserError, match=r"pictures/16\.jpg cannot be read \(503.*goes on where it stopped"):
        build([f"{server.url}/pictures"], tmp_path / "there", as_faces=True)
    assert not (tmp_path / "there").exists()
    build([f"{server.url}/pictures"], tmp_path / "there", as_faces=True)
    assert told(tmp_path / "there") == told(tmp_path / "here")


def test_refusals(server, tmp_path, monkeypatch):
    (server.folder / "empty").mkdir()
    (server.folder / "none.jpg").write_bytes(b"")
    (server.folder / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\3")
    for url, message in (
        (f"{server.url}/empty/", "no files at"),
        (f"{server.url}/nowhere", "no files at"),
        (f"{server.url}/none.jpg", "is empty"),
        (f"{server.url}/train-images-idx3-ubyte", "IDX"),
        ("http://127.0.0.1:9/a", "cannot be read"),
        ("nosuch://a/b", "Protocol not known"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(url)
    with pytest.raises(UserError, match="web servers take no face sets"):
        build([tmp_path], f"{server.url}/out", as_faces=True)
    with pytest.raises(UserError, match="is not a face set"):
        FaceSet.open(f"{server.url}/empty")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"s3:// needs further packages: pip install 'omokage\[cloud\]'"):
        open_source("s3://bucket/pictures")


def test_a_face_set_of_a_web_server(server, faces, tmp_path, monkeypatch):
    build([faces], server.folder / "set", as_faces=True)
    opened = FaceSet.open(Path(f"{server.url}/set"))
    here = FaceSet.open(server.folder / "set")
    assert opened.keys == here.keys
    assert [opened.image_bytes(i) for i in range(len(here))] == [
        here.image_bytes(i) for i in range(len(here))
    ]
    assert opened.path.is_relative_to(tmp_path / "cache")
    server.asked.clear()
    FaceSet.open(f"{server.url}/set/")
    assert server.asked == ["/set/manifest.json"]  # the rest is here


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto_url, monkeypatch) -> Callable[[str], list[str]]:
    """The bucket ``faces`` of a stand-in for S3; called with a prefix it lists what is there."""
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": moto_url,
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    if not fs.exists("faces"):
        fs.mkdir("faces")
    return lambda prefix: sorted(path.rpartition("/")[2] for path in fs.find(f"faces/{prefix}"))


def test_from_s3_to_s3(bucket, faces, tmp_path, monkeypatch):
    for path in faces.rglob("*.*"):
        Place(f"s3://faces/in/pictures/{path.relative_to(faces)}").upload(path)
    build([faces], tmp_path / "here", as_faces=True, size=16)
    arguments = {"as_faces": True, "size": 16}
    sources, out = ["s3://faces/in/pictures"], "s3://faces/out/set"

    # As if killed while the second shard is on its way.
    original, sent = Place.upload, []

    def killed(self: Place, data: object) -> None:
        if len(sent) == 3:
            raise KeyboardInterrupt
        sent.append(self.name)
        original(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "upload", killed)
        with pytest.raises(KeyboardInterrupt):
            build(sources, out, **arguments)
    assert sent == [publish.NOTE, "faces-000000.tar.gz", "faces-000001.tar.gz"]
    with pytest.raises(UserError, match="is not a face set"):
        FaceSet.open(out)

    def noted(self: Place, data: object) -> None:
        sent.append(self.name)
        original(self, data)

    sent.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Place, "upload", noted)
        patch.setattr("omokage.data.build.building.Pieces", None)  # nothing is built again
        report = build(sources, out, **arguments)
    assert sent == ["faces-000002.tar.gz", "index.parquet", "rejected.csv", "report.html", "manifest.json"]
    assert (report.path, report.found, report.kept) == (out, 23, 22)
    assert bucket("out/set") == sorted(p.name for p in (tmp_path / "here").iterdir())
    assert not list((tmp_path / "cache").rglob("*.*"))  # the staging folder is gone
    opened, here = FaceSet.open(out), FaceSet.open(tmp_path / "here")
    assert opened.content_hash == here.content_hash
    assert [opened.image_bytes(i) for i in range(22)] == [here.image_bytes(i) for i in range(22)]

    assert build(sources, out, **arguments).already
    with pytest.raises(UserError, match="already a face set, of other sources"):
        build(sources, out, as_faces=True)
    with pytest.raises(UserError, match="not empty, and not a face set"):
        build(sources, "s3://faces/in", as_faces=True)
    with pytest.raises(UserError, match="no such bucket"):
        build(sources, "s3://nowhere/set", as_faces=True)


def test_an_unfinished_upload_of_something_else_is_replaced(bucket, faces, tmp_path):
    place = Place("s3://faces/other")
    note = {"manifest": "0" * 64, "files": ["faces-000000.tar.gz", "faces-000009.tar.gz"]}
    (place / publish.NOTE).upload(json.dumps(note).encode())
    for name in note["files"]:
        (place / name).upload(b"of another face set")
    build([faces], "s3://faces/other/", as_faces=True)
    build([faces], tmp_path / "here", as_faces=True)
    assert bucket("other") == sorted(p.name for p in (tmp_path / "here").iterdir())
    assert FaceSet.open("s3://faces/other").keys == FaceSet.open(tmp_path / "here").keys
