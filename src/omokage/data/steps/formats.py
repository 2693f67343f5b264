"""Facts about PSD, JPEG, BMP and DDS files that decoders do not report, read from the headers."""

import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

# How the pixels of a BMP are packed, by the number in its header.
_BMP = {
    0: "",
    1: ", RLE8",
    2: ", RLE4",
    3: ", bit fields",
    4: ", JPEG within",
    5: ", PNG within",
    6: ", bit fields with alpha",
}


def trouble_of_merged(data: bytes, resources: Iterable[tuple[int, Any, bytes]]) -> str | None:
    """Why the merged picture of a PSD cannot be used; None if it can. resources: as Pillow lists them."""
    for number, _, content in resources:
        if number == 1057 and content[4:5] == b"\0":  # version information: is there a true merged picture?
            return "a PSD without its merged picture: save it with maximum compatibility"
    if data[24:26] == b"\0\7":
        return "a PSD of a kind that is not read: multichannel"
    return None


def psd_layers(data: bytes) -> int:
    """Number of layers; negative if the fourth channel is the transparency of the merged picture."""
    try:
        at = 26
        for _ in range(2):  # colours and resources
            at += 4 + struct.unpack_from(">I", data, at)[0]
        section, information = struct.unpack_from(">II", data, at)
        return int(struct.unpack_from(">h", data, at + 8)[0]) if section and information else 0
    except struct.error:
        return 0


def psd_trouble(data: bytes) -> str:
    """Why Pillow does not open a file that starts like a PSD."""
    if len(data) < 26:
        return "cut short: a PSD without its header"
    (version,), (bits,) = struct.unpack_from(">H", data, 4), struct.unpack_from(">H", data, 22)
    if version == 2:
        return "a PSB (a PSD for large pictures), which is not read: save it as PSD or PNG"
    if version == 1 and bits in (16, 32):
        return f"a PSD of a kind that is not read: {bits} bits a channel; save it with 8"
    try:
        at = 26
        for _ in range(3):  # colours, resources, layers
            at += 4 + struct.unpack_from(">I", data, at)[0]
    except struct.error:
        at = len(data)
    if at + 2 > len(data):
        return "cut short: a PSD that ends before its merged picture"
    return "damaged: a PSD whose header makes no sense"


def has_all_scans(data: bytes) -> bool:
    """Whether a JPEG has the start of all its scans: for each component, coefficient and bit."""
    at, components = 2, 0
    known: dict[tuple[int, int], int] = {}  # bits not yet seen, by component and coefficient
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            components = body[5]
        if marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            start, end, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for i in range(body[0]):
                for coefficient in range(start, min(end, 63) + 1):
                    known[body[1 + 2 * i], coefficient] = bits & 15
        at += 2 + length
    whole = [bits for bits in known.values() if bits == 0]
    return components > 0 and len(whole) == len(known) == 64 * components


def next_restart(data: bytes) -> bytes | None:
    """The restart marker that may follow the last bytes of a JPEG; None if it has no such markers."""
    at = data.rfind(b"\xff\xda")
    if data.rfind(b"\xff\xdd", 0, at) < 0:  # no interval defined
        return None
    last = max(data.rfind(bytes([0xFF, marker]), at) for marker in range(0xD0, 0xD8))
    return bytes([0xFF, 0xD0 + ((data[last + 1] - 0xD0 + 1) % 8 if last >= 0 else 0)])


def variant(data: bytes, message: str) -> str:
    """The reason for a file of a known format in an unsupported variant. message: that of the decoder."""
    if data[:2] == b"BM" and len(data) >= 18:
        (header,) = struct.unpack_from("<I", data, 14)
        if len(data) < 14 + header and header < 200:
            return "cut short: a BMP without its header"
        parts = [f"a header of {header:,} bytes"]
        with suppress(struct.error):
            bits, how = struct.unpack_from("<HI", data, 28)
            if header >= 40:
                parts.insert(0, f"{bits} bits a pixel" + _BMP.get(how, f", compression {how}"))
        return f"a BMP of a variant that is not read: {', '.join(parts)}"
    if data[:4] == b"DDS ":
        if len(data) < 128:
            return "cut short: a DDS without its header"
        code, (bits,) = data[84:88], struct.unpack_from("<I", data, 88)
        named = f"{bits} bits a pixel" if bits else f"flags {int.from_bytes(data[80:84], 'little'):#x}"
        if code.isalnum():
            named = f"code {code.decode('latin-1')}"
        with suppress(struct.error):
            if code == b"DX10":
                named = f"DXGI format {struct.unpack_from('<I', data, 128)[0]}"
        return f"a DDS of a variant that is not read: {named}"
    return f"a variant of its format that is not read: {message}"
