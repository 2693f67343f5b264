"""A generator against a discriminator (Goodfellow et al. 2014), with any of the adversarial losses."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .adversarial import ADVERSARIAL_LOSSES
from .phase import Loss, Phase, Step


def gan(
    networks: nn.ModuleDict,
    *,
    loss: str = "non-saturating",  # a name of ADVERSARIAL_LOSSES
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``.

    Both see the same generated images in a step, so that the generator runs once. A discriminator with a
    method ``features`` (a frozen network, differentiable for its input) judges those in place of images, and
    that method, too, runs once. Logits are one tensor, or a list of them whose losses are added.
    """
    generator, discriminator = networks["generator"], networks["discriminator"]
    losses = ADVERSARIAL_LOSSES[loss]()
    look = getattr(discriminator, "features", lambda images: images)

    def judged(seen: Any) -> list[Tensor]:
        logits = discriminator(seen)
        return [scale.float() for scale in (logits if isinstance(logits, list) else [logits])]

    def generated(step: Step) -> Any:
        return step.once("generated", lambda: look(step.augment(generator(step.latents))))

    def discriminator_loss(step: Step) -> Loss:
        with torch.no_grad():
            seen = look(step.augment(step.real))
        images = _detached(generated(step))
        with parametrize.cached():  # spectral norms once for both
            real, fake = judged(seen), judged(images)
        total = torch.stack([losses.discriminator(r, f) for r, f in zip(real, fake, strict=True)]).sum()
        return total, {
            "loss/discriminator": total,
            "logits/real": torch.stack([scale.mean() for scale in real]).mean(),
            "logits/generated": torch.stack([scale.mean() for scale in fake]).mean(),
        }

    def generator_loss(step: Step) -> Loss:
        total = torch.stack([losses.generator(scale) for scale in judged(generated(step))]).sum()
        return total, {"loss/generator": total}

    return [
        Phase("discriminator", discriminator.parameters(), discriminator_loss),
        Phase("generator", generator.parameters(), generator_loss),
    ]


def _detached(seen: Any) -> Any:
    return [tensor.detach() for tensor in seen] if isinstance(seen, list) else seen.detach()
