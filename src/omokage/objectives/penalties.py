"""Gradient penalties, which keep a discriminator smooth: pure functions with one signature.

    penalty(value, real, fake) -> scalar, before its weight

``value`` returns one number for each image, the logit (B,). Images are (B, C, H, W); no gradient flows
through them. A penalty limits the gradient of each single image, so the discriminator must not mix the images
of a batch: no batch norm (Gulrajani et al. 2017, section 4).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Value = Callable[[Tensor], Tensor]


def gradient_norms(value: Value, images: Tensor) -> Tensor:
    """The length of the gradient of ``value`` at each image, (B,). Differentiable.

    >>> gradient_norms(lambda x: 3 * x.sum((1, 2, 3)), torch.zeros(1, 1, 2, 2))
    tensor([6.])
    """
    images = images.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(value(images).sum(), images, create_graph=True)
    return torch.linalg.vector_norm(gradients.float().flatten(1), dim=1)


def gulrajani(value: Value, real: Tensor, fake: Tensor) -> Tensor:
    """Gulrajani et al. 2017 (WGAN-GP), equation 3: gradients of length 1 on lines from real to generated."""
    share = torch.rand(len(real), 1, 1, 1).to(real)
    return (gradient_norms(value, real + share * (fake - real)) - 1).square().mean()


def dragan(value: Value, real: Tensor, fake: Tensor) -> Tensor:
    """Kodali et al. 2017 (DRAGAN), algorithm 1 with k = 1: gradients of length 1 around the real images.

    The noise is that of the authors' notebook (github.com/kodalinaveen3/DRAGAN): each entry is uniform from 0
    to half the standard deviation of the batch, times one uniform number for each image. ``fake`` is not
    used.
    """
    noise = torch.rand(real.shape).to(real) * (0.5 * real.std())
    share = torch.rand(len(real), 1, 1, 1).to(real)
    return (gradient_norms(value, real + share * noise) - 1).square().mean()


def r1(value: Value, real: Tensor, fake: Tensor) -> Tensor:
    """Mescheder et al. 2018, equation 9, without gamma: half the squared gradient at the real images."""
    return gradient_norms(value, real).square().mean() / 2


# The names that recipes use.
PENALTIES: dict[str, Callable[[Value, Tensor, Tensor], Tensor]] = {"gulrajani": gulrajani, "dragan": dragan}
