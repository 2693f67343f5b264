"""The training faces nearest to samples: has the model memorised any?

A distance alone says nothing. It is therefore compared with the distance from a real face to its nearest
other face (leave one out), as in the data-copying test of Meehan, Chaudhuri & Dasgupta 2020 ("A
non-parametric test to detect data-copying in generative models").
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import UserError
from ..progress import Progress, opened
from .features import Extractor, features_of

PIXEL_SIDE = 32
NEIGHBOURS = 5  # for each sample
BATCH = 128


@dataclass(frozen=True)
class SpaceReport:
    """Neighbours in one space.

    Attributes:
        space: the name of the extractor, or ``pixels-32``.
        indices: (N, k), indices of training faces, nearest first.
        distances: (N, k), Euclidean; in ``pixels-32`` the root mean square over 32x32x3 values in [0, 1].
        real_distances: (R,), from each reference face to its nearest other face, ascending.
        ratio: median nearest distance of the samples, divided by that of the real faces. Far below 1 is
            suspicious.
        nearer: probability that a sample is nearer to a training face than a real face is. It is 0.5 if
            samples are as far away as new faces, near 1 for copies, and near 0 if samples resemble no face.
        threshold: the distance within which only ``percentile`` percent of the real faces have a neighbour.
        copied: share of samples with a neighbour within the threshold; about ``percentile`` / 100 if the
            model copies nothing.
        percentile: as given.
    """

    space: str
    indices: np.ndarray
    distances: np.ndarray
    real_distances: np.ndarray
    ratio: float
    nearer: float
    threshold: float
    copied: float
    percentile: float

    @property
    def unit(self) -> float:
        """The median distance from a real face to its nearest other face."""
        return max(float(np.median(self.real_distances)), 1e-12)

    def as_dict(self) -> dict:
        """The numbers, for a JSON line."""
        names = ("space", "ratio", "nearer", "threshold", "copied", "percentile")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class NeighbourReport:
    """One report for each space: features first if there are any, then pixels."""

    spaces: tuple[SpaceReport, ...]

    def as_dict(self) -> dict:
        """The numbers, for a JSON line."""
        return {"spaces": [space.as_dict() for space in self.spaces]}


def pixel_features(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) to float32 (N, 3072): resized to 32x32 by area, scaled so that distances are RMS.

    >>> black, white = pixel_features(np.uint8([0, 255])[:, None, None, None].repeat(3, 3))
    >>> round(float(np.linalg.norm(black - white)), 4)
    1.0
    """
    parts = []
    for i in range(0, len(images), BATCH):
        x = torch.from_numpy(np.ascontiguousarray(images[i : i + BATCH])).permute(0, 3, 1, 2).float() / 255
        parts.append(F.interpolate(x, size=(PIXEL_SIDE, PIXEL_SIDE), mode="area").flatten(1))
    return (torch.cat(parts) / (3 * PIXEL_SIDE**2) ** 0.5).numpy()


def _mirrored(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(-1, 3, PIXEL_SIDE, PIXEL_SIDE)[..., ::-1].reshape(len(pixels), -1)


def nearest(
    queries: np.ndarray, among: np.ndarray, k: int = 1, *, leave_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of ``among`` nearest to each row of ``queries``, by Euclidean distance.

    Args:
        queries: float32 (Q, D).
        among: float32 (M, D), ``M`` above ``k``.
        leave_out: (Q,), for each query one row of ``among`` to ignore (the query itself); or None.

    Returns:
        Indices and distances, both (Q, k), nearest first.

    >>> nearest(np.float32([[0], [7]]), np.float32([[4], [1], [9]]), 2)[0].tolist()
    [[1, 0], [2, 0]]
    """
    points = torch.from_numpy(np.ascontiguousarray(among, np.float32))
    squares = points.square().sum(1)
    spare = min(k + 8, len(points) - (leave_out is not None))
    indices, distances = [], []
    for i in range(0, len(queries), BATCH):
        q = torch.from_numpy(np.ascontiguousarray(queries[i : i + BATCH], np.float32))
        far = squares - 2 * q @ points.T
        if leave_out is not None:
            far[torch.arange(len(q)), torch.as_tensor(leave_out[i : i + BATCH])] = torch.inf
        found = far.topk(spare, largest=False).indices
        # The expanded square above loses precision for near copies, and near copies are what we look for.
        exact = (points[found] - q[:, None]).double().square().sum(2).sqrt()
        exact, order = exact.sort(dim=1, stable=True)
        indices.append(found.gather(1, order)[:, :k].numpy())
        distances.append(exact[:, :k].numpy())
    return np.concatenate(indices), np.concatenate(distances)


def _space(
    name: str,
    samples: np.ndarray,
    faces: np.ndarray,
    reference: np.ndarray,
    k: int,
    percentile: float,
    mirror: bool,
) -> SpaceReport:
    queries = faces[reference]
    indices, distances = nearest(samples, faces, k)
    _, real = nearest(queries, faces, leave_out=reference)
    if mirror:
        # Training may show faces mirrored, so a mirrored copy counts as a copy.
        more, further = nearest(_mirrored(samples), faces, k)
        indices, distances = _merged(indices, distances, more, further)
        real = np.minimum(real, nearest(_mirrored(queries), faces, leave_out=reference)[1])
    real = np.sort(real[:, 0])
    mine = distances[:, 0]
    threshold = float(np.percentile(real, percentile))
    below, up_to = np.searchsorted(real, mine, "left"), np.searchsorted(real, mine, "right")
    return SpaceReport(
        space=name,
        indices=indices,
        distances=distances,
        real_distances=real,
        ratio=float(np.median(mine) / max(np.median(real), 1e-12)),
        nearer=float(1 - (below + up_to).mean() / (2 * len(real))),
        threshold=threshold,
        copied=float((mine <= threshold).mean()),
        percentile=percentile,
    )


def _merged(
    indices: np.ndarray, distances: np.ndarray, more: np.ndarray, further: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest faces of two lists, each face once."""
    k = indices.shape[1]
    all_indices, all_distances = np.hstack([indices, more]), np.hstack([distances, further])
    order = np.argsort(all_distances, axis=1, kind="stable")
    kept = [list(dict.fromkeys(row[o]))[:k] for row, o in zip(all_indices, order, strict=True)]
    chosen = np.array(kept)
    least = np.where(all_indices[:, None] == chosen[:, :, None], all_distances[:, None], np.inf).min(axis=2)
    return chosen, least


def check_neighbours(faces: int, k: int = NEIGHBOURS) -> None:
    """Raise `UserError` if ``faces`` faces are too few for ``k`` neighbours."""
    if faces < k + 1:
        raise UserError(f"{faces} training faces are too few for {k} neighbours; give at least {k + 1}")


def neighbours(
    samples: np.ndarray,
    faces: np.ndarray,
    *,
    extractor: Extractor | None = None,
    sample_features: np.ndarray | None = None,
    face_features: np.ndarray | None = None,
    k: int = NEIGHBOURS,
    reference: int = 2000,
    percentile: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> NeighbourReport:
    """The training faces nearest to each sample, in features (if an extractor is given) and in pixels.

    Args:
        samples: uint8 (N, H, W, 3).
        faces: uint8 (M, H, W, 3), the training faces.
        extractor: a feature space; without it, only pixels are searched.
        sample_features, face_features: the features of the two, if they are known already.
        k: number of neighbours for each sample.
        reference: how many real faces, drawn with ``seed``, are used to measure the distance between faces.
        percentile: in percent, see ``SpaceReport.threshold``.

    Raises:
        UserError: there is no sample, or there are fewer than ``k`` + 1 faces.
    """
    if len(samples) == 0:
        raise UserError("no samples to find neighbours for; give at least one")
    check_neighbours(len(faces), k)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(faces))[:reference])
    spaces = []
    with opened(progress, "nearest training faces", 1 + (extractor is not None)) as task:
        if extractor is not None:
            mine = features_of(extractor, samples) if sample_features is None else sample_features
            theirs = features_of(extractor, faces) if face_features is None else face_features
            if len(mine) != len(samples) or len(theirs) != len(faces):
                raise ValueError(
                    f"{len(mine)} and {len(theirs)} features, {len(samples)} and {len(faces)} images"
                )
            spaces.append(_space(extractor.name, mine, theirs, chosen, k, percentile, mirror=False))
            task.advance()
        pixels = pixel_features(samples), pixel_features(faces)
        spaces.append(_space(f"pixels-{PIXEL_SIDE}", *pixels, chosen, k, percentile, mirror=True))
        task.advance()
    return NeighbourReport(tuple(spaces))
