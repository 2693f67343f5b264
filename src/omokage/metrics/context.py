"""What metrics look at: features and pixels of faces and samples. Each is computed once, on first use."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch

from ..errors import UserError
from ..progress import Progress, opened
from ..sampling import Decoder, pixels, sampled
from ..settings import Settings
from .features import Extractor, FaceFeatures, face_features
from .fid import Moments
from .metric import Metric, Watcher
from .protocol import Measurement

if TYPE_CHECKING:
    from ..data.store.faceset import FaceSet

T = TypeVar("T")
BLOCK = 256  # faces decoded at once where pixels are read and then dropped


class Drawer(Decoder, Protocol):
    """What evaluation needs of a model; `omokage.model.Model` has it."""

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the images."""

    @property
    def device(self) -> torch.device:
        """The device that its weights are on."""

    @property
    def snapshot_hash(self) -> str:
        """SHA-256 of the file that the model was loaded from."""

    @property
    def images_seen(self) -> int:
        """How many images it was trained on."""


@dataclass(frozen=True)
class SampleFeatures:
    """Features of the finite samples by one extractor: ``features`` is float32 (N, D)."""

    features: np.ndarray

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D), float64."""
        moments = Moments(self.features.shape[1])
        moments.add(self.features)
        return moments.result()


@dataclass(frozen=True)
class Drawn:
    """All samples after one pass: features by extractor, pixels of the first samples, and the watchers."""

    features: dict[str, SampleFeatures]
    pixels: np.ndarray
    not_finite: int
    watched: dict[str, Watcher]


@dataclass(frozen=True)
class Samples:
    """The samples of a model, drawn in one pass on first use.

    Samples that are not finite are counted and left out; no others are drawn in their place.
    """

    model: Drawer
    seeds: range
    settings: Settings
    extractors: Sequence[Extractor]
    metrics: Sequence[Metric]
    progress: Progress | None = None

    @cached_property
    def drawn(self) -> Drawn:
        """Raises `UserError` if fewer than two samples are finite, or if they do not fit into memory."""
        asked, size = len(self.seeds), self.model.resolution
        max_pixels = min(asked, max((metric.max_pixels for metric in self.metrics), default=0))
        try:
            # Allocated whole: small arrays kept between large ones that are freed would fragment memory.
            vectors = [np.empty((asked, extractor.dimensions), np.float32) for extractor in self.extractors]
            kept = np.empty((max_pixels, *size, 3), np.uint8)
        except (MemoryError, ValueError):
            raise UserError(
                f"the features of {asked:,} samples do not fit into memory: ask for fewer"
            ) from None
        watchers = {metric.name: metric.watcher() for metric in self.metrics if metric.watcher}
        not_finite = done = 0
        with opened(self.progress, f"{asked:,} samples", asked) as task:
            for images, finite in pixels(sampled(self.model, self.seeds, self.settings)):
                not_finite += int((~finite).sum())
                shown = images[finite]
                for watcher in watchers.values():
                    watcher.add(shown)
                for extractor, found in zip(self.extractors, vectors, strict=True):
                    found[done : done + len(shown)] = extractor(shown)
                kept[done : done + len(shown)] = shown[: max(len(kept) - done, 0)]
                done += len(shown)
                task.advance(len(images), f"{not_finite:,} not finite" if not_finite else "")
        if done < 2:
            raise UserError(f"{not_finite:,} of {asked:,} samples are not finite: this model is broken")
        features = {
            extractor.name: SampleFeatures(found[:done])
            for extractor, found in zip(self.extractors, vectors, strict=True)
        }
        return Drawn(features, kept[:done], not_finite, watchers)


@dataclass(frozen=True)
class Warnings:
    """What makes figures doubtful: one line for each reason, and each line once."""

    lines: list[str] = field(default_factory=list)
    tell: Callable[[str], None] | None = None

    def __call__(self, line: str) -> None:
        """Keep ``line``, and pass it to ``tell`` at once."""
        if line not in self.lines:
            self.lines.append(line)
            if self.tell is not None:
                self.tell(line)


@dataclass(frozen=True)
class Context:
    """Both sides of one measurement, as one extractor sees them.

    Attributes:
        faces: the real side.
        size: height and width of the samples; faces are resized to it.
        samples: the generated side; contexts of several extractors share it.
        extractor: computes the features.
        asked: the protocol: how many samples, which features, which psi.
        warn: takes a line about figures that say little; the line goes into the record.
        kept: the values that `once` has made; also shared between contexts.
    """

    faces: "FaceSet"
    size: tuple[int, int]
    samples: Samples
    extractor: Extractor
    asked: Measurement
    seed: int
    device: torch.device
    warn: Warnings
    kept: dict[str, Any]
    progress: Progress | None = None

    @cached_property
    def real(self) -> FaceFeatures:
        """Features of the faces; read from the cache if they are in it."""
        return face_features(self.faces, self.size, self.extractor, progress=self.progress)

    @property
    def fake(self) -> SampleFeatures:
        """Features of the samples; the first use draws them."""
        return self.samples.drawn.features[self.extractor.name]

    @property
    def fake_pixels(self) -> np.ndarray:
        """uint8 (N, H, W, 3): the first finite samples; N is at most the largest ``max_pixels``."""
        return self.samples.drawn.pixels

    @property
    def watched(self) -> dict[str, Watcher]:
        """The watchers that saw all samples, by the name of their metric."""
        return self.samples.drawn.watched

    @cached_property
    def different(self) -> list[int]:
        """Indices of the different faces; of several copies of one file, the last."""
        return list({digest: i for i, digest in enumerate(self.faces.index["sha256"].to_pylist())}.values())

    def real_pixels(self, places: Iterable[int] | np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3): the faces with the indices ``places``, resized to the size of the samples."""
        return self.faces.pixels(np.asarray(places), self.size)

    def some_real_pixels(self, most: int) -> Iterator[np.ndarray]:
        """All faces in batches; if there are more than ``most``, that many drawn with a fixed seed."""
        faces = len(self.faces)
        count = min(faces, most)
        chosen = np.sort(np.random.default_rng(0).choice(faces, count, replace=False))
        return (self.real_pixels(part) for part in np.array_split(chosen, -(-count // 256)))

    def once(self, key: str, make: Callable[[], T]) -> T:
        """The result of ``make``, which is called once a key: a metric reuses what its check has made."""
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found
