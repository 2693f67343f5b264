"""Truncation: the same seeds at several psi, from full variety to the average face and beyond it."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from omokage.abilities import HasStyles
from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.explore.points import Points, drawn, joined, of_latents, stacked
from omokage.explore.traversal import average_style
from omokage.model import Model
from omokage.progress import Progress
from omokage.settings import Settings

PSIS = (1.2, 1.0, 0.7, 0.5, 0.25, 0.0, -0.25, -0.5, -1.0)


def psis_for(model: Model) -> tuple[float, ...]:
    """`PSIS`, without the negative ones if the family has no styles."""
    return tuple(psi for psi in PSIS if psi >= 0 or model.can(HasStyles))


def check_psis(model: Model, psis: Sequence[float], figure: str = "truncate") -> list[float]:
    """The psis as a list.

    Raises:
        UserError: no psi; a psi out of range; or a negative psi for a family without styles, which has no
            average style to mirror faces through.
    """
    psis = [float(psi) for psi in psis]
    figure = figure if figure == "truncate" else f"figure {figure}"
    if not psis:
        raise UserError(f"{figure}: no psi given; for example --psi 1,0.5,0")
    for psi in psis:
        if not abs(psi) <= 2:
            raise UserError(f"{figure}: psi {psi:g}, allowed is -2 to 2")
        if psi < 0 and not model.can(HasStyles):
            raise UserError(
                f"{figure}: psi {psi:g} mirrors a face through the average of its styles, and "
                f"{model.recipe.model['name']} has no styles; give psi of 0 or more"
            )
    return psis


def at_psi(model: Model, points: Points, psi: float, settings: Settings) -> Points:
    """Points with truncation psi, in their own space.

    A point whose z is known, such as a seed's, is truncated as sampling with ``--psi`` does it, whatever psi
    it had. Of a point known in w alone, psi 1 is the face as it is, and psi 0 the average style.
    """
    if points.z is not None:
        return of_latents(model, points.z, replace(settings, psi=psi), points.space)
    assert points.w is not None
    average = average_style(model, settings)
    w = points.w if psi == 1 else average.lerp(points.w, psi)
    if settings.layers:
        w = torch.cat([w[:, : settings.layers], points.w[:, settings.layers :]], 1)
    return Points(w=w)


def truncated(
    model: Model,
    points: Points,
    psis: Sequence[float] | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[Faces]:
    """The faces of points at each psi, in the order of ``psis`` (None: `psis_for`).

    As in Karras et al. 2019, figure 8. ``settings``: all settings but psi.

    Raises:
        UserError: as `check_psis`.
    """
    settings, chosen = settings or Settings(), check_psis(model, psis_for(model) if psis is None else psis)
    stacks = [at_psi(model, points, psi, settings) for psi in chosen]
    pixels, finite = stacked(drawn(model, joined(stacks), settings, progress), model.resolution)
    n = len(points)
    return [
        Faces(pixels[i * n : (i + 1) * n], heading=f"psi {psi:g}", finite=finite[i * n : (i + 1) * n])
        for i, psi in enumerate(chosen)
    ]
