"""The optimisers that a recipe may name; the learning rate is set at every step."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

Parameters = Sequence[Sequence[nn.Parameter]]  # groups, each with its own learning rate


def adam(parameters: Parameters, betas: Sequence[float]) -> Optimizer:
    """Kingma & Ba 2015, algorithm 1."""
    groups = [{"params": group} for group in parameters]
    return torch.optim.Adam(groups, betas=(betas[0], betas[1]), fused=True)


def rmsprop(parameters: Parameters, betas: Sequence[float]) -> Optimizer:
    """Tieleman & Hinton 2012, lecture 6.5: like Adam, but without bias correction.

    As in Adam, the first beta is the momentum and the second the decay of the squared gradients.
    """
    groups = [{"params": group} for group in parameters]
    return torch.optim.RMSprop(groups, momentum=betas[0], alpha=betas[1])


OPTIMISERS: dict[str, Callable[[Parameters, Sequence[float]], Optimizer]] = {"adam": adam, "rmsprop": rmsprop}
