"""What noise inputs change in a face (Karras et al. 2019, figures 4 and 5)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from omokage.explore.mixing import sizes_of, style_ranges
from omokage.model import Model
from omokage.progress import Progress
from omokage.sampling import counted, gathered, pixels, styles, synthesised
from omokage.settings import Noises, Settings

NOISES = 100  # random noises for the standard deviation

Window = tuple[slice, slice]  # rows and columns of a face


@dataclass(frozen=True)
class NoiseDetail:
    """A face, and what noise changes in it.

    Attributes:
        face: (H, W, 3) uint8, with constant noise.
        varied: (4, H, W, 3) uint8, with four different noises.
        deviation: (H, W), standard deviation of brightness over `NOISES` noises, in levels of 0 to 255.
        place: the window where noise changes most; each side is a quarter of the face's.
        not_finite: how many of these faces are not finite.
    """

    face: np.ndarray
    varied: np.ndarray
    deviation: np.ndarray
    place: Window
    not_finite: int


def noise_detail(
    model: Model,
    seeds: Sequence[int],
    settings: Settings,
    *,
    noise_seed: int = 0,
    progress: Progress | None = None,
) -> list[NoiseDetail]:
    """What noise changes in the faces of ``seeds``. ``noise_seed`` chooses the noises.

    Raises:
        UserError: the family has no styles.
    """
    w, shown = styles(model, seeds, settings), []
    plain, plain_finite = gathered(pixels(synthesised(model, w)))
    for face, whole, style in zip(plain, plain_finite, w, strict=True):
        with _seeded(noise_seed):
            many = pixels(synthesised(model, style.expand(NOISES, *style.shape), "random"))
            varied, finite = gathered(counted(many, progress, "drawing", NOISES))
        deviation = varied.astype(np.float32).mean(3).std(0)
        lost = int((~finite).sum()) + (not whole)
        shown.append(NoiseDetail(face, varied[:4], deviation, busiest(deviation), lost))
    return shown


@dataclass(frozen=True)
class NoiseComponents:
    """Faces with noise in some layers only.

    Attributes:
        headings: one for each choice of layers.
        faces: (choices, N, H, W, 3) uint8.
        places: for each face, the window where the choices differ most: a quarter of the face's height and
            half of its width.
        not_finite: how many faces are not finite.
    """

    headings: list[str]
    faces: np.ndarray
    places: list[Window]
    not_finite: int


def noise_components(
    model: Model, seeds: Sequence[int], settings: Settings, progress: Progress | None = None
) -> NoiseComponents:
    """The faces of ``seeds`` with noise in all layers, in none, in the fine and in the coarse layers.

    Raises:
        UserError: the family has no styles.
    """
    first_fine = style_ranges(model.layer_sizes)[2][0]
    coarse, fine = range(first_fine), range(first_fine, model.layers)
    kinds = {
        "Noise in all layers": range(model.layers),
        "No noise": range(0),
        f"Only in fine ones ({sizes_of(model, fine)})": fine,
        f"Only in coarse ones ({sizes_of(model, coarse)})": coarse,
    }
    w = styles(model, seeds, settings)
    faces, lost = [], 0
    for having in kinds.values():
        noise: Noises = ["constant" if layer in having else "none" for layer in range(model.layers)]
        drawn, finite = gathered(
            counted(pixels(synthesised(model, w, noise)), progress, "drawing", len(w))
        )
        faces.append(drawn)
        lost += int((~finite).sum())
    changed = np.stack(faces).astype(np.float32).mean(4).std(0)
    places = [busiest(change, (1 / 4, 1 / 2)) for change in changed]
    return NoiseComponents(list(kinds), np.stack(faces), places, lost)


def busiest(change: np.ndarray, share: tuple[float, float] = (1 / 4, 1 / 4)) -> Window:
    """The window in which the sum of ``change`` (H, W) is largest; ``share`` of the height and the width."""
    (height, width), (tall, wide) = change.shape, share
    tall, wide = max(1, round(height * tall)), max(1, round(width * wide))
    sums = np.pad(change.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    y, x = np.unravel_index(windows.argmax(), windows.shape)
    return slice(int(y), int(y) + tall), slice(int(x), int(x) + wide)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's generator for the block; its earlier state returns afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
