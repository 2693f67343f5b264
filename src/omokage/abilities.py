"""What a network can do, as typed protocols: a family promises some of them, and a test holds it to them.

Every model that is sampled keeps `Decodes`. What else a family can do stands in its row of
`omokage.families.MODELS`. Networks have two ways from latents to images, and they are not the same:

- ``forward`` is for training. It draws images at the present stage of a growing network, with noise drawn
  anew, and takes latents as an objective gives them (those of an encoder, say).
- ``decode`` is for everything else. It takes standard normal latents, draws images of the last size, and
  gives the same image for the same latent. Call it on the averaged weights, in evaluation mode.

A flow's two ways are one: ``decode`` is ``forward``.
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
    """Has a truncation of its own; for other families latents are multiplied by psi."""

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """As `Decodes.decode`; ``psi`` below 1 gives more typical images."""


@runtime_checkable
class HasStyles(Protocol):
    """Has a space of styles w between latents and images."""

    layers: int
    layer_sizes: list[tuple[int, int]]

    def mapping(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, *latent_shape) to styles (B, layers, width); ``psi`` draws them to the average."""

    def synthesis(self, w: Tensor, noise: Any = "constant") -> Tensor:
        """Styles (B, layers, width) to images (B, C, H, W), about in [-1, 1]."""


@runtime_checkable
class Encodes(Protocol):
    """Has a way back: from images to latents."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to latents (B, *latent_shape) that decode to about the same."""


@runtime_checkable
class HasDensity(Protocol):
    """Has a likelihood that can be computed."""

    def log_prob(self, images: Tensor) -> Tensor:
        """(B,) log-density in nats of images (B, C, H, W), values in [-1, 1]."""

    def inverse(self, z: Tensor) -> Tensor:
        """Latents (B, *latent_shape) to the images that ``encode`` leads back from."""


@runtime_checkable
class DrawsByTokens(Protocol):
    """Draws one token after the other, or all at once by Jacobi iterations."""

    def decode(self, z: Tensor, sampler: Any = "cached", iterations: int = 0) -> Tensor:
        """As `Decodes.decode`; ``iterations`` a block where ``sampler`` is "jacobi"."""


class TakesConditions(Protocol):
    """Can be trained with conditions, such as hair colours.

    Its constructor takes ``joined``, the number of entries that conditions add to its latents or, of a flow,
    to its labels. A discriminator's takes ``outputs``, the number of values it gives for each place.
    """


class Guided(Protocol):
    """Can go beyond its conditions (classifier-free guidance); its ``decode`` takes ``guidance``."""


# What objectives ask of networks.


@runtime_checkable
class Grows(Protocol):
    """Draws smaller images first; the size follows from how many images training has seen."""

    sizes: Sequence[tuple[int, int]]

    def grow(self, images: int) -> None:
        """Take the size that belongs to ``images`` seen."""


@runtime_checkable
class HasPosterior(Protocol):
    """A variational autoencoder's two halves."""

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latent) of q(z|x)."""

    def logits(self, z: Tensor) -> Tensor:
        """The logits of p(x|z)."""


@runtime_checkable
class RecoversLatents(Protocol):
    """Guesses the latent of an image that it draws."""

    def recovered(self, z: Tensor) -> Tensor:
        """Latents (B, latent) to a guess at them, made from the image."""


@runtime_checkable
class SeesFeatures(Protocol):
    """A discriminator that judges features of a frozen network."""

    feature_channels: Any

    def features(self, images: Tensor) -> Any:
        """What the frozen network makes of images."""
