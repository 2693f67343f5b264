"""A generator against a discriminator (Goodfellow et al. 2014), with any of the adversarial losses."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import UserError
from ..models.conditional import ConditionalDiscriminator
from ..models.layers import Location
from ..schedule import value_at
from .adversarial import ADVERSARIAL_LOSSES
from .penalties import PENALTIES
from .phase import Loss, Phase, Step
from .reconstruction import Reconstruction


def gan(
    networks: nn.ModuleDict,
    *,
    loss: Literal["non-saturating", "minimax", "least-squares", "wasserstein", "hinge"] = "non-saturating",
    real_label: float = 1.0,  # what the discriminator is to say of real images; 0.9 smooths
    fake_label: float = 0.0,  # ... of generated ones; wasserstein and hinge have no labels
    critic_steps: int = 1,  # steps of the discriminator for one of the generator
    clip_weights: float = 0.0,  # the discriminator's weights stay within ± this after each step; 0: free
    clip_gradients: float = 0.0,  # its gradients are cut to ± this before each step; 0: as they are
    penalty: Literal["none", "gulrajani", "dragan"] = "none",  # on its gradient for the image
    penalty_weight: float = 10.0,  # lambda of both papers
    reconstruction_weight: float = 0.0,  # of redrawn faces' error in those features; 0: none are
    reconstruction_kimg: Sequence[float] = (4.0, 20.0),  # over which that weight rises from 0
    reconstructed: float = 0.5,  # share of the generated images that redraw real ones
    kl_weight: float = 0.005,  # of the nats a redrawn face's latent holds
    prediction_weight: float = 0.0,  # of the error of a generator's predictor of latents; 0: not used
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``; with faces redrawn, the latter trains ``encoder`` too.

    Both see the same generated images in a step, so that the generator runs once. A discriminator with a
    method ``features`` (a frozen network, differentiable for its input) judges those in place of images, and
    that method, too, runs once. Logits are one tensor, or a list of them whose losses are added.

    Every step draws a batch and trains the discriminator; the generator's turn comes at the last of every
    ``critic_steps`` steps. Images seen are thus those that the discriminator saw.

    Raises:
        UserError: settings that contradict each other.
    """
    if "discriminator" not in networks:
        raise UserError('objective.name: gan needs a table [discriminator], for example with name = "dcgan"')
    generator, discriminator = networks["generator"], networks["discriminator"]
    inner = discriminator.network if isinstance(discriminator, ConditionalDiscriminator) else discriminator
    location: Location | None = getattr(getattr(generator, "network", generator), "location", None)
    labels = {"real_label": real_label, "fake_label": fake_label}
    if loss in ("wasserstein", "hinge"):
        if labels != {"real_label": 1.0, "fake_label": 0.0}:
            raise UserError(f"objective: the loss {loss} has no labels; leave real_label and fake_label out")
        labels = {}
    if critic_steps < 1:
        raise UserError(f"objective.critic_steps: got {critic_steps}, must be at least 1")
    if prediction_weight and not hasattr(generator, "recovered"):
        raise UserError(
            "objective.prediction_weight: this model predicts no latents; illustration does, or set it to 0"
        )
    device = next(generator.parameters()).device
    redrawn, rising = None, [(0.0, 0.0)]
    if reconstruction_weight:
        if not hasattr(inner, "feature_channels"):
            raise UserError(
                "objective.reconstruction_weight: this discriminator has no frozen features; projected has, "
                "or set it to 0"
            )
        if len(reconstruction_kimg) != 2 or not 0 <= reconstruction_kimg[0] < reconstruction_kimg[1]:
            raise UserError(
                f"objective.reconstruction_kimg: got {list(reconstruction_kimg)}, must be two rising numbers"
            )
        if not 0 < reconstructed < 1:
            raise UserError(f"objective.reconstructed: got {reconstructed}, must be between 0 and 1")
        latent: Any = getattr(generator, "latent", generator.latent_shape[0])  # type: ignore[index]
        redrawn = Reconstruction(inner, latent, reconstructed).to(device)
        networks["reconstruction"] = redrawn
        rising = [(reconstruction_kimg[0], 0.0), (reconstruction_kimg[1], reconstruction_weight)]
    losses = ADVERSARIAL_LOSSES[loss](**labels)
    look = getattr(discriminator, "features", lambda images: images)

    def judged(seen: Any, step: Step) -> list[Tensor]:
        logits = discriminator(seen, *step.given)
        return [scale.float() for scale in (logits if isinstance(logits, list) else [logits])]

    def value(images: Tensor, step: Step) -> Tensor:
        """One number an image, as the losses weigh patches and scales."""
        scales = judged(look(images), step)
        return torch.stack([scale.reshape(len(scale), -1).mean(1) for scale in scales]).sum(0)

    def shown(step: Step) -> Tensor:
        return step.once("real", lambda: step.augmented(step.real))

    def seen_real(step: Step) -> Any:
        with torch.no_grad():
            return step.once("seen", lambda: look(shown(step)))

    def drawn(step: Step) -> Tensor:
        def draw() -> Tensor:
            z = step.latents if redrawn is None else redrawn.latents(step, seen_real(step), location)
            return generator(z, *step.given)

        return step.once("drawn", draw)

    def generated(step: Step) -> Tensor:
        return step.once("generated", lambda: step.augmented(drawn(step)))

    def looked(step: Step) -> Any:
        return step.once("looked", lambda: look(generated(step)))

    def discriminator_loss(step: Step) -> Loss:
        if hasattr(inner, "at_images"):
            inner.at_images(step.images)  # type: ignore[operator]
        seen = seen_real(step)
        with parametrize.cached():  # spectral norms once for both
            real, fake = judged(seen, step), judged(_detached(looked(step)), step)
            total = torch.stack([losses.discriminator(r, f) for r, f in zip(real, fake, strict=True)]).sum()
            told = {
                "loss/discriminator": total,
                "logits/real": torch.stack([scale.mean() for scale in real]).mean(),
                "logits/generated": torch.stack([scale.mean() for scale in fake]).mean(),
            }
            if penalty != "none":
                told["penalty"] = PENALTIES[penalty](
                    lambda images: value(images, step), shown(step), generated(step).detach()
                )
                total = total + penalty_weight * told["penalty"]
        return total, told

    def generator_loss(step: Step) -> Loss:
        if hasattr(inner, "at_images"):
            inner.at_images(step.images)  # type: ignore[operator]
        total = torch.stack([losses.generator(scale) for scale in judged(looked(step), step)]).sum()
        told = {"loss/generator": total}
        if len(step.real) > 1:
            told["variety"] = spread(drawn(step)) / spread(step.real).clamp_min(1e-6)
        if redrawn is not None:
            told["reconstruction/error"] = redrawn.error(step, seen_real(step), looked(step))
            told["reconstruction/nats"] = redrawn.divergence(step, seen_real(step))
            if location is not None:
                redrawn.observe(step, seen_real(step), location)
            weight = value_at(rising, step.images)
            total = total + weight * told["reconstruction/error"] + kl_weight * told["reconstruction/nats"]
        if prediction_weight:
            recovered = generator.recovered(step.latents, *step.given).float()  # type: ignore[operator]
            predicted = step.latents[:, : recovered.shape[1]]  # conditions may be joined to it
            told["prediction error"] = (recovered - predicted).square().mean()
            total = total + prediction_weight * told["prediction error"]
        return total, told

    def judge(step: Step) -> dict[str, Tensor]:
        logits = judged(look(step.augment(step.real)), step)
        return {"logits/held-out": torch.stack([scale.mean() for scale in logits]).mean()}

    return [
        Phase(
            "discriminator",
            discriminator.parameters(),
            discriminator_loss,
            clip_gradients=clip_gradients,
            clip_weights=clip_weights,
            floor=losses.floor,
            judge=judge,
        ),
        Phase(
            "generator",
            generator.parameters(),
            generator_loss,
            every=critic_steps,
            parts={} if redrawn is None else {"encoder": redrawn.parameters()},
        ),
    ]


def spread(images: Tensor) -> Tensor:
    """How far the first 16 images of a batch differ: the mean over pixels of their standard deviation."""
    return images[:16].detach().float().std(0, correction=0).mean()


def _detached(seen: Any) -> Any:
    return [tensor.detach() for tensor in seen] if isinstance(seen, list) else seen.detach()
