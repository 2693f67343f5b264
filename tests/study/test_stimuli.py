"""Pictures: no trait of a file tells where it came from; what was done is told."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from study_visitors import squares

from omokage.errors import UserError
from omokage.study.stimuli import Source, all_padded, encoded, load_stimuli, padded, read_metrics, take_in


def png_chunks(data: bytes) -> list[bytes]:
    names, place = [], 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        names.append(data[place + 4 : place + 8])
        place += 12 + length
    return names


def test_real_and_generated_files_are_alike(tmp_path):
    """One source of JPEG files with EXIF and ICC, one of PNG files with text; other sizes and shapes."""
    real, generated = [], []
    for number, (name, image) in enumerate(squares(8, 0, 70)):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x010E] = "a photograph"
        image.resize((90, 70)).save(file, "JPEG", quality=60 + number, exif=exif, icc_profile=b"x" * 100)
        real.append((name, Image.open(io.BytesIO(file.getvalue()))))
    for name, image in squares(8, 1, 64):
        file, text = io.BytesIO(), PngInfo()
        text.add_text("seed", "17")
        image.convert("RGBA").save(file, "PNG", pnginfo=text)
        generated.append((name, Image.open(io.BytesIO(file.getvalue()))))
    stimuli, told = take_in(tmp_path, [Source("real", real), Source("gan", generated)])
    assert told.pixels == 64
    assert told.cropped == {"real": 8}
    assert told.resized == {"real": 8}
    assert stimuli.counts == {"real": 8, "gan": 8}
    sent = all_padded(load_stimuli(tmp_path))
    assert len({len(data) for data in sent.values()}) == 1
    for name, data in sent.items():
        image = Image.open(io.BytesIO(data))
        assert (image.size, image.mode, image.info) == ((64, 64), "RGB", {})
        assert set(png_chunks(data)) == {b"IHDR", b"IDAT", b"paDd", b"IEND"}
        kept = Image.open(tmp_path / "pictures" / f"{name}.png")
        assert np.array_equal(np.asarray(image), np.asarray(kept))
    modes = {path.stat().st_mode for path in (tmp_path / "pictures").iterdir()}
    assert len(modes) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 300))
def test_padding_changes_the_length_alone(side, more):
    image = Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8))
    data = encoded(image, side)
    longer = padded(data, len(data) + 12 + more)
    assert len(longer) == len(data) + 12 + more
    opened = Image.open(io.BytesIO(longer))
    opened.verify()  # checksums too
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(longer))), np.asarray(image))
    with pytest.raises(ValueError, match="longer"):
        padded(data, len(data) + 11)


def test_what_is_left_out_is_counted(tmp_path):
    real = [
        *squares(3, 0),
        ("broken.png", "cut short"),
        ("tiny.png", Image.new("RGB", (8, 30))),
        ("again.png", squares(1, 0)[0][1]),
    ]
    _, told = take_in(tmp_path, [Source("real", real), Source("gan", squares(3, 1, 40))])
    lines = "\n".join(told.lines())
    assert "real: 3 pictures" in lines
    assert "24×24 px, because 000.png of real is the smallest" in lines
    assert "not readable: 1 (real/broken.png: cut short)" in lines
    assert "too small: 1 (real/tiny.png: 8×30)" in lines
    assert "the same picture twice: 1 (real/again.png is 000.png)" in lines
    assert "resized: 3 of gan" in lines


def test_with_pixels_smaller_pictures_are_left_out(tmp_path):
    sources = [Source("real", squares(3, 0, 24) + squares(2, 5, 40)), Source("gan", squares(3, 1, 40))]
    stimuli, told = take_in(tmp_path, sources, pixels=32)
    assert stimuli.counts == {"real": 2, "gan": 3}
    assert len(told.too_small) == 3


def test_one_picture_in_two_sources_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"000\.png of gan is the same picture as 000\.png of real"):
        take_in(tmp_path, [Source("real", squares(3, 0)), Source("gan", squares(3, 0))])
    with pytest.raises(UserError, match=r"gan: no picture could be used \(gan/x: why\)"):
        take_in(tmp_path, [Source("real", squares(3, 0)), Source("gan", [("x", "why")])])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "pictures": [{"id": "../x"}]}']
)
def test_a_broken_record_is_refused(tmp_path, text):
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(UserError, match=r"truth\.json"):
        load_stimuli(tmp_path)


def test_the_table_of_metrics(tmp_path):
    assert read_metrics(tmp_path) == {}
    (tmp_path / "metrics.json").write_text(json.dumps({"gan": {"fid": 12}}))
    assert read_metrics(tmp_path) == {"gan": {"fid": 12.0}}
    (tmp_path / "metrics.json").write_text(json.dumps({"gan": 12}))
    with pytest.raises(UserError, match="not a table of metrics"):
        read_metrics(tmp_path)
