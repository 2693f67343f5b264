"""Adaptive discriminator augmentation (Karras et al. 2020b, arXiv 2006.06676), "ADA".

The pipeline of appendix B, "bgc" of figure 4: pixel blitting, geometric and colour transformations, each
with probability p an image. Chosen here: turned and scaled images are read by linear interpolation at twice
the size and averaged, in place of the paper's wavelet filters; other images are not resampled.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import added_over_processes

Sampler = Callable[[float], Tensor]  # a probability to which images are transformed, (B,) of bool


class AdaptiveAugmentation(nn.Module):
    """Augments with probability ``p``, which follows how well the discriminator knows the real images.

    The statistic r is the mean sign of its logits of them (equation 1): where it is above ``target``, the
    discriminator overfits and p rises, else it falls, by as much as would take it from 0 to 1 in ``kimg``
    thousand images. All state is in buffers.
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
        self.device = torch.device("cpu")  # where logits are; the state stays here, as numbers are drawn here
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))  # sum of those since the last look
        self.register_buffer("count", torch.zeros(()))  # ... and how many
        self.register_buffer("steps", torch.tensor(0))  # since the last look
        self.register_buffer("images", torch.tensor(-1))  # seen before this step
        self.register_buffer("since", torch.tensor(0))  # images seen before the last look

    @torch.no_grad()
    def begin(self, images: int) -> None:
        """Tell that the step after ``images`` images begins; at the first of every few, p is set anew."""
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
        """Take account of the logits of real images of this step."""
        self.device = logits.device
        self.signs += logits.detach().sign().sum().to(self.signs)
        self.count += logits.numel()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], augmented with probability p."""
        with torch.autocast(images.device.type, enabled=False):  # colours have more than 8 bits
            return augmented(images.float(), float(self.p))


def augmented(images: Tensor, p: float) -> Tensor:
    """Images (B, C, H, W) after the whole pipeline; differentiable, each image with draws of its own.

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
    """Mirror, quarter turns (half turns where the sides differ), whole-pixel shifts up to an eighth.

    Values are only moved. What a shift uncovers is mirrored.
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
    """Places outside of 0 to side - 1, mirrored there."""
    places = places.abs()
    return torch.where(places >= side, 2 * (side - 1) - places, places).clamp(0, side - 1)


def geometry(batch: int, p: float, meant: Sampler) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, turn, stretch and shift: matrices (B, 2, 2), shifts (B, 2), and where there is anything to do.

    The pixel at x comes from the place matrix · (x + shift), x and y counted from the middle; shifts are in
    half sides.
    """
    scale = _where(meant(p), 2 ** (0.2 * torch.randn(batch)), 1.0)
    # Two turns of which each alone makes all angles equally likely: together they have probability p.
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


def warped(images: Tensor, matrices: Tensor, shifts: Tensor, touched: Tensor) -> Tensor:
    """Images where ``touched`` read at the places that `geometry` gives, mirrored outside."""
    if not touched.any():
        return images
    batch, channels, height, width = images.shape
    # Places are counted in half sides, and what is turned must not be stretched where the sides differ.
    sides = torch.tensor([width, height]).float()
    matrices = matrices * sides / sides[:, None]
    change = torch.cat([matrices, matrices @ shifts[:, :, None]], 2)
    grid = F.affine_grid(change, [batch, channels, 2 * height, 2 * width], align_corners=False)
    read = F.grid_sample(
        images, grid.to(images), mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return torch.where(touched.to(images.device)[:, None, None, None], F.avg_pool2d(read, 2), images)


def colours(batch: int, p: float, meant: Sampler) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, luma flip, hue, saturation: (B, 3, 4) on RGB and 1, and where they act."""
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
    if images.shape[1] == 1:  # grey: how a grey pixel's three colours come out, averaged
        mean = matrices.mean(1, keepdim=True)
        matrices = torch.cat([mean[:, :, :3].sum(2, keepdim=True), mean[:, :, 3:]], 2)
    changed = (matrices[:, :, :-1] @ images.flatten(2) + matrices[:, :, -1:]).view(images.shape)
    return torch.where(touched.to(images.device)[:, None, None, None], changed, images)
