"""The user's own pictures in latent space: encoding, decoding, and walks between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omokage.abilities import Encodes
from omokage.data.read import RESIZE_RULE, Unreadable, cover, one_line, read_file, read_picture
from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.explore.walks import slerp
from omokage.model import Model
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, gathered, in_batches, pixels, to_pixels

# Differences are multiplied by this and shown around middle grey.
SHOWN_DIFFERENCE = 16


def read_pictures(files: Sequence[str | Path], size: tuple[int, int]) -> np.ndarray:
    """Read picture files as uint8 (N, height, width, 3), resized by `omokage.data.read.RESIZE_RULE`.

    Raises:
        UserError: a file is not a picture or is damaged; the error names the first such file and the reason.
    """
    pictures = np.empty((len(files), *size, 3), np.uint8)
    for i, file in enumerate(files):
        try:
            pictures[i] = np.asarray(cover(read_picture(read_file(file)).image, size))
        except Unreadable as error:
            raise UserError(f"{one_line(file)}: {error}; give pictures such as PNG, JPEG or WebP") from None
    return pictures


def as_images(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1].

    >>> as_images(np.full((1, 1, 1, 3), 255, np.uint8)).flatten()
    tensor([1., 1., 1.])
    """
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class RoundTrip:
    """Pictures that were encoded and decoded again.

    Attributes:
        pictures, back: uint8 (N, H, W, 3), before and after.
        latents: (N, *latent_shape).
        largest, mean: (N,), the largest and mean |before - after| of each image, values in [-1, 1]; NaN if
            not finite.
    """

    pictures: np.ndarray
    back: np.ndarray
    latents: Tensor
    largest: np.ndarray
    mean: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """(N,) share of colour values that differ afterwards, in 256 levels."""
        return (self.pictures != self.back).mean((1, 2, 3))

    @property
    def finite(self) -> np.ndarray:
        """(N,) which decoded pictures are finite."""
        return np.isfinite(self.largest)


def round_trip(
    model: Model,
    pictures: np.ndarray,
    progress: Progress | None = None,
) -> RoundTrip:
    """Encode ``pictures`` uint8 (N, H, W, 3) and decode the latents; for float64 pass `Model.double`.

    Raises:
        UserError: the family cannot encode.
    """
    model.require(Encodes)
    images = as_images(pictures).to(model.dtype)
    latents, back, largest, mean = [], [], [], []
    with opened(progress, "there and back", len(images)) as task:
        for part in images.split(BATCH):
            z = model.encode(part)
            again = torch.cat(list(in_batches(model.inverse, z))).cpu()
            error = (again - part).abs().flatten(1).double()
            error = torch.where(error.isfinite(), error, torch.nan)
            latents.append(z.cpu())
            back.append(to_pixels(again))
            largest.append(error.amax(1).numpy())
            mean.append(error.mean(1).numpy())
            task.advance(len(part))
    return RoundTrip(
        pictures,
        np.concatenate(back),
        torch.cat(latents),
        np.concatenate(largest),
        np.concatenate(mean),
    )


def names(files: Sequence[str | Path]) -> list[str]:
    """The captions of files on a page: their names without folders."""
    return [one_line(Path(file).name, 40) for file in files]


def reconstructions(trip: RoundTrip, called: Sequence[str]) -> list[Faces]:
    """Three bands: the pictures, the decoded pictures, and the difference. ``called``: their names."""
    change = trip.back.astype(np.int16) - trip.pictures
    difference = (127.5 + SHOWN_DIFFERENCE * change).clip(0, 255).astype(np.uint8)
    return [
        Faces(trip.pictures, called, f"Pictures, resized by {RESIZE_RULE}"),
        Faces(
            trip.back,
            [f"largest error {error:.2g}" for error in trip.largest],
            "Out of their latents",
            trip.finite,
        ),
        Faces(
            difference,
            [f"{share:.2%} of values differ" for share in trip.changed],
            f"Difference, {SHOWN_DIFFERENCE} times as large, around grey",
        ),
    ]


def between(model: Model, trip: RoundTrip, called: Sequence[str], steps: int = 8) -> list[Faces]:
    """Walks through latent space from each picture to the next.

    The steps are interpolated on the sphere (`omokage.explore.walks.slerp`). Each walk starts and ends with
    the decoded pictures; a flow decodes them exactly. ``steps``: faces in each walk, both ends counted.

    Raises:
        UserError: fewer than two pictures or steps.
    """
    check_walk(len(called), steps)
    walks = []
    for i, (start, end) in enumerate(pairwise(trip.latents.split(1))):
        places = [step / (steps - 1) for step in range(steps)]
        points = torch.cat([slerp(start, end, place) for place in places])
        faces, finite = gathered(pixels(in_batches(model.inverse, points)))
        captions = [called[i], *(f"{place:.2f}" for place in places[1:-1]), called[i + 1]]
        walks.append(Faces(faces, captions, f"{called[i]} to {called[i + 1]}", finite))
    return walks


def check_walk(pictures: int, steps: int) -> None:
    """Raise UserError for fewer than two pictures or steps."""
    if pictures < 2:
        raise UserError(f"a walk needs two pictures or more, got {pictures}")
    if steps < 2:
        raise UserError(f"steps: got {steps}, must be at least 2: the two pictures")
