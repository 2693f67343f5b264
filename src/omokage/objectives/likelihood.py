"""Maximum likelihood for normalising flows, counted in bits per dimension.

Pixels are whole numbers and a flow has a density, so noise is added (dequantisation). With uniform noise
the mean log-density is a lower bound of the log-probability of the pixels themselves (Theis et al. 2016,
"A note on the evaluation of generative models", section 3.1), hence bits per dimension an upper bound.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from ..bounds import NotNegative, Share
from ..errors import UserError
from ..models.conditional import unconditioned
from .phase import Loss, Phase, Step


def dequantise(images: Tensor, noise: Tensor, bits: int = 8) -> Tensor:
    """Images in [-1, 1], reduced to ``bits`` bits, with ``noise`` in [0, 1) spread over each bin.

    Pixel k of 0 to 255 becomes ⌊k / 2⁸⁻ᵇ⌋ + noise in bins of `bin_width`; in the end the values reach from
    -1 - 1/255 to below 1 + 1/255. Kingma & Dhariwal 2018 use 5 bits for faces.

    >>> torch.tensor([-1.0, 1.0]).allclose(dequantise(torch.tensor([-1.0, 1.0]), torch.tensor(0.5)))
    True
    """
    levels = ((images + 1) * 127.5).round().div(2 ** (8 - bits), rounding_mode="floor")
    return (levels + noise) * bin_width(bits) - (1 + 1 / 255)


def bin_width(bits: int) -> float:
    """The width of a bin in images of ``bits`` bits, whose values are in [-1, 1] at 8 bits."""
    return 2 ** (8 - bits) / 127.5


def bits_per_dimension(log_prob: Tensor, dimensions: int, bits: int = 8) -> Tensor:
    """Bits a colour value from log-densities in nats of dequantised images: -(log₂ p + D log₂ width) / D.

    ``log_prob`` (B,) is with respect to values in [-1, 1], as flows give it; the density's own preprocessing
    must be in it.

    >>> round(bits_per_dimension(torch.tensor([-3 * math.log(256 / 127.5)]), 3).item(), 6)  # uniform
    8.0
    """
    return -log_prob / (dimensions * math.log(2)) - math.log2(bin_width(bits))


def likelihood(
    networks: nn.ModuleDict,
    *,
    bits: Annotated[int, Ge(1), Le(8)] = 8,  # of the pixels; fewer ask for less detail
    # Times the sum of squares of the weight norms' scales (RealNVP); 0: none.
    scale_penalty: NotNegative = 0.0,
    # Share of faces that a flow with conditions sees without them, all of them at once, so that it learns the
    # density of all faces too, which guidance needs; 0: none. Nothing changes where there are no conditions.
    label_dropout: Share = 0.1,
) -> list[Phase]:
    """The phase ``likelihood``: bits per dimension of real images are minimised.

    Noise is uniform over bins, unless the flow has a ``noise`` above 0: then it is normal, with that
    standard deviation, the density is that of noisy images and the number is no bound of the pixels' bits.

    With conditions the density is that given a face's own, also where held-out faces are judged.

    Raises:
        UserError: ``label_dropout`` is no share.
    """
    if not 0 <= label_dropout <= 1:
        raise UserError(f"objective.label_dropout: got {label_dropout}, must be from 0 to 1")
    flow: Any = networks["generator"]
    if not hasattr(unconditioned(flow), "log_prob"):
        raise UserError("objective.name: likelihood trains a model with a density, like glow; use gan here")
    if scale_penalty and not hasattr(flow, "weight_scales"):
        raise UserError("objective.scale_penalty: this model has no weight norms, realnvp has; set it to 0")
    deviation = getattr(flow, "noise", 0.0)

    def dropped(given: Sequence[Tensor]) -> list[Tensor]:
        kept = [torch.rand(len(conditions), 1).to(conditions.device) >= label_dropout for conditions in given]
        return [torch.where(keep, conditions, -1) for keep, conditions in zip(kept, given, strict=True)]

    def measured(step: Step, given: Sequence[Tensor]) -> Tensor:
        # Drawn on the CPU, so that all devices see the same noise.
        if deviation > 0:
            noisy = step.real + deviation * torch.randn(step.real.shape).to(step.real)
        else:
            noisy = dequantise(step.real, torch.rand(step.real.shape).to(step.real), bits)
        return bits_per_dimension(flow.log_prob(noisy, *given), step.real[0].numel(), bits).mean()

    def loss(step: Step) -> Loss:
        total = measured(step, dropped(step.given))
        told = {"loss/bits per dimension": total}
        if scale_penalty > 0:
            penalty = torch.stack([scale.square().sum() for scale in flow.weight_scales()]).sum()
            told["loss/scale penalty"] = penalty
            total = total + scale_penalty * penalty
        return total, told

    def judge(step: Step) -> dict[str, Tensor]:
        return {"held-out/bits per dimension": measured(step, step.given)}

    return [Phase("likelihood", flow.parameters(), loss, judge=judge)]
