"""Watches a training. If something is wrong, it says so in one sentence and goes back to a good snapshot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from ..errors import UserError
from ..listing import snapshots
from ..objectives.phase import Phase
from ..progress import Progress
from ..recipe import Recipe
from .display import announce
from .logs import Logs
from .state import TrainingState, go_back, save

NEAR_FLOOR = 0.01  # this near to its lowest possible loss, a phase has nothing left to learn
LITTLE_VARIETY = 0.05  # spread of generated images over the batch, divided by that of real ones


@dataclass(frozen=True)
class Trouble:
    """What is wrong.

    Attributes:
        sentence: what is happening and what to change.
        well_until: number of images seen before the trouble began.
        fatal: whether training can go on only from an earlier snapshot.
    """

    sentence: str
    well_until: int
    fatal: bool = False


def look(
    line: Mapping[str, float], phases: Sequence[Phase], images: int, since: dict[str, int], patience: float
) -> Trouble | None:
    """What is wrong, if anything, according to a line of the log at ``images`` images.

    ``since`` keeps, from line to line, when each sign of trouble began. A sign that lasts for ``patience``
    thousand images is trouble. A number that is not finite is trouble at once.

    >>> look({"loss/generator": float("nan")}, [], 2000, {}, 50).sentence
    'loss/generator is not a finite number any more: lower training.learning_rate'
    """
    for name, value in line.items():
        if not math.isfinite(value):
            sentence = f"{name} is not a finite number any more: lower training.learning_rate"
            return Trouble(sentence, images, fatal=True)
    signs: dict[str, tuple[bool, str]] = {}
    for phase in phases:
        loss = line.get(f"loss/{phase.name}")
        if phase.floor is not None and loss is not None:
            signs[f"{phase.name} at its floor"] = (
                loss < phase.floor + NEAR_FLOOR,
                f"the loss of the {phase.name} has been as low as can be for {patience:g} thousand images, "
                "so the other network learns nothing: lower its learning rate, smooth the labels "
                "(objective.real_label) or add an augmentation",
            )
    if "variety" in line:
        signs["no variety"] = (
            line["variety"] < LITTLE_VARIETY,
            f"generated images have been nearly all the same for {patience:g} thousand images: lower the "
            "generator's learning rate, or take another loss (objective.loss) or a larger batch",
        )
    for sign, (present, sentence) in signs.items():
        if not present:
            since.pop(sign, None)
        elif images - since.setdefault(sign, images) >= patience * 1000:
            return Trouble(sentence, since.pop(sign))
    return None


def recover(
    trouble: Trouble,
    fabric: Fabric,
    state: TrainingState,
    recipe: Recipe,
    run: Path,
    logs: Logs | None,
    progress: Progress | None,
) -> None:
    """Say what is wrong. Go back to the last good snapshot if there is one and the recipe still allows it.

    Raises:
        UserError: numbers are not finite, and there is no way back.
    """
    images, most = state.images, recipe.training.rollbacks
    allowed = state.rollbacks < most
    gone_back = allowed and go_back(state, run, trouble.well_until)
    fabric.barrier()  # wait, so that no process removes a snapshot that another still reads
    if gone_back:
        then = f"back to {state.images:,} images, {state.rollbacks} of {most} times"
    else:
        why = "no snapshot from before it" if allowed else f"went back {state.rollbacks} times already"
        then = f"{why}; training {'stops' if trouble.fatal else 'goes on'}"
    told = f"at {images:,} images {trouble.sentence} ({then})"
    if logs:
        logs.trouble(images, told, state.images if gone_back else None)
    announce(progress, told)
    if gone_back and fabric.is_global_zero:
        for path in snapshots(run):
            if path.stem > f"snapshot-{state.images:012d}":
                path.unlink()
        save(state, recipe, run)  # saves the count too, or a killed run could go back without end
    if trouble.fatal and not gone_back:
        raise UserError(f"{run}: {told}")
