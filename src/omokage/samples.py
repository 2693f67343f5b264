"""Samples as files: sampling and pages put together, for commands, the demo and notebooks."""

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
    """What is asked of a model here; `omokage.model.Model` answers it."""

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the images."""

    @property
    def about(self) -> About:
        """What a picture says of the model that drew it."""


def checked_seeds(seeds: Sequence[int]) -> list[int]:
    """``seeds`` as a list; UserError where there are none or one is negative."""
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
    """Write one PNG with the faces of ``seeds`` in order, row by row, thin gutters between them.

    Every face keeps its pixels; the text chunks say how to make the picture again. ``columns``: None
    chooses a near-square grid. Returns the path written. Seeds whose image is not finite are appended to
    ``broken`` and named in the text chunks.

    UserError: no seeds, a negative one, a name that does not end in .png or cannot be written, a picture too
    large to open.
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
    """Write a contact sheet: the faces of ``seeds``, enlarged, each above its seed, under a title.

    ``title``: None says how many faces there are. The rest as `write_grid`.
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
    """Write one PNG a seed, named ``seed-000017.png``, into ``folder`` (made where missing).

    Returns the paths in the order of the seeds. ``broken`` and UserError as `write_grid`.
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
    side by side; the seeds are dealt to them in order, so that the first frame shows the first seeds in
    reading order. Played in a loop, the film has no seam. Returns the path written. Numbers of frames with an
    image that is not finite are appended to ``broken``; without it they are warned of.

    UserError: fewer than two seeds a walk, a number of seeds that the walks cannot share, impossible
    values, a picture too large to play, a name that does not end in .mp4 or cannot be written, no encoder.
    """
    seeds = checked_seeds(seeds)
    columns, rows = tiles
    if min(columns, rows, frames_per_leg, frames_per_second) < 1:
        raise UserError(
            "tiles, frames a leg and frames a second must be at least 1, got"
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
    """The faces of each step of a film; numbers of frames that are not finite are appended to ``broken``."""
    for number, (faces, finite) in enumerate(steps):
        if not finite.all():
            broken.append(number)
        yield faces
        task.advance()


def write_film(
    model: DrawsFaces, stops: Tensor, out: str | Path, text: dict[str, str], progress: Progress | None = None
) -> tuple[Path, int]:
    """Write an MP4 of a closed walk over latents ``stops`` (N, *latent_shape) of encoded pictures.

    ``text`` is what the file says of itself. Returns the path and how many frames are not finite.
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
