"""Backgrounds behind the characters."""

import numpy as np

from omokage.data.drawn.canvas import Canvas, Colour, ellipse, mix, shade, smooth, tone

_PASTEL: tuple[Colour, ...] = (
    (252, 228, 214), (216, 232, 246), (226, 242, 222), (244, 224, 240), (250, 242, 208), (224, 224, 238),
    (204, 216, 214), (238, 206, 206), (180, 196, 214),
)  # fmt: skip


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def paint_background(c: Canvas, rng: np.random.Generator, kind: str) -> None:
    """Fill the canvas with a background. kind: a value of the factor ``background``."""
    painters = {
        "plain": _plain, "gradient": _gradient, "sky": _sky, "bokeh": _bokeh, "stripes": _stripes,
        "night": _night, "room": _room,
    }  # fmt: skip
    painters[kind](c, rng, tone(_PASTEL[int(rng.integers(len(_PASTEL)))], rng.uniform(-0.05, 0.03)))


def _whole(c: Canvas) -> np.ndarray:
    return _box(-2, -2, c.width + 2, c.height + 2)


def _plain(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    c.fill(_whole(c), mix(colour, (255, 255, 255), float(rng.uniform(0, 0.8))))


def _gradient(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    other = tone(colour, -0.12, 1.8, float(rng.uniform(-70, 70)))
    angle = rng.uniform(0.2, 0.8) * np.pi
    middle, reach = (
        np.array([c.width, c.height]) / 2,
        np.array([np.cos(angle), np.sin(angle)]) * max(c.width, c.height) / 2,
    )
    c.gradient(_whole(c), middle - reach, middle + reach, (colour, other))


def _sky(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    blue = tone((104, 170, 234), rng.uniform(-0.06, 0.05), 1, rng.uniform(-15, 20))
    c.gradient(_whole(c), (0, 0), (0, c.height), (blue, tone(blue, 0.17, 0.45)))
    side = max(c.width, c.height)
    for _ in range(int(rng.integers(2, 5))):
        x, y, s = rng.uniform(0, c.width), rng.uniform(0.05, 0.8) * c.height, side * rng.uniform(0.06, 0.13)
        puffs = [
            (rng.uniform(-1.9, 1.9) * s, rng.uniform(-0.35, 0.1) * s, rng.uniform(0.45, 0.85) * s)
            for _ in range(6)
        ]
        for shift, paint in ((0.16, tone(blue, 0.20, 0.35)), (0.0, (255, 255, 255))):
            for dx, dy, r in puffs:
                c.fill(ellipse(x + dx, y + dy + shift * s, r * 1.15, r * 0.8, 24), paint)


def _bokeh(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    base = tone(colour, -0.18, 2.0, rng.uniform(-60, 60))
    c.gradient(_whole(c), (0, 0), (c.width * 0.4, c.height), (base, shade(base, 0.15)))
    side = max(c.width, c.height)
    for _ in range(14):
        r = side * rng.uniform(0.03, 0.11)
        p = ellipse(rng.uniform(0, c.width), rng.uniform(0, c.height), r, r, 24)
        c.fill(p, tone(base, rng.uniform(0.06, 0.2), 0.9, rng.uniform(-30, 30)), rng.uniform(0.25, 0.6))


def _stripes(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    c.fill(_whole(c), colour)
    other = mix(tone(colour, -0.07, 1.5), (255, 255, 255), 0.1) if rng.random() < 0.6 else (255, 255, 255)
    side = max(c.width, c.height)
    step, lean = side * rng.uniform(0.09, 0.2), rng.uniform(-0.8, 0.8) * c.height
    for x in np.arange(-abs(lean) - step, c.width + abs(lean) + step, step):
        c.fill(
            np.array([(x, 0), (x + step / 2, 0), (x + step / 2 + lean, c.height), (x + lean, c.height)]),
            other,
        )


def _night(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    deep = tone((36, 40, 92), rng.uniform(-0.03, 0.05), 1, rng.uniform(-20, 30))
    c.gradient(_whole(c), (0, 0), (0, c.height), (deep, tone(deep, 0.2, 1.1, 25)))
    side = max(c.width, c.height)
    if rng.random() < 0.5:
        r = side * 0.09
        x, y = rng.choice([0.14, 0.86]) * c.width, rng.uniform(0.1, 0.25) * c.height
        c.soft(ellipse(x, y, r * 1.3, r * 1.3), (255, 246, 210), 0.5, r * 0.5)
        c.fill(ellipse(x, y, r, r), (255, 248, 222))
    for _ in range(40):
        r = side * rng.uniform(0.002, 0.007)
        c.fill(
            ellipse(rng.uniform(0, c.width), rng.uniform(0, c.height), r, r, 8),
            (255, 252, 232),
            rng.uniform(0.5, 1),
        )


def _room(c: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    wall = mix(colour, (232, 220, 204), 0.5)
    c.fill(_whole(c), wall)
    w, h = c.width, c.height
    frame = tone(wall, 0.1, 0.4)
    x, ww = rng.uniform(-0.1, 0.5) * w, rng.uniform(0.4, 0.6) * w
    y, hh = rng.uniform(-0.1, 0.1) * h, rng.uniform(0.5, 0.7) * h
    c.fill(_box(x - 0.03 * w, y - 0.03 * h, x + ww + 0.03 * w, y + hh + 0.03 * h), shade(wall, 0.08))
    c.fill(_box(x - 0.02 * w, y - 0.02 * h, x + ww + 0.02 * w, y + hh + 0.02 * h), frame)
    c.gradient(_box(x, y, x + ww, y + hh), (0, y), (0, y + hh), ((158, 204, 240), (232, 244, 248)))
    hill = smooth(
        [
            (x, y + hh * 0.8),
            (x + ww * 0.3, y + hh * 0.6),
            (x + ww * 0.65, y + hh * 0.75),
            (x + ww, y + hh * 0.62),
        ],
        steps=6,
    )
    c.fill(
        np.concatenate([hill, [(x + ww, y + hh), (x, y + hh)]]),
        tone((128, 178, 120), rng.uniform(-0.05, 0.05)),
    )
    c.fill(_box(x + ww / 2 - 0.012 * w, y, x + ww / 2 + 0.012 * w, y + hh), frame)
    c.fill(_box(x, y + hh * 0.45, x + ww, y + hh * 0.45 + 0.02 * h), frame)
    drape = tone(colour, -0.13, 2.0, rng.uniform(-40, 40))
    for side, edge in ((-1, x), (1, x + ww)):
        p = smooth(
            [
                (edge - side * 0.06 * w, y - 0.04 * h),
                (edge + side * 0.0 * w, y + hh * 0.5),
                (edge - side * 0.02 * w, y + hh * 1.1),
            ],
            steps=6,
        )
        c.fill(
            np.concatenate(
                [p, [(edge + side * 0.14 * w, y + hh * 1.1), (edge + side * 0.12 * w, y - 0.04 * h)]]
            ),
            drape,
        )
        c.fill(
            _box(edge + side * 0.05 * w, y - 0.04 * h, edge + side * 0.08 * w, y + hh * 1.08),
            shade(drape, 0.08),
        )


def paint_clutter(c: Canvas, rng: np.random.Generator) -> None:
    """Draw objects behind the characters that are not faces: balls, hearts, frames, boxes, leaves, stars."""
    side = min(c.width, c.height)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(0, c.width), rng.uniform(0, 0.8) * c.height
        s = side * rng.uniform(0.04, 0.11)
        colour = tone(
            (214, 112, 104), rng.uniform(-0.12, 0.16), rng.uniform(0.4, 1.2), rng.uniform(-180, 180)
        )
        line, turn = shade(colour, 0.25), rng.uniform(0, 2 * np.pi)
        things = (_ball, _heart, _frame, _leaf, _star, _lantern)
        things[int(rng.integers(len(things)))](c, np.array([x, y]), s, colour, line, turn)


def _outlined(c: Canvas, shape: np.ndarray, colour: Colour, line: Colour, s: float) -> None:
    c.fill(shape, colour)
    c.stroke(np.concatenate([shape, shape[:1]]), s * 0.06, line)


def _ball(c: Canvas, at: np.ndarray, s: float, colour: Colour, line: Colour, turn: float) -> None:
    shape = ellipse(at[0], at[1], s, s)
    _outlined(c, shape, colour, line, s)
    c.fill(
        ellipse(at[0] + 0.2 * s, at[1] + 0.25 * s, s * 0.9, s * 0.85), shade(colour, 0.08), clip=c.mask(shape)
    )
    c.fill(ellipse(at[0] - 0.35 * s, at[1] - 0.4 * s, s * 0.25, s * 0.18, 14), (255, 255, 255), 0.8)


def _heart(c: Canvas, at: np.ndarray, s: float, colour: Colour, line: Colour, turn: float) -> None:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    ring = np.stack([16 * np.sin(t) ** 3, -y], 1) / 17
    _outlined(c, ring * s + at, colour, line, s)


def _frame(c: Canvas, at: np.ndarray, s: float, colour: Colour, line: Colour, turn: float) -> None:
    x, y = at
    _outlined(c, _box(x - s, y - 1.3 * s, x + s, y + 1.3 * s), colour, line, s)
    c.gradient(_box(x - 0.8 * s, y - 1.1 * s, x + 0.8 * s, y + 1.1 * s), (x, y - s), (x, y + s),
               (tone(colour, 0.15, 0.5), tone(colour, 0.05, 0.8, 60)))  # fmt: skip
    c.fill(ellipse(x + 0.2 * s, y - 0.3 * s, 0.28 * s, 0.28 * s), (255, 244, 214))


def _leaf(c: Canvas, at: np.ndarray, s: float, colour: Colour, line: Colour, turn: float) -> None:
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    ring = smooth(
        [(-1, 0), (-0.3, -0.45), (0.5, -0.35), (1.1, 0), (0.5, 0.35), (-0.3, 0.45)], closed=True, steps=5
    )
    _outlined(c, ring @ spin * s + at, colour, line, s)
    c.stroke(np.array([(-1.0, 0.0), (1.0, 0.0)]) @ spin * s + at, s * 0.06, line)


def _star(c: Canvas, at: np.ndarray, s: float, colour: Colour, line: Colour, turn: float) -> None:
    a, r = np.arange(10) * np.pi / 5 + turn, np.where(np.arange(10) % 2, 0.45, 1.0)
    _outlined(c, np.stack([np.cos(a) * r, np.sin(a) * r], 1) * s + at, colour, line, s)


def _lantern(c: Canvas, at: np.ndarray, s: float, colour: Colour, line: Colour, turn: float) -> None:
    c.stroke(np.array([(at[0], at[1] - 3 * s), at]), s * 0.06, line)
    _outlined(c, ellipse(at[0], at[1], s * 0.8, s), colour, line, s)
    for k in (-0.5, 0.0, 0.5):
        w = 0.8 * s * np.sqrt(1 - k * k)
        c.stroke(
            np.array([(at[0] - w, at[1] + k * s), (at[0] + w, at[1] + k * s)]), s * 0.05, shade(colour, 0.1)
        )
    for k in (-1.0, 1.0):
        c.fill(_box(at[0] - 0.4 * s, at[1] + (k - 0.1) * s, at[0] + 0.4 * s, at[1] + (k + 0.1) * s), line)
