"""`Model`: a trained model. After training, only this class calls the network.

Sampling, metrics, exploration and pages all use it. It knows what its family can do (conditions, styles,
encoding) and raises an error that names what the family cannot do.
"""

import copy
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .abilities import (
    DrawsBySteps,
    DrawsByTokens,
    Encodes,
    Guided,
    HasDensity,
    HasFirstFeatures,
    HasPosterior,
    HasStyles,
    Truncates,
)
from .critic import Critic, build
from .errors import UserError
from .families import MODELS, Row, able, build_model, require
from .hardware import best_device
from .hub import WEIGHTS, download, is_address
from .listing import snapshots
from .models.flow import in_range
from .recipe import Recipe
from .settings import NOISE, SAMPLER, Noises, Setting, Settings
from .snapshot import load_weights, newest_snapshot, packed, read_snapshot, write_snapshot

SHIPPED = Path(__file__).parent / "assets" / "style-getchu-64.safetensors"
FAST_64 = SHIPPED.with_name("fast-getchu-64.safetensors")
# Models that ship with the package, by the names that commands take.
SHIPPED_MODELS = {"shipped": SHIPPED, "style-64": SHIPPED, "fast-64": FAST_64}
PLAIN = Settings()
# Where a snapshot of `vae-gan` has its encoder, and the fixed projections that it looks through; with
# conditions, the discriminator stands within another network.
ENCODER_PARTS = (
    "networks.reconstruction.encoder.",
    "networks.discriminator.projection.",
    "networks.discriminator.network.projection.",
)
CRITIC_PART = "critic."


@dataclass(frozen=True)
class About:
    """Which model drew a picture.

    Attributes:
        recipe: the name of its recipe.
        images_seen: how many images it was trained on, repetitions counted.
        snapshot_hash: SHA-256 of its snapshot file.
    """

    recipe: str
    images_seen: int
    snapshot_hash: str

    def line(self, *more: str) -> str:
        """One line of small print for a picture.

        >>> About("fast", 12_000, "0123456789abcdef").line("psi 1")
        'fast  ·  12,000 images seen  ·  psi 1  ·  snapshot 0123456789ab'
        """
        parts = (self.recipe, f"{self.images_seen:,} images seen", *more)
        return "  ·  ".join((*parts, f"snapshot {self.snapshot_hash[:12]}"))


@dataclass(frozen=True)
class Model:
    """A trained model, ready to draw.

    Attributes:
        network: the network in evaluation mode. It has the abilities that its family declares.
        recipe: the recipe it was trained with.
        progress: what training recorded: images seen, minutes, the hash of the face set.
        path: the snapshot file; None: the model was not loaded from a file.
        snapshot_hash: SHA-256 of that file.
        dtype: type of latents and images; float64 is used only to measure exactness.
        critic: chooses among the latents of a seed, see `omokage.critic`; None: it has none.
    """

    network: nn.Module
    recipe: Recipe
    progress: Mapping[str, Any]
    path: Path | None
    snapshot_hash: str
    dtype: torch.dtype = torch.float32
    critic: Critic | None = None

    @property
    def family(self) -> Row:
        """The entry of its family in `MODELS`: abilities and settings."""
        return MODELS[self.recipe.model["name"]]

    @property
    def about(self) -> About:
        """The record of this model for the pictures that it draws."""
        return About(self.recipe.name, self.images_seen, self.snapshot_hash)

    @property
    def conditions(self) -> dict[str, list[str]]:
        """The values of each condition that it was trained with; empty: no conditions."""
        return self.recipe.conditions

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings that it can be sampled with; some need conditions, or a critic."""
        has = {"guidance": bool(self.conditions), "critic": self.critic is not None}
        return tuple(each for each in self.family.settings if has.get(each.name, True))

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
        """The device of the weights."""
        return next(self.network.parameters()).device

    @property
    def layers(self) -> int:
        """Number of styles of an image; UserError for a family without styles."""
        self.require(HasStyles)
        return self.network.layers  # type: ignore[return-value]

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """Height and width of the features of each layer; UserError for a family without styles."""
        self.require(HasStyles)
        return self.network.layer_sizes  # type: ignore[return-value]

    def can(self, ability: type) -> bool:
        """Whether its family has an ability of `omokage.abilities`."""
        return self.family.can(ability)

    def require(self, ability: type) -> None:
        """UserError unless its family has the ability; the error says what to use instead."""
        require(self.recipe.model["name"], ability)

    def check(self, settings: Settings) -> Settings:
        """Return the settings if this model can be sampled with them.

        Raises:
            UserError: a setting that its family does not have, a value out of range, or a condition or value
                that it was not trained with. The error names the nearest valid one and all valid ones.
        """
        name = self.recipe.model["name"]
        for psi in settings.psis:
            if psi < 0 and not self.can(HasStyles):
                raise UserError(
                    f"--psi {psi:g}: {name} has no styles, so 0 to 2 is allowed; psi below 0 works with "
                    f"{able(HasStyles)}"
                )
            setting = self.family.setting("psi")
            if setting is not None:
                setting.check(psi)
        for given, value in settings.conditions.items():
            if not self.conditions:
                raise UserError(self._without_conditions(given, f"condition={given}"))
            if given not in self.conditions:
                raise UserError(_no_such("condition", given, list(self.conditions)))
            if value not in self.conditions[given]:
                raise UserError(_no_such(given, value, self.conditions[given]))
        if settings.guidance:
            self.require(Guided)
            if not self.conditions:
                raise UserError(self._without_conditions("guidance", "condition=hair"))
        if settings.jacobi:
            self.require(DrawsByTokens)
        if settings.sampler_steps or settings.sampler != SAMPLER.default:
            self.require(DrawsBySteps)
        if settings.noise != "constant" or settings.layers:
            self.require(HasStyles)
            if settings.layers > self.layers:
                raise UserError(f"--layers {settings.layers}: {self.path or name} has {self.layers}")
        if settings.critic != 1:
            self.require(HasFirstFeatures)
            if self.critic is None:
                raise UserError(
                    f"--critic {settings.critic:g}: {self.path or name} has no critic; omokage critic RUN "
                    "--data faces/ trains one"
                )
        self._check_ranges(settings)
        return settings

    def _check_ranges(self, settings: Settings) -> None:
        for setting in self.settings:
            value = getattr(settings, setting.name)
            if setting.name != "psi" and isinstance(value, str | int | float):
                setting.check(value)
        if not isinstance(settings.noise, str):  # one for each layer
            if len(settings.noise) != self.layers:
                raise UserError(f"noise: {len(settings.noise)} values for {self.layers} layers")
            for one in settings.noise:
                NOISE.check(one)

    def _without_conditions(self, what: str, with_: str) -> str:
        return (
            f"{what}: {self.path} was trained without conditions; omokage train RECIPE {with_} ... trains "
            "with them"
        )

    def values(self, settings: Settings = PLAIN) -> list[int | None]:
        """For each condition the number of the value that all images have; None: drawn at random."""
        given = settings.conditions
        return [
            known.index(given[name]) if name in given else None for name, known in self.conditions.items()
        ]

    def double(self) -> "Model":
        """The same model in float64, to measure how exact it is."""
        return replace(self, network=copy.deepcopy(self.network).double(), dtype=torch.float64)

    @torch.no_grad()
    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """Latents (B, *latent_shape) to images (B, 3 or 1, H, W) in [-1, 1]; values not finite become NaN.

        psi below 1 gives more typical faces and less variety. It is the family's own truncation if it has
        one; otherwise the latents are multiplied by psi (similar to Brock et al. 2018, section 3.1).
        """
        return self._decode(z, settings)

    def _decode(self, z: Tensor, settings: Settings) -> Tensor:
        settings.of(len(z))
        z = z.to(self.device, self.dtype)
        if self.can(HasStyles) and (
            settings.noise != "constant" or settings.layers or len(settings.psis) > 1
        ):
            return self._synthesis(self._mapping(z, settings), settings.noise)
        how: dict[str, Any] = {"sampler": "jacobi", "iterations": settings.jacobi} if settings.jacobi else {}
        if self.can(DrawsBySteps):
            how = {"sampler": settings.sampler, "steps": settings.sampler_steps}
        decode: Any = self.network.decode
        if self.conditions:
            how |= {"guidance": settings.guidance} if settings.guidance else {}
            values = self.values(settings)
            images = _by_psi(lambda psi: decode(z, psi, values, **how), settings)
        elif self.can(Truncates):
            images = _by_psi(lambda psi: decode(z, psi), settings)
        else:
            images = decode(z * _factors(settings.psi, z), **how)
        return in_range(images.to(self.dtype))

    @torch.no_grad()
    def mapping(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """Latents (B, *latent_shape) to styles w (B, layers, width); psi moves them towards the average.

        Raises:
            UserError: the family has no styles.
        """
        return self._mapping(z, settings)

    def _mapping(self, z: Tensor, settings: Settings) -> Tensor:
        self.require(HasStyles)
        settings.of(len(z))
        z = z.to(self.device, self.dtype)
        mapping: Any = self.network.mapping
        given = [self.values(settings)] if self.conditions else []
        w = _by_psi(lambda psi: mapping(z, psi, *given), settings)
        if settings.layers:
            w = torch.cat([w[:, : settings.layers], mapping(z, 1.0, *given)[:, settings.layers :]], 1)
        return w.to(self.dtype)

    @torch.no_grad()
    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """Styles w (B, layers, width) to images (B, 3 or 1, H, W) in [-1, 1].

        Raises:
            UserError: the family has no styles.
        """
        return self._synthesis(w, noise)

    def _synthesis(self, w: Tensor, noise: Noises) -> Tensor:
        self.require(HasStyles)
        synthesis: Any = self.network.synthesis
        return in_range(synthesis(w.to(self.device, self.dtype), noise).to(self.dtype))

    @torch.no_grad()
    def judge(self, z: Tensor) -> Tensor:
        """Latents (B, *latent_shape) to the critic's logits (B,): the higher, the more like the faces.

        Raises:
            UserError: the family has no features for a critic.
            ValueError: the model has no critic.
        """
        if self.critic is None:
            raise ValueError("this model has no critic")
        return self.critic(self.first_features(z))

    @torch.no_grad()
    def first_features(self, z: Tensor) -> Tensor:
        """Latents (B, *latent_shape) to the features (B, F) that a critic sees; without truncation.

        Raises:
            UserError: the family has none, or the model has conditions.
        """
        self.require(HasFirstFeatures)
        if self.conditions:
            raise UserError(f"{self.recipe.name} has conditions; a critic works only for models without them")
        first_features: Any = self.network.first_features
        return first_features(z.to(self.device, self.dtype)).float()

    @torch.no_grad()
    def encode(self, images: Tensor, settings: Settings = PLAIN) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, *latent_shape).

        Raises:
            UserError: the family cannot encode.
        """
        self.require(Encodes)
        encode: Any = self.network.encode
        given = [self.values(settings)] if self.conditions else []
        return encode(images.to(self.device, self.dtype), *given).to(self.dtype)

    @torch.no_grad()
    def inverse(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """Latents (B, *latent_shape) from `encode` to the images (B, 3, H, W) they came from, in [-1, 1].

        This is as exact as the family allows. A denoiser, and a TarFlow trained with noise, removes all noise
        in `decode`, but not here, because an encoded picture has no such noise.

        Raises:
            UserError: the family cannot encode.
        """
        self.require(Encodes)
        z = z.to(self.device, self.dtype)
        leads = self.can(HasDensity) or self.can(DrawsBySteps)
        lead: Any = self.network.inverse if leads else self.network.decode
        given: dict[str, Any] = {"given": self.values(settings)} if self.conditions else {}
        images = lead(z, **given)
        return in_range(images)

    @torch.no_grad()
    def spread(self, images: Tensor) -> Tensor:
        """Standard deviations (B, latent) of the latents that a VAE's encoder allows for images (B, 3, H, W).

        Their means are the first entries of `encode`.

        Raises:
            UserError: the family is no variational autoencoder.
        """
        self.require(HasPosterior)
        posterior: Any = self.network.posterior
        return (posterior(images.to(self.device, self.dtype))[1] / 2).exp()

    @torch.no_grad()
    def log_prob(self, images: Tensor) -> Tensor:
        """Log-density (B,) in nats of images (B, 3, H, W) in [-1, 1].

        A flow with conditions gives the density without conditions.

        Raises:
            UserError: the family has no likelihood.
        """
        self.require(HasDensity)
        log_prob: Any = self.network.log_prob
        return log_prob(images.to(self.device, self.dtype))


@dataclass(frozen=True)
class Differentiable:
    """A model whose images have gradients with respect to latents or styles; its weights get none.

    `Model` itself draws without gradients, which takes less memory. Images that are the same in both are
    drawn by the same code.

    >>> model = load_model("shipped", "cpu")
    >>> z = torch.zeros(1, *model.latent_shape, requires_grad=True)
    >>> Differentiable(model).decode(z).mean().backward()
    >>> bool(z.grad.abs().sum() > 0)
    True
    """

    model: Model

    @torch.enable_grad()
    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """As `Model.decode`."""
        return self.model._decode(z, settings)

    @torch.enable_grad()
    def mapping(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """As `Model.mapping`."""
        return self.model._mapping(z, settings)

    @torch.enable_grad()
    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """As `Model.synthesis`."""
        return self.model._synthesis(w, noise)


def _by_psi(images: Callable[[float], Tensor], settings: Settings) -> Tensor:
    """Images of a batch whose rows have different psi.

    ``images`` is called once for each psi, always with the whole batch. So a row is bit for bit the same as
    in a batch with a single psi.
    """
    first, *others = settings.psis
    found = images(first)
    for psi in others:
        rows = torch.tensor([own == psi for own in settings.psi], device=found.device)  # type: ignore[union-attr]
        found = torch.where(rows.view(-1, *[1] * (found.dim() - 1)), images(psi), found)
    return found


def _factors(psi: float | tuple[float, ...], z: Tensor) -> float | Tensor:
    """psi as a number or tensor that latents can be multiplied by."""
    if not isinstance(psi, tuple):
        return psi
    return torch.tensor(psi, dtype=z.dtype, device=z.device).view(-1, *[1] * (z.dim() - 1))


def load_model(source: str | Path | None = None, device: str | torch.device | None = None) -> Model:
    """Load a model with averaged weights from a run's newest snapshot, a snapshot file, or the package.
    ``source``: see `snapshot_file`. ``device`` None: the fastest one available.

    Raises:
        UserError: there is no such file, it is damaged, or its weights do not fit its recipe.
    """
    path = snapshot_file(source)
    tensors, recipe, progress = read_snapshot(path, "average.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network = build_model(recipe.model, recipe.conditions)
    load_weights(
        network,
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()},
        path,
    )
    network = network.eval().requires_grad_(False).to(device or best_device())
    critic = _critic(path, digest)
    if critic is not None:
        critic = critic.to(device or best_device())
    return Model(network, recipe, progress, path, digest, critic=critic)


def _critic(path: Path, digest: str) -> Critic | None:
    """The critic in a snapshot, or the one that was trained for it and lies beside it; None: there is none.

    Raises:
        UserError: it is damaged.
    """
    tensors, _, _ = read_snapshot(path, CRITIC_PART)
    beside = critic_file(path)
    if not tensors and beside.is_file():
        tensors, _, progress = read_snapshot(beside, CRITIC_PART)
        if progress.get("snapshot") != digest:  # of an earlier state of the run
            return None
        path = beside
    try:
        return build(tensors) if tensors else None
    except ValueError as error:
        raise UserError(f"{path}: {error}; train it again with omokage critic") from None


def critic_file(snapshot: Path) -> Path:
    """Where the critic of a snapshot lies that has none in itself.

    >>> critic_file(Path("runs/x/snapshot-000000005824.safetensors")).name
    'critic-of-snapshot-000000005824.safetensors'
    """
    return snapshot.with_name(f"critic-of-{snapshot.name}")


def snapshot_file(source: str | Path | None = None) -> Path:
    """The snapshot file that ``source`` names.

    A run folder: its newest snapshot. A file: that file. None or "shipped": the model that ships with the
    package. `SHIPPED_MODELS` has the names of all models that ship; if a file or folder has such a name, that
    one is taken. A folder of `omokage publish`: its weights. "hf://owner/name@revision": such a folder on a
    hub, see `omokage.hub`.

    Raises:
        UserError: there is no such file.
    """
    if is_address(source):
        return download(source, lambda line: print(line, file=sys.stderr))
    path = SHIPPED if source is None else Path(source)
    if (path / WEIGHTS).is_file() and not snapshots(path):
        return path / WEIGHTS
    if not path.exists():
        path = SHIPPED_MODELS.get(str(source), path)
    if path.is_dir() or not path.suffix:
        path = newest_snapshot(path)
    if not path.is_file():
        missing = path in SHIPPED_MODELS.values()
        hint = "the installation is incomplete" if missing else "give a run folder or a snapshot file"
        raise UserError(f"{path}: no such file; {hint}")
    return path


def write_small(model: Model, path: Path) -> None:
    """Write only what sampling needs, with weights in half precision: a tenth of a training snapshot's size.

    If the model's own file has an encoder (`ENCODER_PARTS`), it is written too, in 8-bit numbers
    (`omokage.snapshot.packed`), so that pictures can be inverted with it; and so is its critic.
    One-dimensional tensors (batch-norm statistics, biases) keep their precision, because they are small.
    """
    tensors = {f"average.{name}": tensor for name, tensor in model.network.state_dict().items()}
    if model.critic is not None:
        tensors |= {f"{CRITIC_PART}{name}": tensor for name, tensor in model.critic.state_dict().items()}
    small = {
        name: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in tensors.items()
    }
    if model.path is not None and read_snapshot(model.path, ENCODER_PARTS[0])[0]:
        for prefix in ENCODER_PARTS:
            for name, tensor in read_snapshot(model.path, prefix)[0].items():
                large = tensor.is_floating_point() and tensor.dim() > 1
                small |= packed(f"{prefix}{name}", tensor) if large else {f"{prefix}{name}": tensor}
    write_snapshot(path, small, model.recipe, model.progress)


def _no_such(what: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"no {what} {name!r}{meant}; there are {', '.join(known)}"
