"""Figures of generated faces for publication, like those of the StyleGAN papers.

Each function writes one PNG: faces with margins and labels, and text chunks that say how to make it again.
``title``: None uses the usual title, an empty one leaves it out. All functions return the path written. They
raise UserError if the name does not end in .png, if it cannot be written, and if the picture would be too
large to open.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np

from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.explore.history import Stage
from omokage.explore.mixing import MixedFaces
from omokage.explore.noise import NOISES, NoiseComponents, NoiseDetail
from omokage.model import About
from omokage.pages.files import checked_file, count_not_finite, provenance, save_png
from omokage.pages.sheet import FAINT_INK, INK, Sheet
from omokage.progress import Progress, opened
from omokage.sampling import seed_ranges
from omokage.settings import Settings

# In a figure, a face is enlarged by a whole factor until its shorter side has at least this many pixels.
FIGURE_SIZE = 192


def _shown(size: tuple[int, ...], at_least: int = FIGURE_SIZE) -> tuple[int, int, int]:
    """Height and width of a face of ``size`` on the page, and the layout unit for them."""
    factor = ceil(at_least / min(size))
    height, width = (side * factor for side in size)
    return height, width, max(8, round(min(height, width) / 18))


def _psi(settings: Settings) -> str:
    return f"psi {settings.text()['psi']}"


def uncurated_counts(rows: int, halvings: Sequence[int]) -> list[int]:
    """How many faces each column of `uncurated` has.

    Raises:
        UserError: no rows, no columns, or a halving outside of 0 to 6.
    """
    if rows < 1 or not halvings or not all(0 <= halving <= 6 for halving in halvings):
        raise UserError(
            f"figure uncurated: got {rows} rows and sizes {list(halvings)}; at least one row, and sizes "
            "from 0 (largest) to 6, for example 0,1,2,2,3,3"
        )
    return [rows * 2**halving for halving in halvings]


def uncurated(
    about: About,
    faces: Faces,
    out: str | Path,
    *,
    seeds: Sequence[int],
    settings: Settings,
    rows: int = 2,
    halvings: Sequence[int] = (0, 0, 1, 1, 2, 2, 3, 3),
    title: str | None = None,
) -> Path:
    """Faces of consecutive seeds, none left out, in several sizes (Karras et al. 2019, figure 2).

    ``rows``: rows of the largest faces. ``halvings``: for each column, from the left, how many times the size
    of its faces is halved. ``faces``: those of ``seeds``; their number is the sum of `uncurated_counts`.
    """
    counts = uncurated_counts(rows, halvings)
    path = checked_file(out, ".png")
    height, width, unit = _shown(faces.pixels.shape[1:3], 4 * FIGURE_SIZE // 3)
    gap = max(2, min(height, width) // 64)
    # The distance from face to face halves exactly; a face fills it but for the gap.
    finest = 2 ** max(halvings)
    pitch = ceil((height + gap) / finest) * finest
    boxes = []
    for halving in halvings:
        tall = (pitch >> halving) - gap
        boxes.append((tall, max(1, round(tall * width / height))))
    size = (rows * pitch - gap, sum(box[1] + gap for box in boxes) - gap)
    title = "Uncurated faces" if title is None else title
    line = about.line(f"seeds {seed_ranges(seeds)}", _psi(settings))
    sheet = Sheet.around(size, unit, title, line, out)
    remaining = iter(faces.pixels)
    x = 0
    for (tall, wide), count in zip(boxes, counts, strict=True):
        for row in range(count):
            sheet.face(next(remaining), x, row * (tall + gap), (tall, wide))
        x += wide + gap
    text = provenance(about, seeds, settings, faces.finite, kind="figure uncurated")
    return save_png(sheet.image, path, text | {"Title": title})


def mixing(
    about: About,
    mixed: MixedFaces,
    out: str | Path,
    *,
    settings: Settings,
    text: dict[str, str],
    title: str | None = None,
) -> Path:
    """Faces of A with the coarse, middle or fine styles of B (Karras et al. 2019, figure 3).

    ``text``: text chunks.
    """
    path = checked_file(out, ".png")
    height, width, unit = _shown(mixed.of_a.shape[1:3])
    gap, apart = unit // 2, 2 * unit
    left, top = 7 * unit, 3 * unit  # of the labels
    which = mixed.kinds
    ys, y = [], top + height + apart
    for row, kind in enumerate(which):
        y += (apart - gap) if row and which[row - 1] != kind else 0
        ys.append(y)
        y += height + gap
    first = left + width + apart
    size = (y - gap, first + len(mixed.of_b) * (width + gap) - gap)
    title = "Mixing styles" if title is None else title
    sheet = Sheet.around(size, unit, title, about.line(_psi(settings)), out)
    middle = first + (size[1] - first) / 2
    sheet.text("Source B", middle, 0.8 * unit, size=2.1)
    sheet.text("Source A", left + width / 2, top + height + apart - 1.6 * unit, size=2.1, width=width)
    for column, face in enumerate(mixed.of_b):
        sheet.face(face, first + column * (width + gap), top, (height, width))
    for row, face in enumerate(mixed.of_a):
        sheet.face(face, left, ys[row], (height, width))
        for column, both in enumerate(mixed.mixed[row]):
            sheet.face(both, first + column * (width + gap), ys[row], (height, width))
    for kind, name in enumerate(mixed.names):
        its = [ys[row] for row in range(len(ys)) if which[row] == kind]
        if not its:
            continue
        above, below = its[0], its[-1] + height
        words = f"{name} styles from B" if below - above > 1.5 * height else f"{name} from B"
        sheet.upright(words, mixed.sizes[kind], 2 * unit, (above + below) / 2, below - above)
        line = [(sheet.x + 5.6 * unit, sheet.y + end) for end in (above + unit / 2, below - unit / 2)]
        sheet.draw.line(line, FAINT_INK, max(1, unit // 8))
    return save_png(sheet.image, path, text | count_not_finite(mixed.not_finite) | {"Title": title})


def table(
    groups: Sequence[Sequence[Faces]],
    out: str | Path,
    *,
    title: str,
    line: str,
    columns: Sequence[str],
    text: dict[str, str],
    names: Sequence[str] = (),
    rows: str = "",
    marked: Sequence[int] = (),
) -> Path:
    """A table of faces: one row for each `Faces`, with its heading on the left, and headings above columns.

    Args:
        groups: one table or several below each other. ``names``: a heading for each; empty: none.
        line: small print below the title. ``text``: text chunks.
        columns: the headings of the columns.
        rows: what the headings of rows are, such as "entry".
        marked: columns with a line below their heading, such as the unchanged faces.
    """
    path = checked_file(out, ".png")
    height, width, unit = _shown(groups[0][0].pixels.shape[1:3])
    gap, top = unit // 2, 3 * unit
    headings = [row.heading for group in groups for row in group]
    longest = max((len(heading) for heading in headings), default=1)
    left = round(max(4.5, min(16, 1 + 0.95 * longest)) * unit)
    above = 3.5 * unit if any(names) else 0
    tall = [above + top + len(group) * (height + gap) for group in groups]
    size = (sum(tall) - gap, left + len(columns) * (width + gap) - gap)
    sheet = Sheet.around(size, unit, title, line, out)
    first = 0.0
    for number, group in enumerate(groups):
        if above:
            sheet.text(names[number], 0, first + 1.5 * unit, anchor="lm", size=2.3, width=size[1])
        start = first + above
        if rows:
            room = left - unit
            sheet.text(rows, room, start + unit, anchor="rm", width=room, ink=FAINT_INK, size=1.5)
        for column, heading in enumerate(columns):
            x = left + column * (width + gap)
            sheet.text(heading, x + width / 2, start + unit, width=width)
            if column in marked:
                y = sheet.y + start + 2.2 * unit
                ends = [(sheet.x + x + share * width, y) for share in (0.35, 0.65)]
                sheet.draw.line(ends, INK, max(1, unit // 6))
        for row, faces in enumerate(group):
            y = start + top + row * (height + gap)
            middle = y + height / 2
            room = left - unit
            sheet.text(faces.heading, room, middle, anchor="rm", width=room, ink=FAINT_INK, size=1.7)
            for column, face in enumerate(faces.pixels):
                sheet.face(face, left + column * (width + gap), y, (height, width))
        first += tall[number]
    return save_png(sheet.image, path, text)


def noise_detail(
    about: About,
    details: Sequence[NoiseDetail],
    out: str | Path,
    *,
    seeds: Sequence[int],
    settings: Settings,
    noise_seed: int = 0,
    title: str | None = None,
) -> Path:
    """Rows of a face, a detail with four noises, and the deviation (Karras et al. 2019, figure 4)."""
    path = checked_file(out, ".png")
    height, width, unit = _shown(details[0].face.shape[:2], 2 * FIGURE_SIZE)
    unit = round(unit * 0.75)
    gap, top = unit // 2, 3 * unit
    size = (top + len(seeds) * (height + unit) - unit, 3 * width + 4 * unit)
    title = "Noise detail" if title is None else title
    line = about.line(f"seeds {seed_ranges(seeds)}", _psi(settings))
    sheet = Sheet.around(size, unit, title, line, out)
    columns = [column * (width + 2 * unit) for column in range(3)]
    names = ["Generated face", "Four noises", f"Deviation over {NOISES} noises"]
    sheet.headings(names, columns, 0.8 * unit, width)
    for row, detail in enumerate(details):
        y = top + row * (height + unit)
        sheet.face(detail.face, columns[0], y, (height, width))
        sheet.frame(detail.face.shape, detail.place, columns[0], y, (height, width))
        small = ((height - gap) // 2, (width - gap) // 2)
        for i, face in enumerate(detail.varied):
            x, below = columns[1] + (i % 2) * (small[1] + gap), y + (i // 2) * (small[0] + gap)
            sheet.face(face[detail.place], x, below, small)
        sheet.face(_map(detail.deviation), columns[2], y, (height, width))
    text = provenance(about, seeds, settings, kind="figure noise-detail")
    text |= {"Title": title, "noise seed": str(noise_seed)}
    text |= count_not_finite(sum(detail.not_finite for detail in details))
    return save_png(sheet.image, path, text)


def _map(deviation: np.ndarray) -> np.ndarray:
    """Grey values (H, W, 3): black is no deviation, white is the 99.5th percentile or more."""
    most = max(float(np.percentile(deviation, 99.5)), 1e-6)
    grey = (np.clip(deviation / most, 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def noise_components(
    about: About,
    components: NoiseComponents,
    out: str | Path,
    *,
    seeds: Sequence[int],
    settings: Settings,
    title: str | None = None,
) -> Path:
    """Noise in all layers, in none, in the fine and in the coarse layers (Karras et al. 2019, figure 5).

    Below each face, the window where noise changes most is shown enlarged.
    """
    path = checked_file(out, ".png")
    height, width, unit = _shown(components.faces.shape[2:4], 3 * FIGURE_SIZE // 2)
    unit = round(unit * 0.8)
    gap, top, near = unit // 2, 3 * unit, height // 2
    pitch = height + gap + near + 2 * unit
    size = (top + len(seeds) * pitch - 2 * unit, 4 * (width + unit) - unit)
    title = "Noise components" if title is None else title
    line = about.line(f"seeds {seed_ranges(seeds)}", _psi(settings))
    sheet = Sheet.around(size, unit, title, line, out)
    columns = [column * (width + unit) for column in range(len(components.headings))]
    sheet.headings(components.headings, columns, 0.8 * unit, width)
    for x, its in zip(columns, components.faces, strict=True):
        for row, (face, place) in enumerate(zip(its, components.places, strict=True)):
            y = top + row * pitch
            sheet.face(face, x, y, (height, width))
            sheet.frame(face.shape, place, x, y, (height, width))
            sheet.face(face[place], x, y + height + gap, (near, width))
    text = provenance(about, seeds, settings, kind="figure noise-components") | {"Title": title}
    return save_png(sheet.image, path, text | count_not_finite(components.not_finite))


def progression(
    about: About,
    moments: Sequence[Stage],
    size: tuple[int, int],
    out: str | Path,
    *,
    seeds: Sequence[int],
    settings: Settings,
    title: str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, int]:
    """The same seeds during a run: one row for each moment, one column for each seed.

    ``size``: height and width of a face. Returns the path written, and how many faces are not finite.
    """
    path = checked_file(out, ".png")
    height, width, unit = _shown(size, 128)
    gap, left = max(2, unit // 2), 9 * unit
    full = (len(moments) * (height + gap) - gap, left + len(seeds) * (width + gap) - gap)
    title = "Progression" if title is None else title
    line = about.line(f"seeds {seed_ranges(seeds)}", _psi(settings))
    sheet = Sheet.around(full, unit, title, line, out)
    lost = 0
    with opened(progress, "drawing", len(moments)) as task:
        for row, moment in enumerate(moments):
            y = row * (height + gap)
            middle = y + height / 2
            sheet.text(_count(moment.images), left - unit, middle, anchor="rb", width=left - unit, size=2.0)
            sheet.text("images", left - unit, middle + 0.4 * unit, anchor="rt", ink=FAINT_INK, size=1.5)
            faces = moment.faces()
            lost += faces.not_finite
            for column, face in enumerate(faces.pixels):
                sheet.face(face, left + column * (width + gap), y, (height, width))
            task.advance()
    text = provenance(about, seeds, settings, kind="figure progression") | {"Title": title}
    text |= count_not_finite(lost)
    text["stages"] = ",".join(str(moment.images) for moment in moments)
    return save_png(sheet.image, path, text), lost


def _count(images: int) -> str:
    """A number of images in short: 800, 25.6k, 1.92M."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if images >= size:
            return f"{images / size:.3g}{letter}"
    return str(images)
