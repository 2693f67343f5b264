"""TarFlow (Zhai et al. 2024, "Normalizing Flows are Capable Generative Models", arXiv 2412.06329).

A stack of autoregressive flows over image patches. Each flow is a causal transformer, and directions
alternate. Differences from the paper: the logarithm of a scale is softly bounded (`flow.bounded`), with
guidance too. Labels enter each block as a vector that is added to all of its tokens; without a label, nothing
is added. The entries of a token may be mixed (`Mixing`).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Channels, Count, CountOrNone, NotNegative, Positive
from ..errors import UserError
from .flow import (
    CUBE_SCALE,
    Flow,
    bounded,
    constant_log_det,
    from_unit_cube,
    full_precision,
    in_double,
    in_range,
    inverted,
    normal_log_density,
    to_unit_cube,
)
from .layers import added_over_processes

Sampler = Literal["cached", "plain", "jacobi"]


class Cache:
    """The keys and values of one layer for all tokens so far.

    Memory for all tokens is allocated at once, so adding a token does not copy earlier ones. With gradients
    on, memory must not be overwritten, so tokens are concatenated instead.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens, self.count = tokens, 0
        self.kept: Tensor | None = None

    def add(self, new: Tensor) -> Tensor:
        """Add the key and value of a token (2, B, heads, 1, width / heads); return those of all tokens."""
        if torch.is_grad_enabled():
            self.kept = new if self.kept is None else torch.cat([self.kept, new], 3)
            return self.kept
        if self.kept is None:
            self.kept = new.new_empty(*new.shape[:3], self.tokens, new.shape[4])
        self.kept[:, :, :, self.count] = new[:, :, :, 0]
        self.count += 1
        return self.kept[:, :, :, : self.count]


class Attention(nn.Module):
    """Causal multi-head attention: each token attends to itself and to earlier tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_heads = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def _heads(self, x: Tensor) -> Tensor:
        """Queries, keys and values (3, B, heads, T, width / heads)."""
        return self.to_heads(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        """All tokens (B, N, width) at once."""
        query, key, value = self._heads(x)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(seen.transpose(1, 2).flatten(2))

    def step(self, x: Tensor, before: Cache) -> Tensor:
        """Process the next token (B, 1, width) and add its key and value to the cache ``before``."""
        new = self._heads(x)
        key, value = before.add(new[1:])
        seen = F.scaled_dot_product_attention(new[0], key, value)
        return self.out(seen.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention, then two fully connected layers. Both parts have layer norm first and a skip connection."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.connected = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Linear(expansion * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """All tokens (B, N, width) at once."""
        x = x + self.attention(x)
        return x + self.connected(x)

    def step(self, x: Tensor, before: Cache) -> Tensor:
        """See `Attention.step`."""
        x = x + self.attention.step(x, before)
        return x + self.connected(x)


class Block(nn.Module):
    """Section 2.2: a transformer computes the shift and scale of each token from the tokens before it.

    Tokens are (B, N, channels). The first token does not change. ``backwards`` reverses the order.
    """

    def __init__(
        self,
        tokens: int,
        channels: int,
        width: int,
        heads: int,
        layers: int,
        expansion: int,
        limit: float,
        backwards: bool,
        joined: CountOrNone = 0,
    ) -> None:
        super().__init__()
        self.backwards, self.limit = backwards, limit
        self.into = nn.Linear(channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.label = nn.Linear(joined, width, bias=False) if joined else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(width, heads, expansion) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _ordered(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.backwards else x

    def _scale_and_shift(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The log-scale and the shift of the tokens that follow those of ``hidden``."""
        with full_precision(hidden):
            hidden = hidden.to(self.out.weight.dtype)
            log_scale, shift = self.out(self.norm(hidden)).chunk(2, 2)
            return bounded(log_scale, self.limit), shift

    def _labelled(self, hidden: Tensor, labels: Tensor | None, guidance: float) -> Tensor:
        """``hidden`` with labels added. With guidance (2B, ...): with labels, then without."""
        if self.label is None or labels is None:
            return hidden
        with_labels = hidden + self.label(labels)[:, None]
        return torch.cat([with_labels, hidden]) if guidance else with_labels

    def _guided(self, hidden: Tensor, guidance: float) -> tuple[Tensor, Tensor]:
        """As `_scale_and_shift`; with guidance, it combines (2B, ...) into (B, ...)."""
        log_scale, shift = self._scale_and_shift(hidden)
        if not guidance:
            return log_scale, shift
        (log_scale, free_log_scale), (shift, free_shift) = log_scale.chunk(2), shift.chunk(2)
        log_scale = log_scale + guidance * (log_scale - free_log_scale)
        return log_scale.clamp(-self.limit, self.limit), shift + guidance * (shift - free_shift)

    def _parameters_of(
        self, x: Tensor, labels: Tensor | None = None, guidance: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The log-scale and shift (B, N, channels) of every token, from those before it, in one pass."""
        hidden = self._labelled(self.into(x[:, :-1]) + self.position[:-1], labels, guidance)
        for layer in self.layers:
            hidden = layer(hidden)
        log_scale, shift = self._guided(hidden, guidance)
        nothing = torch.zeros_like(x[:, :1])
        return torch.cat([nothing, log_scale], 1), torch.cat([nothing, shift], 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(x - shift) / scale, and the log-determinant (B,); ``labels`` (B, joined)."""
        x = self._ordered(x)
        log_scale, shift = self._parameters_of(x, labels)
        return self._ordered((x - shift) * (-log_scale).exp()), -log_scale.flatten(1).sum(1)

    def inverse(
        self,
        z: Tensor,
        sampler: Sampler = "cached",
        iterations: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """x from z.

        Args:
            labels: (B, joined), or None.
            guidance: the weight w of classifier-free guidance. Log-scale and shift are (1 + w) times their
                values with labels, minus w times their values without. 0 gives the inverse of `forward`.
                Without labels, guidance has no effect.
            sampler: "cached" computes one token after the other and keeps the keys and values of earlier
                tokens. "plain" does the same, but computes everything again for each token. "jacobi" computes
                all tokens at once and repeats that from its last result (Song et al. 2021, "Accelerating
                Feedforward Computation via Parallel Nonlinear Equation Solving", algorithm 1). It is exact
                when the number of iterations equals the number of tokens.
            iterations: number of iterations of "jacobi"; 0 means the number of tokens.
        """
        z = self._ordered(z)
        if self.label is None or labels is None:
            guidance = 0.0
        if sampler == "cached":
            x = self._token_by_token(z, labels, guidance)
        elif sampler == "plain":
            x = z
            for i in range(1, z.shape[1]):
                log_scale, shift = self._parameters_of(x, labels, guidance)
                now = z[:, i] * log_scale[:, i].exp() + shift[:, i]
                x = torch.cat([x[:, :i], now[:, None], x[:, i + 1 :]], 1)
        else:
            x = z
            for _ in range(iterations or z.shape[1]):
                log_scale, shift = self._parameters_of(x, labels, guidance)
                x = z * log_scale.exp() + shift
        return self._ordered(x)

    def _token_by_token(self, z: Tensor, labels: Tensor | None, guidance: float) -> Tensor:
        found = [z[:, :1]]
        before = [Cache(z.shape[1] - 1) for _ in self.layers]
        for i in range(1, z.shape[1]):
            hidden = self._labelled(self.into(found[-1]) + self.position[i - 1], labels, guidance)
            for layer, seen in zip(self.layers, before, strict=True):
                hidden = layer.step(hidden, seen)  # type: ignore[operator]
            log_scale, shift = self._guided(hidden, guidance)
            found.append(z[:, i : i + 1] * log_scale.exp() + shift)
        return torch.cat(found, 1)


class Mixing(nn.Module):
    """Shifts the entries of a token and multiplies them by a learned matrix, like Glow's 1×1 convolutions.

    A block computes shift and scale of a token only from other tokens. So it cannot model how the entries of
    one token depend on each other, such as the colours of a pixel. `whiten` makes them uncorrelated at the
    start.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.weight = nn.Parameter(torch.eye(channels))

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Initialise so that the entries of the tokens ``x`` (B, N, channels) are whitened.

        They become uncorrelated, with mean 0 and variance 1.

        With several processes, the tokens of all of them count.
        """
        entries = in_double(x.flatten(0, 1))
        moments = torch.cat([entries.mean(0, keepdim=True), entries.T @ entries / len(entries)])
        moments.div_(added_over_processes(moments))
        mean, square = moments[0], moments[1:]
        variances, axes = torch.linalg.eigh(square - mean[:, None] * mean)
        # The smallest true variance is that of dequantisation noise, 5e-6.
        self.weight.copy_((axes * variances.clamp(min=1e-6).rsqrt()).T)
        self.shift.copy_(-mean)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x + shift) · weightᵀ, and the log-determinant (B,)."""
        with full_precision(x):
            log_det = torch.linalg.slogdet(self.weight)[1] * x.shape[1]
            return F.linear(x + self.shift, self.weight), log_det.expand(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        """x from y; the matrix is inverted in float64."""
        with full_precision(y):
            return F.linear(y, inverted(self.weight)) - self.shift


class TarFlow(Flow):
    """Images to standard normal latents and back: a stack of flows (section 2.2) over patches (section 2.3).

    With ``noise``, ``log_prob`` is the density of noisy images, and `decode` removes noise. `inverse` is the
    exact inverse of `encode`.

    Labels are (B, joined), with ones for the values of an image. None or zeros mean no labels.
    `conditional.ConditionalFlow` makes labels from conditions. `objectives.likelihood` drops them for a share
    of the images. So one network learns both densities, with and without labels; guidance needs both.

    >>> flow = TarFlow(size=8, patch=4, width=8, heads=2, blocks=2, layers=1).eval()
    >>> images = torch.rand(2, 3, 8, 8) * 2 - 1
    >>> flow.encode(images).shape, flow.log_prob(images).shape
    (torch.Size([2, 192]), torch.Size([2]))
    >>> torch.allclose(flow.decode(flow.encode(images)), images, atol=1e-4)
    True
    """

    def __init__(
        self,
        size: Count = 64,  # of the images, a multiple of patch
        patch: Count = 4,  # side of the squares that are tokens
        width: Count = 128,  # of the transformers
        heads: Count = 4,  # of the attention; width is a multiple of it
        blocks: Count = 4,  # T: autoregressive flows; every second one goes from the last token to the first
        layers: Count = 4,  # K: attention layers in each block
        expansion: Count = 4,  # of the fully connected layers
        # Standard deviation of the normal noise that is added in training (section 2.4). Samples are denoised
        # by a step along the score (section 2.5). Images are in [-1, 1]; the paper uses 0.05 at 64 px. With
        # 0, uniform dequantisation replaces this noise, and likelihoods are comparable.
        noise: NotNegative = 0.0,
        limit: Positive = 3.0,  # bound of the logarithm of a scale
        # Whether a learned matrix mixes the entries of a token before each block. The first matrix is
        # initialised from the first batch. The paper has no such matrices.
        mixed: bool = False,
        image_channels: Channels = 3,
        joined: CountOrNone = 0,  # entries of a label, one for each value of each condition; 0: no labels
    ) -> None:
        super().__init__()
        if size % patch:
            raise UserError(f"model.size: got {size}, must be a multiple of model.patch, {patch}")
        if width % heads:
            raise UserError(f"model.width: got {width}, must be a multiple of model.heads, {heads}")
        if noise < 0:
            raise UserError(f"model.noise: got {noise}, must be 0 or more")
        self.resolution = (size, size)
        self.latent_shape = (image_channels * size * size,)
        self.patch, self.noise, self.image_channels = patch, noise, image_channels
        tokens, channels = (size // patch) ** 2, image_channels * patch**2
        self.blocks = nn.ModuleList(
            Block(tokens, channels, width, heads, layers, expansion, limit, bool(i % 2), joined)
            for i in range(blocks)
        )
        self.mixings = nn.ModuleList(Mixing(channels) for _ in range(blocks if mixed else 0))
        if mixed:
            # Whether the first mixing has seen its first batch. It is saved in snapshots for resumed runs.
            self.register_buffer("started", torch.tensor(False))

    def _patches(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to tokens (B, N, C·patch²), row by row."""
        return F.pixel_unshuffle(images, self.patch).flatten(2).transpose(1, 2)

    def _from_patches(self, tokens: Tensor) -> Tensor:
        """The inverse of `_patches`."""
        side = self.resolution[0] // self.patch
        return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), self.patch)

    def transform(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to latents (B, C·H·W) and the log-determinants (B,) in nats."""
        total = constant_log_det(images, 2 * CUBE_SCALE)
        tokens = self._patches(2 * to_unit_cube(images) - 1)
        if self.mixings and self.training and not self.started:
            self.mixings[0].whiten(tokens)  # type: ignore[operator]
            self.started.fill_(True)  # type: ignore[operator]
        for i, block in enumerate(self.blocks):
            if self.mixings:
                tokens, log_det = self.mixings[i](tokens)
                total = total + log_det
            tokens, log_det = block(tokens, labels)
            total = total + log_det
        return tokens.flatten(1), total

    def inverse(
        self,
        z: Tensor,
        sampler: Sampler = "cached",
        iterations: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Latents (B, C·H·W) to images (B, C, H, W), not clamped.

        ``sampler``, ``iterations`` (for each block) and ``guidance`` are those of `Block.inverse`. Without
        guidance, this is the inverse of `encode`.
        """
        tokens = z.view(z.shape[0], -1, self.image_channels * self.patch**2)
        for i in reversed(range(len(self.blocks))):
            tokens = self.blocks[i].inverse(tokens, sampler, iterations, labels, guidance)  # type: ignore[operator]
            if self.mixings:
                tokens = self.mixings[i].inverse(tokens)  # type: ignore[operator]
        return from_unit_cube((self._from_patches(tokens) + 1) / 2)

    def forward(
        self,
        z: Tensor,
        sampler: Sampler = "cached",
        iterations: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Latents (B, C·H·W) to images (B, C, H, W), denoised (section 2.5) and clamped to [-1, 1]."""
        images = self.inverse(z, sampler, iterations, labels, guidance)
        if self.noise > 0:
            images = images + self.noise**2 * self.score(images, labels)
        return in_range(images)

    decode = forward

    def score(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The gradient of the log-density with respect to the images; it cannot be differentiated again."""
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            z, log_det = self.transform(images, labels)
            return torch.autograd.grad((normal_log_density(z) + log_det).sum(), images)[0]
