"""Walks between points: straight and spherical paths, easing, closed walks, and the faces of each frame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from omokage.errors import UserError
from omokage.explore.points import Points, images
from omokage.model import Model
from omokage.sampling import BATCH, in_batches, to_pixels
from omokage.settings import Settings

Path = Literal["auto", "linear", "spherical"]
PATHS = ("auto", "linear", "spherical")

# If the sine of the angle is smaller, the ratio of sines in `slerp` loses precision.
SMALL = 1e-6


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of latents (Shoemake 1985; for generative models White 2016, arXiv 1609.04468).

    ``a``, ``b``: (N, ...) float, of the same shape; ``t`` in [0, 1]. Each pair is interpolated along the
    great circle between its directions. Its length changes geometrically from |a| to |b|. So latents on a
    sphere stay on it, and normal latents keep a typical length. A straight line would pass through lengths
    that the network has never seen. Equal or opposite directions define no great circle; such pairs, and
    pairs with a zero latent, are interpolated linearly.

    >>> slerp(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 0.5)
    tensor([[1.4142, 1.4142]])
    """
    start, end = a.flatten(1).double(), b.flatten(1).double()
    start_length, end_length = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    from_, to = start / start_length, end / end_length
    # 2 atan2(|u - v|, |u + v|) is precise for small angles; the arc cosine of u·v loses half its digits.
    angle = 2 * torch.atan2((from_ - to).norm(dim=1, keepdim=True), (from_ + to).norm(dim=1, keepdim=True))
    direction = (torch.sin((1 - t) * angle) * from_ + torch.sin(t * angle) * to) / torch.sin(angle)
    curved = direction * start_length ** (1 - t) * end_length**t
    straight = (1 - t) * start + t * end
    defined = torch.sin(angle) > SMALL  # False for NaN too
    return torch.where(defined, curved, straight).to(a.dtype).view_as(a)


def eased(t: float) -> float:
    """Smoothstep from 0 to 1. Its slope is 0 at both ends, so that a walk rests a moment at each seed.

    >>> eased(0.0), eased(0.5), eased(1.0)
    (0.0, 0.5, 1.0)
    """
    return t * t * (3 - 2 * t)


# How the share of a leg that is walked follows from the share of its time, both 0 to 1.
EASINGS: dict[str, Callable[[float], float]] = {
    "smooth": eased,
    "linear": lambda t: t,
    "long": lambda t: t * t * t * (t * (6 * t - 15) + 10),  # rests longer at each face (Perlin 2002)
}


@dataclass(frozen=True)
class Place:
    """A place on a walk: between the faces ``start`` and ``end``, at the share ``t`` of the way, 0 to 1."""

    start: int
    end: int
    t: float


def places(stops: int, frames: int, *, loop: bool = True, ease: str = "smooth") -> list[Place]:
    """The places of each frame of a walk over ``stops`` faces, in equal time from face to face.

    Every face is met exactly by a frame: its own, rounded to the nearest. A closed walk (``loop``) ends one
    frame before its first face, so that it can be repeated. An open one ends with the last face.

    Raises:
        UserError: fewer than two faces, fewer frames than faces, or an unknown easing.

    >>> [(at.start, round(at.t, 2)) for at in places(2, 4, ease="linear")]
    [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)]
    >>> [(at.start, at.t) for at in places(2, 3, loop=False, ease="linear")]
    [(0, 0.0), (0, 0.5), (0, 1.0)]
    """
    if stops < 2:
        raise UserError(f"a walk needs two faces or more, got {stops}")
    if ease not in EASINGS:
        raise UserError(f"--ease {ease}: there are {', '.join(EASINGS)}")
    legs = stops if loop else stops - 1
    if frames < stops:
        raise UserError(
            f"a walk over {stops} faces needs {stops} frames or more, got {frames}; give more seconds"
        )
    last = frames if loop else frames - 1
    met = [round(leg * last / legs) for leg in range(legs + 1)]  # the frame of each face
    found = []
    for leg in range(legs):
        start, end = leg, (leg + 1) % stops
        length = met[leg + 1] - met[leg]
        found += [Place(start, end, EASINGS[ease](step / length)) for step in range(length)]
    if not loop:
        found.append(Place(legs - 1, legs, 1.0))
    return found


def at_places(points: Points, wanted: Sequence[Place], path: Path = "auto") -> Points:
    """The points at some places of a walk over ``points``.

    ``path`` "linear": on the straight line. "spherical": as `slerp`. "auto": spherical in z, where normal
    latents lie near a sphere, and linear in w, which is no sphere. At t 0 and 1 it is the face's own point,
    bit for bit. In z, psi is interpolated linearly.

    Raises:
        UserError: an unknown path.
    """
    if path not in PATHS:
        raise UserError(f"--path {path}: there are {', '.join(PATHS)}")
    curved = path == "spherical" or (path == "auto" and points.space == "z")
    values, psis, psi = [], [], points.psi or (1.0,) * len(points)
    for at in wanted:
        a, b = points.values[at.start : at.start + 1], points.values[at.end : at.end + 1]
        if at.t in (0.0, 1.0):
            values.append(a if at.t == 0.0 else b)
        else:
            values.append(slerp(a, b, at.t) if curved else a.lerp(b, at.t))
        one, other = psi[at.start], psi[at.end]
        psis.append(one if one == other else one + (other - one) * at.t)
    if points.space == "w":
        return Points(w=torch.cat(values))
    return Points(z=torch.cat(values), psi=tuple(psis))


def film(
    model: Model,
    points: Points,
    steps: Sequence[Sequence[Place]],
    settings: Settings,
    path: Path = "auto",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The faces of each step of walks that go side by side: one place for each walk and step.

    Yields pixels uint8 (walks, H, W, 3), and which of them are finite, bool (walks,). About `BATCH` faces are
    in memory at a time, however long the walk is.
    """
    walks = len(steps[0])
    together = max(1, BATCH // walks)
    for first in range(0, len(steps), together):
        group = steps[first : first + together]
        wanted = [at for step in group for at in step]
        drawn = torch.cat(list(images(model, at_places(points, wanted, path), settings)))
        for step_images in drawn.unflatten(0, (len(group), walks)):
            yield to_pixels(step_images), step_images.isfinite().flatten(1).all(1).cpu().numpy()


def closed_walk(stops: Tensor, frames_per_leg: int) -> Iterator[Tensor]:
    """Latents of each frame of walks that visit their stops and return to the first one.

    ``stops``: latents (stops, walks, ...); all walks advance together. Yields stops x ``frames_per_leg``
    tensors (walks, ...). Frame i x ``frames_per_leg`` is stop i itself. The film can be repeated: the first
    frame follows the last one smoothly.
    """
    for start, end in zip(stops, stops.roll(-1, 0), strict=True):
        for frame in range(frames_per_leg):
            yield slerp(start, end, eased(frame / frames_per_leg))


def frames(
    render: Callable[[Tensor], Tensor], steps: Iterator[Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The faces of each step of several walks. Several steps are rendered at a time.

    ``render``: latents (B, ...) to images (B, 3, H, W) in [-1, 1]. ``steps``: tensors (walks, ...), as from
    `closed_walk`. Yields pixels uint8 (walks, H, W, 3), and which of them are finite, bool (walks,).
    """
    while group := list(islice(steps, BATCH)):
        images = torch.cat(list(in_batches(render, torch.cat(group)))).unflatten(0, (len(group), -1))
        for step in images:
            yield to_pixels(step), step.isfinite().flatten(1).all(1).cpu().numpy()
