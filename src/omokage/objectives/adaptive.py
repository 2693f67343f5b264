"""Adaptive discriminator augmentation (Karras et al. 2020b, arXiv 2006.06676), "ADA".

The pipeline of appendix B, "bgc" in figure 4: pixel blitting, geometric and colour transformations. Each is
applied to an image with probability p. Difference from the paper: rotated and scaled images are interpolated
linearly at twice the size and averaged, where the paper uses wavelet filters. Other images are not resampled.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import added_over_processes

Sampler = Callable[[float], Tensor]  # a probability to a mask (B,), bool: which images to transform


class AdaptiveAugmentation(nn.Module):
    """Augments with probability ``p``, which depends on how much the discriminator overfits.

    The statistic r is the mean sign of the logits of real images (equation 1). If it is above ``target``, the
    discriminator overfits and p rises; else p falls. Its speed would take it from 0 to 1 in ``kimg`` thousand
    images. All state is in buffers.
    """

    p: Tensor
    signs: Tensor
    count: Tensor
    steps: Tensor
    images: Tensor
    since: Tensor

    def __init__(self, target: float = 0.6, kimg: float = 500.0, every: int = 4) -> None:
        super().__init__()
        self.target, self.kimg, self.every = target, kimg, every
        self.device = torch.device("cpu")  # of the logits; the state stays on the CPU
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))  # sum of the signs since p last changed
        self.register_buffer("count", torch.zeros(()))  # ... and their number
        self.register_buffer("steps", torch.tensor(0))  # since p last changed
        self.register_buffer("images", torch.tensor(-1))  # seen before this step
        self.register_buffer("since", torch.tensor(0))  # images seen when p last changed

    @torch.no_grad()
    def begin(self, images: int) -> None:
        """Called when the step after ``images`` images begins. Every ``every`` steps, p is updated."""
        if images == int(self.images):
            return
        if int(self.images) >= 0:
            self.steps += 1
        else:
            self.since.fill_(images)
        self.images.fill_(images)
        if int(self.steps) < self.every:
            return
        seen = torch.stack([self.signs, self.count]).to(self.device)
        added_over_processes(seen)
        if seen[1] > 0:
            direction = torch.sign(seen[0] / seen[1] - self.target).to(self.p)
            change = (images - int(self.since)) / (self.kimg * 1000)
            self.p.copy_((self.p + direction * change).clamp(0, 1))
        for buffer in (self.signs, self.count, self.steps):
            buffer.zero_()
        self.since.fill_(images)

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Add the logits of this step's real images to the statistic."""
        self.device = logits.device
        self.signs += logits.detach().sign().sum().to(self.signs)
        self.count += logits.numel()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], augmented with probability p."""
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 is too coarse for colours
            return augmented(images.float(), float(self.p))


def augmented(images: Tensor, p: float) -> Tensor:
    """Images (B, C, H, W) after the whole pipeline; differentiable. Each image has its own random draws.

    >>> images = torch.rand(2, 3, 8, 8)
    >>> bool((augmented(images, 0.0) == images).all())
    True
    """
    if p <= 0:
        return images

    def meant(probability: float) -> Tensor:
        return torch.rand(len(images)) < probability

    images = blitted(images, p, meant)
    images = warped(images, *geometry(len(images), p, meant))
    return coloured(images, *colours(len(images), p, meant))


def blitted(images: Tensor, p: float, meant: Sampler) -> Tensor:
    """Mirroring, quarter turns (half turns if the sides differ), whole-pixel shifts by up to an eighth.

    Pixels are only moved. A shift fills the border by reflection.
    """
    batch, _, height, width = images.shape
    mirrored = meant(p) & (torch.rand(batch) < 0.5)
    quarters = torch.where(meant(p), torch.randint(0, 4, (batch,)), 0)
    if height != width:
        quarters = quarters // 2 * 2
    shifts = [
        torch.where(moved, torch.randint(-(side // 8), side // 8 + 1, (batch,)), 0)
        for moved in (meant(p),)
        for side in (height, width)
    ]
    rows = _reflected(torch.arange(height) - shifts[0][:, None], height)[:, :, None].expand(-1, -1, width)
    columns = _reflected(torch.arange(width) - shifts[1][:, None], width)[:, None].expand(-1, height, -1)
    for turn in (1, 2, 3):
        turned = (quarters == turn)[:, None, None]
        other_rows, other_columns = rows, columns
        if turn == 2:
            other_rows, other_columns = height - 1 - rows, width - 1 - columns
        elif height == width:
            other_rows = columns if turn == 1 else height - 1 - columns
            other_columns = width - 1 - rows if turn == 1 else rows
        rows, columns = torch.where(turned, other_rows, rows), torch.where(turned, other_columns, columns)
    columns = torch.where(mirrored[:, None, None], width - 1 - columns, columns)
    places = (rows * width + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, places.to(images.device)).view(images.shape)


def _reflected(places: Tensor, side: int) -> Tensor:
    """Positions; those outside 0 to side - 1 are reflected at the border."""
    places = places.abs()
    return torch.where(places >= side, 2 * (side - 1) - places, places).clamp(0, side - 1)


def geometry(batch: int, p: float, meant: Sampler) -> tuple[Tensor, Tensor, Tensor]:
    """Scaling, rotation, stretching, shifts: matrices (B, 2, 2), shifts (B, 2), mask (B,) of changed images.

    The pixel at x is read from the position matrix · (x + shift). x and y are counted from the centre; shifts
    are in units of half a side.
    """
    scale = _where(meant(p), 2 ** (0.2 * torch.randn(batch)), 1.0)
    # There are two rotations. Each makes all angles equally likely; the probability of either is p.
    p_turn = 1 - math.sqrt(1 - p)
    before = _where(meant(p_turn), (torch.rand(batch) * 2 - 1) * math.pi, 0.0)
    stretch = _where(meant(p), 2 ** (0.2 * torch.randn(batch)), 1.0)
    after = _where(meant(p_turn), (torch.rand(batch) * 2 - 1) * math.pi, 0.0)
    shift = _where(meant(p)[:, None].expand(batch, 2), 0.25 * torch.randn(batch, 2), 0.0)
    matrix = _turn(before) @ torch.diag_embed(torch.stack([stretch, 1 / stretch], 1)) @ _turn(after)
    matrix = matrix * scale[:, None, None]
    idle = (matrix == torch.eye(2)).flatten(1).all(1) & (shift == 0).all(1)
    return matrix, shift, ~idle


def _where(meant: Tensor, value: Tensor, otherwise: float) -> Tensor:
    return torch.where(meant, value, torch.full_like(value, otherwise))


def _turn(angle: Tensor) -> Tensor:
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1)
    return rows.view(-1, 2, 2)


class _Read(torch.autograd.Function):
    """Images read at the positions of a grid, linearly, reflected at the border.

    As ``F.grid_sample``, which can be differentiated once. Reading is linear in the images, so the backward
    pass is its transpose, and the backward pass of that is reading again.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _Spread.apply(gradient, *ctx.saved_tensors, ctx.shape), None  # type: ignore[no-untyped-call]


class _Spread(torch.autograd.Function):
    """The transpose of `_Read`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        bilinear, reflection, corners = 0, 2, False
        return torch.ops.aten.grid_sampler_2d_backward(
            gradient, gradient.new_zeros(shape), grid, bilinear, reflection, corners, [True, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Read.apply(gradient, *ctx.saved_tensors), None, None  # type: ignore[no-untyped-call]


def warped(images: Tensor, matrices: Tensor, shifts: Tensor, touched: Tensor) -> Tensor:
    """Images, where ``touched``, read at the positions of `geometry`; reflected at the border."""
    if not touched.any():
        return images
    batch, channels, height, width = images.shape
    # Positions are in units of half a side. If the sides differ, a rotation must not stretch the image.
    sides = torch.tensor([width, height]).float()
    matrices = matrices * sides / sides[:, None]
    change = torch.cat([matrices, matrices @ shifts[:, :, None]], 2)
    grid = F.affine_grid(change, [batch, channels, 2 * height, 2 * width], align_corners=False)
    read = _Read.apply(images, grid.to(images))
    return torch.where(touched.to(images.device)[:, None, None, None], F.avg_pool2d(read, 2), images)


def colours(batch: int, p: float, meant: Sampler) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, luma flip, hue, saturation: matrices (B, 3, 4) on (R, G, B, 1), mask (B,)."""
    brightness = _where(meant(p), 0.2 * torch.randn(batch), 0.0)
    contrast = _where(meant(p), 2 ** (0.5 * torch.randn(batch)), 1.0)
    flipped = _where(meant(p), (torch.rand(batch) < 0.5).float(), 0.0)
    hue = _where(meant(p), (torch.rand(batch) * 2 - 1) * math.pi, 0.0)
    saturation = _where(meant(p), 2 ** torch.randn(batch), 1.0)
    one = torch.eye(3)
    grey = torch.full((3, 3), 1 / 3)  # projection on the grey axis v vᵀ, v = (1, 1, 1) / √3
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    luma = one - 2 * grey * flipped[:, None, None]
    cos, sin = hue.cos()[:, None, None], hue.sin()[:, None, None]
    turn = grey + cos * (one - grey) + sin * cross
    saturate = grey + (one - grey) * saturation[:, None, None]
    matrix = saturate @ turn @ luma * contrast[:, None, None]
    offset = matrix @ brightness[:, None, None].expand(-1, 3, 1)
    acting = torch.stack([brightness != 0, contrast != 1, flipped != 0, hue != 0, saturation != 1]).any(0)
    return torch.cat([matrix, offset], 2), acting


def coloured(images: Tensor, matrices: Tensor, touched: Tensor) -> Tensor:
    """Colours (B, 3 or 1, H, W) changed by ``matrices`` (B, 3, 4) where ``touched``."""
    matrices = matrices.to(images)
    if images.shape[1] == 1:  # grey: the mean of the three colours that a grey pixel becomes
        mean = matrices.mean(1, keepdim=True)
        matrices = torch.cat([mean[:, :, :3].sum(2, keepdim=True), mean[:, :, 3:]], 2)
    changed = (matrices[:, :, :-1] @ images.flatten(2) + matrices[:, :, -1:]).view(images.shape)
    return torch.where(touched.to(images.device)[:, None, None, None], changed, images)
