"""The user's own pictures in latent space: encoded, led back, and what lies between them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omokage.data.read import RESIZE_RULE, Unreadable, cover, one_line, read_file, read_picture
from omokage.errors import UserError
from omokage.explore.bands import Band, write_bands
from omokage.explore.interpolate import slerp
from omokage.explore.pictures import checked_file, model_text
from omokage.explore.video import film
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, decoded, to_pixels
from omokage.snapshot import Model

# Differences are shown so many times as large, around middle grey.
SHOWN_DIFFERENCE = 16


def read_pictures(files: Sequence[str | Path], size: tuple[int, int]) -> np.ndarray:
    """Picture files as uint8 (N, height, width, 3), resized by `omokage.data.read.RESIZE_RULE`.

    Raises:
        UserError: a file that is no picture, or damaged; the first one, with the reason.
    """
    pictures = np.empty((len(files), *size, 3), np.uint8)
    for i, file in enumerate(files):
        try:
            pictures[i] = np.asarray(cover(read_picture(read_file(file)).image, size))
        except Unreadable as error:
            raise UserError(f"{one_line(file)}: {error}; give pictures such as PNG, JPEG or WebP") from None
    return pictures


def as_images(pixels: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1].

    >>> as_images(np.full((1, 1, 1, 3), 255, np.uint8)).flatten()
    tensor([1., 1., 1.])
    """
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


class Coder:
    """Images to latents and back, as exactly as the family can; to sample from it, `omokage.sampling` does.

    A TarFlow trained with noise takes noise off what it draws; here it does not, for a picture has none.

    Raises:
        UserError: a family that cannot encode; the message says which can.
    """

    def __init__(self, model: Model, dtype: torch.dtype = torch.float32) -> None:
        model.require("encode")
        self.model, self.dtype = model, dtype
        self.latent_shape, self.resolution = model.latent_shape, model.resolution
        self.network: Any = model.network
        self.given: dict[str, Any] = {"given": model.values()} if model.conditions else {}
        if dtype != torch.float32:
            self.network = copy.deepcopy(model.network).to(dtype)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, *latent_shape)."""
        images = images.to(self.model.device, self.dtype)
        return torch.cat([self.network.encode(part, **self.given) for part in images.split(BATCH)])

    @torch.no_grad()
    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, *latent_shape) to images (B, 3, H, W), clamped to [-1, 1]."""
        z = psi * z.to(self.model.device, self.dtype)
        if self.model.recipe.model.get("noise", 0.0) > 0 and hasattr(self.network, "inverse"):
            return self.network.inverse(z, **self.given).clamp(-1, 1)
        return self.network.decode(z, **self.given)


@dataclass(frozen=True)
class RoundTrip:
    """What comes back of pictures.

    Attributes:
        pictures, back: uint8 (N, H, W, 3), before and after.
        latents: (N, *latent_shape).
        largest, mean: (N,) of |before - after| over an image, images in [-1, 1]; NaN where not finite.
    """

    pictures: np.ndarray
    back: np.ndarray
    latents: Tensor
    largest: np.ndarray
    mean: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """(N,) share of colour values that are another of the 256 levels afterwards."""
        return (self.pictures != self.back).mean((1, 2, 3))


def round_trip(
    model: Model,
    pictures: np.ndarray,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> RoundTrip:
    """Encode ``pictures`` uint8 (N, H, W, 3) and lead them back, in numbers of ``dtype``."""
    coder, images = Coder(model, dtype), as_images(pictures).to(dtype)
    latents, back, largest, mean = [], [], [], []
    with opened(progress, "there and back", len(images)) as task:
        for part in images.split(BATCH):
            z = coder.encode(part)
            again = torch.cat(list(decoded(coder, z))).cpu()
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
    """What files are called on a page: their names without folders."""
    return [one_line(Path(file).name, 40) for file in files]


def write_reconstructions(
    model: Model,
    files: Sequence[str | Path],
    out: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> tuple[Path, RoundTrip]:
    """Write a PNG with pictures, what comes back from their latents, and the difference.

    Returns the path written and the round trip with its errors. UserError: a family that cannot encode, a
    file that is no picture, a name that does not end in .png.
    """
    path = checked_file(out, ".png")
    model.require("encode")
    trip = round_trip(model, read_pictures(files, model.resolution), dtype, progress)
    change = trip.back.astype(np.int16) - trip.pictures
    difference = (127.5 + SHOWN_DIFFERENCE * change).clip(0, 255).astype(np.uint8)
    bands = [
        Band(f"Pictures, resized by {RESIZE_RULE}", trip.pictures, names(files)),
        Band("Out of their latents", trip.back, [f"largest error {error:.2g}" for error in trip.largest]),
        Band(
            f"Difference, {SHOWN_DIFFERENCE} times as large, around grey",
            difference,
            [f"{share:.2%} of values differ" for share in trip.changed],
        ),
    ]
    columns = min(len(files), 8)
    text = {"pictures": ", ".join(names(files)), "precision": str(dtype).removeprefix("torch.")}
    write_bands(model, bands, path, title="There and back", columns=columns, text=text)
    return path, trip


def write_interpolation(
    model: Model,
    files: Sequence[str | Path],
    out: str | Path | None,
    *,
    video: str | Path | None = None,
    steps: int = 8,
    progress: Progress | None = None,
) -> tuple[list[Path], RoundTrip]:
    """Write walks from each picture to the next through latent space: a PNG strip and, or, an MP4.

    Walks turn along the sphere (`interpolate.slerp`); their ends are what the latents of the pictures decode
    to, which a flow makes the pictures themselves. ``steps``: faces from one picture to the next, both
    counted. The film goes back from the last picture to the first. Returns the paths written and the round
    trip of the pictures. UserError: fewer than two files, fewer than two steps, and as
    `write_reconstructions`.
    """
    if len(files) < 2:
        raise UserError(f"a walk needs two pictures or more, got {len(files)}")
    if steps < 2:
        raise UserError(f"steps: got {steps}, must be at least 2: the two pictures")
    strip = None if out is None else checked_file(out, ".png")
    moving = None if video is None else checked_file(video, ".mp4")
    coder = Coder(model)
    trip = round_trip(model, read_pictures(files, model.resolution), progress=progress)
    called, written = names(files), []
    text = {"pictures": ", ".join(called)}
    if strip is not None:
        bands = []
        for i, (start, end) in enumerate(pairwise(trip.latents.split(1))):
            between = torch.cat([slerp(start, end, step / (steps - 1)) for step in range(steps)])
            faces = np.concatenate([to_pixels(images) for images in decoded(coder, between)])
            captions = [
                called[i],
                *(f"{step / (steps - 1):.2f}" for step in range(1, steps - 1)),
                called[i + 1],
            ]
            bands.append(Band(f"{called[i]} to {called[i + 1]}", faces, captions))
        title = "From picture to picture"
        written.append(write_bands(model, bands, strip, title=title, columns=steps, text=text))
    if moving is not None:
        said = model_text(model) | text
        written.append(film(coder, trip.latents[:, None], moving, said, progress=progress))
    return written, trip
