"""Train the attribute network of `omokage.attributes`.

    OMP_NUM_THREADS=1 python bench/train_attributes.py --data ../shared/data --cache cache/ \\
        --out src/omokage/assets/attributes.safetensors

The frozen maps of all faces are computed once, into the folder ``--cache``; the heads are trained on them.

 * Hair and eye colours: the tags of `tagged-faces-96`, a crowd's, so they have errors. Against the errors the
   targets are smoothed, and after a third of the epochs a target is partly the network's own running
   prediction of that face (Reed et al. 2015, arXiv 1412.6596; Liu et al. 2020, arXiv 2007.00151). Rare
   colours count more (``--rare``); views change crop, sharpness and light, never a hue.
 * The other attributes: labels by eye of some of these faces, in ``bench/attribute_labels.csv``, and drawn
   faces, whose factors are exact.

The regressions of ``train_colour_heads.py`` on the tag encoder's features go into the file as they are.

A tenth of the tagged faces, the same as in ``train_tag_encoder.py``, is never learned from. All figures in
the file's metadata and in the table are of it.
"""

import argparse
import csv
import json
import os
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F
from train_tag_encoder import HELD_OUT, read_tagged

from omokage.attributes import (
    ATTRIBUTES,
    COARSE,
    COLOURS,
    FEWEST,
    FINE,
    GRID,
    LEAST,
    SIDE,
    AttributeHeads,
    Describer,
    Maps,
    both,
    is_offered,
    lab,
)
from omokage.data.drawn import draw_face
from omokage.data.steps.colours import ColourNames
from omokage.tag_encoder import network_input, tag_encoder

LABELS = Path(__file__).parent / "attribute_labels.csv"
RESULT = Path(__file__).parent / "results" / "attributes.md"
VIEWS = 2  # of each tagged face: itself and a random one
BY_EYE = ("glasses", "mouth", "lids", "length", "fringe", "presentation", "skin")
EXTRA = 24  # faces labelled by eye, and as many drawn ones, in each batch
FIRST_DRAWN = 500_000  # seeds of drawn faces

# Factors of drawn faces to values; what is not named here teaches nothing.
OPEN = {"laugh": 1, "grin": 1, "small-o": 1, "smile": 0, "line": 0, "pout": 0, "cat": 0}
LONG = {"bob": 0, "spiky": 0, "bun": 0, "long": 1, "hime": 1, "wavy": 1}
FRINGE = {"centre": 1, "swept": 0, "parted": 0, "curtain": 0}
SKIN = {"porcelain": 0, "fair": 0, "peach": 0, "brown": 1, "deep": 1}


def view(face: np.ndarray, number: int, draw: np.random.Generator) -> np.ndarray:
    """View 0 is the face; the others vary crop, turn, mirror, light and sharpness. uint8 (128, 128, 3)."""
    if number == 0:
        return cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    height = len(face)
    side = height * draw.uniform(0.74, 1.14)
    x, y = height / 2 + draw.normal(0, 0.04, 2) * height
    pixels = 64 if draw.random() < 0.6 else SIDE  # models of 64 px are softer
    turn, scale = np.deg2rad(draw.normal(0, 4)), pixels / side
    move = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]]) * scale
    move[:, 2] = pixels / 2 - move[:, :2] @ [x, y]
    soft = cv2.GaussianBlur(face, (0, 0), 0.35) if scale < 0.85 else face
    seen = cv2.warpAffine(
        soft, move, (pixels, pixels), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    if draw.random() < 0.5:
        seen = seen[:, ::-1]
    light = (seen.astype(np.float32) - 128) * draw.uniform(0.9, 1.1) + 128 + draw.uniform(-10, 10)
    seen = np.clip(light, 0, 255).astype(np.uint8)
    if draw.random() < 0.25:
        seen = cv2.GaussianBlur(seen, (0, 0), draw.uniform(0.4, 0.9))
    return seen if pixels == SIDE else cv2.resize(seen, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def chosen_colours(faces: np.ndarray) -> np.ndarray:
    """Lab (32, 3): centres of the colours in the faces, by k-means."""
    draw = np.random.default_rng(1)
    some = faces[draw.permutation(len(faces))[:1500]]
    pixels = np.concatenate([one[draw.integers(0, 96, 60), draw.integers(0, 96, 60)] for one in some])
    values = lab(torch.from_numpy(pixels).float() / 255).numpy()
    cv2.setRNGSeed(0)
    return cv2.kmeans(values, COLOURS, None, (3, 40, 0.1), 2, cv2.KMEANS_PP_CENTERS)[2]


class Cache:
    """The maps of all views of some faces, on disk; a part that is there already is not computed again."""

    def __init__(self, folder: Path, name: str, views: int, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mark, self.views, self.count = folder / f"{name}-done.txt", views, count
        shapes = {
            "fine": (FINE, GRID, GRID),
            "coarse": (COARSE, GRID // 2, GRID // 2),
            "colours": (COLOURS, GRID, GRID),
        }
        self.maps = {}
        for part, shape in shapes.items():
            file = folder / f"{name}-{part}.npy"
            kind = np.uint8 if part == "colours" else np.float16
            mode = "r+" if file.exists() else "w+"
            self.maps[part] = np.lib.format.open_memmap(file, mode, kind, (views, count, *shape))

    def fill(self, describe: Describer, faces: np.ndarray) -> None:
        done = int(self.mark.read_text()) if self.mark.exists() else 0
        began = time.monotonic()
        jobs = [(v, i) for v in range(self.views) for i in range(0, self.count, 32)]
        for number, (v, i) in enumerate(jobs):
            if number < done:
                continue
            draw = np.random.default_rng([v, i])
            maps = describe(np.stack([view(face, v, draw) for face in faces[i : i + 32]]))
            self.maps["fine"][v, i : i + 32] = maps.fine.numpy()
            self.maps["coarse"][v, i : i + 32] = maps.coarse.numpy()
            self.maps["colours"][v, i : i + 32] = (maps.colours * 255).round().numpy()
            self.mark.write_text(str(number + 1))
            if number % 50 == 49:
                rate = 32 * (number + 1 - done) / (time.monotonic() - began)
                print(f"maps: {32 * (number + 1):,} of {32 * len(jobs):,}, {rate:.0f}/s", flush=True)

    def get(self, view: np.ndarray, rows: np.ndarray) -> Maps:
        """The maps of ``rows`` in the views of those numbers."""
        fine, coarse, colours = (torch.from_numpy(self.maps[p][view, rows]).float() for p in self.maps)
        return Maps(fine, coarse, colours / 255)


def labels_by_eye(names: list[str]) -> tuple[dict[str, np.ndarray], dict[str, list[str]], np.ndarray]:
    """For each attribute int (N,), -1 unknown; hair and eye colours seen by eye; which are no faces."""
    place = {name: i for i, name in enumerate(names)}
    labels = {name: np.full(len(names), -1) for name in BY_EYE}
    seen = {"hair": [""] * len(names), "eyes": [""] * len(names)}
    wrong = np.zeros(len(names), bool)
    with open(LABELS, newline="") as file:
        for row in csv.DictReader(file):
            i = place[row["file"]]
            if row["hair"] == "not a face":
                wrong[i] = True
                continue
            for name in BY_EYE:
                if row[name]:
                    labels[name][i] = ATTRIBUTES[name].values.index(row[name])
            for name in seen:
                seen[name][i] = row[name]
    return labels, seen, wrong


def drawn_labels(factors: list[dict]) -> dict[str, np.ndarray]:
    """For each attribute int (N,), -1 unknown, from the factors of drawn faces."""

    def of(name: str, known: dict[str, int]) -> np.ndarray:
        return np.array([known.get(one[name], -1) for one in factors])

    def places(name: str) -> np.ndarray:
        return np.array([ATTRIBUTES[name].values.index(one[name]) for one in factors])

    return {
        "hair": places("hair"),
        "eyes": places("eyes"),
        "glasses": np.array([int(one["glasses"]) for one in factors]),
        "mouth": of("mouth", OPEN),
        "length": of("hair_style", LONG),
        "fringe": of("bangs", FRINGE),
        "skin": of("skin", SKIN),
    }


def class_weights(labels: np.ndarray, values: int, rare: float) -> Tensor:
    """A weight for each value: its frequency to the power ``-rare``, mean 1 over the faces."""
    counts = np.bincount(labels[labels >= 0], minlength=values).clip(1)
    weights = counts**-rare
    return torch.from_numpy(weights / (weights * counts).sum() * counts.sum()).float()


def loss_of(logits: Tensor, target: Tensor, weights: Tensor, row: Tensor) -> Tensor:
    """Cross-entropy with soft targets (B, values), weighted by the value; ``row``: which faces count."""
    each = -(target * logits.log_softmax(1)).sum(1) * (target @ weights) * row
    return each.sum() / row.sum().clamp(min=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tagged-faces-96.tar and .csv")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the maps; about 2 GB")
    parser.add_argument("--out", type=Path, required=True, help="the weight file to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--drawn", type=int, default=700, help="drawn faces")
    parser.add_argument("--rare", type=float, default=0.35, help="how much more rare colours count, 0 to 1")
    parser.add_argument("--own", type=float, default=0.4, help="share of the own prediction in later targets")
    parser.add_argument("--smoothing", type=float, default=0.08)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="do not train: judge the weights in this file anew")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    faces, hair, eyes = read_tagged(args.data)
    with open(args.data / "tagged-faces-96.csv", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    count = len(faces)
    file = args.cache / "colours.npy"
    args.cache.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        np.save(file, chosen_colours(faces))
    colours = torch.from_numpy(np.load(file))
    describe = Describer(colours)
    tagged = Cache(args.cache, "tagged", args.views, count)
    tagged.fill(describe, faces)
    drawn_file = args.cache / "drawn.npz"
    if not drawn_file.exists():
        drawn = [draw_face(FIRST_DRAWN + i, 64) for i in range(args.drawn)]
        np.savez(
            drawn_file,
            pixels=np.stack([one.image for one in drawn]),
            factors=json.dumps([o.factors for o in drawn]),
        )
    stored = np.load(drawn_file)
    factors = json.loads(str(stored["factors"]))
    painted = Cache(args.cache, "drawn", 1, len(factors))
    painted.fill(describe, stored["pixels"])

    order = np.random.default_rng(args.seed).permutation(count)
    held, used = np.split(order, [int(HELD_OUT * count)])
    labels, seen, wrong = labels_by_eye(names)
    truth = {
        "hair": np.where(hair.sum(1) == 1, hair.argmax(1), -1),
        "eyes": np.where(eyes.sum(1) == 1, eyes.argmax(1), -1),
    }
    truth |= labels
    for name in truth:
        truth[name] = np.where(wrong, -1, truth[name])
    used = used[~wrong[used]]
    # A twentieth is left aside, to watch the training by.
    aside, used = used[: len(used) // 20], used[len(used) // 20 :]
    of_drawn = drawn_labels(factors)
    drawn_held = np.arange(len(factors)) % 5 == 0
    drawn_used = np.flatnonzero(~drawn_held)

    heads = AttributeHeads()
    if args.weights is not None:
        kept = safetensors.torch.load_file(args.weights)
        heads.load_state_dict({n: kept[n].float() for n in heads.state_dict()})
    optimiser = torch.optim.AdamW(heads.parameters(), lr=2e-3, weight_decay=0.02)
    by_eye = np.flatnonzero(np.any([labels[name] >= 0 for name in BY_EYE], axis=0))
    by_eye = np.intersect1d(by_eye, used)
    steps = args.epochs * (len(used) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps, pct_start=0.2)
    weights = {
        name: class_weights(
            truth[name][used] if name in truth else of_drawn[name],
            len(each.values),
            args.rare if name in ("hair", "eyes") else 0.7,
        )
        for name, each in ATTRIBUTES.items()
    }
    own = {
        name: torch.from_numpy(np.eye(len(ATTRIBUTES[name].values), dtype="f4")[np.maximum(truth[name], 0)])
        for name in ("hair", "eyes")
    }
    draw = np.random.default_rng(args.seed)
    began = time.monotonic()
    for epoch in range(0 if args.weights else args.epochs):
        heads.train()
        total = Counter()
        shuffled = draw.permutation(used)
        for start in range(0, len(used) - args.batch + 1, args.batch):
            rows = shuffled[start : start + args.batch]
            extra = draw.choice(by_eye, EXTRA)
            painted_rows = draw.choice(drawn_used, EXTRA)
            which = draw.integers(0, args.views, len(rows) + len(extra))
            a = tagged.get(which, np.concatenate([rows, extra]))
            b = painted.get(np.zeros(EXTRA, int), painted_rows)
            maps = Maps(
                *(torch.cat([getattr(a, part), getattr(b, part)]) for part in ("fine", "coarse", "colours"))
            )
            if draw.random() < 0.5:  # mirrored
                maps = Maps(maps.fine.flip(3), maps.coarse.flip(3), maps.colours.flip(3))
            logits = heads(maps)
            loss = torch.zeros(())
            for name, each in ATTRIBUTES.items():
                k = len(each.values)
                real = (
                    np.concatenate([truth[name][rows], truth[name][extra]])
                    if name in truth
                    else np.full(len(rows) + EXTRA, -1)
                )
                if name in ("hair", "eyes"):
                    real[len(rows) :] = -1  # already among the rows
                goal = np.concatenate(
                    [real, of_drawn[name][painted_rows] if name in of_drawn else np.full(EXTRA, -1)]
                )
                row = torch.from_numpy((goal >= 0).astype("f4"))
                if not row.any():
                    continue
                target = torch.from_numpy(np.eye(k, dtype="f4")[np.maximum(goal, 0)])
                if name in ("hair", "eyes") and epoch >= args.epochs // 3:
                    target[: len(rows)] = (1 - args.own) * target[: len(rows)] + args.own * own[name][rows]
                target = (1 - args.smoothing) * target + args.smoothing / k
                # Drawn colours are easy and of another style: they count little.
                if name in ("hair", "eyes"):
                    row[len(rows) + EXTRA :] *= 0.3
                one = loss_of(logits[name], target, weights[name], row)
                loss = loss + one * (1.0 if name in ("hair", "eyes") else 0.4)
                total[name] += one.item()
                if name in own:
                    with torch.no_grad():
                        now = logits[name][: len(rows)].softmax(1)
                        own[name][rows] = 0.7 * own[name][rows] + 0.3 * now
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        heads.eval()
        told = {k: round(v / (len(used) // args.batch), 3) for k, v in total.items()}
        if epoch % 3 and epoch < args.epochs - 1:
            print(f"epoch {epoch + 1}/{args.epochs} {told} {time.monotonic() - began:.0f} s", flush=True)
            continue
        quick = {n: predictions(heads, tagged, 0, aside)[n].argmax(1) for n in ("hair", "eyes")}
        right = {n: round(float((quick[n] == truth[n][aside]).mean()), 3) for n in quick}
        print(
            f"epoch {epoch + 1}/{args.epochs} {told} faces left aside {right} "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )

    heads.eval()
    heads.load_state_dict({n: v.half().float() for n, v in heads.state_dict().items()})
    names_ = ("hair", "eyes")
    whole = ColourNames()
    on_tags = dict(zip(names_, whole.heads, strict=True))
    found = predictions(heads, tagged, 0, held, on_tags, faces)
    soft = predictions(heads, tagged, 1, held, on_tags, faces)
    shown = np.flatnonzero(drawn_held)
    of_painted = predictions(heads, painted, 0, shown, on_tags, stored["pixels"])
    # Temperatures and shifts are set on held-out faces too. So that no face is judged by what was set on it,
    # each half is judged with those of the other half; the file has those of all.
    first = np.arange(len(held)) % 2 == 0
    temperatures, shifts, judged, tables = {}, {}, {}, []
    for name, each in ATTRIBUTES.items():
        goal, crossed = truth[name][held], found[name].copy()
        for half in (first, ~first):
            shift, scale = fitted(found[name][~half], goal[~half], each.binary)
            crossed[half, -1] += shift
            crossed[half] /= scale
        shift, temperatures[name] = fitted(found[name], goal, each.binary)
        if each.binary:
            shifts[name] = shift
        for logits in (soft[name], of_painted[name]):
            logits[:, -1] += shift
        entry = judged_on(crossed, goal)
        entry["in another view"] = judged_on(soft[name], goal)["accuracy"]
        entry["offered"] = is_offered(name, entry)
        tables.append((name, confusion(crossed.argmax(1), goal, len(each.values))))
        if name in of_drawn:
            entry["drawn"] = judged_on(of_painted[name], of_drawn[name][shown])["accuracy"]
        judged[name] = entry
    for name in ("hair", "eyes"):
        mine = np.array([seen[name][i] for i in held])
        rows = np.flatnonzero((mine != "") & (truth[name][held] >= 0))
        tag = np.array(ATTRIBUTES[name].values)[truth[name][held][rows]]
        guess = np.array(ATTRIBUTES[name].values)[found[name].argmax(1)[rows]]
        judged[name]["by eye"] = {
            "faces": len(rows),
            "eye agrees with tag": round(float((mine[rows] == tag).mean()), 4),
            "network agrees with tag": round(float((guess == tag).mean()), 4),
            "network agrees with eye": round(float((guess == mine[rows]).mean()), 4),
            "network agrees with tag or eye": round(
                float(((guess == tag) | (guess == mine[rows])).mean()), 4
            ),
        }
    training = {
        "what": "attributes of a face on frozen maps, omokage.attributes",
        "data": f"tagged-faces-96: {len(used)} faces used, {len(held)} held out; "
        f"{len(drawn_used)} drawn faces",
        "command": f"python bench/train_attributes.py --epochs {args.epochs} --rare {args.rare:g} "
        f"--own {args.own:g} --seed {args.seed}",
        "torch": torch.__version__,
        "temperatures": temperatures,
        "shifts": shifts,
        "judged": judged,
    }
    tensors = {name: value.half().contiguous() for name, value in heads.state_dict().items()}
    for name, (weight, bias) in on_tags.items():
        tensors |= {f"tags.{name}.weight": weight.half(), f"tags.{name}.bias": bias.float()}
    data = safetensors.torch.save({**tensors, "colours": colours.float()}, {"training": json.dumps(training)})
    temporary = args.out.with_name(args.out.name + ".part")
    temporary.write_bytes(data)
    os.replace(temporary, args.out)
    RESULT.write_text(told_in_words(training, tables))
    print(json.dumps(judged, indent=1))
    print(f"{args.out}: {len(data):,} bytes, {time.monotonic() - began:.0f} s of training")


@torch.inference_mode()
def predictions(
    heads: AttributeHeads,
    cache: Cache,
    number: int,
    rows: np.ndarray,
    on_tags: dict[str, tuple[Tensor, Tensor]] | None = None,
    faces: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Logits (N, values) for each attribute, of faces in the view of that number.

    With ``on_tags`` and the pixels of all ``faces``, the tag encoder has a say, as in the product.
    """
    parts = []
    for some in np.array_split(rows, -(-len(rows) // 128)):
        logits = heads(cache.get(np.full(len(some), number), some))
        if on_tags is not None and faces is not None:
            pixels = [view(faces[i], number, np.random.default_rng([number, i])) for i in some]
            features = tag_encoder()(network_input(np.stack(pixels)))
            for name, regression in on_tags.items():
                logits[name] = both(logits[name], features, regression)
        parts.append(logits)
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in ATTRIBUTES}


def fitted(logits: np.ndarray, goal: np.ndarray, binary: bool) -> tuple[float, float]:
    """The shift of the second of two values (0 if there are more), and the temperature."""
    if not binary:
        return 0.0, temperature(logits, goal)
    shift = balancing(logits, goal)
    moved = logits + np.array([0, shift], np.float32)
    return shift, temperature(moved, goal, 1 / np.bincount(goal[goal >= 0], minlength=2))


def temperature(logits: np.ndarray, goal: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The number that logits are divided by for the best likelihood (Guo et al. 2017, section 4).

    weights: one for each value; None: all faces count alike.
    """
    x, y = torch.from_numpy(logits[goal >= 0]), torch.from_numpy(goal[goal >= 0])
    each = None if weights is None else torch.from_numpy(weights).float()
    scales = np.linspace(0.3, 4, 75)
    fits = [float(F.cross_entropy(x / float(scale), y, weight=each)) for scale in scales]
    return round(float(scales[int(np.argmin(fits))]), 2)


def balancing(logits: np.ndarray, goal: np.ndarray) -> float:
    """The number added to the second of two logits for the best mean recall of both values.

    Of many equally good ones it is the middle one, and recalls are smoothed by neighbouring thresholds.
    """
    gap = (logits[:, 1] - logits[:, 0])[goal >= 0]
    has = goal[goal >= 0] == 1
    shifts = np.linspace(-4, 6, 201)
    recalls = [((gap[has] + s > 0).mean() + (gap[~has] + s <= 0).mean()) / 2 for s in shifts]
    smooth = np.convolve(recalls, np.ones(11) / 11, "same")[5:-5]
    best = np.flatnonzero(smooth >= smooth.max() - 1e-9)
    return round(float(shifts[5:-5][best[len(best) // 2]]), 2)


def judged_on(logits: np.ndarray, goal: np.ndarray) -> dict:
    """Accuracy, mean recall of the values, calibration error, shares kept and right above a confidence."""
    logits, goal = logits[goal >= 0], goal[goal >= 0]
    chosen = logits.argmax(1)
    recalls = {int(v): float((chosen[goal == v] == v).mean()) for v in np.unique(goal)}
    sure = torch.from_numpy(logits).softmax(1).max(1)[0].numpy()
    right = chosen == goal
    bins = np.minimum((sure * 10).astype(int), 9)
    error = sum(
        abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    )
    return {
        "faces": len(goal),
        "accuracy": round(float(right.mean()), 4),
        "balanced": round(float(np.mean(list(recalls.values()))), 4),
        "fewest": int(np.bincount(goal)[np.unique(goal)].min()),
        "calibration error": round(float(error), 4),
        "sure": {
            f"{t:g}": [
                round(float((sure >= t).mean()), 3),
                round(float(right[sure >= t].mean()), 3) if (sure >= t).any() else None,
            ]
            for t in (0.5, 0.8, 0.9)
        },
    }


def confusion(chosen: np.ndarray, goal: np.ndarray, values: int) -> np.ndarray:
    table = np.zeros((values, values), int)
    np.add.at(table, (goal[goal >= 0], chosen[goal >= 0]), 1)
    return table


def told_in_words(training: dict, tables: list[tuple[str, np.ndarray]]) -> str:
    """The result as Markdown: one line an attribute, then what was taken for what."""
    lines = [
        "# The attribute network on faces that it has not learned from",
        "",
        f"`{training['command']}`; {training['data']}.",
        "",
    ]
    lines += [
        "| attribute | held-out faces | of the rarest value | accuracy | mean recall | calibration error "
        "| drawn faces | slider |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in training["judged"].items():
        drawn = f"{one['drawn']:.1%}" if "drawn" in one else ""
        few = f"no: fewer than {FEWEST} faces"
        slider = "yes" if one["offered"] else few if one["balanced"] >= LEAST else f"no: below {LEAST:.0%}"
        lines.append(
            f"| {name} | {one['faces']} | {one['fewest']} | {one['accuracy']:.1%} "
            f"| {one['balanced']:.1%} | {one['calibration error']:.3f} | {drawn} | {slider} |"
        )
    for name in ("hair", "eyes"):
        said = training["judged"][name]["by eye"]
        lines += [
            "",
            f"{name}: {said['faces']} held-out faces were named by eye, without sight of the tags. The eye "
            f"agrees with the tag in {said['eye agrees with tag']:.1%}, the network in "
            f"{said['network agrees with tag']:.1%}. The network agrees with the eye in "
            f"{said['network agrees with eye']:.1%}, and with one of the two in "
            f"{said['network agrees with tag or eye']:.1%}.",
        ]
    for name, table in tables:
        values = ATTRIBUTES[name].values
        lines += [
            "",
            f"## {name}: rows are the labels, columns the estimates",
            "",
            f"| | {' | '.join(values)} | right |",
            "|---|" + "---|" * (len(values) + 1),
        ]
        for value, row in zip(values, table, strict=True):
            share = f"{row[values.index(value)] / row.sum():.0%}" if row.sum() else ""
            lines.append(f"| {value} | {' | '.join(map(str, row))} | {share} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
