"""Latent files: points in latent space as safetensors, with names and the model that they belong to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from omokage import __version__
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.points import Points, of_latents
from omokage.explore.provenance import settings_json, settings_of
from omokage.files import replacing
from omokage.model import About, Model
from omokage.settings import Settings

FORMAT = "omokage-latents-1"
MAX_POINTS = 1_000_000


@dataclass(frozen=True)
class LatentFile:
    """The content of a latent file.

    Attributes:
        points: (N, ...), in z and, if the model has styles and w is asked for, in w.
        names: one for each point.
        origins: where each point comes from, as in `omokage.explore.provenance.Provenance.faces`.
        about: the model of the points; None: the file does not say.
        settings: those that the points were drawn with, without psi.
    """

    points: Points
    names: list[str]
    origins: list[dict[str, Any]]
    about: About | None
    settings: Settings


def write_latents(
    path: str | Path,
    points: Points,
    names: Sequence[str],
    about: About,
    *,
    origins: Sequence[Mapping[str, Any]] = (),
    settings: Settings | None = None,
) -> Path:
    """Write points to a file that ends in .safetensors, whole or not at all. Returns its path.

    ``settings``: those that the points were drawn with; psi is stored point by point.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{one_line(path)}: a latent file must end in .safetensors")
    tensors = {"z": points.z, "w": points.w}
    if points.z is not None:
        tensors["psi"] = torch.tensor(points.psi, dtype=torch.float64)
    kept = settings_json(settings or Settings())
    kept.pop("psi", None)
    metadata = {
        "format": FORMAT,
        "omokage": __version__,
        "space": points.space,
        "names": json.dumps(list(names)),
        "recipe": about.recipe,
        "images seen": str(about.images_seen),
        "snapshot": about.snapshot_hash,
        "origins": json.dumps([dict(origin) for origin in origins]),
        "settings": json.dumps(kept),
    }
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items() if tensor is not None}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            save_file(stored, unfinished, metadata)
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{one_line(path)}: cannot write: {reason}") from None
    return path


def is_latent_file(path: Path) -> bool:
    """Whether a file is a latent file, also one that another program wrote: safetensors with z or w.

    A snapshot is none, and neither is a file that cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == FORMAT:
                return True
            return "format" not in metadata and bool({"z", "w"} & set(file.keys()))
    except (SafetensorError, OSError):
        return False


def described(path: Path) -> list[tuple[str, str]]:
    """What a latent file says about itself, as names with values, for a terminal.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in ("z", "w") if name in file.keys()}  # noqa: SIM118
        names = [one_line(name, 40) for name in json.loads(metadata.get("names", "[]"))]
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{one_line(path)}: cannot be read ({one_line(error, 80)})") from None
    found = [("kind", "latent file")]
    if about := _about(metadata):
        found.append(("model", f"{about.recipe}, {about.images_seen:,} images seen"))
        found.append(("snapshot", about.snapshot_hash))
    for space, shape in shapes.items():
        found.append((space, f"{shape[0]:,} points of {'×'.join(map(str, shape[1:]))}"))
    if names:
        more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
        found.append(("faces", ", ".join(names[:20]) + more))
    return found


def read_latents(path: Path, model: Model, settings: Settings, space: str) -> LatentFile:
    """The points of a latent file for ``model``, in ``space``.

    Points in z are drawn with their own psi; without one in the file, with that of ``settings``.

    Raises:
        UserError: no latent file, damaged, points of another model, or w is asked for as z.
    """
    shown = one_line(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = set(file.keys())
            about = _about(metadata)
            if about is not None and about.snapshot_hash != model.about.snapshot_hash:
                raise UserError(
                    f"{shown}: latents of another model ({about.recipe}, {about.images_seen:,} images seen, "
                    f"snapshot {about.snapshot_hash[:12]}); name that one with --model"
                )
            wanted = {"z": tuple(model.latent_shape)}
            if space == "w":
                wanted["w"] = tuple(model.mapping(torch.zeros(1, *model.latent_shape)).shape[1:])
            found = {}
            for name, shape in wanted.items():
                if name not in keys:
                    continue
                stored = tuple(file.get_slice(name).get_shape())
                if stored[1:] != shape or not 1 <= stored[0] <= MAX_POINTS:
                    raise UserError(f"{shown}: {name} has shape {stored}, this model needs (N, {shape})")
                found[name] = file.get_tensor(name).float()
                if not bool(found[name].isfinite().all()):
                    raise UserError(f"{shown}: {name} has values that are not finite")
            own = file.get_tensor("psi").double().tolist() if "psi" in keys else None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{shown}: cannot be read as safetensors ({one_line(error, 80)})") from None
    if not found:
        if "w" in keys:
            raise UserError(f"{shown}: its points are in w, which has no z; leave --in z out")
        raise UserError(f"{shown}: no latents in it; a latent file has z or w")
    number = len(next(iter(found.values())))
    if any(len(tensor) != number for tensor in found.values()) or (own and len(own) != number):
        raise UserError(f"{shown}: damaged: z, w and psi have different numbers of points")
    psi = tuple(float(one) for one in own) if own else ()
    try:
        kept = settings_of(json.loads(metadata.get("settings", "{}")))
        names = [one_line(name, 40) for name in json.loads(metadata.get("names", "[]"))]
        origins = [dict(origin) for origin in json.loads(metadata.get("origins", "[]"))]
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{shown}: damaged: its names or settings cannot be read") from None
    if "w" in found:
        points = Points(found.get("z"), found["w"], psi if "z" in found else ())
    else:
        using = replace(kept if about else settings, psi=psi or settings.psi)
        using.of(number)
        points = of_latents(model, found["z"], using, space)  # type: ignore[arg-type]
    if len(names) != number:
        names = [f"{path.name} {row}" for row in range(1, number + 1)]
    origins = origins if len(origins) == number else [{} for _ in names]
    return LatentFile(points, names, origins, about, kept if about else settings)


def _about(metadata: Mapping[str, str]) -> About | None:
    if metadata.get("format") != FORMAT or "snapshot" not in metadata:
        return None
    images = metadata.get("images seen", "0")
    return About(metadata.get("recipe", ""), int(images) if images.isdigit() else 0, metadata["snapshot"])
