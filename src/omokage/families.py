"""THE table: what a recipe may name, where it is, and what it can do.

To add a model: one file in ``models/``, one row here, one recipe.
"""

from collections.abc import Callable, Mapping, Sequence
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
            ``encode``: ``encode(images)`` to latents whose ``decode`` is near the images. ``condition``: it
            has room for conditions (``joined`` entries of a latent, or of a flow's label, ``outputs`` of a
            discriminator). ``guidance``: with conditions it can go beyond them. ``jacobi``: it draws token by
            token, or by Jacobi iterations.
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
    "dcgan": Row("models.dcgan:Generator", frozenset({"condition"})),
    "dense-dcgan": Row("models.dense_dcgan:Generator", frozenset({"condition"})),
    "vae": Row("models.vae:VariationalAutoencoder", frozenset({"encode", "condition"})),
    "illustration": Row("models.illustration:Generator", frozenset({"condition"})),
    "sagan": Row("models.sagan:Generator", frozenset({"condition"})),
    "skipgan": Row("models.skipgan:Generator", frozenset({"psi", "condition"})),
    "progan": Row("models.progan:Generator", frozenset({"psi"})),
    "stylegan": Row("models.stylegan:Generator", frozenset({"psi", "style"})),
    "stylegan2": Row("models.stylegan2:Generator", frozenset({"psi", "style", "condition"})),
    "realnvp": Row("models.realnvp:RealNVP", frozenset({"encode", "log_prob"})),
    "glow": Row("models.glow:Glow", frozenset({"encode", "log_prob"})),
    "tarflow": Row(
        "models.tarflow:TarFlow", frozenset({"encode", "log_prob", "condition", "guidance", "jacobi"})
    ),
}

# Images, or what their frozen method `features` makes of images, to logits.
DISCRIMINATORS = {
    "dcgan": Row("models.dcgan:Discriminator", frozenset({"condition"})),
    "dense-dcgan": Row("models.dense_dcgan:Discriminator", frozenset({"condition"})),
    "illustration": Row("models.illustration:Discriminator", frozenset({"condition"})),
    "sagan": Row("models.sagan:Discriminator", frozenset({"condition"})),
    "progan": Row("models.progan:Discriminator"),
    "stylegan2": Row("models.stylegan2:Discriminator", frozenset({"condition"})),
    "projected": Row("models.projected:ProjectedDiscriminator", frozenset({"condition"})),
}

# Networks to phases.
OBJECTIVES = {
    "elbo": Row("objectives.elbo:elbo"),
    "gan": Row("objectives.gan:gan"),
    "vae-gan": Row("objectives.vae_gan:vae_gan"),
    "stylegan2": Row("objectives.stylegan2:stylegan2"),
    "likelihood": Row("objectives.likelihood:likelihood"),
    "progressive": Row("objectives.progressive:progressive"),
}


def build_model(settings: dict[str, Any], conditions: Mapping[str, Sequence[str]] | None = None) -> Any:
    """The model of a recipe's table, with the values of its conditions if it has any."""
    row = MODELS[settings["name"]]
    if not conditions:
        return row.build(settings)
    from .models.conditional import ConditionalFlow, ConditionalGenerator

    inner = row.build({**settings, "joined": sum(map(len, conditions.values()))})
    if "log_prob" in row.can:
        return ConditionalFlow(inner, conditions)
    return ConditionalGenerator(inner, conditions, "psi" in row.can)


def build_discriminator(
    settings: dict[str, Any], conditions: Mapping[str, Sequence[str]] | None = None
) -> Any:
    """The discriminator of a recipe's table, likewise."""
    row = DISCRIMINATORS[settings["name"]]
    if not conditions:
        return row.build(settings)
    from .models.conditional import ConditionalDiscriminator

    sizes = [len(values) for values in conditions.values()]
    return ConditionalDiscriminator(row.build({**settings, "outputs": 1 + sum(sizes)}), sizes)
