"""A decoded picture of any mode and colour profile, as RGB in sRGB."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import png as png_files
from .profiles import Conversion, NoProfile, conversion, of_chunks


@dataclass(frozen=True)
class Colours:
    """The conversion of a picture to sRGB, and its name; None: no conversion is needed."""

    conversion: Conversion | None = None
    name: str = ""


def colours_of(image: Image.Image, png: png_files.Png | None, done: list[str]) -> Colours:
    """The colour conversion that the file asks for. Unusable colour data is noted in ``done``."""
    mode = image.mode if image.mode in ("L", "RGB", "CMYK") else "RGB"
    if image.mode in ("1", "LA", "La", "I") or image.mode.startswith("I;16"):
        mode = "L"
    profile, name = image.info.get("icc_profile"), "colour profile"
    if png is not None:
        profile, name, notes = of_chunks(png.colour, mode == "L")
        done += notes
    if not profile or image.mode == "F":
        return Colours()
    try:
        found = conversion(bytes(profile), mode)
    except NoProfile as reason:
        done.append(f"{name} ignored: {reason}")
        return Colours()
    except TypeError:
        return Colours()
    return Colours(None if found.same else found, name)


def to_srgb(
    image: Image.Image,
    colours: Colours,
    done: list[str],
    background: tuple[int, int, int],
    deep: Image.Image | None = None,
) -> Image.Image:
    """``image`` as RGB in sRGB. deep: the colours, if already converted from more than 8 bits."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode.startswith("I;16") or mode == "I":
        values = np.asarray(image).astype(np.int64)
        if colours.conversion is not None and (mode != "I" or values.max(initial=0) > 255):
            done += [note for note in ("16 bits to 8",) if note not in done]
            done.append(f"{colours.name} to sRGB")
            return colours.conversion.of_16_bits(np.clip(values, 0, 65535).astype(np.uint16))
        if mode != "I" or values.max(initial=0) > 255:
            values = (np.clip(values, 0, 65535) * 255 + 32767) // 65535
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        done += [note for note in ("16 bits to 8",) if note not in done]
    elif mode == "F":
        floats = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        floats = floats * 255 if floats.max(initial=0) <= 1 else floats
        image = Image.fromarray(np.clip(np.rint(floats), 0, 255).astype(np.uint8))
        done.append("floating point to 8 bits")
    elif mode in ("RGBA", "LA", "PA", "RGBa", "La") or transparent:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        grey = mode in ("L", "LA", "La", "1")
        rgb = _apply(rgba.getchannel("R") if grey else rgba.convert("RGB"), colours, done, deep)
        if alpha.getextrema() == (255, 255):
            done.append("opaque alpha dropped")
            return rgb
        done.append("alpha on white" if background == (255, 255, 255) else f"alpha on {background}")
        ground = Image.new("RGB", rgba.size, background)
        ground.paste(rgb, mask=alpha)
        return ground
    elif mode == "1":
        done.append("bilevel to RGB")
        image = image.convert("L")
    elif mode not in ("RGB", "L"):
        done.append({"P": "palette"}.get(mode, mode) + " to RGB")
        image = image.convert("RGB") if mode != "CMYK" or colours.conversion is None else image
    return _apply(image, colours, done, deep)


def _apply(
    image: Image.Image, colours: Colours, done: list[str], deep: Image.Image | None = None
) -> Image.Image:
    if colours.conversion is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    done.append(f"{colours.name} to sRGB")
    return colours.conversion(image) if deep is None else deep


def from_16_bits(png: png_files.Png, image: Image.Image, convert: Conversion) -> Image.Image | None:
    """A 16-bit colour PNG in sRGB. Pillow gives 8 bits, too few for dark colours of a linear picture."""
    if png.depth != 16 or png.colour_type not in (2, 6) or convert.mode != "RGB":
        return None
    import cv2

    try:
        values = cv2.imdecode(np.frombuffer(png.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[1::-1] != image.size:
        return None
    return convert.of_16_bits(values[..., 2::-1])
