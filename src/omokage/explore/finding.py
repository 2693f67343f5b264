"""Finding the directions of a model: sample, estimate, regress, and measure each direction; resumable."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omokage.attributes import ATTRIBUTES, AttributeNetwork, Estimates
from omokage.data.store.faceset import FaceSet
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.directions import (
    CONFIDENT,
    FORMAT,
    LEAST,
    Direction,
    Directions,
    Regression,
    components,
    factorised,
    first_weights,
    flat,
    named,
    regress,
)
from omokage.explore.points import Points, Space, default_space, of_seeds
from omokage.explore.steering import Look, acting_layers, look, measured, moves
from omokage.files import replacing
from omokage.model import Model
from omokage.progress import Progress, opened
from omokage.sampling import sample
from omokage.settings import Settings

CHUNK = 1024  # samples in a file of estimates
# Share of faces in which a direction must reach its value to be a slider, and the most by which it may change
# another attribute. 85% and 5 points are wanted; 85% of 128 faces has a standard error of 3 points.
LEAST_REACH = 0.8
MOST_LEAKAGE = 0.08
LEAST_CHECKED = 32  # faces; with fewer, reach and leakage say too little to take a slider away
CLEARLY = 0.03  # share of faces by which another way must reach more to be taken
SHARES = 0.6, 0.9  # of a direction's effect that its layers make; few layers change little else
FIRST_CHECK = 2**40  # seeds of the faces that directions are measured on; samples have small ones
LAYER_FACES = 16
KEPT = "estimates"  # the folder of what was seen so far


def estimated(
    model: Model,
    network: AttributeNetwork,
    samples: int,
    folder: Path,
    settings: Settings,
    progress: Progress | None = None,
) -> tuple[list[int], Estimates, int]:
    """What is seen in the samples of seeds 0, 1, …: the seeds, the estimates, how many were not finite.

    Each `CHUNK` is written to ``folder``; one that is there is not drawn again.

    Raises:
        UserError: the folder has estimates of another model, other settings or another network.
    """
    kept = folder / KEPT
    about = {
        "snapshot": model.snapshot_hash,
        "network": network.file_hash,
        "settings": json.dumps(settings.text()),
    }
    mark = kept / "about.json"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        if mark.is_file():
            if json.loads(mark.read_text()) != about:
                raise UserError(
                    f"{one_line(kept)} has estimates of another model or other settings; "
                    "give another folder with -o"
                )
        else:
            with replacing(mark) as unfinished:
                unfinished.write_text(json.dumps(about))
    except (OSError, ValueError) as error:
        raise UserError(f"{one_line(kept)}: cannot be used ({one_line(error, 80)})") from None
    seeds, parts, lost = list[int](), list[Estimates](), 0
    with opened(progress, "estimating samples", samples) as task:
        for start in range(0, samples, CHUNK):
            those = range(start, min(start + CHUNK, samples))
            file = kept / f"{start:08d}-{len(those):04d}.npz"
            stored = _stored(file, len(those))
            if stored is None:
                finite, seen = [], []
                for pixels, whole in sample(model, those, settings):
                    finite.append(whole)
                    seen.append(network(pixels))
                    task.advance(len(pixels))
                stored = np.concatenate(finite), Estimates.joined(seen)
                arrays = {name: each.astype(np.float16) for name, each in stored[1].probabilities.items()}
                with replacing(file) as unfinished:
                    np.savez(unfinished, finite=stored[0], **arrays)  # type: ignore[arg-type]
            else:
                task.advance(len(those))
            whole, estimates = stored
            lost += int((~whole).sum())
            seeds += [seed for seed, fine in zip(those, whole, strict=True) if fine]
            parts.append(Estimates({name: each[whole] for name, each in estimates.probabilities.items()}))
    return seeds, Estimates.joined(parts), lost


def _stored(file: Path, count: int) -> tuple[np.ndarray, Estimates] | None:
    """A chunk that was written before; None: there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = {name: stored[name].astype(np.float32) for name in ATTRIBUTES}
            finite = stored["finite"].astype(bool)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    shapes = [(count, len(about.values)) for about in ATTRIBUTES.values()]
    if finite.shape != (count,) or [each.shape for each in found.values()] != shapes:
        return None
    return finite, Estimates(found)


@dataclass(frozen=True)
class OnFaces:
    """What the network sees in a face set.

    Attributes:
        faces: how many were looked at.
        shares: for each value its share among them.
        agreement: for each attribute that the set has labels of, the share of faces with a label that agrees,
            and how many have one.
        content: the content hash of the set.
    """

    faces: int
    shares: dict[str, float]
    agreement: dict[str, tuple[float, int]]
    content: str


def on_faces(
    network: AttributeNetwork,
    faces: FaceSet,
    *,
    most: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> OnFaces:
    """Estimate at most ``most`` faces of a set, chosen at random with ``seed``."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(faces))[:most])
    seen = estimates_of(network, faces, rows, progress)
    agreement = {}
    for name in set(faces.index.column_names) & set(ATTRIBUTES):
        labels = [str(cell or "").split("|") for cell in faces.index[name].take(rows).to_pylist()]
        known = [bool(set(each) & set(ATTRIBUTES[name].values)) for each in labels]
        if any(known):
            hits = [
                value in each
                for value, each, has in zip(seen.values(name), labels, known, strict=True)
                if has
            ]
            agreement[name] = (round(float(np.mean(hits)), 4), len(hits))
    return OnFaces(len(rows), shares_of(seen), agreement, faces.content_hash)


def estimates_of(
    network: AttributeNetwork, faces: FaceSet, rows: np.ndarray, progress: Progress | None = None
) -> Estimates:
    """Estimates of some rows of a face set, in order; pictures are resized to 128 px."""
    parts = []
    with opened(progress, "estimating faces", len(rows)) as task:
        for some in np.array_split(rows, max(1, -(-len(rows) // 64))):
            parts.append(network(faces.pixels(some, (128, 128))))
            task.advance(len(some))
    return Estimates.joined(parts)


def shares_of(seen: Estimates) -> dict[str, float]:
    """For each value of each attribute its share of the faces."""
    return {
        named(name, value): round(float((seen.places(name) == place).mean()), 4)
        for name, about in ATTRIBUTES.items()
        for place, value in enumerate(about.values)
        if not (about.binary and place == 0)
    }


def find(
    model: Model,
    network: AttributeNetwork,
    folder: str | Path,
    *,
    samples: int = 50_000,
    space: Space | None = None,
    settings: Settings | None = None,
    faces: FaceSet | None = None,
    check: int = 128,
    unnamed: int = 6,
    least: int = LEAST,
    confident: float = CONFIDENT,
    progress: Progress | None = None,
) -> Directions:
    """Find the directions of a model. ``folder`` keeps what was seen, so that the same call goes on.

    Args:
        samples: faces to draw and estimate.
        space: "w" or "z"; None: w if the family has styles.
        faces: a face set whose faces are estimated too, for the shares of its values.
        check: faces that each direction is measured on; 0: not measured, and the layers are not restricted.
        unnamed: directions without labels of each kind; 0: none.
        least, confident: see `omokage.explore.directions.regress`.

    Raises:
        UserError: as `estimated`; or no value has enough samples.
    """
    folder, chosen, settings = Path(folder), default_space(model, space), settings or Settings()
    told: dict[str, Any] = {"settings": settings.text(), "recipe": model.recipe.name, "checked on": check}
    if faces is not None:
        seen = on_faces(network, faces, progress=progress)
        told["face set"] = {
            "content": seen.content, "faces": seen.faces, "shares": seen.shares, "agreement": seen.agreement
        }  # fmt: skip
    seeds, estimates, lost = estimated(model, network, samples, folder, settings, progress)
    told |= {"shares": shares_of(estimates), "not finite": lost}
    x = torch.cat(
        [flat(of_seeds(model, seeds[i : i + 4096], settings, chosen)) for i in range(0, len(seeds), 4096)]
    )
    found = regress(x, estimates, least=least, confident=confident)
    if not found.directions:
        raise UserError(f"no value is seen in {least:,} of {len(seeds):,} samples; draw more with --samples")
    refused = dict(found.refused)
    for name in ATTRIBUTES:
        if name not in network.offered:
            refused[name] = network.why_not(name).partition(": ")[2]
    covariance = torch.from_numpy(np.cov(x.numpy().T)).double()
    rows = _with_labels(found, network)
    rows += _without_labels(model, covariance, unnamed, chosen)
    plain = Directions(
        chosen,
        tuple(replace(row, vector=row.vector.float()) for row in rows),
        torch.stack(list(found.normals.values())).float(),
        tuple(found.normals),
        refused,
        found.null.float(),
        model.snapshot_hash,
        network.file_hash,
        len(seeds),
        told,
    )
    return checked(model, network, plain, found.limits, check, settings, folder, progress) if check else plain


def _with_labels(found: Regression, network: AttributeNetwork) -> list[Direction]:
    rows = []
    for name, vector in found.directions.items():
        attribute, _, value = name.partition("=")
        rows.append(
            Direction(
                name,
                vector,
                attribute,
                value or ATTRIBUTES[attribute].values[1],
                limit=found.goal_limits.get(name, found.limits[name]),
                support=found.support[name],
                offered=attribute in network.offered,
                goal=found.goals.get(name),
            )
        )
    return rows


def _without_labels(model: Model, covariance: Tensor, count: int, space: str) -> list[Direction]:
    rows = []
    weights = first_weights(model) if count else None
    if weights is not None:
        ways = factorised(weights, covariance, count)
        rows += [Direction(f"sefa {i}", way) for i, way in enumerate(ways, 1)]
    if space == "w" and count:
        rows += [Direction(f"pca {i}", way) for i, way in enumerate(components(covariance, count), 1)]
    return rows


def checked(
    model: Model,
    network: AttributeNetwork,
    directions: Directions,
    limits: Mapping[str, float],
    check: int,
    settings: Settings,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Directions:
    """The directions restricted to the layers where they act, and measured on ``check`` faces.

    The faces are of seeds that were not among the samples. More layers are moved, or a goal is left out and
    the straight direction taken, to its limit in ``limits``, only where that reaches clearly more faces. With
    ``folder``, each measured direction is written there, so that an interrupted call goes on.
    """
    points = of_seeds(model, range(FIRST_CHECK, FIRST_CHECK + check), settings, directions.space)  # type: ignore[arg-type]
    few = points[: min(LAYER_FACES, check)]
    rows = []
    before = look(model, network, few, settings)
    with opened(progress, "measuring directions", len(directions.rows)) as task:
        for row in directions.rows:
            about = f"{FORMAT} {check} {row.name}".encode()
            key = hashlib.sha256(row.vector.numpy().tobytes() + about).hexdigest()[:16]
            file = None if folder is None else folder / KEPT / f"measured-{key}.json"
            stored = _measured(file)
            if stored is not None:
                goal = None if stored.pop("straight") else row.goal
                rows.append(replace(row, **stored, goal=goal))
            elif row.attribute:
                limit = limits[row.name]
                rows.append(best_way(model, network, points, row, limit, directions, before, settings))
            else:
                rows.append(replace(row, moves=moves(model, network, few, row, settings)))
            if file is not None and stored is None:
                last = rows[-1]
                with replacing(file) as unfinished:
                    unfinished.write_text(
                        json.dumps(
                            {
                                "straight": last.goal is None,
                                "limit": last.limit,
                                "layers": last.layers,
                                "reach": last.reach,
                                "steps": last.steps,
                                "leakage": dict(last.leakage),
                                "moves": dict(last.moves),
                            }
                        )
                    )
            task.advance()
    found = replace(directions, rows=tuple(rows))
    return judged(found) if check >= LEAST_CHECKED else found


def best_way(
    model: Model,
    network: AttributeNetwork,
    points: Points,
    row: Direction,
    limit: float,
    directions: Directions,
    before: Look,
    settings: Settings,
) -> Direction:
    """The way to a value: a later one is taken only if it reaches clearly more of ``points``.

    First come the goal and few layers, then more layers, then the straight direction to ``limit``. A
    covariate, which is no slider, has one try. ``before``: what is seen in the first points, by which layers
    are chosen.
    """
    ways = [row] if row.goal is None else [row, replace(row, goal=None, limit=limit)]
    tries = list(product(ways, SHARES if directions.space == "w" else SHARES[:1]))
    best: Direction | None = None
    for way, share in tries if row.offered else tries[:1]:
        way = replace(way, offered=True)
        if directions.space == "w":
            few = points[: len(before)]
            way = replace(
                way, layers=acting_layers(model, network, few, way, before, settings, share=share)
            )
        way, _ = measured(model, network, points, way, directions, settings)
        if best is None or (way.reach or 0.0) > (best.reach or 0.0) + CLEARLY:
            best = way
        if best.reach is None or best.reach > 1 - CLEARLY:
            break
    assert best is not None
    return replace(best, offered=row.offered)


def judged(directions: Directions) -> Directions:
    """The directions without sliders for those that leak more than `MOST_LEAKAGE` or reach too few faces.

    The reasons are in ``refused``. Directions that were not measured stay as they are.
    """
    rows, refused = [], dict(directions.refused)
    for row in directions.rows:
        which, worst = row.worst
        if row.offered and row.reach is not None and row.reach < LEAST_REACH:
            refused[row.name] = f"reached in only {row.reach:.0%} of faces, so there is no slider"
        elif row.offered and worst > MOST_LEAKAGE:
            refused[row.name] = f"changes {which} in {worst:.0%} of faces too, so there is no slider"
        rows.append(replace(row, offered=row.offered and row.name not in refused))
    return replace(directions, rows=tuple(rows), refused=refused)


def _measured(file: Path | None) -> dict[str, Any] | None:
    if file is None or not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text())
        return {**stored, "straight": bool(stored["straight"]), "layers": tuple(stored["layers"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def table(directions: Directions) -> list[str]:
    """The directions as lines of text: steps, reach, leakage, support; then what was refused."""
    lines = []
    for row in directions.rows:
        if row.attribute and row.offered:
            reach = "" if row.reach is None else f"reached in {row.reach:.0%}"
            mean = "" if row.steps is None else f"by {row.steps:.1f} steps"
            which, worst = row.worst
            leak = f"largest leakage {100 * worst:+.0f} points ({which})" if which else ""
            layers = f"layers {_ranges(row.layers)}" if row.layers else ""
            parts = [f"support {row.support:,}", reach + (" " + mean if mean else ""), leak, layers]
            lines.append(f"{row.name}: " + ", ".join(part for part in parts if part))
        elif not row.attribute:
            said = ", ".join(f"{name} {100 * change:+.0f}" for name, change in list(row.moves.items())[:4])
            nothing = "moves nothing that the network sees"
            nothing = nothing if directions.told.get("checked on") else "not measured"
            lines.append(f"{row.name}: {said or nothing}")
    lines += [f"no {name}: {reason}" for name, reason in directions.refused.items()]
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    from omokage.sampling import seed_ranges

    return seed_ranges(numbers)
