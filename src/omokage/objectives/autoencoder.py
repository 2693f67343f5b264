"""The loss of a spatial autoencoder: pixels, frozen features and a discriminator on them.

As in Rombach et al. 2022 (arXiv 2112.10752, section 3.1), with the features of the projected discriminator in
place of LPIPS, and its heads (Sauer et al. 2021, arXiv 2111.01007) in place of one on patches of pixels.
"""

from typing import Any, Literal

from torch import Tensor, nn

from ..abilities import Maps, SeesFeatures
from ..bounds import NotNegative
from ..errors import UserError
from .adversarial import ADVERSARIAL_LOSSES
from .elbo import gaussian_kl
from .game import Game, discriminator_phase, generator_phase
from .phase import Loss, Phase, Step
from .reconstruction import Following, feature_error

EVERY = 50  # steps between two fits of the normal distribution of maps


def autoencoder(
    networks: nn.ModuleDict,
    *,
    loss: Literal["non-saturating", "least-squares", "hinge"] = "hinge",  # the adversarial one
    pixel_weight: NotNegative = 10.0,  # of the mean absolute error of pixels, values in [-1, 1]
    feature_weight: NotNegative = 10.0,  # of the feature error: 1 for the mean face, 0 for the same one
    # Of the KL divergence of the maps from the standard normal, in nats for each face. It only keeps maps
    # from growing; a normal distribution of each face keeps near maps alike.
    kl_weight: NotNegative = 2e-4,
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``; the latter trains encoder and decoder.

    Each face is encoded, a map is drawn from its normal distribution and decoded again. The discriminator
    tells faces from such images. A normal distribution is fitted to the maps on the way, see
    `models.autoencoder`.

    Raises:
        UserError: the model is no spatial autoencoder, or the discriminator has no frozen features.
    """
    if not isinstance(networks["generator"], Maps):
        raise UserError("objective.name: autoencoder trains a spatial autoencoder, such as autoencoder")
    model: Any = networks["generator"]
    game, losses = Game(networks, "autoencoder"), ADVERSARIAL_LOSSES[loss]()
    if not isinstance(game.inner, SeesFeatures):
        raise UserError("discriminator.name: autoencoder compares frozen features; projected has them")
    following = Following(model.location.latent).to(next(model.parameters()).device)
    networks["maps"] = following

    def posterior(step: Step) -> tuple[Tensor, Tensor]:
        return step.once("posterior", lambda: model.posterior(step.real))

    def sampled(step: Step) -> Tensor:
        mean, log_variance = (part.flatten(1) for part in posterior(step))
        return mean + (log_variance / 2).exp() * step.latents

    game.latents = sampled

    def errors(step: Step) -> dict[str, Tensor]:
        pixels = (game.drawn(step).float() - step.real).abs().mean()
        features = feature_error(game.seen_real(step), game.looked(step), len(step.real))
        return {"reconstruction/pixels": pixels, "reconstruction/features": features}

    def reconstruction(step: Step, total: Tensor) -> Loss:
        found = errors(step)
        mean, log_variance = posterior(step)
        nats = gaussian_kl(mean.flatten(1), log_variance.flatten(1)).mean()
        following.follow(mean.detach().flatten(1), model.location, EVERY, first=2 * following.latent)
        pixels, features = found.values()
        total = total + pixel_weight * pixels + feature_weight * features + kl_weight * nats
        return total, found | {"reconstruction/nats": nats}

    def judge(step: Step) -> dict[str, Tensor]:
        return {name.replace("reconstruction", "held-out"): error for name, error in errors(step).items()}

    return [
        discriminator_phase(game, losses, "none", 0.0, 0.0, 0.0),
        generator_phase(game, losses, 1, [reconstruction], judge=judge),
    ]
