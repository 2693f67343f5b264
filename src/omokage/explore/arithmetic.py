"""Attribute arithmetic: a direction in latent space from one tag to another, added to the latent of a face.

The direction is the mean latent of the faces with the second tag minus the mean latent of the faces with the
first, as in Kingma & Dhariwal 2018 (Glow, arXiv 1807.03039).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from omokage.abilities import Encodes
from omokage.data.store.columns import COLUMNS
from omokage.data.store.faceset import FaceSet
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.explore.inversion import as_images
from omokage.model import Model
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, gathered, in_batches, pixels

MIN_FACES = 8  # faces for each tag; a mean of fewer shows the single faces more than the tag
SHOWN = 6  # faces in the figure if the user names none


@dataclass(frozen=True)
class Tag:
    """A label of a face set: the column ``hair`` and its value ``blonde``."""

    column: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}={self.value}"


def parse_tag(text: str, option: str) -> Tag:
    """Parse ``hair=blonde``; ``option`` is the command line option that errors name.

    >>> parse_tag("hair=blonde", "--from")
    Tag(column='hair', value='blonde')
    """
    column, equals, value = (part.strip() for part in text.partition("="))
    if not (column and equals and value):
        raise UserError(f"{option}: {one_line(text)!r} is not a tag; write it like hair=blonde")
    return Tag(column, value)


def having(faces: FaceSet, tag: Tag) -> np.ndarray:
    """Which faces have ``tag``, bool (N,). Several values of one face are separated by ``|``.

    Raises:
        UserError: no such column of labels, or no face with that value; the error lists what exists.
    """
    shown = one_line(faces.path)
    labels = [name for name in faces.index.column_names if name not in COLUMNS]
    if tag.column not in labels:
        there = (
            f"there are {', '.join(labels)}" if labels else "it has none; omokage build --labels adds them"
        )
        raise UserError(f"{shown} has no labels {tag.column!r}; {there}")
    values = [str(cell or "").split("|") for cell in faces.index[tag.column].to_pylist()]
    found = np.array([tag.value in each for each in values], bool)
    if not found.any():
        known = sorted({value for each in values for value in each if value})
        near = get_close_matches(tag.value, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:30])}"
        raise UserError(f"{shown}: no face has {tag}; {hint}")
    return found


@dataclass(frozen=True)
class Direction:
    """The direction in latent space from one tag to another.

    Attributes:
        latent: (*latent_shape,), to be added to the latent of a face.
        counts: number of faces in each mean (first tag, second tag).
        others: faces with the first tag that are not in the mean; the figure moves them.
        not_finite: number of faces left out of each mean because their latent is not finite.
    """

    latent: Tensor
    counts: tuple[int, int]
    others: np.ndarray
    not_finite: tuple[int, int] = (0, 0)


def direction(
    model: Model,
    faces: FaceSet,
    start: Tag,
    end: Tag,
    *,
    max_faces: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Direction:
    """The mean latent of faces with the tag ``end`` minus that of faces with ``start``.

    Faces with both tags are left out. At most ``max_faces`` faces of each tag are encoded, chosen at random
    with ``seed``. `SHOWN` faces with ``start`` are kept out of the mean, unless that leaves too few. Faces
    whose latent is not finite are left out and counted.

    Raises:
        UserError: as `having`; fewer than `MIN_FACES` faces for a tag; or a family that cannot encode.
    """
    model.require(Encodes)
    has_start, has_end = having(faces, start), having(faces, end)
    rng = np.random.default_rng(seed)
    sides = [rng.permutation(np.flatnonzero(a & ~b)) for a, b in ((has_start, has_end), (has_end, has_start))]
    for tag, side in zip((start, end), sides, strict=True):
        if len(side) < MIN_FACES:
            raise UserError(
                f"{one_line(faces.path)}: {len(side)} faces have {tag} and not the other tag, "
                f"{MIN_FACES} are needed for a mean"
            )
    kept = min(SHOWN, len(sides[0]) - MIN_FACES)
    others, sides[0] = np.sort(sides[0][:kept]), sides[0][kept:]
    means, counts = [], []
    chosen = [side[:max_faces] for side in sides]
    with opened(progress, "encoding tagged faces", sum(map(len, chosen))) as task:
        for side in chosen:
            total, count = torch.zeros(model.latent_shape, dtype=torch.float64), 0
            for part in np.array_split(side, -(-len(side) // BATCH)):
                z = model.encode(as_images(faces.pixels(part, model.resolution))).double().cpu()
                finite = z.flatten(1).isfinite().all(1)
                total, count = total + z[finite].sum(0), count + int(finite.sum())
                task.advance(len(part))
            if not count:
                raise UserError("no tagged face has a finite latent: this model is broken")
            means.append(total / count)
            counts.append(count)
    lost = (len(chosen[0]) - counts[0], len(chosen[1]) - counts[1])
    return Direction((means[1] - means[0]).float(), (counts[0], counts[1]), others, lost)


def pictures_along(
    model: Model,
    pictures: np.ndarray,
    called: Sequence[str],
    way: Direction,
    strengths: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0),
) -> list[Faces]:
    """Each picture with growing multiples of a direction added; strength 0 is the picture itself.

    ``pictures``: uint8 (N, H, W, 3) at the model's resolution; ``called``: their names.
    """
    rows = []
    multiples = torch.tensor(strengths).view(-1, *[1] * way.latent.dim())
    latents = torch.cat([model.encode(part) for part in as_images(pictures).split(BATCH)])
    for name, z in zip(called, latents.split(1), strict=True):
        faces, finite = gathered(pixels(in_batches(model.inverse, z.cpu() + multiples * way.latent)))
        rows.append(Faces(faces, [f"{strength:g}" for strength in strengths], name, finite))
    return rows
