import json
import zipfile
from contextlib import contextmanager
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from omokage import exploring
from omokage.errors import UserError
from omokage.explore.inputs import gather
from omokage.explore.points import drawn, of_seeds, stacked
from omokage.explore.provenance import packed, read_provenance
from omokage.model import load_model
from omokage.settings import Settings
from omokage.studio import exports
from omokage.studio.exports import board_text, items_of, read_board, safe_name, variations, write
from omokage.studio.faces import Item, document, parse


class Cancelled(Exception):
    pass


class Watched:
    """Progress that is cancelled after some reports."""

    def __init__(self, until=10**9):
        self.reports, self.totals, self.until = 0, 0, until

    @contextmanager
    def task(self, label, total):
        self.totals += total
        yield self

    def advance(self, n=1, note=""):
        self.reports += n
        if self.reports > self.until:
            raise Cancelled


@pytest.fixture(scope="module")
def model():
    return load_model("fast-64", "cpu")


def faces(model, seeds, psi=0.8, edits=None):
    settings = Settings(psi=psi)
    points = of_seeds(model, seeds, settings, "z")
    if edits:
        points = points.moved(points.values + 0.5)
    pixels, _ = stacked(drawn(model, points, settings), model.resolution)
    told = {"model": model.snapshot_hash[:12], "psi": psi} | ({"edits": edits} if edits else {})
    return [
        Item(parse({**told, "from": {"seed": seed}}), model, points[[row]], Settings(), pixels[row])
        for row, seed in enumerate(seeds)
    ]


@pytest.fixture(scope="module")
def three(model):
    edited = faces(model, [5], edits={"hair=blue": 2.0})[0]
    return [*faces(model, [3, 4]), replace(edited, name="綾波 / no. 1", note="keep this one")]


def test_a_face_is_the_picture_that_its_recipe_makes_again(model, three, tmp_path):
    for number, item in enumerate((three[0], three[2])):
        watched = Watched()
        made = write("png", [item], tmp_path / str(number), progress=watched)
        assert (np.asarray(Image.open(made.path)) == item.pixels).all()
        assert made.media_type == "image/png"
        assert watched.reports == watched.totals > 0
        told = read_provenance(made.path)
        assert told.arguments["studio"] == [document(item.face)]
        again = exploring.remake(model, told, tmp_path / "again.png")
        assert exploring.same_pixels(made.path, again) == "the same, bit for bit"
        assert "may i sell this? no" in made.told[-1].lower()
        text = Image.open(made.path).text
        assert "generated" in text["Source"]
        assert text["Disclaimer"] == made.told[-1]
    assert Image.open(made.path).text["Comment"] == "keep this one"


def test_without_a_recipe_the_file_still_says_that_it_was_generated(three, tmp_path):
    made = write("png", three[:1], tmp_path, recipe=False)
    assert read_provenance(made.path) is None
    text = Image.open(made.path).text
    assert set(text) == {"Source", "Disclaimer"}
    film = write("film", three[:2], tmp_path, seconds=0.2, recipe=False)
    with av.open(str(film.path)) as container:
        assert set(json.loads(container.metadata["comment"])) == {"Source", "Disclaimer"}


def test_a_larger_face_is_that_of_the_command(model, three, tmp_path):
    made = write("png", three[:1], tmp_path, scale=4)
    assert Image.open(made.path).size == (256, 256)
    again = exploring.remake(model, read_provenance(made.path), tmp_path / "again.png")
    assert exploring.same_pixels(made.path, again) == "the same, bit for bit"
    assert read_provenance(made.path).upscale["factor"] == 4


def test_a_folder_has_everything_and_says_what_it_is(three, tmp_path):
    pins = [{"face": document(item.face), "note": item.note, "parents": []} for item in three]
    board = board_text("Rei", pins, {})
    made = write("folder", three, tmp_path, name="../Rei", notes="for episode 2", board=board, language="ja")
    assert made.path == tmp_path / "Rei.zip"
    assert [path.name for path in tmp_path.iterdir()] == ["Rei.zip"]  # no temporary file stays
    with zipfile.ZipFile(made.path) as packed_:
        names = packed_.namelist()
        assert names == [
            "Rei/faces/001-seed-3.png", "Rei/faces/002-seed-4.png", "Rei/faces/003-綾波-no.-1.png",
            "Rei/contact-sheet.png", "Rei/board.omokage-board", "Rei/README.txt",
        ]  # fmt: skip
        readme = packed_.read("Rei/README.txt").decode()
        assert "for episode 2" in readme
        assert "販売できますか" in readme
        assert read_board(packed_.read("Rei/board.omokage-board"))["name"] == "Rei"
        with packed_.open("Rei/contact-sheet.png") as file:
            contact = Image.open(file)
            assert "generated" in contact.text["Source"]
            assert len(json.loads(contact.text["omokage"])["arguments"]["studio"]) == 3


@pytest.mark.parametrize("kind", ["png", "contact", "folder", "film"])
def test_a_cancelled_export_leaves_nothing(three, tmp_path, kind):
    with pytest.raises(Cancelled):
        write(kind, three, tmp_path, seconds=0.5, board=board_text("b", [], {}), progress=Watched(0))
    assert list(tmp_path.iterdir()) == []


def test_faces_of_other_settings_share_a_page_but_no_film(three, model, tmp_path):
    other = replace(three[0], settings=Settings(jacobi=3))
    told = read_provenance(write("contact", [three[1], other], tmp_path).path)
    assert told.kind == "page"
    assert len(told.faces) == 1
    assert len(told.arguments["studio"]) == 2
    with pytest.raises(UserError, match="one model with the same settings"):
        write("film", [three[1], other], tmp_path, seconds=0.2)


@pytest.mark.parametrize(
    ("kind", "count", "how", "said"),
    [
        ("png", 0, {}, "no faces"),
        ("gif", 1, {}, "no export 'gif'"),
        ("png", 1, {"scale": 3}, "allowed is 1, 2, 4 or 8"),
        ("contact", 1, {"format": "pdf"}, "only character sheets"),
        ("png", 501, {}, "at most 500"),
        ("film", 2, {"seconds": 1e9}, "300 seconds"),
        ("board", 0, {}, "no board"),
    ],
)
def test_an_impossible_export_is_refused_in_one_line(three, tmp_path, kind, count, how, said):
    with pytest.raises(UserError, match=said) as refused:
        write(kind, (three * 200)[:count], tmp_path, **how)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_board_file_comes_back_as_it_was(three):
    key = "ab" * 32
    pins = [
        {"face": {"model": "0" * 12, "from": {"point": key}}, "note": "髪", "favourite": True, "parents": [1],
         "made_by": "upload"},
        {"face": document(three[0].face), "note": "", "favourite": False, "parents": [], "made_by": "roll"},
    ]  # fmt: skip
    points = {key: {"space": "z", "packed": packed(three[0].points.values[0])}}
    assert read_board(board_text("Rei", pins, points)) == {"name": "Rei", "pins": pins, "points": points}


@pytest.mark.parametrize(
    "change",
    [
        lambda told: b"",
        lambda told: b"\x89PNG\r\n\x1a\n",
        lambda told: b"[" * 100_000,
        lambda told: b"{" + b" " * (21 * 2**20),
        lambda told: told.replace(b"board 1", b"board 9"),
        lambda told: told.replace(b'"parents": []', b'"parents": [0]'),
        lambda told: told.replace(b'"parents": []', b'"parents": [7]'),
        lambda told: told.replace(b'"parents": []', b'"parents": [NaN]'),
        lambda told: told.replace(b'"face": {', b'"fave": {'),
        lambda told: told.replace(b'"points": {}', b'"points": {"../x": {}}'),
    ],
)
def test_a_damaged_board_file_is_refused_in_one_line(three, change):
    told = board_text("b", [{"face": document(three[0].face), "parents": []}], {})
    read_board(told)
    with pytest.raises(UserError, match="board file") as refused:
        read_board(change(told))
    assert len(str(refused.value)) < 200


def test_names_of_files_are_tame():
    for wild in ("../../etc/passwd", "a\\b:c", "con", "\x00\n", "." * 300, "綾" * 300):
        name = safe_name(wild)
        assert not set(name) & set('/\\:*?"<>|\n\x00')
        assert not name.startswith(".")
        assert len(name.encode()) <= 80
        assert name.lower() != "con"


def test_a_character_sheet_has_variations_of_a_lone_face(model, three, tmp_path):
    made = write("sheet", three[:1], tmp_path, name="Rei", notes="talks to cats", language="ja")
    assert made.path.name == "Rei.png"
    told = json.loads(Image.open(made.path).text["omokage"])
    documents = told["arguments"]["studio"]
    assert documents[0] == document(three[0].face)
    assert [one["from"]["seed"] for one in documents[1:]] == [0, 1, 2, 3, 4, 5]
    for item, one in zip(variations(three[2]), range(6), strict=False):
        differ = np.abs(item.pixels.astype(int) - three[2].pixels).mean()
        assert 2 < differ < 60, one  # near, but not the same
    assert "販売できますか" in made.told[-1]


def test_a_command_gives_its_faces_as_the_studio_has_them(model):
    settings = Settings(psi=0.8)
    given = gather(["3"], model, settings=settings)
    (item,) = items_of(model, given, settings)
    (other,) = faces(model, [3])
    assert item.face == other.face
    assert (item.pixels == other.pixels).all()
    moved = replace(given, points=given.points.moved(given.points.values + 0.5), origins=[{"name": "kept"}],
                    names=["board.safetensors 2"])  # fmt: skip
    (kept,) = items_of(model, moved, settings)
    assert set(document(kept.face)["from"]) == {"point"}
    assert kept.caption == "board.safetensors 2"


def test_a_file_has_a_largest_size(three, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "MAX_PIXELS", 3 * 64 * 64 * 4)
    with pytest.raises(UserError, match="choose fewer, or a smaller scale"):
        write("folder", three, tmp_path, scale=4)
    write("folder", three, tmp_path, scale=2)
    monkeypatch.setattr(exports, "MAX_SIDE", 100)
    with pytest.raises(UserError, match="over 100 px a side"):
        write("png", three[:1], tmp_path, scale=2)
