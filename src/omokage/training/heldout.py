"""What a training says of faces that it does not see, without leaving a trace in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..objectives.phase import Phase
from .steps import Steps


@contextmanager
def untouched(networks: nn.Module) -> Iterator[None]:
    """No gradients; in the end buffers (batch-norm statistics, ...) and random state are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in networks.buffers()]
    devices = {buffer.device for buffer, _ in buffers if buffer.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def held_out_numbers(
    networks: nn.Module, phases: Sequence[Phase], others: Steps, images: int, seed: int
) -> dict[str, float]:
    """What the phases say of a batch of held-out faces, after ``images`` images; randomness is from ``seed``.

    Networks are as in training (batch norm by the batch, dropout), so that the numbers can be compared with
    those of real images.
    """
    told: dict[str, Tensor] = {}
    with untouched(networks):
        torch.manual_seed(seed)
        step = others.step(others.pixels(images), images)
        for phase in phases:
            if phase.judge is not None:
                told |= phase.judge(step)
    return {name: float(value) for name, value in told.items()}
