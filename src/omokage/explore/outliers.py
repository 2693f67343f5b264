"""Outliers of a face set: bad crops, and pictures that are not faces. A flow's likelihood finds them.

Likelihood alone does not find them: it is highest for flat pictures of any kind and lowest for busy ones
(Nalisnick et al. 2019, arXiv 1810.09136). So the picture's complexity is subtracted, as in Serrà et al. 2020
(arXiv 1909.11480). The score is S = -l - L, where l is the log-likelihood and L the compressed length, both
in bits per colour value. A high score means that the flow needs many bits for a picture that a general
compressor needs few for. Such a picture is not like the training pictures.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from omokage.abilities import HasDensity
from omokage.data.store.faceset import FaceSet
from omokage.data.text import one_line
from omokage.explore.faces import Faces
from omokage.metrics.likelihood import bits_per_dimension
from omokage.model import Model
from omokage.progress import Progress, opened


def compressors() -> list[str]:
    """Names of the lossless compressors that measure complexity here.

    Each gives an upper bound, so the shortest result counts. The paper uses PNG, JPEG 2000 and FLIF.
    """
    return ["png", "webp"] if features.check("webp") else ["png"]


def complexity(pictures: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Lossless compressed size of pictures uint8 (N, H, W, 3), in bits per colour value, (N,).

    >>> flat, noise = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    >>> [round(bits, 1) for bits in complexity(np.stack([flat, noise.astype(np.uint8)])).tolist()]
    [0.0, 8.1]
    """
    kinds, found = compressors(), np.empty(len(pictures))
    settings: dict[str, dict[str, Any]] = {
        "png": {"optimize": True},
        "webp": {"lossless": True, "method": 4, "quality": 75},
    }
    with opened(progress, "compressing", len(pictures)) as task:
        for i, picture in enumerate(pictures):
            image, lengths = Image.fromarray(picture), []
            for kind in kinds:
                file = io.BytesIO()
                image.save(file, kind, **settings[kind])
                lengths.append(file.tell())
            found[i] = 8 * min(lengths) / picture.size
            task.advance()
    return found


@dataclass(frozen=True)
class Scores:
    """Scores of N pictures. A higher score means a less typical picture.

    Attributes:
        plain: (N,), negative log-likelihood in bits per dimension; infinite if it is not finite.
        complexity: (N,), compressed size in bits per colour value.
    """

    plain: np.ndarray
    complexity: np.ndarray

    @property
    def not_finite(self) -> int:
        """Number of pictures whose likelihood is not finite.

        >>> Scores(np.array([3.0, np.inf]), np.array([2.0, 2.0])).not_finite
        1
        """
        return int((~np.isfinite(self.plain)).sum())

    @property
    def corrected(self) -> np.ndarray:
        """Likelihood corrected for complexity: `plain` minus `complexity`."""
        return self.plain - self.complexity


def score(model: Model, pictures: np.ndarray, *, seed: int = 0, progress: Progress | None = None) -> Scores:
    """Scores of pictures uint8 (N, H, W, 3). ``seed`` is that of the dequantisation noise.

    Raises:
        UserError: the model has no likelihood, or no picture has a finite one.
    """
    plain = bits_per_dimension(model, pictures, seed=seed, progress=progress).each
    return Scores(np.where(np.isfinite(plain), plain, np.inf), complexity(pictures, progress))


@dataclass(frozen=True)
class Ranking:
    """All faces of a set, least typical first.

    Attributes:
        scores: in the order of the set.
        order: (N,), rows of the set, least typical first.
        bands: the most and the least typical faces, by the corrected score and by the plain one.
    """

    scores: Scores
    order: np.ndarray
    bands: list[Faces]

    def rows(self, faces: FaceSet) -> Iterator[list[object]]:
        """One row of the table for each face, with the columns `COLUMNS`."""
        files, scores = faces.index["file"].to_pylist(), self.scores
        for rank, i in enumerate(self.order, 1):
            numbers = (scores.corrected[i], scores.plain[i], scores.complexity[i])
            yield [rank, faces.keys[i], files[i], *(f"{number:.6f}" for number in numbers)]


COLUMNS = ("rank", "key", "file", "corrected", "bits_per_dimension", "complexity")


def ranked(
    model: Model, faces: FaceSet, *, show: int = 16, seed: int = 0, progress: Progress | None = None
) -> Ranking:
    """Rank all faces of a set. ``show``: faces in each band.

    Raises:
        UserError: as `score`.
    """
    model.require(HasDensity)
    pictures = faces.everything(model.resolution, progress)
    scores = score(model, pictures, seed=seed, progress=progress)
    order = np.argsort(-scores.corrected, kind="stable")

    def band(heading: str, values: np.ndarray, chosen: np.ndarray) -> Faces:
        captions = [f"{one_line(faces.keys[i], 18)}  {values[i]:.2f}" for i in chosen]
        return Faces(pictures[chosen], captions, heading)

    by_likelihood = np.argsort(-scores.plain, kind="stable")
    bands = [
        band("Least typical, corrected for complexity", scores.corrected, order[:show]),
        band("Most typical, corrected for complexity", scores.corrected, order[::-1][:show]),
        band("Least likely, not corrected: busy pictures", scores.plain, by_likelihood[:show]),
        band("Most likely, not corrected: flat pictures", scores.plain, by_likelihood[::-1][:show]),
    ]
    return Ranking(scores, order, bands)
