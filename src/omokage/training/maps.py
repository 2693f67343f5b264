"""Training on the maps of an autoencoder: where it comes from, and the maps of the faces, computed once.

The model has the autoencoder in itself (`abilities.SeesMaps`), so its snapshots draw alone. The maps lie in
the run folder, and are made anew if the faces or the autoencoder are others.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..abilities import Maps, SeesMaps
from ..data.store.faceset import FaceSet
from ..errors import UserError
from ..families import MODELS, able
from ..files import replacing
from ..listing import snapshots
from ..model import load_model
from ..models.conditional import unconditioned
from ..progress import Progress, opened
from ..recipe import Recipe
from ..snapshot import read_snapshot
from .batches import Order
from .display import announce
from .steps import Steps, grey, normalised

FILE = "maps.safetensors"
FORMAT = "omokage-maps-1"
AT_ONCE = 64  # faces encoded at a time
SHARED = ("size", "latent", "channels", "blocks", "image_channels")  # settings that must be the autoencoder's


def with_autoencoder(
    recipe: Recipe, autoencoder: Path | None, start: Path | None, run: Path | None
) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe with the settings of its autoencoder filled in, and the autoencoder's weights.

    The autoencoder is in the snapshot ``autoencoder``. Without it there are no weights, and the settings are
    those of the run's own snapshot or of ``start``, whose models have one in themselves. Recipes whose model
    needs no autoencoder stay as they are.

    Raises:
        UserError: ``autoencoder`` is missing, not wanted here, or a snapshot of another kind of model.
    """
    name = recipe.model["name"]
    if not MODELS[name].can(SeesMaps):
        if autoencoder is not None:
            raise UserError(
                f"--autoencoder: the model {name} has no use for one; leave it out (these have: "
                f"{able(SeesMaps)})"
            )
        return recipe, {}
    written = snapshots(run)[-1:] if run is not None else []
    if autoencoder is None:
        origin = written[0] if written else start
        if origin is not None:
            return _filled(recipe, read_snapshot(origin, "none of them")[1]), {}
        if run is None:
            return recipe, {}
        raise UserError(
            f"train: --autoencoder is missing, for example --autoencoder runs/autoencoder; {recipe.name} "
            "draws with one, and omokage train autoencoder-64 makes one"
        )
    if start is not None and not written:
        raise UserError("--autoencoder: the model of --from has its own; leave one of both out")
    model = load_model(autoencoder, "cpu")
    if not model.can(Maps):
        raise UserError(
            f"--autoencoder {autoencoder}: a {model.recipe.model['name']} is no spatial autoencoder; "
            "omokage train autoencoder-64 makes one"
        )
    return _filled(recipe, model.recipe), dict(model.network.state_dict())


def _filled(recipe: Recipe, other: Recipe) -> Recipe:
    shared = {key: other.model[key] for key in SHARED if key in other.model}
    return dataclasses.replace(recipe, model={**recipe.model, **shared})


def put_in(network: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model that `SeesMaps` the weights of its autoencoder."""
    inner = unconditioned(network)
    if weights and isinstance(inner, SeesMaps):
        inner.autoencoder.load_state_dict(weights)


def check_same(network: torch.nn.Module, weights: Mapping[str, Tensor], run: Path) -> None:
    """Raise `UserError` unless the model of a resumed run has these weights of an autoencoder, or none."""
    own: Any = unconditioned(network)
    if weights and any(
        not torch.equal(tensor.cpu(), weights[name]) for name, tensor in own.autoencoder.state_dict().items()
    ):
        raise UserError(
            f"--autoencoder: {run} was trained with another one, which it has in itself; leave the option "
            "out, or give another --out"
        )


class MapBatches(Order):
    """Batches of maps (faces, variants, *shape), those of the faces ``used``; `Order` has the rest.

    A second variant is that of mirrored faces.
    """

    def __init__(self, maps: Tensor, used: np.ndarray, *order: Any) -> None:
        super().__init__(used, *order)
        self.maps = maps

    def at(self, images: int) -> Tensor:
        """The batch after ``images`` images, (B, variants, *shape)."""
        return self.maps[torch.from_numpy(np.searchsorted(self.used, self.indices(images)))]


class MapSteps(Steps):
    """Steps whose real images are the standardised maps of `MapBatches`."""

    def real(self, pixels: Tensor) -> Tensor:
        """(B, variants, *shape) to standardised maps (B, *shape), each of a random variant."""
        chosen = (torch.rand(len(pixels)) * pixels.shape[1]).long()
        maps = pixels[torch.arange(len(pixels)), chosen].to(self.device).float()
        return self.model.of_maps(maps)


class EncodedSteps(Steps):
    """Steps whose real images are the standardised maps of the pixels, encoded at each call."""

    def real(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.standardised(super().real(pixels)).float()


def maps_of(
    network: Any,
    faces: FaceSet,
    used: np.ndarray,
    mirror: bool,
    run: Path,
    fabric: Fabric,
    progress: Progress | None,
) -> Tensor:
    """The maps of the faces ``used``, float16 (used, 1 or 2, *shape); the second are those of mirrored faces.

    They are read from the run folder if they are of these faces and this autoencoder; otherwise they are made
    and written there. All of them are kept in memory: 4 kB a face for maps of 8x8x16 with mirrored ones.

    Raises:
        UserError: a map is not finite, or the maps cannot be written.
    """
    about = {
        "format": FORMAT,
        "faces": faces.content_hash,
        "used": hashlib.sha256(used.astype("<i8").tobytes()).hexdigest(),
        "mirrored": str(mirror),
        "autoencoder": _digest(network.autoencoder),
    }
    shape = [len(used), 1 + mirror, *network.shape]
    path = run / FILE
    if fabric.is_global_zero:
        found = _read(path, about, shape)
        if found is None:
            if path.exists():
                told = f"{path} is of other faces or another autoencoder, or damaged: made anew"
                announce(progress, told, "autoencoder")
            found = _made(network, faces, used, mirror, fabric, progress)
            try:
                with replacing(path) as unfinished:
                    save_file({"maps": found}, unfinished, about)
            except (SafetensorError, OSError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(f"cannot write {path}: {reason}; make room and run it again") from None
    if fabric.world_size > 1:
        fabric.barrier()
    if not fabric.is_global_zero:
        found = _read(path, about, shape)
        found = _made(network, faces, used, mirror, fabric, None) if found is None else found
    assert found is not None
    return found


def standardise(maps: Tensor, *networks: torch.nn.Module) -> None:
    """Tell models the mean and deviation of each channel of ``maps`` (faces, variants, C, H, W)."""
    channels = [maps[:, :, channel].double() for channel in range(maps.shape[2])]
    mean = torch.stack([channel.mean() for channel in channels]).float()
    deviation = torch.stack([channel.std() for channel in channels]).float().clamp_min(1e-6)
    for network in networks:
        inner: Any = unconditioned(network)
        inner.standardise(mean, deviation)


def _digest(autoencoder: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, about: Mapping[str, str], shape: list[int]) -> Tensor | None:
    """The maps in a file; None: there are none, they are of something else, or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != about or list(file.keys()) != ["maps"]:
                return None
            part = file.get_slice("maps")
            if part.get_dtype() != "F16" or list(part.get_shape()) != shape:
                return None
            maps: Tensor = file.get_tensor("maps").clone()  # no view of a file that may change
    except (SafetensorError, OSError):
        return None
    return maps if bool(maps.isfinite().all()) else None


@torch.no_grad()
def _made(
    network: Any,
    faces: FaceSet,
    used: np.ndarray,
    mirror: bool,
    fabric: Fabric,
    progress: Progress | None,
) -> Tensor:
    maps = torch.empty(len(used), 1 + mirror, *network.shape, dtype=torch.float16)
    with opened(progress, "encoding faces", len(used)) as task:
        for first in range(0, len(used), AT_ONCE):
            rows = used[first : first + AT_ONCE]
            pixels = torch.from_numpy(faces.pixels(rows, network.resolution)).permute(0, 3, 1, 2)
            images = normalised(pixels, False, fabric.device)
            images = grey(images) if network.image_channels == 1 else images
            for variant in range(1 + mirror):
                with fabric.autocast():
                    found = network.autoencoder.posterior(images.flip(3) if variant else images)[0]
                maps[first : first + len(rows), variant] = found.half().cpu()
            task.advance(len(rows))
    if not bool(maps.isfinite().all()):
        raise UserError("--autoencoder: some of its maps are not finite numbers; train it again")
    return maps
