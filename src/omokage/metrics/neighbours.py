"""The training faces nearest to samples: has the model memorised any?

A distance alone says nothing. It is therefore compared with the distance from a face that the model has not
seen to its nearest training face, as in the data-copying test of Meehan, Chaudhuri & Dasgupta 2020 ("A
non-parametric test to detect data-copying in generative models"). Where no such faces are at hand, training
faces take their place, each compared with the others. That is less strict: copies in the training set make
training faces seem near to each other, and a model that copies seem harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binomtest
from torch.nn import functional as F

from ..errors import UserError
from ..progress import Progress, opened
from .features import Extractor, features_of

PIXEL_SIDE = 32
NEIGHBOURS = 5  # for each sample
BATCH = 128
RESAMPLED = 1_000  # times, for an interval
HELDOUT, LEFT_OUT = "held-out faces", "training faces, each left out"


@dataclass(frozen=True)
class SpaceReport:
    """Neighbours in one space.

    Attributes:
        space: the name of the extractor, or ``pixels-32``.
        indices: (N, k), indices of training faces, nearest first.
        distances: (N, k), Euclidean; in ``pixels-32`` the root mean square over 32x32x3 values in [0, 1].
        real_distances: (R,), from each reference face to its nearest training face, ascending; a reference
            face that is a training face itself is compared with the others.
        ratio: median nearest distance of the samples, divided by that of the real faces. Far below 1 is
            suspicious.
        nearer: probability that a sample is nearer to a training face than a real face is. It is 0.5 if
            samples are as far away as new faces, near 1 for copies, and near 0 if samples resemble no face.
        threshold: the distance within which only ``percentile`` percent of the real faces have a neighbour.
        copied: share of samples with a neighbour within the threshold; about ``percentile`` / 100 if the
            model copies nothing.
        percentile: as given.
        nearer_interval: 95% interval of ``nearer``, by resampling samples and reference faces.
        copied_interval: 95% interval of ``copied``: by resampling samples and reference faces, from which the
            threshold comes; at least as wide as the exact one for this threshold (Clopper & Pearson 1934).
        reference: what the reference faces are: `HELDOUT` or `LEFT_OUT`.
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
    nearer_interval: tuple[float, float] = (0.0, 1.0)
    copied_interval: tuple[float, float] = (0.0, 1.0)
    reference: str = LEFT_OUT

    @property
    def unit(self) -> float:
        """The median distance from a reference face to its nearest training face."""
        return max(float(np.median(self.real_distances)), 1e-12)

    def as_dict(self) -> dict:
        """The numbers, for a JSON line."""
        names = ("space", "reference", "ratio", "nearer", "threshold", "copied", "percentile")
        told = {name: getattr(self, name) for name in names}
        return told | {
            "nearer_interval": list(self.nearer_interval),
            "copied_interval": list(self.copied_interval),
            "samples": len(self.distances),
            "reference_faces": len(self.real_distances),
        }

    def words(self) -> str:
        """What was found, as two sentences."""
        low, high = self.copied_interval
        less, more = self.nearer_interval
        return (
            f"{self.space}: {self.copied:.1%} of {len(self.distances):,} samples ({low:.1%} to {high:.1%}) "
            f"are nearer to a training face than {100 - self.percentile:g}% of {len(self.real_distances):,} "
            f"{self.reference}; without memorising it is about {self.percentile:g}%. A sample is nearer than "
            f"such a face in {self.nearer:.0%} of pairs ({less:.0%} to {more:.0%}); 50% is no memorising"
        )


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
    reference: np.ndarray | None,
    heldout: np.ndarray | None,
    k: int,
    percentile: float,
    mirror: bool,
) -> SpaceReport:
    """``reference``: rows of ``faces`` to compare with, where there are no features of ``heldout`` faces."""
    if heldout is None:
        assert reference is not None
        queries = faces[reference]
    else:
        queries, reference = heldout, None
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
    copied = int((mine <= threshold).sum())
    return SpaceReport(
        space=name,
        indices=indices,
        distances=distances,
        real_distances=real,
        ratio=float(np.median(mine) / max(np.median(real), 1e-12)),
        nearer=share_nearer(mine, real),
        threshold=threshold,
        copied=copied / len(mine),
        percentile=percentile,
        nearer_interval=nearer_interval(mine, real),
        copied_interval=copied_interval(mine, real, percentile),
        reference=LEFT_OUT if heldout is None else HELDOUT,
    )


def share_nearer(mine: np.ndarray, real: np.ndarray) -> float:
    """The share of pairs in which a distance of ``mine`` is below one of ``real``; ties count half.

    ``real`` is ascending.

    >>> share_nearer(np.array([1.0, 3.0]), np.array([2.0, 3.0]))
    0.625
    """
    below, up_to = np.searchsorted(real, mine, "left"), np.searchsorted(real, mine, "right")
    return float(1 - (below + up_to).mean() / (2 * len(real)))


def copied_interval(
    mine: np.ndarray, real: np.ndarray, percentile: float, seed: int = 0
) -> tuple[float, float]:
    """A 95% interval of the share of distances ``mine`` that are within the ``percentile`` of ``real``.

    >>> copied_interval(np.full(50, 9.0), np.arange(100.0), 1.0)[0]
    0.0
    """
    exact = binomtest(int((mine <= np.percentile(real, percentile)).sum()), len(mine)).proportion_ci()
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLED):
        threshold = np.percentile(real[rng.integers(len(real), size=len(real))], percentile)
        drawn.append((mine[rng.integers(len(mine), size=len(mine))] <= threshold).mean())
    low, high = np.percentile(drawn, (2.5, 97.5))
    return min(float(exact.low), float(low)), max(float(exact.high), float(high))


def nearer_interval(mine: np.ndarray, real: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """A 95% interval of `share_nearer`: both sides are drawn again with replacement, `RESAMPLED` times."""
    rng = np.random.default_rng(seed)
    drawn = [
        share_nearer(mine[rng.integers(len(mine), size=len(mine))],
                     np.sort(real[rng.integers(len(real), size=len(real))]))
        for _ in range(RESAMPLED)
    ]  # fmt: skip
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


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
    heldout: np.ndarray | None = None,
    more: Sequence[tuple[Extractor, np.ndarray]] = (),
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
        heldout: uint8 (R, H, W, 3), faces that the model has not seen, to compare with; without them,
            training faces are compared with each other.
        more: further feature spaces, each with the features of ``faces`` in it.
        k: number of neighbours for each sample.
        reference: at most how many real faces, drawn with ``seed``, are used to measure the distance between
            faces.
        percentile: in percent, see ``SpaceReport.threshold``.

    Raises:
        UserError: there is no sample, or there are fewer than ``k`` + 1 faces.
    """
    if len(samples) == 0:
        raise UserError("no samples to find neighbours for; give at least one")
    check_neighbours(len(faces), k)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(faces) if heldout is None else len(heldout))[:reference])
    unseen = None if heldout is None else heldout[chosen]
    spaces = []
    with opened(progress, "nearest training faces", 1 + (extractor is not None) + len(more)) as task:
        searched = list(more)
        if extractor is not None:
            theirs = features_of(extractor, faces) if face_features is None else face_features
            searched.insert(0, (extractor, theirs))
        for one, theirs in searched:
            known = sample_features if one is extractor else None
            mine = features_of(one, samples) if known is None else known
            if len(mine) != len(samples) or len(theirs) != len(faces):
                raise ValueError(
                    f"{len(mine)} and {len(theirs)} features, {len(samples)} and {len(faces)} images"
                )
            their = None if unseen is None else features_of(one, unseen)
            spaces.append(_space(one.name, mine, theirs, chosen, their, k, percentile, mirror=False))
            task.advance()
        pixels = pixel_features(samples), pixel_features(faces)
        their = None if unseen is None else pixel_features(unseen)
        spaces.append(_space(f"pixels-{PIXEL_SIDE}", *pixels, chosen, their, k, percentile, mirror=True))
        task.advance()
    return NeighbourReport(tuple(spaces))
