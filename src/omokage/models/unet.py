"""A small U-Net with the preconditioning of EDM (Karras et al. 2022, arXiv 2206.00364).

The network sees and predicts values of variance 1 at every level of noise (section 5). The U-Net itself is of
the usual kind (Ho et al. 2020, arXiv 2006.11239): residual blocks at falling and rising sizes, joined by
skips, with attention at one size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, Counts, Positive
from ..errors import UserError
from .denoiser import Denoiser, LevelEmbedding, attended, groups_of


def preconditioning(level: Tensor, deviation: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in and c_noise of table 1, for levels above 0 and images of that ``deviation``.

    The clean image is c_skip · noisy + c_out · network(c_in · noisy, c_noise).

    >>> [round(float(c), 3) for c in preconditioning(torch.tensor(0.5), 0.5)]
    [0.5, 0.354, 1.414, -0.173]
    """
    total = level.square() + deviation**2
    root = total.sqrt()
    return deviation**2 / total, level * deviation / root, 1 / root, level.log() / 4


class Block(nn.Module):
    """Two convolutions with group norm and a skip; scale and shift in between come from the level."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, heads: int = 0) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(groups_of(channels_in), channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.second_norm = nn.GroupNorm(groups_of(channels_out), channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        self.attention = Attention(channels_out, heads) if heads else None

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """(B, channels_in, H, W) and the embedding (B, embedding) to (B, channels_out, H, W)."""
        scale, shift = self.modulation(known)[:, :, None, None].chunk(2, 1)
        inner = self.first(F.silu(self.first_norm(x)))
        inner = self.second(F.silu(self.second_norm(inner) * (1 + scale) + shift))
        x = self.skip(x) + inner
        return x if self.attention is None else self.attention(x)


class Attention(nn.Module):
    """Every position attends to all positions; it starts as the identity."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups_of(channels), channels)
        self.to_heads = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        heads = self.to_heads(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))
        query, key, value = heads.transpose(3, 4).unbind(1)
        seen = attended(query, key, value)
        return x + self.out(seen.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


class UNet(Denoiser):
    """Noisy images to clean ones by a U-Net.

    >>> network = UNet(size=8, channels=(8, 8), attention_at=4, heads=2, steps=2)
    >>> network.decode(torch.randn(2, 192)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        size: Count = 64,  # of the images; it can be halved once for each entry of channels but the first
        channels: Counts = (64, 128, 192),  # at the full size, half of it, ...; multiples of heads
        blocks: Count = 1,  # residual blocks at each size, on the way down and on the way up
        attention_at: CountOrNone = 16,  # the size with attention; 0: none
        heads: Count = 4,  # of the attention
        steps: Count = 18,  # levels of noise that a sampler passes, unless it is told another number
        encoding_steps: Count = 60,  # steps of encode, inverse and the likelihood
        deviation: Positive = 0.5,  # of the images, about
        # The level of noise at which encoding begins, a quarter of one of 256 levels of a colour.
        lowest: Positive = 0.002,
        highest: Positive = 80.0,  # the level of noise that counts as nothing but noise
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries of a label, one for each value of each condition; 0: no labels
    ) -> None:
        super().__init__(size, image_channels, steps, encoding_steps, deviation, lowest, highest)
        if size % (multiple := 2 ** (len(channels) - 1)):
            raise UserError(
                f"model.size: got {size}, must be a multiple of {multiple} for {len(channels)} entries of "
                "channels"
            )
        sizes = [size >> i for i in range(len(channels))]
        if attention_at in sizes and channels[sizes.index(attention_at)] % heads:
            raise UserError(
                f"model.channels: got {list(channels)}, must be multiples of model.heads, {heads}, "
                f"at {attention_at} px"
            )
        embedding = 4 * channels[0]
        self.level = LevelEmbedding(embedding, joined, fastest=100.0)
        self.into = nn.Conv2d(image_channels, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now = channels[0]
        for side, width in zip(sizes, channels, strict=True):
            at = heads if side == attention_at else 0
            widths = [now, *[width] * blocks]
            self.down.append(
                nn.ModuleList(Block(widths[i], width, embedding, at) for i in range(blocks))
            )
            now = width
        for side, width in zip(reversed(sizes), reversed(channels), strict=True):
            at = heads if side == attention_at else 0
            widths = [now, *[width] * blocks]
            self.up.append(
                nn.ModuleList(Block(widths[i] + width, width, embedding, at) for i in range(blocks))
            )
            now = width
        self.norm = nn.GroupNorm(groups_of(now), now)
        self.out = nn.Conv2d(now, image_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def _network(self, x: Tensor, number: Tensor, labels: Tensor | None) -> Tensor:
        known = F.silu(self.level(number, labels))
        x = self.into(x)
        skips: list[Tensor] = []
        for i, stage in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if i else x
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, known)
                skips.append(x)
        for i, stage in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") if i else x
            for block in stage:  # type: ignore[attr-defined]
                x = block(torch.cat([x, skips.pop()], 1), known)
        return self.out(F.silu(self.norm(x)))

    def denoised(self, noisy: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Denoiser.denoised`."""
        skip, out, into, number = preconditioning(level, self.deviation)
        skip, out, into = (c.view(-1, 1, 1, 1) for c in (skip, out, into))
        return skip * noisy + out * self._network(into * noisy, number, labels).to(noisy.dtype)
