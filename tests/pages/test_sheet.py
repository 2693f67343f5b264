import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.model import About
from omokage.pages.sheet import (
    PAPER,
    Sheet,
    bands,
    bands_of_model,
    check_bands,
    check_grid,
    chosen_columns,
    enlarged,
    grid,
    near_square_columns,
    tile,
)


@given(st.integers(1, 5000))
def test_near_square_columns_waste_less_than_a_row_and_stay_near_a_square(n):
    columns = near_square_columns(n)
    rows = -(-n // columns)
    assert rows <= columns <= 1.5 * n**0.5 + 1
    assert columns * rows - n < columns


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (3, 3), (6, 3), (8, 4), (12, 4), (15, 5), (64, 8)])
def test_near_square_columns_of_usual_counts(n, columns):
    assert near_square_columns(n) == columns


def test_columns_are_never_more_than_the_faces():
    assert chosen_columns(3, 10) == 3
    with pytest.raises(UserError, match="columns"):
        chosen_columns(3, 0)


def test_tile_puts_each_face_in_its_place():
    faces = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 3, 3), np.uint8)
    picture = tile(faces, 2, gutter=1, border=2, background=(9, 9, 9))
    assert picture.shape == (3 * 4 + 2 + 4, 2 * 3 + 1 + 4, 3)
    for i in range(5):
        y, x = 2 + (i // 2) * 5, 2 + (i % 2) * 4
        assert (picture[y : y + 4, x : x + 3] == i + 1).all()
    assert (picture == 9).sum() + 5 * faces[0].size == picture.size


def test_enlarging_keeps_flat_colour_and_size_times_factor():
    face = np.full((8, 6, 3), 77, np.uint8)
    assert (enlarged(face, 3) == 77).all()
    assert enlarged(face, 3).shape == (24, 18, 3)
    assert enlarged(face, 1) is face


def flat(n, size=(8, 8)):
    """Faces of one colour each: 1, 2, 3 ..."""
    return np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, *size, 3), np.uint8)


def test_a_grid_keeps_the_pixels_of_faces(tmp_path):
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    path = grid(faces, 3, tmp_path / "grid.png", {"seeds": "0-4"})
    page = Image.open(path)
    pixels = np.asarray(page)
    assert pixels.shape == (2 * 64 + 2, 3 * 64 + 4, 3)  # gutters of two pixels
    for i, face in enumerate(faces):
        y, x = (i // 3) * 66, (i % 3) * 66
        assert (pixels[y : y + 64, x : x + 64] == face).all()
    assert (pixels[66:, 132:] == 255).all()
    assert page.text == {"seeds": "0-4", "columns": "3"}


def test_what_a_grid_or_a_page_would_refuse_is_found_out_before_faces_are_drawn(tmp_path):
    for check in (
        lambda n, out: check_grid(n, (512, 512), None, out),
        lambda n, out: check_bands([n], (512, 512), 32, out),
    ):
        check(4, tmp_path / "a.png")
        with pytest.raises(UserError, match="one file a seed"):
            check(1000, tmp_path / "a.png")
        with pytest.raises(UserError, match=r"must end in \.png"):
            check(4, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def written(monkeypatch):
    """What is written on pages, in order."""
    said = []
    draw_text = ImageDraw.ImageDraw.text

    def listen(self, xy, text, *args, **kwargs):
        said.append(text)
        return draw_text(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    return said


def test_bands_stand_below_one_another_under_their_headings(tmp_path, written):
    shown = [
        Faces(flat(3), ["a", "b", "c"], "First"),
        Faces(flat(5) + 100, ["d", "e", "f", "g", "h"], "Second"),
    ]
    path = bands(shown, tmp_path / "b.png", title="Title", line="small print", columns=4, text={"x": "y"})
    page = Image.open(path)
    pixels = np.asarray(page)
    assert page.text == {"x": "y", "Title": "Title"}
    assert written == ["Title", "small print", "First", "a", "b", "c", "Second", "d", "e", "f", "g", "h"]
    rows, lefts = [], {}
    for value in (1, 2, 3, 101, 102, 103, 104, 105):
        ys, xs = np.nonzero((pixels == value).all(2))
        # 8 px enlarged to 128; rounded corners are paper.
        assert (ys.max() - ys.min() + 1, xs.max() - xs.min() + 1) == (128, 128)
        rows.append(int(ys.min()))
        lefts[value] = int(xs.min())
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4] == rows[5] == rows[6] < rows[7]
    assert lefts[1] == lefts[101] == lefts[105] < lefts[2] == lefts[102] < lefts[3] < lefts[104]


def test_pages_of_a_model_say_which_and_how_many_faces_are_not_finite(tmp_path):
    about = About("fast", 12_345, "5" * 64)
    finite = np.array([True, False, False])
    shown = [Faces(flat(3), heading="one", finite=finite), Faces(flat(2), heading="two")]
    path = bands_of_model(about, shown, tmp_path / "b.png", title="t", columns=3, text={"pictures": "p"})
    text = Image.open(path).text
    assert (text["recipe"], text["snapshot"], text["images seen"]) == ("fast", "5" * 64, "12345")
    assert (text["pictures"], text["not finite"]) == ("p", "2 faces")
    path = bands_of_model(about, shown[1:], tmp_path / "c.png", title="t", columns=2, text={})
    assert "not finite" not in Image.open(path).text


def test_a_sheet_has_margins_and_a_title_that_can_be_left_out(written):
    titled = Sheet.around((100, 200), 10, "Title", "line", "a.png")
    bare = Sheet.around((100, 200), 10, "", "line", "a.png")
    assert written == ["Title", "line"]
    assert titled.image.size == (280, 180 + 75)
    assert bare.image.size == (280, 180)
    assert (np.asarray(bare.image) == PAPER).all()
    assert (titled.x, titled.y, bare.x, bare.y) == (40, 115, 40, 40)
    with pytest.raises(UserError, match="more than readers open"):
        Sheet.around((20_000, 20_000), 10, "", "", "a.png")


def test_a_face_on_a_sheet_is_enlarged_into_its_box():
    sheet = Sheet.around((100, 200), 10, "", "", "a.png")
    sheet.face(np.full((8, 8, 3), 7, np.uint8), 20, 10, (48, 48))
    pixels = np.asarray(sheet.image)
    assert (pixels[50 + 3 : 50 + 45, 60 + 3 : 60 + 45] == 7).all()
    outside = np.ones(pixels.shape[:2], bool)
    outside[50:98, 60:108] = False
    assert (pixels[outside] == PAPER).all()
