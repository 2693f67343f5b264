"""Encoders: a first guess of the latent of a picture."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from omokage.abilities import Encodes
from omokage.families import build_discriminator
from omokage.model import ENCODER_PARTS, Model
from omokage.models.conditional import unconditioned
from omokage.models.feature_encoder import FeatureEncoder
from omokage.models.layers import Location
from omokage.settings import Settings
from omokage.snapshot import load_weights, read_snapshot

PLAIN = Settings()
Encoder = Callable[[Tensor], Tensor]  # images (B, 3, H, W) in [-1, 1] to latents z (B, *latent_shape)


def encoder_of(model: Model, settings: Settings = PLAIN) -> Encoder | None:
    """The encoder of a model; None: it has none.

    A flow or VAE is its own encoder. A GAN that was trained with `vae-gan` has an encoder in its snapshot.
    Its latents are those that the generator saw in training; they are converted to standard normal latents.

    Raises:
        UserError: the encoder in the snapshot is damaged, or the network that it looks through is missing.
    """
    if model.can(Encodes):
        return lambda images: model.encode(images, settings)
    if model.path is None:
        return None
    tensors, _, _ = read_snapshot(model.path, ENCODER_PARTS[0])
    if not tensors:
        return None
    with torch.random.fork_rng():  # building draws random weights, which are replaced
        discriminator: Any = build_discriminator(model.recipe.discriminator)
    projection: dict[str, Tensor] = {}
    for prefix in ENCODER_PARTS[1:]:
        projection |= read_snapshot(model.path, prefix)[0]
    single = {name: tensor.float() for name, tensor in projection.items()}
    load_weights(discriminator.projection, single, model.path)
    discriminator.at_images(model.images_seen)
    generator: Any = unconditioned(model.network)
    location: Location | None = getattr(generator, "location", None)
    latent = tensors["moments.weight"].shape[0] // 2
    with torch.random.fork_rng():
        network = FeatureEncoder(discriminator.feature_channels[1:], latent, len(tensors["hidden.bias"]))
    load_weights(network, {name: tensor.float() for name, tensor in tensors.items()}, model.path)
    network = network.eval().requires_grad_(False).to(model.device)
    discriminator = discriminator.eval().requires_grad_(False).to(model.device)

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        images = images.to(model.device).float()
        mean, _ = network(discriminator.features(images)[1:])
        z = mean if location is None else standardised(mean, location)
        rest = model.latent_shape[0] - z.shape[1]  # entries that conditions add
        return torch.cat([z, z.new_zeros(len(z), rest)], 1)

    return encode


def standardised(mapped: Tensor, location: Location) -> Tensor:
    """The inverse of a `Location`: latents (B, latent) as the generator sees them to standard normal ones.

    >>> location = Location(2)
    >>> location.move(torch.ones(2), torch.tensor([[2.0, 0.0], [1.0, 4.0]]))
    >>> z = torch.tensor([[0.5, -1.0]])
    >>> torch.allclose(standardised(location(z), location), z)
    True
    """
    shifted = (mapped - location.centre).double()
    return torch.linalg.solve(location.axes.double(), shifted.T).T.to(mapped.dtype)
