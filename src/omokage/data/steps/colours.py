"""Names of hair and eye colours, estimated by a network trained on tags of many users."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UserError
from .crop import CropBox, cut
from .face import Face

if TYPE_CHECKING:
    from torch import Tensor

COMMON = ("aqua", "black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red")
HAIR_COLOURS = tuple(sorted((*COMMON, "blonde", "white")))
EYE_COLOURS = (*COMMON, "yellow")

HEADS = "colour-heads.safetensors"
ENLARGED, DOWN = 1.5, 0.46
"""The crop the network was trained on: its side in sides of the face, and the height of the face's centre."""


def around(face: Face) -> CropBox:
    """The part of the picture that the network looks at."""
    side = max(1, round(ENLARGED * face.side))
    x, y = face.centre
    return CropBox(x, y + (0.5 - DOWN) * side, side, side)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A colour's name and the network's probability for it, 0 to 1, rounded to three digits."""

    name: str
    confidence: float


class ColourNames:
    """Regressions on the features of the tag encoder.

    weights: ``hair.weight`` (12, 416), ``hair.bias`` (12,), and the same for ``eyes`` (11). None loads the
        shipped weights; `UserError` if they are missing or damaged.
    file_hash: hex SHA-256 of the shipped weights.
    heads: weights (names, 416) and biases (names,) for hair, then for eyes.
    """

    def __init__(self, weights: "dict[str, Tensor] | None" = None) -> None:
        from ...tag_encoder import tag_encoder

        self._encoder = tag_encoder()
        self.file_hash = ""
        if weights is None:
            weights, self.file_hash = _shipped()
        self.heads = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in ("hair", "eyes")]

    def __call__(self, picture: np.ndarray, face: Face | None) -> tuple[str, str]:
        """The names alone of `estimates`: hair, eyes."""
        hair, eyes = self.estimates(picture, face)
        return hair.name, eyes.name

    def estimates(self, picture: np.ndarray, face: Face | None) -> "tuple[Estimate, Estimate]":
        """The estimates for hair and eyes, with names from `HAIR_COLOURS` and `EYE_COLOURS`.

        picture: RGB, uint8 (H, W, 3). face: its box; None: the whole picture is the face with its hair.
        """
        import torch

        from ...hardware import on_one_thread
        from ...tag_encoder import network_input

        seen = picture if face is None else cut(picture, around(face))
        with on_one_thread(), torch.inference_mode():
            features = self._encoder(network_input(seen[None]))[0]
            found = []
            for names, (weight, bias) in zip((HAIR_COLOURS, EYE_COLOURS), self.heads, strict=True):
                shares = torch.softmax((weight @ features + bias).double(), 0)
                best = int(shares.argmax())
                found.append(Estimate(names[best], float(f"{float(shares[best]):.3g}")))
        return found[0], found[1]


def check_confidence(least: float) -> None:
    """Raises `UserError` unless ``least`` is a probability."""
    if not 0 <= least <= 1:
        raise UserError(f"--min-confidence {least:g} is impossible: give 0 to 1")


@lru_cache(maxsize=1)
def _shipped() -> "tuple[dict[str, Tensor], str]":
    import safetensors.torch

    file = resources.files("omokage") / "assets" / HEADS
    try:
        data = file.read_bytes()
        weights = safetensors.torch.load(data)
        shapes = {name: value.shape[:1] for name, value in weights.items()}
    except Exception as error:  # safetensors raises many kinds of errors
        raise UserError(f"{file} cannot be read ({error}); reinstall omokage") from None
    hair, eyes = (len(HAIR_COLOURS),), (len(EYE_COLOURS),)
    if shapes != {"hair.weight": hair, "hair.bias": hair, "eyes.weight": eyes, "eyes.bias": eyes}:
        raise UserError(f"{file} is damaged; reinstall omokage")
    return weights, hashlib.sha256(data).hexdigest()
