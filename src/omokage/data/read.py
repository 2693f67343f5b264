"""From hostile bytes to a clean RGB picture, or one line that says why not.

Content decides what a file is, never its name. Nothing here prints or warns, and `Unreadable` is all
that it raises.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64 * 2**20
"""A picture of more pixels (8192×8192) is refused by its header, before anything is decoded."""

MAX_FILE_BYTES = 256 * 2**20
"""A file of more bytes is refused before it is read."""

MAX_FRAMES = 1000
"""An animation of which more frames are asked for is refused."""

RESIZE_RULE = "cover-lanczos-centre"
"""Scale by Lanczos (antialiased) so that the picture covers the target, then cut out the centre."""

# These run another program, or only hand over to plug-ins that are not there.
_NEVER = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
_FRAMES = {"GIF", "PNG", "WEBP", "AVIF", "FLI", "TIFF"}
"""Formats of frames or pages. What others have several of (layers, views, sizes) are no pictures apart."""
_AS_THEY_COME = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}


class Unreadable(Exception):
    """Why a file cannot be used, in one line without the file's name."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    image: RGB, upright, sRGB as far as its profile could be applied.
    extension: "jpg", "png" or "webp" if the bytes as they came are already that picture to any reader;
        None if they must be written anew.
    done: what was done to it, in order, e.g. ("turned upright", "alpha on white").
    frame: its number in an animation of which several frames were asked for, from 1.
    """

    image: Image.Image
    extension: str | None
    done: tuple[str, ...]
    frame: int | None = None


def one_line(text: object, limit: int = 300) -> str:
    """``text`` as one printable line of at most ``limit`` characters.

    >>> one_line("a\\n  b\\x1b[31m")
    'a b\\\\x1b[31m'
    """
    line = " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_before: warnings.catch_warnings | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """No Python warning reaches the terminal meanwhile; may be nested and used from several threads."""
    # catch_warnings alone saves and restores a global: overlapping threads would leave the wrong one behind.
    global _quiet_depth, _quiet_before
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_before = warnings.catch_warnings()
            _quiet_before.__enter__()
            warnings.simplefilter("ignore")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_before is not None:
                _quiet_before.__exit__(None, None, None)
                _quiet_before = None


_mute_lock = threading.Lock()


@contextmanager
def _mute() -> Iterator[None]:
    """Nothing reaches the terminal from C code either: libtiff prints its errors, and Pillow lets it."""
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
        # O_NONBLOCK: a pipe put in the file's place after a look at it must not hang the build.
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
    """Decode ``data`` whole; raises `Unreadable` with the reason.

    Animations give their first frame; transparency is laid on ``background``; 16-bit and floating-point
    pictures are scaled to 8 bits; CMYK and colour profiles are brought to sRGB; EXIF orientation is applied.
    """
    with _refusing(data, max_pixels):
        return _read(data, max_pixels, background)


def read_frames(
    data: bytes,
    every: int,
    *,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Iterator[Picture]:
    """The first frame of an animation and every ``every``-th after it (of a TIFF: its pages), one at a time.

    What is no animation gives what `read_picture` gives. Raises `Unreadable`, before the first frame or at
    one that is damaged.
    """
    with _refusing(data, max_pixels):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
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
            # A copy: turning and converting must not change what later frames are drawn upon.
            frame = image.copy()
            done = [f"frame {number + 1} of {count}", f"from {image.format}"]
            picture = Picture(_to_srgb(_upright(frame), done, background), None, tuple(done), number + 1)
        yield picture


@contextmanager
def _refusing(data: bytes, max_pixels: int, where: str = "") -> Iterator[None]:
    """Whatever goes wrong with hostile bytes becomes `Unreadable`, which begins with ``where``."""
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
            raise Unreadable(f"{where}too many pixels, the limit is {max_pixels:,}") from None
        except MemoryError:
            raise Unreadable(f"{where}decoding it needs too much memory") from None
        except Exception as error:  # whatever a decoder stumbles over
            message = one_line(error) or type(error).__name__
            cut = any(
                word in message.lower() for word in ("truncated", "unexpected end", "eof", "incomplete")
            )
            kind = "cut short" if cut else "damaged"
            raise Unreadable(f"{where}{kind}: {message}") from None


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
    """``image`` as PNG bytes, the same every time."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(out, "PNG")  # through an array: drops profile, EXIF and text
    return out.getvalue()


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _NEVER]


def _read(data: bytes, max_pixels: int, background: tuple[int, int, int]) -> Picture:
    image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_size(image, max_pixels)
    kind = image.format or "?"
    with _mute() if kind == "TIFF" else nullcontext():
        image.load()
    _check_size(image, max_pixels)  # icon formats know their true size only now
    done: list[str] = []
    if kind not in ("JPEG", "MPO") and _animated(image):
        done.append("first frame")
        image.seek(0)
        image.load()
    if kind not in _AS_THEY_COME:
        done.append(f"from {kind}")
    if kind == "PNG" and data[24:25] == b"\x10":
        done.append("16 bits to 8")
    upright = _upright(image)
    if upright is not image:
        done.append("turned upright")
    image = _to_srgb(upright, done, background)
    return Picture(image, None if done else _AS_THEY_COME.get(kind), tuple(done))


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise Unreadable("a picture without pixels")
    if width * height > max_pixels:
        raise Unreadable(f"too many pixels: {width}×{height}, the limit is {max_pixels:,}")


def _animated(image: Image.Image) -> bool:
    # Only a note hangs on this, so a broken second frame is no reason to lose the first.
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # damaged EXIF says nothing about the picture
        if image.getexif().get(0x0112, 1) in (2, 3, 4, 5, 6, 7, 8):
            return ImageOps.exif_transpose(image)
    return image


def _to_srgb(image: Image.Image, done: list[str], background: tuple[int, int, int]) -> Image.Image:
    mode, transparent = image.mode, "transparency" in image.info
    profile = image.info.get("icc_profile")
    if mode.startswith("I;16") or mode == "I":
        values = np.asarray(image).astype(np.int64)
        if mode != "I" or values.max(initial=0) > 255:
            values = (np.clip(values, 0, 65535) * 255 + 32767) // 65535
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        profile = None
        done.append("16 bits to 8")
    elif mode == "F":
        floats = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        floats = floats * 255 if floats.max(initial=0) <= 1 else floats
        image = Image.fromarray(np.clip(np.rint(floats), 0, 255).astype(np.uint8))
        profile = None
        done.append("floating point to 8 bits")
    elif mode in ("RGBA", "LA", "PA", "RGBa", "La") or transparent:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        rgb = _apply_profile(image.convert("RGB"), profile, done)
        if alpha.getextrema() == (255, 255):
            done.append("opaque alpha dropped")
            return rgb
        done.append("alpha on white" if background == (255, 255, 255) else f"alpha on {background}")
        ground = Image.new("RGB", image.size, background)
        ground.paste(rgb, mask=alpha)
        return ground
    elif mode not in ("RGB", "L"):
        done.append({"P": "palette", "1": "bilevel"}.get(mode, mode) + " to RGB")
        image = image.convert("RGB") if mode != "CMYK" or not profile else image
    return _apply_profile(image, profile, done)


def _apply_profile(image: Image.Image, profile: bytes | None, done: list[str]) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = ImageCms.getProfileDescription(source).lower()
            if not ("srgb" in name or "61966" in name):
                target = ImageCms.createProfile("sRGB")
                turned = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                if turned is not None:
                    done.append("colour profile to sRGB")
                    return turned
        except Exception:  # a broken or foreign profile: the numbers are taken as sRGB, as browsers do
            if image.mode == "CMYK":
                done.append("colour profile ignored")
    return image if image.mode == "RGB" else image.convert("RGB")


def _what_it_is(data: bytes) -> str:
    archive = data[:4] in (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf") or data[:2] == b"\x1f\x8b"
    if archive or data[257:262] == b"ustar":
        return "an archive, not a picture: give tar and zip files as sources of their own"
    start = data[:512]
    if b"%!PS" in start[:16] or b"<svg" in start:
        return "a drawing in vectors, not a picture of pixels"
    if b"\0" not in start and sum(byte < 32 and byte not in b"\t\n\r\f" for byte in start) == 0:
        return "text, not a picture"
    return "not a picture that Pillow reads"


ImageFile.LOAD_TRUNCATED_IMAGES = False
_FORMATS = _formats()
