"""Previews through ONNX Runtime, where it is installed, the model can be exported, and it is quicker."""

import logging
import time
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ..explore.points import Points, default_space, images, of_seeds
from ..model import PLAIN, Model
from ..sampling import to_pixels
from ..settings import Settings

CHECKED = range(4)  # seeds that are drawn both ways
WITHIN = 1  # levels of 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    """Draws single faces of one model by ONNX Runtime.

    Attributes:
        sessions: of `omokage.interop.onnx`.
    """

    sessions: Any

    def draws(self, point: Points, settings: Settings) -> bool:
        """Whether it can draw this point, one row, with these settings."""
        return self.sessions.why_not(self._own(point, settings)) is None

    def __call__(self, point: Points, settings: Settings) -> Tensor:
        """The image of a point, float (1, 3, H, W) in [-1, 1]; may have NaN."""
        if point.w is not None:
            return self.sessions.synthesis(point.w, settings.noise)
        assert point.z is not None
        return self.sessions.decode(point.z, self._own(point, settings))

    def _own(self, point: Points, settings: Settings) -> Settings:
        return replace(settings, psi=1.0 if point.w is not None else point.psi[0])


def preview(model: Model) -> Preview | None:
    """Previews of a model; None: nothing is quicker than the exact way, or they would not be alike.

    The first call for a model may take some seconds: its graph is made and kept in the cache folder.
    """
    if model.device.type != "cpu":
        return None
    try:
        found = Preview(import_module("omokage.interop.onnx").sessions(model))
        return found if _is_alike_and_quicker(model, found) else None
    except Exception as error:  # exporters raise many kinds of errors, and the exact way is always there
        _log.info("no quick previews: %s", error)
        return None


def _is_alike_and_quicker(model: Model, found: Preview) -> bool:
    stack = of_seeds(model, CHECKED, PLAIN, default_space(model))
    rows = [stack[[row]] for row in range(len(stack))]
    rows = [Points(w=row.w) if row.w is not None else row for row in rows]
    if not all(found.draws(row, PLAIN) for row in rows):
        return False
    seconds: list[tuple[float, float]] = []
    for row in rows:
        began = time.perf_counter()
        quickly = found(row, PLAIN)
        between = time.perf_counter()
        exactly = torch.cat(list(images(model, row, PLAIN)))
        seconds.append((between - began, time.perf_counter() - between))
        difference = to_pixels(quickly).astype(int) - to_pixels(exactly)
        if abs(difference).max() > WITHIN:
            return False
    quick, exact = (sorted(each)[len(rows) // 2] for each in zip(*seconds, strict=True))
    return quick < exact
