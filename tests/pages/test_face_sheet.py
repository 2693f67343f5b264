import numpy as np
import pytest
from PIL import Image, ImageDraw

from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.pages.face_sheet import CELL, write_face_sheet


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
    """Three faces, the last one wide, with a label that is hostile."""
    folder = tmp_path_factory.mktemp("sheet")
    (folder / "in").mkdir()
    for i in range(2):
        drawing(i).save(folder / "in" / f"{i}.png")
    drawing(2).resize((96, 80)).save(folder / "in" / "wide.png")
    rows = ["0.png,blonde", "1.png,a very long name of a colour that no cell of a sheet has room for"]
    (folder / "l.csv").write_text("\n".join(["file,hair", *rows]))
    build([folder / "in"], folder / "set", as_faces=True, labels=folder / "l.csv", workers=1)
    return FaceSet.open(folder / "set")


def place(face, pixels):
    """The corner of a face on a page; None: it is not there."""
    found = [
        (y, x)
        for y in range(0, pixels.shape[0] - face.shape[0])
        for x in np.flatnonzero((pixels[y] == face[0, 0]).all(1)).tolist()
        if (pixels[y, x : x + 4] == face[0, :4]).all()
    ]
    height, width = face.shape[:2]
    whole = [(y, x) for y, x in found if (pixels[y : y + height, x : x + width] == face).all()]
    assert len(whole) <= 1
    return whole[0] if whole else None


def shown(faces, row):
    face = faces.image(row)
    scale = CELL / max(face.size)
    size = (round(face.width * scale), round(face.height * scale))
    return np.asarray(face.resize(size, Image.Resampling.LANCZOS))


def test_the_sheet_shows_the_faces(faces, tmp_path):
    path = write_face_sheet(faces, [0, 2, 1], tmp_path / "sheet.png", columns=2)
    with Image.open(path) as sheet:
        assert sheet.text["faces"] == faces.content_hash
        pixels = np.asarray(sheet)
    first, wide, below = (place(shown(faces, row), pixels) for row in (0, 2, 1))
    assert shown(faces, 2).shape[:2] == (107, 128)
    assert first[1] == below[1] < wide[1]
    assert first[0] < wide[0] < first[0] + CELL < below[0]  # a wide face stands in the middle of its place


def test_lists_of_rows_are_lines_of_the_sheet(faces, tmp_path):
    path = write_face_sheet(faces, [[0], [1, 2]], tmp_path / "sheet.png", title="Two lines")
    with Image.open(path) as sheet:
        assert sheet.text["Title"] == "Two lines"
        pixels = np.asarray(sheet)
    first, second = (place(shown(faces, row), pixels) for row in (0, 1))
    assert first[1] == second[1]
    assert second[0] >= first[0] + CELL


def test_labels_are_cut_to_their_cells(faces, tmp_path, monkeypatch):
    written = []
    draw_text = ImageDraw.ImageDraw.text

    def listen(self, xy, text, *args, **kwargs):
        written.append(text)
        return draw_text(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    write_face_sheet(faces, [0, 1], tmp_path / "sheet.png", label="hair", line="small")
    assert written[:3] == [f"2 faces of {faces.path.name}", "small", "blonde"]
    assert written[3].endswith("…")
    assert "a very long name".startswith(written[3][:8])


def test_a_column_that_there_is_not_is_refused(faces, tmp_path):
    with pytest.raises(UserError, match="no column 'name'"):
        write_face_sheet(faces, [0], tmp_path / "sheet.png", label="name")
    assert not list(tmp_path.iterdir())
