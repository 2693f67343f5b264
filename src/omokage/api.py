"""The Python API: what the commands do, for notebooks and scripts. See docs/python.md."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .data.faceset import FaceSet
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
    """Faces as a NumPy array uint8 (N, H, W, 3) that shows itself as a grid in a notebook.

    Attributes:
        text: what a PNG of them says of how they were made.
        finite: bool (N,), which faces are finite; the others are black where they are not.

    A part of it, such as ``faces[:4]``, is an array of pictures too; ``text`` and ``finite`` then still
    describe all that were drawn.
    """

    text: dict[str, str]
    finite: np.ndarray

    def __array_finalize__(self, other: Any) -> None:
        self.text = getattr(other, "text", {})
        self.finite = getattr(other, "finite", np.ones(0, bool))

    def grid(self, columns: int | None = None) -> Image.Image:
        """All faces on one picture, row by row; ``columns`` None: near a square."""
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
        """Write the grid as a PNG that says how to make it again; returns its path.

        UserError: a name that does not end in .png, or cannot be written.
        """
        return save_png(self.grid(columns), checked_file(path, ".png"), self.text)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; None, and so plain numbers, for what is no array of faces."""
        try:
            picture = self.grid()
        except UserError:
            return None
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()


class FaceModel(Model):
    """A trained model that draws faces; `load` gives one.

    Beside `sample` it has everything that `omokage.model.Model` has: ``decode``, ``encode``, ``mapping``,
    ``synthesis``, ``log_prob``, ``inverse``, each refused with a clear message where its family lacks it.
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
            psi: truncation, or the temperature of a flow: 1 all variety, lower more typical faces. A list has
                one for each seed.
            conditions: values that all faces have, as ``{"hair": "red"}``, of a model trained with them.
            settings: others that its family has (``model.settings`` lists them), such as ``guidance=2.0``.

        Raises:
            UserError: no seeds, or a setting that this model does not have.

        A face that is not finite is black and warned of.

        >>> import omokage as om
        >>> om.load().sample(seeds=[3, 17], psi=0.7).shape
        (2, 64, 64, 3)
        """
        seeds = checked_seeds(list(seeds))
        if not isinstance(psi, int | float):
            psi = tuple(float(each) for each in psi)
            if len(psi) != len(seeds):
                raise UserError(f"psi: {len(psi)} numbers for {len(seeds)} seeds; give one, or one a seed")
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
    """A trained model: of a run folder, of a snapshot file, or (None) the one that ships.

    Args:
        source: a run folder, whose newest snapshot is taken, or a file that ends in .safetensors.
        device: such as "cpu" or "cuda"; None: the fastest there is.

    Raises:
        UserError: nothing there, a damaged file, or weights that do not fit their recipe.
    """
    model = load_model(source, device)
    return FaceModel(**{field.name: getattr(model, field.name) for field in fields(model)})


def build(sources: Sequence[str | Path] | str | Path, out: str | Path, **options: Any) -> "BuildReport":
    """Build the face set ``out`` from folders, archives or pictures; options as `omokage.data.build.build`.

    >>> om.build(["pictures/"], out="faces/", as_faces=True)  # doctest: +SKIP

    In a script, call it below ``if __name__ == "__main__":``, since it starts processes.

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
    """Measure samples of a model against a face set; options as `omokage.metrics.report.evaluate`.

    ``model``: a model, a run or snapshot, or None for the one that ships. ``data``: a face set or its folder.
    Returns the numbers and all that made them. With ``out="evaluations.jsonl"`` they are appended there too.
    What makes them doubtful, such as few faces, is warned of.

    Raises:
        UserError: as `omokage.metrics.report.evaluate`, or ``data`` is no face set.
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
    """The Fréchet distance between two sets of pictures: folders, archives or face sets; no run is needed.

    Args:
        a: the pictures that are measured, such as samples.
        b: those they are compared with.
        protocol: a feature network for all pictures of ``a``; or, as in ``fid2k-full-inception2015``, for the
            first 2,000 of them.
        size: pixels a side that both are brought to; None: the commonest size of ``a``.
        progress: told how far it is; None: nobody.

    What makes the figure doubtful, such as few pictures, is warned of. `omokage.metrics.folders.fid_folders`
    gives the counts too.

    >>> om.fid("generated/", "real/")  # doctest: +SKIP

    Raises:
        UserError: nothing to read, or too few pictures.
    """
    from .metrics.folders import fid_folders

    return fid_folders(a, b, protocol, size=size, progress=progress, tell=_warn).fid


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=4)
