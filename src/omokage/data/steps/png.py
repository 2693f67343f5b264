"""Prepares PNG files for the decoder: drops chunks that it refuses, and reads the colour chunks.

The decoder refuses a sound picture because of a long text, a large profile or a damaged comment. These chunks
contain no pixels, so they are dropped and named. For the chunks see "Portable Network Graphics (PNG)
Specification (Third Edition)", W3C 2025.
"""

import struct
import zlib
from dataclasses import dataclass, field

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 2**20
"""Texts with more bytes when unpacked are dropped: Pillow, which training uses, refuses such pictures."""

MAX_TEXTS = 32 * 2**20
"""Bytes of all texts together; the texts beyond are dropped."""

MAX_PROFILE = 16 * 2**20
"""A colour profile with more bytes when unpacked is not used."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_COLOUR = {b"cICP": 4, b"iCCP": 0, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}  # with their minimal lengths
_OTHERS = {b"pHYs": 9}
_OF_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")  # ancillary by name, but needed for the picture
# Pillow stores texts in the same dict as its own findings: a text with one of these names would replace one.
_TAKEN = {
    b"icc_profile", b"transparency", b"gamma", b"chromaticity", b"srgb", b"xmp", b"dpi", b"aspect",
    b"interlace", b"bbox", b"loop", b"duration", b"disposal", b"blend", b"default_image", b"background",
}  # fmt: skip

# Adam7 interlacing: first column and row of each pass, and its steps.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass
class Png:
    """A PNG file prepared for the decoder.

    data: its bytes; unchanged if the decoder can read them.
    notes: what was dropped or repaired, as text.
    colour: the colour chunks by name, without damaged ones; ``iCCP`` unpacked.
    depth: bits per channel. colour_type: as in its header.
    """

    data: bytes
    notes: list[str] = field(default_factory=list)
    colour: dict[bytes, bytes] = field(default_factory=dict)
    depth: int = 8
    colour_type: int = 2


def prepared(data: bytes) -> Png:
    """The PNG file ``data``, prepared. Other files, and PNGs with damaged pixels, are not changed."""
    png = Png(data)
    if len(data) < 33 or data[12:16] != b"IHDR":
        return png
    png.depth, png.colour_type = data[24], data[25]
    kept: list[tuple[int, int]] = [(0, 8)]
    notes: dict[str, None] = {}  # used as an ordered set
    texts, at, ended, seen = 0, 8, False, False
    while not ended and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if not kind.isalpha() or end > len(data):
            break
        ended = kind == b"IEND"
        seen = seen or kind == b"IDAT"
        body = memoryview(data)[at + 8 : end - 4]
        reason, used = None, 0
        if kind[0] & 0x20 and kind not in _OF_PIXELS:
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                reason = f"damaged {kind.decode()} chunk dropped"
            elif kind in _TEXTS:
                reason, used = _text_trouble(kind, bytes(body), MAX_TEXTS - texts)
            elif len(body) < _COLOUR.get(kind, _OTHERS.get(kind, 0)):
                reason = f"damaged {kind.decode()} chunk dropped"
            elif kind == b"iCCP":
                profile, reason = _profile(bytes(body))
                if profile is not None and not seen:
                    png.colour.setdefault(kind, profile)
            elif kind in _COLOUR and not seen:
                png.colour.setdefault(kind, bytes(body))
        texts += used
        if reason is None:
            kept.append((at, end))
        else:
            notes[reason] = None
        at = end
    if not ended:
        mended = _without_its_end(data, kept, at)
        if mended is None:  # the decoder will report this damage
            png.data = b"".join(data[a:b] for a, b in kept) + data[at:] if notes else data
            return png
        png.data, png.notes = mended, [*notes, "end of the file missing, pixels whole"]
    elif notes:
        png.data, png.notes = b"".join(data[a:b] for a, b in kept), [*notes]
    return png


def _text_trouble(kind: bytes, body: bytes, left: int) -> tuple[str | None, int]:
    """The reason to drop a text chunk (None: keep it), and the unpacked length of its text."""
    name, _, rest = body.partition(b"\0")
    if name.lower() in _TAKEN:
        return "misleading text dropped", 0
    size = len(rest)
    if kind == b"zTXt":
        if rest[:1] not in (b"", b"\0"):
            return "text of an unknown compression dropped", 0
        size = _unpacked_size(rest[1:])
    elif kind == b"iTXt" and rest[:1] not in (b"", b"\0") and rest[1:2] == b"\0":
        # Two bytes, then the language and the keyword in that language, each ended by a zero byte.
        size = _unpacked_size(rest[2:].partition(b"\0")[2].partition(b"\0")[2])
    if size > MAX_TEXT:
        return f"text of over {MAX_TEXT // 2**20} MB dropped", 0
    if size > left:
        return f"texts of over {MAX_TEXTS // 2**20} MB dropped", 0
    return None, size


def _unpacked_size(packed: bytes) -> int:
    """Length of the unpacked data; counting stops at one more than the limit of a text."""
    try:
        return len(zlib.decompressobj().decompress(packed, MAX_TEXT + 1))
    except zlib.error:
        return 0


def _profile(body: bytes) -> tuple[bytes | None, str | None]:
    """The colour profile in a chunk, and the reason to drop the chunk (None: keep it)."""
    _, zero, rest = body.partition(b"\0")
    if not zero or rest[:1] != b"\0":
        return None, "colour profile ignored: damaged"
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(rest[1:], MAX_PROFILE + 1)
    except zlib.error:
        return None, "colour profile ignored: damaged"
    if len(profile) > MAX_PROFILE:
        return None, f"colour profile ignored: over {MAX_PROFILE // 2**20} MB"
    if not unpacker.eof:
        return None, "colour profile ignored: damaged"
    return profile, None if len(profile) <= MAX_TEXT else "large colour profile dropped"


def _without_its_end(data: bytes, kept: list[tuple[int, int]], at: int) -> bytes | None:
    """The file with its end added, if it has all pixels; else None. ``at``: where the whole chunks end."""
    rest = data[at:]
    half = rest[8:] if rest[4:8] == b"IDAT" else b""
    if rest[:4] and half:
        half = half[: struct.unpack(">I", rest[:4])[0]]  # without the part of its checksum
    pixels = [data[a + 8 : b - 4] for a, b in kept[1:] if data[a + 4 : a + 8] == b"IDAT"] + [half]
    if not _all_pixels(data, pixels):
        return None
    parts = [data[a:b] for a, b in kept] + ([chunk(b"IDAT", half)] if half else []) + [chunk(b"IEND", b"")]
    return b"".join(parts)


def _all_pixels(data: bytes, packed: list[bytes]) -> bool:
    width, height, depth, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind)
    if channels is None or not width or not height:
        return False

    def size(w: int, h: int) -> int:
        return h * (1 + (w * channels * depth + 7) // 8) if w else 0

    missing = size(width, height)
    if interlaced:
        missing = sum(size(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in _PASSES)
    unpacker = zlib.decompressobj()
    try:
        for part in packed:
            while part and missing > 0:
                missing -= len(unpacker.decompress(part, min(missing, 2**20)))
                part = unpacker.unconsumed_tail
                if unpacker.eof:
                    return missing <= 0
        while missing > 0 and (more := unpacker.flush(2**16)):
            missing -= len(more)
    except zlib.error:
        return False
    return missing <= 0


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum.

    >>> chunk(b"IEND", b"").hex()
    '0000000049454e44ae426082'
    """
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
