"""Protocols ``bpd-heldout-8bit``: bits per dimension on faces that the model has not seen."""

import json
import math
import os
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..abilities import HasDensity
from ..data.steps.read import RESIZE_RULE
from ..data.store.faceset import FaceSet
from ..data.store.format import MANIFEST
from ..data.text import one_line
from ..errors import UserError
from ..hardware import device_name, peak_memory_mb
from ..model import Model
from ..progress import Progress
from .context import Warnings
from .likelihood import bits_per_dimension
from .protocol import HELDOUT_PROTOCOLS, parse_bits
from .records import append_line, check_writable

MIN_FACES = 30  # the interval assumes a normal mean; with fewer faces that may not hold


def check_unseen(
    faces: FaceSet, trained_on: str | None, *, purpose: str = "bits per dimension are measured"
) -> bool:
    """Whether it is known that a model trained on the face set of hash ``trained_on`` has not seen ``faces``.

    True if the training part lies beside the held-out part and the model was trained on it. False if there is
    no sign that the model has seen the faces, but its training set is unknown or lies elsewhere. ``purpose``:
    what is done on held-out faces, for errors.

    Raises:
        UserError: ``faces`` is not the held-out part of a split, or the model was trained on it or on the
            whole set.
    """
    shown, split = one_line(faces.path), faces.manifest.get("split")
    if not isinstance(split, dict) or split.get("part") != "heldout":
        part = f"the {one_line(split.get('part'))} part" if isinstance(split, dict) else "not part"
        raise UserError(
            f"{shown} is {part} of a split: {purpose} on held-out faces; "
            "omokage faces split faces/ -o DIR makes DIR/train to train on and DIR/heldout for this"
        )
    if trained_on is not None and trained_on in (faces.content_hash, split.get("of")):
        which = "this face set" if trained_on == faces.content_hash else "the set that it was split from"
        raise UserError(
            f"{shown}: the model was trained on {which}; train on the part named train beside it, "
            "then measure that run"
        )
    try:
        beside = json.loads((faces.path.parent / "train" / MANIFEST).read_bytes())
        siblings = beside["split"]["of"] == split.get("of") and beside["split"]["part"] == "train"
        return bool(siblings and beside["content_hash"] == trained_on)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def clustered_error(values: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """The standard error of the mean of ``values`` if values of one cluster are not independent.

    If every value is a cluster of its own, it is the usual standard error. With one cluster it is NaN.

    >>> round(clustered_error(np.array([1.0, 2.0, 4.0]), "abc") * 3**0.5, 6)  # the standard deviation
    1.527525
    >>> round(clustered_error(np.array([1.0, 1.0, 3.0, 3.0]), "aabb"), 6)  # as of two values, not of four
    1.0
    """
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values - values.mean(), clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + float(value)
    many = len(sums)
    if many < 2:
        return math.nan
    return math.sqrt(sum(each**2 for each in sums.values()) * many / (many - 1)) / len(values)


def evaluate_heldout(
    model: Model,
    faces: FaceSet,
    protocol: str = HELDOUT_PROTOCOLS[0],
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    *,
    seed: int = 0,
    draws: int = 1,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Bits per dimension of all faces of a held-out part, with a 95% confidence interval.

    The interval counts copies of a file as one face.

    Args:
        protocol: ``bpd-heldout-8bit``, or the same with fewer bits; pixels are first reduced to these bits.
        out: a file to append the result to, one line of JSON.
        seed: of the uniform noise that dequantises pixels; every face has noise of its own.
        draws: how many draws of that noise for each face.
        tell: called with a line if the faces are too few for a useful interval; the line is also in
            ``"warnings"`` of the result.

    Returns:
        The record that is written: the numbers, and everything that produced them.

    Raises:
        UserError: the protocol is unknown, ``faces`` is not a held-out part (see `check_unseen`), the model
            has no likelihood, ``out`` cannot be written, or the likelihood is not finite for any face.
    """
    started = time.monotonic()
    bits = parse_bits(protocol)
    trained_on = model.progress.get("face_set")
    known = check_unseen(faces, trained_on)
    model.require(HasDensity)  # refused before faces are decoded
    if out is not None:
        check_writable(Path(out))
    warn = Warnings(tell=tell)
    different = len(set(faces.index["sha256"].to_pylist()))
    if different < MIN_FACES:
        warn(f"only {different:,} different faces: below about {MIN_FACES}, the interval says little")
    images = faces.everything(model.resolution, progress)
    found = bits_per_dimension(model, images, bits=bits, draws=draws, seed=seed, progress=progress)
    # Copies of a file are one observation; counting each would make the interval too narrow.
    finite = np.isfinite(found.each)
    copies = [
        digest for digest, whole in zip(faces.index["sha256"].to_pylist(), finite, strict=True) if whole
    ]
    error = clustered_error(found.each[finite], copies)
    margin, known_error = 1.96 * error, math.isfinite(error)
    split = faces.manifest["split"]
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "protocol": protocol,
        "bits_per_dimension": found.value,
        "standard_error": error if known_error else None,
        "interval": [found.value - margin, found.value + margin] if known_error else None,
        "confidence": 0.95,
        "faces": found.images,
        "different_faces": len(set(copies)),
        "faces_not_finite": found.not_finite,
        "bits": bits,
        "dequantisation": "uniform",
        "draws": draws,
        "seed": seed,
        "bound": "upper",  # of the bits of pixels, by dequantisation
        "preprocessing": "the model's own, its log-determinant included",
        "split": {key: split.get(key) for key in ("of", "part", "holdout", "seed", "groups")},
        "trained_on": trained_on,
        "trained_on_the_other_part": known,
        "trained_bits": model.recipe.objective.get("bits"),
        "trained_noise": model.recipe.model.get("noise", 0.0),
        "weights": "averaged",
        "snapshot_hash": model.snapshot_hash,
        "images_seen": model.images_seen,
        "face_set_hash": faces.content_hash,
        "resolution": list(model.resolution),
        "faces_resize_rule": RESIZE_RULE,
        **({"warnings": warn.lines} if warn.lines else {}),
        "omokage": __version__,
        "torch": torch.__version__,
        "device": device_name(model.device),
        "threads": torch.get_num_threads(),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "peak_memory_mb": peak_memory_mb(model.device),
    }
    if out is not None:
        append_line(Path(out), record)
    return record
