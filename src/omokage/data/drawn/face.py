"""Skin, eyes, brows, nose, mouth and glasses."""

import numpy as np
from PIL import ImageChops

from omokage.data.drawn.canvas import bezier, ellipse, mix, ribbon, shade, smooth, taper, tone
from omokage.data.drawn.figure import Figure

_BLUSH = (246, 110, 110)
_MOUTH_INSIDE = (150, 48, 56)
_TONGUE = (232, 122, 122)

# Upper lid from the inner to the outer corner, then lower lid from the outer to the inner corner. Units: half
# widths and half heights of the eye.
_LIDS = {
    "round": ([(-0.93, 0.12), (-0.65, -0.62), (0.0, -1.03), (0.66, -0.74), (0.99, 0.03)],
              [(0.84, 0.64), (0.30, 0.93), (-0.35, 0.91), (-0.78, 0.62)]),
    "almond": ([(-1.02, 0.30), (-0.60, -0.34), (0.05, -0.74), (0.68, -0.56), (1.14, -0.02)],
               [(0.84, 0.48), (0.25, 0.72), (-0.35, 0.70), (-0.82, 0.54)]),
    "droopy": ([(-0.96, -0.22), (-0.60, -0.82), (0.0, -0.90), (0.62, -0.42), (1.04, 0.44)],
               [(0.80, 0.84), (0.30, 0.94), (-0.35, 0.76), (-0.80, 0.28)]),
    "sharp": ([(-1.06, 0.50), (-0.64, -0.08), (0.0, -0.54), (0.64, -0.80), (1.20, -0.62)],
              [(0.94, 0.12), (0.38, 0.58), (-0.30, 0.76), (-0.84, 0.72)]),
    "sleepy": ([(-1.00, 0.14), (-0.60, -0.12), (0.0, -0.22), (0.62, -0.16), (1.08, 0.16)],
               [(0.86, 0.62), (0.30, 0.88), (-0.35, 0.86), (-0.82, 0.56)]),
}  # fmt: skip


def paint_skin(f: Figure) -> None:
    """Draw the bare face: skin, a shaded side, blush and nose. Its outline becomes the mask ``face``."""
    c, outline = f.canvas, f.face_outline()
    c.fill(outline, f.skin)
    inside = f.masks["face"] = c.mask(outline)
    # One soft shadow for the side away from the light and the part under the fringe.
    cheek = f.on_face(
        [(1.1, -0.7), (0.86, 0.0), (0.80, 0.5), (0.5, 0.98), (0.05, f.chin), (0.5, 1.5), (1.5, 0.8)]
    )
    c.soft(cheek, f.skin_shadow, 0.75, 0.10 * f.unit, inside)
    for side in (-1, 1):
        spot = f.on_face(ellipse(side * 0.62, f.eye_y + f.eye_h + 0.13, 0.26, 0.13, 16))
        c.soft(spot, mix(_BLUSH, f.skin, 0.4), f.blush, 0.16 * f.unit, inside)
    c.stroke(outline, f.ink * 1.1, f.skin_line)
    nose = bezier((0.0, f.nose_y - 0.03), (0.045, f.nose_y + 0.03), (-0.015, f.nose_y + 0.055), steps=7)
    c.stroke(f.on_face(nose, 0.1), f.ink * 1.5 * taper(7, 0.2, 0.6), f.skin_line, 0.75)
    light = f.on_face(ellipse(-0.035, f.nose_y - 0.05, 0.022, 0.04, 10), 0.1)
    c.fill(light, mix(f.skin, (255, 255, 255), 0.8), 0.7)


def paint_ears(f: Figure) -> None:
    """Draw both ears, behind the face."""
    c = f.canvas
    for side in (-1, 1):
        rim = smooth(
            np.array([(0.90, -0.02), (1.12, -0.06), (1.16, 0.18), (1.04, 0.46), (0.90, 0.5)]) * (side, 1),
            closed=True, steps=5,
        )  # fmt: skip
        shape = f.at(rim, -0.05)
        c.fill(shape, f.skin)
        c.stroke(np.concatenate([shape, shape[:1]]), f.ink, f.skin_line)
        inner = bezier((side * 1.08, 0.02), (side * 1.0, 0.1), (side * 1.04, 0.34), steps=7)
        c.stroke(f.at(inner, -0.05), f.ink * taper(7) * 1.4, f.skin_shadow)


def paint_mouth(f: Figure) -> None:
    """Draw the mouth that the factor ``mouth`` names, with a soft shadow below the lip."""
    c, kind, y = f.canvas, f.factors["mouth"], f.mouth_y
    rng = f.random(2)
    w = 0.20 * rng.uniform(0.85, 1.2)
    line = tone(f.skin_line, -0.06, 1.2)

    def place(points):
        return f.on_face(points, 0.04)

    def arc(left, middle, right):
        return bezier(left, middle, right, steps=11)

    if kind in ("laugh", "grin"):
        depth = (0.26 if kind == "laugh" else 0.15) * rng.uniform(0.85, 1.15)
        w *= 1.25 if kind == "laugh" else 1.45
        upper = bezier((-w, y - 0.05), (-w * 0.4, y + 0.01), (w * 0.4, y + 0.01), (w, y - 0.05), steps=11)
        lower = bezier(
            (w, y - 0.05), (w * 0.75, y + depth * 1.2), (-w * 0.75, y + depth * 1.2), (-w, y - 0.05), steps=13
        )
        shape = place(np.concatenate([upper, lower]))
        inside = c.mask(shape)
        c.fill(shape, _MOUTH_INSIDE if kind == "laugh" else (255, 253, 250))
        if kind == "laugh":
            c.fill(place(ellipse(0, y + depth * 0.95, w * 0.62, depth * 0.42, 16)), _TONGUE, clip=inside)
            teeth = [(-w, y - 0.08), (w, y - 0.08), (w * 0.8, y + 0.035), (-w * 0.8, y + 0.035)]
            c.fill(place(teeth), (255, 253, 250), clip=inside)
        else:
            c.stroke(place(arc((-w, y + depth * 0.22), (0, y + depth * 0.62), (w, y + depth * 0.22))),
                     f.ink * 0.5, f.skin_shadow, clip=inside)  # fmt: skip
        c.stroke(np.concatenate([shape, shape[:1]]), f.ink * 0.9, line)
        c.stroke(place(upper), f.ink * 1.5 * taper(11), line)
    elif kind == "small-o":
        shape = place(ellipse(0, y + 0.02, 0.075 * w / 0.2, 0.095, 16))
        c.fill(shape, _MOUTH_INSIDE)
        c.fill(place(ellipse(0, y + 0.07, 0.06, 0.045, 12)), _TONGUE, clip=c.mask(shape))
        c.stroke(np.concatenate([shape, shape[:1]]), f.ink, line)
    else:
        curve = {
            "smile": lambda: arc((-w, y - 0.04), (0, y + 0.11), (w, y - 0.04)),
            "line": lambda: arc((-w * 0.7, y), (0, y + 0.015), (w * 0.7, y)),
            "pout": lambda: arc((-w * 0.6, y + 0.05), (0, y - 0.06), (w * 0.6, y + 0.05)),
            "cat": lambda: np.concatenate([arc((-w, y - 0.03), (-w * 0.62, y + 0.13), (0, y - 0.01)),
                                           arc((0, y - 0.01), (w * 0.62, y + 0.13), (w, y - 0.03))[1:]]),
        }[kind]()  # fmt: skip
        c.stroke(place(curve), f.ink * 1.9 * taper(len(curve), 0.4, 0.4), line)
    below = arc((-0.07, y + 0.155), (0, y + 0.175), (0.07, y + 0.155))
    if kind not in ("laugh", "grin"):
        c.stroke(place(below), f.ink * 1.6 * taper(11), f.skin_shadow, 0.8)


def paint_eyes(f: Figure) -> None:
    """Draw both eyes. The visible parts of the irises become the mask ``iris``."""
    rng = f.random(3)
    gaze = rng.uniform(-1, 1, 2) * (0.10, 0.05)
    big = rng.uniform(0.92, 1.08)
    style = rng.random(4)
    irises = [_paint_eye(f, side, gaze, big, style) for side in (-1, 1)]
    f.masks["iris"] = f.canvas.mask(*[shape for shape, _ in irises])
    opening = f.canvas.mask(*[shape for _, shape in irises])
    f.masks["iris"] = ImageChops.multiply(f.masks["iris"], opening)


def _paint_eye(f: Figure, side: int, gaze, big: float, style) -> tuple[np.ndarray, np.ndarray]:
    c, kind = f.canvas, f.factors["eye_shape"]
    lid, low = _LIDS[kind]
    scale = np.array([side * f.eye_w, f.eye_h])
    centre = np.array([side * f.eye_x, f.eye_y])

    def place(points, lift=0.0):
        return f.on_face(np.asarray(points) * scale + centre, lift)

    def seen(points):  # gloss is on the same side in both eyes
        return f.on_face(np.asarray(points) * np.abs(scale) + centre)

    upper = smooth(lid, steps=6)
    lower = smooth([lid[-1], *low, lid[0]], steps=6)
    opening = place(np.concatenate([upper, lower]))
    inside = c.mask(opening)
    ink = tone(shade(mix(f.hair, (60, 40, 50), 0.6), 0.25), -0.12)

    c.fill(opening, mix((255, 255, 255), f.skin, 0.06))

    gx, gy = gaze[0] * side, gaze[1] + 0.03
    rx, ry = 0.68 * big, 0.93 * big
    if kind == "sleepy":
        gy += 0.08
    iris = place(ellipse(gx, gy, rx, ry))
    top, bottom = place([(gx, gy - ry * 0.85), (gx, gy + ry)])
    deep, dark = shade(f.eye, 0.30), shade(f.eye, 0.17)
    glow = tone(f.eye, 0.15, 1.0)
    c.fill(iris, deep, clip=inside)
    c.gradient(place(ellipse(gx, gy, rx * 0.89, ry * 0.92)), top, bottom, (dark, glow), inside)
    # A bright area at the bottom of the iris.
    c.soft(place(ellipse(gx, gy + ry * 0.58, rx * 0.60, ry * 0.30, 18)), tone(f.eye, 0.24, 0.85), 0.85,
           0.05 * f.unit, inside)  # fmt: skip
    pupil = shade(f.eye, 0.42)
    c.fill(place(ellipse(gx, gy - 0.04, rx * 0.40, ry * 0.44, 20)), pupil, 0.92, inside)
    if style[1] > 0.5:  # a thin ring of reflected light
        ring = ellipse(gx, gy, rx * 0.74, ry * 0.78)[2:13]
        c.stroke(place(ring), f.unit * 0.022 * taper(11), tone(f.eye, 0.22, 0.8), 0.8, inside)
    # The upper lid's shadow on white and iris.
    cast = np.concatenate([upper - (0, 0.3), (upper - (0, -0.24))[::-1]])
    c.fill(place(cast), shade(mix(f.skin, f.eye, 0.2), 0.30), 0.42, inside)

    size = 0.8 + 0.35 * style[0]
    c.fill(
        seen(ellipse(gaze[0] - 0.24, gy - 0.36, 0.24 * size, 0.27 * size, 16)), (255, 255, 255), 0.97, inside
    )
    c.fill(
        seen(ellipse(gaze[0] + 0.26, gy + 0.36, 0.12 * size, 0.14 * size, 12)), (255, 255, 255), 0.9, inside
    )

    # Lashes: a brush stroke along the upper lid, thick towards the outer corner, with flicks.
    t = np.linspace(0, 1, len(upper))
    weight = (0.20 + 0.80 * np.sin(np.clip(t * 1.15, 0, 1) * np.pi * 0.72)) * (0.135 - 0.035 * f.grown)
    rise = np.stack([np.zeros_like(t), -weight / f.eye_h * 0.80], 1)
    edge = upper + rise
    tail = (lid[-1][0] + 0.20, lid[-1][1] + (0.06 if kind == "droopy" else -0.18))
    lash = np.concatenate([upper - (0, -0.04), [lid[-1], tail], edge[::-1]])
    c.fill(place(lash), ink)
    for share, reach in ((0.80, 0.30), (0.66, 0.20)):
        i = int(share * (len(upper) - 1))
        flick = edge[i] + np.array([(-0.12, 0.05), (reach * 0.8, -reach * 0.62), (0.10, 0.12)])
        c.fill(place(flick), ink)
    under = smooth([lid[-1], *low][:3], steps=6)
    c.stroke(place(under), f.ink * 1.5 * taper(len(under), 0.9, 0.1, 0.2), ink, 0.9)
    under = smooth(low[1:], steps=6)
    c.stroke(place(under), f.ink * 0.7, f.skin_line, 0.7)
    # The crease above the lid.
    crease = upper[4:-4] * (0.96, 1.0) - (0, 0.36 if kind != "sleepy" else 0.44)
    c.stroke(place(crease), f.ink * 1.0 * taper(len(crease), 0.1, 0.3, 0.7), f.skin_line, 0.85)
    return iris, opening


def paint_brows(f: Figure, alpha: float = 1.0) -> None:
    """Draw the brows in a dark tone of the hair. A second, faint pass shows them through the fringe."""
    rng = f.random(4)
    mood = rng.uniform(-0.09, 0.09) + {"pout": 0.06, "laugh": -0.04, "small-o": -0.05}.get(
        f.factors["mouth"], 0
    )
    height = f.eye_y - f.eye_h * 1.05 - 0.19 + rng.uniform(-0.03, 0.03)
    thick = (0.038 + 0.022 * f.grown) * rng.uniform(0.75, 1.3)
    colour = shade(f.hair, 0.24)
    for side in (-1, 1):
        inner, outer = (
            (side * (f.eye_x - 0.27), height + mood),
            (side * (f.eye_x + 0.30), height + 0.05 - mood * 0.6),
        )
        top = (side * (f.eye_x + 0.08), height - 0.10 - abs(mood) * 0.2)
        curve = bezier(inner, top, outer, steps=11)
        f.canvas.stroke(f.on_face(curve), thick * f.unit * taper(11, 0.55, 0.08, 0.3), colour, alpha)


def paint_glasses(f: Figure) -> None:
    """Draw round or angular glasses, if the factor ``glasses`` is set."""
    if not f.factors["glasses"]:
        return
    c, rng = f.canvas, f.random(5)
    colour = ((40, 36, 44), (150, 44, 52), (60, 70, 130), (120, 84, 50), (176, 140, 60))[int(rng.integers(5))]
    power = rng.uniform(2.0, 4.5)  # exponent of the superellipse: 2 is round
    rx, ry = f.eye_w * 1.34, max(f.eye_h * 1.12, 0.30) * rng.uniform(0.92, 1.05)
    width = f.unit * rng.uniform(0.035, 0.06)
    t = np.linspace(0, 2 * np.pi, 33)
    unit = np.stack([np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power),
                     np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power)], 1)  # fmt: skip
    y = f.eye_y + 0.05
    for side in (-1, 1):
        ring = unit * (rx, ry) + (side * f.eye_x, y)
        shape = f.on_face(ring, 0.12)
        lens = c.mask(shape)
        c.fill(shape, (235, 245, 255), 0.10)
        glare = [(-0.2, -1.1), (0.12, -1.1), (-0.42, 1.1), (-0.74, 1.1)]
        c.fill(f.on_face(np.array(glare) * (rx, ry) + (side * f.eye_x, y), 0.12), (255, 255, 255), 0.22, lens)
        c.fill(ribbon(shape, width), colour)
        temple = [(side * (f.eye_x + rx), y - 0.08), (side * 1.05, y - 0.1)]
        c.stroke(f.at(temple, np.array([0.42, 0.0])), width, colour)
    bridge = bezier((-f.eye_x + rx, y - 0.03), (0, y - 0.12), (f.eye_x - rx, y - 0.03), steps=7)
    c.stroke(f.on_face(bridge, 0.14), width, colour)
