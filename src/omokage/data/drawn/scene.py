"""Whole pictures: one face filling a square, or a scene with several characters."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omokage.data.drawn.backgrounds import paint_background, paint_clutter
from omokage.data.drawn.body import paint_body
from omokage.data.drawn.canvas import Canvas, Colour
from omokage.data.drawn.face import (
    paint_brows,
    paint_ears,
    paint_eyes,
    paint_glasses,
    paint_mouth,
    paint_skin,
)
from omokage.data.drawn.factors import draw_factors, stream
from omokage.data.drawn.figure import Figure
from omokage.data.drawn.hair import paint_accessory, paint_back_hair, paint_fringe_shadow, paint_front_hair
from omokage.errors import UserError

SMALLEST, LARGEST, SMALLEST_SCENE = 16, 4096, 96
Box = list[int]


@dataclass(frozen=True)
class DrawnFace:
    """A drawn face with its factors, face box and masks."""

    image: np.ndarray
    """uint8 (H, W, 3)."""
    factors: dict[str, Any]
    box: Box
    """``[x, y, w, h]`` of the skin of the face: hairline to chin, cheek to cheek (see :func:`draw_face`)."""
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    """If asked for: masks, uint8 (H, W), 255 inside. ``face`` is the outline of the skin, also where hair or
    glasses cover it. ``iris`` is its part between the lids. ``hair`` is all hair in front of the face and on
    the head."""


@dataclass(frozen=True)
class DrawnIllustration:
    """A drawn scene with the boxes, factors and masks of its faces."""

    image: np.ndarray
    """uint8 (H, W, 3)."""
    boxes: list[Box]
    """One ``[x, y, w, h]`` per face, as in :class:`DrawnFace`, from left to right."""
    factors: list[dict[str, Any]]
    """One per face, in the order of ``boxes``."""
    masks: list[np.ndarray] = field(default_factory=list)
    """If asked for: the face masks in the same order, uint8 (H, W), 255 inside."""


class Plan:
    """A picture before it is painted: its background and the poses and places of its characters."""

    def __init__(
        self, height: int, width: int, seed: int, figures: list[Figure], background: str, clutter: bool
    ) -> None:
        self.height, self.width, self.seed = height, width, seed
        self.figures, self.background, self.clutter = figures, background, clutter

    @property
    def factors(self) -> list[dict[str, Any]]:
        return [figure.factors for figure in self.figures]

    @property
    def boxes(self) -> list[Box]:
        return [_box(figure, self.height, self.width) for figure in self.figures]

    def paint(self) -> Canvas:
        canvas = Canvas(self.height, self.width)
        paint_background(canvas, stream(self.seed, 13), self.background)
        if self.clutter:
            paint_clutter(canvas, stream(self.seed, 14))
        return self.paint_figures(canvas)

    def paint_figures(self, canvas: Canvas) -> Canvas:
        """Paint the characters alone on ``canvas``."""
        for figure in sorted(self.figures, key=lambda f: float(f.origin[1])):  # lower means nearer
            _paint(figure, canvas)
        return canvas


def _paint(f: Figure, canvas: Canvas) -> None:
    f.canvas = canvas
    paint_back_hair(f)
    paint_body(f)
    paint_ears(f)
    paint_skin(f)
    paint_fringe_shadow(f)
    paint_mouth(f)
    paint_eyes(f)
    paint_brows(f)
    paint_glasses(f)
    paint_front_hair(f)
    paint_brows(f, 0.35)
    paint_accessory(f)


def _box(f: Figure, height: int, width: int) -> Box:
    outline = f.face_outline()
    left, top = np.floor(np.maximum(outline.min(0), 0)).astype(int)
    right, bottom = np.ceil(np.minimum(outline.max(0), (width, height))).astype(int)
    return [int(left), int(top), int(right - left), int(bottom - top)]


def _checked_side(side: Any, smallest: int) -> int:
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or not smallest <= side <= LARGEST:
        raise UserError(f"size is {side!r}: it must be a whole number of pixels from {smallest} to {LARGEST}")
    return int(side)


def checked_size(size: Any, illustration: bool) -> tuple[int, int]:
    """(height, width) of a picture; raises UserError for an impossible size. Faces are square."""
    smallest = SMALLEST_SCENE if illustration else SMALLEST
    if not isinstance(size, tuple | list):
        side = _checked_side(size, smallest)
        return side, side
    if len(size) != 2 or (not illustration and size[0] != size[1]):
        raise UserError(f"size is {size!r}: a face is square, an illustration has a height and a width")
    return _checked_side(size[0], smallest), _checked_side(size[1], smallest)


def checked_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"the seed is {seed!r}: it must be a whole number, 0 or more")
    return int(seed)


def plan_face(seed: int, size: int, fixed: dict[str, Any] | None = None, room: float = 1.0) -> Plan:
    factors = draw_factors(seed, fixed)
    rng = stream(seed, 12)
    unit = size / room / rng.uniform(3.0, 3.45)
    centre = size * (0.5 + (np.array([0.0, 0.015]) + rng.uniform(-0.025, 0.025, 2)) / room)
    return Plan(size, size, seed, [Figure(seed, factors, centre, unit)], factors["background"], False)


def plan_illustration(seed: int, size: tuple[int, int]) -> Plan:
    height, width = size
    rng = stream(seed, 15)
    most = int(np.clip(width / height * 3, 1, 4))
    count = int(rng.integers(1, most + 1))
    unit = min(width / (3.5 * count), height / 4.4) * rng.uniform(0.6, 1.0)
    background = draw_factors(seed)["background"]
    slot = width / count
    figures = []
    for i in range(count):
        own = unit * rng.uniform(0.88, 1.0)
        play = max(slot / 2 - 1.7 * own, 0)
        x = slot * (i + 0.5) + rng.uniform(-play, play)
        y = rng.uniform(max(1.75 * own, height - 5.2 * own), height - 2.3 * own)
        person = int(rng.integers(2**62))
        factors = draw_factors(person, {"background": background})
        figures.append(Figure(person, factors, (x, y), own))
    return Plan(height, width, seed, figures, background, True)


def draw_face(seed: int, size: int = 64, *, masks: bool = False, **fixed: Any) -> DrawnFace:
    """Draw one anime face.

    The same seed gives the same drawing at every size, and the same bytes at the same size.

    Args:
        seed: whole number, 0 or more.
        size: side of the square picture in pixels, 16 to 4096.
        masks: also return the masks of face, iris and hair.
        fixed: factors to set (``NAMED``, ``RANGES``, ``glasses``); the others do not change.

    Returns:
        The picture, its factors and its face box. The box bounds the outline of the face's skin, from chin to
        hairline and from cheek to cheek, also where hair or glasses cover it. Ears are not included. The
        edges of the box are rounded outwards to whole pixels.

    Raises:
        UserError: an impossible seed, size, factor or value.

    >>> face = draw_face(7, 32, hair="pink")
    >>> face.image.shape, face.factors["hair"]
    ((32, 32, 3), 'pink')
    """
    plan = plan_face(checked_seed(seed), checked_size(size, False)[0], fixed)
    canvas = plan.paint()
    kept = {name: canvas.shrink(mask) for name, mask in plan.figures[0].masks.items()} if masks else {}
    return DrawnFace(canvas.finished(), plan.factors[0], plan.boxes[0], kept)


def draw_figure(seed: int, size: int = 64, *, room: float = 1.0, **fixed: Any) -> np.ndarray:
    """Draw the character of :func:`draw_face` alone, without the background.

    Laid over the background of the seed, it is the picture of ``draw_face`` again: to two levels of 255, but
    for edges where the background changes within a pixel.

    Args:
        seed, size, fixed: as for ``draw_face``.
        room: how many times as wide the view is, 1 to 4. The head stays in the middle.

    Returns:
        uint8 (H, W, 4): red, green, blue, not multiplied by the alpha, and the alpha, 255 inside.

    Raises:
        UserError: an impossible seed, size, room, factor or value.

    >>> figure = draw_figure(7, 32)
    >>> figure.shape, int(figure[0, 0, 3]), int(figure[16, 16, 3])
    ((32, 32, 4), 0, 255)
    """
    if not 1 <= room <= 4:
        raise UserError(f"room is {room!r}: it must be a number from 1 to 4")
    side = checked_size(size, False)[0]

    def on(background: Colour) -> np.ndarray:
        # A new plan each time: painting leaves masks in its figures.
        plan = plan_face(checked_seed(seed), side, fixed, room)
        return plan.paint_figures(Canvas(side, side, background)).finished().astype(np.int16)

    # All paint is laid over what is below, so what shines through is the difference of two backgrounds.
    dark, bright = on((0, 0, 0)), on((255, 255, 255))
    alpha = (255 - (bright - dark).mean(2)).clip(0, 255)
    colour = (dark / np.maximum(alpha, 1)[..., None] * 255).clip(0, 255)
    return np.concatenate([colour, alpha[..., None]], 2).round().astype(np.uint8)


def draw_illustration(
    seed: int, size: tuple[int, int] = (720, 960), *, masks: bool = False
) -> DrawnIllustration:
    """Draw a scene with one to four characters in front of a background with distracting shapes.

    Args:
        seed: whole number, 0 or more.
        size: (height, width) in pixels, 96 to 4096 each.
        masks: also return the mask of every face.

    Returns:
        The picture, and the box and factors of every face from left to right. Boxes are defined as in
        :func:`draw_face`, lie inside the picture and do not overlap.

    Raises:
        UserError: an impossible seed or size.

    >>> scene = draw_illustration(3, (120, 160))
    >>> scene.image.shape, len(scene.boxes) == len(scene.factors)
    ((120, 160, 3), True)
    """
    plan = plan_illustration(checked_seed(seed), checked_size(size, True))
    canvas = plan.paint()
    kept = [canvas.shrink(figure.masks["face"]) for figure in plan.figures] if masks else []
    return DrawnIllustration(canvas.finished(), plan.boxes, plan.factors, kept)
