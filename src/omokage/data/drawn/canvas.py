"""Curves, colours and an antialiased canvas: the tools that paint the drawn faces.

Shapes are polygons in pixels of the finished picture. They are painted several times larger and averaged
down, so that a picture is the same drawing at any size.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Points = np.ndarray  # float (N, 2) or (N, 3)


def supersampling(height: int, width: int) -> int:
    """The factor by which each side of the canvas is larger than the finished picture."""
    largest = max(height, width)
    return 4 if largest <= 320 else 3 if largest <= 720 else 2


@lru_cache
def _catmull_rom_basis(steps: int) -> np.ndarray:
    t = np.arange(steps) / steps
    return 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1
    )


@lru_cache
def _bezier_basis(steps: int, degree: int) -> np.ndarray:
    t = np.linspace(0, 1, steps)
    if degree == 2:
        return np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], 1)
    return np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)


@lru_cache
def _circle(steps: int) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1)


def smooth(points, closed: bool = False, steps: int = 8) -> np.ndarray:
    """The Catmull-Rom curve through ``points``: (N, D) -> about (N * steps, D)."""
    p = np.asarray(points, float)
    ring = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    quads = np.stack([ring[:-3], ring[1:-2], ring[2:-1], ring[3:]], 1)
    curve = np.einsum("sk,nkd->nsd", _catmull_rom_basis(steps), quads).reshape(-1, p.shape[1])
    return curve if closed else np.concatenate([curve, p[-1:]])


def bezier(*controls, steps: int = 10) -> np.ndarray:
    """The Bézier curve of three or four control points: -> (steps, D)."""
    return _bezier_basis(steps, len(controls) - 1) @ np.asarray(controls, float)


def ellipse(cx: float, cy: float, rx: float, ry: float, steps: int = 28) -> np.ndarray:
    """A closed ellipse: -> (steps, 2)."""
    return _circle(steps) * (rx, ry) + (cx, cy)


def ribbon(points: Points, widths) -> np.ndarray:
    """The outline of a brush stroke along ``points`` (N, 2); ``widths`` is a number or (N,), full width."""
    p = np.asarray(points, float)
    tangent = np.empty_like(p)
    tangent[1:-1] = p[2:] - p[:-2]
    tangent[0], tangent[-1] = p[1] - p[0], p[-1] - p[-2]
    length = np.hypot(tangent[:, 0], tangent[:, 1])
    half = widths / (2 * np.maximum(length, 1e-9))
    normal = tangent[:, ::-1] * half[:, None]
    normal[:, 0] *= -1
    return np.concatenate([p + normal, (p - normal)[::-1]])


@lru_cache(maxsize=512)
def taper(count: int, start: float = 0.15, end: float = 0.15, peak: float = 0.5) -> np.ndarray:
    """Pen pressure along a stroke, (count,): ``start`` and ``end`` at the tips, 1 at the place ``peak``.

    All are in 0 to 1.
    """
    t = np.linspace(0, 1, count)
    rise = np.sin(np.clip(t / max(peak, 1e-6), 0, 1) * np.pi / 2)
    fall = np.sin(np.clip((1 - t) / max(1 - peak, 1e-6), 0, 1) * np.pi / 2)
    return np.where(t < peak, start + (1 - start) * rise, end + (1 - end) * fall)


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The colour between ``a`` (t = 0) and ``b`` (t = 1), linear in RGB."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def tone(colour: Colour, lightness: float = 0.0, chroma: float = 1.0, hue: float = 0.0) -> Colour:
    """``colour`` changed in OKLab (Ottosson 2020): lightness added, chroma multiplied, hue turned by degrees.

    >>> tone((200, 100, 50))
    (200, 100, 50)
    """
    lab = _to_oklab(colour)
    c, h = np.hypot(lab[1], lab[2]) * chroma, np.arctan2(lab[2], lab[1]) + np.deg2rad(hue)
    return _from_oklab(np.array([np.clip(lab[0] + lightness, 0, 1), c * np.cos(h), c * np.sin(h)]))


def shade(colour: Colour, amount: float = 0.12) -> Colour:
    """The shadow colour of ``colour``: darker, a little more saturated, shifted towards violet."""
    lab = _to_oklab(colour)
    violet = np.array([0.0, 0.055, -0.09])
    lab = lab * np.array([1, 1.03, 1.03]) + (violet - np.array([0, *lab[1:]])) * amount * 1.1
    lab[0] = max(lab[0] - amount, 0.03)
    return _from_oklab(lab)


_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip
_LMS_INVERSE, _LAB_INVERSE = np.linalg.inv(_LMS), np.linalg.inv(_LAB)


def _to_oklab(colour: Colour) -> np.ndarray:
    c = np.asarray(colour) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return _LAB @ np.cbrt(_LMS @ linear)


def _from_oklab(lab: np.ndarray) -> Colour:
    linear = np.clip(_LMS_INVERSE @ (_LAB_INVERSE @ lab) ** 3, 0, 1)
    c = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(int(v) for v in np.rint(c * 255))  # type: ignore[return-value]


class Canvas:
    """A picture that is being painted. All coordinates and widths are in pixels of the finished picture."""

    def __init__(self, height: int, width: int, background: Colour = (255, 255, 255)) -> None:
        self.height, self.width = height, width
        self.factor = supersampling(height, width)
        self.image = Image.new("RGB", (width * self.factor, height * self.factor), background)
        self._pen = ImageDraw.Draw(self.image)

    def _bounds(self, points: np.ndarray, margin: int = 1) -> tuple[int, int, int, int] | None:
        low, high = points.min(0), points.max(0)
        left, top = max(int(low[0]) - margin, 0), max(int(low[1]) - margin, 0)
        right = min(int(high[0]) + 2 + margin, self.image.width)
        bottom = min(int(high[1]) + 2 + margin, self.image.height)
        return (left, top, right, bottom) if right > left and bottom > top else None

    def _stencil(self, points: np.ndarray, box, value: int = 255) -> Image.Image:
        stencil = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(stencil).polygon((points - box[:2]).ravel().tolist(), fill=value)
        return stencil

    def fill(
        self, points: Points, colour: Colour, alpha: float = 1.0, clip: Image.Image | None = None
    ) -> None:
        """Paint a closed shape; only the part inside ``clip``, a mask from :meth:`mask`."""
        p = points * self.factor
        if alpha >= 1 and clip is None:
            self._pen.polygon(p.ravel().tolist(), fill=colour)
            return
        if (box := self._bounds(p)) is None:
            return
        stencil = self._stencil(p, box, round(255 * min(alpha, 1)))
        if clip is not None:
            stencil = ImageChops.multiply(stencil, clip.crop(box))
        self.image.paste(colour, box, stencil)

    def soft(
        self, points: Points, colour: Colour, alpha: float, blur: float, clip: Image.Image | None = None
    ) -> None:
        """Paint a shape whose edge fades over about ``blur`` pixels."""
        p, radius = points * self.factor, blur * self.factor
        if (box := self._bounds(p, int(2 * radius) + 1)) is None:
            return
        stencil = self._stencil(p, box, round(255 * alpha)).filter(ImageFilter.BoxBlur(radius / 2))
        stencil = stencil.filter(ImageFilter.BoxBlur(radius / 2))
        if clip is not None:
            stencil = ImageChops.multiply(stencil, clip.crop(box))
        self.image.paste(colour, box, stencil)

    def gradient(
        self, points: Points, start, end, colours: tuple[Colour, Colour], clip: Image.Image | None = None
    ) -> None:
        """Paint a shape from ``colours[0]`` at the point ``start`` to ``colours[1]`` at the point ``end``."""
        p = points * self.factor
        if (box := self._bounds(p)) is None:
            return
        stencil = self._stencil(p, box)
        if clip is not None:
            stencil = ImageChops.multiply(stencil, clip.crop(box))
        start, end = np.asarray(start, float) * self.factor, np.asarray(end, float) * self.factor
        d = (end - start) / max(float(((end - start) ** 2).sum()), 1e-9)
        across = (np.arange(box[0], box[2], dtype=np.float32) - np.float32(start[0])) * np.float32(d[0])
        down = (np.arange(box[1], box[3], dtype=np.float32) - np.float32(start[1])) * np.float32(d[1])
        ramp = Image.fromarray((np.clip(down[:, None] + across, 0, 1) * 255).astype(np.uint8))
        self.image.paste(colours[0], box, stencil)
        self.image.paste(colours[1], box, ImageChops.multiply(stencil, ramp))

    def stroke(
        self, points: Points, width, colour: Colour, alpha: float = 1.0, clip: Image.Image | None = None
    ) -> None:
        """Paint a brush stroke; ``width`` is one number, or one per point.

        At a sharp corner a new stroke begins, so that no stroke overlaps itself.
        """
        step = np.diff(points, axis=0)
        step /= np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
        corners = np.flatnonzero((step[1:] * step[:-1]).sum(1) < 0.5) + 1
        if not len(corners):
            self.fill(ribbon(points, width), colour, alpha, clip)
            return
        widths = np.broadcast_to(np.asarray(width, float), len(points))
        stops = [0, *corners.tolist(), len(points) - 1]
        for a, b in pairwise(stops):
            if b > a:
                self.fill(ribbon(points[a : b + 1], widths[a : b + 1]), colour, alpha, clip)

    def mask(self, *shapes: Points) -> Image.Image:
        """The union of closed shapes as a mask of the (large) canvas, for ``clip``."""
        mask = Image.new("L", self.image.size)
        pen = ImageDraw.Draw(mask)
        for points in shapes:
            pen.polygon((points * self.factor).ravel().tolist(), fill=255)
        return mask

    def shrink(self, mask: Image.Image) -> np.ndarray:
        """A mask of the canvas at the finished size: uint8 (H, W), 255 inside."""
        return np.asarray(mask.reduce(self.factor))

    def finished(self) -> np.ndarray:
        """The picture: uint8 (H, W, 3)."""
        return np.array(self.image.reduce(self.factor))
