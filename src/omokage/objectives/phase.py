"""Training as a list of phases."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..hardware import seed_generators

Loss = tuple[Tensor, dict[str, Tensor]]


class Step:
    """The inputs of one training step for its phases.

    Attributes:
        real: images of the batch, (B, C, H, W) in [-1, 1].
        latents: (B, *latent_shape), drawn for this step.
        augment: the differentiable augmentation of images for a discriminator.
        images: number of images seen in training before this step.
        given: a tuple with the conditions of the batch, value numbers (B, labels); an empty tuple without
            conditions. Networks take them after their other arguments.
    """

    def __init__(
        self,
        real: Tensor,
        latents: Tensor,
        augment: Callable[[Tensor], Tensor],
        images: int = 0,
        given: tuple[Tensor, ...] = (),
    ) -> None:
        self.real, self.latents, self.augment, self.images = real, latents, augment, images
        self.given = given
        self._shared: dict[str, Any] = {}

    def parts(self, size: int) -> list["Step"]:
        """The step split into parts of ``size`` images; 0: not split.

        Every call makes new parts, so phases share no activations. The memory for the gradients of one phase
        is freed before the next begins.
        """
        if size == 0:
            return [self]
        every = zip(*(batch.split(size) for batch in (self.real, self.latents, *self.given)), strict=True)
        return [
            Step(real, latents, self.augment, self.images, tuple(given)) for real, latents, *given in every
        ]

    def augmented(self, images: Tensor) -> Tensor:
        """``images`` (B, C, H, W) augmented; image i gets the same transformation at every call.

        So a real image and its reconstruction are shifted and cut in the same way.
        """
        seed = self.once("augmentation", lambda: int(torch.randint(2**62, ())))
        with torch.random.fork_rng():
            seed_generators(seed)
            return self.augment(images)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, which runs once a step and name."""
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]


class Phase:
    """One part of a training step: a loss and the parameters that minimise it.

    Attributes:
        name: its name in the log and in the recipe's table of learning rates.
        groups: the parameters that it trains, by their names in the recipe's table of learning rates.
        parameters: the parameters of all groups; only they get gradients.
        loss: a function from the step to the loss, a scalar, and numbers for the log.
        every: it runs at the last of every ``every`` steps. This serves lazy regularisation (Karras et al.
            2020, section 3.1), and generators whose critic takes several steps for each of theirs.
        clip_gradients: entries of gradients are clamped to ± this before a step; 0: not clamped.
        clip_weights: parameters are clamped to ± this after a step; 0: not clamped.
        floor: the lower bound of its loss (``loss/`` and its name in the log) at which nothing is left to
            learn; None if there is none.
        judge: a function from a step of held-out faces to numbers for the log; None if there is none.
        shares: the phase whose optimiser and learning rate it uses; None if it has its own.
    """

    def __init__(
        self,
        name: str,
        parameters: Iterable[torch.nn.Parameter],
        loss: Callable[[Step], Loss],
        every: int = 1,
        clip_gradients: float = 0.0,
        clip_weights: float = 0.0,
        floor: float | None = None,
        judge: Callable[[Step], dict[str, Tensor]] | None = None,
        shares: str | None = None,
        parts: Mapping[str, Iterable[torch.nn.Parameter]] | None = None,
    ) -> None:
        """``parts`` are trained together with ``parameters``; each has its own learning rate."""
        self.name, self.loss, self.every, self.judge = name, loss, every, judge
        self.clip_gradients, self.clip_weights, self.floor = clip_gradients, clip_weights, floor
        self.shares = shares
        groups = {name: parameters, **(parts or {})}
        self.groups = {part: [one for one in some if one.requires_grad] for part, some in groups.items()}
        self.parameters = [parameter for some in self.groups.values() for parameter in some]


def pace(phase: Phase, phases: Sequence[Phase]) -> float:
    """The factor for the learning rate of ``phase`` and for the exponents of its betas.

    If a lazy phase runs every k steps and shares an optimiser, the optimiser makes (k + 1) / k times as many
    steps. Each step is therefore scaled by k / (k + 1) (Karras et al. 2020, appendix B, lazy regularization).
    """
    owner = phase.shares or phase.name
    steps = 1 + sum(1 / other.every for other in phases if other.shares == owner)
    return 1 / steps
