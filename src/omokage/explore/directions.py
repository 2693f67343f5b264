"""Directions in latent space: along one of them, one attribute of a face changes and the others stay.

From labels: an attribute network names what it sees in many samples. For each attribute a linear regression
of its values on the latents gives the normals of a hyperplane (as Shen et al. 2020, InterFaceGAN, arXiv
1907.10786). The direction of a value is the shortest way, in standard deviations of the samples, that
changes its own normal and no normal of any other attribute: the others are covariates. A colour that lies
between others, such as black between brown and blue, is crossed by such a way and left again. So the
values of an attribute of several values have a `Goal`: each face goes to where faces with the value lie.
Without labels: closed-form factorisation of the first weights (Shen & Zhou 2021, SeFa, arXiv 2007.06600) and
principal components of w (Härkönen et al. 2020, GANSpace, arXiv 2004.02546).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from omokage import __version__
from omokage.abilities import HasStyles
from omokage.attributes import ATTRIBUTES, SURE, Estimates
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.points import Points
from omokage.files import replacing
from omokage.model import Model

FORMAT = "omokage-directions-2"
READ = (FORMAT, "omokage-directions-1")  # the first format had no goals
FILE = "directions.safetensors"
LEAST = 100  # confident samples with a value, and without it, below which it is refused
CONFIDENT = SURE  # estimates below this are left out of the regression
RIDGE = 1e-3  # at least this share of the mean variance is added to every variance
MAX_ROWS = 10_000
BEYOND = 1.5  # how far a face may go; 1 is its goal
SHOWN = 1.2  # how far a slider leads most faces: farther on, colours between others are left again
SHARED = ("reading", "way", "spread")  # what the goals of all values of an attribute have in common


@dataclass(frozen=True)
class Goal:
    """Where the faces with one value lie, and the way there from any point.

    The readings of a point say how much of each value of the attribute the regression sees in it. The way is
    the shortest, in standard deviations of the samples, that leads to the readings of faces with the value
    and changes no reading of another attribute.

    Attributes:
        reading: float64 (values, width), the normals of the attribute.
        way: (values, width), for each reading the move that changes it alone by 1.
        spread: (values, values), the covariance of the samples along these moves.
        place: (values,), the mean readings of the samples that surely have the value.
    """

    reading: Tensor
    way: Tensor
    spread: Tensor
    place: Tensor

    def way_from(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The way of each point (N, width) to the goal: (N, width), and (N,) its length in steps of 1σ."""
        missing = self.place - points.double() @ self.reading.T
        whole = missing @ self.way
        square = whole.square().sum(1)
        # σ² along the way is the variance of the samples along its unit vector.
        variance = ((missing @ self.spread) * missing).sum(1).clamp(min=0) / square.clamp(min=1e-12)
        return whole, square.sqrt() / variance.sqrt().clamp(min=1e-12)


@dataclass(frozen=True)
class Direction:
    """One direction.

    Attributes:
        name: "hair=blue"; for an attribute of two values its name, like "glasses"; "sefa 1", "pca 1".
        vector: float (width,) in w, (numbers of a latent,) in z; one step, a standard deviation of the
            samples along it.
        attribute, value: what a positive step changes; empty for directions without labels.
        layers: the styles that it is added to; empty: all of them, or in z.
        limit: steps up to which faces stay among those that the model has learned to draw, or with a goal
            those that lead nine of ten samples there and a fifth beyond; the range goes as far back.
        support: confident samples with the value.
        reach: share of the faces without the value that get it within the range; None: not measured.
        steps: mean steps of those that got it.
        leakage: for each other attribute, how much more often its estimate changes than along a null
            direction, in shares (0.05: 5 points).
        moves: for directions without labels, the change of the mean probability of values over 2 steps.
        offered: whether it is a slider; others serve as covariates only.
        goal: where a positive step leads, from each point another way; None: everywhere along ``vector``. A
            negative step always goes back along ``vector``.
    """

    name: str
    vector: Tensor
    attribute: str = ""
    value: str = ""
    layers: tuple[int, ...] = ()
    limit: float = 4.0
    support: int = 0
    reach: float | None = None
    steps: float | None = None
    leakage: Mapping[str, float] = field(default_factory=dict)
    moves: Mapping[str, float] = field(default_factory=dict)
    offered: bool = True
    goal: Goal | None = None

    @property
    def chosen(self) -> float:
        """Steps to take if nobody says how many: to the goal, for most a little beyond, or half the range."""
        return self.limit / (SHOWN if self.goal is not None else 2)

    @property
    def worst(self) -> tuple[str, float]:
        """The attribute with the largest leakage, and that leakage; ("", 0) if none was measured."""
        return max(self.leakage.items(), key=lambda each: each[1], default=("", 0.0))


@dataclass(frozen=True)
class Directions:
    """The directions of one model.

    Attributes:
        space: "w" or "z".
        rows: the directions.
        normals: (values, width), rows of the regression, one for each value with support.
        normal_names: "hair=blue" for each of them; attributes of two values by their name.
        refused: for values and attributes without a direction the reason, with the count.
        null: (width,), a direction that changes no attribute, with steps of one standard deviation.
        snapshot: SHA-256 of the snapshot that they belong to.
        network: SHA-256 of the weights of the attribute network.
        samples: how many samples were estimated.
        told: further facts: settings, shares of the values, agreement on a face set.
    """

    space: str
    rows: tuple[Direction, ...]
    normals: Tensor
    normal_names: tuple[str, ...]
    refused: Mapping[str, str]
    null: Tensor
    snapshot: str
    network: str
    samples: int
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all directions."""
        return [row.name for row in self.rows]

    def find(self, name: str) -> Direction:
        """The direction of that name, like ``hair=blue`` or ``glasses``.

        Raises:
            UserError: there is none; if it was refused, the error says why.
        """
        for row in self.rows:
            if row.name == name:
                if not row.offered:
                    raise UserError(f"{name}: {self.refused.get(name, 'no slider')}")
                return row
        if name in self.refused:
            raise UserError(f"{name}: {self.refused[name]}")
        attribute = name.partition("=")[0]
        if attribute in self.refused:
            raise UserError(f"{name}: {self.refused[attribute]}")
        near = get_close_matches(name, self.names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no direction {name!r}: {hint}there are {', '.join(self.names)}")

    def check(self, model: Model) -> "Directions":
        """Return the directions if they belong to ``model``; `UserError` otherwise."""
        if self.snapshot != model.snapshot_hash:
            raise UserError(
                f"these directions belong to another snapshot ({self.snapshot[:12]}), this model is "
                f"{model.snapshot_hash[:12]}; make new ones with omokage directions"
            )
        return self


def named(attribute: str, value: str) -> str:
    """The name of the direction of a value.

    >>> named("hair", "blue"), named("glasses", "yes")
    ('hair=blue', 'glasses')
    """
    return attribute if ATTRIBUTES[attribute].binary else f"{attribute}={value}"


def flat(points: Points) -> Tensor:
    """One row of numbers for each point: the style of the first layer in w, the latent in z; float64."""
    values = points.values[:, 0] if points.space == "w" else points.values
    return values.flatten(1).double()


def moved(points: Points, direction: Direction, steps: float | Sequence[float] | Tensor) -> Points:
    """The points moved along a direction; ``steps``: one number, or one for each point.

    Raises:
        UserError: the direction does not fit the points.
    """
    return points.moved(points.values + offsets(points, direction, steps))


def offsets(points: Points, direction: Direction, steps: float | Sequence[float] | Tensor) -> Tensor:
    """What `moved` adds to the values of the points.

    Raises:
        UserError: the direction does not fit the points.
    """
    size = points.values.shape[-1] if points.space == "w" else prod(points.values.shape[1:])
    if direction.vector.shape != (size,):
        numbers = direction.vector.numel()
        raise UserError(f"{direction.name}: a direction of {numbers} numbers, {points.space} has {size}")
    amount = torch.as_tensor(steps, dtype=torch.float32).expand(len(points))
    change = amount[:, None] * direction.vector.float()
    if direction.goal is not None and bool((amount > 0).any()):
        whole, length = direction.goal.way_from(_seen_by(direction, points))
        share = (amount / length.clamp(min=1e-6)).clamp(max=BEYOND)
        change = torch.where(amount[:, None] > 0, (share[:, None] * whole).float(), change)
    if points.space == "z":
        return change.view(points.values.shape)
    change = change[:, None].expand(points.values.shape).clone()
    if direction.layers:
        kept = torch.zeros(change.shape[1], dtype=torch.bool)
        kept[list(direction.layers)] = True
        change[:, ~kept] = 0
    return change


def ends(points: Points, direction: Direction) -> Tensor:
    """(N,) how many steps forward each point may go: `BEYOND` of its way, or without a goal to the limit."""
    if direction.goal is None:
        return torch.full((len(points),), direction.limit)
    return BEYOND * direction.goal.way_from(_seen_by(direction, points))[1].float()


def _seen_by(direction: Direction, points: Points) -> Tensor:
    """(N, width): the latents, or the mean style of the layers that the direction is added to; float64."""
    if points.space == "z":
        return points.values.flatten(1).double()
    layers = list(direction.layers) or list(range(points.values.shape[1]))
    return points.values[:, layers].double().mean(1)


def apply(points: Points, amounts: Mapping[str, float], directions: Directions) -> Points:
    """The points with several directions added: ``amounts`` are steps by the names of directions.

    Raises:
        UserError: a name without a direction, or points of another space.
    """
    if points.space != directions.space:
        raise UserError(f"these directions are in {directions.space}, the faces in {points.space}")
    values = points.values
    for name, steps in amounts.items():
        values = values + offsets(points, directions.find(name), steps)
    return points.moved(values)


@dataclass(frozen=True)
class Regression:
    """The result of `regress`.

    Attributes:
        directions: for each name (width,), one step of a standard deviation.
        normals: for each name (width,).
        support: for each name, confident samples with the value.
        refused: for each value without support, the reason with the count.
        null: (width,), a random direction orthogonal to all normals.
        limits: for each name the steps after which half of the samples are beyond 99.9% of them.
        goals: for each value of an attribute of several, where its faces lie.
        goal_limits: for each goal the steps after which nine of ten samples have gone `SHOWN` of their way.
    """

    directions: dict[str, Tensor]
    normals: dict[str, Tensor]
    support: dict[str, int]
    refused: dict[str, str]
    null: Tensor
    limits: dict[str, float]
    goals: dict[str, Goal] = field(default_factory=dict)
    goal_limits: dict[str, float] = field(default_factory=dict)


def regress(
    x: Tensor,
    estimates: Estimates,
    *,
    least: int = LEAST,
    confident: float = CONFIDENT,
    seed: int = 0,
) -> Regression:
    """One multi-attribute regression: directions (steps of 1σ) of all values with support.

    Args:
        x: latents (N, width) of the samples.
        estimates: what was seen in them.
        least: confident samples with a value, and with another one, that it needs.
        confident: least probability of an estimate that counts.
        seed: of the null direction.

    >>> import numpy as np
    >>> draw = torch.Generator().manual_seed(0)
    >>> x = torch.randn(4000, 6, generator=draw)
    >>> sure = torch.sigmoid(8 * x[:, 2]).numpy()
    >>> seen = Estimates({"glasses": np.stack([1 - sure, sure], 1)})
    >>> found = regress(x, seen).directions["glasses"]
    >>> bool(found[2] > 0.99), bool(found[[0, 1, 3, 4, 5]].abs().max() < 0.1)
    (True, True)
    """
    x = x.double()
    centre = x.mean(0)
    centred = x - centre
    covariance = centred.T @ centred / len(x)
    width = x.shape[1]
    # With few samples for the width, the covariance is shrunk more, towards equal variances.
    shrink = max(RIDGE, width / (width + len(x)))
    ridge = shrink * covariance.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    normals, support, refused = dict[str, Tensor](), dict[str, int](), dict[str, str]()
    owner = dict[str, str]()
    for attribute, rows in estimates.probabilities.items():
        sure = torch.from_numpy(rows.max(1) >= confident)
        chosen = torch.from_numpy(rows.argmax(1))[sure]
        part = centred[sure]
        if len(part) > 1:
            part = part - part.mean(0)
            within = part.T @ part / len(part) + ridge
        for place, value in enumerate(ATTRIBUTES[attribute].values):
            name = named(attribute, value)
            if ATTRIBUTES[attribute].binary and place == 0:
                continue
            has = (chosen == place).double()
            count, others = int(has.sum()), int(len(has) - has.sum())
            if min(count, others) < least:
                which = value if count < least else f"another than {value}"
                refused[name] = (
                    f"{min(count, others):,} of {len(x):,} samples are surely {which} ({attribute}), "
                    f"{least:,} are needed"
                )
                continue
            # Least squares on the indicator: the discriminant direction, whatever the share of the value.
            normals[name] = torch.linalg.solve(within, part.T @ (has - has.mean()) / len(part))
            support[name], owner[name] = count, attribute
    directions, limits = dict[str, Tensor](), dict[str, float]()
    inverse = torch.linalg.inv(covariance + ridge)
    lengths = ((centred @ inverse) * centred).sum(1)
    far, middle = float(lengths.quantile(0.999)) if len(x) < 10**6 else float("inf"), float(lengths.median())
    for name, normal in normals.items():
        others_ = [normals[other] for other in normals if owner[other] != owner[name]]
        way = _avoiding(covariance @ normal, covariance, others_)
        directions[name] = _one_step(way, covariance)
        size = float(directions[name] @ inverse @ directions[name])
        limits[name] = round(min(8.0, max(2.0, ((far - middle) / size) ** 0.5)), 2)
    goals = dict[str, Goal]()
    for attribute in {owner[name] for name in normals if not ATTRIBUTES[owner[name]].binary}:
        seen = estimates.probabilities[attribute]
        goals |= _goals(attribute, x, seen, normals, owner, covariance, confident)
    far_goals = {name: float(np.quantile(goal.way_from(x)[1].numpy(), 0.9)) for name, goal in goals.items()}
    goal_limits = {name: round(min(8.0, max(2.0, SHOWN * length)), 2) for name, length in far_goals.items()}
    draw = torch.Generator().manual_seed(seed)
    random = covariance @ torch.randn(width, generator=draw, dtype=torch.float64)
    null = _one_step(_avoiding(random, covariance, list(normals.values())), covariance)
    return Regression(directions, normals, support, refused, null, limits, goals, goal_limits)


def _goals(
    attribute: str,
    x: Tensor,
    probabilities: np.ndarray,
    normals: Mapping[str, Tensor],
    owner: Mapping[str, str],
    covariance: Tensor,
    confident: float,
) -> dict[str, Goal]:
    """The goals of the values of one attribute."""
    own = [name for name in normals if owner[name] == attribute]
    others = [name for name in normals if owner[name] != attribute]
    stacked = torch.stack([normals[name] for name in [*own, *others]])  # (rows, width)
    way = _one_at_a_time(stacked, covariance)[: len(own)]
    reading = stacked[: len(own)].float().double()  # as in a file
    way, along = way.float().double(), (way @ covariance @ way.T).float().double()
    found = {}
    for name in own:
        place = ATTRIBUTES[attribute].values.index(name.partition("=")[2])
        sure = torch.from_numpy((probabilities.max(1) >= confident) & (probabilities.argmax(1) == place))
        found[name] = Goal(reading, way, along, (reading @ x[sure].mean(0)).float().double())
    return found


def _avoiding(way: Tensor, covariance: Tensor, normals: Sequence[Tensor]) -> Tensor:
    """``way`` without its parts along the normals: the nearest way, in standard deviations, that has none."""
    if not normals:
        return way
    stacked = torch.stack(list(normals))  # (rows, width)
    return way - (stacked @ way) @ _one_at_a_time(stacked, covariance)


def _one_at_a_time(normals: Tensor, covariance: Tensor) -> Tensor:
    """(rows, width): for each normal the shortest move that changes its product by 1 and the others' by 0.

    The shortest is meant in standard deviations of the samples.
    """
    spread = normals @ covariance  # (rows, width)
    return torch.linalg.pinv(spread @ normals.T, rtol=1e-6, hermitian=True) @ spread


def _one_step(way: Tensor, covariance: Tensor) -> Tensor:
    """``way`` with the length of one standard deviation of the samples along it."""
    unit = way / way.norm().clamp(min=1e-12)
    return unit * (unit @ covariance @ unit).clamp(min=0).sqrt()


def first_weights(model: Model) -> Tensor | None:
    """The weights (outputs, width) that see w, or the latent of a family without styles; None: none do so.

    These are the affine maps of all styles, or the first linear or convolutional layer of a decoder.
    """
    network = model.network
    if model.can(HasStyles):
        width = model.mapping(torch.zeros(1, *model.latent_shape)).shape[2]
        found = [
            module.weight.detach()
            for name, module in network.named_modules()
            if "mapping_network" not in name
            and isinstance(getattr(module, "weight", None), Tensor)
            and module.weight.dim() == 2
            and module.weight.shape[1] == width
        ]
        found = [weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-8) for weight in found]
        return torch.cat(found).cpu() if found else None
    if len(model.latent_shape) != 1:
        return None
    width = model.latent_shape[0]
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or "encoder" in name or "location" in name:
            continue
        if isinstance(module, torch.nn.ConvTranspose2d) and weight.shape[0] == width:
            return weight.detach().flatten(1).T.cpu()
        if weight.dim() == 2 and weight.shape[1] == width:
            return weight.detach().cpu()
        if weight.dim() == 4 and weight.shape[1] == width:
            return weight.detach().transpose(0, 1).flatten(1).T.cpu()
    return None


def factorised(weights: Tensor, covariance: Tensor, count: int) -> list[Tensor]:
    """SeFa: the eigenvectors of WᵀW with the largest eigenvalues, steps of one standard deviation.

    weights: (outputs, width). covariance: (width, width) of the samples.
    """
    _, vectors = torch.linalg.eigh(weights.double().T @ weights.double())
    return [_one_step(_signed(vectors[:, -1 - i]), covariance) for i in range(min(count, len(vectors)))]


def components(covariance: Tensor, count: int) -> list[Tensor]:
    """The principal components with the largest variance, steps of one standard deviation."""
    _, vectors = torch.linalg.eigh(covariance)
    return [_one_step(_signed(vectors[:, -1 - i]), covariance) for i in range(min(count, len(vectors)))]


def _signed(vector: Tensor) -> Tensor:
    """The vector or its negative, so that its largest entry is positive on every machine."""
    return vector * vector[vector.abs().argmax()].sign()


def write_directions(path: str | Path, directions: Directions) -> Path:
    """Write one file, whole or not at all. Returns its path.

    Raises:
        UserError: another ending than .safetensors, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{one_line(path)}: a file of directions must end in .safetensors")
    rows, goals = [], dict[str, dict[str, Tensor]]()
    for row in directions.rows:
        told = asdict(replace(row, vector=torch.zeros(0), goal=None))
        told.pop("vector")
        told.pop("goal")
        rows.append(told)
        if row.goal is not None:
            shared = goals.setdefault(row.attribute, {part: getattr(row.goal, part) for part in SHARED})
            shared[f"place.{row.value}"] = row.goal.place
    metadata = {
        "format": FORMAT,
        "omokage": __version__,
        "space": directions.space,
        "snapshot": directions.snapshot,
        "attribute network": directions.network,
        "samples": str(directions.samples),
        "rows": json.dumps(rows),
        "normals": json.dumps(list(directions.normal_names)),
        "refused": json.dumps(dict(directions.refused)),
        "told": json.dumps(dict(directions.told)),
    }
    width = directions.null.numel()
    vectors = [row.vector for row in directions.rows]
    tensors = {
        "directions": torch.stack(vectors) if vectors else torch.zeros(0, width),
        "normals": directions.normals,
        "null": directions.null,
    }
    tensors |= {
        f"goal.{attribute}.{part}": each for attribute, parts in goals.items() for part, each in parts.items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            # Cloned, because tensors that share memory are refused.
            own = {name: value.float().contiguous().clone() for name, value in tensors.items()}
            save_file(own, unfinished, metadata)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{one_line(path)}: cannot write: {getattr(error, 'strerror', None) or error}"
        ) from None
    return path


def read_directions(path: str | Path) -> Directions:
    """Read a file of `write_directions`; a folder: the file in it.

    Raises:
        UserError: no such file, another file, or a damaged one.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    shown = one_line(path)
    if not path.is_file():
        raise UserError(f"{shown}: no such file; omokage directions RUN makes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") not in READ:
                raise UserError(f"{shown} is no file of directions; omokage directions RUN makes one")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        vectors, normals, null = (tensors[name] for name in ("directions", "normals", "null"))
        rows = [
            Direction(
                vector=vector,
                goal=_goal(tensors, row["attribute"], row["value"], len(vector)),
                **{**row, "layers": tuple(row["layers"])},
            )
            for vector, row in zip(vectors, json.loads(metadata["rows"]), strict=True)
        ]
        if len(rows) > MAX_ROWS or not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("numbers that are not finite")
        return Directions(
            metadata["space"],
            tuple(rows),
            normals,
            tuple(json.loads(metadata["normals"])),
            json.loads(metadata["refused"]),
            null,
            metadata["snapshot"],
            metadata["attribute network"],
            int(metadata["samples"]),
            json.loads(metadata["told"]),
        )
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{shown}: damaged ({one_line(error, 80)})") from None


def _goal(tensors: Mapping[str, Tensor], attribute: str, value: str, width: int) -> Goal | None:
    """The goal of a value in a file; None: it has none."""
    place = tensors.get(f"goal.{attribute}.place.{value}")
    if place is None:
        return None
    reading, way, spread = (tensors[f"goal.{attribute}.{part}"].double() for part in SHARED)
    values = len(place)
    if reading.shape != (values, width) or way.shape != reading.shape or spread.shape != (values, values):
        raise ValueError(f"the goal of {attribute}={value} has another size")
    return Goal(reading, way, spread, place.double())


def beside(snapshot: Path) -> list[Path]:
    """Where the directions of a snapshot may lie, the most special place first.

    >>> [str(path) for path in beside(Path("runs/x/snapshot-1.safetensors"))][1:]
    ['runs/x/directions.safetensors', 'runs/x/directions/directions.safetensors']
    """
    folder = snapshot.parent
    own = snapshot.with_name(f"{snapshot.stem}.directions.safetensors")
    return [own, folder / FILE, folder / "directions" / FILE]


def directions_of(model: Model, given: str | Path | None = None) -> Directions:
    """The directions of a model: ``given``, or those beside its snapshot, or in ``directions/`` here.

    Raises:
        UserError: there are none, or they belong to another snapshot.
    """
    if given is not None:
        return read_directions(given).check(model)
    places = [] if model.path is None else beside(model.path)
    for place in [*places, Path("directions") / FILE]:
        if place.is_file() and (found := read_directions(place)).snapshot == model.snapshot_hash:
            return found
    raise UserError(
        "there are no directions of this model; omokage directions RUN -o directions/ makes them"
    )
