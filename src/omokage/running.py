"""Runs a training: resolves the recipe, and sets up grids of samples and FID measurements during it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .progress import Progress
from .recipe import Recipe, load_recipe, overriding


def train(
    recipe: str | Path | Recipe,
    data: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    images: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    heldout: str | Path | None = None,
    start: str | Path | None = None,
    autoencoder: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a recipe on a face set. Called again with the same arguments, it continues the run.

    Args:
        recipe: the name of a recipe that ships (``omokage recipes`` lists them), a TOML file, or a resolved
            recipe.
        data: the folder of the face set.
        out: the run folder: resolved recipe, log, grids of samples, snapshots.
        minutes: stop after this training time, counted over all sessions of the run; None: no limit.
        images: stop after this many images seen; None: the recipe's number.
        overrides: changes to a named recipe or file, as ``{"training.seed": 1}`` or ``["training.seed=1"]``.
        heldout: a face set that is not used for training; the log tells how the objective judges its faces.
        start: a run, a snapshot, or "shipped": a new run starts with its weights (fine-tuning). It is ignored
            if the run has a snapshot already. None: random weights.
        autoencoder: a run or snapshot of the autoencoder that the recipe's model draws with; None: the recipe
            needs none, or the run or ``start`` has it.
        progress: receives progress reports; None: silent.

    Returns:
        The newest snapshot.

    Raises:
        UserError: no such recipe or setting, no face set, or ``out`` holds another run.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.

    Example::

        train("fast", "faces/", "runs/fast", minutes=60, overrides={"training.seed": 1})
    """
    from .model import snapshot_file
    from .training import loop

    resolved = resolve(recipe, overrides)
    return loop.train(
        resolved,
        data,
        out,
        minutes=minutes,
        images=images,
        heldout=heldout,
        start=None if start is None else snapshot_file(start),
        autoencoder=None if autoencoder is None else snapshot_file(autoencoder),
        measure=_measure(resolved, progress),
        draw=draw_grid,
        draw_film=draw_film if resolved.training.film else None,
        progress=progress,
    )


def check(
    recipe: Recipe,
    data: str | Path | None = None,
    out: str | Path | None = None,
    *,
    heldout: str | Path | None = None,
    start: str | Path | None = None,
    autoencoder: str | Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Make the checks of `train` and report its messages to ``progress``, without writing anything.

    Arguments that are None are not checked.

    Raises:
        UserError: as `train`.
    """
    from .model import snapshot_file
    from .training import preflight
    from .training.maps import with_autoencoder

    if _measure(recipe, progress):
        from .metrics.features import load_extractor
        from .metrics.protocol import parse_protocol

        load_extractor(parse_protocol(recipe.training.fid_protocol).extractor, progress=progress)
    snapshot = None if start is None else snapshot_file(start)
    encoder = None if autoencoder is None else snapshot_file(autoencoder)
    recipe, _ = with_autoencoder(recipe, encoder, snapshot, None if out is None else Path(out))
    preflight.tell(preflight.check(recipe, data, out, heldout=heldout, start=snapshot), progress)


def resolve(
    recipe: str | Path | Recipe, overrides: Mapping[str, Any] | Sequence[str] | None = None
) -> Recipe:
    """The recipe with this name or in this file, with overrides applied. A resolved recipe is not changed.

    >>> resolve("fast", {"training.seed": 1}).training.seed
    1
    """
    if isinstance(recipe, Recipe):
        if overrides:
            raise UserError(f"{recipe.name} is resolved already; overrides need a recipe's name or file")
        return recipe
    if isinstance(overrides, Mapping):
        overrides = [overriding(key, value) for key, value in overrides.items()]
    return load_recipe(recipe, overrides or ())


def summary(recipe: Recipe, out: str | Path) -> str:
    """One line that says what is trained and where all settings are listed.

    >>> summary(resolve("dcgan"), "runs/x")
    'dcgan: model dcgan, objective gan, batch 128, seed 0; every setting: runs/x/recipe.toml or --verbose'
    """
    training = recipe.training
    batch = training.batch if isinstance(training.batch, int) else "by schedule"
    condition = f", condition {','.join(training.condition)}" if training.condition else ""
    return (
        f"{recipe.name}: model {recipe.model['name']}, objective {recipe.objective['name']}{condition}, "
        f"batch {batch}, seed {training.seed}; every setting: {Path(out) / 'recipe.toml'} or --verbose"
    )


def draw_grid(model: Any) -> np.ndarray:
    """The samples of `GRID_SEEDS` side by side, uint8 (8 H, 8 W, 3)."""
    from .sampling import GRID_SEEDS

    return _drawn(model, GRID_SEEDS)


def draw_film(model: Any) -> np.ndarray:
    """The samples of `FILM_SEEDS` side by side, uint8 (4 H, 4 W, 3)."""
    from .sampling import FILM_SEEDS

    return _drawn(model, FILM_SEEDS)


def _drawn(model: Any, seeds: range) -> np.ndarray:
    from .sampling import gathered, sample

    faces, _ = gathered(sample(model, seeds))
    side = math.isqrt(len(faces))
    _, height, width, _ = faces.shape
    return faces.reshape(side, side, height, width, 3).swapaxes(1, 2).reshape(side * height, side * width, 3)


def _measure(recipe: Recipe, progress: Progress | None) -> Any:
    """A function that builds the FID measurement; None: none wanted. UserError: no such protocol."""
    if recipe.training.fid_kimg <= 0:
        return None
    from .metrics.while_training import fid_measure, training_protocol

    protocol = recipe.training.fid_protocol
    training_protocol(protocol)
    return lambda model, faces: fid_measure(protocol, faces, model, progress)
