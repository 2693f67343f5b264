"""Finishes faces: cuts them out; enlarges by 2, 4 or 8 with waifu2x, or Lanczos where it is not installed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from omokage.cutout import available, cut_out
from omokage.data.steps.upscale import Waifu2x, to_size, upscaler
from omokage.errors import UserError

FACTORS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Upscale:
    """How faces are finished. Called with faces uint8 (N, H, W, 3), it gives (N, factor H, factor W, 3 or 4).

    Attributes:
        factor: 1 (faces keep their size), 2, 4 or 8.
        method: "auto": waifu2x if it is installed, else Lanczos; "waifu2x" or "lanczos": that one.
        transparent: without background, with alpha as the fourth channel; see `omokage.cutout`.
        clean: for each face cut out so far, in order, whether that went well.

    Raises:
        UserError: another factor, waifu2x asked for and not installed, or the file that cuts out is missing.

    >>> Upscale(2, "lanczos")(np.zeros((1, 4, 4, 3), np.uint8)).shape
    (1, 8, 8, 3)
    """

    factor: int = 1
    method: str = "auto"
    transparent: bool = False
    clean: list[bool] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        if self.factor not in FACTORS:
            raise UserError(f"--upscale {self.factor}: allowed is 2, 4 or 8")
        if self.transparent and not available():
            raise UserError("--transparent: the file that cuts faces out is missing; reinstall omokage")

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
        told: dict[str, Any] = {} if self.factor == 1 else {"factor": self.factor, "name": self.name}
        return told | ({"transparent": True} if self.transparent else {})

    @property
    def steps(self) -> int:
        """How many steps `one` takes: one for each doubling, and one for cutting out."""
        return FACTORS.index(self.factor) + self.transparent

    @property
    def told(self) -> list[str]:
        """What to say to the user: that Lanczos is used because waifu2x is not installed."""
        if self.factor == 1 or self.method != "auto" or self._engine is not None:
            return []
        return ["--upscale uses Lanczos; with pip install 'omokage[waifu2x]' it uses waifu2x: sharper lines"]

    def one(self, face: np.ndarray, done: Callable[[], None] | None = None) -> np.ndarray:
        """One face, uint8 (H, W, 3), finished; ``done`` is called after each of its `steps`."""
        done = done or (lambda: None)
        alpha = None
        if self.transparent:
            cut = cut_out(face)
            self.clean.append(cut.clean)
            face, alpha = cut.rgba[..., :3], cut.rgba[..., 3]
            done()
        if self.factor > 1:
            # waifu2x doubles; Lanczos does it at once.
            times = (2,) * FACTORS.index(self.factor) if self._engine is not None else (self.factor,)
            for factor in times:
                size = (face.shape[0] * factor, face.shape[1] * factor)
                face = to_size(np.ascontiguousarray(face), size, self._engine)[0]
                if alpha is not None:  # by the same method, so that its edges are as sharp as the lines
                    grey = np.repeat(alpha[..., None], 3, 2)
                    alpha = to_size(grey, size, self._engine)[0].mean(2).round().astype(np.uint8)
                for _ in range(FACTORS.index(factor)):
                    done()
        return face if alpha is None else np.dstack([face, alpha])

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        if (self.factor == 1 and not self.transparent) or not len(faces):
            return faces
        return np.stack([self.one(face) for face in faces])


AS_THEY_ARE = Upscale()
