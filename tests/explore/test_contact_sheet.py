import numpy as np
import pytest
from omokage.explore.contact_sheet import INK, PAPER, write_contact_sheet
from PIL import Image

from omokage.errors import UserError


@pytest.mark.parametrize(("resolution", "shown"), [((64, 64), 128), ((48, 32), 128), ((256, 256), 256)])
def test_faces_are_enlarged_and_framed_by_paper(disk_model, tmp_path, resolution, shown):
    disk_model.resolution = resolution
    out = write_contact_sheet(disk_model, range(6), tmp_path / "sheet.png")
    sheet = Image.open(out)
    pixels = np.asarray(sheet)
    margin, gap, label = shown * 3 // 8, shown // 8, shown // 4
    shown_height = resolution[0] * shown // resolution[1]
    assert sheet.width == max(2 * margin + 3 * shown + 2 * gap, 4 * shown)
    bottom = sheet.height - margin + label // 2
    for row in range(2):
        for column in range(3):
            y, x = bottom - (2 - row) * (shown_height + label), margin + column * (shown + gap)
            assert (pixels[y + shown_height // 2, x : x + shown] != PAPER).any(1).all()
    for edge in (pixels[: margin // 2], pixels[:, : margin // 2], pixels[:, -margin // 2 :], pixels[-8:]):
        assert (edge == PAPER).all()
    assert sheet.text["seeds"] == "0-5"
    assert sheet.text["Title"] == "6 generated faces"


def test_the_title_and_every_seed_are_written(disk_model, tmp_path, monkeypatch):
    from PIL import ImageDraw

    written = []
    draw_text = ImageDraw.ImageDraw.text

    def listen(self, xy, text, *args, **kwargs):
        written.append(text)
        return draw_text(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    out = write_contact_sheet(disk_model, [4, 123_456_789_012], tmp_path / "sheet.png", title="Two", psi=0.7)
    assert written[0] == "Two"
    assert all(part in written[1] for part in ("disk", "12,345", "psi 0.7", disk_model.snapshot_hash[:12]))
    assert written[2:] == ["4", "123456789012"]
    assert (np.asarray(Image.open(out)) == INK).all(2).any()


def test_long_texts_stay_on_the_sheet(disk_model, tmp_path):
    disk_model.resolution = (64, 64)
    title = "A rather long title " * 5
    out = write_contact_sheet(disk_model, [2**63 - 1], tmp_path / "sheet.png", title=title)
    pixels = np.asarray(Image.open(out)).astype(int)
    inked = np.abs(pixels - PAPER).sum(2) > 60
    assert not inked[:, :40].any()
    assert not inked[:, -40:].any()


def test_one_face_is_not_called_faces(disk_model, tmp_path):
    out = write_contact_sheet(disk_model, [0], tmp_path / "sheet.png")
    assert Image.open(out).text["Title"] == "1 generated face"


def test_a_wrong_name_is_refused(disk_model, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.png"):
        write_contact_sheet(disk_model, [0], tmp_path / "sheet.pdf")
