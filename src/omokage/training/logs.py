"""What a run says of itself: JSON lines, TensorBoard, grids of samples."""

import json
import os
from pathlib import Path
from typing import Any


class Logs:
    """``log.jsonl`` and TensorBoard's files of a run; numbers after the point of resuming go."""

    def __init__(self, run: Path, images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / "log.jsonl"
        _forget_after(self._path, images)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - as long as the run
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=images + 1)

    def write(self, images: int, numbers: dict[str, Any]) -> None:
        """One line at ``images`` images seen."""
        self._file.write(json.dumps({"images": images, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, images)

    def trouble(self, images: int, sentence: str, back_to: int | None) -> None:
        """What is wrong at ``images`` images seen, and where training goes back to. It stays in the log."""
        self._file.write(json.dumps({"images": images, "watchdog": sentence, "back to": back_to}) + "\n")
        self._file.flush()
        self._board.add_text("watchdog", sentence, images)

    def picture(self, images: int, name: str, pixels: Any) -> None:
        """A picture uint8 (H, W, 3)."""
        self._board.add_image(name, pixels, images, dataformats="HWC")

    def close(self) -> None:
        """Write everything to the disk."""
        self._file.close()
        self._board.close()


def _forget_after(path: Path, images: int) -> None:
    """Keep the whole lines up to ``images``: a resumed run says the rest again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
            if said["images"] <= images or "watchdog" in said:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed run
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)
