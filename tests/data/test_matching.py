import unicodedata
import zipfile

import pytest
from typer.testing import CliRunner

from omokage.__main__ import app
from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.sources.matching import Rows, told
from omokage.data.sources.table import LabelTable
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

NFD = unicodedata.normalize("NFD", "がé.png")
NFC = unicodedata.normalize("NFC", NFD)


def rows(*names, values=None):
    said = values or range(len(names))
    return Rows([[n] if isinstance(n, str) else n for n in names], lambda a, b: said[a] == said[b], "t.csv")


def meet(table, *files):
    return table.meet([(0, *one) if len(one) == 2 else one for one in files]).places


@pytest.mark.parametrize(
    ("row", "file"),
    [
        ("a.png", "a.png"), ("a.png", "sub/a.png"), ("sub/a.png", "sub/a.png"), ("sub\\a.png", "sub/a.png"),
        ("./a.png", "a.png"), (".\\sub\\a.png", "sub/a.png"), ("//sub//a.png", "sub/a.png"),
        ("A.PNG", "a.png"),
        ("a.png", "A.png"), ("Sub/A.png", "sub/a.PNG"), (NFC, NFD), (NFD, NFC),
        (f"x/{NFC.upper()}", f"x/{NFD}"),
        ("pictures/a.png", "a.png"), ("C:\\my\\pictures\\a.png", "a.png"),
        ("/home/me/in/sub/a.png", "sub/a.png"),
        ("in/a.png", "a.png"), ("in/sub/a.png", "sub/a.png"), ("IN\\a.png", "a.png"), ("a", "a.png"),
        ("12", "0012/12.jpg"), ("sub/a", "sub/a.png"), ("a.png", "./a.png"), ("sub/a.png", "sub\\a.png"),
        ("テスト.png", "テスト.png".encode("cp932").decode("cp437")),
        ("画像/テスト.png", "画像/テスト.png".encode("cp932").decode("cp437")),
        ("テスト.png", "テスト.png".encode().decode("cp437")), ("é.png", "é.png".encode().decode("latin-1")),
        ("テスト.png", "テスト.png".encode("cp932").decode("utf-8", "surrogateescape")),
        ("テスト.png".encode().decode("cp437"), "テスト.png"),
        ("测试.png", "测试.png".encode("gb18030").decode("cp437")),
    ],
)  # fmt: skip
def test_spellings_of_one_name_meet(row, file):
    assert meet(rows("other.png", row), ("in", file)) == {("in", _shown(file)): 1}


def _shown(file):
    return file.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize(
    ("row", "file"),
    [
        ("b.png", "a.png"),
        ("x/a.png", "y/a.png"),
        ("a.jpg", "a.png"),
        ("aa.png", "a.png"),
        ("a.png.txt", "a.png"),
    ],
)
def test_other_names_do_not_meet(row, file):
    assert meet(rows("there.png", row), ("in", file), ("in", "there.png")) == {("in", "there.png"): 0}


def test_the_nearest_row_is_taken():
    table = rows("a.png", "sub/a.png", "A.png", "in2/a.png")
    got = meet(table, (0, "in1", "a.png"), (0, "in1", "sub/a.png"), (0, "in1", "A.png"), (1, "in2", "a.png"))
    assert got == {
        ("in1", "a.png"): 0, ("in1", "sub/a.png"): 1, ("in1", "A.png"): 2, ("in2", "a.png"): 3,
    }  # fmt: skip
    # One file has the whole name: the other, which lies deeper, is not meant.
    assert meet(rows("a.png"), ("in", "a.png"), ("in", "sub/a.png")) == {("in", "a.png"): 0}


@pytest.mark.parametrize(
    "files",
    [
        [("in", "x/a.png"), ("in", "y/a.png")],
        [(0, "one", "a.png"), (1, "two", "a.png")],
        [(0, "in", "a.png"), (1, "in", "a.png")],
    ],
)
def test_a_row_that_fits_several_files_is_refused_by_name(files):
    with pytest.raises(UserError, match=r"row 'a\.png' fits 2 files \(.*a\.png, .*a\.png\)"):
        meet(rows("a.png", "b.png"), *files)


def test_rows_that_fit_one_file_and_differ_are_refused():
    with pytest.raises(UserError, match=r"both fit in/a\.png"):
        meet(rows("a.png", "./a.png"), ("in", "a.png"))
    assert meet(rows("a.png", "./a.png", values=["x", "x"]), ("in", "a.png")) == {("in", "a.png"): 0}
    # The surer name of a record goes before one that is so called by chance.
    assert meet(rows(["12"], ["other", "ff", "12"], values="ab"), ("in", "12.png")) == {("in", "12.png"): 0}


def test_the_same_name_twice_in_one_archive_is_one_file():
    assert meet(rows("a.png"), ("in", "a.png"), ("in", "a.png")) == {("in", "a.png"): 0}


def test_counts_are_told():
    met = rows("a.png", "b.png", *(f"{i}.png" for i in range(9))).meet([(0, "in", "a.png")])
    assert (met.rows, met.met, met.unmet) == (11, 1, ("b.png", "0.png", "1.png"))
    line = "1 of 11 rows of t.csv met a picture; not 'b.png', '0.png', '1.png', ..."
    assert told({"name": "t.csv", **met.described}) == [line]
    assert told(None) == told({"name": "t.csv", "matched": 3}) == []
    with pytest.raises(UserError, match=r"0 of 1 rows met a picture: it names 'b\.png', .* 'in/a\.png'"):
        meet(rows("b.png"), ("in", "a.png"))


@pytest.fixture
def folder(tmp_path, encode, drawing):
    path = tmp_path / "in"
    for i, name in enumerate(("a.png", "sub/x.png", "C.PNG", NFD, "e.png")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(encode(drawing(i, 48), "PNG"))
    return path


TABLE = f"file,hair,rating\na.png,red,\nsub\\x.png,blue,\n./c.png,green,e\n{NFC},pink,\nnone.png,gray,\n"


@pytest.mark.parametrize("as_faces", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_meets_a_folder(folder, tmp_path, as_faces, encoding):
    (tmp_path / "t.csv").write_bytes(TABLE.encode(encoding))
    steps = ["--as-faces"] if as_faces else ["--no-detect", "--no-clean", "--workers", "1", "--ratings",
             "general,explicit"]  # fmt: skip
    places = [str(folder), "-o", str(tmp_path / "set"), "--labels", str(tmp_path / "t.csv")]
    arguments = ["build", *places, *steps]
    for _ in range(2):  # also when it is complete already
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "4 of 5 rows of t.csv met a picture; not 'none.png'" in result.output
    faces = FaceSet.open(tmp_path / "set")
    hair = dict(zip(faces.index["file"].to_pylist(), faces.index["hair"].to_pylist(), strict=True))
    assert (hair["a.png"], hair["sub/x.png"], hair["C.PNG"], hair[NFD]) == ("red", "blue", "green", "pink")
    told = faces.manifest["labels"]
    assert (told["rows"], told["met"], told["matched"], told["unmet"]) == (5, 4, 4, ["none.png"])


@pytest.mark.parametrize("as_faces", [True, False])
@pytest.mark.parametrize("rows", ["x.png,a\n", "zzz.png,a\n", "a.png,1\n./a.png,2\n", "a.png,1\na.png,2\n"])
def test_what_is_ambiguous_or_meets_nothing_leaves_nothing(folder, tmp_path, as_faces, rows, encode, picture):
    (folder / "deep").mkdir()
    (folder / "deep/x.png").write_bytes(encode(picture(9), "PNG"))
    labels = tmp_path / "t.csv"
    labels.write_text(f"file,hair\n{rows}")
    options = None if as_faces else Options(detector=None, clean=False)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"t\.csv"):
        build([folder], tmp_path / "set", as_faces=as_faces, labels=labels, options=options, workers=1)
    assert [p for p in sorted(tmp_path.iterdir()) if p not in before and not p.name.endswith(".lock")] == []


@pytest.mark.parametrize("flag", [0, 0x800])
@pytest.mark.parametrize("kind", ["right", "misread"])
def test_a_zip_of_a_japanese_windows(tmp_path, encode, picture, flag, kind):
    names = ["テスト.png", "画像/ソ.png"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i, name in enumerate(names):
            wrong = name.encode("cp932").decode("cp437")
            info = zipfile.ZipInfo(name if kind == "right" and flag else wrong)
            info.flag_bits |= flag
            archive.writestr(info, encode(picture(i), "PNG"))
    (tmp_path / "t.csv").write_text("file,hair\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    build([tmp_path / "a.zip"], tmp_path / "set", as_faces=True, labels=tmp_path / "t.csv")
    faces = FaceSet.open(tmp_path / "set")
    assert faces.manifest["labels"]["met"] == 2
    assert sorted(faces.index["hair"].to_pylist()) == ["0", "1"]


def test_tables_of_records(tmp_path):
    (tmp_path / "t.json").write_text('{"in/a.png": {"tags": "hat"}, "in/b.png": {"rating": "e"}}')
    table = LabelTable(tmp_path / "t.json")
    assert table.get("a.png").tags == ("hat",)
    assert table.get("b.png").rating == "explicit"
    (tmp_path / "t.csv").write_text("file,user,nsfw\na.png,somebody,1\n", encoding="utf-16")
    labels = LabelTable(tmp_path / "t.csv").get("x/A.PNG")
    assert (labels.artist, labels.rating, dict(labels.other)["user"]) == (None, "explicit", "somebody")
