"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803): masked couplings on several scales.

Differences from the paper: the last convolutions of the couplings start at zero, so the flow starts with only
its batch norms. Because of batch statistics, activations cannot be recomputed through the inverse. With
``recompute``, the activations within the couplings' networks are computed a second time and not kept.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from ..bounds import Channels, Count, CountOrNone
from ..errors import UserError
from .flow import (
    CUBE_SCALE,
    Flow,
    constant_log_det,
    from_unit_cube,
    in_range,
    joined,
    separated,
    squeeze,
    to_unit_cube,
    unsqueeze,
)


class BatchNorm(nn.Module):
    """Section 3.7, equations 17 and 18, and appendix E: batch norm by a moving average, as a layer of a flow.

    The statistics are the moving average over recent batches, including the current one. Only the current
    batch has gradients. The inverse uses the statistics of the last training step.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("variance", torch.ones(1, channels, 1, 1))
        self.register_buffer("batches", torch.tensor(0))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance to normalise ``x`` with; in training, they first move towards those of ``x``."""
        if not self.training:
            return self.mean, self.variance
        self.batches += 1
        # At first the plain mean over batches, so that the initial 0 and 1 have no weight.
        share = (1 / self.batches).clamp(min=self.momentum)
        mean = torch.lerp(self.mean, x.mean((0, 2, 3), keepdim=True), share.to(x.dtype))
        batch = x.var((0, 2, 3), keepdim=True, correction=0)
        variance = torch.lerp(self.variance, batch, share.to(x.dtype))
        self.mean.copy_(mean.detach())
        self.variance.copy_(variance.detach())
        return mean, variance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x - mean) / deviation, and the log-determinant (B,)."""
        mean, variance = self.statistics(x)
        log_scale = -0.5 * (variance + 1e-5).log()
        log_det = log_scale.sum() * (x.shape[2] * x.shape[3])
        return (x - mean) * log_scale.exp(), log_det.expand(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        """x from y."""
        return y * (self.variance + 1e-5).sqrt() + self.mean


class ResidualBlock(nn.Module):
    """Section 3.7: batch norm, ReLU and weight-normalised convolution, twice, and a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), weight_norm(convolution)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        return x + self.layers(x)


class Network(nn.Sequential):
    """The network that computes a coupling's scales and shifts: a residual network that keeps the size."""

    def __init__(self, channels_in: int, hidden: int, blocks: int, channels_out: int) -> None:
        last = weight_norm(nn.Conv2d(hidden, channels_out, 1))
        nn.init.zeros_(last.parametrizations.weight.original0)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        super().__init__(
            weight_norm(nn.Conv2d(channels_in, hidden, 3, 1, 1)),
            *(ResidualBlock(hidden) for _ in range(blocks)),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            last,
        )


class Coupling(nn.Module):
    """Equations 7 to 9: the entries that the mask keeps set the scale and shift of the others.

    The logarithm of the scale is a learned multiple of a hyperbolic tangent (section 4.1), so it cannot
    explode within a step. ``odd`` swaps the kept and the changed entries.
    """

    def __init__(
        self, channels: int, hidden: int, blocks: int, odd: bool, checkerboard: bool, recompute: bool
    ) -> None:
        super().__init__()
        self.odd, self.checkerboard, self.recompute = odd, checkerboard, recompute
        seen = channels if checkerboard else channels // 2
        self.network = Network(seen, hidden, blocks, 2 * seen)
        self.limit = nn.Parameter(torch.ones(1, seen, 1, 1))

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        if self.recompute and torch.is_grad_enabled():
            raw = checkpoint(
                self.network, kept, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts
            )
        else:
            raw = self.network(kept)
        raw, shift = raw.to(kept.dtype).chunk(2, 1)
        return self.limit * raw.tanh(), shift

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The contexts for the first and the second run of the network."""
        return nullcontext(), _StatisticsUntouched(self.network)

    def _run(self, x: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        if self.checkerboard:
            # Figure 3, left: the mask is 1 where row plus column is odd (or even).
            rows, columns = (torch.arange(side, device=x.device) for side in x.shape[2:])
            mask = ((rows[:, None] + columns + self.odd) % 2).to(x.dtype)
            log_scale, shift = ((1 - mask) * part for part in self._scale_and_shift(mask * x))
            y = (x - shift) * (-log_scale).exp() if inverse else x * log_scale.exp() + shift
        else:
            halves = list(x.chunk(2, 1))
            log_scale, shift = self._scale_and_shift(halves[self.odd])
            other = halves[1 - self.odd]
            other = (other - shift) * (-log_scale).exp() if inverse else other * log_scale.exp() + shift
            halves[1 - self.odd] = other
            y = torch.cat(halves, 1)
        return y, log_scale.flatten(1).sum(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and the log-determinant (B,)."""
        return self._run(x, inverse=False)

    def inverse(self, y: Tensor) -> Tensor:
        """x from y."""
        return self._run(y, inverse=True)[0]


class Squeeze(nn.Module):
    """Section 3.6, as a layer."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `flow.squeeze`."""
        return squeeze(x), x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        """See `flow.unsqueeze`."""
        return unsqueeze(y)


class RealNVP(Flow):
    """Images to standard normal latents and back (section 3.6).

    A scale has three couplings with checkerboard masks, a squeeze, and three couplings with channel masks.
    Then half of the channels are factored out. The last scale has four couplings with checkerboard masks.
    Hidden channels double with every scale.

    >>> flow = RealNVP(size=8, scales=2, hidden=4, blocks=1).eval()
    >>> images = torch.rand(2, 3, 8, 8) * 2 - 1
    >>> flow.encode(images).shape, flow.log_prob(images).shape
    (torch.Size([2, 192]), torch.Size([2]))
    >>> torch.allclose(flow.decode(flow.encode(images)), images, atol=1e-4)
    True
    """

    def __init__(
        self,
        size: Count = 64,  # of the images, a multiple of 2 to the power of scales - 1
        scales: Count = 5,  # the features of the last are size / 2 to the power of scales - 1 wide
        hidden: Count = 32,  # channels within the coupling networks of the first scale
        blocks: CountOrNone = 2,  # residual blocks in each coupling network
        alpha: float = 0.05,  # pixels are scaled to [alpha, 1 - alpha] before the logit; above 0
        recompute: bool = False,  # run couplings' networks again in the backward pass, to save memory
        image_channels: Channels = 3,
    ) -> None:
        super().__init__()
        if scales < 1 or size % 2 ** (scales - 1):
            raise UserError(
                f"model.size: got {size} with {scales} scales, must be a multiple of {2 ** (scales - 1)}"
            )
        if not 0 < alpha < 0.5:
            raise UserError(f"model.alpha: got {alpha}, must be between 0 and 0.5, for example 0.05")
        self.resolution = (size, size)
        self.latent_shape = (image_channels * size * size,)
        self.alpha = alpha
        self.scales = nn.ModuleList()
        self.shapes: list[tuple[int, int, int]] = []  # of the scales' latents
        channels = image_channels
        for scale in range(scales):
            layers: list[nn.Module] = []
            last = scale == scales - 1
            for i in range(4 if last else 3):
                layers.append(Coupling(channels, hidden, blocks, bool(i % 2), True, recompute))
                layers.append(BatchNorm(channels))
            if not last:
                channels, size, hidden = 4 * channels, size // 2, 2 * hidden
                layers.append(Squeeze())
                for i in range(3):
                    layers.append(Coupling(channels, hidden, blocks, bool(i % 2), False, recompute))
                    layers.append(BatchNorm(channels))
                channels //= 2
            self.scales.append(nn.ModuleList(layers))
            self.shapes.append((channels, size, size))

    def transform(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to latents (B, C·H·W) and the log-determinants (B,) in nats.

        Section 4.1: the flow models the logit of the image x on the unit cube, which is first scaled to
        [α, 1 - α]: logit(α + (1 - 2α) x). The paper's formula logit(α + (1 - α) x) would leave 1 unchanged.
        """
        share = self.alpha + (1 - 2 * self.alpha) * to_unit_cube(images)
        x = share.log() - (1 - share).log()
        total = constant_log_det(images, CUBE_SCALE * (1 - 2 * self.alpha))
        total = total - (share.log() + (1 - share).log()).flatten(1).sum(1)
        latents = []
        for scale, layers in enumerate(self.scales, 1):
            for layer in layers:  # type: ignore[attr-defined]
                x, log_det = layer(x)
                total = total + log_det
            if scale < len(self.scales):
                x, rest = x.chunk(2, 1)
                latents.append(rest)
        return joined([*latents, x]), total

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, C·H·W) to images (B, C, H, W), clamped to [-1, 1]."""
        x: Tensor | None = None
        for layers, rest in zip(reversed(self.scales), reversed(separated(z, self.shapes)), strict=True):
            x = rest if x is None else torch.cat([x, rest], 1)
            for layer in reversed(layers):  # type: ignore[call-overload]
                x = layer.inverse(x)
        assert x is not None
        x = torch.where(x.isinf(), torch.nan, x)  # the sigmoid would hide infinite values
        cube = (x.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        return in_range(from_unit_cube(cube))

    decode = inverse = forward

    def weight_scales(self) -> list[Tensor]:
        """The scale parameters of the weight norms; the paper regularises them (section 4.1)."""
        return [value for name, value in self.named_parameters() if name.endswith("weight.original0")]


class _StatisticsUntouched(AbstractContextManager[None]):
    """In this context, batch norms use their batch's statistics, as in training, but do not update theirs.

    It may be entered several times, because a graph may be differentiated several times.
    """

    def __init__(self, network: nn.Module) -> None:
        self.norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]

    def __enter__(self) -> None:
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, batches) in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
