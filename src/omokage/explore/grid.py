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
from omokage.sampling import sample

WHITE = (255, 255, 255)


def sampled_faces(
    model: Any, seeds: Sequence[int], psi: float, progress: Progress | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Each seed with its face, uint8 (H, W, 3), in order, batch by batch."""
    remaining = iter(seeds)
    with opened(progress, "sampling", len(seeds)) as task:
        for batch in sample(model, seeds, psi):
            for face in batch:
                yield next(remaining), face
            task.advance(len(batch))


def write_grid(
    model: Any,
    seeds: Sequence[int],
    out: str | Path,
    *,
    psi: float = 1.0,
    columns: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one PNG with the faces of ``seeds`` in order, row by row, thin gutters between them.

    Every face keeps its pixels; the text chunks say how to make the picture again. ``columns``: None
    chooses a near-square grid. Returns the path written.

    UserError: no seeds, a negative one, psi not finite, a name that does not end in .png or cannot be
    written, a picture too large to open.
    """
    seeds = checked_seeds(seeds, psi)
    columns = chosen_columns(len(seeds), columns)
    height, width = model.resolution
    gutter = max(1, width // 32)
    checked_size(columns * (width + gutter), -(-len(seeds) // columns) * (height + gutter), out)
    path = checked_file(out, ".png")
    faces = np.stack([face for _, face in sampled_faces(model, seeds, psi, progress)])
    picture = tile(faces, columns, gutter=gutter, background=WHITE)
    text = provenance(model, seeds, psi) | {"columns": str(columns)}
    save_png(Image.fromarray(picture), path, text)
    return path


def write_each(
    model: Any,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    psi: float = 1.0,
    progress: Progress | None = None,
) -> list[Path]:
    """Write one PNG a seed, named ``seed-000017.png``, into ``folder`` (made where missing).

    Returns the paths in the order of the seeds. UserError as `write_grid`.
    """
    seeds = checked_seeds(seeds, psi)
    target = checked_folder(folder)
    paths = []
    for seed, face in sampled_faces(model, seeds, psi, progress):
        path = target / f"seed-{seed:06d}.png"
        save_png(Image.fromarray(face), path, provenance(model, [seed], psi))
        paths.append(path)
    return paths
