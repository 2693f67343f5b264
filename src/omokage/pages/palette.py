"""The few colours of a face, for a palette."""

from dataclasses import dataclass

import numpy as np

MOST = 8
SAME = 11.0  # CIE 1976 difference below which two colours become one
LEAST = 0.012  # a colour has at least this share of the face


@dataclass(frozen=True)
class Swatch:
    """A colour and the share of the face that has about this colour.

    >>> Swatch((255, 0, 128), 0.5).hex
    '#ff0080'
    """

    colour: tuple[int, int, int]
    share: float

    @property
    def hex(self) -> str:
        """The colour as web pages write it."""
        return "#" + "".join(f"{value:02x}" for value in self.colour)


def palette(pixels: np.ndarray, where: np.ndarray | None = None, most: int = MOST) -> list[Swatch]:
    """The colours of a face, the largest area first.

    k-means in CIELAB (D65), which begins with colours far from each other, so that the small area of an eye
    is found beside the large one of the hair. Near colours become one, and rare ones are left out.

    Args:
        pixels: uint8 (H, W, 3).
        where: bool (H, W), the pixels that count; None: all.

    >>> half = np.zeros((8, 8, 3), np.uint8)
    >>> half[:, :6] = (200, 40, 40)
    >>> [(one.hex, one.share) for one in palette(half)]
    [('#c82828', 0.75), ('#000000', 0.25)]
    """
    import cv2

    chosen = pixels.reshape(-1, 3) if where is None else pixels[where]
    if not len(chosen):
        return []
    chosen = chosen[:: max(1, len(chosen) // 20_000)]
    lab = cv2.cvtColor(chosen[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    centres, of = _means(lab, most)
    parts = [lab[of == number] for number in range(len(centres))]
    # The median, so that the soft edges between two areas tint neither.
    groups = _joined([(np.median(part, 0), len(part)) for part in parts if len(part)])
    rgb = cv2.cvtColor(np.array([[middle for middle, _ in groups]], np.float32), cv2.COLOR_LAB2RGB)[0]
    found = [
        Swatch(tuple(int(value) for value in (colour * 255).round().clip(0, 255)), count / len(lab))  # type: ignore[arg-type]
        for colour, (_, count) in zip(rgb, groups, strict=True)
    ]
    return [one for one in sorted(found, key=lambda one: -one.share) if one.share >= LEAST]


def _means(lab: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means (Lloyd): the centres (K, 3), and the number of each colour's centre."""
    centres = [lab.mean(0)]
    near = ((lab - centres[0]) ** 2).sum(1)
    first = True
    while len(centres) < number and near.max() > SAME**2:
        # The ninety-ninth percentile, so that a single odd pixel is no centre.
        far = int(np.abs(near - np.percentile(near, 99)).argmin())
        centres = [lab[far]] if first else [*centres, lab[far]]
        distance = ((lab - lab[far]) ** 2).sum(1)
        near, first = distance if first else np.minimum(near, distance), False
    found = np.array(centres)
    of = np.zeros(len(lab), int)
    for _ in range(20):
        of = ((lab[:, None] - found[None]) ** 2).sum(2).argmin(1)
        moved = np.array([lab[of == k].mean(0) if (of == k).any() else found[k] for k in range(len(found))])
        if np.abs(moved - found).max() < 0.1:
            break
        found = moved
    return found, of


def _joined(groups: list[tuple[np.ndarray, int]]) -> list[tuple[np.ndarray, int]]:
    """The groups of colours, each pair that is nearer than `SAME` made one."""
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        i, j = min(pairs, key=lambda pair: float(np.linalg.norm(groups[pair[0]][0] - groups[pair[1]][0])))
        (one, many), (other, few) = groups[i], groups[j]
        if np.linalg.norm(one - other) >= SAME:
            break
        both = ((one * many + other * few) / (many + few), many + few)
        groups = [*(group for k, group in enumerate(groups) if k not in (i, j)), both]
    return groups
