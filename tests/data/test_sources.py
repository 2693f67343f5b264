import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from omokage.data.sources import tar
from omokage.data.sources import zip as zips
from omokage.data.sources.keys import natural, stem
from omokage.data.sources.opening import open_source
from omokage.data.steps.read import Unreadable, read_picture
from omokage.errors import UserError


def outcome(path, skip=()):
    """What a source yields: name → bytes or the reason."""
    result = {}
    with open_source(path, skip) as source:
        count = 0
        for found in source:
            count += 1
            try:
                result[found.name] = found.load()
            except Unreadable as reason:
                result[found.name] = str(reason)
        assert source.total in (None, count)
    return result


def add(archive: tarfile.TarFile, name: str, data: bytes = b"data", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def hostile_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "10.jpg", b"ten")
        add(archive, "2.jpg", b"two" * 400)
        add(archive, "../escape.jpg")
        add(archive, "a/../../escape.jpg")
        add(archive, "/etc/absolute.jpg")
        add(archive, "link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "hard", b"", type=tarfile.LNKTYPE, linkname="10.jpg")
        add(archive, "device", b"", type=tarfile.CHRTYPE)
        add(archive, "pipe", b"", type=tarfile.FIFOTYPE)
        add(archive, "folder", b"", type=tarfile.DIRTYPE)
        add(archive, ".DS_Store")
        add(archive, "__MACOSX/._10.jpg")
        add(archive, "x" * 300 + ".jpg", b"long name")
        add(archive, "last.jpg", b"last")
    return out.getvalue()


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".tar", bytes), (".tar.gz", gzip.compress), (".tar.bz2", bz2.compress), (".tar.xz", lzma.compress)],
)
def test_hostile_tar_plain_and_compressed(tmp_path, suffix, compress):
    path = tmp_path / f"faces{suffix}"
    path.write_bytes(compress(hostile_tar()))
    before = sorted(tmp_path.rglob("*"))
    got = outcome(path)
    assert got.pop("10.jpg") == b"ten"
    assert got.pop("2.jpg") == b"two" * 400
    assert got.pop("last.jpg") == b"last"
    assert got.pop("x" * 300 + ".jpg") == b"long name"
    reasons = {
        "../escape.jpg": "'..'",
        "a/../../escape.jpg": "'..'",
        "/etc/absolute.jpg": "absolute",
        "link": "a link",
        "hard": "a link",
        "device": "special",
        "pipe": "special",
    }
    assert set(got) == set(reasons)
    for name, reason in reasons.items():
        assert reason in got[name]
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked


def test_plain_tar_is_in_natural_order(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(hostile_tar())
    names = [name for name in outcome(path) if name[0].isdigit()]
    assert names == ["2.jpg", "10.jpg"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_truncated_tar_keeps_what_is_whole(tmp_path, compress):
    path = tmp_path / "a.tar"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "1.jpg", b"1" * 3000)
        add(archive, "2.jpg", os.urandom(3000))
    whole = compress(out.getvalue())
    path.write_bytes(
        whole[: whole.index(b"2.jpg") + 1500] if compress is bytes else whole[: len(whole) - 2000]
    )
    got = outcome(path)
    assert got["1.jpg"] == b"1" * 3000
    reasons = [text for text in got.values() if isinstance(text, str)]
    assert reasons
    assert all("cut short" in text or "breaks off" in text for text in reasons)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_forged_headers(tmp_path, compress, monkeypatch):
    monkeypatch.setattr(tar, "MAX_SKIPPED_BYTES", 2**20)

    def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
        info = tarfile.TarInfo(name)
        info.size, info.type = size, kind
        return info.tobuf(tarfile.GNU_FORMAT)

    path = tmp_path / "a.tar"
    for bad in (
        header("huge.jpg", 2**45),
        header("pax", 2**40, tarfile.XHDTYPE),
        header("longname", 2**40, tarfile.GNUTYPE_LONGNAME),
        header("nested", 0, tarfile.GNUTYPE_LONGNAME) * 3000,
        b"\xff" * 512,
    ):
        good = header("ok.jpg", 4) + b"fine" + bytes(508)
        path.write_bytes(compress(good + bad + bytes(4096)))
        got = outcome(path)
        assert got.pop("ok.jpg") == b"fine"
        assert got
        assert all(isinstance(text, str) and "\n" not in text for text in got.values())


def test_big_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(zips, "MAX_FILE_BYTES", 1000)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "big", b"b" * 1001)
        add(archive, "fits", b"f" * 1000)
    packed = tmp_path / "a.tgz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big", b"b" * 1001)
        archive.writestr("fits", b"f" * 1000)
    for source in (path, packed, tmp_path / "a.zip"):
        got = outcome(source)
        assert "too large" in got["big"]
        assert got["fits"] == b"f" * 1000


def test_hostile_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("10.jpg", b"ten")
        archive.writestr("2.jpg", b"two")
        archive.writestr("../escape.jpg", b"x")
        archive.writestr("/absolute.jpg", b"x")
        archive.writestr("C:\\windows.jpg", b"x")
        archive.writestr("__MACOSX/x.jpg", b"x")
        archive.writestr("folder/", b"")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("damaged.jpg", b"these bytes will not match their checksum")
    data = path.read_bytes().replace(b"these bytes", b"other bytes")
    path.write_bytes(data)
    got = outcome(path)
    assert list(got)[:1] == ["../escape.jpg"]
    assert (got.pop("2.jpg"), got.pop("10.jpg")) == (b"two", b"ten")
    assert "damaged in the zip" in got.pop("damaged.jpg")
    assert "a link" in got.pop("link")
    assert "'..'" in got.pop("../escape.jpg")
    assert "absolute" in got.pop("/absolute.jpg")
    assert all("absolute" in text for text in got.values())
    assert len(got) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("name", ["p.bin", "p.zip"])
def test_a_picture_with_a_zip_behind_it_is_a_picture(tmp_path, picture, encode, kind, name):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("inner.png", encode(picture(1), "PNG"))
    path = tmp_path / name
    path.write_bytes(encode(picture(2), kind) + held.getvalue())
    assert zipfile.is_zipfile(path)
    with open_source(path) as source:
        assert (source.kind, [one.name for one in source]) == ("picture", [name])
        (found,) = source
        read_picture(found.read())


@pytest.mark.parametrize("before", [b"", b"MZ" + bytes(300), b"#!/bin/sh\nexit\n", bytes(512)])
def test_a_zip_behind_a_program_is_a_zip(tmp_path, picture, encode, before):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("inner.png", encode(picture(1), "PNG"))
    path = tmp_path / "unpack.exe"
    path.write_bytes(before + held.getvalue())
    with open_source(path) as source:
        assert (source.kind, [one.name for one in source]) == ("zip", ["inner.png"])


@pytest.mark.parametrize("first", ["BMface", "GIF89a.jpg"])
def test_a_tar_whose_first_name_is_like_a_picture_is_a_tar(tmp_path, picture, encode, first):
    data = encode(picture(1), "JPEG")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo(first)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    with open_source(tmp_path / "a.tar") as source:
        assert (source.kind, [one.name for one in source]) == ("tar", [first])


def test_zip_member_that_lies_about_its_size(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 5_000_000)
    data = bytearray(path.read_bytes())
    for start in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[start : start + 4] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    monkeypatch.setattr(zips, "MAX_FILE_BYTES", 1000)
    got = outcome(path)
    assert isinstance(got["bomb"], str)


def test_folder(tmp_path):
    root = tmp_path / "in"
    (root / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "__MACOSX").mkdir()
    for name in ("f10.jpg", "f2.jpg", "b/x.jpg", ".DS_Store", ".hidden/x.jpg", "__MACOSX/x.jpg", "Thumbs.db"):
        (root / name).write_bytes(name.encode())
    (root / "loop").symlink_to(root)
    (root / "gone").symlink_to(root / "nothing")
    (root / "good").symlink_to(root / "f2.jpg")
    os.mkfifo(root / "pipe")
    os.makedirs(root / "out")
    (root / "out" / "skipped.jpg").write_bytes(b"")
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    got = outcome(root, (root / "out",))
    assert list(got) == ["b/x.jpg", "f2.jpg", "f10.jpg", "gone", "good", "loop", "pipe"]
    assert got["good"] == b"f2.jpg"
    assert "not followed" in got["loop"]
    assert "leads nowhere" in got["gone"]
    assert "not a regular file" in got["pipe"]


def test_unreadable_folder():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "closed").mkdir()
        (root / "a.jpg").write_bytes(b"a")
        (root / "closed").chmod(0)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(65534)
            got = outcome(root)
            with pytest.raises(UserError, match="no permission"):
                open_source(root / "closed")
        finally:
            if is_root:
                os.seteuid(0)
            (root / "closed").chmod(0o755)
    assert got["a.jpg"] == b"a"
    assert "cannot be read" in got["closed"]


def test_list_of_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "list.txt").write_text(f"# mine\na.jpg\n\n{tmp_path}/a.jpg\nmissing.jpg\nzero\0byte\n")
    got = outcome(tmp_path / "list.txt")
    assert got["a.jpg"] == got[f"{tmp_path}/a.jpg"] == b"a"
    assert "no such file" in got["missing.jpg"]
    assert isinstance(got["zero\0byte"], str)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        open_source(tmp_path / "binary.txt")


def test_sources_that_are_none(tmp_path):
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "plain.gz").write_bytes(gzip.compress(b"just text" * 100))
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(hostile_tar())[:20])
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "nowhere": "there is no",
        "empty.tar": "empty",
        "broken.zip": "not a tar or zip that can be read",
        "plain.gz": "not a tar",
        "cut.tar.gz": "cannot be decompressed|not a tar",
        "pipe": "neither a file nor a folder",
    }.items():
        with pytest.raises(UserError, match=message):
            open_source(tmp_path / name)


def test_fingerprint_follows_the_content(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    first = open_source(folder).fingerprint
    assert open_source(folder).fingerprint == first
    (folder / "b").write_bytes(b"33")
    second = open_source(folder).fingerprint
    (folder / "b").unlink()
    assert len({first, second, open_source(folder).fingerprint}) == 3


def test_keys_are_short_and_safe():
    assert stem("x/y.tar.jpg") == "x/y_tar"
    assert stem("a\\b.png") == "a/b"
    assert stem("") == "_"
    assert stem("\udcff'\n.png") == "___"
    assert stem("か\u3099.png") == "が"
    assert stem("あ" * 90 + "1.png") != stem("あ" * 90 + "2.png")
    assert len(stem("あ" * 90 + "1.png").encode()) <= 80


def test_natural_order_survives_strange_numbers():
    names = ["a9", "a" + "9" * 5000, "a010", "٣", "a", "", "a10"]
    assert sorted(names, key=natural)[:4] == ["", "a", "a9", "a010"]


def small_tar(*names: str, end: bool = True) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            add(archive, name, name.encode() * 200)
        if not end:
            archive.fileobj = io.BytesIO()
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    import pyarrow

    return pyarrow.compress(data, "zstd", asbytes=True)


COMPRESSORS = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


@pytest.fixture(params=["file", "remote"])
def opened(request, tmp_path):
    """Names → bytes or reason, of bytes that lie in a file here or far away."""

    def read(data: bytes, name: str = "a.tar") -> dict[str, bytes | str]:
        if request.param == "file":
            (tmp_path / name).write_bytes(data)
            return outcome(tmp_path / name)
        import fsspec

        url = f"memory://{tmp_path.name}-{name}"
        with fsspec.open(url, "wb") as file:
            file.write(data)
        return outcome(url)

    return read


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("inside", [True, False])
def test_tars_one_behind_the_other_are_all_read(opened, kind, inside):
    compress = COMPRESSORS[kind]
    a, b, c = small_tar("a.jpg", "b.jpg"), small_tar("c.jpg"), small_tar("d.jpg", end=False)
    whole = compress(a + b + c) if inside else compress(a) + compress(b) + compress(c)
    got = opened(whole)
    assert got == {name: name.encode() * 200 for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")}


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("zeros", [1, 2, 3, 100])
def test_zero_blocks_in_the_middle_are_passed(opened, kind, zeros):
    first = small_tar("a.jpg")[:1536]
    got = opened(COMPRESSORS[kind](first + bytes(512 * zeros) + small_tar("b.jpg")))
    assert set(got) == {"a.jpg", "b.jpg"}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_bytes_after_the_end_are_counted(opened, kind):
    got = opened(COMPRESSORS[kind](small_tar("a.jpg") + b"x" * 5000 + bytes(2000)))
    assert got.pop("a.jpg") == b"a.jpg" * 200
    assert got == {"": "5,000 bytes after the end of the archive that are no tar"}
    between = COMPRESSORS[kind](small_tar("a.jpg") + b"x" * 100 + bytes(412) + small_tar("b.jpg") + b"y")
    got = opened(between)
    assert set(got) == {"a.jpg", "b.jpg", ""}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize(
    ("after", "told"),
    [(b"garbage " * 100, "800 bytes after the end of the compressed"), (bytes(1000), ""), (b"BZ", "2 b")],
)
def test_bytes_after_what_is_compressed_are_counted(opened, kind, after, told):
    got = opened(COMPRESSORS[kind](small_tar("a.jpg")) + after)
    assert got.pop("a.jpg") == b"a.jpg" * 200
    assert told in got.pop("", "")
    assert not got
    assert opened(COMPRESSORS[kind](small_tar("a.jpg")) + gzip.compress(small_tar("b.jpg"))).keys() == {
        "a.jpg",
        "b.jpg",
    }


def test_the_rest_behind_zstandard_frames_is_told(opened):
    got = opened(zstd(small_tar("a.jpg")) + b"garbage " * 100)
    assert got.pop("a.jpg") == b"a.jpg" * 200
    assert "breaks off" in got.pop("")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_what_is_compressed_and_cut_short_is_told(opened, kind):
    whole = COMPRESSORS[kind](small_tar("a.jpg")) + COMPRESSORS[kind](small_tar("b.jpg"))
    got = opened(whole[:-3])
    assert got["a.jpg"] == b"a.jpg" * 200
    assert "breaks off" in got.get("", "") or "cut short" in str(got)


def test_endless_zeros_behind_an_archive_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "MAX_SKIPPED_BYTES", 2**20)
    (tmp_path / "a.tgz").write_bytes(gzip.compress(small_tar("a.jpg") + bytes(2**24) + small_tar("b.jpg")))
    got = outcome(tmp_path / "a.tgz")
    assert "more than 1,0" in got.pop("")
    assert set(got) == {"a.jpg"}


def packed(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name.encode() * 200)
    return out.getvalue()


def test_zips_one_behind_the_other_are_all_read(opened):
    got = opened(packed("a.jpg", "b.jpg") + packed("c.jpg") + packed("d.jpg"), "a.zip")
    assert got == {name: name.encode() * 200 for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")}


def test_bytes_around_a_zip_are_counted(opened):
    got = opened(packed("a.jpg") + b"x" * 700, "a.zip")
    assert got.pop("a.jpg") == b"a.jpg" * 200
    assert got == {"": "700 bytes after the end of the zip"}
    got = opened(b"PK and more" + packed("a.jpg"), "b.zip")
    assert got.pop("a.jpg") == b"a.jpg" * 200
    assert got == {"": "11 bytes before the zip that are no zip"}


def test_a_list_may_be_utf_16(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "list.txt").write_bytes("# mine\r\na.jpg\r\n".encode("utf-16"))
    assert outcome(tmp_path / "list.txt") == {"a.jpg": b"a"}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_behind_a_damaged_header_reading_goes_on(opened, kind):
    whole = bytearray(small_tar("a.jpg", "b.jpg", "c.jpg"))
    at = whole.index(b"b.jpg")
    whole[at + 100 : at + 160] = b"?" * 60
    got = opened(COMPRESSORS[kind](bytes(whole)))
    assert set(got) == {"a.jpg", "c.jpg", ""}
    assert "a damaged header; 1,536 bytes are passed over" in got[""]
