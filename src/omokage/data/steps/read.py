"""Turns untrusted bytes into a clean RGB picture, or into one line that says why this is impossible.

The type of a file is decided by its content, never by its name. Nothing here prints or warns, and the only
error raised is `Unreadable`.
"""

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ...sniff import begins_like_picture, is_text, what_it_is
from ..text import one_line
from . import formats
from . import png as png_files
from .srgb import colours_of, from_16_bits, to_srgb

MAX_PIXELS = 64 * 2**20
"""A picture with more pixels (8192×8192) is refused by its header, before anything is decoded."""

MAX_FILE_BYTES = 256 * 2**20
"""A file with more bytes is refused before it is read."""

MAX_FRAMES = 1000
"""An animation is refused if more of its frames are asked for."""

RESIZE_RULE = "cover-lanczos-centre"
"""The rule: scale by Lanczos (antialiased) until the picture covers the target, then crop the centre."""

# These formats run another program, or need plug-ins that are not installed.
_NEVER = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
_FRAMES = {"GIF", "PNG", "WEBP", "AVIF", "FLI", "TIFF"}
"""Formats with frames or pages. Parts of other formats (layers, views, sizes) are not separate pictures."""
_AS_THEY_COME = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}


class Unreadable(Exception):
    """A file cannot be used; the message is the reason, in one line without the file's name."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    image: RGB, upright, converted to sRGB if its profile can be used.
    extension: "jpg", "png" or "webp" if the original bytes give this picture in any reader; None if it must
        be encoded again.
    done: what was done to it, in order, e.g. ("turned upright", "alpha on white").
    frame: number of the frame, from 1, if several frames of an animation were asked for.
    """

    image: Image.Image
    extension: str | None
    done: tuple[str, ...]
    frame: int | None = None


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_before: warnings.catch_warnings | None = None
_quiet_log = logging.getLogger("PIL")
_quiet_level = logging.NOTSET


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Python warnings and messages of Pillow in this block.

    May be nested and used from several threads.
    """
    # catch_warnings alone saves and restores a global: overlapping threads would restore the wrong value.
    global _quiet_depth, _quiet_before, _quiet_level
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_before = warnings.catch_warnings()
            _quiet_before.__enter__()
            warnings.simplefilter("ignore")
            # Decoders log the tags of files; if there is no handler, Python prints them to standard error.
            _quiet_level = _quiet_log.level
            _quiet_log.setLevel(logging.CRITICAL + 1)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_before is not None:
                _quiet_log.setLevel(_quiet_level)
                _quiet_before.__exit__(None, None, None)
                _quiet_before = None


_mute_lock = threading.Lock()


@contextmanager
def _mute() -> Iterator[None]:
    """Suppress the output of C code: libtiff prints its errors, and Pillow does not stop it."""
    with _mute_lock:
        try:
            before = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def read_file(path: str | Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; raises `Unreadable`."""
    try:
        # O_NONBLOCK: if a pipe has replaced the file since it was listed, the build must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a regular file")
            if status.st_size > limit:
                raise Unreadable(f"file too large: {status.st_size:,} bytes, the limit is {limit:,}")
            data = file.read(limit + 1)
    except PermissionError:
        raise Unreadable("no permission to read it") from None
    except FileNotFoundError:
        raise Unreadable("no such file, or a link that leads nowhere") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {one_line(getattr(error, 'strerror', None) or error)}") from None
    if len(data) > limit:
        raise Unreadable(f"file too large: more than {limit:,} bytes")
    return data


def read_picture(
    data: bytes, *, max_pixels: int = MAX_PIXELS, background: tuple[int, int, int] = (255, 255, 255)
) -> Picture:
    """Decode the picture in ``data``; raises `Unreadable` with the reason.

    Animations give their first frame, files with layers their merged picture. Transparency is composited on
    ``background``. 16-bit and floating-point pictures are scaled to 8 bits. CMYK, colour profiles and the
    colour chunks of PNGs are converted to sRGB. EXIF orientation is applied. If only bytes without pixels are
    missing at the end, the file is read.
    """
    with _refusing(data, max_pixels):
        try:
            return _read(data, max_pixels, background)
        except Exception as error:
            if not _is_cut(error) or (whole := _completed(data, max_pixels, background)) is None:
                raise
            return whole


def read_frames(
    data: bytes,
    every: int,
    *,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Iterator[Picture]:
    """The first frame of an animation and every ``every``-th after it (for a TIFF: pages), one at a time.

    Other pictures give the result of `read_picture`. Raises `Unreadable`, before the first frame or at a
    damaged one.
    """
    with _refusing(data, max_pixels):
        image, png = _open(data)
        animated = image.format in _FRAMES and _animated(image)
        count = getattr(image, "n_frames", 1) if animated else 1
    if not animated:
        yield read_picture(data, max_pixels=max_pixels, background=background)
        return
    if (wanted := -(-count // every)) > MAX_FRAMES:
        least = -(-count // MAX_FRAMES)
        raise Unreadable(f"{wanted:,} frames, the limit is {MAX_FRAMES:,}: give --frames {least:,} or more")
    for number in range(0, count, every):
        with _refusing(data, max_pixels, f"frame {number + 1}: "):
            image.seek(number)
            _check_size(image, max_pixels)
            with _mute() if image.format == "TIFF" else nullcontext():
                image.load()
            # Work on a copy: later frames are composited on the unchanged one.
            frame = image.copy()
            done = [f"frame {number + 1} of {count}", f"from {image.format}"]
            colours = colours_of(frame, png, done)
            frame = to_srgb(_upright(frame), colours, done, background)
            picture = Picture(frame, None, tuple(done), number + 1)
        yield picture


@contextmanager
def _refusing(data: bytes, max_pixels: int, where: str = "") -> Iterator[None]:
    """Turn every error of a decoder into `Unreadable`; its message starts with ``where``."""
    if not data:
        raise Unreadable("empty file")
    with quiet():
        try:
            yield
        except Unreadable as reason:
            raise Unreadable(f"{where}{reason}") from None
        except UnidentifiedImageError:
            raise Unreadable(where + _what_it_is(data)) from None
        except Image.DecompressionBombError:
            raise Unreadable(f"{where}too many pixels: the limit is {max_pixels:,}") from None
        except MemoryError:
            raise Unreadable(f"{where}needs too much memory") from None
        except Exception as error:  # decoders raise many kinds of errors
            message = one_line(error) or type(error).__name__
            if isinstance(error, NotImplementedError) or message.lower().startswith(_UNKNOWN):
                raise Unreadable(where + formats.variant(data, message)) from None
            kind = "cut short" if _is_cut(error) else "damaged"
            raise Unreadable(f"{where}{kind}: {message}") from None


_UNUSUAL = ("webp", "zstd", "lzma", "lerc", "jbig", "jpeg2000")
"""TIFF compressions that not every libtiff supports; without support it reports only an error."""

_UNKNOWN = ("unsupported", "unimplemented", "unknown pixel format", "not supported")


def _is_cut(error: Exception) -> bool:
    words = ("truncated", "unexpected end", "eof", "incomplete")
    return any(word in one_line(error).lower() for word in words)


def kind_of(reason: str) -> str:
    """The part of a reason that is counted: without its details and the frame's number.

    >>> kind_of("frame 3: cut short: image file is truncated")
    'cut short'
    """
    parts = reason.split(": ")
    if len(parts) > 1 and parts[0].startswith("frame ") and parts[0][6:].isdigit():
        parts = parts[1:]
    return parts[0].split(":")[0]


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``image`` resized to ``size`` (height, width) by `RESIZE_RULE`; itself if it has that size already."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    w, h = min(image.width, width / scale), min(image.height, height / scale)
    left, top = (image.width - w) / 2, (image.height - h) / 2
    box = (left, top, left + w, top + h)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def to_png(image: Image.Image) -> bytes:
    """``image`` as PNG bytes. The same picture gives the same bytes."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(out, "PNG")  # through an array: drops profile, EXIF and text
    return out.getvalue()


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _NEVER]


def _open(data: bytes) -> tuple[Image.Image, png_files.Png | None]:
    """The opened picture, not yet decoded; for a PNG also the prepared file, else None."""
    png = None
    if data.startswith(png_files.MAGIC):
        png = png_files.prepared(data)
        data = png.data
    return Image.open(io.BytesIO(data), formats=_FORMATS), png


def _read(data: bytes, max_pixels: int, background: tuple[int, int, int]) -> Picture:
    image, png = _open(data)
    _check_size(image, max_pixels)
    kind = image.format or "?"
    try:
        with _mute() if kind == "TIFF" else nullcontext():
            image.load()
    except OSError:
        if kind == "TIFF" and (how := image.info.get("compression")) in _UNUSUAL:
            reason = f"a TIFF of a variant that is not read, or damaged: compressed by {how}"
            raise Unreadable(reason) from None
        raise
    _check_size(image, max_pixels)  # icon formats give their true size only now
    done: list[str] = []
    if kind in _FRAMES and _animated(image):
        done.append("first frame")
        image.seek(0)
        image.load()
    if kind == "PSD":
        image = _merged(image, data, done)
    if kind not in _AS_THEY_COME:
        done.append(f"from {kind}")
    if png is not None:
        done += png.notes
        if png.depth == 16:
            done.append("16 bits to 8")
    colours = colours_of(image, png, done)
    deep = None
    if png is not None and colours.conversion is not None and "first frame" not in done:
        deep = from_16_bits(png, image, colours.conversion)
    upright = _upright(image)
    if upright is not image:
        done.append("turned upright")
        deep = None if deep is None else deep.transpose(_TURNS[_orientation(image)])
    image = to_srgb(upright, colours, done, background, deep)
    return Picture(image, None if done else _AS_THEY_COME.get(kind), tuple(done))


def _merged(image: Image.Image, data: bytes, done: list[str]) -> Image.Image:
    """The merged picture of a PSD; the file stores it in addition to the layers."""
    if (trouble := formats.trouble_of_merged(data, getattr(image, "resources", ()))) is not None:
        raise Unreadable(trouble)
    if image.mode == "1":  # in a PSD, 1 is black
        return _with_info(image.point(lambda value: 255 - value), image)
    if image.mode == "RGBA" and formats.psd_layers(data) > 0:
        done.append("channel of a selection dropped")
        return _with_info(image.convert("RGB"), image)
    return image


def _with_info(image: Image.Image, of: Image.Image) -> Image.Image:
    image.info = dict(of.info)
    return image


def _completed(data: bytes, max_pixels: int, background: tuple[int, int, int]) -> Picture | None:
    """A JPEG without its last bytes, if they do not matter: the pixels are the same for any such bytes."""
    # PNGs were completed when they were opened; decoders of other formats need only the pixels.
    if not data.startswith(b"\xff\xd8\xff") or not formats.has_all_scans(data):
        return None
    data, end = data.removesuffix(b"\xff"), b"\xff\xd9"
    # Each of these byte sequences gives other pixels if the decoder still needs data.
    patterns = [bytes([byte] * 2048) for byte in (0x00, 0x55, 0xAA)]
    patterns += [b"\xff\0" * 1024, bytes(range(255)) * 8, bytes(range(254, -1, -1)) * 8]
    restart = formats.next_restart(data)
    starts = [b""] if restart is None else [b"", restart]
    tails = [end, *(start + pattern + end for start in starts for pattern in patterns)]
    first: Picture | None = None
    for tail in tails:
        try:
            picture = _read(data + tail, max_pixels, background)
        except Exception:
            return None
        if first is None:
            first = picture
        elif not np.array_equal(np.asarray(first.image), np.asarray(picture.image)):
            return None
    assert first is not None
    return Picture(first.image, None, (*first.done, "end of the file missing, pixels whole"))


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise Unreadable("a picture without pixels")
    if width * height > max_pixels:
        raise Unreadable(f"too many pixels: {width}×{height}, the limit is {max_pixels:,}")


def _animated(image: Image.Image) -> bool:
    # This is only for a note, so a damaged second frame must not reject the first.
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF does not make the picture bad
        found = image.getexif().get(0x0112, 1)
        return found if found in _TURNS else 1
    return 1


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _what_it_is(data: bytes) -> str:
    if data[:4] == b"8BPS":
        return formats.psd_trouble(data)
    if (data[:2] == b"BM" and data[6:10] == bytes(4)) or data[:4] == b"DDS ":
        return formats.variant(data, "")
    if (known := what_it_is(data[:1024])) is not None:
        name, hint = known
        if name == "a drawing in vectors":
            name = f"{name}, not a picture of pixels"
        elif not name.endswith("not read"):
            name = f"{name}, not a picture"
        return f"{name}: {hint}" if hint else name
    start = data[:512]
    if begins_like_picture(start):
        if start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):
            return "damaged: it begins like a picture, but its header is cut short or makes no sense"
        return "damaged, or of a variant that is not read: its header makes no sense to Pillow"
    if is_text(start):
        return "text, not a picture"
    return "not a picture that Pillow reads"


ImageFile.LOAD_TRUNCATED_IMAGES = False
_FORMATS = _formats()
