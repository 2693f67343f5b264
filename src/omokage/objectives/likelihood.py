"""Maximum likelihood for normalising flows, counted in bits per dimension.

Pixels are whole numbers and a flow models a density, so noise is added (dequantisation). With uniform noise,
the mean log-density is a lower bound of the log-probability of the pixels (Theis et al. 2016, "A note on the
evaluation of generative models", section 3.1). So bits per dimension are an upper bound.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from ..bounds import NotNegative, Share
from ..errors import UserError
from ..models.conditional import dropped, unconditioned
from .phase import Loss, Phase, Step


def dequantise(images: Tensor, noise: Tensor, bits: int = 8) -> Tensor:
    """Images in [-1, 1], reduced to ``bits`` bits, with ``noise`` in [0, 1) spread over each bin.

    Pixel value k (0 to 255) becomes ⌊k / 2⁸⁻ᵇ⌋ + noise, in bins of `bin_width`. The resulting values are from
    -1 - 1/255 to below 1 + 1/255. Kingma & Dhariwal 2018 use 5 bits for faces.

    >>> torch.tensor([-1.0, 1.0]).allclose(dequantise(torch.tensor([-1.0, 1.0]), torch.tensor(0.5)))
    True
    """
    levels = ((images + 1) * 127.5).round().div(2 ** (8 - bits), rounding_mode="floor")
    return (levels + noise) * bin_width(bits) - (1 + 1 / 255)


def bin_width(bits: int) -> float:
    """The width of a bin at ``bits`` bits, on the scale where 8-bit images are in [-1, 1]."""
    return 2 ** (8 - bits) / 127.5


def bits_per_dimension(log_prob: Tensor, dimensions: int, bits: int = 8) -> Tensor:
    """Bits per dimension from log-densities of dequantised images: -(log₂ p + D log₂ width) / D.

    ``log_prob`` (B,) is in nats, for values in [-1, 1], as flows return it. It must include the
    log-determinant of the flow's own preprocessing.

    >>> round(bits_per_dimension(torch.tensor([-3 * math.log(256 / 127.5)]), 3).item(), 6)  # uniform
    8.0
    """
    return -log_prob / (dimensions * math.log(2)) - math.log2(bin_width(bits))


def likelihood(
    networks: nn.ModuleDict,
    *,
    bits: Annotated[int, Ge(1), Le(8)] = 8,  # bits of a colour value; with fewer, the flow models less detail
    # Weight of the squared scale parameters of the weight norms (RealNVP); 0: none.
    scale_penalty: NotNegative = 0.0,
    # Share of faces that a flow with conditions sees without any of them. So it also learns the density of
    # all faces, which guidance needs; 0: none. It has no effect without conditions.
    label_dropout: Share = 0.1,
) -> list[Phase]:
    """The phase ``likelihood``, which minimises the bits per dimension of real images.

    Noise is uniform over bins. If the flow has a ``noise`` above 0, noise is normal with that standard
    deviation. Then the density is that of noisy images, and the number is not a bound of the pixels' bits.

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

    def measured(step: Step, given: Sequence[Tensor]) -> Tensor:
        # Noise is drawn on the CPU, so that it is the same on all devices.
        if deviation > 0:
            noisy = step.real + deviation * torch.randn(step.real.shape).to(step.real)
        else:
            noisy = dequantise(step.real, torch.rand(step.real.shape).to(step.real), bits)
        return bits_per_dimension(flow.log_prob(noisy, *given), step.real[0].numel(), bits).mean()

    def loss(step: Step) -> Loss:
        total = measured(step, dropped(step.given, label_dropout))
        told = {"loss/bits per dimension": total}
        if scale_penalty > 0:
            penalty = torch.stack([scale.square().sum() for scale in flow.weight_scales()]).sum()
            told["loss/scale penalty"] = penalty
            total = total + scale_penalty * penalty
        return total, told

    def judge(step: Step) -> dict[str, Tensor]:
        return {"held-out/bits per dimension": measured(step, step.given)}

    return [Phase("likelihood", flow.parameters(), loss, judge=judge)]
