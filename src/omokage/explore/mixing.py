"""Style mixing: faces of A with the coarse, middle or fine styles of B (Karras et al. 2019, figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from omokage.errors import UserError
from omokage.explore.points import Points
from omokage.model import Model
from omokage.progress import Progress
from omokage.sampling import counted, gathered, pixels, seed_ranges, synthesised
from omokage.settings import SEEDS, Settings, parse_seeds


def style_ranges(sizes: Sequence[tuple[int, int]]) -> list[range]:
    """The layers of coarse, middle and fine styles.

    ``sizes``: the size of each layer. With five sizes or more, coarse are the first two sizes, middle the
    next two and fine the rest. With three or four sizes, coarse is the first, middle the second and fine the
    rest. With fewer, each kind is a third of the layers.

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


def sizes_of(model: Model, layers: range) -> str:
    """The sizes of some layers in words: ``8 px`` or ``16 to 64 px``."""
    return _sizes(model, layers)


KINDS = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class Choice:
    """Layers whose styles are taken from B.

    Attributes:
        name: in words: "Coarse", "Middle", "Fine" or "Layers 1-3".
        layers: the layers, from 0.
    """

    name: str
    layers: tuple[int, ...]


def parse_choices(model: Model, text: str) -> list[Choice]:
    """Choices of layers from ``coarse,fine``, or one choice from layers like ``1-3,8``, counted from 1.

    Raises:
        UserError: something else, a layer that does not exist, or a family without styles.
    """
    ranges = dict(zip(KINDS, style_ranges(model.layer_sizes), strict=True))
    parts = [part.strip() for part in text.split(",")]
    if all(part in ranges for part in parts):
        return [Choice(part.capitalize(), tuple(ranges[part])) for part in parts]
    layers = parse_seeds(text, "--styles") if SEEDS.fullmatch(text) else []
    if not layers or not all(1 <= layer <= model.layers for layer in layers):
        raise UserError(
            f"--styles: got {text!r}; write coarse, middle, fine, or layers from 1 to {model.layers}, "
            "like 1-3,8"
        )
    return [Choice(f"Layers {seed_ranges(layers)}", tuple(layer - 1 for layer in layers))]


@dataclass(frozen=True)
class MixedFaces:
    """Faces of A, of B, and of A with some styles of B.

    Attributes:
        of_a: (rows, H, W, 3) uint8; of_b: (B, H, W, 3); mixed: (rows, B, H, W, 3). One row for each face of
            A, or several if it takes different styles.
        kinds: for each row, the number of the choice of layers that it takes from B.
        sizes: for each choice, the sizes of its layers in words.
        not_finite: how many faces are not finite.
        names: for each choice, its name: "Coarse", "Middle", "Fine" or "Layers 1-3".
        rows: for each row, the number of its face of A.
        w: (rows, B, layers, width), the styles of ``mixed``.
    """

    of_a: np.ndarray
    of_b: np.ndarray
    mixed: np.ndarray
    kinds: list[int]
    sizes: list[str]
    not_finite: int
    names: list[str]
    rows: list[int]
    w: Tensor


def mixed_styles(a: Tensor, b: Tensor, layers: Sequence[int]) -> Tensor:
    """Styles (N, layers, width) of ``a`` with the ``layers`` of ``b``, which may be one style for all.

    >>> mixed_styles(torch.zeros(1, 3, 2), torch.ones(1, 3, 2), [0])[0, :, 0]
    tensor([1., 0., 0.])
    """
    both = a.clone()
    both[:, list(layers)] = b[:, list(layers)]
    return both


def mixing(
    model: Model,
    sources_a: Points,
    sources_b: Points,
    settings: Settings,
    progress: Progress | None = None,
    choices: Sequence[Choice] | None = None,
) -> MixedFaces:
    """Faces of A with styles of B, which are points in w.

    ``choices``: each face of A takes each of these choices of layers. None: as in the paper, the first half
    of A takes its coarse styles from B, the next faces their middle styles, and the last ones their fine
    styles; with fewer than three faces of A, each takes all three in turn.

    Raises:
        UserError: the family has no styles, points in z, or no face for A or B.
    """
    plain = [
        Choice(kind.capitalize(), tuple(layers))
        for kind, layers in zip(KINDS, style_ranges(model.layer_sizes), strict=True)
    ]
    if not len(sources_a) or not len(sources_b):
        raise UserError("mix: no faces for A or B; A are the faces, B are those of --from")
    a, b = sources_a.w, sources_b.w
    if a is None or b is None:
        raise UserError("mix: styles are mixed in w; leave --in z out")
    if choices is None and len(a) >= 3:
        kinds = [kind for kind, count in enumerate(_shares(len(a))) for _ in range(count)]
        rows = list(range(len(a)))
    else:
        kinds = [kind for kind in range(len(choices or plain)) for _ in range(len(a))]
        rows = [row for _ in (choices or plain) for row in range(len(a))]
    chosen = list(choices or plain)
    mixed = torch.stack(
        [
            mixed_styles(a[row].expand(len(b), *a.shape[1:]), b, chosen[kind].layers)
            for row, kind in zip(rows, kinds, strict=True)
        ]
    )
    w = torch.cat([a[rows], b, mixed.flatten(0, 1)])
    shown = pixels(synthesised(model, w, settings.noise))
    faces, finite = gathered(counted(shown, progress, "drawing", len(w)))
    of_a, of_b, of_both = np.split(faces, [len(rows), len(rows) + len(b)])
    of_both = of_both.reshape(len(rows), len(b), *faces.shape[1:])
    return MixedFaces(
        of_a,
        of_b,
        of_both,
        kinds,
        [_sizes(model, choice.layers) for choice in chosen],
        int((~finite).sum()),
        [choice.name for choice in chosen],
        rows,
        mixed,
    )


def _sizes(model: Model, layers: Sequence[int]) -> str:
    """The sizes of some layers in words: ``8 px`` or ``16 to 64 px``."""
    sides = [min(model.layer_sizes[layer]) for layer in layers]
    low, high = min(sides), max(sides)
    return f"{low} px" if low == high else f"{low} to {high} px"


def _shares(n: int) -> list[int]:
    """How many rows show coarse, middle and fine styles. Six rows give 3, 2 and 1, as in the paper."""
    fine = max(1, round(n / 6))
    middle = max(1, round(n / 3))
    return [n - middle - fine, middle, fine]
