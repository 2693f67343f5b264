import base64
import hashlib

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from omokage.__main__ import app
from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.derive.export import export
from omokage.data.derive.merge import merge
from omokage.data.derive.optout import plain_name, read_opt_out, told
from omokage.data.sources.labels import Labels
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

DATA = b"a picture"
KINDS = ("md5", "sha1", "sha256", "sha512", "sha3_256")
HASHES = {kind: hashlib.new(kind, DATA).hexdigest() for kind in KINDS}
MD5, SHA256 = HASHES["md5"], HASHES["sha256"]


@pytest.fixture
def listed(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return read_opt_out(tmp_path / "list.txt")

    return write


@pytest.mark.parametrize(
    "line",
    [
        "mira (pix)", "Mira_(Pix)", "mira(pix)", "@mira_(pix)", "artist:mira_(pix)", "artist: Mira (pix)",
        "Artist : mira_(pix)", "by mira (pix)", "creator:mira_(pix)", '"mira (pix)"', "- mira (pix)",
        "1. mira_(pix)", "mira_(pix)   # asked by mail", "mira_(pix)\t# mail", "mira (pix) ; asked by mail",
        "mira_(pix), asked by mail", '"Mira (pix)","asked, twice"', "mira (pix)\tasked", "-artist:mira_(pix)",
        r"mira \(pix\)", "ｍｉｒａ　（ｐｉｘ）", "mira_%28pix%29", "mira_&#40;pix&#41;", "kei, mira_(pix)",
        "  mira_(pix)  ", "\u200bmira (pix)", '["kei", "mira_(pix)"]', "mira (pix) // mail",
    ],
)  # fmt: skip
def test_every_way_to_write_an_artist(listed, line):
    out = listed(f"# remark\n; remark\n// remark\n\n{line}\nsomebody\n")
    assert len(out.entries) == 2
    for artist in ("mira (pix)", "Mira_(pix)", "other|MIRA (PIX)", "mira_(pix), other", "mira(pix)"):
        assert out.of_picture(b"", Labels(artist=artist)) == (0,)
    for artist in ("mira", "pix", "mira pix", "mira (pixiv)", None):
        assert out.of_picture(b"", Labels(artist=artist)) == ()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_equal_in_both_codings(listed, form):
    import unicodedata

    out = listed(unicodedata.normalize(form, "ガラス é\n"))
    for other in ("NFC", "NFD"):
        assert out.of_picture(b"", Labels(artist=unicodedata.normalize(other, "ガラス_É")))
    assert plain_name("straße") == plain_name("STRASSE")


@pytest.mark.parametrize(
    "line",
    [
        MD5, MD5.upper(), f"md5:{MD5}", f"MD5: {MD5.upper()}", f"{MD5}  a.png", f"{MD5} *a b.png",
        f"\\{MD5}  a\\nb.png", f"MD5 (a.png) = {MD5}", f"MD5 (a #1.png) = {MD5}", f"MD5(a.png)= {MD5}",
        SHA256, f"sha256:{SHA256}", f"sha256={SHA256}", f"SHA256 (a.png) = {SHA256}", f"{SHA256} # mine",
        f"SHA2-256(a.png)= {SHA256}", f"SHA256          {SHA256.upper()}       C:\\my pictures\\a.png",
        f"sha256-{base64.b64encode(bytes.fromhex(SHA256)).decode()}", f"0x{SHA256}",
        base64.b64encode(bytes.fromhex(MD5)).decode(), bytes.fromhex(MD5).hex(" "),
        HASHES["sha1"], f"SHA1 (a.png) = {HASHES['sha1']}", f"sha-1 {HASHES['sha1']}",
        HASHES["sha512"], f"SHA3-256 (a.png) = {HASHES['sha3_256']}", f"9,{MD5},{SHA256},/my/a.png",
        f"https://example.org/data/{MD5}.jpg", f'"{SHA256}"', f"{SHA256},asked by mail", f"a.png: {SHA256}",
    ],
)  # fmt: skip
def test_every_way_to_write_a_hash(listed, line):
    out = listed(f"{line}\n")
    assert len(out.entries) == 1
    assert out.of_picture(DATA, Labels(), "a.png") == (0,)
    assert out.of_picture(b"another", Labels(artist="a.png"), "a.png") == ()


def test_a_picture_is_known_by_its_boards_hash(listed):
    out = listed(f"{MD5}\n")
    assert out.of_picture(b"smaller", Labels(), f"more/{MD5}.jpg")
    assert out.of_picture(b"smaller", Labels(), f"__mira__sample-{MD5.upper()}.jpg")
    assert out.of_picture(b"smaller", Labels(digests=(MD5,)))
    assert out.of_picture(b"smaller", Labels(url=f"https://example.org/{MD5[:2]}/{MD5}.png"))
    assert not out.of_picture(b"smaller", Labels(), f"a{MD5}.jpg")


def test_pages(listed):
    out = listed("https://x.com/Mira\nhttps://www.pixiv.net/artworks/123\n")
    assert out.of_picture(b"", Labels(url="https://twitter.com/mira/status/9")) == (0,)
    assert out.of_picture(b"", Labels(url="http://pixiv.net/artworks/123?x=1")) == (1,)
    assert out.of_picture(b"", Labels(url="https://www.pixiv.net/artworks/1234")) == ()
    assert out.of_picture(b"", Labels(url="https://twitter.com/miranda")) == ()


def test_tags_and_folders_count_where_no_artist_is_known(listed):
    out = listed("mira\n")
    assert out.of_picture(b"", Labels(tags=("smile", "mira")))
    assert out.of_picture(b"", Labels(), "twitter/Mira/1.png")
    assert not out.of_picture(b"", Labels(), "twitter/1/mira.png")
    assert not out.of_picture(b"", Labels(tags=("mira",), artist="kei"), "mira/1.png")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(listed, encoding, end):
    out = listed(f"# list{end}mira{end}{MD5}{end}", encoding)
    assert [entry.line for entry in out.entries] == [2, 3]
    assert out.of_picture(DATA, Labels(artist="mira")) == (0, 1)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("CRC32: 8c736521", "no hash that can be compared"),
        (f"RIPEMD160 (a.png) = {'ab' * 20}", "no hash that can be compared"),
        (f"sha256:{MD5}", "64 hex digits"),
        (MD5[:-1], "cut short"),
        ("pictures/a.png", "a file's name"),
    ],
)
def test_what_is_not_understood_is_named(listed, line, why):
    out = listed(f"mira\n{line}\n")
    lines = "\n".join(told(out.summary({0: 3})))
    assert "1 of 2 entries met a picture" in lines
    assert f"line 2: {line}"[:40] in lines
    assert why in lines


def test_the_terminal_names_a_few_and_counts_the_rest(listed):
    out = listed("".join(f"artist {i}\n" for i in range(500)))
    summary = out.summary({3: 1})
    assert (summary["entries"], summary["met"], len(summary["met_nobody"])) == (500, 1, 100)
    assert told(summary)[-1].strip() == "and 489 more"
    assert len(told(summary)) == 12
    assert told(out.summary(dict.fromkeys(range(500), 1))) == ["opt-out: 500 of 500 entries met a picture"]
    assert told(None) == []


def test_rows_of_an_index(listed):
    index = pa.table(
        {
            "key": ["a", "b", "c", "d"],
            "file": ["1.png", f"{MD5}.png", "x/3.png", "mira/4.png"],
            "sha256": pa.array([bytes([i]) * 32 for i in range(4)], pa.binary(32)),
            "original_sha256": ["AA" * 32, None, "", "ff" * 32],
            "artist": ["Ann", "Bo|cy_(x)", None, "ann "],
            "picture_md5": ["dd" * 16, None, None, None],
        }
    )

    def theirs(text, read=None):
        rows, met = listed(text).of_rows(index, read)
        return "".join(k for k, out in zip("abcd", rows, strict=True) if out), dict(met)

    assert theirs("03" * 32) == ("d", {0: 1})
    assert theirs("aa" * 32) == ("a", {0: 1})
    assert theirs("ANN # mail\ncy(x)") == ("abd", {0: 2, 1: 1})
    assert theirs(f"md5:{'DD' * 16}") == ("a", {0: 1})
    assert theirs(MD5) == ("b", {0: 1})
    assert theirs(MD5, lambda row: DATA if row == 2 else b"") == ("bc", {0: 2})
    assert theirs(f"{'77' * 32}\ndora") == ("", {})
    assert theirs("mira") == ("", {})  # whose artist is known


@pytest.mark.parametrize("content", [b"", b"# nobody\n", b"\n ; remark\n---\n", b"\xef\xbb\xbf# x"])
def test_an_empty_list_is_refused_alike(make_set, encode, picture, tmp_path, content):
    made = make_set("a", {"1.jpg": encode(picture(1))})
    folder, options = tmp_path / "pictures", Options(opt_out=str(tmp_path / "list.txt"))
    folder.mkdir()
    (folder / "1.jpg").write_bytes(encode(picture(1)))
    (tmp_path / "list.txt").write_bytes(content)
    for run in (
        lambda: merge([made], tmp_path / "out", opt_out=tmp_path / "list.txt"),
        lambda: export(made, tmp_path / "out", opt_out=tmp_path / "list.txt"),
        lambda: build([folder], tmp_path / "out", options=options),
    ):
        with pytest.raises(UserError, match=r"list\.txt names neither an artist nor a hash"):
            run()
    assert not (tmp_path / "out").exists()


def test_build_merge_and_export_agree(encode, drawing, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = [encode(drawing(i, 48), "PNG") for i in range(6)]
    artists = ["mira_(pix)", "kei", "somebody_else", "", "kei", ""]
    for i, (data, artist) in enumerate(zip(pictures, artists, strict=True)):
        (folder / f"{i}.png").write_bytes(data)
        (folder / f"{i}.txt").write_text("smile, hat" + (f", artist:{artist}" if artist else ""))
    wanted = "\n".join(
        [
            "artist: Mira_(Pix)   # asked by mail",
            f"{hashlib.md5(pictures[3]).hexdigest()} *three.png",
            f"SHA256 (4.png) = {hashlib.sha256(pictures[4]).hexdigest().upper()}",
            "nobody at all",
        ]
    )
    note = tmp_path / "list.txt"
    note.write_text(wanted)
    plain = Options(detector=None, clean=False, duplicates=False, format="png")
    build([folder], tmp_path / "all", options=plain, workers=1)
    out = ["--opt-out", str(note)]
    table = tmp_path / "artists.csv"
    table.write_text("file,artist\n" + "".join(f"{i}.png,{artist}\n" for i, artist in enumerate(artists)))
    run, labelled = CliRunner(), ["--labels", str(table)]
    steps = ["--no-detect", "--no-clean", "--no-duplicates", "--workers", "1"]
    results = [
        run.invoke(app, ["build", str(folder), "-o", str(tmp_path / "built"), *steps, *out]),
        run.invoke(app, ["faces", "merge", str(tmp_path / "all"), "-o", str(tmp_path / "merged"), *out]),
        run.invoke(app, ["faces", "export", str(tmp_path / "all"), "-o", str(tmp_path / "files"), *out]),
        run.invoke(app, ["build", str(folder), "-o", str(tmp_path / "kept"), "--as-faces", *labelled, *out]),
    ]
    for result in results:
        assert result.exit_code == 0, result.output
        assert "3 of 4 entries met a picture" in result.output
        assert "line 4: nobody at all" in result.output
    built, merged, kept = (FaceSet.open(tmp_path / name) for name in ("built", "merged", "kept"))
    for faces in (built, merged, kept):
        assert faces.index["file"].to_pylist() == ["1.png", "2.png", "5.png"]
    assert {p.stem for p in (tmp_path / "files/pictures").iterdir()} == {"1", "2", "5"}
    for manifest in (built.manifest, merged.manifest, kept.manifest):
        assert manifest["opt_out"]["met_nobody"] == [{"line": 4, "entry": "nobody at all"}]
    again = run.invoke(app, ["faces", "merge", str(tmp_path / "all"), "-o", str(tmp_path / "merged"), *out])
    assert "complete already" in again.output
    assert "line 4: nobody at all" in again.output


def test_artists_need_labels(tmp_path, encode, picture):
    (tmp_path / "a.png").write_bytes(encode(picture(1), "PNG"))
    (tmp_path / "list.txt").write_text("mira\n")
    options = Options(detector=None, clean=False, label=False, opt_out=str(tmp_path / "list.txt"))
    with pytest.raises(UserError, match="leave --no-label out"):
        build([tmp_path / "a.png"], tmp_path / "set", options=options, workers=1)
