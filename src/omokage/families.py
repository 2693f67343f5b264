"""The tables of models, discriminators and objectives that a recipe may name.

A row says where the code is, and for a model its abilities and sampling settings. A new model needs one file
in ``models/``, one row here and one recipe.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .abilities import (
    Decodes,
    DrawsBySteps,
    DrawsByTokens,
    Encodes,
    Exact,
    Guided,
    HasDensity,
    HasFirstFeatures,
    HasPosterior,
    HasStyles,
    Maps,
    SeesMaps,
    TakesConditions,
    Truncates,
)
from .errors import UserError
from .settings import (
    CRITIC,
    GUIDANCE,
    JACOBI,
    LAYERS,
    NOISE,
    SAMPLER,
    SHRINKING,
    STEPS,
    TEMPERATURE,
    TRUNCATION,
    Setting,
)


@dataclass(frozen=True)
class Row:
    """A class or function given by its location, and imported only when needed.

    Attributes:
        place: ``module:name`` within this package.
        abilities: the protocols of `omokage.abilities` that it implements.
        settings: for a model, the settings it can be sampled with. Conditions are not listed here; they
            follow from the recipe.
    """

    place: str
    abilities: tuple[type, ...] = ()
    settings: tuple[Setting, ...] = ()

    def can(self, ability: type) -> bool:
        """Whether it implements that protocol.

        >>> MODELS["glow"].can(HasDensity), MODELS["dcgan"].can(HasDensity)
        (True, False)
        """
        return ability in self.abilities

    def setting(self, name: str) -> Setting | None:
        """The setting with that name; None: there is none."""
        return next((setting for setting in self.settings if setting.name == name), None)

    def load(self) -> Callable[..., Any]:
        """The class or function itself."""
        module, name = self.place.split(":")
        return getattr(import_module(f".{module}", __package__), name)

    def build(self, settings: dict[str, Any]) -> Any:
        """Call it with a recipe's table."""
        return self.load()(**{key: value for key, value in settings.items() if key != "name"})


def _flow(place: str, *more: type, settings: tuple[Setting, ...] = ()) -> Row:
    return Row(place, (Decodes, Encodes, HasDensity, Exact, *more), (TEMPERATURE, *settings))


def _denoiser(place: str, *more: type) -> Row:
    abilities = (Decodes, Encodes, TakesConditions, Guided, DrawsBySteps, *more)
    return Row(place, abilities, (SHRINKING, SAMPLER, STEPS, GUIDANCE))


def _plain(place: str, *more: type, psi: Setting = SHRINKING, settings: tuple[Setting, ...] = ()) -> Row:
    return Row(place, (Decodes, *more), (psi, *settings))


def _styled(place: str, *more: type) -> Row:
    return Row(
        place, (Decodes, Truncates, HasStyles, HasFirstFeatures, *more), (TRUNCATION, NOISE, LAYERS, CRITIC)
    )


# Models: latents to images.
MODELS = {
    "dcgan": _plain("models.dcgan:Generator", TakesConditions),
    "dense-dcgan": _plain("models.dense_dcgan:Generator", TakesConditions),
    "vae": _plain("models.vae:VariationalAutoencoder", Encodes, HasPosterior, TakesConditions),
    "autoencoder": _plain("models.autoencoder:Autoencoder", Truncates, Encodes, Maps),
    "illustration": _plain("models.illustration:Generator", TakesConditions),
    "sagan": _plain("models.sagan:Generator", TakesConditions),
    "skipgan": _plain(
        "models.skipgan:Generator", Truncates, HasFirstFeatures, TakesConditions, settings=(CRITIC,)
    ),
    "progan": _plain("models.progan:Generator", Truncates),
    "r3gan": _plain("models.r3gan:Generator", TakesConditions),
    "stylegan": _styled("models.stylegan:Generator"),
    "stylegan2": _styled("models.stylegan2:Generator", TakesConditions),
    "realnvp": _flow("models.realnvp:RealNVP"),
    "glow": _flow("models.glow:Glow"),
    "tarflow": _flow(
        "models.tarflow:TarFlow", TakesConditions, Guided, DrawsByTokens, settings=(GUIDANCE, JACOBI)
    ),
    "pixel-transformer": _denoiser("models.pixel_transformer:PixelTransformer", HasDensity),
    "unet": _denoiser("models.unet:UNet", HasDensity),
    "latent-transformer": _denoiser("models.latent_transformer:LatentTransformer", SeesMaps),
}

# Discriminators: images, or frozen features of images (method `features`), to logits.
DISCRIMINATORS = {
    "dcgan": Row("models.dcgan:Discriminator", (TakesConditions,)),
    "dense-dcgan": Row("models.dense_dcgan:Discriminator", (TakesConditions,)),
    "illustration": Row("models.illustration:Discriminator", (TakesConditions,)),
    "sagan": Row("models.sagan:Discriminator", (TakesConditions,)),
    "progan": Row("models.progan:Discriminator"),
    "r3gan": Row("models.r3gan:Discriminator", (TakesConditions,)),
    "stylegan2": Row("models.stylegan2:Discriminator", (TakesConditions,)),
    "projected": Row("models.projected:ProjectedDiscriminator", (TakesConditions,)),
}

# Objectives: networks to the phases of a training step.
OBJECTIVES = {
    "elbo": Row("objectives.elbo:elbo"),
    "gan": Row("objectives.gan:gan"),
    "r3gan": Row("objectives.r3gan:r3gan"),
    "vae-gan": Row("objectives.vae_gan:vae_gan"),
    "stylegan2": Row("objectives.stylegan2:stylegan2"),
    "likelihood": Row("objectives.likelihood:likelihood"),
    "autoencoder": Row("objectives.autoencoder:autoencoder"),
    "flow-matching": Row("objectives.denoising:flow_matching"),
    "edm": Row("objectives.denoising:edm"),
    "progressive": Row("objectives.progressive:progressive"),
}

# Error messages for a missing ability: what the family lacks, and what to use instead.
INSTEAD: dict[type, tuple[str, str]] = {
    Encodes: ("cannot encode images", "omokage walk goes between faces that it draws"),
    HasDensity: ("has no likelihood", "omokage evaluate measures samples"),
    HasStyles: ("has no styles", "use omokage truncate, traverse, walk or figure uncurated"),
    HasPosterior: ("is no variational autoencoder", "omokage explain truncation works"),
    Exact: ("cannot undo its encoding exactly", "omokage explore reconstruct says how near it comes"),
    DrawsBySteps: ("draws in one pass", "leave --sampler and --sampler-steps out"),
    DrawsByTokens: ("draws whole images at once", "leave Jacobi iterations out"),
    HasFirstFeatures: ("has no features for a critic", "--psi below 1 gives more typical faces"),
    Guided: ("has no guidance", "leave it out; --psi below 1 gives more typical faces"),
}


def require(name: str, ability: type) -> None:
    """UserError unless the model family ``name`` has the ability; the error says what to use instead."""
    if not MODELS[name].can(ability):
        lack, instead = INSTEAD[ability]
        raise UserError(f"{name} {lack}; these families can: {able(ability)}; with {name}, {instead}")


def able(ability: type) -> str:
    """The names of the model families with an ability.

    >>> able(HasStyles)
    'stylegan, stylegan2'
    """
    return ", ".join(sorted(name for name, row in MODELS.items() if row.can(ability)))


def build_model(settings: dict[str, Any], conditions: Mapping[str, Sequence[str]] | None = None) -> Any:
    """Build the model of a recipe's table, with the values of its conditions if it has any."""
    row = MODELS[settings["name"]]
    if not conditions:
        return row.build(settings)
    from .models.conditional import ConditionalFlow, ConditionalGenerator

    inner = row.build({**settings, "joined": sum(map(len, conditions.values()))})
    if row.can(Guided):
        return ConditionalFlow(inner, conditions)
    return ConditionalGenerator(inner, conditions, row.can(Truncates))


def build_discriminator(
    settings: dict[str, Any], conditions: Mapping[str, Sequence[str]] | None = None
) -> Any:
    """Build the discriminator of a recipe's table, with the values of its conditions if it has any."""
    row = DISCRIMINATORS[settings["name"]]
    if not conditions:
        return row.build(settings)
    from .models.conditional import ConditionalDiscriminator

    sizes = [len(values) for values in conditions.values()]
    return ConditionalDiscriminator(row.build({**settings, "outputs": 1 + sum(sizes)}), sizes)
