"""Walks between latents: spherical interpolation, easing, closed walks, and the faces of each frame."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from omokage.sampling import BATCH, in_batches, to_pixels

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
