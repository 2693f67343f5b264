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
    real_label: float = 1.0,  # what the discriminator is to say of real images; 0.9 smooths
    fake_label: float = 0.0,  # ... of generated ones; wasserstein and hinge have no labels
    critic_steps: Count = 1,  # steps of the discriminator for one of the generator
    # The discriminator's weights stay within ± this after each step; 0: free.
    clip_weights: NotNegative = 0.0,
    clip_gradients: NotNegative = 0.0,  # its gradients are cut to ± this before each step; 0: as they are
    penalty: Literal["none", "gulrajani", "dragan"] = "none",  # on its gradient for the image
    penalty_weight: NotNegative = 10.0,  # lambda of both papers
    prediction_weight: NotNegative = 0.0,  # of the error of a generator's predictor of latents; 0: not used
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``.

    Both see the same generated images in a step, so that the generator runs once. Every step draws a batch
    and trains the discriminator; the generator's turn comes at the last of every ``critic_steps`` steps.
    Images seen are thus those that the discriminator saw.

    Raises:
        UserError: settings that contradict each other.
    """
    game, losses = Game(networks, "gan"), labelled(loss, real_label, fake_label)
    return [
        discriminator_phase(game, losses, penalty, penalty_weight, clip_gradients, clip_weights),
        generator_phase(game, losses, critic_steps, prediction(game, prediction_weight)),
    ]
