"""A growing generator against a growing discriminator (Karras et al. 2018 and 2019)."""

from typing import Literal

import torch
from torch import Tensor, nn

from ..abilities import Grows
from ..bounds import Count, NotNegative
from ..errors import UserError
from .adversarial import ADVERSARIAL_LOSSES
from .game import spread
from .penalties import PENALTIES, r1
from .phase import Loss, Phase, Step


def progressive(
    networks: nn.ModuleDict,
    *,
    loss: Literal["non-saturating", "least-squares", "wasserstein", "hinge"] = "non-saturating",
    penalty: Literal["none", "r1", "gulrajani"] = "r1",  # on the discriminator's gradient for the image
    penalty_weight: NotNegative = 10.0,  # gamma for R1, whose weight is half of it; lambda for "gulrajani"
    penalty_every: Count = 1,  # computed once in this number of steps; the weight is multiplied by it
    drift: NotNegative = 0.0,  # weight of the squared logits of real images (ProGAN, appendix A.1: 0.001)
    redrawn: bool = False,  # draw images again for the generator's phase: slower, less memory
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``.

    At every step, the number of images seen sets the generator's stage. Real images and the discriminator
    follow that stage, so it depends only on the position in training. A lazy penalty (Karras et al. 2020,
    section 3.1) is a separate phase, ``penalty``, with the discriminator's optimiser.

    Raises:
        UserError: the settings contradict each other, or the networks do not grow.
    """
    if "discriminator" not in networks:
        raise UserError('objective.name: progressive needs a table [discriminator] with name = "progan"')
    generator, discriminator = networks["generator"], networks["discriminator"]
    if not isinstance(generator, Grows):
        raise UserError("objective.name: progressive needs a model that grows, progan or stylegan")
    if not hasattr(discriminator, "alpha"):
        raise UserError('discriminator.name: progressive needs a discriminator that grows, "progan"')
    for what in ("sizes", "start"):
        if getattr(generator, what) != getattr(discriminator, what):
            raise UserError(
                "discriminator: its resolution, base and start must be those of the model, "
                f"resolution = {list(generator.sizes[-1])}, base = {list(generator.sizes[0])} "  # type: ignore[index]
                f"and start = {generator.start}"
            )
    if penalty_every < 1:
        raise UserError(f"objective.penalty_every: got {penalty_every}, must be at least 1")
    losses = ADVERSARIAL_LOSSES[loss]()
    penalise = {"none": None, "r1": r1, **PENALTIES}[penalty]

    def value(images: Tensor) -> Tensor:
        return discriminator(images).float()

    def shown(step: Step) -> Tensor:
        """Set both networks to this step's stage; return the real images of that stage."""
        generator.grow(step.images)  # type: ignore[operator]
        discriminator.alpha = generator.stage[1]  # type: ignore[index,assignment]
        return step.once("shown", lambda: generator.shown(step.real))  # type: ignore[operator]

    def drawn(step: Step) -> Tensor:
        return step.once("drawn", lambda: generator(step.latents))

    def generated(step: Step) -> Tensor:
        return step.once("generated", lambda: step.augment(drawn(step)))

    def discriminator_loss(step: Step) -> Loss:
        images = step.augment(shown(step))
        if redrawn:
            with torch.no_grad():
                others = step.augment(generator(step.latents))
        else:
            others = generated(step).detach()
        real, fake = value(images), value(others)
        total = losses.discriminator(real, fake)
        told = {
            "loss/discriminator": total,
            "logits/real": real.mean(),
            "logits/generated": fake.mean(),
            "stage/size": torch.tensor(float(min(images.shape[2:]))),
            "stage/faded in": torch.tensor(generator.stage[1]),  # type: ignore[index]
        }
        if drift:
            total = total + drift * real.square().mean()
        if penalise and penalty_every == 1:
            told["penalty"] = penalise(value, images, others)
            total = total + penalty_weight * told["penalty"]
        return total, told

    def lazy_penalty(step: Step) -> Loss:
        assert penalise is not None
        images = step.augment(shown(step))
        others = images if penalty == "r1" else generated(step).detach()
        found = penalise(value, images, others)
        return penalty_weight * penalty_every * found, {"penalty": found}

    def generator_loss(step: Step) -> Loss:
        real = shown(step)
        total = losses.generator(value(generated(step)))
        told = {"loss/generator": total}
        if len(real) > 1:
            told["variety"] = spread(drawn(step)) / spread(real).clamp_min(1e-6)
        return total, told

    def judge(step: Step) -> dict[str, Tensor]:
        return {"logits/held-out": value(step.augment(shown(step))).mean()}

    phases = [
        Phase(
            "discriminator", discriminator.parameters(), discriminator_loss, floor=losses.floor, judge=judge
        ),
        Phase("generator", generator.parameters(), generator_loss),
    ]
    if penalise and penalty_every > 1:
        lazy = Phase(
            "penalty", discriminator.parameters(), lazy_penalty, penalty_every, shares="discriminator"
        )
        phases.insert(1, lazy)
    return phases
