"""Figures of generated faces to publish, after those of the StyleGAN papers.

Each is one function and one PNG: faces on paper with margins and labels, and text chunks that say how to make
it again. They ask a model for ``decode`` alone or, where its family has styles, for ``mapping`` and
``synthesis``.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from omokage.errors import UserError
from omokage.explore.contact_sheet import FAINT_INK, INK, PAPER, font_that_fits, rounded_mask
from omokage.explore.grid import sampled_faces
from omokage.explore.pictures import (
    checked_file,
    checked_seeds,
    checked_size,
    provenance,
    save_png,
    seed_ranges,
)
from omokage.families import MODELS
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, latents, to_pixels

PSIS = (1.2, 1.0, 0.7, 0.5, 0.25, 0.0, -0.25, -0.5, -1.0)
NOISES = 100  # of which noise detail takes the standard deviation
# A face is enlarged by a whole number until its shorter side has at least this many pixels.
SHOWN_SIZE = 192

Noise = str | Sequence[str]  # one for all layers, or one a layer


@dataclass
class _Sheet:
    """A page whose parts are placed from the corner (x, y) of what is below its title.

    Attributes:
        unit: pixels; letters and gaps are multiples of it, so that figures of every resolution look alike.
    """

    image: Image.Image
    x: int
    y: int
    unit: int

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def face(self, pixels: np.ndarray, x: float, y: float, size: tuple[int, int]) -> None:
        """A face (H, W, 3) uint8 in a box of ``size`` (height, width), its corners rounded."""
        height, width = size
        picture = Image.fromarray(pixels)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        corner = (self.x + round(x), self.y + round(y))
        self.image.paste(picture, corner, rounded_mask(width, height, max(1, min(size) // 24)))

    def text(
        self,
        words: str,
        x: float,
        y: float,
        *,
        anchor: str = "mm",
        width: float | None = None,
        ink: tuple[int, int, int] = INK,
        size: float = 2.0,
    ) -> None:
        """One line; ``size`` in units, smaller where it would be wider than ``width``."""
        font = font_that_fits(self.draw, words, round(size * self.unit), int(width or self.image.width))
        self.draw.text((self.x + x, self.y + y), words, ink, font, anchor=anchor)

    def headings(self, words: Sequence[str], xs: Sequence[float], y: float, width: float) -> None:
        """Lines above columns that begin at ``xs``, all in the size in which the longest fits."""
        plain = font_that_fits(self.draw, "", 20, 20)
        longest = max(words, key=lambda line: self.draw.textlength(line, plain))
        fitting = font_that_fits(self.draw, longest, 2 * self.unit, int(width))
        for line, x in zip(words, xs, strict=True):
            self.draw.text((self.x + x + width / 2, self.y + y), line, INK, fitting, anchor="mm")

    def upright(self, words: str, below: str, x: float, y: float, length: float) -> None:
        """Two lines turned to be read from below, the middle of them at (x, y), at most ``length`` long."""
        side = Image.new("L", (max(1, int(length)), round(5.2 * self.unit)), 0)
        draw = ImageDraw.Draw(side)
        for line, place, size, ink in ((words, 1.4, 2.1, 255), (below, 3.9, 1.6, 150)):
            font = font_that_fits(draw, line, round(size * self.unit), side.width)
            draw.text((side.width / 2, place * self.unit), line, ink, font, anchor="mm")
        turned = side.transpose(Image.Transpose.ROTATE_90)
        corner = (self.x + round(x - turned.width / 2), self.y + round(y - turned.height / 2))
        self.image.paste(INK, corner, turned)


def _sheet(model: Any, size: tuple[float, float], unit: int, title: str, line: str, out: Any) -> _Sheet:
    """A page around a figure of ``size`` (height, width), with its title and a fainter line below that.

    An empty title leaves both out: for a page that has a caption of its own.
    """
    margin = 4 * unit
    head = round(7.5 * unit) if title else 0
    height, width = ceil(size[0]) + 2 * margin + head, ceil(size[1]) + 2 * margin
    checked_size(width, height, out)
    sheet = _Sheet(Image.new("RGB", (width, height), PAPER), margin, margin + head, unit)
    if title:
        inner = width - 2 * margin
        sheet.text(title, 0, -head, anchor="lt", width=inner, size=3.2)
        sheet.text(line, 0, -head + 4.2 * unit, anchor="lt", width=inner, ink=FAINT_INK, size=1.6)
    return sheet


def _told(model: Any, *more: str) -> str:
    parts = (
        model.recipe.name,
        f"{model.images_seen:,} images seen",
        *more,
        f"snapshot {model.snapshot_hash[:12]}",
    )
    return "  ·  ".join(parts)


def _shown(model: Any, at_least: int = SHOWN_SIZE) -> tuple[int, int, int]:
    """Height and width of a face on the page, and the unit that goes with them."""
    factor = ceil(at_least / min(model.resolution))
    height, width = (side * factor for side in model.resolution)
    return height, width, max(8, round(min(height, width) / 18))


def _styled(model: Any, figure: str) -> Any:
    """``model`` if its family has styles; UserError, with what to use instead, where it has none."""
    name = model.recipe.model["name"]
    if "style" not in MODELS[name].can:
        able = ", ".join(known for known, row in MODELS.items() if "style" in row.can)
        raise UserError(
            f"figure {figure}: {name} has no styles; use omokage figure uncurated, truncation or "
            f"progression, or a run of a family that has them: {able}"
        )
    return model


def _checked_psi(model: Any, psis: Sequence[float], figure: str) -> list[float]:
    """The psis as a list; a family without styles has no average to go to the other side of."""
    psis = [float(psi) for psi in psis]
    if not psis:
        raise UserError(f"figure {figure}: no psi given; for example --psi 1,0.5,0")
    for psi in psis:
        if not isfinite(psi) or abs(psi) > 2:
            raise UserError(f"figure {figure}: psi {psi:g}, allowed is -2 to 2")
        if psi < 0 and "style" not in MODELS[model.recipe.model["name"]].can:
            raise UserError(
                f"figure {figure}: psi {psi:g} mirrors a face through the average of its styles, and "
                f"{model.recipe.model['name']} has no styles; give psi of 0 or more"
            )
    return psis


def _synthesised(
    model: Any, w: Tensor, noise: Noise = "constant", progress: Progress | None = None
) -> np.ndarray:
    """Faces uint8 (N, H, W, 3) of styles (N, layers, w_dim), in batches of the size that sampling has."""
    faces = []
    with opened(progress, "drawing", len(w)) as task:
        for part in w.split(BATCH):
            missing = BATCH - len(part)
            padded = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
            faces.append(to_pixels(model.synthesis(padded, noise=noise))[: len(part)])
            task.advance(len(part))
    return np.concatenate(faces)


def _styles(model: Any, seeds: Sequence[int], psi: float) -> Tensor:
    """(N, layers, w_dim), of as many latents at a time as sampling has."""
    found = []
    for start in range(0, len(seeds), BATCH):
        z = latents(seeds[start : start + BATCH], model.latent_shape)
        padded = torch.cat([z, z[-1:].expand(BATCH - len(z), *z.shape[1:])])
        found.append(model.mapping(padded, psi)[: len(z)])
    return torch.cat(found)


def _decoded(model: Any, seeds: Sequence[int], psi: float, progress: Progress | None) -> np.ndarray:
    return np.stack([face for _, face in sampled_faces(model, seeds, psi, progress)])


def style_ranges(sizes: Sequence[tuple[int, int]]) -> list[range]:
    """Layers of coarse, middle and fine styles: of the first two sizes, of the next two, of the rest.

    ``sizes``: that of each layer. Of three or four sizes the first, the second and the rest; else thirds of
    the layers.

    >>> style_ranges([(4 * 2**i, 4 * 2**i) for i in range(7) for _ in range(2)])
    [range(0, 4), range(4, 8), range(8, 14)]
    """
    starts = [i for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
    layers = len(sizes)
    if len(starts) >= 5:
        first, second = starts[2], starts[4]
    elif len(starts) >= 3:
        first, second = starts[1], starts[2]
    else:
        first, second = ceil(layers / 3), ceil(2 * layers / 3)
    return [range(first), range(first, second), range(second, layers)]


def _sizes_of(model: Any, layers: range) -> str:
    low, high = (min(model.layer_sizes[layer]) for layer in (layers[0], layers[-1]))
    return f"{low} px" if low == high else f"{low} to {high} px"


def write_uncurated(
    model: Any,
    out: str | Path,
    *,
    seed: int = 0,
    psi: float = 1.0,
    rows: int = 2,
    halvings: Sequence[int] = (0, 0, 1, 1, 2, 2, 3, 3),
    title: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Faces of consecutive seeds, none left out, in several sizes (Karras et al. 2019, figure 2).

    ``rows``: of the largest faces. ``halvings``: columns from the left, each with how many times its faces
    are half as large; the defaults take 60 seeds from ``seed`` up. ``title``: None writes one, empty leaves
    it out, as in all figures. Returns the path written.

    UserError: impossible numbers, a name that does not end in .png or cannot be written, a picture too large
    to open.
    """
    _checked_psi(model, [psi], "uncurated")
    if rows < 1 or not halvings or not all(0 <= halving <= 6 for halving in halvings):
        raise UserError(
            f"figure uncurated: got {rows} rows and sizes {list(halvings)}; at least one row, and sizes "
            "from 0 (largest) to 6, for example 0,1,2,2,3,3"
        )
    height, width, unit = _shown(model, 4 * SHOWN_SIZE // 3)
    gap = max(2, min(height, width) // 64)
    # Distances between faces halve exactly; faces are what the gaps leave of them.
    finest = 2 ** max(halvings)
    pitch = ceil((height + gap) / finest) * finest
    counts = [rows * 2**halving for halving in halvings]
    boxes = []
    for halving in halvings:
        tall = (pitch >> halving) - gap
        boxes.append((tall, max(1, round(tall * width / height))))
    seeds = checked_seeds(range(seed, seed + sum(counts)), psi)
    path = checked_file(out, ".png")
    size = (rows * pitch - gap, sum(box[1] + gap for box in boxes) - gap)
    title = "Uncurated faces" if title is None else title
    line = _told(model, f"seeds {seed_ranges(seeds)}", f"psi {psi:g}")
    sheet = _sheet(model, size, unit, title, line, out)
    faces = iter(sampled_faces(model, seeds, psi, progress))
    x = 0
    for (tall, wide), count in zip(boxes, counts, strict=True):
        for row in range(count):
            sheet.face(next(faces)[1], x, row * (tall + gap), (tall, wide))
        x += wide + gap
    list(faces)  # ends the bar
    save_png(sheet.image, path, provenance(model, seeds, psi) | {"Title": title})
    return path


def write_mixing(
    model: Any,
    out: str | Path,
    *,
    sources_a: Sequence[int] = range(100, 106),
    sources_b: Sequence[int] = range(200, 205),
    psi: float = 0.7,
    title: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Faces of A with the coarse, middle or fine styles of B (Karras et al. 2019, figure 3).

    ``sources_a``: seeds of the faces at the left, three or more; the upper half of them takes its coarse
    styles from B, the next its middle ones, the rest its fine ones. ``sources_b``: seeds along the top.
    UserError: a family without styles; else as `write_uncurated`.
    """
    _styled(model, "mixing")
    psi = _checked_psi(model, [psi], "mixing")[0]
    sources_a, sources_b = checked_seeds(sources_a, psi), checked_seeds(sources_b, psi)
    if len(sources_a) < 3:
        raise UserError(
            f"figure mixing: {len(sources_a)} seeds for A, at least 3: a row each for coarse, middle and fine"
        )
    path = checked_file(out, ".png")
    ranges = style_ranges(model.layer_sizes)
    counts = _shares(len(sources_a))
    which = [kind for kind, count in enumerate(counts) for _ in range(count)]
    a, b = _styles(model, sources_a, psi), _styles(model, sources_b, psi)
    mixed = []
    for style, kind in zip(a, which, strict=True):
        rows = style.expand(len(b), *style.shape).clone()
        rows[:, ranges[kind]] = b[:, ranges[kind]]
        mixed.append(rows)
    faces = _synthesised(model, torch.cat([a, b, *mixed]), progress=progress)
    of_a, of_b, of_both = np.split(faces, [len(a), len(a) + len(b)])

    height, width, unit = _shown(model)
    gap, apart = unit // 2, 2 * unit
    left, top = 7 * unit, 3 * unit  # of the labels
    ys, y = [], top + height + apart
    for row, kind in enumerate(which):
        y += (apart - gap) if row and which[row - 1] != kind else 0
        ys.append(y)
        y += height + gap
    first = left + width + apart
    size = (y - gap, first + len(b) * (width + gap) - gap)
    title = "Mixing styles" if title is None else title
    sheet = _sheet(model, size, unit, title, _told(model, f"psi {psi:g}"), out)
    middle = first + (size[1] - first) / 2
    sheet.text("Source B", middle, 0.8 * unit, size=2.1)
    sheet.text("Source A", left + width / 2, top + height + apart - 1.6 * unit, size=2.1, width=width)
    for column, face in enumerate(of_b):
        sheet.face(face, first + column * (width + gap), top, (height, width))
    for row, face in enumerate(of_a):
        sheet.face(face, left, ys[row], (height, width))
        for column in range(len(b)):
            x = first + column * (width + gap)
            sheet.face(of_both[row * len(b) + column], x, ys[row], (height, width))
    for kind, name in enumerate(("Coarse", "Middle", "Fine")):
        its = [ys[row] for row in range(len(ys)) if which[row] == kind]
        above, below = its[0], its[-1] + height
        words = f"{name} styles from B" if below - above > 1.5 * height else f"{name} from B"
        told = _sizes_of(model, ranges[kind])
        sheet.upright(words, told, 2 * unit, (above + below) / 2, below - above)
        line = [(sheet.x + 5.6 * unit, sheet.y + end) for end in (above + unit / 2, below - unit / 2)]
        sheet.draw.line(line, FAINT_INK, max(1, unit // 8))
    text = provenance(model, [*sources_a, *sources_b], psi)
    text |= {"Title": title, "source A": seed_ranges(sources_a), "source B": seed_ranges(sources_b)}
    save_png(sheet.image, path, text)
    return path


def _shares(n: int) -> list[int]:
    """Rows of coarse, middle and fine styles, as in the paper: 3, 2 and 1 of 6."""
    fine = max(1, round(n / 6))
    middle = max(1, round(n / 3))
    return [n - middle - fine, middle, fine]


def write_truncation(
    model: Any,
    out: str | Path,
    *,
    seeds: Sequence[int] = range(6),
    psis: Sequence[float] | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """One row a seed, one column a psi (Karras et al. 2019, figure 8).

    ``psis``: None takes `PSIS`, without the negative ones where the family has no styles. UserError as
    `write_uncurated`, and for a psi that the family does not have.
    """
    styled = "style" in MODELS[model.recipe.model["name"]].can
    if psis is None:
        psis = [psi for psi in PSIS if psi >= 0 or styled]
    psis = _checked_psi(model, psis, "truncation")
    seeds = checked_seeds(seeds, 1.0)
    path = checked_file(out, ".png")
    height, width, unit = _shown(model)
    gap, left, top = unit // 2, round(4.5 * unit), 3 * unit
    size = (top + len(seeds) * (height + gap) - gap, left + len(psis) * (width + gap) - gap)
    title = "Truncation" if title is None else title
    sheet = _sheet(model, size, unit, title, _told(model), out)
    for row, seed in enumerate(seeds):
        y = top + row * (height + gap) + height / 2
        sheet.text(str(seed), left - unit, y, anchor="rm", width=left - unit, ink=FAINT_INK, size=1.7)
    for column, psi in enumerate(psis):
        x = left + column * (width + gap)
        sheet.text(f"psi {psi:g}", x + width / 2, unit, width=width)
        for row, face in enumerate(_decoded(model, seeds, psi, progress)):
            sheet.face(face, x, top + row * (height + gap), (height, width))
    text = provenance(model, seeds, psis[0]) | {"Title": title, "psi": ",".join(f"{psi:g}" for psi in psis)}
    save_png(sheet.image, path, text)
    return path


def write_noise_detail(
    model: Any,
    out: str | Path,
    *,
    seeds: Sequence[int] = range(3),
    psi: float = 0.7,
    noise_seed: int = 0,
    title: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """What noise changes: a face, four noises near, and the deviation over `NOISES` of them.

    As Karras et al. 2019, figure 4. What is shown near is the quarter of each side where noise changes most.
    UserError as `write_mixing`.
    """
    _styled(model, "noise-detail")
    psi = _checked_psi(model, [psi], "noise-detail")[0]
    seeds = checked_seeds(seeds, psi)
    path = checked_file(out, ".png")
    height, width, unit = _shown(model, 2 * SHOWN_SIZE)
    unit = round(unit * 0.75)
    gap, top = unit // 2, 3 * unit
    size = (top + len(seeds) * (height + unit) - unit, 3 * width + 4 * unit)
    title = "Noise detail" if title is None else title
    line = _told(model, f"seeds {seed_ranges(seeds)}", f"psi {psi:g}")
    sheet = _sheet(model, size, unit, title, line, out)
    columns = [column * (width + 2 * unit) for column in range(3)]
    names = ["Generated face", "Four noises", f"Deviation over {NOISES} noises"]
    sheet.headings(names, columns, 0.8 * unit, width)
    plain = _synthesised(model, _styles(model, seeds, psi))
    for row, style in enumerate(_styles(model, seeds, psi)):
        y = top + row * (height + unit)
        with _seeded(noise_seed):
            varied = _synthesised(model, style.expand(NOISES, *style.shape), "random", progress)
        deviation = varied.astype(np.float32).mean(3).std(0)
        place = _busiest(deviation)
        sheet.face(plain[row], columns[0], y, (height, width))
        _frame(sheet, plain[row].shape, place, columns[0], y, (height, width))
        small = ((height - gap) // 2, (width - gap) // 2)
        for i, face in enumerate(varied[:4]):
            sheet.face(face[place], *_quarter(i, columns[1], y, small, gap), small)
        sheet.face(_map(deviation), columns[2], y, (height, width))
    text = provenance(model, seeds, psi) | {"Title": title, "noise seed": str(noise_seed)}
    save_png(sheet.image, path, text)
    return path


def _quarter(i: int, x: float, y: float, size: tuple[int, int], gap: int) -> tuple[float, float]:
    return x + (i % 2) * (size[1] + gap), y + (i // 2) * (size[0] + gap)


def write_noise_components(
    model: Any,
    out: str | Path,
    *,
    seeds: Sequence[int] = range(3),
    psi: float = 0.7,
    title: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Noise in all layers, in none, in fine ones and in coarse ones (Karras et al. 2019, figure 5).

    Below each face stands the quarter of each side where noise changes most. UserError as `write_mixing`.
    """
    _styled(model, "noise-components")
    psi = _checked_psi(model, [psi], "noise-components")[0]
    seeds = checked_seeds(seeds, psi)
    path = checked_file(out, ".png")
    first_fine = style_ranges(model.layer_sizes)[2][0]
    coarse, fine = range(first_fine), range(first_fine, model.layers)
    kinds = {
        "Noise in all layers": range(model.layers),
        "No noise": range(0),
        f"Only in fine ones ({_sizes_of(model, fine)})": fine,
        f"Only in coarse ones ({_sizes_of(model, coarse)})": coarse,
    }
    w = _styles(model, seeds, psi)
    faces = []
    for having in kinds.values():
        noise = ["constant" if layer in having else "none" for layer in range(model.layers)]
        faces.append(_synthesised(model, w, noise, progress))
    height, width, unit = _shown(model, 3 * SHOWN_SIZE // 2)
    unit = round(unit * 0.8)
    gap, top, near = unit // 2, 3 * unit, height // 2
    pitch = height + gap + near + 2 * unit
    size = (top + len(seeds) * pitch - 2 * unit, 4 * (width + unit) - unit)
    title = "Noise components" if title is None else title
    line = _told(model, f"seeds {seed_ranges(seeds)}", f"psi {psi:g}")
    sheet = _sheet(model, size, unit, title, line, out)
    changed = np.stack(faces).astype(np.float32).mean(4).std(0)
    columns = [column * (width + unit) for column in range(len(kinds))]
    sheet.headings(list(kinds), columns, 0.8 * unit, width)
    for x, its in zip(columns, faces, strict=True):
        for row, face in enumerate(its):
            y = top + row * pitch
            place = _busiest(changed[row], (1 / 4, 1 / 2))
            sheet.face(face, x, y, (height, width))
            _frame(sheet, face.shape, place, x, y, (height, width))
            sheet.face(face[place], x, y + height + gap, (near, width))
    save_png(sheet.image, path, provenance(model, seeds, psi) | {"Title": title})
    return path


class _seeded:
    """PyTorch's generator from a seed within the block, and as it was behind it."""

    def __init__(self, seed: int) -> None:
        self.seed, self.fork = seed, torch.random.fork_rng()

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def _busiest(change: np.ndarray, share: tuple[float, float] = (1 / 4, 1 / 4)) -> tuple[slice, slice]:
    """The window of ``share`` of both sides in which ``change`` (H, W) is largest on the whole."""
    (height, width), (tall, wide) = change.shape, share
    tall, wide = max(1, round(height * tall)), max(1, round(width * wide))
    sums = np.pad(change.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    y, x = np.unravel_index(windows.argmax(), windows.shape)
    return slice(int(y), int(y) + tall), slice(int(x), int(x) + wide)


def _frame(
    sheet: _Sheet,
    shape: Sequence[int],
    place: tuple[slice, slice],
    x: float,
    y: float,
    size: tuple[int, int],
) -> None:
    """A thin light frame with a dark rim, to be seen on every colour, around a window of a face."""
    down, right = size[0] / shape[0], size[1] / shape[1]
    box = [
        round(sheet.x + x + place[1].start * right),
        round(sheet.y + y + place[0].start * down),
        round(sheet.x + x + place[1].stop * right) - 1,
        round(sheet.y + y + place[0].stop * down) - 1,
    ]
    thick = max(1, sheet.unit // 8)
    sheet.draw.rectangle(box, outline=INK, width=3 * thick)
    inner = [box[0] + thick, box[1] + thick, box[2] - thick, box[3] - thick]
    sheet.draw.rectangle(inner, outline=PAPER, width=thick)


def _map(deviation: np.ndarray) -> np.ndarray:
    """Grey values (H, W, 3): black nothing, white the most (but for one pixel in two hundred)."""
    most = max(float(np.percentile(deviation, 99.5)), 1e-6)
    grey = (np.clip(deviation / most, 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


STAGE = re.compile(r"(?:snapshot|images)-(\d{12})\.(?:safetensors|png)")
PER_SECOND = 15  # stages of a montage, at 30 frames
LEAST_SECONDS = 6.0  # so long a montage lasts, however few its stages


@dataclass(frozen=True)
class _Stage:
    """The faces of some seeds at one moment of a run."""

    images: int
    faces: Callable[[], np.ndarray]  # uint8 (N, H, W, 3)


def write_progression(
    run: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = range(8),
    psi: float = 1.0,
    rows: int = 8,
    source: str = "auto",
    title: str | None = None,
    video: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The same seeds over a run: one row a moment, one column a seed; and all moments as a film.

    ``source``: "snapshots", which keep what the recipe's ``keep`` says; "grids", the pictures that training
    draws of the seeds 0 to 63 at psi 1; "auto": whichever there are more of that show what is asked for.
    ``rows``: at most so many moments, from the first to the last, their distances growing like the run.
    ``video``: an MP4 of all moments, 15 a second, longer where there are few. Returns the path of the PNG.

    UserError: no run, a single moment, seeds or a psi that grids do not show; else as `write_uncurated`.
    """
    from omokage.snapshot import load_model

    seeds = checked_seeds(seeds, psi)
    if rows < 2:
        raise UserError(f"figure progression: got {rows} rows, at least 2")
    if not Path(run).is_dir():
        raise UserError(f"figure progression: {run} is no run folder; give the folder, not a snapshot in it")
    path = checked_file(out, ".png")
    film = None if video is None else checked_file(video, ".mp4")
    model = load_model(run)
    _checked_psi(model, [psi], "progression")
    stages = _stages(Path(run), model, seeds, psi, source)
    chosen = _spread(stages, rows)

    height, width, unit = _shown(model, 128)
    gap, left = max(2, unit // 2), 9 * unit
    size = (len(chosen) * (height + gap) - gap, left + len(seeds) * (width + gap) - gap)
    title = "Progression" if title is None else title
    line = _told(model, f"seeds {seed_ranges(seeds)}", f"psi {psi:g}")
    sheet = _sheet(model, size, unit, title, line, out)
    with opened(progress, "drawing", len(chosen)) as task:
        for row, stage in enumerate(chosen):
            y = row * (height + gap)
            middle = y + height / 2
            sheet.text(_count(stage.images), left - unit, middle, anchor="rb", width=left - unit, size=2.0)
            sheet.text("images", left - unit, middle + 0.4 * unit, anchor="rt", ink=FAINT_INK, size=1.5)
            for column, face in enumerate(stage.faces()):
                sheet.face(face, left + column * (width + gap), y, (height, width))
            task.advance()
    text = provenance(model, seeds, psi) | {"Title": title}
    text["stages"] = ",".join(str(stage.images) for stage in chosen)
    save_png(sheet.image, path, text)
    if film is not None:
        _write_montage(model, stages, seeds, film, provenance(model, seeds, psi), progress)
    return path


def _count(images: int) -> str:
    """A number of images as it is said: 800, 25.6k, 1.92M."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if images >= size:
            return f"{images / size:.3g}{letter}"
    return str(images)


def _stages(run: Path, model: Any, seeds: list[int], psi: float, source: str) -> list[_Stage]:
    from omokage.snapshot import load_model, snapshots
    from omokage.training.loop import GRID_SEEDS

    def sampled(path: Path) -> np.ndarray:
        return _decoded(load_model(path), seeds, psi, None)

    def cut(path: Path) -> np.ndarray:
        height, width = model.resolution
        columns = round(len(GRID_SEEDS) ** 0.5)
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        if pixels.shape != (columns * height, columns * width, 3):
            raise UserError(f"{path} is no grid of this run's faces; use --from snapshots")
        faces = (
            pixels.reshape(columns, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
        )
        return faces[[GRID_SEEDS.index(seed) for seed in seeds]]

    shown_by_grids = psi == 1 and all(seed in GRID_SEEDS for seed in seeds)
    if source == "grids" and not shown_by_grids:
        raise UserError(
            f"figure progression: grids show the seeds 0 to {GRID_SEEDS[-1]} at psi 1 only; "
            "use --from snapshots"
        )
    found = {
        "snapshots": [(path, sampled) for path in snapshots(run)],
        "grids": [(path, cut) for path in sorted((run / "grids").glob("images-*.png"))],
    }
    if source == "auto":
        source = max(found, key=lambda kind: len(found[kind]) * (kind == "snapshots" or shown_by_grids))
    stages = []
    for path, faces in found[source]:
        named = STAGE.fullmatch(path.name)
        if named:
            stages.append(_Stage(int(named[1]), lambda path=path, faces=faces: faces(path)))  # type: ignore[misc]
    if len(stages) < 2:
        raise UserError(
            f"figure progression: {run} has {len(stages)} of {source}, and a progression needs two; "
            "train with training.keep=0 (all snapshots) or a smaller training.grid_kimg"
        )
    return stages


def _spread(stages: list[_Stage], rows: int) -> list[_Stage]:
    """At most ``rows`` of them, first and last among them, images seen growing by about the same factor."""
    if len(stages) <= rows:
        return stages
    places = np.log([max(1, stage.images) for stage in stages])
    chosen = [0]
    for i in range(1, rows - 1):
        aim = places[0] + (places[-1] - places[0]) * i / (rows - 1)
        low, high = chosen[-1] + 1, len(stages) - (rows - i)
        chosen.append(low + int(np.abs(places[low : high + 1] - aim).argmin()))
    return [stages[i] for i in [*chosen, len(stages) - 1]]


def _write_montage(
    model: Any,
    stages: list[_Stage],
    seeds: list[int],
    path: Path,
    text: dict[str, str],
    progress: Progress | None,
) -> None:
    """Every stage as a picture of all seeds above the images seen, 30 frames a second; the last one stays."""
    from omokage.explore.pictures import near_square_columns
    from omokage.explore.video import LONGEST_SIDE, write_video

    columns = near_square_columns(len(seeds))
    rows = ceil(len(seeds) / columns)
    height, width, unit = _shown(model, 128)
    gap = max(2, unit // 2)
    full = (rows * (height + gap) - gap + 10 * unit, columns * (width + gap) - gap + 6 * unit)
    even = [side + side % 2 for side in full]
    if max(even) > LONGEST_SIDE:
        raise UserError(
            f"{path}: the film would be {even[1]}x{even[0]} px, and few players show a side over "
            f"{LONGEST_SIDE}; give fewer seeds"
        )
    repeats = max(30 // PER_SECOND, round(LEAST_SECONDS * 30 / len(stages)))

    def frames() -> Iterator[np.ndarray]:
        with opened(progress, "filming", len(stages)) as task:
            for stage in stages:
                sheet = _Sheet(Image.new("RGB", (even[1], even[0]), PAPER), 3 * unit, 3 * unit, unit)
                for i, face in enumerate(stage.faces()):
                    x, y = (i % columns) * (width + gap), (i // columns) * (height + gap)
                    sheet.face(face, x, y, (height, width))
                middle = even[1] / 2 - 3 * unit
                sheet.text(f"{stage.images:,} images", middle, even[0] - 6.5 * unit, width=even[1] - 6 * unit)
                for _ in range(repeats if stage is not stages[-1] else repeats + 60):
                    yield np.asarray(sheet.image)
                task.advance()

    write_video(frames(), path, frames_per_second=30, text=text)
