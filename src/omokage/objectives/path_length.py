"""Path-length regularisation: equal steps in w should change images equally, at every w, in any direction."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def path_lengths(synthesis: Callable[[Tensor], Tensor], w: Tensor, noise: Tensor) -> Tensor:
    """The length of Jᵀy for each image, (B,); J is the Jacobian of ``synthesis`` at ``w``. Differentiable.

    Karras et al. 2020, equation 4 and appendix B. ``w`` is (B, layers, width); ``noise`` y is normal,
    (B, C, H, W), and divided here by the square root of the number of pixels. A step in w is a step in all
    layers, so squares are averaged over layers.

    >>> lengths = path_lengths(lambda w: 3 * w[:, :, :, None], torch.zeros(1, 1, 2), torch.ones(1, 1, 2, 1))
    >>> round(lengths.item(), 3)  # the root of 2 (3 / sqrt(2))²
    3.0
    """
    if not w.requires_grad:
        w = w.detach().requires_grad_()
    images = synthesis(w)
    weighted = (images * noise.to(images)).sum() / math.sqrt(images[0, 0].numel())
    (gradients,) = torch.autograd.grad(weighted, w, create_graph=True)
    return gradients.square().sum(2).mean(1).sqrt()


class PathLength(nn.Module):
    """The penalty, with the running mean a of the lengths.

    The mean is updated between steps, not between the parts of a step. So the parts together give the
    gradient of the whole step.
    """

    mean: Tensor
    sum: Tensor
    count: Tensor
    images: Tensor

    def __init__(self, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sum", torch.zeros(()))  # sum of the lengths of the last step
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("images", torch.tensor(-1))  # seen before that step

    def forward(self, lengths: Tensor, images: int) -> Tensor:
        """Equation 4 for ``lengths`` (B,), in the step after ``images`` images: the mean of (length - a)²."""
        if int(self.images) != images:
            if self.count > 0:
                self.mean.lerp_(self.sum / self.count, self.decay)
            self.images.fill_(images)
            for buffer in (self.sum, self.count):
                buffer.zero_()
        self.sum += lengths.detach().sum()
        self.count += len(lengths)
        return (lengths - self.mean).square().mean()
