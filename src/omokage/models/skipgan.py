"""A small generator that trains fast: upsampling convolutions with skip-layer excitation.

Liu et al. 2021, "Towards Faster and Stabilized GAN Training" (arXiv 2101.04775), figures 3 and 4. Leaky ReLUs
replace the gated linear units, which halves the computation of a stage. There are no noise inputs, so a
latent always gives the same image.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, Counts
from .flow import in_range
from .layers import ChromaFilter, Location, chroma_to_halve, with_halved_chroma


class _Refine(nn.Sequential):
    """Convolution at one size."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)
        )


class _Double(nn.Sequential):
    """A convolution that doubles the size."""

    def __init__(self, channels_in: int, channels_out: int, refined: bool, upsampling: str) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2.0, mode=upsampling),
            nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.LeakyReLU(0.2),
            *([_Refine(channels_out)] if refined else []),
        )


class _Excitation(nn.Module):
    """Skip-layer excitation (equation 1): low-resolution features weight high-resolution channels."""

    def __init__(self, channels_low: int, channels_high: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_low, channels_high, 4)
        self.expand = nn.Conv2d(channels_high, channels_high, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        weights = self.expand(F.leaky_relu(self.squeeze(F.adaptive_avg_pool2d(low, 4)), 0.1))
        return high * weights.sigmoid()


class Generator(nn.Module):
    """Latents on the sphere to images.

    >>> import torch
    >>> Generator(latent=8, channels=(16, 8, 8)).eval().decode(torch.randn(2, 8)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        latent: Count = 128,  # entries of a latent; it is scaled to length sqrt(latent)
        channels: Counts = (256, 256, 128, 64, 48),  # at 4x4, 8x8, ...; n of them give 4·2ⁿ⁻¹ px
        refined: CountOrNone = 4,  # how many sizes, from 4x4 up, have a second convolution
        image_channels: Channels = 3,
        upsampling: Literal["nearest", "bilinear"] = "nearest",  # bilinear learned badly in `fast`
        halved_chroma: bool = False,  # whether colour has half the resolution of brightness, as in most JPEGs
        chroma_filter: ChromaFilter = "box",  # how colour is halved; "smooth" leaves no fine pattern
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
    ) -> None:
        super().__init__()
        self.latent, self.latent_shape = latent, (latent + joined,)
        self.halved_chroma = chroma_to_halve(halved_chroma, image_channels)
        self.chroma_filter = chroma_filter
        self.location = Location(latent)
        size = 4 * 2 ** (len(channels) - 1)
        self.resolution = (size, size)
        self.first = nn.Sequential(
            nn.ConvTranspose2d(latent + joined, channels[0], 4, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.LeakyReLU(0.2),
            *([_Refine(channels[0])] if refined > 0 else []),
        )
        self.stages = nn.ModuleList(
            _Double(channels[i], channels[i + 1], refined > i + 1, upsampling)
            for i in range(len(channels) - 1)
        )
        # Sizes eight times apart (figure 4): 4x4 weights 32x32, 8x8 weights 64x64, and so on.
        self.excitations = nn.ModuleDict(
            {str(i): _Excitation(channels[i - 3], channels[i]) for i in range(3, len(channels))}
        )
        self.to_image = nn.Conv2d(channels[-1], image_channels, 3, 1, 1)

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Normal latents (B, latent + joined) to (B, image_channels, H, W) in [-1, 1].

        ``psi`` truncates towards the centre. If no centre is known, it scales the sphere's radius. Entries
        joined to a latent do not change.
        """
        located = psi == 1 or bool(self.location.centre.any())
        images = self._drawn(self.location(z, psi if located else 1.0), 1.0 if located else psi)
        return in_range(images)  # halving the chroma may leave the range slightly

    def first_features(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to the features of 4x4 px (B, 16 * channels), 2% of the work for an image."""
        return self.first(self._directed(self.location(z))[:, :, None, None]).flatten(1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, image_channels, H, W), about in [-1, 1]; latents are not shifted."""
        return self._drawn(z)

    def _directed(self, z: Tensor, radius: float = 1.0) -> Tensor:
        """The latents on the sphere; joined entries stay the same."""
        z, joined = z[:, : self.latent], z[:, self.latent :]
        z = F.normalize(z, dim=1) * (radius * math.sqrt(z.shape[1]))
        return torch.cat([z, joined], 1) if joined.shape[1] else z

    def _drawn(self, z: Tensor, radius: float = 1.0) -> Tensor:
        sizes = [self.first(self._directed(z, radius)[:, :, None, None])]
        for i, stage in enumerate(self.stages, 1):
            x = stage(sizes[-1])
            sizes.append(self.excitations[str(i)](sizes[i - 3], x) if str(i) in self.excitations else x)
        images = self.to_image(sizes[-1]).tanh()
        return with_halved_chroma(images, self.chroma_filter) if self.halved_chroma else images
