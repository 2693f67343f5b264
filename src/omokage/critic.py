"""A critic of a model: it chooses among latents before a face is drawn.

Kinds of faces that the model draws too rarely then come more often, which lowers FID. It does not judge
single faces: in one grid of 64 that was looked at, more of the chosen samples were smeared, as rare kinds
are.

Optimal budgeted rejection sampling (Verine et al. 2024, arXiv 2311.00460, section 4): a latent with density
ratio r = p_real / p_model is accepted with probability min(1, r / c). The number c is such that one of K
latents is accepted on average. For the budget K, no other rule brings samples closer to the faces.

The critic sees the generator's first features, not the picture. So a latent that is rejected costs a small
part of a face.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

QUANTILES = 1001  # of the critic's logits over samples; they give c for each K
PATIENCE = 16  # after PATIENCE * K latents that are all rejected, the best of them is taken


class Critic(nn.Module):
    """The generator's first features to the logarithm of the density ratio of faces to samples.

    >>> critic = Critic(8, hidden=4)
    >>> critic(torch.zeros(3, 8)).shape
    torch.Size([3])
    """

    mean: Tensor
    scale: Tensor
    quantiles: Tensor

    def __init__(
        self,
        features: int,  # entries of the features
        hidden: int = 96,  # entries of the hidden layer
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("quantiles", torch.zeros(QUANTILES))
        self.thresholds: dict[float, float] = {}  # by draws: sampling asks for every batch
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) to (B,)."""
        return self.layers((features - self.mean) / self.scale)[:, 0]

    def threshold(self, draws: float) -> float:
        """The logarithm of c: with it, one of ``draws`` latents is accepted on average. It is kept.

        >>> critic = Critic(8)
        >>> _ = critic.quantiles.copy_(torch.linspace(-2, 2, 1001))
        >>> accepted = (critic.quantiles - critic.threshold(3.0)).exp().clamp(max=1).mean()
        >>> round(1 / float(accepted), 3)
        3.0
        """
        if draws in self.thresholds:
            return self.thresholds[draws]
        logits = self.quantiles.double()
        low, high = float(logits.min()) - 1, float(logits.max()) + 50
        for _ in range(100):  # the share that is accepted falls with c
            middle = (low + high) / 2
            share = float((logits - middle).exp().clamp(max=1).mean())
            low, high = (middle, high) if share > 1 / draws else (low, middle)
        self.thresholds[draws] = (low + high) / 2
        return self.thresholds[draws]


def build(tensors: Mapping[str, Tensor]) -> Critic:
    """The critic that has these tensors.

    Raises:
        ValueError: they are not those of a critic.
    """
    try:
        first = tensors["layers.0.weight"]
        critic = Critic(first.shape[1], hidden=first.shape[0])
        critic.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"not a critic ({str(error).splitlines()[-1].strip()})") from None
    return critic.eval().requires_grad_(False)


def accepted(
    seeds: Sequence[int],
    shape: Sequence[int],
    draws: float,
    judged: Callable[[Tensor], Tensor],
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """For each seed the first of its latents that is accepted, (N, *shape), and how many were drawn (N,).

    A seed's latents and random numbers come from its own generator. The first latent is the one that the seed
    has without a critic. So the choice depends on the seed alone.

    Args:
        judged: latents (M, *shape) to the critic's logits (M,).
        threshold: `Critic.threshold` for ``draws``.
    """
    found = torch.zeros(len(seeds), *shape)
    best = torch.full((len(seeds),), -torch.inf)
    counts = torch.zeros(len(seeds), dtype=torch.int64)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    open_rows = list(range(len(seeds)))
    for _ in range(max(1, round(PATIENCE * draws))):
        if not open_rows:
            break
        z = torch.stack([torch.randn(*shape, generator=generators[row]) for row in open_rows])
        luck = torch.stack([torch.rand((), generator=generators[row]) for row in open_rows])
        logits = judged(z).float().cpu()
        taken = luck.log() < logits - threshold
        counts[open_rows] += 1
        for place, row in enumerate(open_rows):
            if taken[place] or logits[place] > best[row]:
                found[row] = z[place]
                best[row] = logits[place]
        open_rows = [row for place, row in enumerate(open_rows) if not taken[place]]
    return found, counts
