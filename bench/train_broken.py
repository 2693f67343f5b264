"""Train the network that finds broken faces, which ships with the package, and count the broken ones.

    python bench/train_broken.py --data faces/     # trains, measures, writes the weights and the results
    python bench/train_broken.py --count style-64 --psi 0.7   # what it says of 256 seeds of a model

The marks are those of bench/broken_marks.csv. Generated faces are drawn anew from their models and seeds.
Real faces are those of the public set (getchu-faces-64, built with --as-faces); without --data they are left
out. The training is a linear system without chance: on one machine the same marks give the same weights.
"""

import argparse
import csv
import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np
import torch
from broken_faces import KINDS, TABLE, UNSURE, WHOLE, kappa, share
from safetensors.torch import save

from omokage import broken
from omokage.broken import described
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.files import replacing
from omokage.model import load_model
from omokage.progress import TerminalProgress
from omokage.sampling import gathered, sample
from omokage.settings import Settings

RESULT = Path(__file__).parent / "results" / "broken_faces.md"
ASSET = Path(broken.__file__).parent / "assets" / broken.WEIGHTS
MODELS = ("style-64", "fast-64")
RIDGE = 1.0  # with 4 the area under the curve is the same within 0.005
FOLDS = 5
LOST = 0.05  # share of whole faces that may be called broken
REAL = ""  # the psi of a real face
BOOTSTRAPS = 1000
FRESH = range(100_000, 100_256)  # seeds of a count: it learned from none of them


class Faces:
    """All marked faces once.

    Attributes:
        source, psi: the model's name or "real faces", and the psi as text.
        marks: how broken each is, 0 to 1: the mean of its marks, of which an unsure one counts 0.5.
        pixels: uint8 (N, 64, 64, 3).
        fold: the part in which it is held out; faces of one seed are in one part.
    """

    def __init__(self, data: Path | None) -> None:
        given: dict[tuple[str, str, int], list[float]] = {}
        for row in read():
            key = row["model"], row["psi"], int(row["number"])
            given.setdefault(key, []).append({WHOLE: 0.0, UNSURE: 0.5}.get(row["mark"], 1.0))
        names = {load_model(name).snapshot_hash[:12]: name for name in MODELS}
        real = None if data is None else FaceSet.open(data)
        pixels, keys, marks = [], list[tuple[str, str, int]](), list[float]()
        for model, psi in dict.fromkeys((model, psi) for model, psi, _ in given):
            numbers = sorted(number for one, other, number in given if (one, other) == (model, psi))
            if psi == REAL:
                if real is None:
                    continue
                if real.content_hash[:12] != model:
                    raise UserError(f"{data}: the marks are of another set of faces")
                pixels.append(real.pixels(np.array(numbers), (64, 64)))
            elif model in names:
                its = Settings(psi=float(psi))
                drawn = sample(load_model(names[model]), numbers, its, TerminalProgress())
                pixels.append(gathered(drawn)[0])
            else:
                raise UserError(f"{TABLE.name} has marks of a model {model} that does not ship")
            keys += [(names.get(model, "real faces"), psi, number) for number in numbers]
            marks += [float(np.mean(given[model, psi, number])) for number in numbers]
        self.pixels, self.marks = np.concatenate(pixels), np.array(marks)
        self.source = np.array([source for source, _, _ in keys])
        self.psi = np.array([psi for _, psi, _ in keys])
        parts = [hashlib.sha256(str(number).encode()).digest()[0] % FOLDS for _, _, number in keys]
        self.fold = np.array(parts)


def read() -> list[dict[str, str]]:
    """The rows of the table of marks."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@torch.inference_mode()
def features(pixels: np.ndarray) -> torch.Tensor:
    """Features of all faces and then of all mirrored ones, (2N, F)."""
    x = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([described(part) for way in (x, x.flip(3)) for part in way.split(32)])


class Ridge:
    """Ridge regression on standardised features, through the matrix of products of faces."""

    def __init__(self, seen: torch.Tensor) -> None:
        self.mean, self.scale = seen.mean(0), seen.std(0) + 1e-2
        self.x = (seen - self.mean) / self.scale / seen.shape[1] ** 0.5
        self.products = (self.x @ self.x.T).double()
        self.faces = len(seen) // 2

    def fitted(self, rows: np.ndarray, marks: np.ndarray) -> tuple[torch.Tensor, np.ndarray, float]:
        """Coefficients of the rows of ``faces`` (both ways), these rows, and the mean mark."""
        both = np.concatenate([rows, rows + self.faces])
        y = torch.from_numpy(np.tile(marks[rows], 2))
        system = self.products[both][:, both] + RIDGE * torch.eye(len(both), dtype=torch.float64)
        return torch.linalg.solve(system, y - y.mean()), both, float(y.mean())

    def scores(self, rows: np.ndarray, train: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """Scores of ``rows`` by what ``train`` teaches."""
        a, both, mean = self.fitted(train, marks)
        ways = [self.products[rows + shift][:, both] @ a for shift in (0, self.faces)]
        return ((ways[0] + ways[1]) / 2 + mean).numpy()

    def weights(self, marks: np.ndarray) -> tuple[torch.Tensor, float]:
        """Weights and bias for features as they come, from all faces."""
        a, both, mean = self.fitted(np.arange(self.faces), marks)
        weight = (self.x[both].double().T @ a) / self.scale / self.x.shape[1] ** 0.5
        return weight.half(), mean - float(self.mean.double() @ weight.half().double())


def area(scores: np.ndarray, marks: np.ndarray) -> float:
    """The area under the ROC curve: how often a broken face has a higher score than a whole one."""
    bad, good = scores[marks > 0.5], scores[marks < 0.5]
    return float((bad[:, None] > good[None]).mean() + (bad[:, None] == good[None]).mean() / 2)


def told_area(scores: np.ndarray, marks: np.ndarray) -> str:
    """The area with its 95% bootstrap interval over faces."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(BOOTSTRAPS):
        some = rng.integers(0, len(scores), len(scores))
        areas.append(area(scores[some], marks[some]))
    low, high = np.quantile(areas, [0.025, 0.975])
    return f"{area(scores, marks):.3f} ({low:.3f} to {high:.3f})"


def counts() -> list[str]:
    """The share of broken faces among those marked, by source, as a table; and how well two marks agree."""
    rows = read()
    names = {load_model(name).snapshot_hash[:12]: name for name in MODELS}
    faults = [kind for kind in KINDS if kind not in (WHOLE, UNSURE)]
    lines = [f"| drawn by | seeds | faces | broken | {' | '.join(faults)} | unsure |"]
    lines.append("|---" * (5 + len(faults)) + "|")
    for sets, model, psi, seeds in (
        ("cd", "style-64", "1", range(256)),
        ("cd", "style-64", "0.7", range(256)),
        ("cd", "style-64", "1.2", range(64)),
        ("cd", "fast-64", "1", range(256)),
        ("cd", "real faces", REAL, range(10**9)),
        ("a", "style-64", "1", range(256)),
        ("a", "fast-64", "1", range(256)),
    ):
        found = [
            row["mark"]
            for row in rows
            if row["set"] in sets
            and names.get(row["model"], "real faces") == model
            and row["psi"] == psi
            and int(row["number"]) in seeds
            and row["again"] == "0"
        ]
        bad = sum(kind in faults for kind in found)
        told = f"{model}, psi {psi}" if psi else model
        told += ", first sitting" if sets == "a" else ""
        where = "" if psi == REAL else f"0-{seeds[-1]}"
        cells = [told, where, str(len(found)), share(bad, len(found)), *(str(found.count(k)) for k in faults)]
        lines.append(f"| {' | '.join(cells)} | {found.count(UNSURE)} |")
    first: dict[tuple[str, ...], str] = {}
    for row in rows:
        if row["set"] in "ab" and row["again"] == "0":
            first[row["model"], row["psi"], row["number"]] = row["mark"]
    pairs = []
    for row in rows:
        key = row["model"], row["psi"], row["number"]
        if row["set"] in "cd" and row["again"] == "0" and key in first and row["psi"] != REAL:
            pairs.append((first[key], row["mark"]))
    sure = [(str(x == WHOLE), str(y == WHOLE)) for x, y in pairs if UNSURE not in (x, y)]
    alike = sum(x == y for x, y in sure)
    return [
        *lines,
        "",
        f"{len(pairs)} generated faces were marked in both sittings. Of the {len(sure)} with a sure mark in"
        f" both, {share(alike, len(sure))} were marked alike, whole or broken (kappa {kappa(sure):.2f}).",
    ]


def train(options: argparse.Namespace) -> None:
    """Train, measure, and write the weights and the results."""
    faces = Faces(options.data)
    ridge = Ridge(features(faces.pixels))
    every, marks = np.arange(len(faces.marks)), faces.marks
    scores = np.zeros(len(every))
    for fold in range(FOLDS):
        held = faces.fold == fold
        scores[held] = ridge.scores(every[held], every[~held], marks)
    drawn, sure = faces.source != "real faces", np.abs(marks - 0.5) > 0.2
    good, bad = drawn & (marks < 0.3), drawn & (marks > 0.7)
    measured = [
        f"| cross-validated | all generated | {told_area(scores[drawn & sure], marks[drawn & sure])} |"
    ]
    for source, psi in dict.fromkeys(zip(faces.source[drawn], faces.psi[drawn], strict=True)):
        some = sure & (faces.source == source) & (faces.psi == psi)
        measured.append(f"| cross-validated | {source}, psi {psi} | {told_area(scores[some], marks[some])} |")
    for one, other in (("style-64", "fast-64"), ("fast-64", "style-64")):
        taught = np.flatnonzero(np.isin(faces.source, (one, "real faces")))
        shown = np.flatnonzero(sure & (faces.source == other))
        told = told_area(ridge.scores(shown, taught, marks), marks[shown])
        measured.append(f"| the marks of {one} and of real faces | {other} | {told} |")
    threshold = float(np.quantile(scores[good], 1 - LOST))
    told = [
        f"| {lost:.0%} | {(scores[bad] > at).mean():.0%} "
        f"| {(scores[bad] > at).sum() / (scores[good | bad] > at).sum():.0%} "
        f"| {share(int((scores[~drawn] > at).sum()), int((~drawn).sum()))} "
        f"| {(scores[bad] <= at).sum() / (scores[good | bad] <= at).sum():.1%} |"
        for lost in (0.01, 0.02, LOST, 0.1, 0.2)
        for at in [float(np.quantile(scores[good], 1 - lost))]
    ]
    weight, bias = ridge.weights(marks)
    training = {
        "what": "broken faces on a frozen map, omokage.broken",
        "marks": hashlib.sha256(TABLE.read_bytes()).hexdigest(),
        "faces": len(every),
        "threshold": round(threshold, 4),
        "torch": torch.__version__,
    }
    data = save({"weight": weight, "bias": torch.tensor(bias)}, {"training": json.dumps(training)})
    with replacing(options.out) as unfinished:
        unfinished.write_bytes(data)
    lines = [
        "# Broken faces",
        "",
        f"Counted and measured {date.today():%d %B %Y} by `python bench/train_broken.py --data faces/`, which"
        " draws the marked faces anew. Faces were marked by eye from enlarged sheets, 40 to a sheet, 160 px a"
        " face, shuffled over models, psi and real faces, in two sittings. In each, one rater marked all.",
        "Faces that came twice within a sitting were often recognised, so that agreement tells little;"
        " agreement between the sittings does. Shares with 95% Wilson intervals.",
        "",
        *counts(),
        "",
        "## The network that finds them",
        "",
        f"{len(every):,} faces taught it. Cross-validated over {FOLDS} parts by seed: all faces of a seed are"
        " in one part. Area under the ROC curve with 95% bootstrap intervals; unsure marks are left out.",
        "",
        "| taught by | judged | area |",
        "|---|---|---|",
        *measured,
        "",
        "| whole faces called broken | broken faces found | of those called broken, broken | real faces"
        " called broken | broken among those kept |",
        "|---|---|---|---|---|",
        *told,
        "",
        f"The threshold that ships is that of {LOST:.0%}.",
    ]
    with replacing(RESULT) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    print(f"{options.out}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


def count(options: argparse.Namespace) -> None:
    """Print what the shipped network says of 256 seeds that it did not learn from."""
    model, judge = load_model(options.count), broken.broken_faces()
    pixels, finite = gathered(sample(model, FRESH, Settings(psi=options.psi), TerminalProgress()))
    bad = int((~(finite & judge.whole(pixels))).sum())
    told = share(bad, len(FRESH))
    print(f"{options.count}, psi {options.psi:g}: {told} of {len(FRESH)} seeds are judged broken")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="the set of the real faces")
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--count", metavar="MODEL", help="count only, by the shipped network")
    parser.add_argument("--psi", type=float, default=1.0, help="for --count")
    options = parser.parse_args()
    if options.count:
        count(options)
    else:
        train(options)


if __name__ == "__main__":
    main()
