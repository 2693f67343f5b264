"""Neck, shoulders and clothes."""

import numpy as np

from omokage.data.drawn.canvas import Colour, bezier, mix, shade, smooth, tone
from omokage.data.drawn.figure import Figure

_CLOTH: tuple[Colour, ...] = (
    (58, 74, 124), (236, 238, 244), (168, 60, 72), (92, 96, 108), (226, 190, 120), (110, 150, 136),
    (120, 90, 146), (70, 120, 170), (232, 168, 180), (60, 58, 66),
)  # fmt: skip
_ACCENT: tuple[Colour, ...] = ((206, 58, 70), (60, 96, 180), (238, 190, 70), (70, 150, 110), (150, 84, 170))


def paint_body(f: Figure) -> None:
    """Draw the neck, the torso down to the hips, and the clothes that the factor ``clothes`` names."""
    c, kind, rng = f.canvas, f.factors["clothes"], f.random(6)
    cloth = tone(_CLOTH[int(rng.integers(len(_CLOTH)))], rng.uniform(-0.03, 0.03), 1, rng.uniform(-8, 8))
    accent = _ACCENT[int(rng.integers(len(_ACCENT)))]
    if kind in ("sailor", "shirt"):
        cloth = mix(cloth, (246, 246, 250), float(rng.uniform(0.55, 0.92)))
    line, dark = shade(cloth, 0.32), shade(cloth, 0.10)
    wide = 1.62 + 0.22 * f.grown + rng.uniform(-0.1, 0.1)
    slope = 1.80 + rng.uniform(-0.05, 0.08)

    neck = 0.29 + 0.06 * f.grown
    tube = [(-neck, 0.7), (-neck, 1.35), (-neck - 0.35, 1.72), (neck + 0.35, 1.72), (neck, 1.35), (neck, 0.7)]
    chest = smooth([(-neck - 0.3, 1.6), (0, 2.6), (neck + 0.3, 1.6)], closed=True, steps=6)
    lift = f.at([(-neck, 0.8), (neck, 0.8)], 0.05)  # the upper end of the neck follows the head
    throat = f.on_body(tube)
    throat[0], throat[-1] = lift[0], lift[1]
    c.fill(throat, f.skin)
    c.fill(f.on_body(chest), f.skin)
    shadow = f.at([(-0.6, 0.8), (0.6, 0.8), (0.50, 1.30), (0.1, 1.52), (-0.36, 1.34)], 0.2)
    c.fill(smooth(shadow, closed=True, steps=6), f.skin_shadow, 1.0, c.mask(throat, f.on_body(chest)))
    for side in (0, -1):
        edge = throat[[0, 1, 2]] if side == 0 else throat[[5, 4, 3]]
        c.stroke(smooth(edge, steps=6), f.ink, f.skin_line)

    half = [
        (0.36, 1.58),
        (0.75, 1.68),
        (wide * 0.82, slope + 0.06),
        (wide, slope + 0.42),
        (wide * 1.08, 3.2),
        (wide * 1.1, 6.0),
    ]
    opening = {"turtleneck": 1.28, "hoodie": 1.78, "sailor": 2.25, "shirt": 1.95, "blazer": 2.45}[kind]
    left = smooth([(-x, y) for x, y in half], steps=6)
    collar = bezier((-0.40, 1.60), (0, 2 * opening - 1.6), (0.40, 1.60), steps=9)
    torso = f.on_body(np.concatenate([smooth(half, steps=6), left[::-1], collar]))
    inside = c.mask(torso)
    c.gradient(torso, f.on_body([(0, 1.5)])[0], f.on_body([(0, 5.0)])[0], (cloth, dark))
    folds = [(wide * 1.2, slope), (wide * 0.72, 2.3), (wide * 0.80, 3.2), (wide * 0.70, 6), (wide * 1.3, 6)]
    c.fill(smooth(f.on_body(folds), closed=True, steps=5), dark, 0.9, inside)
    for side in (-1, 1):
        arm = bezier((side * wide * 0.74, 2.55), (side * wide * 0.70, 3.4), (side * wide * 0.78, 6), steps=9)
        c.stroke(f.on_body(arm), f.ink, line)
    c.stroke(np.concatenate([torso, torso[:1]]), f.ink * 1.1, line)
    {"sailor": _sailor, "shirt": _shirt, "hoodie": _hoodie, "turtleneck": _turtleneck, "blazer": _blazer}[
        kind
    ](f, cloth, accent, line)


def _both(f: Figure, points, colour: Colour, line: Colour) -> None:
    for side in (-1, 1):
        shape = f.on_body(np.array(points) * (side, 1))
        f.canvas.fill(shape, colour)
        f.canvas.stroke(np.concatenate([shape, shape[:1]]), f.ink, line)


def _bow(f: Figure, y: float, size: float, colour: Colour) -> None:
    dark = shade(colour, 0.25)
    wing = smooth([(0, y), (0.40 * size, y - 0.22 * size), (0.52 * size, y), (0.40 * size, y + 0.24 * size)],
                  closed=True, steps=5)  # fmt: skip
    end = [(0.02, y), (0.10 * size, y + 0.1), (0.32 * size, y + 0.66 * size), (0.14 * size, y + 0.62 * size)]
    _both(f, end, shade(colour, 0.05), dark)
    _both(f, wing, colour, dark)
    knot = [
        (-0.1 * size, y - 0.1 * size),
        (0.1 * size, y - 0.1 * size),
        (0.1 * size, y + 0.1 * size),
        (-0.1 * size, y + 0.1 * size),
    ]
    f.canvas.fill(f.on_body(knot), shade(colour, 0.07))


def _sailor(f: Figure, cloth: Colour, accent: Colour, line: Colour) -> None:
    rng = f.random(7)
    blue = ((52, 66, 118), (44, 48, 60), (120, 50, 66), (70, 110, 160))[int(rng.integers(4))]
    flap = [(0.38, 1.56), (1.05, 1.70), (1.12, 1.98), (0.62, 2.25), (0.0, 2.72), (0.0, 2.5)]
    _both(f, flap, blue, shade(blue, 0.15))
    for side in (-1, 1):
        stripe = np.array([(1.02, 1.95), (0.58, 2.16), (0.06, 2.56)]) * (side, 1)
        f.canvas.stroke(f.on_body(stripe), f.unit * 0.035, (250, 250, 255))
    _bow(f, 2.62, 0.9, accent)


def _shirt(f: Figure, cloth: Colour, accent: Colour, line: Colour) -> None:
    tie = f.random(7).random() < 0.5
    if tie:
        strap = [(-0.10, 2.05), (0.10, 2.05), (0.17, 3.3), (0, 3.6), (-0.17, 3.3)]
        f.canvas.fill(f.on_body(strap), accent)
    _both(f, [(0.36, 1.50), (0.62, 1.66), (0.50, 2.20), (0.02, 1.98)], cloth, line)
    if not tie:
        _bow(f, 2.06, 0.75, accent)


def _hoodie(f: Figure, cloth: Colour, accent: Colour, line: Colour) -> None:
    roll = smooth(
        [(0.05, 2.08), (0.42, 1.80), (0.50, 1.48), (0.98, 1.62), (0.86, 2.0), (0.3, 2.3)],
        closed=True,
        steps=6,
    )
    _both(f, roll, tone(cloth, -0.03), line)
    for side in (-1, 1):
        cord = bezier((side * 0.2, 2.2), (side * 0.3, 2.6), (side * 0.22, 2.95), steps=7)
        f.canvas.stroke(f.on_body(cord), f.unit * 0.05, (244, 240, 236))


def _turtleneck(f: Figure, cloth: Colour, accent: Colour, line: Colour) -> None:
    band = smooth(
        [(-0.46, 1.30), (0, 1.42), (0.46, 1.30), (0.54, 1.70), (0, 1.86), (-0.54, 1.70)], closed=True, steps=6
    )
    shape = f.on_body(band)
    f.canvas.fill(shape, tone(cloth, 0.02))
    f.canvas.stroke(np.concatenate([shape, shape[:1]]), f.ink, line)


def _blazer(f: Figure, cloth: Colour, accent: Colour, line: Colour) -> None:
    white = (248, 247, 250)
    front = [(-0.46, 1.56), (0.46, 1.56), (0.40, 2.2), (0.0, 3.3), (-0.40, 2.2)]
    f.canvas.fill(f.on_body(front), white)
    strap = [(-0.09, 1.95), (0.09, 1.95), (0.15, 2.9), (0, 3.2), (-0.15, 2.9)]
    f.canvas.fill(f.on_body(strap), accent)
    _both(f, [(0.36, 1.50), (0.60, 1.64), (0.44, 2.12), (0.02, 1.92)], white, shade(white, 0.3))
    _both(
        f,
        [(0.50, 1.60), (0.80, 1.74), (0.78, 2.30), (0.60, 2.36), (0.05, 3.3), (0.36, 2.3)],
        tone(cloth, -0.02),
        line,
    )
