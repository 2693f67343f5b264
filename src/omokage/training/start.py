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

    Optimisers and counters start fresh. All weights of the generator must fit, unless the recipe has the same
    generator for larger images. Such a generator grows out of the smaller one (Karras et al. 2018, arXiv
    1710.10196, section 2; Sauer et al. 2022, arXiv 2202.00273, section 3.3): the layers that both have are
    taken, and so are those of the other networks. A snapshot made only for sampling has the averaged weights,
    which the generator then takes, and at most an encoder. Any other network that is missing or does not fit
    keeps its random weights.

    Raises:
        UserError: the snapshot cannot be read, or its generator does not fit the recipe; the message names
            what differs.
    """
    tensors, other, progress = read_snapshot(path)
    average, networks = below(tensors, "average."), below(tensors, "networks.")
    label = f"{path}: a {other.model['name']}"
    _check(state.average, average, recipe, other, path)
    grows = bool(_unfit(state.average, average))
    _load(state.average, average)
    state.origin = {
        "snapshot": hashlib.sha256(path.read_bytes()).hexdigest(),
        "recipe": other.name,
        "images": progress.get("images", 0),
    }
    yield f"{label} after {progress.get('images', 0):,} images; optimisers and counters begin anew"
    if grows:
        sizes = " to ".join("×".join(map(str, of.model["resolution"])) for of in (other, recipe))
        yield f"it grows from {sizes} px: {_parts(state.average, average)}"
    for role, network in state.networks.items():
        own = below(networks, f"{role}.")
        if role == "generator" and not own:
            own = average
            yield "it has averaged weights only: the generator begins with those"
        if not own:
            yield f"it has no {role}: that begins anew"
        elif not (unfit := _unfit(network, own)) or (grows and role == "generator"):
            _load(network, own)
        elif (grows or _is_part(network, own)) and (shared := _shared(network, own)):
            _load(network, shared)
            yield f"its {role}: {_parts(network, shared)}"
        else:
            yield f"its {role} does not fit ({unfit}): that begins anew"


def check_start(network: nn.Module, recipe: Recipe, path: Path) -> None:
    """Raise `UserError` unless ``network`` can take the averaged weights of the snapshot ``path``."""
    average, other, _ = read_snapshot(path, "average.")
    _check(network, average, recipe, other, path)


def _check(
    network: nn.Module, average: Mapping[str, Tensor], recipe: Recipe, other: Recipe, path: Path
) -> None:
    unfit = _unfit(network, average)
    if unfit and not _grows(network, average, recipe, other):
        raise UserError(
            f"--from {path}: a {other.model['name']} does not fit {recipe.name}: {unfit}; train the recipe "
            f"{other.name}, or change model settings so that both agree (--dry-run shows them)"
        )


def _grows(network: nn.Module, average: Mapping[str, Tensor], recipe: Recipe, other: Recipe) -> bool:
    """Whether ``network`` is the other recipe's generator with further layers for larger images."""
    mine, theirs = recipe.model, other.model
    wide, narrow = (list(settings.get("channels", [])) for settings in (mine, theirs))
    large, small = (settings.get("resolution") for settings in (mine, theirs))
    if mine["name"] != theirs["name"] or not large or not small or not narrow:
        return False
    if wide[: len(narrow)] != narrow:
        return False
    larger = all(a > b for a, b in zip(large, small, strict=True))
    return larger and not _unlike(network.state_dict(), average)


def _shared(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that ``network`` has too, in the same shape."""
    own = network.state_dict()
    unlike = _unlike(own, tensors)
    return {name: tensor for name, tensor in tensors.items() if name in own and name not in unlike}


def _is_part(network: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether all ``tensors`` fit, though the network has more: a small snapshot has only parts."""
    own = network.state_dict()
    return all(name in own and own[name].shape == tensor.shape for name, tensor in tensors.items())


def _unlike(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """The names that both have in different shapes."""
    return [name for name in own if name in tensors and own[name].shape != tensors[name].shape]


def _parts(network: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """How many weights are taken and how many begin anew, in words."""
    own = network.state_dict()
    taken = sum(own[name].numel() for name in own if name in tensors)
    anew = sum(own[name].numel() for name in own if name not in tensors)
    return f"{taken:,} of its numbers are taken, {anew:,} begin anew"


def _unfit(network: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """The weights that are missing, unknown or of another shape, in words; "" if all fit."""
    own = network.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is not known" for name in tensors if name not in own]
    wrong += [
        f"{name} is {_shape(tensors[name])} there and {_shape(own[name])} here"
        for name in _unlike(own, tensors)
    ]
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return ", ".join(wrong[:NAMED]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors that ``network`` has; the others keep their values."""
    own = network.state_dict()
    network.load_state_dict({name: tensors.get(name, own[name]).to(own[name].dtype) for name in own})
