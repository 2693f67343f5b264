"""A transformer that takes noise off the maps of a spatial autoencoder: latent diffusion.

After Rombach et al. 2022 (arXiv 2112.10752). The transformer is that of `pixel_transformer` with maps in
place of images: every position of a map is a token. It sees an eighth of the height and width of an image, so
a step costs little. What a map cannot hold, no step can draw: the autoencoder bounds how good a face becomes.
"""

import torch
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, Counts, Positive
from .autoencoder import Autoencoder
from .flow import in_range
from .pixel_transformer import PixelTransformer
from .samplers import SamplerName


class LatentTransformer(nn.Module):
    """A `PixelTransformer` on the maps of an `Autoencoder`, which stands in it and is not trained.

    A latent is the noise (B, latent) that a map begins with. There is no likelihood: that of the maps says
    nothing of pixels, because many images have one map.

    >>> network = LatentTransformer(size=16, latent=4, channels=(8, 8, 8), width=8, depth=1, heads=2, steps=2)
    >>> network.decode(torch.randn(2, 64)).shape
    torch.Size([2, 3, 16, 16])
    """

    mean: Tensor
    deviations: Tensor

    def __init__(
        self,
        # These four are the autoencoder's; training fills them in.
        size: Count = 64,
        latent: Count = 16,
        channels: Counts = (32, 64, 128, 256),
        blocks: Count = 1,
        width: Count = 320,  # of the transformer
        depth: Count = 8,  # number of its blocks
        heads: Count = 5,  # of the attention; width is a multiple of it
        expansion: Count = 4,  # of the gated layers, counted as for plain ones of the same size
        steps: Count = 20,  # levels of noise that a sampler passes, unless it is told another number
        encoding_steps: Count = 60,  # steps of encode and inverse
        # The level of noise at which encoding begins. A network that predicts maps is not exact to less.
        lowest: Positive = 0.02,
        highest: Positive = 80.0,  # the level of noise that counts as nothing but noise
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries of a label, one for each value of each condition; 0: no labels
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(size, latent, channels, blocks, image_channels).requires_grad_(False)
        self.resolution, self.image_channels = self.autoencoder.resolution, image_channels
        self.shape = self.autoencoder.map_shape
        self.denoiser = PixelTransformer(
            self.shape[1],
            1,
            width,
            depth,
            heads,
            expansion,
            steps,
            encoding_steps,
            1.0,
            lowest,
            highest,
            latent,
            joined,
        )
        self.latent_shape = self.denoiser.latent_shape
        self.deviation, self.lowest, self.highest = self.denoiser.deviation, lowest, highest
        # Of each channel of the maps of the training faces.
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("deviations", torch.ones(latent))

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and deviation (latent,) of the maps of the training faces."""
        self.mean.copy_(mean)
        self.deviations.copy_(deviation)

    def standardised(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to maps (B, *shape); each channel has mean 0 and variance 1."""
        return self.of_maps(self.autoencoder.posterior(images)[0].to(images.dtype))

    def of_maps(self, maps: Tensor) -> Tensor:
        """The autoencoder's maps (B, *shape) to standardised ones."""
        return (maps - self.mean[:, None, None]) / self.deviations[:, None, None]

    def _images(self, maps: Tensor) -> Tensor:
        return self.autoencoder.drawn(maps * self.deviations[:, None, None] + self.mean[:, None, None])

    def denoised(self, noisy: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of the standardised maps behind noisy ones (B, *shape), see `Denoiser.denoised`."""
        return self.denoiser.denoised(noisy, level, labels)

    def decode(
        self,
        z: Tensor,
        sampler: SamplerName = "heun",
        steps: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Latents (B, latent) to images (B, C, H, W) in [-1, 1]; arguments as in `Denoiser.drawn`."""
        return in_range(self._images(self.denoiser.drawn(z, sampler, steps, labels, guidance)))

    forward = decode

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to latents (B, latent): from their maps towards noise."""
        return self.denoiser.encode(self.standardised(images), labels)

    def inverse(self, z: Tensor, labels: Tensor | None = None, guidance: float = 0.0) -> Tensor:
        """The way of `encode` back: latents (B, latent) to images (B, C, H, W), not clamped."""
        return self._images(self.denoiser.inverse(z, labels, guidance))
