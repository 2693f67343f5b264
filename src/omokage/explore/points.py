"""Points in latent space: a stack of faces before they are drawn, in z or in w, and how they are drawn.

z is what a seed gives: standard normal numbers. w is the space of styles, which only some families have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from omokage.abilities import HasStyles
from omokage.errors import UserError
from omokage.model import Model
from omokage.progress import Progress
from omokage.sampling import BATCH, Batch, chosen_latents, counted, decoded, pixels, synthesised
from omokage.settings import Settings

Space = Literal["z", "w"]


@dataclass(frozen=True)
class Points:
    """A stack of N points, all in the same space.

    Attributes:
        z: (N, *latent_shape); None: the points are known in w alone, such as pictures inverted in w.
        w: (N, layers, width), with psi and conditions applied; None: the points are in z.
        psi: the truncation of each point of z, one number each; points in w have theirs in w already.

    >>> points = Points(torch.zeros(3, 4), psi=(1.0, 1.0, 0.5))
    >>> len(points), points.space, points[1:].psi
    (3, 'z', (1.0, 0.5))
    """

    z: Tensor | None = None
    w: Tensor | None = None
    psi: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.z is None and self.w is None:
            raise ValueError("points need z or w")
        if self.z is not None and not self.psi:
            object.__setattr__(self, "psi", (1.0,) * len(self.z))

    @property
    def space(self) -> Space:
        """The space in which these points are moved and drawn: "w" if they have one, else "z"."""
        return "z" if self.w is None else "w"

    @property
    def values(self) -> Tensor:
        """The coordinates in `space`: (N, layers, width) in w, (N, *latent_shape) in z."""
        found = self.z if self.w is None else self.w
        assert found is not None
        return found

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Sequence[int]) -> "Points":
        """Some of the points, as a stack; ``rows`` is a slice or a list of row numbers."""
        listed = list(range(len(self)))[rows] if isinstance(rows, slice) else list(rows)
        z = None if self.z is None else self.z[listed]
        w = None if self.w is None else self.w[listed]
        return Points(z, w, tuple(self.psi[row] for row in listed) if self.psi else ())

    def moved(self, values: Tensor) -> "Points":
        """Points of the same space with other coordinates, (M, ...), such as edited ones.

        In z they keep their psi: M is then N, or N is 1, or all psi are the same.
        """
        if self.space == "w":
            return Points(w=values)
        psi = self.psi if len(values) == len(self) else self.psi[:1] * len(values)
        if len(psi) != len(values) or (len(values) != len(self) and len(set(self.psi)) > 1):
            raise ValueError(f"{len(values)} points from {len(self)} with different psi")
        return Points(z=values, psi=psi)


def joined(stacks: Sequence[Points]) -> Points:
    """One stack of several, in order. All must be in the same space; z is kept if all have it."""
    if len({stack.space for stack in stacks}) != 1:
        raise ValueError("points of different spaces cannot be joined")
    z = [stack.z for stack in stacks]
    w = [stack.w for stack in stacks]
    known = all(part is not None for part in z)
    return Points(
        torch.cat([part for part in z if part is not None]) if known else None,
        torch.cat([part for part in w if part is not None]) if stacks[0].space == "w" else None,
        tuple(psi for stack in stacks for psi in stack.psi) if known else (),
    )


def of_seeds(model: Model, seeds: Sequence[int], settings: Settings, space: Space) -> Points:
    """The points of seeds: z from each seed's own random numbers; in w also their styles.

    Raises:
        UserError: w for a family without styles, or psi does not fit the number of seeds.
    """
    settings.of(len(seeds))
    return of_latents(model, chosen_latents(model, seeds, settings), settings, space)


def of_latents(model: Model, z: Tensor, settings: Settings, space: Space) -> Points:
    """Points of latents (N, *latent_shape); psi is ``settings.psi``, one number or one for each.

    Raises:
        UserError: w for a family without styles.
    """
    psi = settings.psi if isinstance(settings.psi, tuple) else (settings.psi,) * len(z)
    return Points(z, mapped(model, z, settings) if space == "w" else None, psi)


def mapped(model: Model, z: Tensor, settings: Settings) -> Tensor:
    """Latents (N, *latent_shape) to styles (N, layers, width), in padded batches of `BATCH`.

    Raises:
        UserError: the family has no styles.
    """
    model.require(HasStyles)
    found = []
    for start in range(0, len(z), BATCH):
        part = z[start : start + BATCH]
        rows = settings.rows(start, start + len(part), BATCH)
        missing = BATCH - len(part)
        padded = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
        found.append(model.mapping(padded, rows)[: len(part)].cpu())
    return torch.cat(found)


def default_space(model: Model, wanted: str | None = None) -> Space:
    """The space to work in: ``wanted``, or without it w if the family has styles, else z.

    Raises:
        UserError: another name, or w for a family without styles.
    """
    if wanted not in (None, "z", "w"):
        raise UserError(f"--in {wanted}: there are z and w")
    if wanted == "w":
        model.require(HasStyles)
    return "w" if wanted == "w" or (wanted is None and model.can(HasStyles)) else "z"


def images(model: Model, points: Points, settings: Settings) -> Iterator[Tensor]:
    """Images of points in order, as batches float (B, 3, H, W) in [-1, 1]; may have NaN.

    Of ``settings``, psi is not used: each point has its own. In w only noise is used.
    """
    if points.w is not None:
        return synthesised(model, points.w, settings.noise)
    assert points.z is not None
    return decoded(model, points.z, replace(settings, psi=points.psi))


def drawn(
    model: Model, points: Points, settings: Settings, progress: Progress | None = None
) -> Iterator[Batch]:
    """Faces of points in order: batches of pixels uint8 (B, H, W, 3), and which are finite, bool (B,).

    A seed's point gives, bit for bit, the face that `omokage.sampling.sample` draws for the seed.
    """
    return counted(pixels(images(model, points, settings)), progress, "drawing", len(points))


def stacked(batches: Iterator[Batch], size: tuple[int, int]) -> Batch:
    """All batches joined, also if there is none: pixels uint8 (N, H, W, 3) and finite, bool (N,)."""
    found = list(batches)
    if not found:
        return np.zeros((0, *size, 3), np.uint8), np.zeros(0, bool)
    return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])
