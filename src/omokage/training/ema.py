"""The moving average of a network's weights, from which samples are drawn."""

import torch
from torch import Tensor, nn


def decay_for(batch: int, half_life: float, images: int, ramp: float) -> float:
    """The share of the old average that is kept after a step of ``batch`` images.

    ``half_life`` is in images. It is limited to ``ramp`` times the images seen, so that the average soon
    forgets the random initial weights (EMA ramp-up in the reference implementation of Karras et al. 2020).
    """
    span = min(half_life, ramp * images)
    return 0.5 ** (batch / span) if span > 0 else 0.0


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every parameter and floating-point buffer of ``average`` towards ``network``.

    Batch-norm statistics are averaged too: the current statistics do not fit the averaged weights.
    """
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    floating: list[tuple[Tensor, Tensor]] = []
    whole: list[tuple[Tensor, Tensor]] = []
    for mean, value in pairs:
        (floating if mean.is_floating_point() else whole).append((mean, value))
    torch._foreach_lerp_([mean for mean, _ in floating], [value for _, value in floating], 1 - decay)
    for mean, value in whole:
        mean.copy_(value)
