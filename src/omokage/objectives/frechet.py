"""A loss that matches the mean and covariance of generated and real images, in frozen features.

The Fréchet distance between two normal distributions (Dowson & Landau 1982; FID, Heusel et al. 2017) is the
cost of the optimal transport from one to the other. The transport map has a closed form: x to
m_r + A (x - m_g), with A = S_g^-½ (S_g^½ S_r S_g^½)^½ S_g^-½. The loss moves each image along this map.
The moments are running averages over many batches, because one batch is too small for hundreds of dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.layers import added_over_processes

HALF_LIFE = 10_000  # after this many images, the weight of an image is halved
EVERY = 16  # steps between two computations of the transport map
RIDGE = 1e-3  # share of the mean variance added to all variances, because some directions have none
FIRST = 10  # images per dimension before the loss is used


class Frechet(nn.Module):
    """Running moments of real and generated features, and the optimal transport between them.

    ``channels`` are the channels of the feature maps; each map is averaged over its positions.

    >>> frechet = Frechet([4, 8])
    >>> frechet.pooled([torch.randn(2, 4, 6, 6), torch.randn(2, 8, 3, 3)]).shape
    torch.Size([2, 12])
    """

    moments: Tensor
    way: Tensor
    steps: Tensor
    seen: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.maps, size = len(channels), sum(channels)
        # For real and for generated images: the mean, then the mean of outer products.
        self.register_buffer("moments", torch.zeros(2, size + 1, size))
        self.register_buffer("way", torch.eye(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def pooled(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels, H, W) to their means over positions, float (B, sum of channels)."""
        return torch.cat([x.float().mean((2, 3)) for x in features[: self.maps]], 1)

    @torch.no_grad()
    def observe(self, real: Tensor, generated: Tensor) -> None:
        """Add pooled features of a step to the moments; every `EVERY` steps recompute the transport map."""
        found = []
        # Autocast rounds products of matrices to bfloat16. Then covariances get negative eigenvalues, and the
        # transport along them is a hundred times too long.
        with torch.autocast(real.device.type, enabled=False):
            for x in (real, generated):
                x = x.detach().float()
                found.append(torch.cat([x.mean(0)[None], x.T @ x / len(x)]))
        new = torch.stack(found)
        processes = added_over_processes(new)
        new /= processes
        count = len(generated) * processes
        self.steps += 1
        self.seen += count
        # At first a plain average, because there are no old images to forget yet.
        share = max(1 / int(self.steps), 1 - 0.5 ** (count / HALF_LIFE))
        self.moments.lerp_(new, share)
        if self.ready and int(self.steps) % EVERY == 0:
            self.way.copy_(transport(*self.covariances()))

    @property
    def ready(self) -> bool:
        """Whether enough images were seen for a useful covariance."""
        return int(self.seen) >= FIRST * self.way.shape[0]

    def covariances(self) -> tuple[Tensor, Tensor]:
        """Covariances of generated and of real features, float64, with the ridge added."""
        spread = []
        for moments in (self.moments[1].double(), self.moments[0].double()):
            mean = moments[0]
            spread.append(moments[1:] - mean.outer(mean))
        ridge = RIDGE * spread[1].diagonal().mean().clamp_min(1e-12)
        eye = ridge * torch.eye(len(self.way), dtype=torch.float64, device=self.way.device)
        return spread[0] + eye, spread[1] + eye

    def loss(self, generated: Tensor) -> Tensor:
        """Squared distance between pooled features (B, size) of generated images and their transport targets.

        It is a mean over images, in units of the variance of real features. It is 0 if the moments agree.
        """
        if not self.ready:
            return generated.new_zeros(())
        real_mean, fake_mean = self.moments[0, 0], self.moments[1, 0]
        with torch.no_grad(), torch.autocast(generated.device.type, enabled=False):
            aim = real_mean + (generated - fake_mean) @ self.way.T
            variance = (self.moments[0, 1:].diagonal() - real_mean.square()).sum().clamp_min(1e-12)
        return (generated - aim).square().sum(1).mean() / variance

    @torch.no_grad()
    def distance(self) -> Tensor:
        """The squared Fréchet distance of the moments, in units of the variance of real features."""
        fake, real = self.covariances()
        difference = (self.moments[0, 0] - self.moments[1, 0]).double()
        root = symmetric_power(fake, 0.5)
        cross = torch.linalg.eigvalsh(root @ real @ root).clamp_min(0).sqrt().sum()
        total = difference.square().sum() + fake.trace() + real.trace() - 2 * cross
        return (total / real.trace()).float()


def transport(start: Tensor, end: Tensor) -> Tensor:
    """The optimal transport from a normal distribution with covariance ``start`` to one with ``end``.

    Both are (N, N), positive definite; the result is a symmetric matrix (Peyré & Cuturi 2019, remark 2.31).

    >>> transport(torch.diag(torch.tensor([4.0, 1.0])), torch.diag(torch.tensor([1.0, 9.0])))
    tensor([[0.5000, 0.0000],
            [0.0000, 3.0000]])
    """
    values, vectors = torch.linalg.eigh(start)
    values = values.clamp_min(values.max() * 1e-10)
    root = (vectors * values.sqrt()) @ vectors.T
    back = (vectors * values.rsqrt()) @ vectors.T
    return back @ symmetric_power(root @ end @ root, 0.5) @ back


def symmetric_power(matrix: Tensor, power: float) -> Tensor:
    """A power of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp_min(0) ** power) @ vectors.T
