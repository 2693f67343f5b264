"""DCGAN (Radford, Metz & Chintala 2016, arXiv 1511.06434), fully convolutional, of any depth.

The defaults are the networks of the well-known PyTorch tutorial at 64 px: 3,576,704 parameters in the
generator and 2,765,568 in the discriminator.

Versions with dense layers at both ends are in ``dense_dcgan``.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, Counts, ShareBelowOne


def initialise(module: nn.Module) -> None:
    """Section 4: weights from N(0, 0.02²); batch-norm scales from N(1, 0.02²), their shifts 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


# Layer norm (Ba et al. 2016) over channels and positions, with a scale and a shift for each channel.
NORMS: dict[str, Callable[[int], list[nn.Module]]] = {
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
    "layer": lambda channels: [nn.GroupNorm(1, channels)],
    "none": lambda channels: [],
}


class Generator(nn.Module):
    """Latents to images by transposed convolutions; each one doubles the size (figure 1 of the paper).

    >>> import torch
    >>> Generator(channels=(32, 16)).decode(torch.randn(2, 100)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        latent: Count = 100,  # entries of a latent, each N(0, 1)
        channels: Counts = (
            512,
            256,
            128,
            64,
        ),  # of the 4x4, 8x8, ... features; n of them give 4·2ⁿ px
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
    ) -> None:
        super().__init__()
        self.latent_shape = (latent + joined,)
        self.image_channels = image_channels
        size = 4 * 2 ** len(channels)
        self.resolution = (size, size)
        layers: list[nn.Module] = []
        incoming = latent + joined
        for i, outgoing in enumerate(channels):
            # From 1x1 to 4x4 first, then from n to 2n.
            stride, padding = (1, 0) if i == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(incoming, outgoing, 4, stride, padding, bias=False),
                nn.BatchNorm2d(outgoing),
                nn.ReLU(inplace=True),
            ]
            incoming = outgoing
        # No batch norm at the output: it would fix the mean and variance of every batch of images.
        layers += [nn.ConvTranspose2d(incoming, image_channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, image_channels, H, W) in [-1, 1]."""
        return self.layers(z[:, :, None, None])

    decode = forward


class Discriminator(nn.Module):
    """Images to logits: strided convolutions and leaky ReLUs, the mirror image of the generator.

    The paper's final sigmoid is part of the objective, which takes logits.

    >>> import torch
    >>> Discriminator(channels=(16, 32))(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        channels: Counts = (64, 128, 256, 512),  # from the image down to 4x4; n of them take 4·2ⁿ px
        image_channels: Channels = 3,
        # Share of features dropped after every leaky ReLU; 0: no dropout, as in the paper.
        dropout: ShareBelowOne = 0.0,
        norm: Literal["batch", "layer", "none"] = "batch",  # with a gradient penalty, not "batch"
        outputs: Count = 1,  # logits for each image; conditions add one for each of their values
    ) -> None:
        super().__init__()
        self.resolution = (4 * 2 ** len(channels),) * 2
        layers: list[nn.Module] = []
        incoming = image_channels
        for i, outgoing in enumerate(channels):
            layers.append(nn.Conv2d(incoming, outgoing, 4, 2, 1, bias=False))
            if i > 0:  # no norm at the input (section 3)
                layers += NORMS[norm](outgoing)
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            incoming = outgoing
        layers.append(nn.Conv2d(incoming, outputs, 4, 1, 0, bias=False))
        self.layers = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B, image_channels, H, W) in [-1, 1] to logits (B,), above 0 if an image looks real.

        With several ``outputs`` the logits are (B, outputs).
        """
        return self.layers(images)[:, :, 0, 0].squeeze(1)
