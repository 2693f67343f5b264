"""The abilities of networks as typed protocols. A family declares its abilities, and a test checks them.

Every model that can be sampled implements `Decodes`. Its row of `omokage.families.MODELS` lists its other
abilities. A network has two methods from latents to images:

- ``forward`` is for training. A growing network draws images of its current size, noise is drawn anew, and
  the objective passes the latents, which may come from an encoder.
- ``decode`` is for everything else. It takes standard normal latents, draws images of the final size, and
  gives the same image for the same latent. Call it on the averaged weights, in evaluation mode.

For a flow, ``decode`` and ``forward`` are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Decodes(Protocol):
    """Draws images from standard normal latents; every family does."""

    latent_shape: tuple[int, ...]
    resolution: tuple[int, int]

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, *latent_shape) to images (B, C, H, W) in [-1, 1]."""


@runtime_checkable
class Truncates(Protocol):
    """Has its own truncation. For other families, latents are multiplied by psi."""

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Like `Decodes.decode`; ``psi`` below 1 gives more typical images."""


@runtime_checkable
class HasStyles(Protocol):
    """Has a space of styles w between latents and images."""

    layers: int
    layer_sizes: list[tuple[int, int]]

    def mapping(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, *latent_shape) to styles (B, layers, width); ``psi`` moves them towards the average."""

    def synthesis(self, w: Tensor, noise: Any = "constant") -> Tensor:
        """Styles (B, layers, width) to images (B, C, H, W), about in [-1, 1]."""


@runtime_checkable
class HasFirstFeatures(Protocol):
    """Has first features that tell much of an image and cost little, for a critic (`omokage.critic`)."""

    def first_features(self, z: Tensor) -> Tensor:
        """Latents (B, *latent_shape) to features (B, F), without truncation."""


@runtime_checkable
class Encodes(Protocol):
    """Can encode images into latents."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to latents (B, *latent_shape) that decode to about the same."""


@runtime_checkable
class HasDensity(Protocol):
    """Has a likelihood that can be computed."""

    def log_prob(self, images: Tensor) -> Tensor:
        """(B,) log-density in nats of images (B, C, H, W), values in [-1, 1]."""

    def inverse(self, z: Tensor) -> Tensor:
        """Latents (B, *latent_shape) to images (B, C, H, W): the inverse of ``encode``, see `Exact`."""


@runtime_checkable
class DrawsByTokens(Protocol):
    """Draws an image token by token, or all tokens at once with Jacobi iterations."""

    def decode(self, z: Tensor, sampler: Any = "cached", iterations: int = 0) -> Tensor:
        """Like `Decodes.decode`; ``iterations`` per block if ``sampler`` is "jacobi"."""


@runtime_checkable
class DrawsBySteps(Protocol):
    """Draws an image by taking noise off in steps."""

    def decode(self, z: Tensor, sampler: Any = "heun", steps: int = 0) -> Tensor:
        """Like `Decodes.decode`, with a sampler of `omokage.models.samplers`; 0 steps: its own number."""


class Exact(Protocol):
    """Its ``inverse`` undoes its ``encode`` up to rounding."""


class TakesConditions(Protocol):
    """Can be trained with conditions, such as hair colours.

    The constructor of a model takes ``joined``: the number of entries that conditions add to its latents, or
    for a flow to its labels. The constructor of a discriminator takes ``outputs``: the number of output
    values for each position.
    """


class Guided(Protocol):
    """Supports classifier-free guidance; its ``decode`` takes the weight ``guidance``."""


# What objectives need from networks.


@runtime_checkable
class Grows(Protocol):
    """A growing network: it starts with small images, and the size depends on the images seen in training."""

    sizes: Sequence[tuple[int, int]]

    def grow(self, images: int) -> None:
        """Set the size for ``images`` seen."""


@runtime_checkable
class Denoises(Protocol):
    """Takes noise off images, or off maps of latents (`SeesMaps`); ``shape`` is that of one of them."""

    shape: tuple[int, int, int]
    lowest: float
    highest: float

    def denoised(self, noisy: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) with noise of the levels (B,), to the mean of the clean images behind them."""


@runtime_checkable
class HasPosterior(Protocol):
    """A variational autoencoder: encoder and decoder."""

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latent) of q(z|x)."""

    def logits(self, z: Tensor) -> Tensor:
        """The logits of p(x|z)."""


@runtime_checkable
class Maps(Protocol):
    """A spatial autoencoder: images to maps of latents and back."""

    map_shape: tuple[int, int, int]
    location: Any

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to mean and log-variance of their maps, each (B, *map_shape)."""

    def drawn(self, maps: Tensor) -> Tensor:
        """Maps (B, *map_shape) to images (B, C, H, W), about in [-1, 1]."""


@runtime_checkable
class SeesMaps(Protocol):
    """Learns from the standardised maps of an autoencoder that it has in itself and does not change."""

    autoencoder: Any

    def standardised(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to maps (B, *shape); each channel has mean 0 and variance 1."""

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and deviation (channels,) of the maps of the training faces."""


@runtime_checkable
class RecoversLatents(Protocol):
    """Predicts the latent of an image while drawing it."""

    def recovered(self, z: Tensor) -> Tensor:
        """Latents (B, latent) to predictions of them (B, latent)."""


@runtime_checkable
class SeesFeatures(Protocol):
    """A discriminator that works on the features of a frozen network."""

    feature_channels: Any

    def features(self, images: Tensor) -> Any:
        """The frozen network's features of images."""
