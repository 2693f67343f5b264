"""Crops of eyes and mouths, judged by heads of their own (Sauer et al. 2023, StyleGAN-T, section 3.2)."""

from typing import Any

import torch
from torch import Tensor

from .adversarial import AdversarialLoss
from .game import Game, detached
from .phase import Loss, Step

# Centres of the crops, which are half as high and wide as a face: eyes lie somewhat below the middle of a
# face that fills its picture, the mouth at three quarters.
ACROSS = (0.4, 0.6)
DOWN = (0.5, 0.75)


class Details:
    """The same face seen twice: as a whole by the discriminator's heads, and part of it enlarged by others.

    A whole view averages over all patches of a face, so a smeared eye costs the generator little. ``count``
    faces of a batch are seen so too. They are the last of it: the first may reconstruct real faces. The heads
    for crops know no conditions.

    Attributes:
        weight: factor of both losses.
    """

    def __init__(self, game: Game, losses: AdversarialLoss, count: int, weight: float) -> None:
        self.game, self.losses, self.count, self.weight = game, losses, count, weight
        self.inner: Any = game.inner

    def discriminator(self, step: Step, total: Tensor) -> Loss:
        """Add the loss of the heads that see crops."""
        with torch.no_grad():
            seen = self._seen(step.real)
        real = self._judged(seen)
        fake = self._judged(detached(self._looked(step)))
        loss = torch.stack([self.losses.discriminator(r, f) for r, f in zip(real, fake, strict=True)]).sum()
        return total + self.weight * loss, {"loss/details": loss}

    def generator(self, step: Step, total: Tensor) -> Loss:
        """Add the generator's loss at these heads."""
        loss = torch.stack([self.losses.generator(x) for x in self._judged(self._looked(step))]).sum()
        return total + self.weight * loss, {}

    def _looked(self, step: Step) -> list[Tensor]:
        return step.once("looked details", lambda: self._seen(self.game.drawn(step)))

    def _seen(self, images: Tensor) -> list[Tensor]:
        images = images[-self.count :]
        low, high = (torch.tensor(ends, device=images.device) for ends in zip(ACROSS, DOWN, strict=True))
        places = low + (high - low) * torch.rand(len(images), 2, device=images.device)
        features: list[Tensor] = self.inner.detail_features(images, places)
        return features

    def _judged(self, features: list[Tensor]) -> list[Tensor]:
        logits: list[Tensor] = self.inner.judge_details(features)
        return [x.float() for x in logits]
