"""Labels from the names of files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.derive.split import split
from omokage.data.sources.labels import Labels
from omokage.data.sources.names import NameLabels, with_named
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

PATTERN = "(?P<character>[^/]+)/(?P<picture>[0-9a-f]{32})-"
DIGEST = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("how", "name", "labels"),
    [
        ("folder", "rin/1.png", {"label": "rin"}),
        ("folder", "deep/er/1.png", {"label": "er"}),
        ("folder", "1.png", None),
        ("folder", " /1.png", None),
        ("folder", "か\u3099/1.png", {"label": "が"}),  # decomposed, as one kind of disk writes it
        (PATTERN, f"rin/{DIGEST}-3.png", {"character": "rin", "picture": DIGEST}),
        (PATTERN, f"all/rin/{DIGEST}-3.png", {"character": "rin", "picture": DIGEST}),
        (PATTERN, f"{DIGEST}-3.png", None),
        (PATTERN, "rin/3.png", None),
        ("(?P<a>x)|(?P<b>y)", "y.png", {"b": "y"}),
        ("(?P<a>x?)", "y.png", None),  # what is empty says nothing
        ("(?P<who>が)", "か\u3099.png", {"who": "が"}),
    ],
)
def test_what_a_name_says(how, name, labels):
    assert NameLabels(how)("source", name) == labels


def test_with_several_sources_their_names_are_tried_too():
    for how in ("folder", "(?P<label>[^/]+)/"):
        one, several = NameLabels(how), NameLabels(how, several=True)
        assert one("rin", "1.png") is None
        assert several("rin", "1.png") == {"label": "rin"}
        assert several("rin", "miku/1.png") == {"label": "miku"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("(?P<a>", "not a regular expression"),
        ("(?P<a>x){99999999999999999999}", "repeats too much"),
        ("(?P<1>x)", "not a regular expression"),
        ("(?P<a>x)(?P<a", "not a regular expression"),
        ("[a-z]+/", "names no group"),
        ("", "names no group"),
        ("folders", "names no group"),
        ("(" * 600, "not a regular expression"),
        ("(?P<a>" + "x" * 2000 + ")", "1,000 at most"),
    ],
)
def test_wrong_expressions_are_one_sentence(how, words):
    with pytest.raises(UserError, match=words) as told:
        NameLabels(how)
    assert "\n" not in str(told.value)
    assert "--labels-from" in str(told.value)


@pytest.mark.parametrize("how", ["(?P<a>(x+)+)$", "(?P<a>(.*)*)\\d\\d\\d$", "(?P<a>(x|xx)+)y"])
def test_an_expression_without_an_end_is_stopped(how, monkeypatch):
    monkeypatch.setattr("omokage.data.sources.names.ONE_NAME_SECONDS", 0.1)
    with pytest.raises(UserError, match="takes too long, as on 'xxx"):
        NameLabels(how)("source", "x" * 900 + "!")


def test_many_names_that_each_take_long_are_stopped_too(monkeypatch):
    monkeypatch.setattr("omokage.data.sources.names.ALL_NAMES_SECONDS", 0.2)
    named = NameLabels("(?P<a>(x|xx)+)y")
    with pytest.raises(UserError, match="takes too long"):  # noqa: PT012 - which name it is does not matter
        for n in range(10_000):
            named("source", "x" * 20 + f"{n}!")


@pytest.mark.parametrize(
    "how", ["x{4294967294}", "(x{999}){999}", "((x{1,60}){60}){60}", "[)]{99999}", "(?:\\({9}){9999}"]
)
def test_huge_repetitions_are_refused_before_they_are_read(how):
    with pytest.raises(UserError, match="repeats too much"):
        NameLabels(f"(?P<a>{how})")


def test_usual_repetitions_are_read():
    NameLabels("(?P<a>[0-9a-f]{64})-(?P<b>[0-9a-f]{64})-(?P<c>(?:\\d{4}-){3}x{1,200})")


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30), st.text(max_size=40))
def test_any_text_is_an_expression_or_one_sentence(how, name):
    told, found = "", None
    try:
        found = NameLabels(how)("source", name)
    except UserError as error:
        told = str(error)
    assert "\n" not in told
    assert found is None or all(value.strip() for value in found.values())


@pytest.fixture
def named(tmp_path, encode, drawing):
    folder = tmp_path / "in"
    for i in range(8):
        who = ("rin", "miku")[i % 2]
        (folder / who).mkdir(parents=True, exist_ok=True)
        (folder / who / f"{DIGEST[:-1]}{i // 4}-{i}.png").write_bytes(encode(drawing(i), "PNG"))
    (folder / "loose.png").write_bytes(encode(drawing(9), "PNG"))
    return folder


def test_build_and_split_by_names(named, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["build", "in", "--as-faces", "-o", "plain"]) == 0
    capsys.readouterr()
    assert main(["build", "in", "--as-faces", "-o", "set", "--labels-from", PATTERN]) == 0
    told = capsys.readouterr().out
    assert "8 of 9 names gave labels; 1 did not, such as 'loose.png'" in told
    faces = FaceSet.open("set")
    assert faces.content_hash == FaceSet.open("plain").content_hash
    rows = {row["file"]: (row["character"], row["picture"]) for row in faces.index.to_pylist()}
    assert rows["loose.png"] == (None, None)
    assert rows[f"miku/{DIGEST[:-1]}1-7.png"] == ("miku", f"{DIGEST[:-1]}1")
    assert main(["build", "in", "--as-faces", "-o", "set", "--labels-from", PATTERN]) == 0
    assert "complete already" in capsys.readouterr().out
    assert main(["build", "in", "--as-faces", "-o", "set", "--labels-from", "folder"]) == 2  # another set
    capsys.readouterr()

    how = "/(?P<drawing>[0-9a-f]{32})-"
    assert main(["faces", "split", "plain", "-o", "parts", "--holdout", "0.6", "--together-from", how]) == 0
    assert "8 of 9 names gave labels" in capsys.readouterr().out
    files = [FaceSet.open(f"parts/{part}").index["file"].to_pylist() for part in ("train", "heldout")]
    sides = [{file.partition("/")[2][:32] for file in side} - {""} for side in files]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert "drawing" not in FaceSet.open("parts/train").index.column_names
    with pytest.raises(UserError, match="no name meets it"):
        split("plain", tmp_path / "other", together_from="(?P<drawing>zzz)")
    with pytest.raises(UserError, match="column of the face set"):
        split("plain", tmp_path / "other", together_from="(?P<width>.)")


def test_impossible_names_end_the_build_before_it_begins(named, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("file,character\nloose.png,rin\n")
    for how, more, words in (
        ("(?P<who>zzz)", (), "no name meets it, of 9 such as"),
        ("(?P<file>.)", (), "a column of every face set"),
        ("(?P<character>.)", ("--labels", "labels.csv"), "a column of --labels"),
        ("(?P<a>", (), "not a regular expression"),
    ):
        assert main(["build", "in", "--as-faces", "-o", "set", "--labels-from", how, *more]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert words in told
    assert main(["build", "in/loose.png", "--as-faces", "-o", "set", "--labels-from", "folder"]) == 2
    assert "no file lies in a folder" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
    assert not (tmp_path / ".set.partial").exists()


def test_an_artist_in_a_name_can_opt_out(named, tmp_path):
    (tmp_path / "out.txt").write_text("rin\n")
    options = Options(
        detector=None, clean=False, duplicates=False, upscale="lanczos", opt_out=str(tmp_path / "out.txt"),
        precision="fp32", label=False,
    )  # fmt: skip
    how = "(?P<artist>rin|miku)/(?P<picture>[0-9a-f]+)-"
    build([named], tmp_path / "set", size=16, options=options, labels_from=how, workers=1)
    rows = FaceSet.open(tmp_path / "set").index.to_pylist()
    assert {row["artist"] for row in rows} == {"miku", None}
    assert {row["picture"] for row in rows if row["artist"]} == {f"{DIGEST[:-1]}{i}" for i in (0, 1)}
    with pytest.raises(UserError, match="a column of every such face set"):
        build([named], tmp_path / "b", options=options, labels_from="(?P<tilt>.)")
    assert with_named(Labels(rating="general"), {"rating": "explicit"}).rating == "explicit"
    both = with_named(Labels(other=(("set", "1"),)), {"set": "2", "x": "3"})
    assert dict(both.other) == {"set": "1", "x": "3"}  # a table goes first
