"""Style mixing: faces of A with the coarse, middle or fine styles of B (Karras et al. 2019, figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from omokage.errors import UserError
from omokage.model import Model
from omokage.progress import Progress
from omokage.sampling import counted, gathered, pixels, styles, synthesised
from omokage.settings import Settings


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
    low, high = (min(model.layer_sizes[layer]) for layer in (layers[0], layers[-1]))
    return f"{low} px" if low == high else f"{low} to {high} px"


@dataclass(frozen=True)
class MixedFaces:
    """Faces of A, of B, and of A with some styles of B.

    Attributes:
        of_a: (A, H, W, 3) uint8; of_b: (B, H, W, 3); mixed: (A, B, H, W, 3).
        kinds: for each face of A, the styles that it takes from B: 0 coarse, 1 middle, 2 fine.
        sizes: for each kind, the sizes of its layers in words.
        not_finite: how many faces are not finite.
    """

    of_a: np.ndarray
    of_b: np.ndarray
    mixed: np.ndarray
    kinds: list[int]
    sizes: list[str]
    not_finite: int


def mixing(
    model: Model,
    sources_a: Sequence[int],
    sources_b: Sequence[int],
    settings: Settings,
    progress: Progress | None = None,
) -> MixedFaces:
    """Faces of the seeds A with styles of the seeds B.

    The first half of A takes its coarse styles from B, the next seeds their middle styles, and the last ones
    their fine styles.

    Raises:
        UserError: the family has no styles, or fewer than three seeds for A.
    """
    ranges = style_ranges(model.layer_sizes)
    if len(sources_a) < 3:
        raise UserError(
            f"figure mixing: got {len(sources_a)} seeds for A, at least 3 are needed: "
            "a row each for coarse, middle and fine"
        )
    kinds = [kind for kind, count in enumerate(_shares(len(sources_a))) for _ in range(count)]
    a, b = styles(model, sources_a, settings), styles(model, sources_b, settings)
    mixed = []
    for style, kind in zip(a, kinds, strict=True):
        rows = style.expand(len(b), *style.shape).clone()
        rows[:, ranges[kind]] = b[:, ranges[kind]]
        mixed.append(rows)
    w = torch.cat([a, b, *mixed])
    drawn = pixels(synthesised(model, w, settings.noise))
    faces, finite = gathered(counted(drawn, progress, "drawing", len(w)))
    of_a, of_b, of_both = np.split(faces, [len(a), len(a) + len(b)])
    of_both = of_both.reshape(len(a), len(b), *faces.shape[1:])
    return MixedFaces(of_a, of_b, of_both, kinds, [sizes_of(model, r) for r in ranges], int((~finite).sum()))


def _shares(n: int) -> list[int]:
    """How many rows show coarse, middle and fine styles. Six rows give 3, 2 and 1, as in the paper."""
    fine = max(1, round(n / 6))
    middle = max(1, round(n / 3))
    return [n - middle - fine, middle, fine]
