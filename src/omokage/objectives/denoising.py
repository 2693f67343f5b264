"""Flow matching and diffusion: both are weighted squared errors of a denoiser, and share all but the weights.

    error(clean, image) -> (B,) mean squared error of the denoised image, times the weight of its level

Noise of a random level is added to each image, and the denoiser must take it off.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..abilities import Denoises
from ..bounds import Positive, Share
from ..errors import UserError
from ..models.conditional import dropped, unconditioned
from .phase import Loss, Phase, Step

Weight = Callable[[Tensor], Tensor]  # levels (B,) to weights (B,)


def flow_matching(
    networks: nn.ModuleDict,
    *,
    # Times t from noise (0) to image (1) are logit-normal: the sigmoid of a normal number with this mean ...
    mean: float = -0.8,
    spread: Positive = 0.8,  # ... and this standard deviation (Li & He 2025, arXiv 2511.13720)
    least: Positive = 0.05,  # 1 - t counts as at least this in the loss, so that it stays finite
    everywhere: Share = 0.0,  # share of images whose level is uniform in its logarithm, over the whole range
    label_dropout: Share = 0.1,  # share of faces that a model with conditions sees without any of them
) -> list[Phase]:
    """The phase ``denoiser``: the error of the velocity image - noise along straight paths.

    Lipman et al. 2023 (arXiv 2210.02747). The path is x_t = t image + (1 - t) noise; the velocity that
    follows from a denoised image is (denoised - x_t) / (1 - t).

    Raises:
        UserError: the model is no denoiser.
    """

    def weight(level: Tensor) -> Tensor:
        return 1 / (level / (1 + level)).clamp_min(least).square()

    return [_phase(networks, "flow-matching", -mean, spread, weight, everywhere, label_dropout)]


def edm(
    networks: nn.ModuleDict,
    *,
    mean: float = -1.2,  # of the natural logarithm of the level of noise
    spread: Positive = 1.2,  # its standard deviation
    everywhere: Share = 0.0,  # share of images whose level is uniform in its logarithm, over the whole range
    label_dropout: Share = 0.1,  # share of faces that a model with conditions sees without any of them
) -> list[Phase]:
    """The phase ``denoiser``: the error of Karras et al. 2022 (arXiv 2206.00364), table 1.

    The weight of a level s is (s² + d²) / (s d)², where d is the model's ``deviation``. So every level has
    about the same loss.

    Raises:
        UserError: the model is no denoiser.
    """
    deviation = float(getattr(unconditioned(networks["generator"]), "deviation", 1.0))

    def weight(level: Tensor) -> Tensor:
        return 1 / level.square() + 1 / deviation**2

    return [_phase(networks, "edm", mean, spread, weight, everywhere, label_dropout)]


def levels_of(
    noise: Tensor, mean: float, spread: float, everywhere: float, lowest: float, highest: float
) -> Tensor:
    """Normal and uniform numbers (B, 3) to levels: log-normal, or for a share uniform in the logarithm.

    The first column is normal. The second, uniform in [0, 1), says whether a level is uniform; the third
    then gives it.

    >>> numbers = torch.tensor([[0.0, 0.9, 0.5], [0.0, 0.0, 0.5]])
    >>> levels_of(numbers, 0.0, 1.0, 0.1, 0.01, 100.0).round(decimals=3)
    tensor([1., 1.])
    """
    normal = noise[:, 0] * spread + mean
    low, high = (torch.tensor(level).log().item() for level in (lowest, highest))
    uniform = low + noise[:, 2] * (high - low)
    return torch.where(noise[:, 1] < everywhere, uniform, normal).exp()


def _phase(
    networks: nn.ModuleDict,
    name: str,
    mean: float,
    spread: float,
    weight: Weight,
    everywhere: float,
    label_dropout: float,
) -> Phase:
    model = networks["generator"]
    inner = unconditioned(model)
    if not isinstance(inner, Denoises):
        raise UserError(f"objective.name: {name} trains a denoiser, like unet or pixel-transformer")

    def measured(step: Step, share: float) -> Tensor:
        batch, real = len(step.real), step.real.float()
        # Drawn on the CPU, so that it is the same on all devices.
        drawn = torch.cat([torch.randn(batch, 1), torch.rand(batch, 2)], 1).to(real)
        level = levels_of(drawn, mean, spread, everywhere, inner.lowest, inner.highest)
        noise = step.latents[:, : real[0].numel()].view_as(real)
        given = dropped(step.given, share)
        clean = model.denoised(real + level.view(-1, 1, 1, 1) * noise, level, *given)  # type: ignore[operator]
        error = (clean.float() - real).square().flatten(1).mean(1)
        return (weight(level) * error).mean()

    def loss(step: Step) -> Loss:
        total = measured(step, label_dropout)
        return total, {"loss/denoiser": total}

    def judge(step: Step) -> dict[str, Tensor]:
        return {"held-out/denoiser": measured(step, 0.0)}

    return Phase("denoiser", model.parameters(), loss, judge=judge)
