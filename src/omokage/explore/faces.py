"""Faces that belong together, as exploration gives them and pages show them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Faces:
    """Some faces of one size.

    Attributes:
        pixels: uint8 (N, H, W, 3); a face that is not finite is black where it is not.
        captions: one a face; empty: none.
        heading: one line for all of them.
        finite: (N,) bool, which faces are finite; None: all are.
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
