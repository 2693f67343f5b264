"""Hair: back hair, side locks, fringe, and accessories."""

from itertools import pairwise

import numpy as np

from omokage.data.drawn.canvas import Colour, bezier, ellipse, mix, shade, smooth, taper, tone
from omokage.data.drawn.figure import Figure

_ACCENT: tuple[Colour, ...] = (
    (214, 54, 72), (62, 104, 196), (246, 196, 70), (246, 244, 250), (52, 48, 58), (122, 84, 176),
    (84, 172, 128),
)  # fmt: skip


def _closed(f: Figure, shape: np.ndarray, colour: Colour, line: Colour, weight: float = 1.0) -> None:
    f.canvas.fill(shape, colour)
    f.canvas.stroke(np.concatenate([shape, shape[:1]]), f.ink * weight, line)


def _curtain(f: Figure, half, tips: int, rng, z: float, depth: float = 0.25) -> np.ndarray:
    """Hanging hair: right edge ``half`` (downwards), its mirror image, and ``tips`` pointed ends between."""
    right = smooth(half, steps=6)
    left = right[::-1] * [-1, 1]
    x = np.linspace(right[-1, 0], left[0, 0], tips + 1)
    y = right[-1, 1]
    ends = [right]
    for a, b in pairwise(x):
        tip = ((a + b) / 2 + rng.uniform(-0.06, 0.06), y + depth * rng.uniform(0.6, 1.1))
        ends += [bezier((a, y), ((a * 3 + b) / 4, y + depth * 0.7), tip, steps=5)]
        ends += [bezier(tip, ((a + 3 * b) / 4, y + depth * 0.5), (b, y), steps=5)]
    return f.at(np.concatenate([*ends, left]), z)


def paint_back_hair(f: Figure) -> None:
    """Draw the hair behind neck and face."""
    c, kind, rng = f.canvas, f.factors["hair_style"], f.random(8)
    v = f.volume
    base, deep, line = f.hair_shadow, f.hair_deep, f.hair_line
    skull = f.at(ellipse(0, -0.26, 1.13 * v, 1.12 * v, 40), -0.1)
    if kind == "twin-tails":
        low = rng.uniform(-0.15, 0.35)
        for side in (-1, 1):
            _tail(f, side, [(0.95, -0.98), (1.42, -1.02), (1.92, -0.2), (1.98, 0.9), (1.62, 2.5 + low),
                            (1.50, 1.5), (1.36, 0.5), (1.02, -0.45)], -0.15, rng)  # fmt: skip
    elif kind == "ponytail":
        side = 1 if rng.random() < 0.5 else -1
        _tail(f, side, [(0.25, -1.28), (0.85, -1.78), (1.55, -1.25), (1.85, 0.1), (1.62, 1.8), (1.42, 0.8),
                        (1.22, -0.2), (0.75, -0.9)], -0.35, rng)  # fmt: skip
    elif kind == "bun":
        places = [(0.0, -1.52, 0.50)] if rng.random() < 0.5 else [(-0.86, -1.20, 0.43), (0.86, -1.20, 0.43)]
        for x, y, r in places:
            shape = f.at(ellipse(x, y, r, r * 0.92, 24), -0.2)
            _closed(f, shape, f.hair, line)
            inside = c.mask(shape)
            c.fill(f.at(ellipse(x + 0.10, y + 0.14, r, r * 0.9, 20), -0.2), base, clip=inside)
            for k in (-0.5, 0.0, 0.5):
                curl = bezier(
                    (x - r * 0.8, y + r * (k - 0.1)),
                    (x, y + r * (k - 0.5)),
                    (x + r * 0.8, y + r * (k + 0.1)),
                    steps=9,
                )
                c.stroke(f.at(curl, -0.2), f.ink * taper(9), f.hair_deep, clip=inside)
    if kind == "spiky":
        _spikes(f, np.linspace(-205, 25, 12) + rng.uniform(-6, 6, 12), -0.2, base, rng)
    half = {
        "bob": [(1.05, -0.6), (1.26, 0.0), (1.32, 0.55), (1.16, 1.06), (0.9, 1.20)],
        "long": [(1.05, -0.7), (1.22, 0.2), (1.36, 1.2), (1.44, 2.2), (1.40, 3.3)],
        "hime": [(1.05, -0.7), (1.20, 0.2), (1.28, 1.2), (1.32, 2.2), (1.34, 3.5)],
        "wavy": [
            (1.05, -0.7),
            (1.30, 0.0),
            (1.26, 0.5),
            (1.52, 1.0),
            (1.42, 1.5),
            (1.66, 2.0),
            (1.50, 2.5),
            (1.6, 3.0),
        ],
    }.get(kind)
    if half:
        shape = _curtain(
            f,
            np.array(half) * (v, 1),
            {"bob": 5, "hime": 9}.get(kind, 7),
            rng,
            -0.2,
            0.12 if kind in ("bob", "hime") else 0.4,
        )
        c.gradient(shape, f.at([(0, 0.2)], -0.2)[0], f.at([(0, 1.4)], -0.2)[0], (base, deep))
        inside = c.mask(shape)
        outer = 1 if rng.random() < 0.5 else 0
        for side in (-1, 1):
            flank = np.array([(1.06, -0.5), (1.5, 0.3), (1.9, 3.8), (1.12, 3.8), (1.02, 1.2)]) * (side * v, 1)
            c.fill(
                smooth(f.at(flank, -0.2), closed=True, steps=5),
                f.hair if side < 0 or outer else base,
                clip=inside,
            )
            for x in (1.06, 1.2):
                strand = bezier((side * 1.02, 0.2), (side * x * 1.03, 1.2), (side * (x + 0.1), 3.2), steps=9)
                c.stroke(f.at(strand, -0.2), f.ink * taper(9, 0.3, 0.1), f.hair_deep, 0.8, inside)
        c.stroke(np.concatenate([shape, shape[:1]]), f.ink, line)
    _closed(f, skull, deep, line)


def _spikes(f: Figure, angles, z: float, colour: Colour, rng) -> None:
    """Draw pointed tufts that stick out from the head and lean to one side."""
    lean = 0.28 if rng.random() < 0.5 else -0.28
    for angle in angles:
        a = np.deg2rad(angle)
        out, along = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
        root = np.array([0, -0.26]) + out * 0.98
        tip = root + out * rng.uniform(0.40, 0.62) + along * (lean + rng.uniform(-0.12, 0.12))
        left, right = root + along * 0.30, root - along * 0.30
        edges = [
            bezier(left, left + out * 0.28, tip, steps=7),
            bezier(tip, right + out * 0.22, right, steps=7),
        ]
        f.canvas.fill(f.at(np.concatenate(edges), z), colour)
        for edge in edges:
            f.canvas.stroke(f.at(edge, z), f.ink, f.hair_line)


def _tail(f: Figure, side: int, points, z: float, rng) -> None:
    c = f.canvas
    p = np.array(points) * (side, 1)
    i = int(np.argmax(p[:, 1]))
    tip = p[i]
    outer, inner = smooth(np.concatenate([p[:i], [tip]]), steps=6), smooth(p[i:], steps=6)
    shape = f.at(np.concatenate([outer, inner]), z)
    c.gradient(shape, f.at([(0, -0.8)], z)[0], f.at([(0, 2.0)], z)[0], (f.hair, f.hair_light))
    inside = c.mask(shape)
    middle = smooth(np.concatenate([p[:1], (p[1:i] * 0.45 + p[:i:-1][: i - 1] * 0.55), [tip]]), steps=6)
    c.fill(f.at(np.concatenate([middle, inner]), z), f.hair_shadow, clip=inside)
    for k in (0.25, 0.7):
        line = smooth(np.concatenate([p[:1], (p[1:i] * k + p[:i:-1][: i - 1] * (1 - k)), [tip]]), steps=6)
        c.stroke(f.at(line, z), f.ink * taper(len(line), 0.2, 0.1), f.hair_deep, 0.8, inside)
    c.stroke(np.concatenate([shape, shape[:1]]), f.ink, f.hair_line)
    accent = _ACCENT[int(rng.integers(len(_ACCENT)))]
    root = (p[0] + p[-1]) / 2 + (side * 0.08, 0)
    band = f.at(ellipse(root[0], root[1] - 0.1, 0.16, 0.22, 14), z)
    _closed(f, band, accent, shade(accent, 0.25))


def _fringe(f: Figure) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], float]:
    """The pointed locks over the forehead, left to right, each (notch, tip, notch); and x of the parting."""
    kind, rng = f.factors["bangs"], f.random(9)
    brow = f.eye_y - f.eye_h  # the top of the eyes
    part = 0.0
    if kind == "straight":
        n = int(rng.integers(6, 9))
        x = np.linspace(-1.03, 1.03, n + 1)
        x[1:-1] += rng.uniform(-0.07, 0.07, n - 1)
        tip_x = (x[:-1] + x[1:]) / 2 + rng.uniform(-0.03, 0.03, n)
        tip_y = brow + 0.06 + 0.14 * tip_x**2 + rng.uniform(-0.03, 0.03, n)
        notch_y = brow - 0.10 + 0.14 * x**2 - rng.uniform(0, 0.10, n + 1)
    elif kind == "choppy":
        n = int(rng.integers(5, 8))
        part = rng.uniform(-0.35, 0.35)
        x = np.linspace(-1.04, 1.04, n + 1)
        x[1:-1] += rng.uniform(-0.10, 0.10, n - 1)
        tip_x = (x[:-1] + x[1:]) / 2 * 1.02 + rng.uniform(-0.10, 0.10, n)
        tip_y = brow + 0.12 + 0.20 * tip_x**2 + rng.uniform(-0.12, 0.10, n)
        notch_y = brow - 0.30 + 0.25 * x**2 + rng.uniform(-0.12, 0.05, n + 1)
    elif kind == "swept":
        side = 1 if rng.random() < 0.5 else -1
        part = -side * rng.uniform(0.45, 0.65)
        x = side * np.array([-1.04, part * side, -0.12, 0.30, 0.66, 1.04])
        tip_x = side * np.array([-1.0, 0.16, 0.52, 0.84, 1.0])
        tip_y = np.array([brow + 0.34, brow - 0.02, brow + 0.10, brow + 0.24, brow + 0.42]) + rng.uniform(
            -0.05, 0.05, 5
        )
        notch_y = np.array([brow + 0.1, brow - 0.50, brow - 0.26, brow - 0.10, brow + 0.06, brow + 0.2])
        if side < 0:
            x, tip_x, tip_y, notch_y = x[::-1], tip_x[::-1], tip_y[::-1], notch_y[::-1]
    elif kind == "parted":
        part = rng.uniform(-0.25, 0.25)
        x = np.array([-1.04, -0.74, -0.42, part, 0.42, 0.74, 1.04])
        tip_x = np.array([-1.0, -0.88, -0.60, 0.60, 0.88, 1.0])
        tip_y = brow + np.array([0.52, 0.30, 0.06, 0.06, 0.30, 0.52]) + rng.uniform(-0.06, 0.06, 6)
        notch_y = brow + np.array([0.1, -0.02, -0.22, -0.50, -0.22, -0.02, 0.1])
    elif kind == "centre":
        part = rng.uniform(-0.12, 0.12)
        x = np.array([-1.04, -0.72, -0.40, -0.15, 0.15, 0.40, 0.72, 1.04]) + part * 0.5
        tip_x = np.array([-0.98, -0.74, -0.40, part * 0.6, 0.40, 0.74, 0.98])
        tip_y = brow + np.array([0.44, 0.22, 0.06, 0.62, 0.06, 0.22, 0.44]) + rng.uniform(-0.07, 0.07, 7)
        notch_y = brow + np.array([0.05, -0.12, -0.26, -0.30, -0.30, -0.26, -0.12, 0.05])
    else:  # curtain
        part = rng.uniform(-0.15, 0.15)
        x = np.array([-1.04, -0.80, part, 0.80, 1.04])
        tip_x = np.array([-0.99, -0.90, 0.90, 0.99])
        tip_y = brow + np.array([0.70, 0.46, 0.46, 0.70]) + rng.uniform(-0.08, 0.08, 4)
        notch_y = brow + np.array([0.2, 0.10, -0.56, 0.10, 0.2])
    x = np.clip(x, -1.05, 1.05)
    # A parting opens no higher than the hairline.
    notch_y = np.maximum(notch_y, -0.62 + 0.25 * x**2)
    notches = np.stack([x, notch_y], 1)
    tips = np.stack([tip_x, np.maximum(tip_y, -0.45)], 1)
    return [(notches[i], tips[i], notches[i + 1]) for i in range(len(tips))], part


def _lock_edges(lock) -> tuple[np.ndarray, np.ndarray]:
    a, tip, b = lock
    left = bezier(a, (a[0] * 0.85 + tip[0] * 0.15, a[1] * 0.35 + tip[1] * 0.65), tip, steps=7)
    right = bezier(tip, (b[0] * 0.85 + tip[0] * 0.15, b[1] * 0.35 + tip[1] * 0.65), b, steps=7)
    return left, right


def paint_fringe_shadow(f: Figure) -> None:
    """Draw the shadow of fringe and side locks on the face; painted before the eyes."""
    locks, _ = _fringe(f)
    edge = np.concatenate([part for lock in locks for part in _lock_edges(lock)])
    edge -= (-0.02, -0.11)
    above = np.array([(1.2, -0.9), (-1.2, -0.9)])
    f.canvas.fill(f.on_face(np.concatenate([edge, above])), f.skin_shadow, clip=f.masks["face"])


_SIDE_LOCKS = {  # tip's y, width, blunt
    "bob": (1.02, 0.34, False),
    "long": (1.95, 0.34, False),
    "hime": (0.84, 0.40, True),
    "wavy": (1.75, 0.36, False),
    "twin-tails": (1.05, 0.22, False),
    "ponytail": (0.86, 0.22, False),
    "bun": (0.72, 0.19, False),
    "spiky": (0.52, 0.32, False),
}


def paint_front_hair(f: Figure) -> None:
    """Draw side locks, cap and fringe with strands and gloss. All front hair becomes the mask ``hair``."""
    c, rng, v = f.canvas, f.random(10), f.volume
    kind = f.factors["hair_style"]
    shapes = []
    length, width, blunt = _SIDE_LOCKS[kind]
    for side in (-1, 1):
        low = length * rng.uniform(0.9, 1.12)
        lean = rng.uniform(-0.06, 0.08)
        outer = [(0.90, -0.75), (1.15 * v, -0.1), (1.19 * v, low * 0.45), (1.10 + lean, low * 0.85)]
        inner = [(1.16 - width, low * 0.55), (1.12 - width, 0.0), (0.84, -0.6)]
        if kind == "wavy":
            outer[2:2] = [(1.10 * v, low * 0.25)]
            inner[0:0] = [(1.20 - width, low * 0.75)]
        if blunt:
            end = [(1.16, low), (1.14 - width, low + 0.03)]
            ring = np.concatenate([smooth([*outer, end[0]], steps=5), smooth([end[1], *inner], steps=5)])
        else:
            point = (1.02 + lean, low)
            ring = np.concatenate([smooth([*outer, point], steps=5), smooth([point, *inner], steps=5)])
        # The outer edge follows the silhouette; the inner edge is in front of the cheek.
        shape = f.at(ring * (side, 1), np.clip(0.14 + (1.17 - ring[:, 0]) * 0.7, 0.1, 0.45))
        shapes.append(shape)
        c.gradient(
            shape, f.at([(0, -0.4)], 0.28)[0], f.at([(0, max(low, 0.8))], 0.28)[0], (f.hair, f.hair_light)
        )
        inside = c.mask(shape)
        back = [(1.25, -0.6), (1.30, low), (1.02 + lean, low), (1.19 - width * 0.35, low * 0.5)]
        dark = smooth(np.array([*back, (1.16 - width * 0.3, -0.2)]) * (side, 1), closed=True, steps=5)
        c.fill(f.at(dark, 0.28), f.hair_shadow, 0.85 if side > 0 else 0.45, inside)
        for k in (0.35, 0.68):
            x = 1.16 - width * k
            strand = bezier(
                (side * (x - 0.06), -0.4),
                (side * (x + 0.02), low * 0.4),
                (side * (1.04 + lean), low * 0.95),
                steps=9,
            )
            c.stroke(f.at(strand, 0.28), f.ink * taper(9, 0.2, 0.1), f.hair_deep, 0.7, inside)
        c.stroke(np.concatenate([shape, shape[:1]]), f.ink, f.hair_line)

    locks, part = _fringe(f)
    side_x, top = 1.10 * v, -1.38 * v
    low_left, low_right = float(locks[0][0][1]) + 0.02, float(locks[-1][2][1]) + 0.02
    arc = smooth(
        [
            (-side_x, low_left), (-1.165 * v, -0.28), (-1.03 * v, -0.78), (-0.62 * v, -1.21), (0, top),
            (0.62 * v, -1.21), (1.03 * v, -0.78), (1.165 * v, -0.28), (side_x, low_right),
        ],
        steps=6,
    )  # fmt: skip
    edges = [_lock_edges(lock) for lock in locks]
    edge = np.concatenate([part for pair in edges for part in pair])
    cap, fringe = f.at(arc, 0.0), f.on_hair(edge, 0.04)
    shape = np.concatenate([cap, fringe[::-1]])
    shapes.append(shape)
    inside = c.mask(shape)
    c.gradient(
        shape,
        f.at([(-0.1, top)], 0.3)[0],
        f.on_hair([(0, f.eye_y - 0.1)])[0],
        (mix(f.hair, f.hair_shadow, 0.35), f.hair_light),
    )

    crown = np.array([part * 0.9, -1.22])
    # Locks: each has a shaded side, and a line goes from every gap up to the crown.
    for (a, tip, b), (_, right) in zip(locks, edges, strict=True):
        apex = b + (crown - b) * 0.3
        fold = bezier(apex, (tip[0] * 0.5 + a[0] * 0.2 + b[0] * 0.3, (tip[1] + b[1]) / 2), tip, steps=7)
        dark = np.concatenate([right, fold])
        c.fill(f.on_hair(dark, 0.04), f.hair_shadow, 0.9, inside)
    for i, lock in enumerate(locks[1:], 1):
        x, y = lock[0]
        reach = rng.uniform(0.45, 0.8)
        end = (crown - (x, y)) * reach + (x, y)
        bend = ((x * 1.12 + end[0]) / 2 + (x - crown[0]) * 0.12, (y + end[1]) / 2 - 0.05)
        strand = f.on_hair(bezier((x, y), bend, end, steps=9), 0.04)
        c.stroke(
            strand,
            f.ink * 1.5 * taper(9, 0.9, 0.05, 0.05),
            f.hair_line if i % 2 else f.hair_deep,
            0.9,
            inside,
        )
    for x in rng.uniform(-0.95, 0.95, 5):
        end = crown + (np.array([x, -0.35]) - crown) * rng.uniform(0.2, 0.4)
        strand = f.on_hair(bezier((x, -0.3 + 0.2 * x * x), (x * 1.05, -0.75), end, steps=9), 0.04)
        c.stroke(strand, f.ink * 1.1 * taper(9, 0.05, 0.05), f.hair_deep, 0.55, inside)
    # The side of the skull away from the light.
    c.soft(
        f.at([(0.75, -1.3), (0.98, -0.7), (1.02, 0.3), (1.5, 0.3), (1.5, -1.4)], 0.1),
        f.hair_deep,
        0.55,
        0.12 * f.unit,
        inside,
    )
    _gloss(f, rng, inside)
    c.stroke(cap, f.ink * 1.1, f.hair_line)
    if kind == "spiky":  # tufts hide the round outline of the cap
        _spikes(
            f, np.linspace(-160, -20, 6) + rng.uniform(-8, 8, 6), 0.0, mix(f.hair, f.hair_shadow, 0.35), rng
        )
    else:
        for _ in range(3):
            i = int(rng.integers(8, len(arc) - 10))
            a, b = arc[i], arc[i + 4]
            out = (a + b - (0, -0.5)) * 0.5
            out /= np.hypot(*out)
            wisp = bezier(a, (a + b) / 2 + out * 0.05, b + out * rng.uniform(0.05, 0.12), steps=8)
            wisp = (
                wisp
                if rng.random() < 0.5 or b[0] > 0
                else bezier(b, (a + b) / 2 + out * 0.05, a + out * 0.1, steps=8)
            )
            c.stroke(f.at(wisp, 0.0), f.ink * 1.3 * taper(8, 1, 0.1, 0.05), f.hair_line)
    c.stroke(fringe, f.ink * 0.95, f.hair_line)
    if rng.random() < 0.35:
        _loose_strand(f, rng, part)
    f.masks["hair"] = c.mask(*shapes)


def _gloss(f: Figure, rng, inside) -> None:
    """Draw the gloss: a band of light around the crown with pointed edges."""
    y, thick = -0.66 + rng.uniform(-0.06, 0.06), rng.uniform(0.09, 0.15)
    # Two or three patches with gaps, each with teeth that follow the strands to the crown.
    stops = np.sort(rng.uniform(-0.35, 0.45, int(rng.integers(1, 3))))
    for a, b in zip([-0.84, *(stops + 0.05)], [*(stops - 0.05), 0.74], strict=True):
        n = max(int((b - a) * rng.uniform(5, 8)), 2)
        x = np.linspace(a, b, 2 * n + 1)
        x[1:-1] += rng.uniform(-0.3, 0.3, 2 * n - 1) * (b - a) / (2 * n)
        curve = y + 0.32 * x**2
        fade = np.sqrt(np.maximum(np.sin(np.linspace(0.0, np.pi, 2 * n + 1)), 0))
        peaks = np.arange(2 * n + 1) % 2
        up = np.where(peaks, 0.35, 0.8) * rng.uniform(0.5, 1.2, 2 * n + 1) * fade
        down = np.where(peaks, 1.5, 0.45) * rng.uniform(0.6, 1.2, 2 * n + 1) * fade
        upper = np.stack([x * (1 - 0.05 * up), curve - thick * up], 1)
        lower = np.stack([x * (1 + 0.03 * down), curve + thick * down], 1)
        band = f.on_hair(np.concatenate([upper, lower[::-1]]), 0.04)
        f.canvas.fill(band, f.hair_gloss, 0.72, inside)


def _loose_strand(f: Figure, rng, part: float) -> None:
    side = 1 if rng.random() < 0.5 else -1
    part = float(np.clip(part, -0.2, 0.2))
    tip = (part + side * rng.uniform(0.35, 0.55), -1.60 - rng.uniform(0, 0.12))
    out = bezier((part - side * 0.07, -1.30), (part - side * 0.02, -1.86), tip, steps=9)
    back = bezier(tip, (part + side * 0.16, -1.68), (part + side * 0.08, -1.30), steps=9)
    f.canvas.fill(f.at(np.concatenate([out, back]), 0.1), mix(f.hair, f.hair_shadow, 0.35))
    for edge in (out, back):
        f.canvas.stroke(f.at(edge, 0.1), f.ink * taper(9, 0.8, 0.8), f.hair_line)


def paint_accessory(f: Figure) -> None:
    """Draw what the factor ``accessory`` names."""
    kind, c, rng = f.factors["accessory"], f.canvas, f.random(11)
    accent = tone(_ACCENT[int(rng.integers(len(_ACCENT)))], 0, 1, rng.uniform(-10, 10))
    dark = shade(accent, 0.25)
    side = 1 if rng.random() < 0.5 else -1
    if kind == "hairband":
        t = np.linspace(-1, 1, 19)
        over = np.stack([t * 1.12, -1.20 + 0.86 * np.abs(t) ** 2.4], 1)
        band = f.on_hair(over, 0.06)
        c.stroke(band, f.unit * 0.18, dark, clip=f.masks["hair"])
        c.stroke(band, f.unit * 0.13, accent, clip=f.masks["hair"])
        shine = f.on_hair(over[5:11] - (0, 0.02), 0.06)
        c.stroke(shine, f.unit * 0.04 * taper(6), tone(accent, 0.15), 0.8)
    elif kind == "hairpin":
        x, y = side * rng.uniform(0.62, 0.76), rng.uniform(-0.48, -0.36)
        style = rng.integers(3)
        if style == 0:  # a flower
            for a in np.deg2rad(np.arange(0, 360, 72) - 90):
                petal = f.on_hair(ellipse(x + 0.11 * np.cos(a), y + 0.11 * np.sin(a), 0.095, 0.095, 14), 0.08)
                _closed(f, petal, accent, dark, 0.7)
            c.fill(f.on_hair(ellipse(x, y, 0.06, 0.06, 12), 0.08), (255, 226, 110))
        elif style == 1:  # two clips
            for k in (0, 0.17):
                clip = [(x - side * 0.2, y + k + 0.05), (x + side * 0.16, y + k - 0.03)]
                c.stroke(f.on_hair(clip, 0.08), f.unit * 0.09, dark)
                c.stroke(f.on_hair(clip, 0.08), f.unit * 0.055, accent)
        else:  # a star
            a = np.deg2rad(np.arange(10) * 36 - 90)
            r = np.where(np.arange(10) % 2, 0.085, 0.19)
            star = np.stack([x + r * np.cos(a), y + r * np.sin(a)], 1)
            _closed(f, f.on_hair(star, 0.08), accent, dark, 0.8)
    elif kind == "ribbon":
        x, y, s = side * 0.72, -1.02, rng.uniform(0.85, 1.15)
        for wing in (-1, 1):
            shape = smooth([(x, y), (x + wing * 0.30 * s, y - 0.30 * s), (x + wing * 0.44 * s, y - 0.02 * s),
                            (x + wing * 0.32 * s, y + 0.22 * s)], closed=True, steps=5)  # fmt: skip
            _closed(f, f.at(shape, 0.3), accent, dark)
            crease = bezier((x, y), (x + wing * 0.15, y - 0.03), (x + wing * 0.28 * s, y - 0.02), steps=6)
            c.stroke(f.at(crease, 0.3), f.ink * taper(6, 1, 0.1, 0.1), dark)
        _closed(f, f.at(ellipse(x, y, 0.09 * s, 0.11 * s, 12), 0.3), shade(accent, 0.06), dark)
