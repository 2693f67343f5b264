"""Bits per dimension of images under a model that has a likelihood."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..abilities import HasDensity
from ..errors import UserError
from ..model import Model
from ..objectives import likelihood
from ..progress import Progress, opened
from .metric import LOWER, NEITHER, Column

COLUMNS = (
    Column(
        "bits per dimension",
        "bits_per_dimension",
        "{:.4f}",
        LOWER,
        "upper bound of the bits per colour value in a lossless code by the model, on unseen faces",
        "Theis et al. 2016",
        interval="interval",
    ),
    Column("faces", "faces", "{:,}", NEITHER, "number of faces in the mean"),
)
BATCH = 16  # images at once; a last smaller batch is filled up with its last image, as in sampling


@dataclass(frozen=True)
class BitsPerDimension:
    """An upper bound of the bits for each colour value that a lossless code by the model would need.

    Attributes:
        value: mean over the images whose likelihood is finite, and over the draws of noise.
        standard_error: of the mean, from the spread over images; NaN with one image.
        interval: 95% confidence interval, ``value`` ± 1.96 standard errors.
        images: number of images.
        not_finite: number of images whose likelihood is not finite; the mean leaves them out.
        bits: bits of a colour value.
        each: (images,) bits per dimension of every image.
    """

    value: float
    standard_error: float
    images: int
    not_finite: int
    bits: int
    each: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval (low, high)."""
        return self.value - 1.96 * self.standard_error, self.value + 1.96 * self.standard_error


def bits_per_dimension(
    model: Model,
    images: np.ndarray,
    *,
    bits: int = 8,
    draws: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> BitsPerDimension:
    """Bits per dimension of uint8 ``images`` (N, H, W, 3) with uniform dequantisation.

    Every image has noise of its own, which depends on ``seed`` and its index. Images are not mirrored. On
    average over the noise, the number is an upper bound (see `objectives.likelihood`). Only numbers of the
    same images, resolution and ``bits`` can be compared.

    Args:
        bits: 1 to 8; with fewer than 8, pixels are first reduced to that number of bits.
        draws: how many draws of noise for each image; more draws lower the variance.

    Raises:
        UserError: the model has no likelihood, there are no images of its resolution, or no image has a
            finite likelihood.
    """
    model.require(HasDensity)
    if images.ndim != 4 or len(images) == 0 or images.shape[1:] != (*model.resolution, 3):
        raise UserError(f"images: got shape {images.shape}, must be (N, {model.resolution}, 3), N above 0")
    if not 1 <= bits <= 8:
        raise UserError(f"bits: got {bits}, must be from 1 to 8")
    dimensions = math.prod(images.shape[1:])
    each = np.zeros(len(images))
    with opened(progress, "bits per dimension", len(images)) as task, torch.no_grad():
        for start in range(0, len(images), BATCH):
            places = [min(start + i, len(images) - 1) for i in range(BATCH)]
            real = torch.from_numpy(images[places]).permute(0, 3, 1, 2).float() / 127.5 - 1
            generators = [np.random.default_rng((seed, place)) for place in places]
            kept = min(BATCH, len(images) - start)
            for _ in range(draws):
                noise = np.stack([g.random(real.shape[1:], np.float32) for g in generators])
                noisy = likelihood.dequantise(real, torch.from_numpy(noise), bits)
                log_prob = model.log_prob(noisy).double().cpu()
                found = likelihood.bits_per_dimension(log_prob, dimensions, bits).numpy()
                each[start : start + kept] += found[:kept] / draws
            task.advance(kept)
    finite = each[np.isfinite(each)]
    if len(finite) == 0:
        raise UserError(f"no image of {len(images):,} has a finite likelihood: this model is broken")
    error = float(finite.std(ddof=1) / math.sqrt(len(finite))) if len(finite) > 1 else math.nan
    return BitsPerDimension(float(finite.mean()), error, len(images), len(images) - len(finite), bits, each)
