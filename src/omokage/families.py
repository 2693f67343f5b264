"""THE table: what a recipe may name, where it is, and what it can do.

To add a model: one file in ``models/``, one row here, one recipe.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Row:
    """A callable by its place, imported when needed.

    Attributes:
        place: ``module:name`` below this package.
        can: what a model can do beyond ``latent_shape`` and ``decode(z)``. ``psi``: ``decode(z, psi)``;
            ``style``: ``mapping(z, psi) -> w`` (B, layers, width) and ``synthesis(w, noise)``, psi from -2;
            ``encode``: ``encode(images)`` to latents whose ``decode`` is near the images.
    """

    place: str
    can: frozenset[str] = frozenset()

    def load(self) -> Callable[..., Any]:
        """The class or function itself."""
        module, name = self.place.split(":")
        return getattr(import_module(f".{module}", __package__), name)

    def build(self, settings: dict[str, Any]) -> Any:
        """Call it with a recipe's table."""
        return self.load()(**{key: value for key, value in settings.items() if key != "name"})


# Latents to images: `latent_shape`, `resolution`, `decode(z) -> (B, C, H, W) in [-1, 1]`.
# Some also `encode(images) -> z`, `log_prob(images) -> (B,)`: nats, density of values in [-1, 1].
MODELS = {
    "dcgan": Row("models.dcgan:Generator"),
    "dense-dcgan": Row("models.dense_dcgan:Generator"),
    "vae": Row("models.vae:VariationalAutoencoder", frozenset({"encode"})),
    "illustration": Row("models.illustration:Generator"),
    "sagan": Row("models.sagan:Generator"),
    "skipgan": Row("models.skipgan:Generator", frozenset({"psi"})),
    "progan": Row("models.progan:Generator", frozenset({"psi"})),
    "stylegan": Row("models.stylegan:Generator", frozenset({"psi", "style"})),
    "stylegan2": Row("models.stylegan2:Generator", frozenset({"psi", "style", "condition"})),
    "realnvp": Row("models.realnvp:RealNVP", frozenset({"encode", "log_prob"})),
    "glow": Row("models.glow:Glow", frozenset({"encode", "log_prob"})),
    "tarflow": Row("models.tarflow:TarFlow", frozenset({"encode", "log_prob"})),
}

# Images, or what their frozen method `features` makes of images, to logits.
DISCRIMINATORS = {
    "dcgan": Row("models.dcgan:Discriminator"),
    "dense-dcgan": Row("models.dense_dcgan:Discriminator"),
    "illustration": Row("models.illustration:Discriminator"),
    "sagan": Row("models.sagan:Discriminator"),
    "progan": Row("models.progan:Discriminator"),
    "stylegan2": Row("models.stylegan2:Discriminator", frozenset({"condition"})),
    "projected": Row("models.projected:ProjectedDiscriminator"),
}

# Networks to phases.
OBJECTIVES = {
    "elbo": Row("objectives.elbo:elbo"),
    "gan": Row("objectives.gan:gan"),
    "stylegan2": Row("objectives.stylegan2:stylegan2"),
    "likelihood": Row("objectives.likelihood:likelihood"),
    "progressive": Row("objectives.progressive:progressive"),
}
