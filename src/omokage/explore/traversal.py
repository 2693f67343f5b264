"""Traversal: one entry of a latent, or one direction, is changed step by step and all else stays.

The first is the figure of liao2021: of a fixed z, one entry at a time is multiplied by K from -3 to 3, one
row for each entry. If a model's latents were disentangled, each row would change one thing.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from omokage.abilities import HasStyles
from omokage.errors import UserError
from omokage.explore.directions import Direction, moved
from omokage.explore.faces import Faces
from omokage.explore.points import Points, drawn, joined, stacked
from omokage.model import Model
from omokage.progress import Progress
from omokage.settings import Settings

TIMES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


def default_entries(size: int, rows: int = 10) -> list[int]:
    """Entries to traverse, counted from 1: the first, then tenths of ``size``. All, if there are few.

    >>> default_entries(100)
    [1, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    >>> default_entries(4)
    [1, 2, 3, 4]
    """
    if size <= rows:
        return list(range(1, size + 1))
    return [max(1, round(row * size / rows)) for row in range(rows)]


def entries_in(model: Model, space: str) -> int:
    """How many entries a point has: those of z, or those of one style in w."""
    if space == "z":
        return prod(model.latent_shape)
    return model.mapping(torch.zeros(1, *model.latent_shape)).shape[-1]


def check_entries(model: Model, space: str, entries: Sequence[int]) -> list[int]:
    """The entries as a list.

    Raises:
        UserError: none, or one that does not exist.
    """
    size = entries_in(model, space)
    wrong = [entry for entry in entries if not 1 <= entry <= size]
    if wrong or not entries:
        got = wrong[0] if wrong else "none"
        raise UserError(f"--entries: got {got}; {space} of this model has the entries 1 to {size:,}")
    return [int(entry) for entry in entries]


def multiplied(model: Model, point: Points, entry: int, times: Sequence[float]) -> Points:
    """One point with an entry multiplied by each of ``times``; 1 gives the point itself, bit for bit.

    In z the entry itself is multiplied. In w, whose centre is the average style, the entry's distance from
    the average is, in all layers. Entries are counted from 1; those of an image-shaped z run along its rows.
    """
    values = point.values[:1]
    if point.space == "w":
        average = average_style(model)
        rows = values.repeat(len(times), 1, 1)
        for row, factor in enumerate(times):
            if factor != 1:
                centre = average[0, :, entry - 1]
                rows[row, :, entry - 1] = centre + factor * (values[0, :, entry - 1] - centre)
        return point.moved(rows)
    flat = values.flatten(1).repeat(len(times), 1)
    flat[:, entry - 1] *= torch.tensor(list(times), dtype=flat.dtype)
    return point.moved(flat.view(len(times), *values.shape[1:]))


def average_style(model: Model, settings: Settings | None = None) -> Tensor:
    """The average style (1, layers, width): the centre of w, with the conditions of ``settings``.

    Raises:
        UserError: the family has no styles.
    """
    model.require(HasStyles)
    plain = Settings(psi=0.0, conditions=(settings or Settings()).conditions)
    return model.mapping(torch.zeros(1, *model.latent_shape), plain).cpu()


def traversal(
    model: Model,
    points: Points,
    entries: Sequence[int],
    times: Sequence[float] = TIMES,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[list[Faces]]:
    """For each point, one row of faces for each entry, one face for each K of ``times``.

    Raises:
        UserError: no such entry, or no K.
    """
    entries = check_entries(model, points.space, entries)

    def step(entry: int) -> Callable[[Points], Points]:
        return lambda point: multiplied(model, point, entry, times)

    steps = [(str(entry), step(entry)) for entry in entries]
    return _rows(model, points, steps, times, settings, progress)


def along(
    model: Model,
    points: Points,
    directions: Sequence[Direction],
    amounts: Sequence[float] = TIMES,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[list[Faces]]:
    """For each point, one row of faces for each direction, one face for each amount; 0 is the face itself.

    Raises:
        UserError: no amount, or a direction that does not fit.
    """

    def step(direction: Direction) -> Callable[[Points], Points]:
        return lambda point: joined([_bare(moved(point, direction, amount)) for amount in amounts])

    steps = [(direction.name, step(direction)) for direction in directions]
    return _rows(model, points, steps, amounts, settings, progress)


def _bare(points: Points) -> Points:
    """Points in w without their z."""
    return points if points.w is None else Points(w=points.w)


def _rows(
    model: Model,
    points: Points,
    steps: Sequence[tuple[str, Callable[[Points], Points]]],
    amounts: Sequence[float],
    settings: Settings | None,
    progress: Progress | None,
) -> list[list[Faces]]:
    if not amounts:
        raise UserError("traverse: no steps given; for example --times=-3,-2,-1,0,1,2,3")
    stacks = [step(points[[row]]) for row in range(len(points)) for _, step in steps]
    plain = [_bare(stack) for stack in stacks]
    pixels, finite = stacked(
        drawn(model, joined(plain), settings or Settings(), progress), model.resolution
    )
    captions = [f"{amount:g}" for amount in amounts]
    found, first = list[list[Faces]](), 0
    for _ in range(len(points)):
        rows = []
        for name, _step in steps:
            part = slice(first, first + len(amounts))
            rows.append(Faces(pixels[part], captions, name, finite[part]))
            first += len(amounts)
        found.append(rows)
    return found
