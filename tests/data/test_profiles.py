"""Profiles and colour chunks against what their formulas say, computed here."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from omokage.data.steps.read import read_picture

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def linear_srgb(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def coded_srgb(x):
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def to_xyz(primaries):
    """Linear RGB to XYZ under the white of the primaries."""
    x, y = np.array(primaries).reshape(4, 2).T
    points = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return points[:, 1:] * np.linalg.solve(points[:, 1:], points[:, 0])


def in_srgb(pixels, curve, primaries):
    """Numbers in 0 to 1, (N, 3), as sRGB of 255."""
    matrix = np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)
    return 255 * coded_srgb(curve(pixels) @ matrix.T)


def icc(gamma, primaries=SRGB, name="x", space=b"RGB "):
    """An ICC profile, version 2; its curve a gamma or 4096 points of a function."""
    if callable(gamma):
        points = np.rint(gamma(np.linspace(0, 1, 4096)) * 65535).astype(">u2").tobytes()
        curve = b"curv" + struct.pack(">II", 0, 4096) + points
    else:
        curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    white = to_xyz(primaries).sum(1)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
    columns = (adapted @ to_xyz(primaries)).T

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    text = name.encode() + b"\0"
    tags = {b"desc": b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(79), b"wtpt": xyz(D50)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags |= {c + b"XYZ": xyz(v) for c, v in zip((b"r", b"g", b"b"), columns, strict=True)}
        tags |= {c + b"TRC": curve for c in (b"r", b"g", b"b")}
    table, body = b"", b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = 132 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s12x4s", size, b"", 0x02100000, b"mntr", space, b"XYZ ", b"acsp")
    return head + bytes(28) + xyz(D50)[8:] + bytes(48) + struct.pack(">I", len(tags)) + table + body


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(png, *chunks):
    """``png`` with more chunks behind its header."""
    return png[:33] + b"".join(chunk(kind, body) for kind, body in chunks) + png[33:]


def gama(value):
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def chrm(primaries):
    return b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in primaries))


COLOURS = np.random.default_rng(3).integers(0, 256, (24, 24, 3)).astype(np.uint8)
COLOURS[0, :3] = [[0, 0, 0], [255, 255, 255], [20, 20, 20]]
UNIT = COLOURS.reshape(-1, 3) / 255


def png_of(pixels, mode=None, **options):
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(out, "PNG", **options)
    return out.getvalue()


def difference(data, expected):
    read = read_picture(data)
    return read.done, np.abs(np.asarray(read.image).reshape(-1, 3) - expected).max()


@pytest.mark.parametrize("name", ["sRGB-elle-V2-g10.icc", "x"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_linear_profile_is_converted_whatever_its_name(name, kind):
    out = io.BytesIO()
    Image.fromarray(COLOURS).save(
        out, kind, icc_profile=icc(1.0, name=name), **({"lossless": True} if kind == "WEBP" else {})
    )
    done, off = difference(out.getvalue(), in_srgb(UNIT, lambda x: x, SRGB))
    assert "colour profile to sRGB" in done
    assert off <= 2


@pytest.mark.parametrize(
    ("gamma", "primaries"), [(563 / 256, ADOBE), (1.8, SRGB), (linear_srgb, P3), (2.2, P3)]
)
def test_wide_profiles_that_call_themselves_srgb_are_converted(gamma, primaries):
    curve = gamma if callable(gamma) else lambda x: x**gamma
    profile = icc(gamma, primaries, "sRGB IEC61966-2.1")
    done, off = difference(png_of(COLOURS, icc_profile=profile), in_srgb(UNIT, curve, primaries))
    assert done == ("colour profile to sRGB",)
    assert off <= 2


def test_what_is_srgb_stays_whatever_its_name():
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (made, icc(linear_srgb, SRGB, "c2"), icc(linear_srgb, SRGB, "Adobe RGB (1998)")):
        read = read_picture(png_of(COLOURS, icc_profile=profile))
        assert (read.extension, read.done) == ("png", ())
        assert np.array_equal(np.asarray(read.image), COLOURS)


def test_grey_profiles():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.repeat(255 * coded_srgb(np.arange(256) / 255), 3).reshape(-1, 3)
    for profile in (icc(1.0, space=b"GRAY", name="sGrey"), icc(1.0, name="sRGB")):  # of RGB: equal parts
        done, off = difference(png_of(grey, icc_profile=profile), expected)
        assert (done, off <= 1) == (("colour profile to sRGB",), True)
    read = read_picture(png_of(grey, icc_profile=icc(linear_srgb, space=b"GRAY")))
    assert (read.extension, read.done) == ("png", ())
    out = io.BytesIO()
    Image.merge("LA", [Image.fromarray(grey), Image.new("L", (16, 16), 255)]).save(
        out, "PNG", icc_profile=icc(1.0, space=b"GRAY")
    )
    assert difference(out.getvalue(), expected)[1] <= 1


def test_a_profile_that_cannot_be_used_is_told_and_the_numbers_stay():
    grey, damaged = icc(1.0, space=b"GRAY"), icc(1.0)[:200]
    black = icc(lambda x: 0 * x)
    for profile in (grey, damaged, b"no profile", b"\0" * 300, black):
        for kind in ("PNG", "WEBP"):
            out = io.BytesIO()
            Image.fromarray(COLOURS).save(
                out, kind, icc_profile=profile, **({"lossless": True} if kind == "WEBP" else {})
            )
            read = read_picture(out.getvalue())
            assert (read.extension, len(read.done)) == (None, 1), profile
            assert read.done[0].startswith("colour profile ignored: ")
            assert np.array_equal(np.asarray(read.image), COLOURS)


def test_cmyk_profiles():
    inks = Image.fromarray(np.full((8, 8, 4), [0, 255, 255, 0], np.uint8), "CMYK")
    for profile in (icc(1.0), b"damaged"):  # of RGB, so of no use here
        out = io.BytesIO()
        inks.save(out, "TIFF", icc_profile=profile)
        read = read_picture(out.getvalue())
        assert any(note.startswith("colour profile ignored: ") for note in read.done)
        assert read.image.getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.3])
def test_gamma_of_a_png(gamma):
    def curve(x):
        return x ** (1 / gamma)

    for chunks in ([gama(gamma)], [gama(gamma), chrm(SRGB)]):
        done, off = difference(with_chunks(png_of(COLOURS), *chunks), in_srgb(UNIT, curve, SRGB))
        assert done == ("gAMA colours to sRGB",)
        assert off <= 2
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.repeat(255 * coded_srgb(curve(np.arange(256) / 255)), 3).reshape(-1, 3)
    for primaries in (SRGB, ADOBE):  # grey is grey whatever the primaries
        assert difference(with_chunks(png_of(grey), gama(gamma), chrm(primaries)), expected)[1] <= 1


@pytest.mark.parametrize("primaries", [ADOBE, P3])
def test_primaries_of_a_png(primaries):
    for chunks, curve in (
        ([gama(1 / 2.2), chrm(primaries)], lambda x: x ** (1 / 0.45455)),
        ([chrm(primaries)], linear_srgb),
    ):
        done, off = difference(with_chunks(png_of(COLOURS), *chunks), in_srgb(UNIT, curve, primaries))
        assert done == ("gAMA and cHRM colours to sRGB",)
        assert off <= 2


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(0.45455)],
        [gama(0.45455), chrm(SRGB)],
        [chrm(SRGB)],
        [(b"sRGB", b"\0"), gama(1.0), chrm(ADOBE)],  # sRGB counts before them
        [gama(1.0), chrm(P3), (b"sRGB", b"\1")],
        [(b"cICP", bytes([1, 13, 0, 1])), gama(1.0)],
        [(b"iCCP", b"x\0\0" + zlib.compress(icc(linear_srgb))), gama(1.0), chrm(ADOBE)],
    ],
)
def test_what_a_png_says_of_srgb_changes_nothing(chunks):
    read = read_picture(with_chunks(png_of(COLOURS), *chunks))
    assert (read.extension, read.done) == ("png", ())
    assert np.array_equal(np.asarray(read.image), COLOURS)


@pytest.mark.parametrize(
    ("chunks", "note"),
    [
        ([gama(0)], "impossible gAMA chunk ignored"),
        ([gama(40000)], "impossible gAMA chunk ignored"),
        ([chrm([0] * 8)], "impossible cHRM chunk ignored"),
        ([chrm([0.3] * 8)], "impossible cHRM chunk ignored"),
        ([(b"cICP", bytes([99, 13, 0, 1]))], "cICP chunk of an unknown kind ignored"),
        ([(b"gAMA", b"\0")], "damaged gAMA chunk dropped"),
        ([(b"cHRM", b"\0" * 8)], "damaged cHRM chunk dropped"),
        ([(b"iCCP", b"x\0\0damaged")], "colour profile ignored: damaged"),
        ([(b"iCCP", b"x\0\7" + zlib.compress(icc(1.0)))], "colour profile ignored: damaged"),
    ],
)
def test_colour_chunks_that_make_no_sense_are_told(chunks, note):
    read = read_picture(with_chunks(png_of(COLOURS), *chunks))
    assert (read.extension, read.done) == (None, (note,))
    assert np.array_equal(np.asarray(read.image), COLOURS)


def test_the_first_chunk_that_can_be_used_counts():
    expected = in_srgb(UNIT, lambda x: x, SRGB)
    linear = (b"cICP", bytes([1, 8, 0, 1]))
    done, off = difference(with_chunks(png_of(COLOURS), linear, (b"sRGB", b"\0"), gama(0.45455)), expected)
    assert (done, off <= 2) == (("cICP colours to sRGB",), True)
    done, off = difference(with_chunks(png_of(COLOURS), (b"iCCP", b"x\0\0bad"), gama(1.0)), expected)
    assert off <= 2
    assert "gAMA colours to sRGB" in done
    done, off = difference(
        with_chunks(png_of(COLOURS), (b"cICP", bytes([12, 13, 0, 1]))), in_srgb(UNIT, linear_srgb, P3)
    )
    assert off <= 2


def test_high_dynamic_range_is_cut_at_white():
    """SMPTE ST 2084: 58 % is paper white, and whatever is brighter is white, too."""
    read = read_picture(with_chunks(png_of(COLOURS), (b"cICP", bytes([9, 16, 0, 1]))))
    pixels = np.asarray(read.image)
    assert pixels[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]
    grey = np.full((1, 2, 3), [[[148], [110]]], np.uint8)
    read = read_picture(with_chunks(png_of(grey), (b"cICP", bytes([9, 16, 0, 1]))))
    white, half = np.asarray(read.image)[0]
    assert white.min() >= 253
    assert 100 < half.min() < 150


def test_palettes_and_transparency_have_a_gamma_too():
    image = Image.fromarray(COLOURS).quantize(16)
    out = io.BytesIO()
    image.save(out, "PNG")
    plain = np.asarray(read_picture(out.getvalue()).image).reshape(-1, 3) / 255
    done, off = difference(with_chunks(out.getvalue(), gama(1.0)), in_srgb(plain, lambda x: x, SRGB))
    assert done == ("palette to RGB", "gAMA colours to sRGB")
    assert off <= 2
    alpha = np.concatenate([COLOURS, np.full((24, 24, 1), 128, np.uint8)], 2)
    expected = (in_srgb(UNIT, lambda x: x, SRGB) * 128 + 255 * 127) / 255
    assert difference(with_chunks(png_of(alpha), gama(1.0)), expected)[1] <= 2


def deep_png(values, kind):
    """A PNG of 16 bits; values uint16 (H, W, channels)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_sixteen_bits_keep_the_dark_of_linear_pictures(kind):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    values = np.random.default_rng(5).integers(0, 3000, (40, 40, channels)).astype(np.uint16)
    if kind in (4, 6):
        values[..., -1] = 65535
    unit = values[..., : 3 if kind in (2, 6) else 1].reshape(1600, -1) / 65535
    expected = np.broadcast_to(255 * coded_srgb(unit), (1600, 3))
    tolerance = 2 if kind != 4 else 30  # grey with alpha comes in 8 bits
    for data in (
        with_chunks(deep_png(values, kind), gama(1.0)),
        with_chunks(deep_png(values, kind), (b"iCCP", b"x\0\0" + zlib.compress(icc(1.0)))),
    ):
        if kind == 4 and b"iCCP" in data:
            continue
        done, off = difference(data, expected)
        assert off <= tolerance
        assert done[0] == "16 bits to 8"


def test_turned_pictures_of_sixteen_bits():
    values = np.random.default_rng(5).integers(0, 65536, (6, 9, 3)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = with_chunks(deep_png(values, 2), gama(1.0), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    expected = in_srgb(np.rot90(values, -1).reshape(-1, 3) / 65535, lambda x: x, SRGB)
    assert difference(data, expected)[1] <= 2


def cmyk_icc():
    """A CMYK profile of a table with two points an ink: whatever ink there is takes the light away."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    rgb = (1 - inks[:, :3]) * (1 - inks[:, 3:])
    lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        "RGB",
        "LAB",
        ImageCms.Intent.PERCEPTUAL,
    )
    swapped = (rgb[:, [1, 0, 2]] * 255).astype(np.uint8)  # red and green the other way round
    table = np.asarray(lab.apply(Image.fromarray(swapped[None])))[0].astype(np.uint8)
    table = table ^ np.array([0, 128, 128], np.uint8)  # Pillow's a and b are signed, the table's are not
    body = (
        b"mft1"
        + bytes(4)
        + bytes([4, 3, 2, 0])
        + struct.pack(">9i", *(65536 * np.eye(3, dtype=int).reshape(-1)))
    )
    body += bytes(range(256)) * 4 + table.tobytes() + bytes(range(256)) * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in D50))
    table_of_tags = b"wtpt" + struct.pack(">II", 156, 20) + b"A2B0" + struct.pack(">II", 176, len(body))
    head = struct.pack(
        ">I4sI4s4s4s12x4s", 176 + len(body), b"", 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    return head + bytes(28) + white[8:] + bytes(48) + struct.pack(">I", 2) + table_of_tags + white + body


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_profile_is_applied(kind):
    for inks, expected in (
        ((0, 255, 255, 0), (0, 255, 0)),
        ((0, 0, 0, 0), (255,) * 3),
        ((0, 0, 0, 255), (0,) * 3),
    ):
        out = io.BytesIO()
        Image.new("CMYK", (16, 16), inks).save(out, kind, icc_profile=cmyk_icc())
        read = read_picture(out.getvalue())
        assert read.done[-1] == "colour profile to sRGB"
        assert np.abs(np.subtract(read.image.getpixel((8, 8)), expected)).max() <= 12
