"""How good an inverted face is: likeness to its picture, and what a change does to it.

Likeness is measured in features that the search did not use. A search can lower its own loss without drawing
a more similar face, so its loss says little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omokage.metrics.features import Extractor, features_of
from omokage.metrics.tag_features import tag_extractor
from omokage.sampling import BATCH, in_batches, to_pixels

MOVES = ((0, -2.0), (0, 2.0), (1, -2.0), (1, 2.0))  # direction of w by its length, and standard deviations


@dataclass(frozen=True)
class Fit:
    """How near faces are to the pictures that they were made for.

    Attributes:
        distances: (N,), from each picture to its face, Euclidean, in the features ``space``.
        others: (N, M), from each picture to M other faces.
        space: the name of the feature network.
        kind: what the other faces are: "samples", or "faces of FILE".

    >>> fit = Fit(np.array([1.0]), np.array([[2.0, 0.5, 3.0, 4.0]]), "tags", "samples")
    >>> fit.nearer.tolist(), fit.words(0)
    ([0.25], 'distance 1.00 (tags): nearer to the picture than 3 of 4 samples; the nearest of them: 0.50')
    """

    distances: np.ndarray
    others: np.ndarray
    space: str
    kind: str

    @property
    def nearer(self) -> np.ndarray:
        """(N,), the share of the other faces that are nearer to the picture than its face is."""
        return (self.others < self.distances[:, None]).mean(1)

    def words(self, row: int) -> str:
        """The fit of one picture as a sentence."""
        beaten = int((self.others[row] >= self.distances[row]).sum())
        many = self.others.shape[1]
        than = f"all {many:,}" if beaten == many else f"{beaten:,} of {many:,}"
        return (
            f"distance {self.distances[row]:.2f} ({self.space}): nearer to the picture than {than} "
            f"{self.kind}; the nearest of them: {self.others[row].min():.2f}"
        )


@dataclass(frozen=True)
class Judge:
    """The faces that fits are compared with, and the features in which this is done.

    Attributes:
        extractor: the feature network; never the one that the search uses.
        features: (M, D), features of the other faces.
        kind: what these faces are, as in `Fit`.
    """

    extractor: Extractor
    features: np.ndarray
    kind: str

    @classmethod
    def of(cls, faces: np.ndarray, kind: str = "samples", extractor: Extractor | None = None) -> "Judge":
        """The judge with ``faces`` uint8 (M, H, W, 3); ``extractor`` None: the tag encoder."""
        extractor = tag_extractor() if extractor is None else extractor
        return cls(extractor, features_of(extractor, faces), kind)

    def fit(self, pictures: np.ndarray, faces: np.ndarray) -> Fit:
        """The fit of faces to pictures, both uint8 (N, H, W, 3)."""
        wanted, found = (features_of(self.extractor, each) for each in (pictures, faces))
        others = np.linalg.norm(wanted[:, None].astype(np.float64) - self.features[None], axis=2)
        distances = np.linalg.norm(wanted.astype(np.float64) - found, axis=1)
        return Fit(distances, others, self.extractor.name, self.kind)

    def strangeness(self, faces: np.ndarray) -> np.ndarray:
        """(N,) in [0, 1]: how unlike the model's own faces each of ``faces`` is.

        The share of the judge's faces that are nearer to their nearest neighbour than this face is: 0.5 for a
        face like any other, 1 for one that is farther from all of them than they are from one another.
        """
        found = features_of(self.extractor, faces)
        own = _distances(self.features, self.features)
        np.fill_diagonal(own, np.inf)
        usual = own.min(1)
        return (usual[None] < _distances(found, self.features).min(1)[:, None]).mean(1)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, M), in float64."""
    squares = torch.cdist(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    return squares.numpy()


@dataclass(frozen=True)
class Editability:
    """The same changes to a face in several spaces.

    Attributes:
        spaces: names, such as "w" and "w+".
        faces: for each space uint8 (N, 1 + moves, H, W, 3): the face, then the face after each move.
        strange: for each space (N, 1 + moves), see `Judge.strangeness`.
        moves: what each move is, in a few words.
    """

    spaces: Sequence[str]
    faces: Sequence[np.ndarray]
    strange: Sequence[np.ndarray]
    moves: Sequence[str]

    def words(self, row: int) -> str:
        """What the moves do to one face, as a sentence."""
        parts = [
            f"{each[0]:.0%} of samples in {space}, and after the same moves than {each[1:].mean():.0%}"
            for space, each in zip(self.spaces, [every[row] for every in self.strange], strict=True)
        ]
        return f"stranger than {'; than '.join(parts)}"


def editability(
    synthesis: Callable[[Tensor], Tensor], points: dict[str, Tensor], axes: Tensor, judge: Judge
) -> Editability:
    """Move points of several spaces by the same amounts, `MOVES`.

    Args:
        synthesis: styles (B, layers, width) to images (B, 3, H, W) in [-1, 1].
        points: for each space styles (N, layers, width).
        axes: (width, R), the directions of w, each as long as its standard deviation.
    """
    moves = [amount * axes[:, min(axis, axes.shape[1] - 1)] for axis, amount in MOVES]
    words = [f"direction {axis + 1}, {amount:+g} sd" for axis, amount in MOVES]
    steps = torch.stack([torch.zeros_like(moves[0]), *moves])
    found, strange = [], []
    for w in points.values():
        moved = (w[:, None] + steps[None, :, None].to(w)).flatten(0, 1)
        faces = np.concatenate([to_pixels(part) for part in in_batches(synthesis, moved)])
        found.append(faces.reshape(len(w), len(steps), *faces.shape[1:]))
        strange.append(judge.strangeness(faces).reshape(len(w), len(steps)))
    return Editability(list(points), found, strange, words)


def round_up(count: int) -> int:
    """``count`` rounded up to whole batches: samples come in batches of `BATCH` anyway.

    >>> round_up(20)
    32
    """
    return -(-count // BATCH) * BATCH
