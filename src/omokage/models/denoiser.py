"""What all denoisers share: from one method, ``denoised``, follow samples, latents and likelihood.

A denoiser is trained to take normal noise off an image (diffusion, flow matching). Taking it off little by
little, from pure noise on, draws an image. Without fresh noise on the way this is a differential equation
(Song et al. 2021, arXiv 2011.13456, section 4.3), and a latent is its start: so a latent has one image, an
image has a latent, and a likelihood follows.

A path of flow matching, x_t = t image + (1 - t) noise, is the same with other names (Karras et al. 2022,
arXiv 2206.00364, table 1): x_t / t is the image with noise of the level (1 - t) / t.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import UserError
from .flow import Flow, in_range
from .samplers import SAMPLERS, Denoise, SamplerName, heun, noise_of, seeded, spaced


class Denoiser(Flow):
    """The base of denoisers. A subclass has ``denoised``, and may have ``levels`` of its own.

    ``encode`` and ``inverse`` go along the equation with Heun's method and a fixed number of steps. So they
    undo each other only about: the error falls with the square of `encoding_steps`.

    ``log_prob`` is the density of images with noise of the level ``lowest`` on them, along the same steps.
    The trace of the denoiser's derivative is estimated with one random vector of signs for each image
    (Hutchinson; Song et al. 2021, appendix D.2). The estimate has the right mean. Its variance for a
    symmetric derivative is twice the sum of the squares of all entries beside its diagonal. The vector
    follows from the image, so an image has one number.
    """

    def __init__(
        self,
        size: int,
        image_channels: int,
        steps: int,
        encoding_steps: int,
        deviation: float,
        lowest: float,
        highest: float,
    ) -> None:
        super().__init__()
        if not lowest < highest:
            raise UserError(f"model.lowest: got {lowest}, must be below model.highest, {highest}")
        self.resolution = (size, size)
        self.image_channels = image_channels
        self.shape = (image_channels, size, size)
        self.latent_shape = (image_channels * size * size,)
        self.steps, self.encoding_steps = steps, encoding_steps
        self.deviation, self.lowest, self.highest = deviation, lowest, highest

    def denoised(self, noisy: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of the clean images behind ``noisy`` ones (B, C, H, W), float32 or float64.

        Args:
            level: (B,) standard deviations of the noise, above 0.
            labels: (B, joined), with ones for the values of an image; None or zeros: no labels.
        """
        raise NotImplementedError

    def levels(self, steps: int) -> list[float]:
        """The levels that `decode` passes: ``steps`` of them, then 0."""
        return [*spaced(self.highest, self.lowest, steps), 0.0]

    @property
    def scale(self) -> float:
        """The deviation of images with the highest noise; a latent is such an image divided by it."""
        return math.hypot(self.highest, self.deviation)

    def _denoise(self, labels: Tensor | None, guidance: float) -> Denoise:
        def denoise(x: Tensor, level: float) -> Tensor:
            levels = x.new_full((x.shape[0],), level)
            found = self.denoised(x, levels, labels)
            if not guidance or labels is None:
                return found
            return found + guidance * (found - self.denoised(x, levels))

        return denoise

    def _start(self, z: Tensor) -> Tensor:
        return self.scale * z.view(z.shape[0], *self.shape)

    def drawn(
        self,
        z: Tensor,
        sampler: SamplerName = "heun",
        steps: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Latents (B, C·H·W) to images (B, C, H, W), not clamped.

        Args:
            sampler: a name of `samplers.SAMPLERS`.
            steps: levels of noise on the way; 0: the model's own number.
            labels: (B, joined), or None.
            guidance: the weight w of classifier-free guidance (Ho & Salimans 2022): a clean image is 1 + w
                times the one with labels minus w times the one without. Without labels it has no effect.
        """
        levels = self.levels(steps or self.steps)
        noise = noise_of(z, self._start(z).shape[1:]) if sampler == "ancestral" else _no_noise
        return SAMPLERS[sampler](self._denoise(labels, guidance), self._start(z), levels, noise)

    def decode(
        self,
        z: Tensor,
        sampler: SamplerName = "heun",
        steps: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """As `drawn`, clamped to [-1, 1]."""
        return in_range(self.drawn(z, sampler, steps, labels, guidance))

    forward = decode

    def _path(self) -> list[float]:
        """The levels of `encode`, rising."""
        return spaced(self.highest, self.lowest, self.encoding_steps + 1)[::-1]

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to latents (B, C·H·W), along the equation towards noise."""
        x = heun(self._denoise(labels, 0.0), images, self._path(), _no_noise)
        return (x / self.scale).flatten(1)

    def inverse(self, z: Tensor, labels: Tensor | None = None, guidance: float = 0.0) -> Tensor:
        """Latents (B, C·H·W) to images (B, C, H, W), not clamped: the way of `encode` back.

        It ends at the level ``lowest``, where `encode` begins. `decode` goes on to level 0.
        """
        return heun(self._denoise(labels, guidance), self._start(z), self._path()[::-1], _no_noise)

    def transform(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `encode`, and the estimated log-determinants (B,) in nats; it cannot be differentiated."""
        probe, size = _signs(images), images[0].numel()

        def slopes(x: Tensor, level: float) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                clean = self._denoise(labels, 0.0)(x, level)
                (product,) = torch.autograd.grad(clean, x, probe)
            return (x - clean).detach() / level, (product * probe).flatten(1).sum(1) / level

        x = images
        total = images.new_full((images.shape[0],), -math.log(self.scale) * size)
        for now, then in pairwise(self._path()):
            here, trace_here = slopes(x, now)
            there, trace_there = slopes(x + (then - now) * here, then)
            x = x + (then - now) * (here + there) / 2
            # The trace of the slope: that of x / level, whose integral is known, less the denoiser's.
            total = total + size * math.log(then / now) - (then - now) * (trace_here + trace_there) / 2
        return (x / self.scale).flatten(1), total


def _no_noise(step: int) -> Tensor:
    raise AssertionError("this sampler has no noise")


def _signs(images: Tensor) -> Tensor:
    """A random vector of +1 and -1 for each image, of its shape, that follows from the image."""
    rows = [row.float().numpy().tobytes() for row in images.detach().cpu()]
    return torch.where(seeded(rows, images.shape[1:], images)(0) < 0, -1.0, 1.0).to(images)


class LevelEmbedding(nn.Module):
    """A number for each image, and its labels, as a vector (B, width): sines, then two layers.

    Labels are added after a layer of their own without a bias. So zeros mean no labels.
    """

    def __init__(self, width: int, joined: int, fastest: float) -> None:
        super().__init__()
        half = max(1, width // 2)
        frequencies = fastest * torch.exp(-math.log(1000) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Linear(joined, width, bias=False) if joined else None

    def forward(self, number: Tensor, labels: Tensor | None = None) -> Tensor:
        """Numbers (B,) and labels (B, joined) to (B, width)."""
        angles = number[:, None] * self.frequencies  # type: ignore[operator]
        found = self.layers(torch.cat([angles.cos(), angles.sin()], 1))
        return found if self.label is None or labels is None else found + self.label(labels)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention (B, heads, N, width) by its formula: for a few hundred tokens faster than fused on a CPU."""
    scores = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)
    return scores.softmax(3).to(value.dtype) @ value


def groups_of(channels: int, most: int = 32) -> int:
    """How many groups of at least 4 channels a group norm makes: a divisor of ``channels``.

    >>> groups_of(64), groups_of(192), groups_of(6)
    (16, 32, 1)
    """
    return next(count for count in range(min(most, max(1, channels // 4)), 0, -1) if channels % count == 0)
