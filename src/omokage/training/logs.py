"""The logs of a run: JSON lines, TensorBoard, grids of samples, pictures for the film of the training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import replacing

FILM_QUALITY = 90
EARLY = "early"
"""Marks an early line of the log; the first regular line replaces it."""


class Logs:
    """``log.jsonl``, TensorBoard's files and grids of a run.

    On resuming after ``images`` images, later numbers are removed.
    """

    def __init__(self, run: Path, images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run, self._path = run, run / "log.jsonl"
        self._regular = _keep(self._path, images)
        self._early = False
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=images + 1)

    def write(self, images: int, numbers: dict[str, Any]) -> None:
        """Write a line after ``images`` images."""
        if self._early:
            self._forget_early(images)
        self._say({"images": images, **numbers})
        self._regular = True
        for name, value in numbers.items():
            self._board.add_scalar(name, value, images)

    def early(self, images: int, numbers: dict[str, Any]) -> None:
        """Write an early line, before the first regular line is due; it replaces an earlier early line.

        Its time depends on the clock, so the first regular line replaces it. After a regular line, this does
        nothing.
        """
        if self._regular:
            return
        if self._early:
            self._forget_early(images)
        self._say({"images": images, **numbers, EARLY: True})
        self._early = True

    def trouble(self, images: int, sentence: str, back_to: int | None) -> None:
        """Log what is wrong after ``images`` images, and where training goes back to. The line is kept."""
        self._say({"images": images, "watchdog": sentence, "back to": back_to})
        self._board.add_text("watchdog", sentence, images)

    def grid(self, images: int, pixels: np.ndarray) -> None:
        """Write a grid of samples, uint8 (H, W, 3), to TensorBoard and to a PNG file of the run."""
        path = self._run / "grids" / f"images-{images:012d}.png"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as unfinished:
            Image.fromarray(pixels).save(unfinished)
        self._board.add_image("samples", pixels, images, dataformats="HWC")

    def film(self, images: int, pixels: np.ndarray) -> None:
        """Keep a small picture of fixed seeds, uint8 (H, W, 3), for the film of the training.

        It is a WebP of good quality: about 30 kB for 16 faces of 64 px.
        """
        path = self._run / "film" / f"images-{images:012d}.webp"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as unfinished:
            Image.fromarray(pixels).save(unfinished, "WEBP", quality=FILM_QUALITY, method=4)

    def close(self) -> None:
        """Write everything to the disk."""
        self._file.close()
        self._board.close()

    def _say(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def _forget_early(self, images: int) -> None:
        self._file.close()
        _keep(self._path, images)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._early = False


def _keep(path: Path, images: int) -> bool:
    """Keep the complete lines up to ``images``; a resumed run writes the later ones again.

    Returns whether regular lines are left.
    """
    if not path.exists():
        return False
    kept, regular = [], False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
            if "watchdog" in said or (said["images"] <= images and EARLY not in said):
                kept.append(line + "\n")
                regular |= "watchdog" not in said
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed run is incomplete
    with replacing(path) as unfinished:
        unfinished.write_text("".join(kept), encoding="utf-8")
    return regular
