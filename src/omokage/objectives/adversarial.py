"""Adversarial losses of discriminators and generators, as functions of logits.

Each loss is a pair of pure functions with the same signatures, so that they can be compared line by line:

    discriminator(real_logits, fake_logits) -> loss
    generator(fake_logits) -> loss

Logits may have any shape (an image may have several patches or scales). A loss is a mean over them, a scalar.
Logits are for "real": the papers' probability is D = sigmoid(logits).
"""

from collections.abc import Callable
from math import log
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus


class AdversarialLoss(NamedTuple):
    """The losses of the two networks.

    Attributes:
        floor: the discriminator's loss if it classifies every image correctly; None if there is no lower
            bound.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    floor: float | None = 0.0


def cross_entropy(logits: Tensor, label: float) -> Tensor:
    """Mean binary cross-entropy against one ``label`` in [0, 1]: -y log D - (1 - y) log(1 - D)."""
    return (softplus(logits) - label * logits).mean()


def non_saturating(real_label: float = 1.0, fake_label: float = 0.0) -> AdversarialLoss:
    """Goodfellow et al. 2014, section 3, last paragraph: the generator maximises log D(fake). DCGAN's loss.

    Labels other than 1 and 0 smooth them (Salimans et al. 2016, section 3.4).
    """
    return AdversarialLoss(
        discriminator=lambda real, fake: cross_entropy(real, real_label) + cross_entropy(fake, fake_label),
        generator=lambda fake: cross_entropy(fake, real_label),
        floor=entropy(real_label) + entropy(fake_label),
    )


def minimax(real_label: float = 1.0, fake_label: float = 0.0) -> AdversarialLoss:
    """Goodfellow et al. 2014, equation 1: the generator minimises what the discriminator maximises."""
    return AdversarialLoss(
        discriminator=lambda real, fake: cross_entropy(real, real_label) + cross_entropy(fake, fake_label),
        generator=lambda fake: -cross_entropy(fake, fake_label),
        floor=entropy(real_label) + entropy(fake_label),
    )


def least_squares(real_label: float = 1.0, fake_label: float = 0.0) -> AdversarialLoss:
    """Mao et al. 2017, equation 9, with a = ``fake_label`` and b = c = ``real_label``."""
    return AdversarialLoss(
        discriminator=lambda real, fake: half_square(real - real_label) + half_square(fake - fake_label),
        generator=lambda fake: half_square(fake - real_label),
    )


def wasserstein() -> AdversarialLoss:
    """Arjovsky et al. 2017, equation 2. Clipping or a penalty must keep the critic Lipschitz."""
    return AdversarialLoss(
        discriminator=lambda real, fake: fake.mean() - real.mean(),
        generator=lambda fake: -fake.mean(),
        floor=None,
    )


def hinge() -> AdversarialLoss:
    """Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17."""
    return AdversarialLoss(
        discriminator=lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        generator=lambda fake: -fake.mean(),
    )


def entropy(label: float) -> float:
    """The lowest possible cross-entropy against ``label`` in [0, 1].

    >>> entropy(1.0), round(entropy(0.9), 4)
    (0.0, 0.3251)
    """
    return sum(-share * log(share) for share in (label, 1 - label) if share > 0)


def half_square(difference: Tensor) -> Tensor:
    """Mean of half the squares."""
    return difference.square().mean() / 2


# The names that recipes use.
ADVERSARIAL_LOSSES: dict[str, Callable[..., AdversarialLoss]] = {
    "non-saturating": non_saturating,
    "minimax": minimax,
    "least-squares": least_squares,
    "wasserstein": wasserstein,
    "hinge": hinge,
}
