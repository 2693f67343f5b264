"""The faces of the same seeds during a run, from its snapshots or from the grids that training wrote."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.listing import snapshots
from omokage.model import Model, load_model
from omokage.sampling import GRID_SEEDS, gathered, sample
from omokage.settings import Settings

STAGE = re.compile(r"(?:snapshot|images)-(\d{12})\.(?:safetensors|png)")


@dataclass(frozen=True)
class Stage:
    """The faces of some seeds at one moment of a run.

    Attributes:
        images: how many images training had seen.
        faces: function that draws the faces.
    """

    images: int
    faces: Callable[[], Faces]


def stages(
    run: Path, model: Model, seeds: Sequence[int], settings: Settings, source: str = "auto"
) -> list[Stage]:
    """The moments of a run at which the faces of ``seeds`` can be shown, oldest first.

    Args:
        source: "snapshots": the snapshots that the run kept (setting ``training.keep``). "grids": the
            pictures that training wrote, which show the seeds 0 to 63 at psi 1. "auto": the one with more
            moments; grids count only if they show these seeds and settings.

    Raises:
        UserError: fewer than two moments, or grids do not show these seeds or settings.
    """

    def sampled(path: Path) -> Faces:
        faces, finite = gathered(sample(load_model(path), seeds, settings))
        return Faces(faces, finite=finite)

    def cut(path: Path) -> Faces:
        height, width = model.resolution
        columns = round(len(GRID_SEEDS) ** 0.5)
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        if pixels.shape != (columns * height, columns * width, 3):
            raise UserError(f"{path} is not a grid of this run's faces; use --from snapshots")
        faces = (
            pixels.reshape(columns, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
        )
        return Faces(faces[[GRID_SEEDS.index(seed) for seed in seeds]])

    shown_by_grids = settings == Settings() and all(seed in GRID_SEEDS for seed in seeds)
    if source == "grids" and not shown_by_grids:
        raise UserError(
            f"figure progression: grids show the seeds 0 to {GRID_SEEDS[-1]} at psi 1 only; "
            "use --from snapshots"
        )
    found = {
        "snapshots": [(path, sampled) for path in snapshots(run)],
        "grids": [(path, cut) for path in sorted((run / "grids").glob("images-*.png"))],
    }
    if source == "auto":
        source = max(found, key=lambda kind: len(found[kind]) * (kind == "snapshots" or shown_by_grids))
    moments = []
    for path, faces in found[source]:
        named = STAGE.fullmatch(path.name)
        if named:
            moments.append(Stage(int(named[1]), lambda path=path, faces=faces: faces(path)))  # type: ignore[misc]
    if len(moments) < 2:
        raise UserError(
            f"figure progression: {run} has {len(moments)} of {source}, and a progression needs two; "
            "train with training.keep=0 (all snapshots) or a smaller training.grid_kimg"
        )
    return moments


def spread(moments: list[Stage], rows: int) -> list[Stage]:
    """At most ``rows`` moments: the first, the last, and others at about equal ratios of images seen."""
    if len(moments) <= rows:
        return moments
    places = np.log([max(1, moment.images) for moment in moments])
    chosen = [0]
    for i in range(1, rows - 1):
        aim = places[0] + (places[-1] - places[0]) * i / (rows - 1)
        low, high = chosen[-1] + 1, len(moments) - (rows - i)
        chosen.append(low + int(np.abs(places[low : high + 1] - aim).argmin()))
    return [moments[i] for i in [*chosen, len(moments) - 1]]
