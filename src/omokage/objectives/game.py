"""A generator against a discriminator: the common parts of `gan` and `vae-gan`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..abilities import RecoversLatents
from ..errors import UserError
from ..models.conditional import unconditioned
from .adversarial import ADVERSARIAL_LOSSES, AdversarialLoss
from .penalties import PENALTIES
from .phase import Loss, Phase, Step


class Game:
    """The images of a step as both networks see them; each is computed once a step.

    A discriminator with a method ``features`` (a frozen network, differentiable with respect to its input)
    judges these features and not the images; they are computed once too. Logits are one tensor, or a list of
    tensors whose losses are added.

    Attributes:
        inner: the discriminator without its conditions.
        latents: a function from the step to the latents (B, *latent_shape) for the generated images.
    """

    def __init__(self, networks: nn.ModuleDict, objective: str) -> None:
        if "discriminator" not in networks:
            raise UserError(
                f"objective.name: {objective} needs a table [discriminator], for example with "
                'name = "dcgan"'
            )
        self.generator, self.discriminator = networks["generator"], networks["discriminator"]
        self.inner: Any = unconditioned(self.discriminator)
        self.latents: Callable[[Step], Tensor] = lambda step: step.latents
        self._look: Callable[[Tensor], Any] = getattr(self.discriminator, "features", lambda images: images)

    def judged(self, seen: Any, step: Step) -> list[Tensor]:
        """Logits of the result of `looked` or `seen_real`, one tensor for each scale."""
        logits = self.discriminator(seen, *step.given)
        return [scale.float() for scale in (logits if isinstance(logits, list) else [logits])]

    def value(self, images: Tensor, step: Step) -> Tensor:
        """One number for each image (B,); patches and scales are weighted as in the losses."""
        scales = self.judged(self._look(images), step)
        return torch.stack([scale.reshape(len(scale), -1).mean(1) for scale in scales]).sum(0)

    def shown(self, step: Step) -> Tensor:
        """The real images, augmented."""
        return step.once("real", lambda: step.augmented(step.real))

    def seen_real(self, step: Step) -> Any:
        """The discriminator's input for the augmented real images."""
        with torch.no_grad():
            return step.once("seen", lambda: self._look(self.shown(step)))

    def drawn(self, step: Step) -> Tensor:
        """The generated images."""
        return step.once("drawn", lambda: self.generator(self.latents(step), *step.given))

    def generated(self, step: Step) -> Tensor:
        """The generated images, augmented."""
        return step.once("generated", lambda: step.augmented(self.drawn(step)))

    def looked(self, step: Step) -> Any:
        """The discriminator's input for the augmented generated images."""
        return step.once("looked", lambda: self._look(self.generated(step)))

    def begin(self, step: Step) -> None:
        """Tell the number of images seen to a discriminator that depends on it."""
        if hasattr(self.inner, "at_images"):
            self.inner.at_images(step.images)

    def held_out(self, step: Step) -> dict[str, Tensor]:
        """The mean logits of held-out faces, for the log."""
        logits = self.judged(self._look(step.augment(step.real)), step)
        return {"logits/held-out": torch.stack([scale.mean() for scale in logits]).mean()}


def labelled(loss: str, real_label: float, fake_label: float) -> AdversarialLoss:
    """The losses of that name. Raises `UserError` for labels with a loss that has none."""
    labels = {"real_label": real_label, "fake_label": fake_label}
    if loss in ("wasserstein", "hinge"):
        if labels != {"real_label": 1.0, "fake_label": 0.0}:
            raise UserError(f"objective: the loss {loss} has no labels; leave real_label and fake_label out")
        labels = {}
    return ADVERSARIAL_LOSSES[loss](**labels)


def discriminator_phase(
    game: Game,
    losses: AdversarialLoss,
    penalty: str,
    weight: float,
    clip_gradients: float,
    clip_weights: float,
    further: Sequence["Further"] = (),
) -> Phase:
    """The phase ``discriminator``: its loss, and ``weight`` times the penalty on its gradient."""

    def loss(step: Step) -> Loss:
        game.begin(step)
        seen = game.seen_real(step)
        with parametrize.cached():  # compute spectral norms once for both
            real, fake = game.judged(seen, step), game.judged(detached(game.looked(step)), step)
            total = torch.stack([losses.discriminator(r, f) for r, f in zip(real, fake, strict=True)]).sum()
            told = {
                "loss/discriminator": total,
                "logits/real": torch.stack([scale.mean() for scale in real]).mean(),
                "logits/generated": torch.stack([scale.mean() for scale in fake]).mean(),
            }
            if penalty != "none":
                told["penalty"] = PENALTIES[penalty](
                    lambda images: game.value(images, step), game.shown(step), game.generated(step).detach()
                )
                total = total + weight * told["penalty"]
            for term in further:
                total, numbers = term(step, total)
                told |= numbers
        return total, told

    return Phase(
        "discriminator",
        game.discriminator.parameters(),
        loss,
        clip_gradients=clip_gradients,
        clip_weights=clip_weights,
        floor=losses.floor,
        judge=game.held_out,
    )


Further = Callable[[Step, Tensor], Loss]
"""Takes a step and the loss so far; returns the loss with another term, and numbers for the log."""


def generator_phase(
    game: Game,
    losses: AdversarialLoss,
    every: int,
    further: Sequence[Further] = (),
    parts: Mapping[str, Any] | None = None,
    judge: Callable[[Step], dict[str, Tensor]] | None = None,
) -> Phase:
    """The phase ``generator``, at the last of ``every`` steps; ``parts`` and ``judge`` as in `Phase`."""
    if every < 1:
        raise UserError(f"objective.critic_steps: got {every}, must be at least 1")

    def loss(step: Step) -> Loss:
        game.begin(step)
        total = torch.stack(
            [losses.generator(scale) for scale in game.judged(game.looked(step), step)]
        ).sum()
        told = {"loss/generator": total}
        if len(step.real) > 1:
            told["variety"] = spread(game.drawn(step)) / spread(step.real).clamp_min(1e-6)
        for term in further:
            total, numbers = term(step, total)
            told |= numbers
        return total, told

    return Phase("generator", game.generator.parameters(), loss, every=every, judge=judge, parts=parts)


def prediction(game: Game, weight: float) -> list[Further]:
    """``weight`` times the error of the generator's predictor of its latents; no term if ``weight`` is 0.

    Raises:
        UserError: the generator has no such predictor.
    """
    generator: Any = game.generator
    if not weight:
        return []
    if not isinstance(unconditioned(generator), RecoversLatents):
        raise UserError(
            "objective.prediction_weight: this model predicts no latents; illustration does, or set it to 0"
        )

    def term(step: Step, total: Tensor) -> Loss:
        recovered = generator.recovered(step.latents, *step.given).float()
        predicted = step.latents[:, : recovered.shape[1]]  # conditions may be joined to it
        error = (recovered - predicted).square().mean()
        return total + weight * error, {"prediction error": error}

    return [term]


def spread(images: Tensor) -> Tensor:
    """How much the first 16 images of a batch differ: the mean over pixels of their standard deviation."""
    return images[:16].detach().float().std(0, correction=0).mean()


def detached(seen: Any) -> Any:
    """The result of `Game.looked` without its gradient."""
    return [tensor.detach() for tensor in seen] if isinstance(seen, list) else seen.detach()
