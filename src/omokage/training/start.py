"""Fine-tuning: a new run begins with the weights of another one."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import UserError
from ..recipe import Recipe
from ..snapshot import read_snapshot
from .state import TrainingState, below

NAMED = 3  # at most this many weights that do not fit are named


def begin_from(state: TrainingState, recipe: Recipe, path: Path) -> Iterator[str]:
    """Load the weights of the snapshot ``path`` into ``state``; yield sentences that say what was taken.

    Optimisers and counters start fresh. All weights of the generator must fit. A snapshot made only for
    sampling has no other weights than the averaged ones; the generator then takes those. Any other network
    that is missing or does not fit keeps its random weights.

    Raises:
        UserError: the snapshot cannot be read, or its generator does not fit the recipe; the message names
            what differs.
    """
    tensors, other, progress = read_snapshot(path)
    average, networks = below(tensors, "average."), below(tensors, "networks.")
    label = f"{path}: a {other.model['name']}"
    _check(state.average, average, recipe, other, path)
    _load(state.average, average)
    state.origin = {
        "snapshot": hashlib.sha256(path.read_bytes()).hexdigest(),
        "recipe": other.name,
        "images": progress.get("images", 0),
    }
    yield f"{label} after {progress.get('images', 0):,} images; optimisers and counters begin anew"
    for role, network in state.networks.items():
        own = below(networks, f"{role}.")
        if role == "generator" and not own:
            own = average
            yield "it has averaged weights only: the generator begins with those"
        if not own:
            yield f"it has no {role}: that begins anew"
        elif unfit := _unfit(network, own):
            yield f"its {role} does not fit ({unfit}): that begins anew"
        else:
            _load(network, own)


def check_start(network: nn.Module, recipe: Recipe, path: Path) -> None:
    """Raise `UserError` unless ``network`` can take the averaged weights of the snapshot ``path``."""
    average, other, _ = read_snapshot(path, "average.")
    _check(network, average, recipe, other, path)


def _check(
    network: nn.Module, average: Mapping[str, Tensor], recipe: Recipe, other: Recipe, path: Path
) -> None:
    if unfit := _unfit(network, average):
        raise UserError(
            f"--from {path}: a {other.model['name']} does not fit {recipe.name}: {unfit}; train the recipe "
            f"{other.name}, or change model settings so that both agree (--dry-run shows them)"
        )


def _unfit(network: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """The weights that are missing, unknown or of another shape, in words; "" if all fit."""
    own = network.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is not known" for name in tensors if name not in own]
    wrong += [
        f"{name} is {_shape(tensors[name])} there and {_shape(own[name])} here"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return ", ".join(wrong[:NAMED]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = network.state_dict()
    network.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})
