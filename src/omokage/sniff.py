"""Recognises files by their first bytes, so that an error can say what a wrong file is."""

import re

PICTURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"8BPS",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_FTYP_PICTURES = {b"avif", b"avis"}
_FTYP_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_GIVE_SOURCE = "give tar and zip files as sources of their own"
_LFS = "fetch the file itself with git lfs pull"


def begins_like_picture(start: bytes) -> bool:
    """Whether ``start``, 16 bytes or more, is the start of a common pixel picture format.

    >>> begins_like_picture(b"GIF89a"), begins_like_picture(b"PK\\x03\\x04")
    (True, False)
    """
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    if start[:2] == b"BM":  # two letters alone are not enough
        return start[6:10] == bytes(4)
    return start.startswith(PICTURES) or (start[4:8] == b"ftyp" and start[8:12] in _FTYP_PICTURES)


def what_it_is(start: bytes) -> tuple[str, str] | None:
    """What a file is and what to do with it, from its first bytes (512 or more, or all); None: not known.

    It knows files that are often given by mistake instead of a picture or a model. The second text may be
    empty.

    >>> what_it_is(b"version https://git-lfs.github.com/spec/v1\\noid sha256:0")
    ('a pointer of Git LFS', 'fetch the file itself with git lfs pull')
    >>> what_it_is(b"<!DOCTYPE html><html>")[0]
    'a web page'
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    if text.startswith(b"version https://git-lfs.github.com/"):
        return "a pointer of Git LFS", _LFS
    if text.startswith(b"version https://hawser.github.com/"):
        return "a pointer of Git LFS", _LFS
    if re.match(rb"../[\x20-\x7e/]*\.git/annex/objects/|/annex/objects/", text):
        return "a pointer of git-annex", "fetch the file itself with git annex get"
    if re.match(rb"(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", text, re.DOTALL) or (
        text.startswith(b"<?xml") and b"<html" in text
    ):
        return "a web page", "the address leads to a page about the file; download the file itself"
    if start[:4] == b"\xc5\xd0\xd3\xc6":
        return "a drawing in vectors", "EPS with a preview"
    if b"%!PS" in start[:16]:
        return "a drawing in vectors", "PostScript"
    if b"<svg" in start[:512]:
        return "a drawing in vectors", "SVG"
    if start[:4] == b"\1\0\0\0" and start[40:44] == b" EMF":
        return "a drawing in vectors", "EMF"
    if start[:4] == b"\xd7\xcd\xc6\x9a" or re.match(rb"[\1\2]\0\t\0\0[\1\3]", start):
        return "a drawing in vectors", "WMF"
    if b"%PDF-" in start[:1024]:
        return "a PDF document", "export its pages as PNG"
    if start[:4] == b"PK\x03\x04" and b"mimetypeapplication/x-krita" in start[:128]:
        return "a document of Krita", "export it as PNG"
    if start[:4] == b"PK\x03\x04" and b"mimetypeimage/openraster" in start[:128]:
        return "an OpenRaster document", "export it as PNG"
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"Rar!", b"7z\xbc\xaf") or start[:2] == b"\x1f\x8b":
        return "an archive", _GIVE_SOURCE
    if start[:3] == b"BZh" or start[:6] == b"\xfd7zXZ\0" or start[257:262] == b"ustar":
        return "an archive", _GIVE_SOURCE
    if start[:8] == b"CSFCHUNK":
        return "a document of Clip Studio Paint", "export it as PNG"
    if start[:9] == b"gimp xcf ":
        return "a document of GIMP", "export it as PNG"
    if start[4:8] == b"ftyp" and start[8:12] not in _FTYP_PICTURES:
        if start[8:12] in _FTYP_HEIF:
            return "a HEIF picture, which is not read", "save it as PNG or JPEG"
        return "a video", ""
    if start[:4] == b"\x1aE\xdf\xa3" or (start[:4] == b"RIFF" and start[8:12] == b"AVI "):
        return "a video", ""
    if start[:2] == b"\xff\x0a" or start[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        return "a JPEG XL picture, which is not read", "save it as PNG or JPEG"
    if start[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return "a compound file of Microsoft's, like Office documents", ""
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 file", ""
    if start[8:9] == b"{" and start[:8] != bytes(8) and 0 < int.from_bytes(start[:8], "little") < 2**27:
        return "a safetensors file", ""
    return None


def is_text(start: bytes) -> bool:
    """Whether ``start`` looks like text: it has no control characters other than those used in text."""
    return bool(start) and not any(byte < 32 and byte not in b"\t\n\r\f" for byte in start)
