"""Enlarges finished faces by 2, 4 or 8: with waifu2x, or with Lanczos where it is not installed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from omokage.data.upscale import Waifu2x, to_size, upscaler
from omokage.errors import UserError

FACTORS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Upscale:
    """How faces are enlarged. Called with faces uint8 (N, H, W, 3), it gives (N, factor H, factor W, 3).

    Attributes:
        factor: 1 (faces stay as they are), 2, 4 or 8.
        method: "auto": waifu2x if it is installed, else Lanczos; "waifu2x" or "lanczos": that one.

    Raises:
        UserError: another factor, or waifu2x is asked for and not installed.

    >>> Upscale(2, "lanczos")(np.zeros((1, 4, 4, 3), np.uint8)).shape
    (1, 8, 8, 3)
    """

    factor: int = 1
    method: str = "auto"

    def __post_init__(self) -> None:
        if self.factor not in FACTORS:
            raise UserError(f"--upscale {self.factor}: allowed is 2, 4 or 8")

    @cached_property
    def _engine(self) -> Waifu2x | None:
        return upscaler(self.method) if self.factor > 1 else None

    @property
    def name(self) -> str:
        """The method in words; "": faces stay as they are."""
        if self.factor == 1:
            return ""
        return "lanczos" if self._engine is None else self._engine.name

    @property
    def text(self) -> dict[str, Any]:
        """The entry of a recipe; empty: faces stay as they are."""
        return {} if self.factor == 1 else {"factor": self.factor, "name": self.name}

    @property
    def told(self) -> list[str]:
        """What to say to the user: that Lanczos is used because waifu2x is not installed."""
        if self.factor == 1 or self.method != "auto" or self._engine is not None:
            return []
        return ["--upscale uses Lanczos; with pip install 'omokage[waifu2x]' it uses waifu2x: sharper lines"]

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        if self.factor == 1 or not len(faces):
            return faces
        size = (faces.shape[1] * self.factor, faces.shape[2] * self.factor)
        return np.stack([to_size(np.ascontiguousarray(face), size, self._engine)[0] for face in faces])


AS_THEY_ARE = Upscale()
