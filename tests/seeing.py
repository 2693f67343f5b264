"""A model whose faces are plain patches of light, linear in its latent, and a network that reads them."""

import hashlib

import numpy as np
import torch
from standins import StandIn

from omokage.attributes import ATTRIBUTES, Estimates
from omokage.model import About
from omokage.settings import Settings

PLAIN = Settings()
READ = ("glasses", "mouth", "length", "skin")
# Rows: how each patch depends on the latent. They are not orthogonal, as attributes of faces are not.
MIXED = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.6, 0.8, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.5, 0.7, 0.5, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.6, 0.8, 0.0],
    ]
)


class Patches(StandIn):
    """16 px, four patches; the light of each is a linear function of the latent."""

    about = About("patches", 12_345, hashlib.sha256(b"patches").hexdigest())
    family = "dcgan"
    latent_shape = (6,)
    resolution = (16, 16)
    snapshot_hash = about.snapshot_hash
    network = torch.nn.Module()

    def decode(self, z, settings=PLAIN):
        light = (z * self.factors(settings, z)) @ MIXED.T / 4
        rows = light.clamp(-1, 1).view(-1, 1, 2, 2)
        return torch.nn.functional.interpolate(rows, size=(16, 16)).expand(-1, 3, -1, -1).contiguous()


class StyledPatches(Patches):
    """The same with three styles, of which only the second acts."""

    family = "stylegan"
    layers = 3
    layer_sizes = ((4, 4), (8, 8), (16, 16))

    def mapping(self, z, settings=PLAIN):
        return (self.factors(settings, z) * z)[:, None].expand(-1, 3, -1)

    def synthesis(self, w, noise="constant"):
        return super().decode(w[:, 1])

    def decode(self, z, settings=PLAIN):
        return self.synthesis(self.mapping(z, settings))


class Reader:
    """Reads the patches as four attributes of two values; the others look the same in every face."""

    file_hash = "reader"
    offered = trusted = READ

    def __init__(self, sharp: float = 40.0) -> None:
        self.sharp, self.calls = sharp, 0

    def why_not(self, name):
        return f"{name}: this reader does not see it"

    def seen(self, images):
        self.calls += len(images)
        light = images.astype(np.float64) / 127.5 - 1
        values = [light[:, :8, :8], light[:, :8, 8:], light[:, 8:, :8], light[:, 8:, 8:]]
        found = {}
        for name, about in ATTRIBUTES.items():
            if name in READ:
                right = 1 / (1 + np.exp(-self.sharp * values[READ.index(name)].mean((1, 2, 3))))
                found[name] = np.stack([1 - right, right], 1).astype(np.float32)
            else:
                found[name] = np.tile(np.eye(len(about.values), dtype=np.float32)[0], (len(images), 1))
        faces = light.reshape(len(images), 64, -1).astype(np.float32)
        return Estimates(found), faces

    def __call__(self, images):
        return self.seen(images)[0]
