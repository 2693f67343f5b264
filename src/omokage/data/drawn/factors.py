"""The factors of a drawn face, and how a seed chooses them at random."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from omokage.data.drawn.canvas import Colour
from omokage.errors import UserError

HAIR_COLOURS: dict[str, Colour] = {
    "blonde": (246, 214, 122),
    "brown": (132, 84, 58),
    "black": (54, 50, 64),
    "blue": (72, 104, 190),
    "pink": (246, 158, 188),
    "purple": (134, 92, 180),
    "aqua": (112, 208, 218),
    "green": (104, 170, 112),
    "gray": (150, 152, 166),
    "red": (198, 58, 62),
    "white": (234, 234, 242),
    "orange": (236, 138, 66),
}
EYE_COLOURS: dict[str, Colour] = {
    "blue": (56, 122, 222),
    "red": (214, 48, 62),
    "brown": (142, 86, 48),
    "green": (56, 166, 92),
    "purple": (142, 78, 204),
    "aqua": (40, 190, 204),
    "yellow": (234, 190, 44),
    "pink": (236, 98, 158),
    "orange": (238, 126, 38),
    "black": (62, 58, 70),
    "gray": (134, 142, 156),
}
SKIN_TONES: dict[str, Colour] = {
    "porcelain": (255, 239, 230),
    "fair": (254, 227, 208),
    "peach": (248, 209, 180),
    "tan": (226, 174, 134),
    "brown": (176, 120, 84),
    "deep": (124, 80, 58),
}
HAIR_STYLES = ("bob", "long", "hime", "wavy", "twin-tails", "ponytail", "bun", "spiky")
BANGS = ("straight", "choppy", "swept", "parted", "centre", "curtain")
EYE_SHAPES = ("round", "almond", "droopy", "sharp", "sleepy")
MOUTHS = ("smile", "laugh", "line", "small-o", "pout", "cat", "grin")
ACCESSORIES = ("none", "ribbon", "hairpin", "hairband")
CLOTHES = ("sailor", "shirt", "hoodie", "turtleneck", "blazer")
BACKGROUNDS = ("plain", "gradient", "sky", "bokeh", "stripes", "night", "room")

NAMED: dict[str, tuple[str, ...]] = {
    "hair": tuple(HAIR_COLOURS),
    "hair_style": HAIR_STYLES,
    "bangs": BANGS,
    "eyes": tuple(EYE_COLOURS),
    "eye_shape": EYE_SHAPES,
    "mouth": MOUTHS,
    "skin": tuple(SKIN_TONES),
    "accessory": ACCESSORIES,
    "clothes": CLOTHES,
    "background": BACKGROUNDS,
}
RANGES: dict[str, tuple[float, float]] = {
    "yaw": (-24.0, 24.0),
    "pitch": (-12.0, 12.0),
    "roll": (-12.0, 12.0),
    "maturity": (0.0, 1.0),
}
GLASSES_SHARE = 0.25
FACTORS: tuple[str, ...] = (*NAMED, "glasses", *RANGES)


def stream(seed: int, part: int) -> np.random.Generator:
    """The random numbers for one part of a face. Parts are independent: changing one keeps all others."""
    return np.random.default_rng([seed, part])


def draw_factors(seed: int, fixed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The factors of the face of ``seed``. Those in ``fixed`` are set; the others stay the same.

    Named factors are uniform and independent, ``glasses`` has a probability of 0.25, angles (degrees) follow
    a triangular distribution within ``RANGES``, ``maturity`` is uniform in 0..1.

    Raises:
        UserError: a factor or value that does not exist.
    """
    rng = stream(seed, 0)
    factors: dict[str, Any] = {name: values[int(rng.integers(len(values)))] for name, values in NAMED.items()}
    factors["glasses"] = bool(rng.random() < GLASSES_SHARE)
    for name, (low, high) in RANGES.items():
        value = rng.uniform(low, high) if name == "maturity" else rng.triangular(low, (low + high) / 2, high)
        factors[name] = round(float(value), 3)
    for name, value in (fixed or {}).items():
        factors[name] = _checked(name, value)
    return factors


def _checked(name: str, value: Any) -> Any:
    if name in NAMED:
        if value not in NAMED[name]:
            raise UserError(f"no {name} named {value!r}: choose from {', '.join(NAMED[name])}")
        return value
    if name in RANGES:
        low, high = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UserError(f"{name} is {value!r}: it must be a number from {low:g} to {high:g}")
        return float(value)
    if name == "glasses":
        return bool(value)
    raise UserError(f"a drawn face has no factor {name!r}: it has {', '.join(FACTORS)}")
