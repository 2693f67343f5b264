"""Counts the parameters of networks without allocating them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

from .families import OBJECTIVES, build_discriminator, build_model
from .recipe import Recipe


@dataclass(frozen=True)
class Count:
    """The numbers of parameters of one network.

    Attributes:
        trained: parameters that training changes.
        frozen: parameters that training does not change, such as those of a feature network.
        statistics: running means and variances of batch norm, which Keras counts as parameters.
    """

    trained: int
    frozen: int = 0
    statistics: int = 0

    @property
    def total(self) -> int:
        """As Keras counts."""
        return self.trained + self.frozen + self.statistics

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the metadata of a snapshot."""
        return asdict(self)


def count(network: nn.Module) -> Count:
    """The numbers of parameters of a network.

    >>> count(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    Count(trained=240, frozen=0, statistics=16)
    """
    parameters = list(network.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in parameters) - trained
    running = ("running_mean", "running_var")
    statistics = sum(buffer.numel() for name, buffer in network.named_buffers() if name.endswith(running))
    return Count(trained, frozen, statistics)


def counted(recipe: Recipe) -> dict[str, Count]:
    """The numbers of parameters of each network of a recipe, by role.

    The roles are ``generator``; ``discriminator`` if there is one; and networks that the objective adds, such
    as the encoder ``reconstruction`` of ``vae-gan``.
    """
    networks = nn.ModuleDict()
    with warnings.catch_warnings(), without_power_iterations(), torch.device("meta"):
        warnings.simplefilter("ignore")  # PyTorch warns of weights that are loaded without memory for them
        networks["generator"] = build_model(recipe.model, recipe.conditions)
        if recipe.discriminator:
            networks["discriminator"] = build_discriminator(recipe.discriminator, recipe.conditions)
        own = len(networks)
        settings = {key: value for key, value in recipe.objective.items() if key != "name"}
        OBJECTIVES[recipe.objective["name"]].load()(networks, **settings)
    found = {role: count(network) for role, network in networks.items()}
    added = list(found.items())[own:]
    return dict(list(found.items())[:own]) | {role: one for role, one in added if one.trained}


@contextmanager
def without_power_iterations() -> Iterator[None]:
    """Within the block, spectral norms iterate nothing.

    For networks without numbers: there the iterations change nothing, and PyTorch takes seconds for them.
    `_power_method` is not documented; where PyTorch has none, the block only takes longer.
    """
    method = getattr(_SPECTRAL_NORM, "_power_method", None)
    if method is None:
        yield
        return
    _SPECTRAL_NORM._power_method = lambda *_: None
    try:
        yield
    finally:
        _SPECTRAL_NORM._power_method = method


_SPECTRAL_NORM: Any = getattr(parametrizations, "_SpectralNorm", None)


def short(number: int) -> str:
    """A count with three digits.

    >>> short(3_576_704), short(410_945), short(460_155_072), short(812)
    ('3.58 M', '411 k', '460 M', '812')
    """
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            value = number / size
            return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"
    return str(number)
