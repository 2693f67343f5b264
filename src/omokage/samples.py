"""Writes samples to files, for commands, the demo and notebooks."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from .errors import UserError
from .explore.faces import Faces
from .explore.walks import closed_walk, frames
from .model import PLAIN, About
from .pages.files import checked_file, checked_folder, provenance, save_png
from .pages.sheet import bands, check_bands, check_grid, chosen_columns, grid
from .pages.video import check_film, tiled, write_video
from .progress import Progress, Task, opened
from .sampling import Decoder, gathered, latents, sample, seed_ranges
from .settings import Settings


class DrawsFaces(Decoder, Protocol):
    """What this module needs from a model; `omokage.model.Model` provides it."""

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the images."""

    @property
    def about(self) -> About:
        """The record of the model for the pictures that it draws."""


def checked_seeds(seeds: Sequence[int]) -> list[int]:
    """``seeds`` as a list; UserError if there are none or one is negative."""
    if len(seeds) == 0:
        raise UserError("no seeds given; name some, for example 0-63")
    if min(seeds) < 0:
        raise UserError(f"a seed must be 0 or more, got {min(seeds)}")
    return [int(seed) for seed in seeds]


def write_grid(
    model: DrawsFaces,
    seeds: Sequence[int],
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    columns: int | None = None,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write one PNG with the faces of ``seeds`` in order, row by row, with thin gutters between them.

    Faces are not resized. The text chunks say how to make the picture again. ``columns``: None chooses a
    near-square grid. Seeds whose image is not finite are appended to ``broken`` and named in the text chunks.
    Returns the path written.

    Raises:
        UserError: no seeds, a negative seed, a name that does not end in .png or cannot be written, or a
            picture too large to open.
    """
    seeds = checked_seeds(seeds)
    check_grid(len(seeds), model.resolution, columns, out)
    faces, finite = gathered(sample(model, seeds, settings, progress))
    _note(seeds, finite, broken)
    return grid(faces, columns, out, provenance(model.about, seeds, settings, finite))


def write_sheet(
    model: DrawsFaces,
    seeds: Sequence[int],
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    columns: int | None = None,
    title: str | None = None,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write a contact sheet: a title, and the faces of ``seeds`` enlarged, with each seed below its face.

    ``title``: None says how many faces there are. Everything else is as in `write_grid`.
    """
    seeds = checked_seeds(seeds)
    columns = chosen_columns(len(seeds), columns)
    check_bands([len(seeds)], model.resolution, columns, out, headed=False)
    faces, finite = gathered(sample(model, seeds, settings, progress))
    _note(seeds, finite, broken)
    text = provenance(model.about, seeds, settings, finite) | {"columns": str(columns)}
    title = title or f"{len(seeds):,} generated face{'s'[: len(seeds) > 1]}"
    line = model.about.line(f"psi {settings.text()['psi']}")
    shown = Faces(faces, [str(seed) for seed in seeds], finite=finite)
    return bands([shown], out, title=title, line=line, columns=columns, text=text)


def write_each(
    model: DrawsFaces,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    settings: Settings = PLAIN,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> list[Path]:
    """Write one PNG for each seed, named like ``seed-000017.png``, into ``folder`` (made if missing).

    Returns the paths in the order of the seeds. ``broken`` and errors are as in `write_grid`.
    """
    seeds = checked_seeds(seeds)
    target, paths = checked_folder(folder), list[Path]()
    for faces, finite in sample(model, seeds, settings, progress):
        its = seeds[len(paths) : len(paths) + len(faces)]
        _note(its, finite, broken)
        for seed, face, whole in zip(its, faces, finite, strict=True):
            text = provenance(model.about, [seed], settings, [whole])
            paths.append(save_png(face, target / f"seed-{seed:06d}.png", text))
    return paths


def write_walk(
    model: DrawsFaces,
    seeds: Sequence[int],
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    frames_per_leg: int = 45,
    frames_per_second: int = 30,
    tiles: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write an MP4 in which faces turn into one another: a closed walk over the latents of ``seeds``.

    ``frames_per_leg``: frames from one seed's face to the next. ``tiles``: (columns, rows) of walks shown
    side by side. Each walk takes every n-th seed, n being the number of walks, so that the first frame shows
    the first seeds in reading order. The film can be played in a loop. Numbers of frames with an image that
    is not finite are appended to ``broken``; if it is None, a warning names them. Returns the path written.

    Raises:
        UserError: fewer than two seeds for a walk, a number of seeds that is not a multiple of the number of
            walks, impossible values, a picture too large to play, a name that does not end in .mp4 or cannot
            be written, or no H.264 encoder.
    """
    seeds = checked_seeds(seeds)
    columns, rows = tiles
    if min(columns, rows, frames_per_leg, frames_per_second) < 1:
        raise UserError(
            "tiles, frames per leg and frames per second must be at least 1, got"
            f" {columns}x{rows}, {frames_per_leg}, {frames_per_second}"
        )
    walks = columns * rows
    if len(seeds) < 2 * walks or len(seeds) % walks:
        raise UserError(
            f"{columns}x{rows} walks need a multiple of {walks} seeds, at least {2 * walks}; got {len(seeds)}"
        )
    check_film(model.resolution, tiles)
    path = checked_file(out, ".mp4")
    stops = latents(seeds, model.latent_shape).unflatten(0, (-1, walks))
    steps = frames(lambda z: model.decode(z, settings), closed_walk(stops, frames_per_leg))
    text = provenance(model.about, seeds, settings) | {"tiles": f"{columns}x{rows}"}
    lost: list[int] = [] if broken is None else broken
    with opened(progress, "filming", len(stops) * frames_per_leg) as task:
        film = tiled(told(steps, task, lost), columns)
        written = write_video(film, path, frames_per_second=frames_per_second, text=text)
    if broken is None and lost:
        warnings.warn(f"not finite, shown black: frames {seed_ranges(lost)}", stacklevel=2)
    return written


def told(
    steps: Iterator[tuple[np.ndarray, np.ndarray]], task: Task, broken: list[int]
) -> Iterator[np.ndarray]:
    """The faces of each step of a film. Numbers of frames that are not finite are appended to ``broken``."""
    for number, (faces, finite) in enumerate(steps):
        if not finite.all():
            broken.append(number)
        yield faces
        task.advance()


def write_film(
    model: DrawsFaces, stops: Tensor, out: str | Path, text: dict[str, str], progress: Progress | None = None
) -> tuple[Path, int]:
    """Write an MP4 of a closed walk over latents ``stops`` (N, *latent_shape) of encoded pictures.

    ``text`` is stored in the file's comment. Returns the path and how many frames are not finite.
    """
    check_film(model.resolution, (1, 1))
    path, broken = checked_file(out, ".mp4"), list[int]()
    inverse = model.inverse  # type: ignore[attr-defined]
    steps = frames(inverse, closed_walk(stops[:, None], 45))
    with opened(progress, "filming", len(stops) * 45) as task:
        return write_video(tiled(told(steps, task, broken), 1), path, text=text), len(broken)


def _note(seeds: Sequence[int], finite: np.ndarray, broken: list[int] | None) -> None:
    if broken is not None:
        broken += [seed for seed, whole in zip(seeds, finite, strict=True) if not whole]
