"""Models that draw by rule, so that every face is known beforehand, and small ones of real families."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from small import small_recipe
from torch import Tensor, nn

from omokage.abilities import HasDensity
from omokage.families import MODELS, build_model, require
from omokage.model import PLAIN, About, Model
from omokage.recipe import load_recipe
from omokage.sampling import latents
from omokage.settings import Noises, Settings


class StandIn:
    """What sampling, exploration and pages ask of a model beside drawing."""

    about: About
    family: str
    images_seen = 12_345

    @property
    def recipe(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.about.recipe, model={"name": self.family})

    def can(self, ability: type) -> bool:
        return MODELS[self.family].can(ability)

    def require(self, ability: type) -> None:
        require(self.family, ability)

    def factors(self, settings: Settings, z: Tensor) -> Tensor:
        """psi of each row, to be multiplied with latents."""
        psi = settings.psi if isinstance(settings.psi, tuple) else (settings.psi,)
        return torch.tensor(psi).view(-1, *[1] * (z.dim() - 1))


class DiskModel(StandIn):
    """A disk whose colour and place follow the latent."""

    about = About("disk", 12_345, hashlib.sha256(b"disk").hexdigest())
    family = "dcgan"
    latent_shape = (6,)

    def __init__(self, resolution: tuple[int, int] = (32, 32)) -> None:
        self.resolution = resolution

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        height, width = self.resolution
        z = z * self.factors(settings, z)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        distance = torch.hypot(x - z[:, 3, None, None] / 4, y - z[:, 4, None, None] / 4)
        inside = torch.sigmoid((0.7 - distance) * 10)[:, None]
        colour, background = torch.tanh(z[:, :3, None, None]), torch.tanh(z[:, 5, None, None, None])
        return inside * colour + (1 - inside) * background


class Faulty(StandIn):
    """Breaks the images of some seeds, as a flow does whose numbers overflow."""

    about = About("faulty", 1, "0" * 64)

    def __init__(self, model, seeds) -> None:
        self.model, self.family = model, model.family
        self.latent_shape, self.resolution = model.latent_shape, model.resolution
        self.faults = latents(seeds, model.latent_shape)

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        images = self.model.decode(z, settings).clone()
        hit = (z[:, None] == self.faults).flatten(2).all(2).any(1)
        images[hit, :, 1, 2] = float("nan")
        return images


class StyledDisks(StandIn):
    """Styles of ten layers, two a size: coarse ones place a disk, middle and fine ones colour it.

    Noise is a grain of its layer's size, on the left half alone.
    """

    about = About("disks", 12_345, hashlib.sha256(b"disks").hexdigest())
    family = "stylegan"
    latent_shape = (3,)
    layers = 10

    def __init__(self, resolution: tuple[int, int] = (64, 64)) -> None:
        self.resolution = resolution
        self.layer_sizes = [tuple(side >> (4 - i // 2) for side in resolution) for i in range(10)]
        grain = torch.Generator().manual_seed(0)
        self.grain = [torch.rand(*size, generator=grain) - 0.5 for size in self.layer_sizes]

    def mapping(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        z = z[:, None].expand(-1, self.layers, -1)
        return self.factors(settings, z) * z

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        kinds = [noise] * self.layers if isinstance(noise, str) else noise
        height, width = self.resolution
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        place = torch.tanh(w[:, 0, :2, None, None]) / 2
        disk = torch.sigmoid((0.4 - torch.hypot(x - place[:, 0], y - place[:, 1])) * 30)[:, None]
        images = disk * torch.tanh(w[:, 4, :, None, None]) + (1 - disk) * torch.tanh(w[:, 8, :, None, None])
        for kind, grain in zip(kinds, self.grain, strict=True):
            if kind != "none":
                drawn = grain if kind == "constant" else torch.rand(len(w), *grain.shape) - 0.5
                drawn = drawn.expand(len(w), *grain.shape)[:, None]
                images = images + 0.2 * torch.nn.functional.interpolate(drawn, self.resolution) * (x < 0)
        return images.clamp(-1, 1)

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        return self.synthesis(self.mapping(z, settings), settings.noise)


class PlainDisks(StyledDisks):
    """The same pictures of a family without styles."""

    about = About("plain", 12_345, hashlib.sha256(b"plain").hexdigest())
    family = "dcgan"


class BrokenStyles(StyledDisks):
    """Breaks every face whose coarsest style is that of one of some seeds."""

    def __init__(self, seeds) -> None:
        super().__init__()
        self.faults = latents(seeds, self.latent_shape)

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        images = super().synthesis(w, noise).clone()
        hit = (w[:, 0, None] == self.faults).all(2).any(1)
        images[hit, :, 1, 2] = float("nan")
        return images


SMALL_FAMILIES = {
    "glow": ["glow-32", "model.size=16", "model.levels=2", "model.steps=2", "model.hidden=8"],
    "realnvp": ["realnvp-32", "model.size=16", "model.scales=2", "model.hidden=4"],
    "tarflow": ["tarflow-32", "model.size=16", "model.patch=4", "model.width=16", "model.heads=1"],
    "noisy tarflow": ["tarflow-32", "model.size=16", "model.patch=4", "model.width=16", "model.noise=0.05"],
    "vae": ["yao2021-vae", "model.channels=[4,4,4,4]"],
    "dcgan": ["dcgan", "model.channels=[4,4,4,4]"],
}


def family_model(name: str) -> Model:
    """A small model of a family, off its start, as from a snapshot."""
    recipe = load_recipe(SMALL_FAMILIES[name][0], SMALL_FAMILIES[name][1:])
    torch.manual_seed(0)
    network = build_model(recipe.model)
    with torch.no_grad():
        if MODELS[recipe.model["name"]].can(HasDensity):
            network.log_prob(torch.rand(8, 3, *network.resolution) * 2 - 1)
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    network = network.eval().requires_grad_(False)
    return Model(network, recipe, {"images": 96, "face_set": "e" * 64}, None, "0" * 64)


# Sizes that recorded faces were drawn with, so they stay. A family that is not here gets those of `small`.
SMALLEST = {
    "dcgan": {"channels": [8, 8], "latent": 8},
    "dense-dcgan": {"channels": [8, 8], "strides": [2, 2], "first_size": 4, "latent": 8},
    "vae": {"channels": [4, 4, 4, 4], "latent": 8},  # always 64 px
    "illustration": {"channels": [8, 8], "dense": [16], "latent": 8},
    "sagan": {"channels": [8, 8, 8], "attention_at": 8, "latent": 8},
    "skipgan": {"channels": [8, 8, 8, 8], "latent": 8},
    "progan": {"resolution": [16, 16], "channels": [8, 8, 8], "latent": 8},
    "stylegan": {"resolution": [16, 16], "channels": [8, 8, 8], "latent": 8, "style": 8, "depth": 1},
    "stylegan2": {"resolution": [16, 16], "channels": [8, 8, 8], "latent": 8, "style": 8, "depth": 1},
    "r3gan": {"channels": [8, 8, 8], "blocks": 1, "group": 4, "latent": 8},
    "realnvp": {"size": 16, "scales": 2, "hidden": 4, "blocks": 1},
    "glow": {"size": 16, "levels": 2, "steps": 1, "hidden": 4},
    "tarflow": {"size": 16, "patch": 4, "width": 16, "heads": 2, "blocks": 2, "layers": 1},
    "pixel-transformer": {
        "size": 16, "width": 16, "heads": 2, "depth": 1, "steps": 3, "encoding_steps": 12, "lowest": 0.2
    },
    "unet": {
        "size": 16, "channels": [8, 8], "heads": 2, "attention_at": 8, "steps": 3, "encoding_steps": 12,
        "lowest": 0.02,
    },
    "autoencoder": {"size": 16, "latent": 4, "channels": [8, 8]},
    "latent-transformer": {
        "size": 16, "latent": 4, "channels": [8, 8], "width": 16, "heads": 2, "depth": 1, "steps": 3,
        "encoding_steps": 12, "lowest": 0.2,
    },
}  # fmt: skip
CONDITIONS = {"hair": ["blue", "red"], "eyes": ["blue", "green", "unknown"]}


def smallest(name: str) -> dict[str, Any]:
    """The settings of a family with which it is built and run in a moment."""
    derived = small_recipe(name).model
    return SMALLEST.get(name) or {key: value for key, value in derived.items() if key != "name"}


def small_model(name: str, conditions: dict[str, list[str]] | None = None) -> Model:
    """A model of a family that has learnt nothing, moved off its start, its statistics those of batches.

    Far enough that its faces differ.
    """
    torch.manual_seed(0)
    settings = {"name": name, **smallest(name)}
    network = build_model(settings, conditions)
    generator, far = torch.Generator().manual_seed(1), 0.6 if name == "vae" else 0.1
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(far * torch.randn(parameter.shape, generator=generator))
        if conditions:
            network.seen.copy_(torch.tensor([10.0, 20, 0, 30, 5, 35]))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = None  # the plain mean over all batches
        if MODELS[name].can(HasDensity):
            images = torch.rand(16, 3, *network.resolution, generator=generator) * 2 - 1
            network.log_prob(images)
        else:
            for z in latents(range(64), network.latent_shape).split(32):
                network(z, network.drawn(z[:, network.latent :])) if conditions else network(z)
    recipe = load_recipe("dcgan")
    recipe = replace(recipe, name=name, model=settings, conditions=conditions or {})
    network = network.eval().requires_grad_(False)
    return Model(network, recipe, {"images": 96}, None, "0" * 64)
