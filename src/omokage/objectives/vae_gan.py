"""A VAE/GAN (Larsen et al. 2016, arXiv 1512.09300): a GAN that also reconstructs faces of the batch."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from ..abilities import SeesFeatures
from ..bounds import Allowed, Count, NotNegative, Positive
from ..errors import UserError
from ..models.conditional import unconditioned
from ..models.layers import Location
from ..schedule import value_at
from .details import Details
from .frechet import Frechet
from .game import Game, discriminator_phase, generator_phase, labelled, prediction
from .phase import Loss, Phase, Step
from .reconstruction import Reconstruction


def vae_gan(
    networks: nn.ModuleDict,
    *,
    # As in `gan`.
    loss: Literal["non-saturating", "minimax", "least-squares", "wasserstein", "hinge"] = "non-saturating",
    real_label: float = 1.0,
    fake_label: float = 0.0,
    critic_steps: Count = 1,
    clip_weights: NotNegative = 0.0,
    clip_gradients: NotNegative = 0.0,
    penalty: Literal["none", "gulrajani", "dragan"] = "none",
    penalty_weight: NotNegative = 10.0,
    # Of its own.
    reconstruction_weight: Positive = 3.0,  # weight of the feature error of reconstructed faces; above 0
    reconstruction_kimg: Sequence[float] = (4.0, 20.0),  # start and end of that weight's rise from 0
    # Share of the generated images that reconstruct real ones.
    reconstructed: Annotated[float, Gt(0), Lt(1), Allowed("between 0 and 1")] = 0.5,
    kl_weight: NotNegative = 0.005,  # weight of the KL divergence, in nats for each face
    prediction_weight: NotNegative = 0.0,  # as in `gan`
    frechet_weight: NotNegative = 0.0,  # weight of the Fréchet loss, see `Frechet`; 0: none
    frechet_kimg: NotNegative = 60.0,  # thousands of images before it is used
    # Faces of a batch of which heads see crops too, see `Details`; needs discriminator.details_at. 0: none.
    details: Annotated[int, Ge(0)] = 0,
    details_weight: NotNegative = 0.5,  # weight of that loss
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``; the latter also trains the ``encoder``.

    A share of the generated images reconstructs faces of the batch: an encoder maps the faces to latents, and
    the images generated from these should have the same features. See `Reconstruction`. The rest is as in
    `gan`.

    Raises:
        UserError: the settings contradict each other, or the discriminator has no frozen features.
    """
    if reconstruction_weight <= 0:
        raise UserError(
            f"objective.reconstruction_weight: got {reconstruction_weight}, must be above 0; "
            "objective.name=gan reconstructs no faces"
        )
    game, losses = Game(networks, "vae-gan"), labelled(loss, real_label, fake_label)
    predicted = prediction(game, prediction_weight)
    if not isinstance(game.inner, SeesFeatures):
        raise UserError(
            "objective.reconstruction_weight: this discriminator has no frozen features; projected has, "
            "or set objective.name to gan"
        )
    if len(reconstruction_kimg) != 2 or not 0 <= reconstruction_kimg[0] < reconstruction_kimg[1]:
        raise UserError(
            f"objective.reconstruction_kimg: got {list(reconstruction_kimg)}, must be two rising numbers"
        )
    if not 0 < reconstructed < 1:
        raise UserError(f"objective.reconstructed: got {reconstructed}, must be between 0 and 1")
    generator: Any = game.generator
    latent: int = getattr(generator, "latent", generator.latent_shape[0])
    location: Location | None = getattr(unconditioned(generator), "location", None)
    redrawn = Reconstruction(game.inner, latent, reconstructed).to(next(generator.parameters()).device)
    networks["reconstruction"] = redrawn
    game.latents = lambda step: redrawn.latents(step, game.seen_real(step), location)
    rising = [(reconstruction_kimg[0], 0.0), (reconstruction_kimg[1], reconstruction_weight)]

    def reconstruction(step: Step, total: Tensor) -> Loss:
        seen = game.seen_real(step)
        error = redrawn.error(step, seen, game.looked(step))
        nats = redrawn.divergence(step, seen)
        if location is not None:
            redrawn.observe(step, seen, location)
        total = total + value_at(rising, step.images) * error + kl_weight * nats
        return total, {"reconstruction/error": error, "reconstruction/nats": nats}

    moments: Frechet | None = None
    if frechet_weight:
        # The maps of the frozen network, without the pixels of the pixel head.
        maps = [channels for channels in game.inner.feature_channels if channels != 3]
        moments = Frechet(maps).to(next(generator.parameters()).device)
        networks["frechet"] = moments

    def frechet(step: Step, total: Tensor) -> Loss:
        if moments is None or step.images < 1000 * frechet_kimg:
            return total, {}
        count = redrawn.count(len(step.real))
        drawn = moments.pooled(game.looked(step))[count:]  # only images drawn from the prior, like samples
        moments.observe(moments.pooled(game.seen_real(step)), drawn)
        error = moments.loss(drawn)
        return total + frechet_weight * error, {"frechet": error}

    if details and not getattr(game.inner, "details_at", 0):
        raise UserError("objective.details: no head sees crops; set discriminator.details_at, to 96 say")
    crops = Details(game, losses, details, details_weight) if details else None
    return [
        discriminator_phase(
            game,
            losses,
            penalty,
            penalty_weight,
            clip_gradients,
            clip_weights,
            [crops.discriminator] if crops else [],
        ),
        generator_phase(
            game,
            losses,
            critic_steps,
            [reconstruction, frechet, *([crops.generator] if crops else []), *predicted],
            {"encoder": redrawn.parameters()},
        ),
    ]
