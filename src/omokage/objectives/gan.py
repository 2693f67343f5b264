"""A generator against a discriminator (Goodfellow et al. 2014), with any of the adversarial losses."""

from typing import Literal

from torch import nn

from ..bounds import Count, NotNegative
from .game import Game, discriminator_phase, generator_phase, labelled, prediction
from .phase import Phase


def gan(
    networks: nn.ModuleDict,
    *,
    loss: Literal["non-saturating", "minimax", "least-squares", "wasserstein", "hinge"] = "non-saturating",
    real_label: float = 1.0,  # the discriminator's target for real images; 0.9 smooths labels
    fake_label: float = 0.0,  # ... and for generated ones; wasserstein and hinge have no labels
    critic_steps: Count = 1,  # steps of the discriminator for each step of the generator
    # The discriminator's weights are clamped to ± this after each step; 0: not clamped.
    clip_weights: NotNegative = 0.0,
    clip_gradients: NotNegative = 0.0,  # its gradients are clamped to ± this before each step; 0: not clamped
    penalty: Literal["none", "gulrajani", "dragan"] = "none",  # on its gradient for the image
    penalty_weight: NotNegative = 10.0,  # lambda of both papers
    prediction_weight: NotNegative = 0.0,  # of the error of a generator's predictor of latents; 0: not used
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``.

    Both use the same generated images in a step, so the generator runs once. Every step draws a batch and
    trains the discriminator. The generator is trained at the last of every ``critic_steps`` steps. So the
    images seen are those that the discriminator saw.

    Raises:
        UserError: the settings contradict each other.
    """
    game, losses = Game(networks, "gan"), labelled(loss, real_label, fake_label)
    return [
        discriminator_phase(game, losses, penalty, penalty_weight, clip_gradients, clip_weights),
        generator_phase(game, losses, critic_steps, prediction(game, prediction_weight)),
    ]
