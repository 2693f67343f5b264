"""What metrics look at: features and pixels of faces and samples, each made when first asked for, once."""

from collections.abc import Callable, Iterable, Sequence
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
    from ..data.faceset import FaceSet

T = TypeVar("T")
BLOCK = 256  # faces decoded at once where pixels are looked at and dropped


class Drawer(Decoder, Protocol):
    """What evaluation asks of a model; `omokage.model.Model` answers it."""

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the images."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    @property
    def snapshot_hash(self) -> str:
        """SHA-256 of the file that the model came from."""

    @property
    def images_seen(self) -> int:
        """How many images it was trained on."""


@dataclass(frozen=True)
class SampleFeatures:
    """What samples look like to an extractor: ``features`` float32 (N, D), all of them finite samples."""

    features: np.ndarray

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D), float64."""
        moments = Moments(self.features.shape[1])
        moments.add(self.features)
        return moments.result()


@dataclass(frozen=True)
class Drawn:
    """All samples, after one pass: features by extractor, pixels of the first, and what watchers saw."""

    features: dict[str, SampleFeatures]
    pixels: np.ndarray
    not_finite: int
    watched: dict[str, Watcher]


@dataclass(frozen=True)
class Samples:
    """The samples of a model, drawn in one pass when first asked for.

    Samples that are not finite are counted and left out, never drawn again.
    """

    model: Drawer
    seeds: range
    psi: float
    extractors: Sequence[Extractor]
    metrics: Sequence[Metric]
    progress: Progress | None = None

    @cached_property
    def drawn(self) -> Drawn:
        """Raises `UserError` where fewer than two samples are finite, or they do not fit into memory."""
        asked, size = len(self.seeds), self.model.resolution
        max_pixels = min(asked, max((metric.max_pixels for metric in self.metrics), default=0))
        try:
            # Whole from the start: small pieces that stay, between large ones that go, would break up memory.
            vectors = [np.empty((asked, extractor.dimensions), np.float32) for extractor in self.extractors]
            kept = np.empty((max_pixels, *size, 3), np.uint8)
        except (MemoryError, ValueError):
            raise UserError(
                f"the features of {asked:,} samples do not fit into memory: ask for fewer"
            ) from None
        watchers = {metric.name: metric.watcher() for metric in self.metrics if metric.watcher}
        not_finite = done = 0
        with opened(self.progress, f"{asked:,} samples", asked) as task:
            for images, finite in pixels(sampled(self.model, self.seeds, Settings(psi=self.psi))):
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
    """What makes figures doubtful, each said once: one line a fact."""

    lines: list[str] = field(default_factory=list)
    tell: Callable[[str], None] | None = None

    def __call__(self, line: str) -> None:
        """Remember ``line``, and tell it at once to whoever listens."""
        if line not in self.lines:
            self.lines.append(line)
            if self.tell is not None:
                self.tell(line)


@dataclass(frozen=True)
class Context:
    """Both sides of one measurement, in the eyes of one extractor.

    Attributes:
        faces: the real side.
        size: height and width to which faces are brought, those of the samples.
        samples: the generated side; contexts of several extractors share it.
        extractor: of the features.
        asked: how many samples are asked for, from which seed, by which protocol.
        warn: takes a line about figures that say little; it goes into the record.
        kept: what `once` made; shared likewise.
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
        """Features of the faces, from the cache if they are in it."""
        return face_features(self.faces, self.size, self.extractor, progress=self.progress)

    @property
    def fake(self) -> SampleFeatures:
        """Features of the samples; the first to ask has them drawn."""
        return self.samples.drawn.features[self.extractor.name]

    @property
    def fake_pixels(self) -> np.ndarray:
        """uint8 (N, H, W, 3): the first finite samples, as many as a metric asks for by ``max_pixels``."""
        return self.samples.drawn.pixels

    @property
    def watched(self) -> dict[str, Watcher]:
        """By metric, what saw all samples."""
        return self.samples.drawn.watched

    @cached_property
    def different(self) -> list[int]:
        """Places of the faces, of copies of one file the last."""
        return list({digest: i for i, digest in enumerate(self.faces.index["sha256"].to_pylist())}.values())

    def real_pixels(self, places: Iterable[int] | np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3): the faces at ``places``, as large as the samples."""
        return self.faces.pixels(np.asarray(places), self.size)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once: what a check has made, its metric need not make again."""
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found
