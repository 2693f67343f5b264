"""Sampling for every family: seeds to latents, latents to images, images to pixels.

Every function decodes batches of exactly `BATCH` latents; an incomplete batch is padded with its last latent.
Libraries choose kernels by batch size, and these differ in the last bit. A seed must give the same pixels
alone and among others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from .critic import Critic, accepted
from .progress import Progress, opened
from .settings import Noises, Settings

BATCH = 16
GRID_SEEDS = range(64)  # seeds of the grids that training writes
FILM_SEEDS = range(16)  # seeds of the small pictures that training keeps for the film of itself
PLAIN = Settings()


class Decoder(Protocol):
    """What sampling needs from a model; `omokage.model.Model` provides it."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """Latents to images (B, 3, H, W) in [-1, 1]."""


class Judge(Decoder, Protocol):
    """What sampling with a critic needs from a model."""

    @property
    def critic(self) -> Critic | None:
        """The critic; it is there if the settings of sampling name one."""

    def judge(self, z: Tensor) -> Tensor:
        """Latents to the critic's logits (B,)."""


class Synthesiser(Protocol):
    """What sampling needs from a model with styles."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""

    def mapping(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """Latents to styles (B, layers, width)."""

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles to images (B, 3, H, W) in [-1, 1]."""


def latents(seeds: Sequence[int], latent_shape: Sequence[int]) -> Tensor:
    """Standard normal latents (N, *latent_shape), one for each seed, each from its own random generator.

    >>> bool((latents([3, 17], (4,))[1] == latents([17], (4,))[0]).all())
    True
    """
    if len(seeds) == 0:
        return torch.zeros(0, *latent_shape)
    return torch.stack(
        [torch.randn(*latent_shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    )


def chosen_latents(
    model: Decoder | Synthesiser, seeds: Sequence[int], settings: Settings = PLAIN
) -> Tensor:
    """The latents (N, *latent_shape) of seeds; with ``settings.critic`` above 1, those the critic accepts.

    The choice depends on the seed, the model and ``settings.critic`` alone, so a face keeps its identity when
    psi changes.
    """
    if settings.critic == 1 or len(seeds) == 0:
        return latents(seeds, model.latent_shape)
    judge = cast(Judge, model)
    assert judge.critic is not None

    def judged(z: Tensor) -> Tensor:
        return torch.cat(list(in_batches(judge.judge, z)))

    threshold = judge.critic.threshold(settings.critic)
    return accepted(seeds, model.latent_shape, settings.critic, judged, threshold)[0]


def in_batches(function: Callable[[Tensor], Tensor], points: Tensor) -> Iterator[Tensor]:
    """Apply ``function`` to ``points`` (N, ...) in padded batches of `BATCH`; yields results in order.

    >>> [len(part) for part in in_batches(lambda z: z * 2, torch.zeros(20, 3))]
    [16, 4]
    """
    for part in points.split(BATCH):
        yield function(_padded(part))[: len(part)]


def _padded(part: Tensor) -> Tensor:
    missing = BATCH - len(part)
    return torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part


def decoded(model: Decoder, z: Tensor, settings: Settings = PLAIN) -> Iterator[Tensor]:
    """Images of latents (N, *latent_shape) in order, as batches float (B, 3, H, W) in [-1, 1]; may have NaN.

    Raises:
        UserError: psi has several values, but not one for each latent.
    """
    settings.of(len(z))
    for start in range(0, len(z), BATCH):
        part = z[start : start + BATCH]
        rows = settings.rows(start, start + len(part), BATCH)
        yield model.decode(_padded(part), rows)[: len(part)]


def sampled(model: Decoder, seeds: Sequence[int], settings: Settings = PLAIN) -> Iterator[Tensor]:
    """Images of ``seeds`` in order, as batches float (B, 3, H, W) in [-1, 1]; may have NaN.

    Raises:
        UserError: as `decoded`.
    """
    settings.of(len(seeds))
    for start in range(0, len(seeds), BATCH):
        stop = min(start + BATCH, len(seeds))
        rows = settings.rows(start, stop, stop - start)
        yield from decoded(model, chosen_latents(model, seeds[start:stop], settings), rows)


def styles(model: Synthesiser, seeds: Sequence[int], settings: Settings = PLAIN) -> Tensor:
    """The styles (N, layers, width) of ``seeds``; psi moves them towards the average.

    Raises:
        UserError: as `decoded`.
    """
    settings.of(len(seeds))
    z = chosen_latents(model, seeds, settings)
    found = []
    for start in range(0, len(z), BATCH):
        part = z[start : start + BATCH]
        rows = settings.rows(start, start + len(part), BATCH)
        found.append(model.mapping(_padded(part), rows)[: len(part)])
    return torch.cat(found)


def synthesised(model: Synthesiser, w: Tensor, noise: Noises = "constant") -> Iterator[Tensor]:
    """Images of styles (N, layers, width), in order, as batches float (B, 3, H, W) in [-1, 1]."""
    return in_batches(lambda part: model.synthesis(part, noise), w)


def pixels(images: Iterable[Tensor]) -> Iterator["Batch"]:
    """Batches of images as pixels uint8 (B, H, W, 3), and which of them are finite, bool (B,).

    Values that are not finite become black. The caller must count such images and report them.
    """
    for batch in images:
        yield to_pixels(batch), batch.isfinite().flatten(1).all(1).cpu().numpy()


Batch = tuple[np.ndarray, np.ndarray]  # pixels uint8 (B, H, W, 3), and which of them are finite, bool (B,)


def counted(
    batches: Iterable[Batch], progress: Progress | None, label: str, total: int
) -> Iterator[Batch]:
    """Yield the same batches, and report to ``progress`` how many of ``total`` faces are done."""
    with opened(progress, label, total) as task:
        for faces, finite in batches:
            yield faces, finite
            task.advance(len(faces))


def sample(
    model: Decoder, seeds: Sequence[int], settings: Settings = PLAIN, progress: Progress | None = None
) -> Iterator[Batch]:
    """Faces of ``seeds`` in order: batches of pixels uint8 (B, H, W, 3), and which are finite, bool (B,).

    Raises:
        UserError: as `decoded`, before the first batch is drawn.
    """
    settings.of(len(seeds))
    return counted(pixels(sampled(model, seeds, settings)), progress, "sampling", len(seeds))


def gathered(batches: Iterable[Batch]) -> Batch:
    """All batches joined: pixels uint8 (N, H, W, 3), and which are finite, bool (N,)."""
    faces, finite = zip(*batches, strict=True)
    return np.concatenate(faces), np.concatenate(finite)


def to_pixels(images: Tensor) -> np.ndarray:
    """(B, C, H, W) in [-1, 1] to uint8 (B, H, W, 3), rounded; NaN becomes black, grey becomes RGB."""
    pixels = ((images.float() + 1) * 127.5).round().nan_to_num(0.0).clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def seed_ranges(seeds: Sequence[int]) -> str:
    """Seeds as text, in their order; consecutive ones become ranges.

    >>> seed_ranges([0, 1, 2, 17, 5, 6])
    '0-2,17,5-6'
    """
    if not (seeds := list(seeds)):
        return ""
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(seeds)) if b != a + 1), len(seeds)]
    runs = ((seeds[a], seeds[b - 1]) for a, b in pairwise(starts))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
