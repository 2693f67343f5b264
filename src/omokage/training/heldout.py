"""Numbers for held-out faces during training. Computing them does not change the training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..hardware import seed_generators
from ..objectives.phase import Phase
from .steps import Steps


@contextmanager
def untouched(networks: nn.Module) -> Iterator[None]:
    """A context without gradients that restores buffers (batch-norm statistics, ...) and random state."""
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
    """The numbers of all phases for a batch of held-out faces after ``images`` images, seeded with ``seed``.

    The networks are in training mode (batch norm by the batch, dropout), so that the numbers can be compared
    with those of training faces.
    """
    told: dict[str, Tensor] = {}
    with untouched(networks):
        seed_generators(seed)
        step = others.step(others.pixels(images), images)
        for phase in phases:
            if phase.judge is not None:
                told |= phase.judge(step)
    return {name: float(value) for name, value in told.items()}
