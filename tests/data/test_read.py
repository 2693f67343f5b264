import io
import logging
import os
import random
import struct
import tempfile
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from omokage.data.steps import read as read_module
from omokage.data.steps.read import (
    MAX_PIXELS,
    Unreadable,
    cover,
    kind_of,
    quiet,
    read_file,
    read_frames,
    read_picture,
    to_png,
)
from omokage.data.text import one_line


def png_header_of(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_plain_pictures_keep_their_bytes(picture, encode, kind, extension):
    read = read_picture(encode(picture(1), kind))
    assert (read.extension, read.done, read.image.mode) == (extension, (), "RGB")
    grey = read_picture(encode(picture(1).convert("L"), "JPEG"))
    assert (grey.extension, grey.image.mode) == ("jpg", "RGB")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "TGA", "PPM", "JPEG2000", "ICO", "PCX", "AVIF"])
def test_other_formats_become_new_pictures(picture, encode, kind):
    image = picture(2, 32, 32)
    read = read_picture(encode(image, kind))
    assert read.extension is None
    assert f"from {kind}" in read.done
    assert np.abs(np.asarray(read.image).astype(int) - np.asarray(image)).mean() < 8


def test_transparency_is_laid_on_white(encode):
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 255, 255))
    image.putpixel((2, 2), (0, 0, 0, 128))
    read = read_picture(encode(image, "PNG"))
    assert read.done == ("alpha on white",)
    assert [read.image.getpixel(p) for p in ((0, 0), (1, 1), (2, 2))] == [
        (255, 255, 255),
        (0, 0, 255),
        (127, 127, 127),
    ]
    assert read_picture(encode(image, "PNG"), background=(0, 9, 0)).image.getpixel((0, 0)) == (0, 9, 0)


def test_palette_with_transparency(encode):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    by_index = read_picture(encode(image, "PNG", transparency=0)).image
    by_bytes = read_picture(encode(image, "PNG", transparency=bytes([0, 255, 255]))).image
    for rgb in (by_index, by_bytes):
        assert (rgb.getpixel((0, 0)), rgb.getpixel((1, 1))) == ((255, 255, 255), (0, 255, 0))
    assert read_picture(encode(image, "PNG")).image.getpixel((0, 0)) == (255, 0, 0)


def test_rgb_with_a_transparent_colour_and_opaque_alpha(encode):
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    assert read_picture(encode(image, "PNG", transparency=(1, 2, 3))).image.getpixel((0, 0)) == (
        255,
        255,
        255,
    )
    opaque = read_picture(encode(image.convert("RGBA"), "PNG"))
    assert (opaque.image.getpixel((0, 0)), opaque.extension) == ((1, 2, 3), None)


def test_cmyk(encode, picture):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    read = read_picture(encode(image, "JPEG", quality=95))
    assert read.extension is None
    red, green, blue = read.image.getpixel((4, 4))
    assert red > 230
    assert green < 40
    assert blue < 40


def test_sixteen_bits_are_scaled_not_clipped(encode):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        read = read_picture(encode(Image.fromarray(values), kind))
        assert np.asarray(read.image)[0, :, 0].tolist() == [0, 1, 128, 255]
        assert "16 bits to 8" in read.done


def test_sixteen_bit_colour_png_is_not_kept_as_it_came():
    rows = b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 0, 0)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    read = read_picture(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert read.extension is None
    assert np.asarray(read.image)[0].tolist() == [[0, 128, 255], [255, 0, 0]]


def test_floating_point_tiff(encode):
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32))
    assert np.asarray(read_picture(encode(unit, "TIFF")).image)[0, :, 0].tolist() == [0, 128, 255, 0]


def test_animations_give_the_first_frame(encode, picture):
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    for kind in ("GIF", "PNG", "WEBP"):
        read = read_picture(encode(first, kind, save_all=True, append_images=[second]))
        assert read.done[0] == "first frame"
        assert read.extension is None
        red, _, blue = read.image.getpixel((3, 3))
        assert red > 200
        assert blue < 50


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_every_nth_frame(encode, kind):
    frames = [Image.new("RGB", (8, 8), (0, 40 * i, 250 - 40 * i)) for i in range(6)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    read = list(read_frames(data, 2))
    assert [one.frame for one in read] == [1, 3, 5]
    assert [one.done[0] for one in read] == ["frame 1 of 6", "frame 3 of 6", "frame 5 of 6"]
    for one in read:
        colour = np.array(one.image.getpixel((3, 3)), int)
        assert np.abs(colour - frames[one.frame - 1].getpixel((3, 3))).max() < 20
    assert [one.frame for one in read_frames(data, 100)] == [1]


def test_frames_of_what_is_no_animation(encode, picture):
    (only,) = read_frames(encode(picture(1), "JPEG"), 3)
    assert (only.frame, only.extension) == (None, "jpg")


def test_damaged_and_too_many_frames_are_refused(encode, monkeypatch):
    noise = np.random.default_rng(0)
    frames = [Image.fromarray(noise.integers(0, 255, (32, 32, 3), np.uint8)) for _ in range(4)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(Unreadable, match=r"^frame [234]: "):
        list(read_frames(data[: len(data) * 3 // 5], 1))
    monkeypatch.setattr(read_module, "MAX_FRAMES", 2)
    with pytest.raises(Unreadable, match="4 frames, the limit is 2: give --frames 2 or more"):
        list(read_frames(data, 1))
    assert len(list(read_frames(data, 2))) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(encode, orientation):
    upright = Image.new("RGB", (12, 8), (0, 0, 0))
    upright.paste((255, 0, 0), (0, 0, 4, 4))  # red in the upper left corner
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpositions that store it turned
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_picture(encode(stored, "PNG", exif=exif))
    assert read.image.size == (12, 8)
    assert np.array_equal(np.asarray(read.image), np.asarray(upright))
    assert (read.extension, read.done) == (("png", ()) if orientation == 1 else (None, ("turned upright",)))


def test_broken_exif_does_not_lose_the_picture(encode, picture):
    read = read_picture(encode(picture(3), "JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 40))
    assert read.image.size == (24, 24)


def test_colour_profiles_come_to_srgb(encode):
    image = Image.new("RGB", (4, 4), (120, 130, 140))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_picture(encode(image, "PNG", icc_profile=srgb)).extension == "png"
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for useless in (lab, b"\0" * 200, b"no profile"):  # of another colour space, or damaged: taken as sRGB
        assert read_picture(encode(image, "PNG", icc_profile=useless)).image.getpixel((0, 0)) == (
            120,
            130,
            140,
        )


def test_a_wide_profile_changes_the_numbers(encode):
    # sRGB with red and green primaries exchanged: a red pixel must come out green.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    for i in range(count):
        at = 132 + 12 * i
        tag, offset, size = struct.unpack(">4sII", profile[at : at + 12])
        if tag in (b"rXYZ", b"gXYZ"):
            profile[at : at + 4] = b"gXYZ" if tag == b"rXYZ" else b"rXYZ"
        if tag == b"desc":
            profile[offset : offset + size] = bytes(profile[offset : offset + size]).replace(
                b"\0s\0R\0G\0B", b"\0o\0t\0h\0r"
            )
    read = read_picture(encode(Image.new("RGB", (4, 4), (250, 10, 10)), "PNG", icc_profile=bytes(profile)))
    assert read.done == ("colour profile to sRGB",)
    red, green, _ = read.image.getpixel((0, 0))
    assert green > 200
    assert red < 60


def test_what_cannot_be_read_says_why(encode, picture):
    jpeg, png = encode(picture(4, 64, 64), "JPEG"), encode(picture(4, 64, 64), "PNG")
    cases = {
        b"": "empty file",
        jpeg[: len(jpeg) // 2]: "cut short",
        png[: len(png) // 2]: "cut short",
        encode(picture(4, 64, 64), "GIF")[:900]: "cut short",
        b"hello, this is no picture\n" * 9: "text, not a picture",
        "これは絵ではない".encode(): "text, not a picture",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>": "vectors",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "vectors",
        b"PK\x03\x04" + b"\0" * 60: "an archive",
        bytes(range(256)): "not a picture",
        b"\0" * 5000: "not a picture",
        png_header_of(30_000, 30_000): "too many pixels",
        png_header_of(9000, 9000): "too many pixels: 9000×9000",
        png_header_of(0, 5): "without pixels|not a picture|damaged",
        png_header_of(200, 200): "cut short",
    }
    for data, reason in cases.items():
        with pytest.raises(Unreadable, match=reason) as caught:
            read_picture(data)
        assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_decoded(encode, monkeypatch):
    def decoded(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", decoded)
        for width, height in ((30_000, 30_000), (8193, 8192), (2**31 - 1, 2**31 - 1)):
            assert width * height > MAX_PIXELS
            with pytest.raises(Unreadable, match="too many pixels"):
                read_picture(png_header_of(width, height))
    assert read_picture(encode(Image.new("L", (100, 100)), "PNG"), max_pixels=10_000).image.size == (100, 100)
    with pytest.raises(Unreadable, match="too many pixels"):
        read_picture(encode(Image.new("L", (100, 101)), "PNG"), max_pixels=10_000)


def test_hostile_bytes_give_a_picture_or_a_reason_in_silence(encode, picture, capfd):
    rng = random.Random(7)
    image = picture(5, 40, 30)
    kinds: list[tuple[str, dict]] = [(k, {}) for k in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TGA", "ICO")]
    kinds += [("TIFF", {"compression": c}) for c in ("tiff_lzw", "jpeg", "tiff_adobe_deflate")]
    outcomes, reasons = {True: 0, False: 0}, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for kind, options in kinds:
            good = encode(image, kind, **options)
            for _ in range(40):
                bad = bytearray(good)
                for _ in range(rng.choice((1, 3, 20))):
                    bad[rng.randrange(min(len(bad), rng.choice((64, 400, 10**6))))] = rng.randrange(256)
                try:
                    read = read_picture(bytes(bad), max_pixels=10**6)
                    assert read.image.mode == "RGB"
                    outcomes[True] += 1
                except Unreadable as reason:
                    reasons.append(str(reason))
                    outcomes[False] += 1
    assert all(0 < len(reason) < 400 and "\n" not in reason for reason in reasons)
    assert min(outcomes.values()) > 40
    assert not caught
    assert capfd.readouterr() == ("", "")


def test_broken_tiff_does_not_print(encode, picture, capfd):
    good = encode(picture(1, 64, 64), "TIFF", compression="tiff_adobe_deflate")
    bad = good[:20] + bytes(b ^ 255 for b in good[20:200]) + good[200:]
    with pytest.raises(Unreadable):
        read_picture(bad)
    os.write(2, b"still there")
    assert capfd.readouterr() == ("", "still there")


def test_tiff_with_absurd_tags(encode):
    directory = ImageFileDirectory_v2()
    directory[256], directory[257] = 2**31, 2**31
    with pytest.raises(Unreadable):
        read_picture(b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8))


def test_files_that_are_none(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 101)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name, reason in {
        "big": "too large",
        "pipe": "regular",
        "link": "leads nowhere",
        ".": "cannot|regular",
    }.items():
        with pytest.raises(Unreadable, match=reason):
            read_file(tmp_path / name, limit=100)
    with pytest.raises(Unreadable):
        read_file("zero\0byte")


def test_no_permission():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder, "secret.png")
        secret.write_bytes(b"x")
        secret.chmod(0)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            with pytest.raises(Unreadable, match="no permission"):
                read_file(secret)
        finally:
            if root:
                os.seteuid(0)


def test_quiet_restores_the_filters_whatever_the_threads():
    before = list(warnings.filters)

    def work() -> None:
        for _ in range(300):
            with quiet():
                warnings.warn("never seen", stacklevel=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert warnings.filters == before


def test_cover_keeps_the_middle_and_the_proportions():
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    small = np.asarray(cover(wide, (50, 50)))
    assert small.shape == (50, 50, 3)
    assert small[:, 5:45].reshape(-1, 3).tolist() == [[0, 0, 255]] * (50 * 40)
    assert cover(wide, (100, 300)) is wide
    # Antialiased: a fine checkerboard becomes grey instead of one of its colours.
    board = Image.fromarray(((np.indices((128, 128)).sum(0) % 2) * 255).astype(np.uint8)).convert("RGB")
    assert np.abs(np.asarray(cover(board, (16, 16))).astype(int) - 127).max() < 8


def test_png_is_exact_and_reproducible(picture):
    image = picture(8)
    image.info["icc_profile"] = b"leftover"
    assert to_png(image) == to_png(picture(8))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(to_png(image)))), np.asarray(image))


def test_one_line():
    assert one_line("x" * 500, 10) == "x" * 9 + "…"
    assert one_line("bad \udcff name\nnext") == "bad \\udcff name next"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes], end: bool = False) -> bytes:
    """``png`` with more chunks, behind its header or before its end."""
    at = len(png) - 12 if end else 33
    return png[:at] + b"".join(png_chunk(*chunk) for chunk in chunks) + png[at:]


LONG = b"x" * 3_000_000
TEXTS = {
    "compressed": ([(b"zTXt", b"Comment\0\0" + zlib.compress(LONG))], "text of over 1 MB dropped"),
    "international": ([(b"iTXt", b"a\0\1\0en\0b\0" + zlib.compress(LONG))], "text of over 1 MB dropped"),
    "international, plain": ([(b"iTXt", b"a\0\0\0en\0b\0" + LONG)], "text of over 1 MB dropped"),
    "plain": ([(b"tEXt", b"Comment\0" + LONG)], "text of over 1 MB dropped"),
    "many": (
        [(b"zTXt", b"%d\0\0" % i + zlib.compress(LONG[: 2**20])) for i in range(100)],
        "texts of over 32 MB dropped",
    ),
    "unknown compression": ([(b"zTXt", b"a\0\7b")], "text of an unknown compression dropped"),
    "named like a property": ([(b"tEXt", b"transparency\0yes")], "misleading text dropped"),
}


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_stop_the_decoder_do_not_cost_the_picture(encode, picture, name, end):
    chunks, note = TEXTS[name]
    image = picture(3)
    plain = encode(image, "PNG")
    read = read_picture(with_chunks(plain, (b"tEXt", b"Title\0kept"), *chunks, end=end))
    assert read.done == (note,)
    assert read.extension is None  # written anew, since other readers stumble, too
    assert np.array_equal(np.asarray(read.image), np.asarray(image))
    short = with_chunks(plain, (b"tEXt", b"Title\0kept"), (b"zTXt", b"a\0\0" + zlib.compress(b"x" * 9999)))
    assert read_picture(short).extension == "png"


def test_a_large_profile_is_used_and_too_large_a_one_ignored(encode, picture):
    image = picture(3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for size, note in (
        (1_500_000, "large colour profile dropped"),
        (20_000_000, "colour profile ignored: over 16 MB"),
    ):
        large = struct.pack(">I", size) + srgb[4:] + bytes(size - len(srgb))
        chunk = (b"iCCP", b"large\0\0" + zlib.compress(large))
        read = read_picture(with_chunks(encode(image, "PNG"), chunk))
        assert (read.extension, read.done) == (None, (note,))
        assert np.array_equal(np.asarray(read.image), np.asarray(image))


def test_damage_in_a_side_chunk_does_not_cost_the_picture(encode, picture):
    image = picture(3)
    good = with_chunks(encode(image, "PNG"), (b"tEXt", b"Comment\0abc"))
    read = read_picture(good.replace(b"abc", b"abd"))  # its checksum is wrong now
    assert read.done == ("damaged tEXt chunk dropped",)
    assert np.array_equal(np.asarray(read.image), np.asarray(image))
    at = good.index(b"IDAT") + 20
    with pytest.raises(Unreadable):
        read_picture(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_mark_is_whole(encode, drawing, options, mode):
    data = encode(drawing(2).convert(mode), "JPEG", **options)
    whole = np.asarray(read_picture(data).image)
    for missing in (1, 2):
        read = read_picture(data[:-missing])
        assert read.done[-1] == "end of the file missing, pixels whole"
        assert read.extension is None
        assert np.array_equal(np.asarray(read.image), whole)
    for left in (len(data) - 20, len(data) * 9 // 10, len(data) * 2 // 3, len(data) // 2, 200, 20):
        with pytest.raises(Unreadable, match="cut short"):
            read_picture(data[:left])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_ends_before_a_restart_is_cut(encode, drawing, progressive):
    data = encode(drawing(2), "JPEG", restart_marker_blocks=1, progressive=progressive)
    first = data.index(b"\xff\xda")
    marks = [at for at in range(first, len(data) - 2) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    assert len(marks) > 10
    for at in (marks[-1], marks[-1] + 1, marks[-1] + 2, marks[-2], marks[-9], marks[1]):
        with pytest.raises(Unreadable, match="cut short"):
            read_picture(data[:at])
    assert read_picture(data[:-2]).done == ("end of the file missing, pixels whole",)


def test_a_progressive_jpeg_that_ends_between_two_scans_is_cut(encode, drawing):
    data = encode(drawing(2), "JPEG", progressive=True)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 4
    for at in starts[1:]:
        before = data.rindex(b"\xff\xc4", 0, at)  # the table that goes with the scan
        with pytest.raises(Unreadable, match="cut short"):
            read_picture(data[: before if before > starts[0] else at])


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
def test_a_png_without_its_end_is_whole_if_its_pixels_are(encode, drawing, mode, options):
    data = encode(drawing(2).convert(mode), "PNG", **options)
    whole = np.asarray(read_picture(data).image)
    for missing in (1, 8, 11, 12, 15, 16):
        read = read_picture(data[:-missing])
        assert "end of the file missing, pixels whole" in read.done
        assert read.extension is None
        assert np.array_equal(np.asarray(read.image), whole)
    for left in (len(data) - 40, len(data) // 2):
        with pytest.raises(Unreadable, match="cut short"):
            read_picture(data[:left])


def test_a_png_that_ends_between_two_chunks_of_pixels_is_cut(encode, drawing):
    data = encode(drawing(2), "PNG")
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    pixels = data[at + 8 : at + 8 + length]
    with pytest.raises(Unreadable, match="cut short"):
        read_picture(data[:at] + png_chunk(b"IDAT", pixels[: length // 2]))


def psd(
    channels: list[np.ndarray],
    mode: int = 3,
    layers: list[np.ndarray] | None = None,
    *,
    transparent: bool = False,
    merged: bool = True,
    packed: bool = False,
    bits: int = 8,
    colours: bytes = b"",
    version: int = 1,
    resources: bytes = b"",
) -> bytes:
    """A PSD; channels (H, W) of the merged picture, layers (H, W, 3)."""
    height, width = channels[0].shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", version, len(channels), height, width, bits, mode)
    version_info = struct.pack(">IB", 1, merged) + struct.pack(">I", 0) * 2 + struct.pack(">I", 1)
    resources += b"8BIM" + struct.pack(">HHI", 1057, 0, len(version_info)) + version_info
    resources += b"\0" * (len(version_info) & 1)
    section = b""
    if layers:
        count = -len(layers) if transparent else len(layers)
        records, planes = b"", b""
        for number, layer in enumerate(layers):
            h, w = layer.shape[:2]
            records += struct.pack(">4iH", 0, 0, h, w, 3)
            records += b"".join(struct.pack(">hI", c, 2 + h * w) for c in range(3))
            name = f"layer {number}".encode()
            extra = struct.pack(">II", 0, 0) + bytes([len(name)]) + name
            extra += bytes(-len(extra) % 4)
            records += b"8BIMnorm" + bytes([255, 0, 0, 0]) + struct.pack(">I", len(extra)) + extra
            planes += b"".join(b"\0\0" + layer[..., c].tobytes() for c in range(3))
        information = struct.pack(">h", count) + records + planes
        information += bytes(len(information) & 1)
        section = struct.pack(">I", len(information)) + information + struct.pack(">I", 0)
    pixels = b"\0\0" + b"".join(channel.tobytes() for channel in channels)
    if packed:
        rows = [
            b"".join(bytes([0, value]) for value in row.tobytes()) for channel in channels for row in channel
        ]
        pixels = b"\0\1" + b"".join(struct.pack(">H", len(row)) for row in rows) + b"".join(rows)
    parts = (colours, resources, section)
    return head + b"".join(struct.pack(">I", len(part)) + part for part in parts) + pixels


@pytest.mark.parametrize("layers", [0, 1, 2, 5])
@pytest.mark.parametrize("packed", [False, True])
def test_the_merged_picture_of_a_psd_with_layers(drawing, layers, packed):
    pixels = np.asarray(drawing(1))
    others = [np.asarray(drawing(2 + i)) for i in range(layers)]
    data = psd([pixels[..., c] for c in range(3)], layers=others, packed=packed)
    for read in (read_picture(data), *read_frames(data, 1)):
        assert (read.extension, read.done, read.frame) == (None, ("from PSD",), None)
        assert np.array_equal(np.asarray(read.image), pixels)


def test_modes_of_psds(drawing):
    pixels = np.asarray(drawing(1))
    layers = [np.asarray(drawing(2)), np.asarray(drawing(3))]
    grey = pixels[..., 1].copy()
    assert np.array_equal(np.asarray(read_picture(psd([grey], 1, layers)).image), np.stack([grey] * 3, -1))
    palette = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint8)
    read = read_picture(psd([grey], 2, colours=palette.tobytes()))
    assert np.array_equal(np.asarray(read.image), palette.T[grey])
    cmyk = [np.full((4, 4), value, np.uint8) for value in (255, 0, 0, 255)]  # there, 255 is no ink
    assert read_picture(psd(cmyk, 4)).image.getpixel((1, 1)) == (255, 0, 0)
    bits = np.array([[0b10100000], [0]], np.uint8)
    flat = psd([bits], 0, bits=1)
    flat = flat[:18] + struct.pack(">I", 3) + flat[22:]  # three pixels wide
    assert np.asarray(read_picture(flat).image)[..., 0].tolist() == [[0, 255, 0], [255, 255, 255]]


def test_the_fourth_channel_of_a_psd(drawing):
    pixels = np.asarray(drawing(1))
    planes = [*(pixels[..., c] for c in range(3)), np.zeros(pixels.shape[:2], np.uint8)]
    read = read_picture(psd(planes, layers=[pixels], transparent=True))
    assert read.image.getextrema() == ((255, 255),) * 3
    read = read_picture(psd(planes, layers=[pixels]))  # a selection that somebody saved
    assert "channel of a selection dropped" in read.done
    assert np.array_equal(np.asarray(read.image), pixels)


def test_psds_that_are_not_read_say_why(drawing):
    pixels = np.asarray(drawing(1))
    planes = [pixels[..., c] for c in range(3)]
    whole = psd(planes, layers=[pixels])
    for data, reason in {
        psd(planes, merged=False, layers=[pixels]): "without its merged picture: save it with maximum",
        psd(planes, 7): "multichannel",
        psd(planes, bits=16): "16 bits a channel",
        psd(planes, bits=32): "32 bits a channel",
        psd(planes, version=2): "PSB",
        whole[: len(whole) - pixels.size - 2]: "^cut short: a PSD that ends before its merged picture",
        whole[: len(whole) - pixels.size // 2]: "^cut short",
        whole[:20]: "^cut short",
    }.items():
        with pytest.raises(Unreadable, match=reason):
            read_picture(data)


def bmp(bits: int, how: int = 0, header: int = 40) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, 4, 4, 1, bits, how, 64, 0, 0, 0, 0) + bytes(header - 40)
    return b"BM" + struct.pack("<IIIII", 400, 0, 14 + header, 0, 0)[:12] + info + bytes(400)


def dds(code: bytes, dxgi: int = 0, bits: int = 0) -> bytes:
    head = b"DDS " + struct.pack("<7I44x", 124, 0x1007, 4, 4, 16, 0, 0)
    head += struct.pack("<II4s5I", 32, 4 if code.strip(b"\0") else 0x40, code, bits, 0, 0, 0, 0)
    return head + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + struct.pack("<5I", dxgi, 3, 0, 1, 0) + bytes(200)


VECTORS = "a drawing in vectors, not a picture of pixels"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc5\xd0\xd3\xc6" + bytes(60), f"{VECTORS}: EPS with a preview"),
        (b"%!PS-Adobe-3.0", f"{VECTORS}: PostScript"),
        (b"\1\0\0\0\xd0\0\0\0" + bytes(32) + b" EMF" + bytes(60), f"{VECTORS}: EMF"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), f"{VECTORS}: WMF"),
        (b"\1\0\t\0\0\3" + bytes(60), f"{VECTORS}: WMF"),
        (b"<!DOCTYPE html><title>404</title>", "a web page, not a picture: "),
        (b"\xef\xbb\xbf\n<html lang=en>", "a web page, not a picture: "),
        (b"version https://git-lfs.github.com/spec/v1\noid sha", "a pointer of Git LFS, not a picture: "),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document, not a picture: "),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "a HEIF picture, which is not read: "),
        (b"\0\0\0\x1cftypisom\0\0\0\0", "a video, not a picture"),
        (b"\x1aE\xdf\xa3" + bytes(60), "a video, not a picture"),
        (bmp(2), "a BMP of a variant that is not read: 2 bits a pixel"),
        (bmp(0, 4, 124), "a BMP of a variant that is not read: 0 bits a pixel, JPEG within"),
        (bmp(24, 9), "a BMP of a variant that is not read: 24 bits a pixel, compression 9"),
        (bmp(24)[:30], "cut short: "),
        (dds(b"DXT2"), "a DDS of a variant that is not read: code DXT2"),
        (dds(b"DX10", 93), "a DDS of a variant that is not read: DXGI format 93"),
        (dds(b"", bits=24)[:100], "cut short: "),
    ],
)
def test_what_is_no_picture_to_us_has_one_true_sentence(data, reason):
    with pytest.raises(Unreadable) as caught:
        read_picture(data)
    assert str(caught.value).startswith(reason)
    assert "damaged" not in str(caught.value)


def test_one_reason_is_counted_once(encode, drawing):
    huge = b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    reasons = []
    huge += b"," + struct.pack("<4HB", 0, 0, 60_000, 60_000, 0) + bytes(9)
    for data in (huge, png_header_of(9000, 9000)):
        with pytest.raises(Unreadable) as caught:
            read_picture(data)
        reasons.append(str(caught.value))
    assert {kind_of(reason) for reason in reasons} == {"too many pixels"}
    assert len(set(reasons)) == 2
    assert {kind_of(f"frame {n}: cut short: why") for n in (2, 3)} == {"cut short"}
    assert kind_of("rating: explicit") == "rating"


def test_what_decoders_log_stays_off_the_terminal(encode, capfd):
    directory = ImageFileDirectory_v2()
    directory[256], directory[257], directory[277] = 4, 4, 65535
    bad = b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8)
    with pytest.raises(Unreadable):
        read_picture(bad)
    logging.getLogger("PIL.TiffImagePlugin").error("said outside")
    logger = logging.getLogger("PIL")
    assert logger.level == logging.NOTSET
    assert "More samples" not in capfd.readouterr().err
