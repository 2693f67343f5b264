"""A generator against a discriminator: what `gan` and `vae-gan` have in common."""

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
    """The images of a step as both networks see them; each is made once a step.

    A discriminator with a method ``features`` (a frozen network, differentiable for its input) judges those
    in place of images, and that method, too, runs once. Logits are one tensor, or a list of them whose losses
    are added.

    Attributes:
        inner: the discriminator without its conditions.
        latents: from the step to the latents (B, *latent_shape) that are drawn from.
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
        """Logits of what `looked` or `seen_real` gives, a tensor a scale."""
        logits = self.discriminator(seen, *step.given)
        return [scale.float() for scale in (logits if isinstance(logits, list) else [logits])]

    def value(self, images: Tensor, step: Step) -> Tensor:
        """One number an image (B,), as the losses weigh patches and scales."""
        scales = self.judged(self._look(images), step)
        return torch.stack([scale.reshape(len(scale), -1).mean(1) for scale in scales]).sum(0)

    def shown(self, step: Step) -> Tensor:
        """Real images, augmented."""
        return step.once("real", lambda: step.augmented(step.real))

    def seen_real(self, step: Step) -> Any:
        """What the discriminator sees of them."""
        with torch.no_grad():
            return step.once("seen", lambda: self._look(self.shown(step)))

    def drawn(self, step: Step) -> Tensor:
        """Generated images."""
        return step.once("drawn", lambda: self.generator(self.latents(step), *step.given))

    def generated(self, step: Step) -> Tensor:
        """Generated images, augmented."""
        return step.once("generated", lambda: step.augmented(self.drawn(step)))

    def looked(self, step: Step) -> Any:
        """What the discriminator sees of them."""
        return step.once("looked", lambda: self._look(self.generated(step)))

    def begin(self, step: Step) -> None:
        """Tell a discriminator that changes with the images seen how many they are."""
        if hasattr(self.inner, "at_images"):
            self.inner.at_images(step.images)

    def held_out(self, step: Step) -> dict[str, Tensor]:
        """The logits of faces that training does not see."""
        logits = self.judged(self._look(step.augment(step.real)), step)
        return {"logits/held-out": torch.stack([scale.mean() for scale in logits]).mean()}


def labelled(loss: str, real_label: float, fake_label: float) -> AdversarialLoss:
    """The losses of that name; UserError for labels with a loss that has none."""
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
) -> Phase:
    """The phase ``discriminator``: its loss, and ``weight`` times the penalty on its gradient."""

    def loss(step: Step) -> Loss:
        game.begin(step)
        seen = game.seen_real(step)
        with parametrize.cached():  # spectral norms once for both
            real, fake = game.judged(seen, step), game.judged(_detached(game.looked(step)), step)
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
"""From a step and the loss so far to the loss with another term, and numbers for the log."""


def generator_phase(
    game: Game,
    losses: AdversarialLoss,
    every: int,
    further: Sequence[Further] = (),
    parts: Mapping[str, Any] | None = None,
) -> Phase:
    """The phase ``generator``, at the last of ``every`` steps; ``parts`` as `Phase` has them."""
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

    return Phase("generator", game.generator.parameters(), loss, every=every, parts=parts)


def prediction(game: Game, weight: float) -> list[Further]:
    """``weight`` times the error of the generator's own predictor of its latents; none where it is 0.

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
    """How far the first 16 images of a batch differ: the mean over pixels of their standard deviation."""
    return images[:16].detach().float().std(0, correction=0).mean()


def _detached(seen: Any) -> Any:
    return [tensor.detach() for tensor in seen] if isinstance(seen, list) else seen.detach()
