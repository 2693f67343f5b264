"""Training as a list of phases."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Loss = tuple[Tensor, dict[str, Tensor]]


class Step:
    """What one training step gives to its phases.

    Attributes:
        real: images of the batch, (B, C, H, W) in [-1, 1].
        latents: (B, *latent_shape), fresh for this step.
        augment: what images go through before a discriminator sees them; differentiable.
        images: seen in training before this step.
        given: the conditions of the batch (B, labels), numbers of values, alone in a tuple; empty where
            nothing is conditional. Networks take it behind their other arguments.
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

        Parts are new at every call, so phases share no activations: memory for the gradient of one phase is
        freed before the next begins.
        """
        if size == 0:
            return [self]
        every = zip(*(batch.split(size) for batch in (self.real, self.latents, *self.given)), strict=True)
        return [
            Step(real, latents, self.augment, self.images, tuple(given)) for real, latents, *given in every
        ]

    def augmented(self, images: Tensor) -> Tensor:
        """``images`` (B, C, H, W) augmented; image i gets the same transformation at every call.

        So a real image and its reconstruction are shifted and cut alike.
        """
        seed = self.once("augmentation", lambda: int(torch.randint(2**62, ())))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.augment(images)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, which runs only for the first phase of the step that asks."""
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]


class Phase:
    """One thing to minimise.

    Attributes:
        name: as in the log and in the recipe's table of learning rates.
        groups: what it trains, by the name that the recipe's table of learning rates has for it.
        parameters: all of them; gradients land nowhere else.
        loss: from the step to a scalar and to numbers for the log.
        every: it runs at the last of every ``every`` steps: lazy regularisation (Karras et al. 2020, section
            3.1), or a generator whose critic takes several steps for one of its own.
        clip_gradients: entries of gradients are cut to ± this before a step; 0: left as they are.
        clip_weights: entries of what it trains are cut to ± this after a step; 0: left as they are.
        floor: what its loss (``loss/`` and its name in the log) cannot fall below, if to reach it means that
            there is nothing left to learn; None: no such value.
        judge: from a step of held-out faces to numbers for the log that tell how they fare; None: none.
        shares: the phase whose optimiser and learning rate it uses; None: it has its own.
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
        """``parts`` are trained beside ``parameters``, each with a learning rate of its own."""
        self.name, self.loss, self.every, self.judge = name, loss, every, judge
        self.clip_gradients, self.clip_weights, self.floor = clip_gradients, clip_weights, floor
        self.shares = shares
        groups = {name: parameters, **(parts or {})}
        self.groups = {part: [one for one in some if one.requires_grad] for part, some in groups.items()}
        self.parameters = [parameter for some in self.groups.values() for parameter in some]


def pace(phase: Phase, phases: Sequence[Phase]) -> float:
    """What ``phase``'s learning rate and the exponents of its betas are multiplied by.

    An optimiser that a lazy phase shares takes (k + 1) / k steps where it took one, so each is k / (k + 1) of
    it (Karras et al. 2020, appendix B, lazy regularization).
    """
    owner = phase.shares or phase.name
    steps = 1 + sum(1 / other.every for other in phases if other.shares == owner)
    return 1 / steps
