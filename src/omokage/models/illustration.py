"""IllustrationGAN (Russell 2016): a DCGAN with more dense layers and two measures against mode collapse.

Its description has stride-1 convolutions with bilinear upsampling and max pooling. Against mode collapse it
has minibatch discrimination, and a network that predicts the latent from the generator's last dense layer.
The layers of its code are two to four times as wide; the defaults here suit CPUs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..bounds import Count, CountOrNone, Counts
from .dcgan import initialise


class Generator(nn.Module):
    """Latents to images: dense layers, then bilinear upsampling and convolutions.

    >>> generator = Generator(latent=8, channels=(8, 8), dense=(16,))
    >>> generator.decode(torch.randn(2, 8)).shape, generator.recovered(torch.randn(2, 8)).shape
    (torch.Size([2, 3, 16, 16]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        latent: Count = 100,  # entries of a latent, each N(0, 1)
        channels: Counts = (256, 128, 64, 32),  # at 4x4, 8x8, ...; n of them give 4·2ⁿ px
        dense: Sequence[Count] = (512, 512),  # widths of the dense layers before the one to 4x4
        joined: CountOrNone = 0,  # entries that conditions add to a latent; 0: none
    ) -> None:
        super().__init__()
        self.latent_shape = (latent + joined,)
        size = 4 * 2 ** len(channels)
        self.resolution = (size, size)
        self.first_shape = (channels[0], 4, 4)
        widths = (latent + joined, *dense, 16 * channels[0])
        layers: list[nn.Module] = []
        for incoming, outgoing in pairwise(widths):
            layers += [
                nn.Linear(incoming, outgoing, bias=False),
                nn.BatchNorm1d(outgoing),
                nn.ReLU(inplace=True),
            ]
        self.dense = nn.Sequential(*layers)
        self.predictor = nn.Sequential(
            nn.Linear(widths[-1], widths[-2]), nn.ReLU(inplace=True), nn.Linear(widths[-2], latent)
        )
        layers = []
        for incoming, outgoing in zip(channels, (*channels[1:], channels[-1]), strict=True):
            layers += [
                nn.Upsample(scale_factor=2.0, mode="bilinear"),
                nn.Conv2d(incoming, outgoing, 3, 1, 1, bias=False),
                nn.BatchNorm2d(outgoing),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 3, 3, 1, 1), nn.Tanh())
        self.apply(initialise)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent + joined) to (B, 3, H, W) in [-1, 1]."""
        return self.layers(self.dense(z).view(-1, *self.first_shape))

    decode = forward

    def recovered(self, z: Tensor) -> Tensor:
        """The latents (B, latent) as the predictor recovers them from the dense layers' output for ``z``."""
        return self.predictor(self.dense(z))


class MinibatchDiscrimination(nn.Module):
    """Salimans et al. 2016, section 3.2: how close an image's features are to those of the rest of the batch.

    (B, features) to (B, features + kernels). The sums leave out the image itself, whose distance is 0.
    """

    def __init__(self, features: int, kernels: int, width: int) -> None:
        super().__init__()
        self.shape = (kernels, width)  # B and C of the paper
        self.projection = nn.Linear(features, kernels * width, bias=False)  # T

    def forward(self, features: Tensor) -> Tensor:
        rows = self.projection(features).float().view(-1, *self.shape)  # M
        distances = (rows[:, None] - rows[None]).abs().sum(3)
        return torch.cat([features, ((-distances).exp().sum(1) - 1).to(features)], 1)


class Discriminator(nn.Module):
    """Images to logits: convolutions with max pooling, dense layers, minibatch discrimination.

    >>> Discriminator(resolution=16, channels=(8, 8), dense=16)(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        resolution: Count = 64,  # side of the images in px
        channels: Counts = (32, 64, 128, 256),  # each at half the size of the one before
        dense: Count = 512,  # width of the two dense layers
        kernels: Count = 50,  # numbers that minibatch discrimination adds to the features
        kernel_width: Count = 5,  # entries of each kernel's rows
        outputs: Count = 1,  # logits for each image; conditions add one for each of their values
    ) -> None:
        super().__init__()
        self.resolution = (resolution, resolution)
        layers: list[nn.Module] = []
        incoming = 3
        for i, outgoing in enumerate(channels):
            layers.append(nn.Conv2d(incoming, outgoing, 3, 1, 1, bias=i == 0))
            if i > 0:
                layers.append(nn.BatchNorm2d(outgoing))
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.MaxPool2d(2)]
            incoming = outgoing
        size = resolution // 2 ** len(channels)
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(incoming * size**2, dense),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(dense, dense),
            nn.LeakyReLU(0.2, inplace=True),
            MinibatchDiscrimination(dense, kernels, kernel_width),
            nn.Linear(dense + kernels, outputs),
        )
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to logits (B,), or (B, outputs), which depend on the rest of the batch."""
        return self.layers(images).squeeze(1)
