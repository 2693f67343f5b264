"""An encoder on frozen features: maps the features of a projected discriminator to a latent."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureEncoder(nn.Module):
    """Feature maps to the mean and the log-variance of a latent (Kingma & Welling 2013).

    Each map is averaged to 4x4, so the discriminator may work at any image size.

    >>> encoder = FeatureEncoder([8, 16], latent=4)
    >>> mean, log_variance = encoder([torch.randn(2, 8, 16, 16), torch.randn(2, 16, 8, 8)])
    >>> mean.shape, log_variance.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(self, channels: Sequence[int], latent: int, hidden: int = 384) -> None:
        super().__init__()
        inputs = 16 * sum(channels)
        self.normalise = nn.BatchNorm1d(inputs, affine=False)
        self.hidden = nn.Linear(inputs, hidden)
        self.moments = nn.Linear(hidden, 2 * latent)
        with torch.no_grad():
            self.moments.weight *= 0.3  # means start near 0

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (B, channels, H, W) to two tensors (B, latent); log-variances are within [-8, 2]."""
        x = torch.cat([F.adaptive_avg_pool2d(x, 4).flatten(1).float() for x in features], 1)
        x = self.moments(F.leaky_relu(self.hidden(self.normalise(x)), 0.2)).float()
        mean, log_variance = x.chunk(2, 1)
        return mean, (log_variance - 1).clamp(-8, 2)
