"""A small spatial autoencoder: images to maps of latents, an eighth of the size, and back.

The usual kind for latent diffusion (Rombach et al. 2022, arXiv 2112.10752, section 3.1), with one residual
block at each size, without normalisation and attention. 64x64 px become 8x8 positions of 16 numbers: a
twelfth of the numbers of the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, Counts
from ..errors import UserError
from .flow import in_range
from .layers import SLOPE, Location


class Block(nn.Module):
    """Two convolutions, added to what goes in; it starts as the identity, so it needs no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return x + self.second(F.leaky_relu_(self.first(F.leaky_relu(x, SLOPE)), SLOPE))


class Autoencoder(nn.Module):
    """Images to a normal distribution over maps of latents, and maps to images.

    A latent is the map as one row, moved and turned so that the latents of the training faces have mean 0,
    variance 1 and no correlation: z = axes⁻¹ (map - centre). Training sets `location`. So `decode` of normal
    numbers draws from the normal distribution that fits the maps. That is no good generator: real maps are
    not normal.

    >>> network = Autoencoder(size=16, latent=4, channels=(8, 8, 8))
    >>> maps, _ = network.posterior(torch.zeros(2, 3, 16, 16))
    >>> maps.shape, network.drawn(maps).shape
    (torch.Size([2, 4, 4, 4]), torch.Size([2, 3, 16, 16]))
    >>> network.decode(network.encode(torch.zeros(2, 3, 16, 16))).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        size: Count = 64,  # of the images; it is halved once for each entry of channels but the first
        latent: Count = 16,  # numbers at each position of a map
        channels: Counts = (32, 64, 128, 256),  # of features at the full size, half of it, ..., that of maps
        blocks: Count = 1,  # residual blocks at each size; the encoder has none at the full size
        image_channels: Channels = 3,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise UserError(f"model.channels: got {list(channels)}, must be two numbers or more")
        if size % (multiple := 2 ** (len(channels) - 1)):
            raise UserError(
                f"model.size: got {size}, must be a multiple of {multiple} for {len(channels)} entries of "
                "channels"
            )
        self.resolution, self.image_channels = (size, size), image_channels
        side = size // multiple
        self.map_shape = (latent, side, side)
        self.latent_shape = (latent * side**2,)
        self.location = Location(latent * side**2)
        encoder: list[nn.Module] = []
        for i in range(1, len(channels)):
            encoder.append(nn.Conv2d(channels[i - 1] if i > 1 else image_channels, channels[i], 4, 2, 1))
            encoder += [Block(channels[i]) for _ in range(blocks)]
        self.encoder = nn.Sequential(*encoder, *_end(channels[-1], 2 * latent))
        decoder: list[nn.Module] = [nn.Conv2d(latent, channels[-1], 3, padding=1)]
        for i in reversed(range(len(channels))):
            decoder += [Block(channels[i]) for _ in range(blocks)]
            if i:
                decoder += [nn.Conv2d(channels[i], channels[i - 1], 1), nn.Upsample(scale_factor=2.0)]
        self.decoder = nn.Sequential(*decoder, *_end(channels[0], image_channels))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to mean and log-variance of their maps, each (B, *map_shape)."""
        mean, log_variance = self.encoder(images).float().chunk(2, 1)
        return mean, (log_variance - 3).clamp(-12, 2)  # little noise at first, so that faces come through

    def drawn(self, maps: Tensor) -> Tensor:
        """Maps (B, *map_shape) to images (B, C, H, W), about in [-1, 1]."""
        return self.decoder(maps)

    def forward(self, z: Tensor) -> Tensor:
        """Maps as rows (B, latent) to images (B, C, H, W); they are not moved by `location`."""
        return self.drawn(z.view(-1, *self.map_shape))

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to latents (B, latent)."""
        away = self.posterior(images)[0].flatten(1).to(images.dtype) - self.location.centre
        return torch.linalg.solve_triangular(self.location.axes, away.T, upper=False).T

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, latent) to images (B, C, H, W) in [-1, 1]; ``psi`` 0 is the image of the mean map."""
        return in_range(self(self.location(z, psi)))


def _end(channels: int, outputs: int) -> list[nn.Module]:
    return [nn.LeakyReLU(SLOPE), nn.Conv2d(channels, outputs, 3, padding=1)]
