"""The faces of the same seeds during a run, from its snapshots or from pictures that training kept."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.listing import snapshots
from omokage.model import Model, load_model
from omokage.sampling import FILM_SEEDS, GRID_SEEDS, gathered, sample
from omokage.settings import Settings

STAGE = re.compile(r"(?:snapshot|images)-(\d{12})\.(?:safetensors|png|webp)")


@dataclass(frozen=True)
class Stage:
    """The faces of some seeds at one moment of a run.

    Attributes:
        images: how many images training had seen.
        faces: function that draws the faces.
    """

    images: int
    faces: Callable[[], Faces]


SOURCES = ("auto", "snapshots", "grids", "film")


def stages(
    run: Path, model: Model, seeds: Sequence[int], settings: Settings, source: str = "auto"
) -> list[Stage]:
    """The moments of a run at which the faces of ``seeds`` can be shown, oldest first.

    Args:
        source: "snapshots": the snapshots that the run kept (setting ``training.keep``). "grids": the
            pictures that training wrote, which show the seeds 0 to 63 at psi 1. "film": the small pictures
            that it kept for `omokage montage`, seeds 0 to 15 at psi 1. "auto": the one with most moments;
            pictures count only if they show these seeds and settings.

    Raises:
        UserError: fewer than two moments, or pictures do not show these seeds or settings.
    """

    def sampled(path: Path) -> Faces:
        faces, finite = gathered(sample(load_model(path), seeds, settings))
        return Faces(faces, finite=finite)

    def cut(path: Path, known: range) -> Faces:
        height, width = model.resolution
        columns = round(len(known) ** 0.5)
        with Image.open(path) as picture:
            if picture.size != (columns * width, columns * height):
                raise UserError(f"{path} does not have the size of this run's pictures; use --from snapshots")
            pixels = np.asarray(picture.convert("RGB"))
        faces = (
            pixels.reshape(columns, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
        )
        return Faces(faces[[known.index(seed) for seed in seeds]])

    kept = {"grids": GRID_SEEDS, "film": FILM_SEEDS}
    shown = [
        name for name, known in kept.items() if settings == Settings() and all(one in known for one in seeds)
    ]
    if source in kept and source not in shown:
        raise UserError(
            f"{source}: these pictures of a run show the seeds 0 to {kept[source][-1]} at psi 1 only; "
            "use --from snapshots"
        )
    found: dict[str, list[tuple[Path, Callable[[Path], Faces]]]] = {
        "snapshots": [(path, sampled) for path in snapshots(run)]
    }
    for name, pattern in (("grids", "grids/images-*.png"), ("film", "film/images-*.webp")):
        if name in shown:
            found[name] = [(path, partial(cut, known=kept[name])) for path in sorted(run.glob(pattern))]
    if source == "auto":
        source = max(found, key=lambda kind: len(found[kind]))
    moments = []
    for path, faces in found[source]:
        named = STAGE.fullmatch(path.name)
        if named:
            moments.append(Stage(int(named[1]), lambda path=path, faces=faces: faces(path)))  # type: ignore[misc]
    if len(moments) < 2:
        raise UserError(
            f"{run} has {len(moments)} of {source}, and a film or progression needs two; train longer, or "
            "with training.keep=0 (all snapshots)"
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
