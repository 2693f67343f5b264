"""StyleGAN2's training: an adversarial loss, lazy R1 and path-length phases, adaptive augmentation."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..bounds import Count, NotNegative, Positive
from ..errors import UserError
from ..models.conditional import unconditioned
from .adaptive import AdaptiveAugmentation
from .adversarial import ADVERSARIAL_LOSSES
from .game import spread
from .path_length import PathLength, path_lengths
from .penalties import r1 as r1_penalty
from .phase import Loss, Phase, Step


def stylegan2(
    networks: nn.ModuleDict,
    *,
    loss: Literal["non-saturating", "least-squares", "wasserstein", "hinge"] = "non-saturating",
    r1: NotNegative = 10.0,  # gamma; R1, the squared gradient at real images, has half this weight; 0: none
    r1_every: Count = 16,  # R1 is computed once in this number of steps; its weight is multiplied by it
    path_length: NotNegative = 2.0,  # weight of the path-length penalty; 0: none
    path_length_every: Count = 4,  # the same for the path-length penalty
    path_length_share: Count = 2,  # it uses one in this many images of the batch
    ada_target: float = 0.0,  # ADA's target for the mean sign of the logits of real images; 0: no ADA
    ada_kimg: Positive = 500.0,  # thousands of images in which its probability can go from 0 to 1
    ada_every: Count = 4,  # steps between two updates of the probability
    redrawn: bool = False,  # draw images again for the generator's phase: slower, less memory
) -> list[Phase]:
    """The phases ``discriminator`` and ``generator``, and the lazy ``r1`` and ``path length``.

    Lazy phases (Karras et al. 2020, section 3.1) use the optimisers of the other two. The generator and the
    discriminator use the same generated images in a step, so the generator runs once, unless images are
    ``redrawn``. ADA's augmentation (Karras et al. 2020b, with target 0.6) comes after the recipe's own. R1 is
    computed at the images that the discriminator sees, including their augmentation.

    Raises:
        UserError: the model has no styles, there is no discriminator, or settings are impossible.
    """
    generator: Any = networks["generator"]
    if "discriminator" not in networks or hasattr(unconditioned(networks["discriminator"]), "features"):
        raise UserError(
            'objective.name: stylegan2 needs a [discriminator] that sees images, such as name = "stylegan2"'
        )
    if path_length and not hasattr(unconditioned(generator), "styles"):
        raise UserError("objective.path_length: this model has no styles; set it to 0, or take stylegan2")
    settings = {"r1_every": r1_every, "path_length_every": path_length_every, "ada_every": ada_every}
    for name, number in (settings | {"path_length_share": path_length_share}).items():
        if number < 1:
            raise UserError(f"objective.{name}: got {number}, must be at least 1")
    if not 0 <= ada_target < 1 or ada_kimg <= 0:
        raise UserError("objective: ada_target must be from 0 to below 1, and ada_kimg above 0")
    losses = ADVERSARIAL_LOSSES[loss]()
    discriminator: Any = networks["discriminator"]
    adaptive = None
    if ada_target:
        adaptive = networks["augmentation"] = AdaptiveAugmentation(ada_target, ada_kimg, ada_every)
    if path_length:
        networks["path_length"] = PathLength().to(next(generator.parameters()).device)

    def judged(images: Tensor, step: Step) -> Tensor:
        return discriminator(images, *step.given).float()

    def augmented(images: Tensor, step: Step) -> Tensor:
        images = step.augment(images)
        return images if adaptive is None else adaptive(images)

    def drawn(step: Step) -> Tensor:
        return step.once("drawn", lambda: generator(step.latents, *step.given))

    def generated(step: Step) -> Tensor:
        return step.once("generated", lambda: augmented(drawn(step), step))

    def shown(step: Step) -> Tensor:
        if adaptive is not None:
            adaptive.begin(step.images)
        return augmented(step.real, step)

    def discriminator_loss(step: Step) -> Loss:
        images = shown(step)
        if redrawn:
            with torch.no_grad():
                others = augmented(generator(step.latents, *step.given), step)
        else:
            others = generated(step).detach()
        real, fake = judged(images, step), judged(others, step)
        total = losses.discriminator(real, fake)
        told = {"loss/discriminator": total, "logits/real": real.mean(), "logits/generated": fake.mean()}
        if adaptive is not None:
            adaptive.observe(real)
            told |= {"augmentation/p": adaptive.p.clone(), "augmentation/sign": real.detach().sign().mean()}
        return total, told

    def generator_loss(step: Step) -> Loss:
        total = losses.generator(judged(generated(step), step))
        told = {"loss/generator": total}
        if len(step.real) > 1:
            told["variety"] = spread(drawn(step)) / spread(step.real).clamp_min(1e-6)
        return total, told

    def r1_loss(step: Step) -> Loss:
        images = shown(step)
        penalty = r1_penalty(lambda images: judged(images, step), images, images)
        return penalty * (r1 * r1_every), {"penalty/r1": penalty}

    def path_length_loss(step: Step) -> Loss:
        chosen = [part[::path_length_share] for part in (step.latents, *step.given)]
        w = generator.styles(*chosen)
        noise = torch.randn(len(w), generator.image_channels, *generator.resolution)
        lengths = path_lengths(lambda w: generator.synthesis(w, "random"), w, noise.to(w.device))
        penalty = networks["path_length"](lengths, step.images)
        told = {"penalty/path length": penalty, "path length": lengths.mean()}
        return penalty * (path_length * path_length_every), told

    def judge(step: Step) -> dict[str, Tensor]:
        return {"logits/held-out": judged(augmented(step.real, step), step).mean()}

    # R1 comes first: later, generated images must be kept in memory for the generator's phase.
    phases = [
        Phase(
            "discriminator",
            discriminator.parameters(),
            discriminator_loss,
            floor=losses.floor,
            judge=judge,
        ),
        Phase("generator", generator.parameters(), generator_loss),
    ]
    if r1:
        phases.insert(0, Phase("r1", discriminator.parameters(), r1_loss, r1_every, shares="discriminator"))
    if path_length:
        phases.append(
            Phase(
                "path length", generator.parameters(), path_length_loss, path_length_every, shares="generator"
            )
        )
    return phases
