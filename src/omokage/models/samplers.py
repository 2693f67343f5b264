"""Samplers for denoisers: ways to go from a noisy image to a clean one, as pure functions of one shape.

    sampler(denoise, x, levels, noise) -> image

``denoise(x, level)`` is the mean of all clean images that could have become ``x`` (B, ...) by adding normal
noise of standard deviation ``level``. ``x`` has noise of the first of the ``levels``, which fall to the last;
the last may be 0. ``noise(i)`` is standard normal noise of the shape of ``x`` for the step ``i``; only
`ancestral` calls it. All coordinates are those of Karras et al. 2022 (arXiv 2206.00364): an image plus noise,
without scaling. The probability-flow equation is then dx / dlevel = (x - denoise(x, level)) / level.

The step to level 0 is the denoiser's own answer, whatever the sampler.
"""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Noise = Callable[[int], Tensor]
Sampler = Callable[[Denoise, Tensor, Sequence[float], Noise], Tensor]
SamplerName = Literal["heun", "euler", "dpm-solver-2", "ancestral"]


def slope(denoise: Denoise, x: Tensor, level: float) -> Tensor:
    """dx / dlevel of the probability-flow equation (Karras et al. 2022, equation 3)."""
    return (x - denoise(x, level)) / level


def euler(denoise: Denoise, x: Tensor, levels: Sequence[float], noise: Noise) -> Tensor:
    """First order; the same as DDIM (Song et al. 2021, arXiv 2010.02502), and as Euler on straight paths.

    >>> point = lambda x, level: torch.full_like(x, 3.0)  # every image is the same
    >>> euler(point, torch.tensor([5.0]), [2.0, 1.0], lambda i: torch.zeros(1))
    tensor([4.])
    """
    for now, then in pairwise(levels):
        x = x + (then - now) * slope(denoise, x, now) if then else denoise(x, now)
    return x


def heun(denoise: Denoise, x: Tensor, levels: Sequence[float], noise: Noise) -> Tensor:
    """Second order, two calls a step: the mean of the slopes at both ends (Karras et al. 2022, algorithm 1).

    Levels may also rise: then it goes from an image to its noise.
    """
    for now, then in pairwise(levels):
        if then == 0:
            return denoise(x, now)
        here = slope(denoise, x, now)
        there = slope(denoise, x + (then - now) * here, then)
        x = x + (then - now) * (here + there) / 2
    return x


def dpm_solver_2(denoise: Denoise, x: Tensor, levels: Sequence[float], noise: Noise) -> Tensor:
    """Second order, two calls a step: the slope at the geometric mean of both levels.

    Lu et al. 2022 (arXiv 2206.00927), DPM-Solver-2 with r = 1/2, in these coordinates.
    """
    for now, then in pairwise(levels):
        if then == 0:
            return denoise(x, now)
        middle = sqrt(now * then)
        between = x + (middle - now) * slope(denoise, x, now)
        x = x + (then - now) * slope(denoise, between, middle)
    return x


def ancestral(denoise: Denoise, x: Tensor, levels: Sequence[float], noise: Noise) -> Tensor:
    """Each step removes more noise than it must, and adds some anew: the sampler of DDPM (Ho et al. 2020).

    With equal levels for all steps but the first, the share of new noise follows from the posterior of the
    next image given this one and the clean one.
    """
    for i, (now, then) in enumerate(pairwise(levels)):
        fresh = then * sqrt(1 - (then / now) ** 2)
        kept = then**2 / now
        x = x + (kept - now) * slope(denoise, x, now) if then else denoise(x, now)
        if fresh:
            x = x + fresh * noise(i)
    return x


# The names that commands use.
SAMPLERS: dict[str, Sampler] = {
    "heun": heun,
    "euler": euler,
    "dpm-solver-2": dpm_solver_2,
    "ancestral": ancestral,
}


def spaced(highest: float, lowest: float, count: int, curve: float = 7.0) -> list[float]:
    """``count`` levels from ``highest`` to ``lowest``, close together near the end (equation 5, rho 7).

    >>> [round(level, 3) for level in spaced(80.0, 0.002, 4)]
    [80.0, 9.723, 0.47, 0.002]
    """
    first, last = highest ** (1 / curve), lowest ** (1 / curve)
    between = [(first + i / max(1, count - 1) * (last - first)) ** curve for i in range(count)]
    return [highest, *between[1:-1], lowest] if count > 1 else [highest]


def straight(highest: float, lowest: float, count: int) -> list[float]:
    """``count`` levels whose times t = 1 / (1 + level) are equally far apart: flow matching's even steps.

    >>> [round(level, 3) for level in straight(4.0, 0.25, 4)]
    [4.0, 1.5, 0.667, 0.25]
    """
    first, last = 1 / (1 + highest), 1 / (1 + lowest)
    times = [first + i / max(1, count - 1) * (last - first) for i in range(count)]
    return [highest, *(1 / t - 1 for t in times[1:-1]), lowest] if count > 1 else [highest]


def noise_of(z: Tensor, shape: Sequence[int]) -> Noise:
    """Standard normal noise for each step, (B, *shape), that follows from each row of ``z`` (B, N) alone.

    So the rest of a batch never matters. Noise is seeded with the signs of a row: the same for a latent at
    every psi above 0, but quite another for a latent near by. Walks need a sampler without noise.
    """
    return seeded([(row > 0).numpy().tobytes() for row in z.detach().cpu()], shape, z)


def seeded(rows: Sequence[bytes], shape: Sequence[int], like: Tensor) -> Noise:
    """Standard normal noise for each step, (B, *shape), seeded with the bytes of each row and the step."""

    def drawn(step: int) -> Tensor:
        each = [hashlib.sha256(row + step.to_bytes(4, "big")).digest() for row in rows]
        # PyTorch's generator on the CPU uses 32 bits of a seed.
        generators = [torch.Generator().manual_seed(int.from_bytes(one[:4], "big")) for one in each]
        return torch.stack([torch.randn(*shape, generator=one) for one in generators]).to(like)

    return drawn
