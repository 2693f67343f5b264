"""Shared parts of the normalising flows: densities, squeezing, bounded scales, memory-saving backward pass.

A layer of a flow maps x to ``(y, log_det)``: log_det (B,) is log |det dy/dx| of each image, in nats. It also
has ``inverse(y) -> x``. Layers for `reversible` have ``recall`` too, see there.

All flows have the same methods: ``transform(images) -> (z, log_det)``, ``encode``, ``log_prob``, ``decode``.
Their ``latent_shape`` is flat, (channels·height·width,), with the coarsest level first. z is normalised by
every learned prior, so it is standard normal. Multiplying z by a temperature samples at that temperature:
every learned normal distribution keeps its mean, and its standard deviation is multiplied by the temperature
(as in Kingma & Dhariwal 2018). ``log_prob`` is the density of images with values in [-1, 1].
"""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Pixel values 0 to 255 are points in [-1, 1]. They are the centres of 256 bins, which reach a little beyond.
# These bins cover the unit cube: pixel value k is the bin from k / 256 to (k + 1) / 256.
CUBE_SCALE = 127.5 / 256


def to_unit_cube(images: Tensor) -> Tensor:
    """Images in [-1, 1] to the unit cube: pixel value k to (k + 1/2) / 256.

    >>> [round(256 * entry, 4) for entry in to_unit_cube(torch.tensor([-1.0, 1.0])).tolist()]
    [0.5, 255.5]
    """
    return images * CUBE_SCALE + 0.5


def from_unit_cube(cube: Tensor) -> Tensor:
    """The inverse of `to_unit_cube`; its log-determinant is -log(`CUBE_SCALE`) for each entry."""
    return (cube - 0.5) / CUBE_SCALE


def in_range(images: Tensor) -> Tensor:
    """``images`` clamped to [-1, 1]. Infinite values become NaN, so that they count as failures.

    >>> in_range(torch.tensor([0.5, 1.2, float("-inf")]))
    tensor([0.5000, 1.0000,    nan])
    """
    return torch.where(images.isinf(), torch.nan, images.clamp(-1, 1))


def constant_log_det(x: Tensor, scale: float) -> Tensor:
    """(B,) log-determinant of multiplying every entry of ``x`` by ``scale``."""
    return x.new_full((x.shape[0],), math.log(scale) * x[0].numel())


def normal_log_density(z: Tensor) -> Tensor:
    """(B,) log-density in nats of ``z`` (B, ...) under the standard normal.

    >>> round(normal_log_density(torch.zeros(1, 2)).item(), 6)  # -log 2π
    -1.837877
    """
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def bounded(raw: Tensor, limit: float) -> Tensor:
    """``raw`` softly bounded to ±``limit``, with slope 1 at 0. Used for logarithms of scales.

    No layer then stretches or shrinks by more than exp(limit). So its inverse stays well conditioned, and a
    bad step cannot overflow the exponential.
    """
    return limit * torch.tanh(raw / limit)


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H/2, W/2) (Dinh et al. 2017, section 3.6).

    The two pixels on the diagonal of each 2×2 square come first. So the first half of the channels has the
    squares of one colour of a checkerboard.

    >>> squeeze(torch.arange(4.0).view(1, 1, 2, 2)).flatten().tolist()
    [0.0, 3.0, 1.0, 2.0]
    """
    return torch.cat([x[:, :, i::2, j::2] for i, j in ((0, 0), (1, 1), (0, 1), (1, 0))], 1)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of `squeeze`."""
    a, d, b, c = x.chunk(4, 1)
    rows = torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -3)  # (B, C, H, 2, W, 2)
    return rows.flatten(4, 5).flatten(2, 3)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast, so that values to be inverted are not rounded to bfloat16."""
    if not torch.is_autocast_enabled(x.device.type):
        return nullcontext()  # so that it leaves no trace in an exported graph
    return torch.autocast(x.device.type, enabled=False)


def in_double(x: Tensor) -> Tensor:
    """``x`` in float64; on the CPU if its device has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def inverted(matrix: Tensor) -> Tensor:
    """The inverse of ``matrix`` (N, N), computed in float64, with the dtype and device of ``matrix``."""
    return torch.linalg.inv(in_double(matrix)).to(matrix)


class Flow(nn.Module):
    """The base of all flows: it derives the other methods from ``transform``."""

    def transform(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to latents (B, C·H·W) and the log-determinants (B,) in nats."""
        raise NotImplementedError

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to latents (B, C·H·W); the flow inverts this exactly.

        ``labels``: as ``transform`` takes them, for a flow that has some.
        """
        return self.transform(images, *([] if labels is None else [labels]))[0]

    def log_prob(self, images: Tensor) -> Tensor:
        """(B,) log-density in nats of images (B, C, H, W), values in [-1, 1]."""
        z, log_det = self.transform(images)
        return normal_log_density(z) + log_det


class Reversible(nn.Module):
    """A layer for `reversible`: its activations can be recomputed from its output."""

    def inverse(self, y: Tensor) -> Tensor:
        """x from y."""
        raise NotImplementedError

    def recall(self, y: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Compute the input from the output ``y``, then run the layer on it with gradients on.

        Returns the input as a tuple of leaf tensors, split along the channels; the output; and log_det. A
        layer with an expensive network overrides this to run the network only once.
        """
        with torch.no_grad():
            x = self.inverse(y)
        x.requires_grad_()
        return ((x,), *self(x))


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: list[Reversible], x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        device = x.device.type
        ctx.layers = layers
        ctx.autocast = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }
        y, log_det = plain(layers, x)
        ctx.save_for_backward(y)
        return y, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        gradients: list[tuple[Tensor | None, ...]] = []
        for layer in reversed(ctx.layers):
            parameters = [p for p in layer.parameters() if p.requires_grad]
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                parts, again, log_det = layer.recall(y)
            outputs = [(again, grad_y)] + ([(log_det, grad_log_det)] if log_det.requires_grad else [])
            found = torch.autograd.grad(
                [output for output, _ in outputs],
                (*parts, *parameters),
                [gradient for _, gradient in outputs],
                allow_unused=True,
            )
            y = torch.cat([part.detach() for part in parts], 1)
            grad_y = torch.cat(found[: len(parts)], 1)
            gradients.append(found[len(parts) :])
        return (None, grad_y, *(gradient for layer in reversed(gradients) for gradient in layer))


def plain(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Tensor]:
    """x through ``layers``, one after the other: the output and the sum of their log-determinants."""
    total = x.new_zeros(x.shape[0])
    for layer in layers:
        x, log_det = layer(x)
        total = total + log_det
    return x, total


def reversible(layers: Iterable[Reversible], x: Tensor) -> tuple[Tensor, Tensor]:
    """Like `plain`, but keeps only the last output for the backward pass, whatever the number of layers.

    The backward pass computes each layer's input from its output (Gomez et al. 2017, "The Reversible Residual
    Network"). It can be differentiated once. Layers must give the same output when they run again: no
    dropout, no batch statistics.
    """
    layers = list(layers)
    parameters = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    return _Reversible.apply(layers, x, *parameters)  # type: ignore[no-untyped-call]


def joined(levels: list[Tensor]) -> Tensor:
    """Latents of the levels (a list, finest first) to one flat latent (B, N), coarsest level first."""
    return torch.cat([level.flatten(1) for level in reversed(levels)], 1)


def separated(z: Tensor, shapes: list[tuple[int, int, int]]) -> list[Tensor]:
    """The inverse of `joined`; ``shapes`` are (C, H, W) of the levels, finest first."""
    backwards = shapes[::-1]
    parts = z.split([math.prod(shape) for shape in backwards], 1)
    return [part.view(z.shape[0], *shape) for part, shape in zip(parts, backwards, strict=True)][::-1]
