"""`omokage faces`: the figures and the sheet, and what the command line says."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.derive.stats import show_statistics, statistics


def drawing(seed):
    draw = np.random.default_rng(seed)
    parts = [
        np.asarray(
            Image.fromarray(draw.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((64, 64), 3), float
        )
        for n in (3, 8, 20)
    ]
    return Image.fromarray(np.mean(parts, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    (folder / "in").mkdir()
    for i in range(12):
        drawing(i).save(folder / "in" / f"{i}.png")
    drawing(0).save(folder / "in" / "copy.jpg", quality=60)
    drawing(1).save(folder / "in" / "same.png")
    drawing(20).resize((96, 80)).save(folder / "in" / "wide.png")
    rows = [f"{i}.png,{['blonde', 'black|blue', ''][i % 3]},{i}" for i in range(12)]
    (folder / "l.csv").write_text("\n".join(["file,hair,an \x1b[31m evil name", *rows]))
    build([folder / "in"], folder / "set", as_faces=True, labels=folder / "l.csv")
    return folder / "set"


def test_figures(faces):
    figures = statistics(faces)
    assert (figures["faces"], figures["rejected"]) == (15, 0)
    assert figures["sizes"] == {"64x64": 14, "96x80": 1}
    assert figures["formats"] == {"png": 14, "jpg": 1}
    assert figures["duplicates"] == {"exact": 1, "same": 2, "alike": 2, "largest_group": 2}
    assert figures["labels"]["hair"] == {"known": 8, "values": {"black": 4, "blonde": 4, "blue": 4}}
    assert figures["shorter_side"] == {"lowest": 64, "median": 64, "highest": 80}
    assert "same" not in statistics(faces, near=False)["duplicates"]


def test_figures_fit_80_columns(faces):
    for width in (80, 200):
        out = io.StringIO()
        show_statistics(statistics(faces), Console(file=out, width=width, highlight=False))
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        text = out.getvalue()
        assert "\x1b" not in text
        for part in ("15", "96x80", "black", "exact", "50.0%", "8 known"):
            assert part in text


def test_verbs(faces, tmp_path, capsys):
    def run(*arguments):
        code = main(["faces", *map(str, arguments)])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    assert run("show", faces, "-o", tmp_path / "a.png", "--where", "hair=blonde")[0] == 0
    assert run("show", faces, "-o", tmp_path / "d.png", "--duplicates", "--label", "file")[0] == 0
    with Image.open(tmp_path / "d.png") as sheet:
        assert sheet.text["Title"] == "2 groups of faces alike, 4 faces"
    code, out, _ = run("stats", faces, "--json", "--no-near")
    assert (code, json.loads(out)["faces"]) == (0, 15)
    code, out, _ = run("split", faces, "-o", tmp_path / "split", "--holdout", "0.2")
    assert code == 0
    assert "12 faces in" in out
    assert "3 in" in out
    code, out, _ = run("merge", faces, "-o", tmp_path / "clean", "--drop", "near")
    assert (code, out.splitlines()[1].split()) == (0, ["2", "duplicate"])
    assert run("export", tmp_path / "clean", "-o", tmp_path / "files", "--as", "folder")[0] == 0
    assert len(list((tmp_path / "files/pictures").iterdir())) == 13


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "FACES", "-o", "OUT.png", "--where", "hare=blonde"], "did you mean 'hair'"),
        (["show", "FACES", "-o", "OUT.png", "--where", "hair=green"], "conditions: hair has no 'green'"),
        (["show", "FACES", "-o", "OUT.png", "--label", "name"], "no column 'name'"),
        (["show", "FACES", "-o", "OUT.jpg"], "must end in .png"),
        (["show", "nowhere"], "there is no face set nowhere"),
        (["split", "FACES", "-o", "OUT", "--holdout", "7"], "above 0 and below 1"),
        (["split", "FACES", "-o", "OUT", "--together", "hare"], "did you mean 'hair'"),
        (["merge", "FACES", "-o", "OUT", "--drop", "some"], "give none, exact, near"),
        (["merge", "FACES", "-o", "OUT", "--opt-out", "nowhere"], "no such file"),
        (["export", "FACES", "-o", "OUT", "--as", "zip"], "give folder, parquet"),
    ],
)
def test_mistakes_are_one_line(faces, tmp_path, capsys, arguments, told):
    places = {"FACES": str(faces), "OUT": str(tmp_path / "out")}
    arguments = [places.get(a, a.replace("OUT", places["OUT"])) for a in arguments]
    assert main(["faces", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
