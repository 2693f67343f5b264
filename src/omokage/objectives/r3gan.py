"""R3GAN's loss: relativistic pairing with both zero-centred penalties.

Huang et al. 2024 (arXiv 2501.05441), equations 3 and 4, algorithm 1. The discriminator says how much more
real a face is than a generated one beside it, so the generator cannot gain by drawing one kind of face only.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Count
from ..errors import UserError
from ..models.conditional import unconditioned
from ..schedule import check_schedule, value_at
from .adaptive import augmented
from .game import spread
from .phase import Loss, Phase, Step


def paired(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss of logits (B,): softplus(-(real - fake)), its mean; 0 at the best.

    The generator's is the same with both exchanged.

    >>> [round(paired(torch.tensor([a]), torch.tensor([0.0])).item(), 4) for a in (-2.0, 0.0, 2.0)]
    [2.1269, 0.6931, 0.1269]
    """
    return F.softplus(fake - real).mean()


def zero_centred(logits: Tensor, images: Tensor) -> Tensor:
    """The mean squared length of the gradient of each image's logit for that image. Differentiable."""
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.float().square().flatten(1).sum(1).mean()


def r3gan(
    networks: nn.ModuleDict,
    *,
    gamma: Any = 2.0,  # R1 and R2 have half this weight; a number or a schedule over the images seen
    penalty_every: Count = 1,  # R1 and R2 come once in so many steps; their weight is multiplied by it
    # Probability of each augmentation of `objectives.adaptive`, a number or a schedule. They come after the
    # recipe's own augmentations.
    augmentation: Any = 0.0,
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``, and ``penalties`` if they are not due at every step.

    R1 and R2 are the squared gradients at real and at generated images, before their augmentation: gradients
    go through it. Real and generated images are paired as they stand in the batch; with conditions, both of a
    pair have the same.

    Raises:
        UserError: there is no discriminator that sees images, or a schedule is wrong.
    """
    generator: Any = networks["generator"]
    if "discriminator" not in networks or hasattr(unconditioned(networks["discriminator"]), "features"):
        raise UserError(
            'objective.name: r3gan needs a [discriminator] that sees images, such as name = "r3gan"'
        )
    for name, schedule in (("gamma", gamma), ("augmentation", augmentation)):
        check_schedule(schedule, f"objective.{name}")
    discriminator: Any = networks["discriminator"]

    def judged(images: Tensor, step: Step) -> Tensor:
        probability = min(1.0, value_at(augmentation, step.images))
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 is too coarse for colours
            seen = augmented(step.augment(images.float()), probability)
        return discriminator(seen, *step.given).float()

    def drawn(step: Step) -> Tensor:
        return step.once("drawn", lambda: generator(step.latents, *step.given))

    def leaf(images: Tensor) -> Tensor:
        return images.detach().float().requires_grad_()

    def penalties(step: Step, real: Tensor, fake: Tensor, logits: Sequence[Tensor]) -> Loss:
        r1, r2 = zero_centred(logits[0], real), zero_centred(logits[1], fake)
        weight = value_at(gamma, step.images) / 2 * penalty_every
        return weight * (r1 + r2), {"penalty/r1": r1, "penalty/r2": r2}

    def discriminator_loss(step: Step) -> Loss:
        real, fake = leaf(step.real), leaf(drawn(step))
        logits = judged(real, step), judged(fake, step)
        total = paired(*logits)
        told = {"logits/real": logits[0].mean(), "logits/generated": logits[1].mean()}
        told["loss/discriminator"] = total
        if penalty_every == 1:
            more, numbers = penalties(step, real, fake, logits)
            total, told = total + more, told | numbers
        return total, told

    def penalty_loss(step: Step) -> Loss:
        with torch.no_grad():
            others = generator(step.latents, *step.given)
        real, fake = leaf(step.real), leaf(others)
        return penalties(step, real, fake, (judged(real, step), judged(fake, step)))

    def generator_loss(step: Step) -> Loss:
        with torch.no_grad():
            real = judged(step.real, step)
        total = paired(judged(drawn(step), step), real)
        told = {"loss/generator": total}
        if len(step.real) > 1:
            told["variety"] = spread(drawn(step)) / spread(step.real).clamp_min(1e-6)
        return total, told

    def judge(step: Step) -> dict[str, Tensor]:
        return {"logits/held-out": judged(step.real, step).mean()}

    phases = [
        Phase("discriminator", discriminator.parameters(), discriminator_loss, floor=0.0, judge=judge),
        Phase("generator", generator.parameters(), generator_loss),
    ]
    if penalty_every > 1:
        shared = {"every": penalty_every, "shares": "discriminator"}
        phases.insert(0, Phase("penalties", discriminator.parameters(), penalty_loss, **shared))  # type: ignore[arg-type]
    return phases
