"""Samples as files: one grid, or one file a seed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omokage.explore.pictures import (
    checked_file,
    checked_folder,
    checked_seeds,
    checked_size,
    chosen_columns,
    provenance,
    save_png,
    tile,
)
from omokage.progress import Progress, opened
from omokage.sampling import sampled, to_pixels

WHITE = (255, 255, 255)


def sampled_faces(
    model: Any, seeds: Sequence[int], psi: float, progress: Progress | None, broken: list[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Each seed with its face, uint8 (H, W, 3), in order, batch by batch.

    Seeds whose image is not finite are appended to ``broken``; the pixels concerned are black.
    """
    remaining = iter(seeds)
    with opened(progress, "sampling", len(seeds)) as task:
        for images in sampled(model, seeds, psi):
            finite = images.isfinite().flatten(1).all(1).tolist()
            for face, whole in zip(to_pixels(images), finite, strict=True):
                seed = next(remaining)
                if broken is not None and not whole:
                    broken.append(seed)
                yield seed, face
            task.advance(len(images))


def write_grid(
    model: Any,
    seeds: Sequence[int],
    out: str | Path,
    *,
    psi: float = 1.0,
    columns: int | None = None,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write one PNG with the faces of ``seeds`` in order, row by row, thin gutters between them.

    Every face keeps its pixels; the text chunks say how to make the picture again. ``columns``: None
    chooses a near-square grid. Returns the path written. Seeds whose image is not finite are appended to
    ``broken`` and named in the text chunks.

    UserError: no seeds, a negative one, psi not finite, a name that does not end in .png or cannot be
    written, a picture too large to open.
    """
    seeds = checked_seeds(seeds, psi)
    columns = chosen_columns(len(seeds), columns)
    height, width = model.resolution
    gutter = max(1, width // 32)
    checked_size(columns * (width + gutter), -(-len(seeds) // columns) * (height + gutter), out)
    path = checked_file(out, ".png")
    broken = [] if broken is None else broken
    faces = np.stack([face for _, face in sampled_faces(model, seeds, psi, progress, broken)])
    picture = tile(faces, columns, gutter=gutter, background=WHITE)
    text = provenance(model, seeds, psi, broken) | {"columns": str(columns)}
    save_png(Image.fromarray(picture), path, text)
    return path


def write_each(
    model: Any,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    psi: float = 1.0,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> list[Path]:
    """Write one PNG a seed, named ``seed-000017.png``, into ``folder`` (made where missing).

    Returns the paths in the order of the seeds. ``broken`` and UserError as `write_grid`.
    """
    seeds = checked_seeds(seeds, psi)
    target = checked_folder(folder)
    broken = [] if broken is None else broken
    paths = []
    for seed, face in sampled_faces(model, seeds, psi, progress, broken):
        path = target / f"seed-{seed:06d}.png"
        save_png(Image.fromarray(face), path, provenance(model, [seed], psi, broken[-1:]))
        paths.append(path)
    return paths
