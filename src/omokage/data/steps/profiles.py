"""Converts the colours of files to sRGB.

A profile is judged by the colours it gives, never by its name. The PNG colour chunks gAMA, cHRM and cICP are
first turned into a profile, so that all conversions work in the same way.
"""

import io
import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SAME = 2
"""A profile counts as sRGB if it changes no colour by more than this, of 255."""

_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green, blue
_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
# ITU-T H.273 (2024), table 2: colour primaries by their number.
_PRIMARIES = {
    1: _SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, *_P3),
    12: (0.3127, 0.3290, *_P3),
    22: (0.3127, 0.3290, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_WHITE_NITS = 203.0  # luminance of white paper in a high-dynamic-range picture (ITU-R BT.2408)


class NoProfile(Exception):
    """A profile cannot be used; the message is the reason in a few words."""


class Conversion:
    """The conversion of 8-bit pixels from a profile to sRGB; made by `conversion`.

    same: whether it changes nothing, because the profile is sRGB.
    mode: mode of the pictures it takes, "RGB", "L" or "CMYK".
    """

    def __init__(self, profile: bytes, mode: str) -> None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
        except Exception:
            raise NoProfile("damaged") from None
        # An RGB profile also fits grey pictures: grey has equal parts of each channel.
        self.mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(space, "")
        if self.mode != mode and (mode, space) != ("L", "RGB"):
            kind = {"L": "grey", "CMYK": "CMYK"}.get(mode, "RGB")
            raise NoProfile(f"it is for {space or 'other'} pictures, not for {kind}")
        intent = ImageCms.Intent.PERCEPTUAL if space == "CMYK" else ImageCms.Intent.RELATIVE_COLORIMETRIC
        # Without the internal cache, one transform can be used by several threads.
        flags = ImageCms.Flags.NOCACHE
        if self.mode == "L":  # the default interpolates between few points, too coarse for dark colours
            flags |= ImageCms.Flags.NOOPTIMIZE
        if space != "CMYK":
            flags |= ImageCms.Flags.BLACKPOINTCOMPENSATION
        try:
            self._transform = ImageCms.buildTransform(
                source, ImageCms.createProfile("sRGB"), self.mode, "RGB", intent, flags
            )
            probe = _PROBES[self.mode]()
            picture = Image.frombytes(self.mode, (len(probe), 1), probe.tobytes())
            seen = np.asarray(self._transform.apply(picture))[0].astype(int)
        except Exception:
            raise NoProfile("damaged") from None
        if np.abs(seen[0] - seen[1]).max() < 64:
            raise NoProfile("damaged, black and white are alike in it")
        self.same = self.mode != "CMYK" and int(np.abs(seen - probe).max()) <= SAME
        # Grey has only 256 levels, so a table is enough. The probes begin with black and white.
        self._greys = None if mode != "L" else seen[[0, *range(2, 256), 1]].astype(np.uint8)

    def __call__(self, image: Image.Image) -> Image.Image:
        """``image``, of this mode or grey, converted to RGB in sRGB."""
        if self.same:
            return image if image.mode == "RGB" else image.convert("RGB")
        if self._greys is not None and image.mode == "L":
            return Image.fromarray(self._greys[np.asarray(image)])
        out = self._transform.apply(image if image.mode == self.mode else image.convert(self.mode))
        assert out is not None
        return out

    def of_16_bits(self, values: np.ndarray) -> Image.Image:
        """uint16 (H, W) or (H, W, 3) as RGB in sRGB, without the banding of 8 bits in dark colours."""
        strips = [self._strip(values[top : top + 256]) for top in range(0, len(values), 256)]
        return Image.fromarray(np.concatenate(strips))

    def _strip(self, values: np.ndarray) -> np.ndarray:
        low, part = np.divmod(values, 257)
        low, part = low.astype(np.uint8), part.astype(np.float32) / 257
        base = self._pixels(low)
        out = base.copy()
        steps = [slice(None)] if values.ndim == 2 else [np.s_[..., c] for c in range(3)]
        for step in steps:  # interpolate each channel between neighbouring 8-bit levels
            next_, share = low.copy(), np.zeros_like(part)
            next_[step] = np.minimum(low[step], 254) + 1
            share[step] = part[step]
            weight = share[..., None] if values.ndim == 2 else share.sum(-1, keepdims=True)
            out += (self._pixels(next_) - base) * weight
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)

    def _pixels(self, levels: np.ndarray) -> np.ndarray:
        return np.asarray(self(Image.fromarray(levels))).astype(np.float32)


@lru_cache(maxsize=8)
def _kept(profile: bytes, mode: str) -> Conversion | NoProfile:
    try:
        return Conversion(profile, mode)
    except NoProfile as reason:
        return reason


def conversion(profile: bytes, mode: str) -> Conversion:
    """The conversion from ``profile`` for pictures of ``mode``, "RGB", "L" or "CMYK"; raises `NoProfile`."""
    found = _kept(profile, mode)
    if isinstance(found, NoProfile):
        raise found
    return found


@lru_cache(maxsize=1)
def _colours() -> np.ndarray:
    levels = np.array([0, 16, 48, 96, 144, 192, 224, 255])
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    return np.concatenate([np.repeat(_levels(), 3, 1), cube]).astype(np.uint8)


@lru_cache(maxsize=1)
def _levels() -> np.ndarray:
    return np.array([0, 255, *range(1, 255)], np.uint8)[:, None]


# Colours to test a profile with, by mode, (N, channels): the first two are black and white.
_PROBES: dict[str, Callable[[], np.ndarray]] = {
    "L": _levels,
    "RGB": _colours,
    "CMYK": lambda: np.repeat(np.array([[255], [0]], np.uint8), 4, 1),
}


def of_chunks(chunks: dict[bytes, bytes], grey: bool) -> tuple[bytes | None, str, list[str]]:
    """The profile defined by the chunks of a PNG (None: sRGB), its name, and notes on ignored chunks.

    The first usable one of cICP, iCCP, sRGB, and gAMA with cHRM counts (PNG, third edition, section 4.3). A
    gamma of 1/2.2 with the primaries of sRGB counts as sRGB: programs write it so for old readers.
    """
    notes: list[str] = []
    if (code := chunks.get(b"cICP")) is not None:
        known, profile = _of_code(code, grey)
        if known:
            return profile, "cICP colours", notes
        if code[:2] != b"\2\2":
            notes.append("cICP chunk of an unknown kind ignored")
    if (profile := chunks.get(b"iCCP")) is not None:
        try:
            conversion(profile, "L" if grey else "RGB")
        except NoProfile as reason:
            notes.append(f"colour profile ignored: {reason}")
        else:
            return profile, "colour profile", notes
    if b"sRGB" in chunks:
        return None, "", notes
    gamma, primaries = None, _SRGB
    if (raw := chunks.get(b"gAMA")) is not None:
        gamma = struct.unpack(">I", raw[:4])[0] / 100_000
        if not 0.1 <= gamma <= 10:
            notes.append("impossible gAMA chunk ignored")
            gamma = None
    if (raw := chunks.get(b"cHRM")) is not None:
        primaries = tuple(value / 100_000 for value in struct.unpack(">8I", raw[:32]))  # type: ignore[assignment]
        if _matrix(primaries) is None:
            notes.append("impossible cHRM chunk ignored")
            primaries = _SRGB
    usual = bool(grey or np.abs(np.subtract(primaries, _SRGB)).max() <= 0.005)
    if usual and (gamma is None or abs(gamma * 2.2 - 1) <= 0.05):
        return None, "", notes
    curve = _of_srgb if gamma is None else lambda x: x ** (1 / gamma)
    return made(curve, primaries, grey), "gAMA and cHRM colours" if not usual else "gAMA colours", notes


def _of_code(code: bytes, grey: bool) -> tuple[bool, bytes | None]:
    """Whether a cICP chunk is understood, and its profile (None: sRGB)."""
    primaries, transfer, matrix, full = code[:4]
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix or full > 1:
        return False, None
    curve = _CURVES[transfer]
    if curve is _of_srgb and full and (grey or _PRIMARIES[primaries] == _SRGB):
        return True, None
    if not full:
        whole = curve
        curve = lambda x: whole(np.clip((x * 255 - 16) / 219, 0, 1))  # noqa: E731
    return True, made(curve, _PRIMARIES[primaries], grey)


def _of_srgb(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _of_video(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))


def _of_pq(x: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, clipped at the luminance of white paper."""
    power = x ** (1 / 78.84375)
    linear = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    return np.minimum(linear * 10_000 / _WHITE_NITS, 1)


def _of_hlg(x: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, hybrid log-gamma on a screen of 1,000 nits, clipped at the luminance of white paper."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(x <= 0.5, x**2 / 3, (np.exp((x - c) / a) + b) / 12)
    return np.minimum(scene**1.2 * 1000 / _WHITE_NITS, 1)


# H.273, table 3: transfer characteristics by their number.
_CURVES: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: _of_video,
    4: lambda x: x**2.2,
    5: lambda x: x**2.8,
    6: _of_video,
    8: lambda x: x,
    13: _of_srgb,
    14: _of_video,
    15: _of_video,
    16: _of_pq,
    17: lambda x: np.minimum(x**2.6 * 52.37 / 48, 1),
    18: _of_hlg,
}


def _matrix(primaries: tuple[float, ...]) -> np.ndarray | None:
    """Matrix from linear RGB to XYZ under D50, (3, 3); None if impossible. ``primaries``: as in `_SRGB`."""
    points = np.array(primaries).reshape(4, 2)
    if (points < 0).any() or (points[:, 1] <= 0).any() or (points.sum(1) > 1.0001).any():
        return None
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(1)], 1) / points[:, 1:]
    white, colours = xyz[0], xyz[1:].T
    if abs(np.linalg.det(colours)) < 1e-3:
        return None
    shares = np.linalg.solve(colours, white)
    if (shares <= 0).any():  # white is outside the triangle
        return None
    cones = np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white))
    out = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ (colours * shares)
    return out if np.abs(out).max() < 100 else None


def made(curve: Callable[[np.ndarray], np.ndarray], primaries: tuple[float, ...], grey: bool) -> bytes:
    """An ICC profile (version 2.4). curve: maps the values of a picture to linear light, both in 0 to 1."""
    matrix = _matrix(primaries)
    assert matrix is not None
    # A point for each of the 256 levels, so that no interpolation is needed.
    levels = np.rint(np.clip(curve(np.arange(256) / 255), 0, 1) * 65535).astype(">u2")
    curves = b"curv" + bytes(4) + struct.pack(">I", 256) + levels.tobytes()
    tags = {b"wtpt": _xyz(_D50)}
    if grey:
        tags[b"kTRC"] = curves
    else:
        tags |= {name + b"XYZ": _xyz(matrix[:, i]) for i, name in enumerate((b"r", b"g", b"b"))}
        tags |= {name + b"TRC": curves for name in (b"r", b"g", b"b")}
    at, table, held = 132 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, at + len(held), len(body))
        held += body + bytes(-len(body) % 4)
    space = b"GRAY" if grey else b"RGB "
    head = struct.pack(">I4sI4s4s4s", at + len(held), b"", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2025, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(_D50)[8:]
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + held


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))
