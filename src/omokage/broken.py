"""Tells broken faces from whole ones: smeared or missing eyes and mouths, half glasses, melted outlines.

A regression on a feature map of EfficientNet-Lite0, taught by marks that were given by eye.
``bench/train_broken.py`` trains it; ``docs/broken-faces.md`` says how often it is right.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import UserError
from .files import shipped
from .models.efficientnet_lite import EfficientNetLite0
from .progress import Progress, opened
from .settings import Settings

if TYPE_CHECKING:
    from .model import Model

WEIGHTS = "broken-faces.safetensors"
WEIGHTS_SHA256 = "388748f5e73ceb7aad1687389c5bb82976288758e75a3f5b8c0c0b876f5ca8a4"
SIDE = 128  # px, what EfficientNet-Lite0 sees
BLOCKS = 5  # of EfficientNet-Lite0: up to stride 8, which sees single eyes
BATCH = 32
PLAIN = Settings()
TRIED = 16  # times the faces asked for, before it is given up


def described(x: Tensor) -> Tensor:
    """Faces float (B, 3, H, W) in [-1, 1] to features (B, 10240): the map at stride 8 of 128 px."""
    if x.shape[2:] != (SIDE, SIDE):
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    network = _lite0()
    x = network.stem(x.contiguous(memory_format=torch.channels_last))
    for block in network.blocks[:BLOCKS]:
        x = block(x)
    return x.flatten(1)


@lru_cache(maxsize=1)
def _lite0() -> EfficientNetLite0:
    return EfficientNetLite0.pretrained().eval()


class BrokenFaces:
    """The network with its weights.

    Attributes:
        weight, bias: of the regression, (10240,) and a number.
        threshold: faces with a higher score are called broken.
    """

    def __init__(self, weight: Tensor, bias: float, threshold: float) -> None:
        self.weight, self.bias, self.threshold = weight.float(), bias, threshold

    @torch.inference_mode()
    def scores(self, faces: np.ndarray) -> np.ndarray:
        """How broken faces are, float32 (N,): about 0 for whole ones, about 1 for broken ones.

        Args:
            faces: uint8 (N, H, W, 3).

        Each face is looked at alone, so that its score does not depend on the others.
        """
        if faces.ndim != 4 or faces.shape[3] != 3 or faces.dtype != np.uint8:
            raise ValueError(f"expected uint8 (N, H, W, 3), got {faces.dtype} {faces.shape}")
        found = np.empty(len(faces), np.float32)
        for number, face in enumerate(faces):
            x = torch.from_numpy(face.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            found[number] = float((described(torch.cat([x, x.flip(3)])) @ self.weight).mean()) + self.bias
        return found

    def whole(self, faces: np.ndarray) -> np.ndarray:
        """Which faces are judged to be whole, bool (N,)."""
        return self.scores(faces) <= self.threshold


def with_weights(data: bytes) -> BrokenFaces:
    """The network with the weights of a safetensors file."""
    import safetensors.torch

    tensors = safetensors.torch.load(data)
    length = int.from_bytes(data[:8], "little")
    told = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["training"])
    return BrokenFaces(tensors["weight"], float(tensors["bias"]), told["threshold"])


@lru_cache(maxsize=1)
def broken_faces() -> BrokenFaces:
    """The shipped network.

    Raises:
        UserError: the weights are missing or altered.
    """
    return with_weights(shipped(WEIGHTS, WEIGHTS_SHA256, "the network that finds broken faces"))


def whole_seeds(
    model: "Model",
    seeds: Sequence[int],
    number: int | None = None,
    settings: Settings = PLAIN,
    progress: Progress | None = None,
) -> tuple[list[int], int]:
    """The seeds whose faces are judged to be whole, and how many were left out before the last of them.

    A seed keeps its face: broken ones are passed over.

    Args:
        number: how many are wanted. Seeds after the last one are tried for it, 16 times as many at most;
            None: those of ``seeds`` alone.

    Raises:
        UserError: there are not so many whole faces, or none at all.

    >>> from omokage.model import load_model
    >>> seeds, left_out = whole_seeds(load_model(), range(8))
    >>> len(seeds) + left_out
    8
    """
    judge, kept, left_out, tried = broken_faces(), list[int](), 0, 0
    most = len(seeds) if number is None else TRIED * number
    with opened(progress, "whole faces", len(seeds) if number is None else number) as task:
        for seed, whole in _judged(model, seeds, most, settings, judge):
            tried += 1
            if whole:
                kept.append(seed)
            else:
                left_out += 1
            if whole or number is None:
                task.advance(1)
            if len(kept) == number:
                break
    if not kept or len(kept) < (number or 0):
        raise UserError(f"{len(kept):,} of {tried:,} faces are judged to be whole: leave --whole out")
    return kept, left_out


def _judged(
    model: "Model", seeds: Sequence[int], most: int, settings: Settings, judge: BrokenFaces
) -> Iterator[tuple[int, bool]]:
    """Seeds in order with whether their faces are whole; after the last one, those that follow it."""
    from .sampling import gathered, sample

    every = [*seeds, *range(seeds[-1] + 1, seeds[-1] + 1 + most - len(seeds))] if len(seeds) else []
    for first in range(0, len(every), BATCH):
        some = every[first : first + BATCH]
        pixels, finite = gathered(sample(model, some, settings))
        yield from zip(some, (finite & judge.whole(pixels)).tolist(), strict=True)
