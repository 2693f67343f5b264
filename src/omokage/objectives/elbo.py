"""The negative evidence lower bound (Kingma & Welling 2014, equation 3), in nats for each image."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..abilities import HasPosterior
from ..bounds import NotNegative
from ..errors import UserError
from ..models.conditional import unconditioned
from .phase import Loss, Phase, Step


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each row (B, latent), (B,): appendix B of the paper.

    >>> import torch
    >>> gaussian_kl(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    tensor([2.])
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def bernoulli(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of images ``target`` in [0, 1], summed over an image, (B,)."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def squares(logits: Tensor, target: Tensor) -> Tensor:
    """Squared errors of images in [0, 1], summed over an image, (B,): a normal likelihood of variance 1/2."""
    return (logits.sigmoid() - target).square().flatten(1).sum(1)


RECONSTRUCTIONS = {"bce": bernoulli, "mse": squares}


def elbo(
    networks: nn.ModuleDict,
    *,
    reconstruction: Literal[
        "bce", "mse"
    ] = "bce",  # cross-entropy or squared error, both summed over an image
    kl_weight: NotNegative = 1.0,  # of the KL divergence; 1 is the bound, other values give a beta-VAE
) -> list[Phase]:
    """The phase ``elbo``, which trains a model with ``posterior`` and ``logits``.

    The step's latents are used as the noise of the sample from the posterior (section 2.4).

    Raises:
        UserError: the model has no posterior.
    """
    model = networks["generator"]
    if not isinstance(unconditioned(model), HasPosterior):
        raise UserError("objective.name: elbo trains a model with a posterior, such as vae; use gan here")

    def loss(step: Step) -> Loss:
        mean, log_variance = (part.float() for part in model.posterior(step.real))  # type: ignore[operator]
        noise, joined = step.latents.tensor_split([mean.shape[1]], 1)  # conditions may be joined to it
        z = torch.cat([mean + (log_variance / 2).exp() * noise, joined], 1)
        logits = model.logits(z, *step.given).float()  # type: ignore[operator]
        error = RECONSTRUCTIONS[reconstruction](logits, (step.real + 1) / 2).mean()
        divergence = gaussian_kl(mean, log_variance).mean()
        total = error + kl_weight * divergence
        return total, {"loss/elbo": total, "elbo/reconstruction": error, "elbo/divergence": divergence}

    def judge(step: Step) -> dict[str, Tensor]:
        return {"held-out/elbo": loss(step)[1]["loss/elbo"]}

    return [Phase("elbo", model.parameters(), loss, judge=judge)]
