"""DCGANs with a dense layer at the latent and at the logit, as in Keras tutorials.

Two published systems are settings of these networks: with kernels of 4 px and biases (recipe
``yao2021-dcgan-dropout``), and with kernels of 5 px and no biases (recipe ``yao2021-wgan``).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ..bounds import Count, CountOrNone, Counts, ShareBelowOne
from ..errors import UserError


def initialise(module: nn.Module) -> None:
    """Keras's defaults: weights by Glorot & Bengio 2010, equation 16, biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_layers(where: str, channels: Sequence[int], strides: Sequence[int]) -> None:
    if len(channels) != len(strides):
        raise UserError(
            f"{where}.strides: got {list(strides)}, must be {len(channels)} numbers, one for each of "
            f"channels = {list(channels)}"
        )


class Generator(nn.Module):
    """A dense layer to the first features, then transposed convolutions with batch norm and leaky ReLU.

    >>> import torch
    >>> Generator(channels=(8, 8), strides=(1, 2), first_size=16, kernel=5).decode(torch.randn(2, 100)).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        latent: Count = 100,  # entries of a latent, each N(0, 1)
        # Of the first features and of each layer except the last.
        channels: Counts = (256, 128, 64, 32),
        # The factor by which each transposed convolution enlarges the features.
        strides: Counts = (2, 2, 2, 2),
        first_size: Count = 4,  # side of the first features, in px
        kernel: Count = 4,  # side of the kernels: at least the largest stride, odd with a stride of 1
        bias: bool = True,  # whether dense and convolution layers have biases
        slope: float = 0.2,  # slope of the leaky ReLUs for negative values
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
    ) -> None:
        super().__init__()
        _check_layers("model", channels, strides)
        if kernel < max(strides) or (1 in strides and kernel % 2 == 0):
            raise UserError(
                f"model.kernel: got {kernel}, must be at least the largest stride, and odd with a stride of 1"
            )
        self.latent_shape = (latent + joined,)
        size = first_size
        features = channels[0] * first_size**2
        self.dense = nn.Sequential(
            nn.Linear(latent + joined, features, bias=bias), nn.BatchNorm1d(features), nn.LeakyReLU(slope)
        )
        self.first_shape = (channels[0], first_size, first_size)
        layers: list[nn.Module] = []
        for incoming, outgoing, stride in zip(channels, (*channels[1:], 3), strides, strict=True):
            # Keras's "same": the output is exactly ``stride`` times the input.
            padding = (kernel - stride + 1) // 2
            extra = stride + 2 * padding - kernel
            layers += [
                nn.ConvTranspose2d(incoming, outgoing, kernel, stride, padding, extra, bias=bias),
                nn.BatchNorm2d(outgoing),
                nn.LeakyReLU(slope),
            ]
            size *= stride
        self.resolution = (size, size)
        self.layers = nn.Sequential(*layers[:-2], nn.Tanh())
        self.apply(initialise)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, 3, H, W) in [-1, 1]."""
        return self.layers(self.dense(z).view(-1, *self.first_shape))

    decode = forward


class Discriminator(nn.Module):
    """Strided convolutions, then one dense layer to the logit.

    >>> import torch
    >>> Discriminator(resolution=16, channels=(8, 8), strides=(2, 2))(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        resolution: Count = 64,  # side of the images in px
        channels: Counts = (32, 64, 128, 256),
        strides: Counts = (2, 2, 2, 1),  # of each convolution
        kernel: Count = 3,  # side of the kernels, odd
        batch_norm: bool = True,  # after every convolution except the first
        dropout: ShareBelowOne = 0.25,  # share of features dropped after every leaky ReLU; 0: none
        # Layers, counted from 0, before which a row and a column of zeros are added.
        padded: Sequence[CountOrNone] = (2,),
        slope: float = 0.2,  # slope of the leaky ReLUs for negative values
        outputs: Count = 1,  # logits for each image; conditions add one for each of their values
    ) -> None:
        super().__init__()
        _check_layers("discriminator", channels, strides)
        if kernel % 2 == 0:
            raise UserError(f"discriminator.kernel: got {kernel}, must be odd")
        self.resolution = (resolution, resolution)
        layers: list[nn.Module] = []
        incoming, size = 3, resolution
        for i, (outgoing, stride) in enumerate(zip(channels, strides, strict=True)):
            if i in padded:
                layers.append(nn.ZeroPad2d((0, 1, 0, 1)))
                size += 1
            layers.append(nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2))
            if batch_norm and i > 0:
                layers.append(nn.BatchNorm2d(outgoing))
            layers.append(nn.LeakyReLU(slope))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            incoming, size = outgoing, (size - 1) // stride + 1
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(incoming * size**2, outputs))
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to logits (B,), or (B, outputs), above 0 if an image looks real."""
        return self.layers(images).squeeze(1)
