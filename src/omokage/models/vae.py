"""A variational auto-encoder (Kingma & Welling 2014, arXiv 1312.6114) of unpadded convolutions for 64 px.

The defaults have 4,348,547 parameters. The layer sizes are those of the "world models" auto-encoder (Ha &
Schmidhuber 2018, appendix): its decoder starts from 1024 features at a single position.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Len
from torch import Tensor, nn

from ..bounds import Allowed, Count, CountOrNone


class VariationalAutoencoder(nn.Module):
    """Images to a normal distribution over latents, and latents to images.

    >>> vae = VariationalAutoencoder(channels=(4, 4, 4, 4))
    >>> vae.decode(vae.encode(torch.zeros(2, 3, 64, 64))).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        latent: Count = 32,  # entries of a latent, each N(0, 1) under the prior
        # Of the features at 31, 14, 6 and 2 px.
        channels: Annotated[Sequence[Count], Len(4, 4), Allowed("four numbers of at least 1")] = (
            32,
            64,
            128,
            256,
        ),
        joined: CountOrNone = 0,  # entries that conditions add to a latent before it is decoded; 0: none
    ) -> None:
        super().__init__()
        self.latent_shape = (latent + joined,)
        self.resolution = (64, 64)
        layers: list[nn.Module] = []
        incoming = 3
        for outgoing in channels:
            layers += [nn.Conv2d(incoming, outgoing, 4, 2), nn.ReLU(inplace=True)]
            incoming = outgoing
        features = 4 * channels[-1]
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)
        self.to_features = nn.Linear(latent + joined, features)
        # From 1 px to 5, 13, 30 and 64.
        layers, incoming = [], features
        for outgoing, kernel in zip((*reversed(channels[:-1]), 3), (5, 5, 6, 6), strict=True):
            layers += [nn.ConvTranspose2d(incoming, outgoing, kernel, 2), nn.ReLU(inplace=True)]
            incoming = outgoing
        self.decoder = nn.Sequential(*layers[:-1])

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 64, 64) in [-1, 1] to mean and log-variance of q(z|x), each (B, latent)."""
        features = self.encoder((images + 1) / 2)
        return self.mean(features), self.log_variance(features)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [-1, 1] to the mean of q(z|x), (B, latent)."""
        return self.posterior(images)[0]

    def logits(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, 3, 64, 64); their sigmoids are the images in [0, 1]."""
        return self.decoder(self.to_features(z)[:, :, None, None])

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, 3, 64, 64) in [-1, 1]."""
        return 2 * torch.sigmoid(self.logits(z)) - 1

    decode = forward
