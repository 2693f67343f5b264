"""Writes samples to files, for commands, the demo and notebooks."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import UserError
from .explore.faces import Faces
from .explore.inputs import Gathered
from .explore.points import drawn
from .explore.provenance import Provenance, faces_of, settings_for
from .explore.walks import closed_walk, frames
from .model import PLAIN, About
from .pages.files import checked_file, checked_folder, provenance, recipe_text, save_png
from .pages.sheet import bands, check_bands, check_grid, chosen_columns, grid
from .pages.upscale import AS_THEY_ARE, Upscale
from .pages.video import check_film, tiled, write_video
from .progress import Progress, Task, opened
from .sampling import Batch, Decoder, chosen_latents, gathered, sample, seed_ranges
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


Which = Sequence[int] | Gathered
"""Faces to draw: seeds, or faces of any kind from `omokage.explore.inputs.gather`."""


@dataclass(frozen=True)
class _Faces:
    """Faces to draw, whether they are seeds or not.

    Attributes:
        labels: the seed of each face; for faces that are not all seeds, their numbers from 1.
        captions: one for each face.
        entries: as in `omokage.explore.provenance.Provenance.faces`.
        settings: those of the recipe.
    """

    labels: list[int]
    captions: list[str]
    entries: list[dict[str, Any]]
    settings: Settings
    which: Which

    @classmethod
    def of(cls, which: Which, settings: Settings) -> "_Faces":
        if not isinstance(which, Gathered):
            seeds = checked_seeds(which)
            entries: list[dict[str, Any]] = [{"seed": seed} for seed in seeds]
            return cls(seeds, [str(seed) for seed in seeds], entries, settings, seeds)
        entries, seeds = faces_of(which.points, which.origins), which.seeds or []
        captions = [str(seed) for seed in seeds] or which.names
        labels = seeds or list(range(1, len(which) + 1))
        return cls(labels, captions, entries, settings_for(which.points, settings), which)

    def drawn(self, model: DrawsFaces, progress: Progress | None) -> Iterator[Batch]:
        if isinstance(self.which, Gathered):
            return drawn(model, self.which.points, self.settings, progress)  # type: ignore[arg-type]
        return sample(model, self.which, self.settings, progress)

    def text(
        self, kind: str, model: DrawsFaces, enlarge: Upscale, rows: slice = slice(None), **arguments: Any
    ) -> Provenance:
        height, width = model.resolution
        settings = self.settings
        if isinstance(settings.psi, tuple):
            settings = replace(settings, psi=settings.psi[rows])
            if len(settings.psis) == 1:
                settings = replace(settings, psi=settings.psis[0])
        size = (width, height)
        return Provenance(kind, model.about, self.entries[rows], settings, arguments, enlarge.text, size)


def write_grid(
    model: DrawsFaces,
    faces: Which,
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    columns: int | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write one PNG with faces in order, row by row, with thin gutters between them.

    The text chunks say how to make the picture again. ``faces``: seeds, or faces from
    `omokage.explore.inputs.gather`. ``columns``: None chooses a near-square grid. ``enlarge``: without it,
    faces are not resized. Seeds whose image is not finite are appended to ``broken`` (for faces that are not
    all seeds, their numbers from 1) and named in the text chunks. Returns the path written.

    Raises:
        UserError: no seeds, a negative seed, a name that does not end in .png or cannot be written, or a
            picture too large to open.
    """
    which = _Faces.of(faces, settings)
    check_grid(len(which.labels), _times(model.resolution, enlarge), columns, out)
    pixels, finite = gathered(which.drawn(model, progress))
    _note(which.labels, finite, broken)
    columns = chosen_columns(len(pixels), columns)
    text = recipe_text(which.text("grid", model, enlarge, columns=columns), finite)
    return grid(enlarge(pixels), columns, out, text)


def write_sheet(
    model: DrawsFaces,
    faces: Which,
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    columns: int | None = None,
    title: str | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write a contact sheet: a title, and faces enlarged, with each seed or name below its face.

    ``title``: None says how many faces there are. Everything else is as in `write_grid`.
    """
    which = _Faces.of(faces, settings)
    columns = chosen_columns(len(which.labels), columns)
    check_bands([len(which.labels)], _times(model.resolution, enlarge), columns, out, headed=False)
    pixels, finite = gathered(which.drawn(model, progress))
    _note(which.labels, finite, broken)
    title = title or f"{len(pixels):,} generated face{'s'[: len(pixels) > 1]}"
    told = which.text("sheet", model, enlarge, columns=columns, title=title)
    text = recipe_text(told, finite) | {"columns": str(columns)}
    line = model.about.line(f"psi {_psi(which.settings)}")
    shown = Faces(enlarge(pixels), which.captions, finite=finite)
    return bands([shown], out, title=title, line=line, columns=columns, text=text)


def write_each(
    model: DrawsFaces,
    faces: Which,
    folder: str | Path,
    *,
    settings: Settings = PLAIN,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> list[Path]:
    """Write one PNG for each face into ``folder`` (made if missing), named like ``seed-000017.png``.

    Faces that are not all seeds are named like ``face-0003.png``, by their numbers from 1. Returns the paths
    in order. ``broken`` and errors are as in `write_grid`.
    """
    which = _Faces.of(faces, settings)
    name = "seed-{:06d}.png" if all("seed" in entry for entry in which.entries) else "face-{:04d}.png"
    target, paths = checked_folder(folder), list[Path]()
    for pixels, finite in which.drawn(model, progress):
        its = which.labels[len(paths) : len(paths) + len(pixels)]
        _note(its, finite, broken)
        for label, face, whole in zip(its, pixels, finite, strict=True):
            row = slice(len(paths), len(paths) + 1)
            text = recipe_text(which.text("face", model, enlarge, row), [bool(whole)])
            paths.append(save_png(enlarge(face[None])[0], target / name.format(label), text))
    return paths


def _times(size: tuple[int, int], enlarge: Upscale) -> tuple[int, int]:
    return size[0] * enlarge.factor, size[1] * enlarge.factor


def _psi(settings: Settings) -> str:
    """psi in small print: one number, or the range of several."""
    if len(settings.psis) == 1:
        return f"{settings.psis[0]:g}"
    return f"{min(settings.psis):g} to {max(settings.psis):g}"


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
    stops = chosen_latents(model, seeds, settings).unflatten(0, (-1, walks))
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


def _note(seeds: Sequence[int], finite: np.ndarray, broken: list[int] | None) -> None:
    if broken is not None:
        broken += [seed for seed, whole in zip(seeds, finite, strict=True) if not whole]
