"""One file that rebuilds its model by itself: weights, averages, optimiser states, progress, recipe."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import __version__
from .errors import UserError
from .families import MODELS, build_model
from .hardware import best_device
from .models.layers import Noises
from .recipe import Recipe, read_recipe

FORMAT = "omokage-snapshot-1"
# Abilities that a family may lack: how that is said, and what to use.
INSTEAD = {
    "encode": ("cannot encode images", "omokage sample --video walks between faces of its own"),
    "log_prob": ("has no likelihood", "omokage evaluate measures samples"),
    "style": ("has no space of styles", "omokage sample --psi truncates where a family can"),
    "jacobi": ("draws whole images at once", "leave Jacobi iterations out"),
    "guidance": ("has no guidance", "leave it out; --psi below 1 gives more typical faces"),
}
SHIPPED = Path(__file__).parent / "assets" / "fast-getchu-64.safetensors"


def write_snapshot(
    path: Path, tensors: Mapping[str, Tensor], recipe: Recipe, progress: Mapping[str, Any]
) -> None:
    """Write a snapshot under its final name only when it is whole and on the disk."""
    metadata = {
        "format": FORMAT,
        "omokage": __version__,
        "recipe": recipe.to_toml(),
        "progress": json.dumps(progress, sort_keys=True),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}; make room, then the same command goes on") from None
    finally:
        partial.unlink(missing_ok=True)


def read_snapshot(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], Recipe, dict[str, Any]]:
    """Tensors whose names start with ``prefix`` (taken off), the recipe and the progress.

    Raises:
        UserError: not a snapshot, cut off, or of a format that this version does not know.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is no snapshot of Omokage (format {metadata.get('format')!r})")
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
            progress = json.loads(metadata["progress"])
            return tensors, read_recipe(metadata["recipe"], str(path)), progress
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or cut off ({error}); use another snapshot of the run") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def snapshots(run: str | Path) -> list[Path]:
    """The snapshots of a run, oldest first."""
    return sorted(Path(run).glob("snapshot-*.safetensors"))


def newest_snapshot(run: str | Path) -> Path:
    """The newest snapshot of a run folder.

    Raises:
        UserError: no such folder, or no snapshot in it.
    """
    if not Path(run).is_dir():
        raise UserError(f"{run}: no such run; omokage train RECIPE --data faces/ --out {run} makes one")
    found = snapshots(run)
    if not found:
        raise UserError(f"{run} has no snapshot yet; let omokage train run longer")
    return found[-1]


@dataclass
class Model:
    """A trained model, ready to draw.

    Attributes:
        network: answers ``latent_shape`` and ``decode``; in evaluation mode.
        snapshot_hash: SHA-256 of the file it came from.
        given: values of conditions that every image has; see `conditioned`.
        guidance: how far images go beyond their conditions; see `guided`.
        jacobi: iterations of the sampler; see `iterating`.
    """

    network: nn.Module
    recipe: Recipe
    progress: dict[str, Any]
    path: Path
    snapshot_hash: str
    given: dict[str, str] = field(default_factory=dict)
    guidance: float = 0.0
    jacobi: int = 0

    @property
    def conditions(self) -> dict[str, list[str]]:
        """The values of each condition it was trained with; empty: it has none."""
        return self.recipe.conditions

    def conditioned(self, given: Mapping[str, str]) -> "Model":
        """The same model, all of whose images have these values; other conditions are drawn from latents.

        Raises:
            UserError: it has no such condition or value; the nearest right one is named, and all there are.
        """
        for name, value in given.items():
            if not self.conditions:
                raise UserError(
                    f"{name}: {self.path} was trained without conditions; omokage train RECIPE "
                    f"condition={name} ... trains with them"
                )
            if name not in self.conditions:
                raise UserError(_no_such("condition", name, list(self.conditions)))
            if value not in self.conditions[name]:
                raise UserError(_no_such(name, value, self.conditions[name]))
        return replace(self, given={**self.given, **given})

    def guided(self, guidance: float) -> "Model":
        """The same model, whose images go beyond their conditions by so many times what these change.

        Raises:
            UserError: a family without guidance, or a model trained without conditions.
        """
        if guidance:
            self.require("guidance")
            if not self.conditions:
                raise UserError(
                    f"guidance: {self.path} was trained without conditions; omokage train RECIPE "
                    "condition=hair ... trains with them"
                )
        return replace(self, guidance=guidance)

    def iterating(self, jacobi: int) -> "Model":
        """The same model, which draws by so many Jacobi iterations a block; 0: token by token, exactly.

        Raises:
            UserError: a family that does not draw by tokens.
        """
        if jacobi:
            self.require("jacobi")
        return replace(self, jacobi=jacobi)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return self.network.latent_shape  # type: ignore[return-value]

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.network.resolution  # type: ignore[return-value]

    @property
    def images_seen(self) -> int:
        """How many images it was trained on, repetitions counted."""
        return int(self.progress["images"])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, *latent_shape) to images (B, 3, H, W) in [-1, 1], float32.

        ``psi`` below 1 trades variety for typical faces: a model's own truncation, else latents times psi
        (Brock et al. 2018, section 3.1, shrink the latents' range likewise).
        """
        z = z.to(self.device)
        how: dict[str, Any] = {"sampler": "jacobi", "iterations": self.jacobi} if self.jacobi else {}
        if self.conditions:
            how |= {"guidance": self.guidance} if self.guidance else {}
            return self.network.decode(z, psi, self.values(), **how).float()  # type: ignore[operator]
        if "psi" in MODELS[self.recipe.model["name"]].can:
            return self.network.decode(z, psi).float()  # type: ignore[operator]
        return self.network.decode(z * psi, **how).float()  # type: ignore[operator]

    def values(self) -> list[int | None]:
        """The numbers of the values of conditions that every image has; None: drawn."""
        return [
            known.index(self.given[name]) if name in self.given else None
            for name, known in self.conditions.items()
        ]

    def require(self, ability: str) -> None:
        """UserError, with what to use instead, unless the family can do it (see `families.Row`)."""
        name = self.recipe.model["name"]
        if ability not in MODELS[name].can:
            lack, instead = INSTEAD[ability]
            able = ", ".join(sorted(known for known, row in MODELS.items() if ability in row.can))
            raise UserError(f"{name} {lack}; these families can: {able}; with {name}, {instead}")

    @torch.no_grad()
    def mapping(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, *latent_shape) to styles w (B, layers, width), float32, drawn towards the average.

        Raises:
            UserError: a family without styles.
        """
        self.require("style")
        if self.conditions:
            return self.network.mapping(z.to(self.device), psi, self.values()).float()  # type: ignore[operator]
        return self.network.mapping(z.to(self.device), psi).float()  # type: ignore[operator]

    @torch.no_grad()
    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles w (B, layers, width) to images (B, 3, H, W) in [-1, 1], float32.

        ``noise``: "constant", "random" or "none", for all layers or, in a list, for each.

        Raises:
            UserError: a family without styles.
        """
        self.require("style")
        return self.network.synthesis(w.to(self.device), noise).float().clamp(-1, 1)  # type: ignore[operator]

    @property
    def layers(self) -> int:
        """How many styles an image has; UserError for a family without styles."""
        self.require("style")
        return self.network.layers  # type: ignore[return-value]

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """Height and width of the features of each layer; UserError for a family without styles."""
        self.require("style")
        return self.network.layer_sizes  # type: ignore[return-value]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, *latent_shape), float32.

        Raises:
            UserError: a family without an encoder.
        """
        self.require("encode")
        if self.conditions:
            return self.network.encode(images.to(self.device), self.values()).float()  # type: ignore[operator]
        return self.network.encode(images.to(self.device)).float()  # type: ignore[operator]


def load_model(source: str | Path | None = None, device: str | torch.device | None = None) -> Model:
    """The averaged weights of a run's newest snapshot, of a snapshot file, or (None) of the model that ships.

    ``device`` None: the fastest there is.

    Raises:
        UserError: nothing there, a damaged file, or weights that do not fit their recipe.
    """
    path = SHIPPED if source is None else Path(source)
    if path.is_dir() or not path.suffix:
        path = newest_snapshot(path)
    if not path.is_file():
        hint = "the installation is incomplete" if source is None else "give a run folder or a snapshot file"
        raise UserError(f"{path}: no such file; {hint}")
    tensors, recipe, progress = read_snapshot(path, "average.")
    network = build_model(recipe.model, recipe.conditions)
    load_weights(
        network,
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()},
        path,
    )
    network = network.eval().requires_grad_(False).to(device or best_device())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model(network, recipe, progress, path, digest)


def write_small(model: Model, path: Path) -> None:
    """Write only what sampling needs, weights in half precision: a tenth of a snapshot of a training.

    One-dimensional tensors (batch-norm statistics, biases) stay as they are; they weigh nothing.
    """
    tensors = {
        f"average.{name}": tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in model.network.state_dict().items()
    }
    write_snapshot(path, tensors, model.recipe, model.progress)


def _no_such(what: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"no {what} {name!r}{meant}; there are {', '.join(known)}"


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``network`` with weights read from ``path``; UserError where they do not fit."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its weights do not fit its recipe ({reason})") from None
