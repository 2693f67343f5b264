"""Truncation: the same seeds at several psi, from full variety to the average face and beyond it."""

from collections.abc import Sequence
from dataclasses import replace

from omokage.abilities import HasStyles
from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.model import Model
from omokage.progress import Progress
from omokage.sampling import gathered, sample
from omokage.settings import Settings

PSIS = (1.2, 1.0, 0.7, 0.5, 0.25, 0.0, -0.25, -0.5, -1.0)


def psis_for(model: Model) -> tuple[float, ...]:
    """`PSIS`, without the negative ones if the family has no styles."""
    return tuple(psi for psi in PSIS if psi >= 0 or model.can(HasStyles))


def check_psis(model: Model, psis: Sequence[float], figure: str) -> list[float]:
    """The psis as a list.

    Raises:
        UserError: no psi; a psi out of range; or a negative psi for a family without styles, which has no
            average style to mirror faces through.
    """
    psis = [float(psi) for psi in psis]
    if not psis:
        raise UserError(f"figure {figure}: no psi given; for example --psi 1,0.5,0")
    for psi in psis:
        if not abs(psi) <= 2:
            raise UserError(f"figure {figure}: psi {psi:g}, allowed is -2 to 2")
        if psi < 0 and not model.can(HasStyles):
            raise UserError(
                f"figure {figure}: psi {psi:g} mirrors a face through the average of its styles, and "
                f"{model.recipe.model['name']} has no styles; give psi of 0 or more"
            )
    return psis


def truncation(
    model: Model,
    seeds: Sequence[int],
    psis: Sequence[float] | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[Faces]:
    """The faces of ``seeds`` at each psi, in the order of ``psis`` (None: `psis_for`).

    As in Karras et al. 2019, figure 8. ``settings``: all settings but psi.

    Raises:
        UserError: as `check_psis`.
    """
    settings = settings or Settings()
    shown = []
    for psi in check_psis(model, psis_for(model) if psis is None else psis, "truncation"):
        faces, finite = gathered(sample(model, seeds, replace(settings, psi=psi), progress))
        shown.append(Faces(faces, heading=f"psi {psi:g}", finite=finite))
    return shown
