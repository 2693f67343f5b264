"""Checks before a training begins: errors that would stop it, and facts that the user should know.

Nothing is written here. `check` runs before every training, and ``--dry-run`` runs only `check`.
"""

import dataclasses
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.derive.choose import chosen
from ..data.derive.provenance import FACES
from ..data.store.faceset import FaceSet
from ..data.store.format import INDEX, MANIFEST
from ..data.text import one_line
from ..errors import UserError
from ..families import build_model
from ..hardware import best_device
from ..listing import snapshots
from ..progress import Progress
from ..recipe import Recipe
from ..snapshot import read_snapshot
from .batches import shared
from .conditions import ConditionLabels, balancing, identity
from .display import announce
from .fitting import Fit, fitted, px
from .maps import FILE
from .start import check_start
from .state import refuse_other

FEW = 1000
"""With fewer faces than this, a network memorises them."""

HEAVY = 20.0
"""A recipe that costs more than this (`Fit.cost`, billions of operations an image) is made for a GPU."""

OURS = frozenset(("recipe.toml", FACES, "log.jsonl", "evaluations.jsonl", "grids", "film", FILE, ".lock"))
LITTER = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    Attributes:
        told: what the user should know, one sentence each.
        heavy: whether the recipe is made for a GPU and there is none.
    """

    faces: FaceSet | None
    fit: Fit
    told: tuple[str, ...]
    heavy: bool


def check(
    recipe: Recipe,
    data: str | Path | None,
    out: str | Path | None,
    *,
    heldout: str | Path | None = None,
    start: Path | None = None,
    processes: int = 1,
) -> Checked:
    """Check that this training can begin. Arguments that are None are not checked.

    Raises:
        UserError: the networks do not fit together, there is no face set or no such condition, ``out`` cannot
            be a run folder or has a run of another recipe or face set, the held-out faces are not held out,
            or the snapshot to begin with (``start``) does not fit.
    """
    told: list[str] = []
    faces = used = labels = balanced = None
    if data is not None:
        faces = FaceSet.open(data)
        if not len(faces):
            raise UserError(f"--data {one_line(data)}: it has no faces; build it from more pictures")
        whole, faces = len(faces), chosen(faces, recipe.training.where)
        if recipe.training.where:
            told.append(f"{len(faces):,} of {whole:,} faces meet {', '.join(recipe.training.where)}")
        used = shared(len(faces), recipe.training.share, recipe.training.seed)
        if recipe.training.condition:
            labels = ConditionLabels(faces, recipe.training.condition, used)
            if recipe.conditions in ({}, labels.values):
                recipe = dataclasses.replace(recipe, conditions=labels.values)
        balanced = balancing(recipe, faces, used)
    fit = fitted(recipe, processes, trained=out is not None and bool(snapshots(out)))
    if faces is not None and used is not None:
        told += _of_faces(recipe, faces, used, fit.resolution)
    if out is not None:
        told += _of_out(Path(out), None if data is None else Path(data))
        if faces is not None:
            _check_run(Path(out), recipe, identity(faces, labels, balanced))
    if heldout is not None:
        _check_held_out(recipe, fit, heldout, faces)
    if start is not None:
        with torch.device("meta"):
            network = build_model(recipe.model, recipe.conditions)
        check_start(network, recipe, start)
    heavy = fit.cost > HEAVY and best_device().type == "cpu"
    if heavy:
        told.append(
            f"{recipe.name} is made for a GPU, and there is none here: an image takes about "
            f"{fit.cost / 5:.0f} times as much computation as with `fast`"
        )
    return Checked(faces, fit, tuple(told), heavy)


def tell(checked: Checked, progress: Progress | None) -> None:
    """Print what was found, one line each."""
    for sentence in checked.told:
        announce(progress, sentence, "before training")


def _of_faces(recipe: Recipe, faces: FaceSet, used: np.ndarray, size: tuple[int, int]) -> list[str]:
    """What the user should know about the training faces."""
    told = []
    if len(used) < FEW:
        told.append(
            f"{len(used):,} faces are few: a network memorises them and draws copies; use {FEW:,} or more, "
            "better 10,000"
        )
    heights, widths = (faces.index[name].to_numpy()[used] for name in ("height", "width"))
    larger = (heights > size[0]) & (widths > size[1])
    smaller = (heights < size[0]) | (widths < size[1])
    if larger.any():
        what = f"{_many(larger)} of {_sizes(heights[larger], widths[larger])} are trained at {px(size)}"
        told.append(what + _for_large(recipe, heights[larger], widths[larger]))
    if smaller.any():
        much = (2 * heights[smaller] <= size[0]) | (2 * widths[smaller] <= size[1])
        what = ": they look blurred, and samples will too" if much.any() else ""
        told.append(
            f"{_many(smaller)} of {_sizes(heights[smaller], widths[smaller])} are smaller than the model's "
            f"{px(size)} and are enlarged{what}"
        )
    return told


def _for_large(recipe: Recipe, heights: np.ndarray, widths: np.ndarray) -> str:
    """Half a sentence on the recipe of this kind that most of these faces are large enough for, or ""."""
    if recipe.name not in ("fast", "fast-style") or np.median(np.minimum(heights, widths)) < 128:
        return ""
    return "; `fast-128` draws 128 px, and with --from shipped it begins with what the shipped model knows"


def _many(which: np.ndarray) -> str:
    return "faces" if which.all() else f"{int(which.sum()):,} of {len(which):,} faces,"


def _sizes(heights: np.ndarray, widths: np.ndarray) -> str:
    """The sizes of faces in words: one size, or the smallest and the largest.

    >>> _sizes(np.array([128, 128]), np.array([128, 128])), _sizes(np.array([96, 40]), np.array([80, 40]))
    ('128 px', '40 px to 96x80 px')
    """
    order = np.argsort(heights.astype(np.int64) * widths, kind="stable")
    first, last = (px((int(heights[i]), int(widths[i]))) for i in (order[0], order[-1]))
    return first if first == last else f"{first} to {last}"


def _of_out(out: Path, data: Path | None) -> list[str]:
    """What the user should know about the run folder; `UserError` if it cannot be a run folder."""
    shown = one_line(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {shown} is a file; give a folder for the run")
    if (out / MANIFEST).exists() or (out / INDEX).exists():
        raise UserError(f"--out {shown} is a face set; give another folder for the run, like runs/NAME")
    if data is not None and out.resolve().is_relative_to(data.resolve()) and data.is_dir():
        raise UserError(f"--out {shown} is in the face set {one_line(data)}; give a folder outside it")
    for above in out.absolute().parents:
        if above.exists():
            if not above.is_dir():
                raise UserError(f"--out {shown}: {one_line(above)} is a file; give another folder")
            break
    if not out.is_dir() or (out / "recipe.toml").exists() or snapshots(out):
        return []
    names = sorted(path.name for path in out.iterdir() if path.name not in OURS | LITTER)
    if not names:
        return []
    listed = ", ".join(one_line(name, 40) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    files = "another file" if len(names) == 1 else f"{len(names):,} other files"
    return [f"--out {shown} holds {files} ({listed}); the run is written beside them"]


def _check_run(out: Path, recipe: Recipe, face_set: str) -> None:
    """Raise `UserError` if ``out`` has a run of another recipe or face set, or is being trained now."""
    if (out / ".lock").exists():
        with open(out / ".lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{out} is being trained by another process; wait for it or give another --out"
                ) from None
    for path in reversed(snapshots(out)):
        try:
            _, written, progress = read_snapshot(path, "none of them")
        except UserError:
            continue
        refuse_other(out, recipe, face_set, written, progress)
        return


def _check_held_out(recipe: Recipe, fit: Fit, heldout: str | Path, faces: FaceSet | None) -> None:
    if not fit.judges:
        raise UserError(
            f"--heldout: the objective {recipe.objective['name']} has no numbers for held-out faces"
        )
    others = FaceSet.open(heldout)
    if faces is not None and others.content_hash == faces.content_hash:
        raise UserError(f"--heldout {heldout} has the training faces; give a set of other faces")
    if recipe.training.condition:
        ConditionLabels(others, recipe.training.condition, values=recipe.conditions)


@contextmanager
def leaving_nothing(run: Path, first: bool = True) -> Iterator[None]:
    """If the training is refused, remove what it has written, so that no empty run folder stays.

    Earlier files stay, and so does a run that has a snapshot or a line in its log.
    """
    there = [path for path in (run, *run.absolute().parents) if path.exists()][:1]
    before = {path.name for path in run.iterdir()} if run.is_dir() else None
    try:
        yield
    except UserError:
        if first and not snapshots(run) and not _logged(run):
            _take_back(run, before, there[0] if there else None)
        raise


def _logged(run: Path) -> bool:
    log = run / "log.jsonl"
    return log.exists() and log.stat().st_size > 0


def _take_back(run: Path, before: set[str] | None, there: Path | None) -> None:
    if not run.is_dir():
        return
    for path in run.iterdir():
        if path.name not in (before or ()) and (path.name in OURS or path.name.startswith("events.out.")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if before is None:
        for folder in (run.absolute(), *run.absolute().parents):
            if folder == there or any(folder.iterdir()):
                break
            folder.rmdir()


class Forecast:
    """Tells once, after the first steps, how long a recipe made for a GPU will take on this machine.

    Args:
        recipe: the recipe; `wanted_images` is the number of images to train.
        checked: only a recipe that is too heavy for this machine gets a forecast.
        progress: where the sentence is printed.
        seconds: how many seconds of training to measure.
    """

    def __init__(self, recipe: Recipe, checked: Checked, progress: Progress | None, seconds: float = 10.0):
        self.name, self.wanted, self.seconds = recipe.name, wanted_images(recipe), seconds
        self.progress, self.silent = progress, not checked.heavy
        self._steps, self._first = 0, (0, 0.0)

    def step(self, images: int, seconds: float) -> None:
        """Called after a step with the images seen and seconds of training. The first step is a warm-up."""
        self._steps += 1
        if self._steps == 1:
            self._first = images, seconds
            return
        passed, seen = seconds - self._first[1], images - self._first[0]
        if self.silent or passed < self.seconds or self._steps < 3:
            return
        self.silent = True
        speed = seen / passed
        left = max(0, self.wanted - images) / speed
        announce(
            self.progress,
            f"at {speed:.2g} images a second, {self.name} needs {lasting(left)} on this machine for its "
            f"{self.wanted:,} images; `fast` draws faces in an hour",
            "before training",
        )


def wanted_images(recipe: Recipe) -> int:
    """The images that a recipe needs: until its learning rates stop changing, or its own limit.

    >>> from omokage.recipe import load_recipe
    >>> wanted_images(load_recipe("fast")), wanted_images(load_recipe("stylegan2-64"))
    (650000, 25000000)
    """
    ends = [0.0]
    for schedule in recipe.training.learning_rate.values():
        if isinstance(schedule, dict):
            ends.append(float(schedule.get("cosine", 0)))
        elif isinstance(schedule, list):
            ends.append(float(schedule[-1][0]))
    return min(recipe.training.images, round(1000 * max(ends)) or recipe.training.images)


def lasting(seconds: float) -> str:
    """A duration in words.

    >>> lasting(90), lasting(5000), lasting(8 * 3600), lasting(40 * 86400), lasting(900 * 86400)
    ('2 minutes', '83 minutes', '8 hours', '40 days', '2.5 years')
    """
    for unit, length, least in (("years", 365 * 86400, 2), ("days", 86400, 2), ("hours", 3600, 2)):
        if seconds >= least * length:
            number = seconds / length
            return f"{number:.1f} {unit}" if unit == "years" else f"{number:.0f} {unit}"
    return f"{max(1, round(seconds / 60))} minutes"
