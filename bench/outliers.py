"""Does likelihood find bad pictures in a face set? ROC areas of plain and corrected scores.

    python bench/outliers.py RUN... --heldout DIR/heldout [--larger faces-256.tar] [--count 400] [--write]

Good faces are one half of the held-out part; bad pictures of several kinds are added. The ROC area of a score
is the probability that a bad picture scores above a good one: 0.5 is chance, and below 0.5 the score is
misled. The table also has the area for compressed length alone (shorter is worse): many bad pictures compress
well, and then the correction does all the work. Bad pictures that are made of faces use the other half, so no
face is on both sides. ``--larger`` is a tar, zip or folder of larger faces. Their corners are cut out
("off-centre crops"). They are also shrunk whole, as a control: good faces of another source should stay near
0.5. If the face set has JPEGs, all these pictures are compressed in the same way; otherwise a score could
recognise them by that.
Each run, of any family with a likelihood, has its own table. Runs of one resolution judge the same pictures.
``--write`` writes the tables to bench/results; tables of other recipes stay.
"""

import argparse
import io
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from omokage.abilities import HasDensity
from omokage.data.build import build
from omokage.data.drawn import draw_illustration
from omokage.data.steps.read import cover
from omokage.data.store.faceset import FaceSet
from omokage.explore.outliers import compressors, score
from omokage.hardware import machine_name
from omokage.metrics.heldout import check_unseen
from omokage.metrics.roc import roc_area
from omokage.model import Model, load_model
from omokage.progress import TerminalProgress

RESULTS = Path(__file__).parent / "results" / "outliers.md"
HEAD = """# Bad pictures found by likelihood

`python bench/outliers.py RUN... --heldout DIR/heldout --write`. Area under the ROC with its 95% interval;
0.5 is chance."""


def noise(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Every colour value independent and uniform."""
    return rng.integers(0, 256, (count, size, size, 3), np.uint8)


def flat(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures of one colour each."""
    return np.broadcast_to(rng.integers(0, 256, (count, 1, 1, 3), np.uint8), (count, size, size, 3)).copy()


def noisy(faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Faces with normal noise; its standard deviation is a tenth of the range."""
    return (faces + rng.normal(0, 25.5, faces.shape)).round().clip(0, 255).astype(np.uint8)


def shifted(faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Faces moved by 3/8 to 5/8 of their side in a random direction; the edge is repeated."""
    size, out = faces.shape[1], np.empty_like(faces)
    for i, face in enumerate(faces):
        angle, far = rng.uniform(0, 2 * np.pi), size * rng.uniform(3 / 8, 5 / 8)
        rows, columns = (
            (np.arange(size) + round(step)).clip(0, size - 1)
            for step in (far * np.sin(angle), far * np.cos(angle))
        )
        out[i] = face[np.ix_(rows, columns)]
    return out


def drawn(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Squares of drawn illustrations without a face."""
    found: list[np.ndarray] = []
    while len(found) < count:
        scene = draw_illustration(int(rng.integers(2**62)))
        height, width = scene.image.shape[:2]
        taken = 0
        for _ in range(50):
            side = int(rng.integers(2 * size, min(height, width) // 2))
            x, y = (int(rng.integers(0, room - side)) for room in (width, height))
            apart = all(
                x + side <= bx or bx + bw <= x or y + side <= by or by + bh <= y
                for bx, by, bw, bh in scene.boxes
            )
            if apart and taken < 4 and len(found) < count:
                square = Image.fromarray(scene.image[y : y + side, x : x + side])
                found.append(np.asarray(cover(square, (size, size))))
                taken += 1
    return np.stack(found)


def corners(faces: FaceSet, size: int, rng: np.random.Generator) -> np.ndarray:
    """Squares of 0.55 times the side from a random corner of larger faces."""
    out = np.empty((len(faces), size, size, 3), np.uint8)
    for i in range(len(faces)):
        image = faces.image(i)
        side = round(0.55 * min(image.size))
        x, y = (int(rng.choice([0, room - side])) for room in image.size)
        out[i] = np.asarray(cover(image.crop((x, y, x + side, y + side)), (size, size)))
    return out


def jpeg_settings(faces: FaceSet) -> list[dict[str, Any]]:
    """The compression settings of each face that is a JPEG."""
    settings = []
    for i in range(len(faces)):
        with Image.open(io.BytesIO(faces.image_bytes(i)), formats=("JPEG", "PNG", "WEBP")) as face:
            if isinstance(face, JpegImageFile):
                settings.append({"qtables": face.quantization, "subsampling": get_sampling(face)})
    return settings


def stored_alike(shown: np.ndarray, settings: list[dict[str, Any]], rng: np.random.Generator) -> np.ndarray:
    """Pictures compressed as JPEGs with random ``settings``; unchanged if there are no settings."""
    if not settings:
        return shown
    out = np.empty_like(shown)
    for i, picture in enumerate(shown):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", **settings[rng.integers(len(settings))])
        out[i] = np.asarray(Image.open(file))
    return out


def pictures(
    faces: FaceSet, size: int, options: argparse.Namespace
) -> "Pictures":
    """Good faces, bad pictures by kind, and controls by kind; the same for all models of a resolution."""
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(len(faces))
    good = faces.pixels(np.sort(order[: len(order) // 2]), size)
    other = faces.pixels(np.sort(order[len(order) // 2 :][: options.count]), size)
    bad = {
        "noise": noise(options.count, size, rng),
        "flat": flat(options.count, size, rng),
        "drawn pictures without a face": drawn(options.count, size, rng),
        "faces under noise": noisy(other, rng),
        "shifted faces, edges repeated": shifted(other, rng),
    }
    control = {}
    if options.larger:
        with tempfile.TemporaryDirectory() as folder:
            build([options.larger], Path(folder) / "larger", as_faces=True)
            larger = FaceSet.open(Path(folder) / "larger")
            bad["off-centre crops of other faces"] = corners(larger, size, rng)
            control["(control) other faces, whole"] = larger.pixels(range(len(larger)), size)
    settings = jpeg_settings(faces)
    bad, control = (
        {kind: stored_alike(shown, settings, rng) for kind, shown in kinds.items()}
        for kinds in (bad, control)
    )
    return good, bad, control


WAYS = {
    "plain likelihood": lambda found: found.plain,
    "corrected for complexity": lambda found: found.corrected,
    "compressed length alone": lambda found: -found.complexity,
}


Pictures = tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]


def areas(model: Model, shown: Pictures, options: argparse.Namespace) -> list[str]:
    """A Markdown table of how well the scores of one model find bad pictures."""
    good, bad, control = shown
    progress = TerminalProgress()
    standard = score(model, good, seed=options.seed, progress=progress)
    scores = {
        kind: score(model, several, seed=options.seed, progress=progress)
        for kind, several in (bad | control).items()
    }
    lines = [f"| bad pictures | number | {' | '.join(WAYS)} |", "|---" * (2 + len(WAYS)) + "|"]
    for kind in [*bad, "all of these", *control]:
        cells = []
        for way in WAYS.values():
            kinds = bad if kind == "all of these" else [kind]
            values = np.concatenate([way(scores[each]) for each in kinds])
            area = roc_area(values, way(standard))
            cells.append(f"{area.value:.3f} ({area.interval[0]:.3f} to {area.interval[1]:.3f})")
        lines.append(f"| {kind} | {area.bad} | {' | '.join(cells)} |")
    finite = np.isfinite(standard.plain)
    lines += [
        "",
        f"Mean scores of the {len(good)} good faces: {standard.plain[finite].mean():.3f} bits per dimension"
        f" ({(~finite).sum()} faces not finite), {standard.complexity.mean():.3f} bits compressed"
        f" ({', '.join(compressors())}).",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--heldout", required=True)
    parser.add_argument("--larger")
    parser.add_argument("--count", type=int, default=400, help="pictures of each bad kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    faces, tables = FaceSet.open(options.heldout), []
    shown: dict[int, Pictures] = {}  # by size: models of one resolution judge the same pictures
    models = [load_model(run) for run in options.runs]
    for model in models:
        model.require(HasDensity)
    larger = f" --larger {Path(options.larger).name}" if options.larger else ""
    for model in models:
        size = model.resolution[0]
        if size not in shown:
            shown[size] = pictures(faces, size, options)
        known = check_unseen(faces, model.progress.get("face_set"))
        seen = "trained on the other part" if known else "not known whether it has seen these faces"
        heading = (
            f"## {model.recipe.name}\n\n{model.recipe.model['name']}, {model.images_seen:,} images seen,"
            f" snapshot {model.snapshot_hash[:12]}, {seen}. `--heldout DIR/heldout{larger}"
            f" --count {options.count} --seed {options.seed}`, {date.today()}, {machine_name()}.\n"
        )
        tables.append("\n".join([heading, *areas(model, shown[size], options)]))
        print(tables[-1], flush=True)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = tables_of_others({model.recipe.name for model in models})
        RESULTS.write_text("\n\n".join([HEAD, *kept, *tables]) + "\n", encoding="utf-8")


def tables_of_others(recipes: set[str]) -> list[str]:
    """The existing tables in the results, without those of ``recipes``."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    tables = [part.strip() for part in text.split("\n## ")[1:]]
    return [f"## {table}" for table in tables if table.splitlines()[0] not in recipes]


if __name__ == "__main__":
    main()
