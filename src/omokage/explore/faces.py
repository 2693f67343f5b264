"""A group of faces: exploration returns it, pages show it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Faces:
    """A group of faces of one size.

    Attributes:
        pixels: uint8 (N, H, W, 3); values that are not finite are shown black.
        captions: one for each face; empty: none.
        heading: one line for the group.
        finite: bool (N,), which faces are finite; None: all of them.
    """

    pixels: np.ndarray
    captions: Sequence[str] = field(default=())
    heading: str = ""
    finite: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def not_finite(self) -> int:
        """How many faces are not finite.

        >>> Faces(np.zeros((2, 4, 4, 3), np.uint8), finite=np.array([True, False])).not_finite
        1
        """
        return 0 if self.finite is None else int((~self.finite).sum())
