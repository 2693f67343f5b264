"""One character that is being painted: its pose, its colours, and its random numbers.

Head coordinates: the origin is between the ears, x goes to the right, y down, z towards the viewer. Half the
width of the face is 1; the chin is near y = 1.2, the eyes near y = 0.2, the top of the hair near y = -1.4.
The head is turned by rotating these points in space, so that features, fringe and back hair shift against
each other as on a real head. Light comes from the upper left.
"""

from typing import Any

import numpy as np
from PIL import Image

from omokage.data.drawn.canvas import Canvas, shade, smooth, tone
from omokage.data.drawn.factors import EYE_COLOURS, HAIR_COLOURS, SKIN_TONES, stream

_NECK = 0.95  # the head turns about this point of the y axis


class Figure:
    """The state shared by the modules ``face``, ``hair`` and ``body``."""

    def __init__(self, seed: int, factors: dict[str, Any], centre, unit: float) -> None:
        """``centre``: pixel (x, y) of the head's origin; ``unit``: pixels of half a face width."""
        self.seed, self.factors, self.unit = seed, factors, unit
        self.canvas: Canvas  # set when painting begins
        self.origin = np.asarray(centre, float)
        yaw, pitch, roll = np.deg2rad([factors["yaw"], factors["pitch"], factors["roll"]])
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)]])
        tilt = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        self._axes = (tilt @ nod @ turn).T * unit
        pivot = np.array([0, _NECK])
        self._offset = self.origin + (pivot - tilt @ pivot) * unit

        rng = self.random(1)
        jitter = rng.uniform(-1, 1, 16)
        grown = factors["maturity"]
        self.grown = grown
        self.chin = 1.14 + 0.12 * grown + 0.03 * jitter[0]
        self.jaw = 0.40 + 0.05 * grown + 0.05 * jitter[1]
        self.cheek = 0.78 - 0.02 * grown + 0.03 * jitter[2]
        self.eye_x = 0.47 + 0.02 * jitter[3]
        self.eye_y = 0.27 - 0.07 * grown + 0.03 * jitter[4]
        self.eye_w = 0.30 - 0.035 * grown + 0.02 * jitter[5]
        self.eye_h = 0.345 - 0.085 * grown + 0.025 * jitter[6]
        self.mouth_y = self.eye_y + (self.chin - self.eye_y) * (0.60 + 0.02 * jitter[7])
        self.nose_y = self.eye_y + (self.chin - self.eye_y) * (0.36 + 0.02 * jitter[8])
        self.blush = float(np.clip(0.36 + 0.22 * jitter[9], 0.1, 1))
        self.volume = 1 + 0.05 * jitter[10]

        def vary(colour, light, hue):
            return tone(colour, 0.025 * light, 1 + 0.08 * light, 5 * hue)

        self.skin = vary(SKIN_TONES[factors["skin"]], jitter[11] * 0.5, 0)
        self.skin_shadow = tone(shade(self.skin, 0.085), 0, 1.2, -8)
        self.skin_line = tone(shade(self.skin, 0.36), 0, 1.15, 0)
        self.hair = vary(HAIR_COLOURS[factors["hair"]], jitter[12], jitter[13])
        self.hair_shadow = shade(self.hair, 0.10)
        self.hair_deep = shade(self.hair, 0.17)
        self.hair_line = shade(self.hair, 0.30)
        self.hair_light = tone(self.hair, 0.085, 0.95)
        self.hair_gloss = tone(self.hair, 0.17, 0.62)
        self.eye = vary(EYE_COLOURS[factors["eyes"]], jitter[14], jitter[15])
        self.ink = max(0.022 * unit, 0.28)
        self.masks: dict[str, Image.Image] = {}

    def random(self, part: int) -> np.random.Generator:
        return stream(self.seed, part)

    def at(self, points, z) -> np.ndarray:
        """Head points (N, 2) at depth ``z`` (a number or (N,)) -> pixels (N, 2)."""
        p = np.asarray(points, float)
        depth = z[:, None] * self._axes[2] if isinstance(z, np.ndarray) else z * self._axes[2]
        return p @ self._axes[:2] + (depth + self._offset)

    def on_face(self, points, lift: float = 0.0) -> np.ndarray:
        """Head points (N, 2) on the surface of the face -> pixels (N, 2)."""
        p = np.asarray(points, float)
        inside = 1 - (p[:, 0] / 1.2) ** 2 - ((p[:, 1] - 0.05) / 1.75) ** 2
        return self.at(p, 0.8 * np.sqrt(np.maximum(inside, 0.02)) + lift)

    def on_hair(self, points, lift: float = 0.0) -> np.ndarray:
        """Head points (N, 2) on the surface of the front hair -> pixels (N, 2)."""
        p = np.asarray(points, float)
        reach = np.where(p[:, 1] < -0.2, 1.25, 2.0)
        inside = 1 - (p[:, 0] / 1.11) ** 2 - ((p[:, 1] + 0.2) / reach) ** 2
        return self.at(p, 0.95 * np.sqrt(np.maximum(inside, 0.0)) + lift)

    def on_body(self, points) -> np.ndarray:
        """Body points (N, 2), in units of the head but not rotated with it -> pixels (N, 2)."""
        return np.asarray(points, float) * self.unit + self.origin

    def face_outline(self) -> np.ndarray:
        """The outline of the face's skin, from hairline to chin and cheek to cheek: pixels (N, 2), closed.

        The face box bounds this outline. Ears, neck and hair are not part of it.
        """
        half = np.array(
            [
                (0.0, -0.64, 0.72), (0.48, -0.57, 0.62), (0.84, -0.30, 0.30), (0.985, 0.08, 0.12),
                (0.95, 0.40, 0.12), (self.cheek, 0.76, 0.24), (self.jaw, self.chin - 0.17, 0.38),
                (0.17, self.chin - 0.045, 0.46),
            ]
        )  # fmt: skip
        mirrored = half[:0:-1] * [-1, 1, 1]
        ring = smooth(np.concatenate([half, [[0, self.chin, 0.46]], mirrored]), closed=True, steps=6)
        return self.at(ring[:, :2], ring[:, 2])
