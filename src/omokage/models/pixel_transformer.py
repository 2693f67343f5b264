"""A transformer on pixels that predicts clean images, for flow matching.

After JiT (Li & He 2025, "Back to Basics: Let Denoising Generative Models Denoise", arXiv 2511.13720): patches
of pixels are tokens, without an autoencoder, and the network predicts the image itself. The velocity that
flow matching asks for follows from it. Images fill few of the directions that a large patch has, and noise
fills all of them; so the paper finds that predicting noise or velocity fails where the image works.

Differences from the paper: positions are learned vectors, without rotary embeddings; one layer makes the
modulation of all blocks, and each block adds its own vector (Chen et al. 2023, arXiv 2310.00426); labels are
added to the embedding of the time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, Positive
from ..errors import UserError
from .denoiser import Denoiser, LevelEmbedding, attended
from .samplers import straight


class RootMeanSquare(nn.Module):
    """Scales the last dimension to a mean square of 1, then each entry by a learned weight (RMSNorm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape and type."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


class Block(nn.Module):
    """Attention, then a gated layer (SwiGLU), each with modulation from the time (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        hidden = max(1, 2 * expansion * width // 3)  # SwiGLU has three matrices in place of two
        self.first, self.second = RootMeanSquare(width), RootMeanSquare(width)
        self.to_heads = nn.Linear(width, 3 * width, bias=False)
        self.query_norm, self.key_norm = RootMeanSquare(width // heads), RootMeanSquare(width // heads)
        self.out = nn.Linear(width, width)
        self.gate_and_up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)
        self.own = nn.Parameter(torch.zeros(6, width))  # of the modulation, see `PixelTransformer`

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Tokens (B, N, width) and modulation (B, 6, width) to tokens."""
        shift, scale, gate, shift2, scale2, gate2 = (modulation + self.own)[:, :, None].unbind(1)
        seen = self.first(x) * (1 + scale) + shift
        query, key, value = self.to_heads(seen).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = attended(self.query_norm(query), self.key_norm(key), value)
        x = x + gate * self.out(seen.transpose(1, 2).flatten(2))
        gated, up = self.gate_and_up(self.second(x) * (1 + scale2) + shift2).chunk(2, 2)
        return x + gate2 * self.down(F.silu(gated) * up)


class PixelTransformer(Denoiser):
    """Noisy images to clean ones by a transformer on patches.

    >>> network = PixelTransformer(size=8, patch=4, width=8, heads=2, depth=1, steps=2)
    >>> network.decode(torch.randn(2, 192)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        size: Count = 64,  # of the images, a multiple of patch
        patch: Count = 4,  # side of the squares that are tokens
        width: Count = 256,  # of the transformer
        depth: Count = 8,  # number of blocks
        heads: Count = 4,  # of the attention; width is a multiple of it
        expansion: Count = 4,  # of the gated layers, counted as for plain ones of the same size
        steps: Count = 20,  # levels of noise that a sampler passes, unless it is told another number
        encoding_steps: Count = 60,  # steps of encode, inverse and the likelihood
        deviation: Positive = 0.5,  # about that of the images; only the scale of latents depends on it
        # The level of noise at which encoding begins. The density is that of images with so much noise. A
        # network that predicts images cannot be exact to much less than this.
        lowest: Positive = 0.02,
        highest: Positive = 80.0,  # the level of noise that counts as nothing but noise
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries of a label, one for each value of each condition; 0: no labels
    ) -> None:
        super().__init__(size, image_channels, steps, encoding_steps, deviation, lowest, highest)
        if size % patch:
            raise UserError(f"model.size: got {size}, must be a multiple of model.patch, {patch}")
        if width % heads:
            raise UserError(f"model.width: got {width}, must be a multiple of model.heads, {heads}")
        self.patch = patch
        entries = image_channels * patch**2
        self.into = nn.Linear(entries, width)
        self.position = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.time = LevelEmbedding(width, joined, fastest=1000.0)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(width, heads, expansion) for _ in range(depth))
        self.norm = RootMeanSquare(width)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, entries)
        for layer in (self.modulation, self.last_modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def levels(self, steps: int) -> list[float]:
        """Even steps of the time, then level 0."""
        return [*straight(self.highest, self.lowest, steps), 0.0]

    def denoised(self, noisy: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Denoiser.denoised`. The network sees t image + (1 - t) noise, where t = 1 / (1 + level)."""
        time = 1 / (1 + level)
        x = F.pixel_unshuffle(noisy * time.view(-1, 1, 1, 1), self.patch).flatten(2).transpose(1, 2)
        known = F.silu(self.time(time, labels))
        modulation = self.modulation(known).unflatten(1, (6, -1))
        x = self.into(x) + self.position
        for block in self.blocks:
            x = block(x, modulation)
        scale, shift = self.last_modulation(known)[:, None].chunk(2, 2)
        x = self.out(self.norm(x) * (1 + scale) + shift).to(noisy.dtype)
        side = self.resolution[0] // self.patch
        return F.pixel_shuffle(x.transpose(1, 2).unflatten(2, (side, side)), self.patch)
