"""Faces as a user names them: seeds, latent files, Omokage's own pictures and ordinary pictures, mixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.latents import is_latent_file, read_latents
from omokage.explore.points import Points, default_space, joined, of_seeds
from omokage.explore.provenance import Provenance, points_of, read_provenance
from omokage.model import Model
from omokage.settings import SEEDS, Settings, parse_seeds

WHAT = "faces are seeds like 3 or 1-3, latent files (.safetensors) and pictures"


class Inverts(Protocol):
    """Finds the points of ordinary pictures, such as `omokage.explore.inversion.invert_pictures`.

    It is called once with all pictures. It returns their points, one for each file in order, in ``space``,
    and lines that say what was done, such as how close the fit is.
    """

    def __call__(
        self, files: Sequence[Path], model: Model, *, settings: Settings, space: str
    ) -> tuple[Points, list[str]]:
        """Points of ``files``, and what to say about them."""


@dataclass(frozen=True)
class Gathered:
    """Faces that a user named, as points.

    Attributes:
        points: one point for each face, in order.
        names: a short caption for each: "seed 3", "board.safetensors 2", "face.png".
        origins: where each comes from, for `omokage.explore.provenance.faces_of`: {"seed": 3}, or {"file":
            "face.png", ...}. Only the names of files are in it, no folders.
        told: lines to say to the user: what was inverted, what is of another model.
    """

    points: Points
    names: list[str]
    origins: list[dict[str, Any]]
    told: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def seeds(self) -> list[int] | None:
        """The seeds, if all faces are seeds alone; else None."""
        found = [int(origin["seed"]) for origin in self.origins if "seed" in origin]
        return found if len(found) == len(self) else None


def gather(
    arguments: Sequence[str | Path],
    model: Model,
    *,
    settings: Settings | None = None,
    space: str | None = None,
    invert: Inverts | None = None,
) -> Gathered:
    """The faces that ``arguments`` name, in order.

    Each argument is one of:

    * seeds: ``3``, ``1-3``, ``3,17``. A file with such a name is given as ``./3``.
    * a latent file, which ends in .safetensors: all its points. They keep their own psi.
    * a picture that Omokage made with this model: the faces that it was made from. They keep the psi of its
      recipe. In w they keep its conditions too; in z they get those of ``settings``, and ``told`` says so.
    * any other picture: inverted by ``invert``; None: refused. A picture of one face that another model made
      is inverted too.

    Args:
        settings: those of seeds. psi may have one number for each seed.
        space: "z" or "w"; None: w if the family has styles, else z.

    Raises:
        UserError: no argument, no such file, latents of another model, w for a family without styles, or a
            file that is none of these.

    >>> from omokage.model import load_model
    >>> gather(["3,17", "5-6"], load_model()).names
    ['seed 3', 'seed 17', 'seed 5', 'seed 6']
    """
    settings, chosen = settings or Settings(), default_space(model, space)
    if not arguments:
        raise UserError(f"no faces named; {WHAT}")
    parts: list[Gathered | Path] = []
    for argument in arguments:
        text = str(argument).strip()
        if not isinstance(argument, Path) and SEEDS.fullmatch(text):
            parts.append(of_numbers(parse_seeds(text, "faces"), model, settings, chosen))
        else:
            parts.append(_file(Path(argument), model, settings, chosen, invert))
    pictures = [part for part in parts if isinstance(part, Path)]
    if pictures:
        assert invert is not None
        points, told = invert(pictures, model, settings=settings, space=chosen)
        inverted = iter(range(len(pictures)))
        found = []
        for part in parts:
            if isinstance(part, Path):
                name = one_line(part.name, 40)
                own = points[[next(inverted)]]
                found.append(Gathered(own, [name], [{"name": name, "file": name, "inverted": True}], told))
                told = []
            else:
                found.append(part)
    else:
        found = [part for part in parts if isinstance(part, Gathered)]
    names = [name for part in found for name in part.names]
    origins = [origin for part in found for origin in part.origins]
    return Gathered(
        joined([part.points for part in found]),
        names,
        [
            origin if "seed" in origin else {**origin, "name": name}
            for name, origin in zip(names, origins, strict=True)
        ],
        [line for part in found for line in part.told],
    )


def of_recipe(model: Model, told: Provenance, space: str | None = None) -> Gathered:
    """The faces that a recipe names, with the captions that they had.

    Raises:
        UserError: as `omokage.explore.provenance.points_of`.
        ValueError: damaged coordinates.
    """
    chosen = space or ("w" if any("w" in face for face in told.faces) else "z")
    names = [
        f"seed {face['seed']}" if "seed" in face else one_line(face.get("name", f"face {row}"), 40)
        for row, face in enumerate(told.faces, 1)
    ]
    origins = [
        {"seed": face["seed"]} if "seed" in face else {k: v for k, v in face.items() if k not in ("z", "w")}
        for face in told.faces
    ]
    return Gathered(points_of(model, told, chosen), names, origins)


def of_numbers(
    seeds: Sequence[int], model: Model, settings: Settings, space: str | None = None
) -> Gathered:
    """The faces of seeds, as `gather` has them.

    Raises:
        UserError: w for a family without styles, or psi does not fit the number of seeds.
    """
    points = of_seeds(model, seeds, settings, default_space(model, space))
    return Gathered(points, [f"seed {seed}" for seed in seeds], [{"seed": seed} for seed in seeds])


def _file(
    path: Path, model: Model, settings: Settings, space: str, invert: Inverts | None
) -> Gathered | Path:
    """The faces of a file; the path itself: a picture to invert."""
    shown = one_line(path)
    if path.is_dir():
        raise UserError(f"{shown} is a folder; name its files, like {path / '*.png'}")
    if not path.is_file():
        raise UserError(f"{shown}: no such file; {WHAT}")
    if is_latent_file(path):
        return _latents(path, model, settings, space)
    if path.suffix == ".safetensors":
        raise UserError(f"{shown} is no latent file; a run or snapshot is given with --model")
    told = read_provenance(path)
    if told is None:
        if invert is None:
            raise UserError(
                f"{shown}: not a picture that Omokage made, and this command does not invert pictures; {WHAT}"
            )
        return path
    return _ours(path, told, model, settings, space, invert)


def _latents(path: Path, model: Model, settings: Settings, space: str) -> Gathered:
    read = read_latents(path, model, settings, space)
    name, told = one_line(path.name, 40), []
    if read.about is None:
        told.append(f"{one_line(path)} names no model: its latents are taken as they are")
    told += _other_settings(path, read.settings, settings, space)
    origins = [
        {**_parent(origin, {}), "name": own, "file": name, "row": row}
        for row, (own, origin) in enumerate(zip(read.names, read.origins, strict=True), 1)
    ]
    return Gathered(_own(read.points, read.settings, settings), read.names, origins, told)


def _ours(
    path: Path, told: Provenance, model: Model, settings: Settings, space: str, invert: Inverts | None
) -> Gathered | Path:
    shown, name = one_line(path), one_line(path.name, 40)
    if told.about.snapshot_hash != model.about.snapshot_hash:
        if told.kind == "face" and invert is not None:
            return path
        raise UserError(
            f"{shown}: made by another model ({told.about.recipe}, {told.about.images_seen:,} images seen, "
            f"snapshot {told.about.snapshot_hash[:12]}); name that one with --model"
        )
    if not told.faces:
        raise UserError(f"{shown}: its recipe names no face")
    try:
        model.check(told.settings)
        points = points_of(model, told, space)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{shown}: its recipe is damaged: {one_line(error, 80)}") from None
    names = [name] if len(points) == 1 else [f"{name} {row}" for row in range(1, len(points) + 1)]
    origins = [{**_parent(face, told.settings.text()), "file": name} for face in told.faces]
    points = _own(points, told.settings, settings)
    return Gathered(points, names, origins, _other_settings(path, told.settings, settings, space))


def _own(points: Points, own: Settings, settings: Settings) -> Points:
    """Points in w without their z, if z with the command's conditions would be another face."""
    if points.w is not None and dict(own.conditions) != dict(settings.conditions):
        return Points(w=points.w)
    return points


def _parent(face: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """The origin of a face that was read from a file. Its seed alone would not give it again: it has settings
    of its own. So the seed stands among its parents."""
    kept = {key: value for key, value in face.items() if key not in ("z", "w", "seed")}
    if "seed" not in face:
        return kept
    return {**kept, "parents": [{"seed": face["seed"], **({"settings": settings} if settings else {})}]}


def _other_settings(path: Path, own: Settings, settings: Settings, space: str) -> list[str]:
    """What to say of a file in z whose faces were drawn with other settings than those of the command."""
    ours, theirs = (replace(each, psi=1.0) for each in (settings, own))
    if space == "w":  # a style has its conditions in it; noise alone is chosen when it is drawn
        ours, theirs = Settings(noise=settings.noise), Settings(noise=own.noise)
    if ours == theirs:
        return []

    def words(each: Settings) -> str:
        told = [f"{name} {value}" for name, value in each.text().items() if name != "psi"]
        return ", ".join(told) or "the defaults"

    return [f"{one_line(path)} was drawn with {words(theirs)}; here its faces are drawn with {words(ours)}"]
