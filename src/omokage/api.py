"""The Python API: the main commands as functions, for notebooks and scripts. See docs/python.md."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .data.store.faceset import FaceSet
from .errors import UserError
from .model import Model, load_model
from .pages.files import checked_file, provenance, save_png
from .pages.sheet import WHITE, chosen_columns, tile
from .progress import Progress, TerminalProgress
from .running import train
from .samples import checked_seeds
from .sampling import gathered, sample
from .settings import Settings

if TYPE_CHECKING:
    import torch

    from .data.build import BuildReport

__all__ = ["FaceModel", "Pictures", "build", "evaluate", "fid", "load", "train"]


class Pictures(np.ndarray):
    """Faces as a NumPy array uint8 (N, H, W, 3). A notebook shows it as a grid.

    Attributes:
        text: text chunks for a PNG, which say how the faces were made.
        finite: bool (N,), which faces are finite; values that are not finite are black.

    A slice such as ``faces[:4]`` shows as a grid too. Its ``text`` and ``finite`` still describe all faces
    that were drawn.
    """

    text: dict[str, str]
    finite: np.ndarray

    def __array_finalize__(self, other: Any) -> None:
        self.text = getattr(other, "text", {})
        self.finite = getattr(other, "finite", np.ones(0, bool))

    def grid(self, columns: int | None = None) -> Image.Image:
        """All faces in one picture, row by row; ``columns`` None: near a square."""
        faces = np.asarray(self)
        if faces.ndim == 3:
            faces = faces[None]
        if faces.ndim != 4 or faces.shape[3] != 3 or faces.dtype != np.uint8 or len(faces) == 0:
            raise UserError(f"a grid needs faces uint8 (N, H, W, 3), got {faces.dtype} {faces.shape}")
        gutter = max(1, faces.shape[2] // 32)
        return Image.fromarray(
            tile(faces, chosen_columns(len(faces), columns), gutter=gutter, background=WHITE)
        )

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """Write the grid as a PNG whose text chunks say how to make it again; returns its path.

        Raises:
            UserError: the name does not end in .png, or cannot be written.
        """
        return save_png(self.grid(columns), checked_file(path, ".png"), self.text)

    def _repr_png_(self) -> bytes | None:
        """The PNG that a notebook shows; None if the array does not hold faces: then it shows numbers."""
        try:
            picture = self.grid()
        except UserError:
            return None
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()


class FaceModel(Model):
    """A trained model that draws faces; `load` returns one.

    It adds `sample` to the methods of `omokage.model.Model`: ``decode``, ``encode``, ``mapping``,
    ``synthesis``, ``log_prob`` and ``inverse``. A method that the family does not support raises UserError.
    """

    def sample(
        self,
        seeds: Sequence[int] = range(16),
        psi: float | Sequence[float] = 1.0,
        *,
        conditions: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Pictures:
        """The faces of ``seeds``, uint8 (N, H, W, 3). A seed gives the same face alone and among others.

        Args:
            seeds: whole numbers from 0 up.
            psi: truncation, or the temperature of a flow. 1: full variety; lower: more typical faces. One
                number, or a list with one for each seed.
            conditions: values for all faces, such as ``{"hair": "red"}``, if the model was trained with
                conditions.
            settings: further settings of its family, such as ``guidance=2.0``; ``model.settings`` lists them.

        Raises:
            UserError: no seeds, or a setting that this model does not have.

        Values that are not finite are black, and a warning names the seeds.

        >>> import omokage as om
        >>> om.load().sample(seeds=[3, 17], psi=0.7).shape
        (2, 64, 64, 3)
        """
        seeds = checked_seeds(list(seeds))
        if not isinstance(psi, int | float):
            psi = tuple(float(each) for each in psi)
            if len(psi) != len(seeds):
                raise UserError(
                    f"psi: {len(psi)} numbers for {len(seeds)} seeds; give one, or one for each seed"
                )
        known = [field.name for field in fields(Settings)]
        for name in settings:
            if name not in known:
                raise UserError(f"no setting {name!r}; there are {', '.join(known)}")
        chosen = self.check(Settings(psi=psi, conditions=dict(conditions or {}), **settings))
        faces, finite = gathered(sample(self, seeds, chosen, progress))
        if not finite.all():
            lost = [seed for seed, whole in zip(seeds, finite, strict=True) if not whole]
            warnings.warn(f"not finite, shown black: seeds {lost}", stacklevel=2)
        pictures = faces.view(Pictures)
        pictures.text = provenance(self.about, seeds, chosen, finite)
        pictures.finite = finite
        return pictures

    def __repr__(self) -> str:
        height, width = self.resolution
        return f"<{self.recipe.name}, {height}×{width} px, {self.images_seen:,} images seen>"


def load(source: str | Path | None = None, device: "str | torch.device | None" = None) -> FaceModel:
    """Load a trained model from a run folder or a snapshot file, or (None) the model that ships.

    Args:
        source: a run folder, whose newest snapshot is taken; a file that ends in .safetensors; a folder of
            `omokage publish`, or one on a hub: "hf://owner/name@revision".
        device: such as "cpu" or "cuda"; None: the fastest one available.

    Raises:
        UserError: there is no such file, it is damaged, or its weights do not fit its recipe.
    """
    model = load_model(source, device)
    return FaceModel(**{field.name: getattr(model, field.name) for field in fields(model)})


def build(sources: Sequence[str | Path] | str | Path, out: str | Path, **options: Any) -> "BuildReport":
    """Build the face set ``out`` from folders, archives or pictures.

    The options are those of `omokage.data.build.build`.

    >>> om.build(["pictures/"], out="faces/", as_faces=True)  # doctest: +SKIP

    In a script, call it below ``if __name__ == "__main__":``, because it starts processes.

    Raises:
        UserError: as `omokage.data.build.build`.
    """
    from .data.build import build as run

    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    options.setdefault("progress", TerminalProgress())
    return run(listed, out, **options)


def evaluate(
    model: Model | str | Path | None,
    data: FaceSet | str | Path,
    protocol: str = "fid10k-full-inception2015",
    **options: Any,
) -> dict[str, Any]:
    """Measure samples of a model against a face set.

    The options are those of `omokage.metrics.report.evaluate`. ``model``: a model, a run or snapshot, or None
    for the one that ships. ``data``: a face set or its folder. Returns the numbers and how they were
    measured. ``out="evaluations.jsonl"`` also appends them to that file. A warning says what makes them
    doubtful, such as few faces.

    Raises:
        UserError: as `omokage.metrics.report.evaluate`, or ``data`` is not a face set.
    """
    from .metrics.heldout import evaluate_heldout
    from .metrics.report import evaluate as run

    measured = model if isinstance(model, Model) else load_model(model)
    faces = data if isinstance(data, FaceSet) else FaceSet.open(data)
    shown, out = options.pop("progress", TerminalProgress()), options.pop("out", None)
    if protocol.startswith("bpd-"):
        return evaluate_heldout(measured, faces, protocol, out, shown, tell=_warn, **options)
    return run(measured, faces, protocol, out, shown, tell=_warn, **options)


def fid(
    a: str | Path,
    b: str | Path,
    protocol: str = "inception2015",
    *,
    size: int | None = None,
    progress: Progress | None = None,
) -> float:
    """The Fréchet distance between two sets of pictures: folders, archives or face sets. It needs no run.

    Args:
        a: the pictures to measure, such as samples.
        b: the pictures to compare them with.
        protocol: a feature network, which is applied to all pictures of ``a``; or a protocol such as
            ``fid2k-full-inception2015``, which uses the first 2,000 of them.
        size: both sets are resized to squares of this many pixels a side; None: the most common size of
            ``a``.
        progress: receives progress reports; None: silent.

    A warning says what makes the figure doubtful, such as few pictures. `omokage.metrics.folders.fid_folders`
    also returns the counts.

    >>> om.fid("generated/", "real/")  # doctest: +SKIP

    Raises:
        UserError: no picture could be read, or there are too few pictures.
    """
    from .metrics.folders import fid_folders

    return fid_folders(a, b, protocol, size=size, progress=progress, tell=_warn).fid


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=4)
