"""The whole state of a training, and its snapshots."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files import replacing
from ..listing import snapshots
from ..parameters import count
from ..recipe import Recipe
from ..snapshot import load_weights, read_snapshot, write_snapshot
from .averages import Averages


@dataclass
class TrainingState:
    """Networks, averages, optimisers and counters.

    Attributes:
        images: number of images seen by all processes together.
        steps: number of steps of the loop.
        seconds: seconds of training.
        rollbacks: how many times training went back to a snapshot because something was wrong.
        signs: signs of trouble, with the number of images at which each began.
        numbers: the numbers since the last line of the log.
        due: work that is due now and not done yet: "grid", "film", "fid".
        machine: the machine that trains now, for the record.
        origin: the snapshot whose weights the run began with; empty if there is none.
    """

    networks: nn.ModuleDict
    average: nn.Module
    optimisers: Mapping[str, torch.optim.Optimizer]
    face_set: str
    images: int = 0
    steps: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    signs: dict[str, int] = field(default_factory=dict)
    numbers: Averages = field(default_factory=Averages)
    due: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def sound(self) -> bool:
        """Whether the averaged weights are finite."""
        return all(bool(tensor.isfinite().all()) for tensor in self.average.parameters())

    def progress(self) -> dict[str, Any]:
        """Everything that is not a tensor."""
        names = ("images", "steps", "seconds", "face_set", "rollbacks", "signs", "due")
        parameters = {role: count(network).as_dict() for role, network in self.networks.items()}
        return {name: getattr(self, name) for name in names} | {
            "numbers": self.numbers.as_dict(),
            "parameters": parameters,
            "machine": self.machine,
        } | ({"origin": self.origin} if self.origin else {})

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by name."""
        found = {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        found |= {f"networks.{name}": tensor for name, tensor in self.networks.state_dict().items()}
        for phase, optimiser in self.optimisers.items():
            for index, entries in optimiser.state_dict()["state"].items():
                found |= {f"optimisers.{phase}.{index}.{name}": value for name, value in entries.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Load what `tensors` returned. Raises `UserError` if it does not fit."""
        load_weights(self.average, below(tensors, "average."), path)
        load_weights(self.networks, below(tensors, "networks."), path)
        for phase, optimiser in self.optimisers.items():
            known = below(tensors, f"optimisers.{phase}.")
            parameters = [one for group in optimiser.param_groups for one in group["params"]]
            for index, parameter in enumerate(parameters):
                entries = below(known, f"{index}.")
                # As the optimiser makes them: in the parameter's memory format, but counters unchanged.
                optimiser.state[parameter] = {
                    name: torch.empty_like(parameter).copy_(value)
                    if value.shape == parameter.shape
                    else value
                    for name, value in entries.items()
                }


def save(state: TrainingState, recipe: Recipe, run: Path) -> Path:
    """Write a snapshot and remove those that are too old.

    Raises:
        UserError: the weights are not finite (a broken snapshot never replaces a good one), or the snapshot
            cannot be written.
    """
    if not state.sound():
        raise UserError(
            f"{run}: the weights are no longer finite at {state.images:,} images; sample the last snapshot, "
            "or lower training.learning_rate and train into another folder"
        )
    path = run / f"snapshot-{state.images:012d}.safetensors"
    write_snapshot(path, state.tensors(), recipe, state.progress())
    if recipe.training.keep:
        # Keep one from before the first sign of trouble, to go back to.
        good = _until(snapshots(run), min(state.signs.values(), default=state.images))[-1:]
        for old in snapshots(run)[: -recipe.training.keep]:
            if old not in good:
                old.unlink(missing_ok=True)
    return path


def _until(paths: list[Path], images: int) -> list[Path]:
    return [path for path in paths if int(path.stem.removeprefix("snapshot-")) <= images]


def go_back(state: TrainingState, run: Path, images: int) -> bool:
    """Go back to the newest complete snapshot of at most ``images`` images; False if there is none.

    The time that has passed is kept, and ``rollbacks`` grows by one. Without a snapshot nothing changes.
    """
    for path in reversed(_until(snapshots(run), images)):
        try:
            tensors, _, progress = read_snapshot(path)
        except UserError:
            continue
        state.restore(tensors, path)
        state.images, state.steps = progress["images"], progress["steps"]
        state.numbers, state.due = Averages.restored(progress.get("numbers")), []
        state.rollbacks += 1
        state.signs.clear()
        return True
    return False


def refuse_other(
    run: Path, recipe: Recipe, face_set: str, written: Recipe, progress: Mapping[str, Any]
) -> None:
    """Raise `UserError` if a snapshot of ``run`` belongs to another recipe or face set."""
    if not recipe.trained_alike(written):
        raise UserError(
            f"{run} was trained with other settings; give another --out, or see {run / 'recipe.toml'}"
        )
    if progress["face_set"] != face_set:
        raise UserError(
            f"{run} was trained on another face set, or with other labels of its faces; give that face set "
            "with --data, or another --out"
        )


def resume(state: TrainingState, recipe: Recipe, run: Path) -> None:
    """Resume from the newest snapshot of the run; for a new run, write the resolved recipe.

    If a snapshot cannot be read, perhaps because a disk failed, the one before it is used.

    Raises:
        UserError: the run has another recipe or face set, or none of its snapshots can be read.
    """
    problem = None
    for path in reversed(snapshots(run)):
        try:
            tensors, written, progress = read_snapshot(path)
        except UserError as error:
            problem = problem or error
            continue
        refuse_other(run, recipe, state.face_set, written, progress)
        state.restore(tensors, path)
        state.images, state.steps, state.seconds = progress["images"], progress["steps"], progress["seconds"]
        state.rollbacks, state.signs = progress.get("rollbacks", 0), progress.get("signs", {})
        state.numbers = Averages.restored(progress.get("numbers"))
        state.due, state.origin = progress.get("due", []), progress.get("origin", {})
        return
    if problem is not None:
        raise problem
    with replacing(run / "recipe.toml") as unfinished:
        unfinished.write_text(recipe.to_toml(), encoding="utf-8")


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, with the prefix removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
