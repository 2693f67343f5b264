"""Glow (Kingma & Dhariwal 2018, arXiv 1807.03039): actnorm, invertible 1×1 convolutions, affine couplings.

Differences from the paper: the logarithm of a coupling's scale is softly bounded (`flow.bounded`), where the
paper uses a sigmoid. So scales are 1 at the start, and inverses stay well conditioned. Activations are not
kept for the backward pass but recomputed through the inverse, unless ``reversible`` is false.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, Positive
from ..errors import UserError
from .flow import (
    CUBE_SCALE,
    Flow,
    Reversible,
    bounded,
    constant_log_det,
    from_unit_cube,
    full_precision,
    in_range,
    inverted,
    joined,
    plain,
    reversible,
    separated,
    squeeze,
    to_unit_cube,
    unsqueeze,
)
from .layers import added_over_processes


class ActNorm(Reversible):
    """Section 3.1: a scale and a shift for each channel.

    They are initialised from the first batch, so that its output has mean 0 and variance 1. For this, `Glow`
    passes its first batch through with ``measuring`` set.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.measuring = False

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Initialise from the batch ``x``; with several processes, from the batches of all of them."""
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        mean, square = moments.div_(added_over_processes(moments))
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        self.shift.copy_(-mean.view_as(self.shift))
        self.log_scale.copy_(-(deviation + 1e-4).log().view_as(self.log_scale))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x + shift) · scale."""
        if self.measuring:
            self.measure(x)
        log_det = self.log_scale.sum() * (x.shape[2] * x.shape[3])
        return (x + self.shift) * self.log_scale.exp(), log_det.expand(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        """x from y."""
        return y * (-self.log_scale).exp() - self.shift


class Convolution(Reversible):
    """Section 3.2: an invertible 1×1 convolution that starts as a random rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_rotation(channels))

    def matrix(self) -> tuple[Tensor, Tensor]:
        """The matrix W and log |det W|."""
        return self.weight, torch.linalg.slogdet(self.weight)[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """W times the channels of every pixel; its log-determinant is log |det W| for each of them."""
        with full_precision(x):
            return self._times(x, *self.matrix())

    def inverse(self, y: Tensor) -> Tensor:
        """x from y; the matrix is inverted in float64."""
        with full_precision(y):
            return self._solved(y, self.matrix()[0])

    def recall(self, y: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """See `Reversible.recall`. The matrix is computed only once."""
        with full_precision(y):
            matrix, log_det = self.matrix()
            x = self._solved(y, matrix.detach()).requires_grad_()
            return ((x,), *self._times(x, matrix, log_det))

    def _times(self, x: Tensor, matrix: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, matrix[:, :, None, None]), (log_det * (x.shape[2] * x.shape[3])).expand(x.shape[0])

    def _solved(self, y: Tensor, matrix: Tensor) -> Tensor:
        return F.conv2d(y, inverted(matrix)[:, :, None, None])


class ConvolutionLU(Convolution):
    """Section 3.2, LU decomposition: W = P L (U + diag s) with P fixed. Its log-determinant is a sum."""

    sign: Tensor
    order: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        permutation, lower, upper = torch.linalg.lu(self.weight.detach().double())
        del self.weight
        diagonal = upper.diagonal()
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())
        self.register_buffer("sign", diagonal.sign().float())
        # Row i of W is row order[i] of L (U + diag s).
        self.register_buffer("order", permutation.argmax(1))

    def matrix(self) -> tuple[Tensor, Tensor]:
        """The matrix W and log |det W|."""
        one = torch.eye(len(self.lower), device=self.lower.device, dtype=self.lower.dtype)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        return ((self.lower.tril(-1) + one) @ upper)[self.order], self.log_diagonal.sum()


class Coupling(Reversible):
    """Section 3.3: half of the channels set scale and shift of the others; if additive, only the shift."""

    def __init__(self, channels: int, hidden: int, affine: bool, limit: float) -> None:
        super().__init__()
        self.affine, self.limit = affine, limit
        kept, changed = channels - channels // 2, channels // 2
        last = nn.Conv2d(hidden, 2 * changed if affine else changed, 3, 1, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.sizes = [kept, changed]
        self.network = nn.Sequential(
            nn.Conv2d(kept, hidden, 3, 1, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU(), last
        )

    def scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The scale's logarithm and the shift."""
        raw = self.network(kept).to(kept.dtype)
        if not self.affine:
            return torch.zeros_like(raw), raw
        log_scale, shift = raw.chunk(2, 1)
        return bounded(log_scale, self.limit), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The kept half, and the other half · scale + shift."""
        kept, changed = x.split(self.sizes, 1)
        log_scale, shift = self.scale_and_shift(kept)
        return torch.cat([kept, changed * log_scale.exp() + shift], 1), log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """x from y."""
        kept, changed = y.split(self.sizes, 1)
        log_scale, shift = self.scale_and_shift(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], 1)

    def recall(self, y: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """See `Reversible.recall`. The network runs once; both directions use its scale and shift."""
        kept, changed = (part.detach() for part in y.split(self.sizes, 1))
        kept.requires_grad_()
        log_scale, shift = self.scale_and_shift(kept)
        with torch.no_grad():
            changed = (changed - shift) * (-log_scale).exp()
        changed.requires_grad_()
        again = torch.cat([kept, changed * log_scale.exp() + shift], 1)
        return (kept, changed), again, log_scale.flatten(1).sum(1)


class Prior(nn.Module):
    """The normal distribution of the channels that a level factors out, given the others.

    It starts as the standard normal.
    """

    def __init__(self, given: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(given, 2 * channels, 3, 1, 1)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation."""
        mean, log_deviation = self.convolution(given).to(given.dtype).chunk(2, 1)
        return mean, bounded(log_deviation, 3.0)


class TopPrior(nn.Module):
    """The learned normal distribution of the coarsest level, the same at every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_deviation = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation."""
        return self.mean, bounded(self.log_deviation, 3.0)


class Glow(Flow):
    """Images to standard normal latents and back, figure 2.

    >>> flow = Glow(size=8, levels=2, steps=1, hidden=4).eval()
    >>> images = torch.rand(2, 3, 8, 8) * 2 - 1
    >>> flow.encode(images).shape, flow.log_prob(images).shape
    (torch.Size([2, 192]), torch.Size([2]))
    >>> torch.allclose(flow.decode(flow.encode(images)), images, atol=1e-4)
    True
    """

    started: Tensor

    def __init__(
        self,
        size: Count = 64,  # of the images, a multiple of 2 to the power of levels
        levels: Count = 3,  # L: each squeezes, runs its steps and, except the last, factors out one half
        steps: Count = 8,  # K: steps of flow in each level
        hidden: Count = 64,  # channels within the coupling networks
        coupling: Literal["affine", "additive"] = "affine",
        convolution: Literal["lu", "plain"] = "lu",  # how the 1×1 convolutions are parametrised
        reversible: bool = True,  # save memory: the backward pass computes activations by the inverse
        limit: Positive = 2.0,  # bound of the logarithm of a coupling's scale
        image_channels: Channels = 3,
    ) -> None:
        super().__init__()
        if size % 2**levels:
            raise UserError(f"model.size: got {size} with {levels} levels, must be a multiple of {2**levels}")
        self.resolution = (size, size)
        self.latent_shape = (image_channels * size * size,)
        self.reversible = reversible
        self.levels, self.priors = nn.ModuleList(), nn.ModuleList()
        self.shapes: list[tuple[int, int, int]] = []  # of the levels' latents
        channels, mixing = image_channels, ConvolutionLU if convolution == "lu" else Convolution
        for level in range(levels):
            channels, size = 4 * channels, size // 2
            layers: list[nn.Module] = []
            for _ in range(steps):
                affine = coupling == "affine"
                layers += [ActNorm(channels), mixing(channels), Coupling(channels, hidden, affine, limit)]
            self.levels.append(nn.ModuleList(layers))
            if level < levels - 1:
                channels //= 2
                self.priors.append(Prior(channels, channels))
            self.shapes.append((channels, size, size))
        self.top = TopPrior(channels)
        # Whether the actnorms have seen their first batch. It is saved in snapshots for resumed runs.
        self.register_buffer("started", torch.tensor(False))

    def transform(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to latents (B, C·H·W) and the log-determinants (B,) in nats."""
        if self.training and not self.started:
            self._start(images)
        return self._transform(images)

    def _transform(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = to_unit_cube(images) - 0.5
        total = constant_log_det(images, CUBE_SCALE)
        run = reversible if self.reversible and torch.is_grad_enabled() else plain
        latents = []
        for layers, prior in zip(self.levels, [*self.priors, None], strict=True):
            x, log_det = run(layers, squeeze(x))  # type: ignore[operator, arg-type]
            if prior is None:
                mean, log_deviation = self.top()
                rest = x
            else:
                x, rest = x.chunk(2, 1)
                mean, log_deviation = prior(x)
            latents.append((rest - mean) * (-log_deviation).exp())
            total = total + log_det - log_deviation.expand_as(rest).flatten(1).sum(1)
        return joined(latents), total

    @torch.no_grad()
    def _start(self, images: Tensor) -> None:
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        for norm in norms:
            norm.measuring = True
        self._transform(images)
        for norm in norms:
            norm.measuring = False
        self.started.fill_(True)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, C·H·W) to images (B, C, H, W), clamped to [-1, 1]."""
        latents = separated(z, self.shapes)
        x: Tensor | None = None
        for layers, prior, rest in zip(
            reversed(self.levels), [None, *reversed(self.priors)], reversed(latents), strict=True
        ):
            mean, log_deviation = self.top() if prior is None else prior(x)
            rest = rest * log_deviation.exp() + mean
            x = rest if x is None else torch.cat([x, rest], 1)
            for layer in reversed(layers):  # type: ignore[call-overload]
                x = layer.inverse(x)
            x = unsqueeze(x)  # type: ignore[arg-type]
        assert x is not None
        return in_range(from_unit_cube(x + 0.5))

    decode = inverse = forward


def _rotation(channels: int) -> Tensor:
    return torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0].float()
