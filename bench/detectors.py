"""Recall and precision of every face detector.

    python bench/detectors.py [DATA] [--drawn 2000] [--detectors network,cascade,...]

Measured on the illustrations with boxes in DATA (never used for training), and on drawn illustrations. A
detection is a hit if its IoU with a box is at least 0.4, or if its centre is inside the box; a box counts
once. Intervals are Wilson's, 95%. Writes bench/results/detectors.md.
"""

import argparse
import io
import json
import math
import multiprocessing
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from setting import data_argument

from omokage.data.drawn import draw_illustration
from omokage.data.engines.processes import cores
from omokage.data.steps.detect import Detector, NetworkDetector, open_detector
from omokage.data.steps.face import Face, overlap
from omokage.hardware import Precision, best_precision

HERE = Path(__file__).resolve().parent
LEAST = (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)


def wilson(hits: int, n: int) -> str:
    if not n:
        return "-"
    z, p = 1.96, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * p:.1f}% ({100 * max(middle - reach, 0):.1f} to {100 * min(middle + reach, 1):.1f})"


def matched(found: list[Face], boxes: list[list[int]]) -> int:
    """The number of boxes with a detection. Detections with high scores choose first, by largest overlap."""
    left = [Face(*map(float, box), 1.0) for box in boxes]
    hits = 0
    for face in found:
        x, y = face.centre
        near = [
            b for b in left
            if overlap(face, b) >= 0.4 or (b.x <= x <= b.x + b.width and b.y <= y <= b.y + b.height)
        ]  # fmt: skip
        if near:
            left.remove(max(near, key=lambda b: overlap(face, b)))
            hits += 1
    return hits


def real(data: Path) -> Iterator[tuple[str, np.ndarray, list[list[int]]]]:
    """Name, pixels and boxes of every illustration with boxes."""
    boxes = json.loads((data / "illustrations-with-boxes.json").read_text())
    with tarfile.open(data / "illustrations-with-boxes.tar") as archive:
        for member in archive:
            name = Path(member.name).name
            if name in boxes:
                picture = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                yield name, np.asarray(picture), boxes[name]


_detectors: dict[str, Detector] = {}  # of a worker process


def make_detectors(names: list[str], weights: Path | None, precision: Precision) -> None:
    """Called once in each worker process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in names:
        kind, _, turned = name.partition("+")
        if kind == "network":
            _detectors[name] = NetworkDetector(path=weights, threshold=0.05, precision=precision)
        else:
            _detectors[name] = open_detector(kind, rotations=bool(turned))


def look(picture: np.ndarray) -> dict[str, tuple[list[Face], float]]:
    """The faces that each detector finds, and its CPU seconds."""
    told = {}
    for name, detector in _detectors.items():
        started = time.process_time()
        told[name] = detector(picture), time.process_time() - started
    return told


def look_at_real(named: tuple[str, np.ndarray, list[list[int]]], show: Path | None):
    name, picture, boxes = named
    told = look(picture)
    if show:
        _show(picture, told["network"][0], boxes, show / f"{Path(name).stem}.jpg")
    return told, boxes


def look_at_drawn(number: int):
    scene = draw_illustration(7 * 10**6 + number, (360, 480))
    return look(scene.image), scene.boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data_argument(parser)
    parser.add_argument("--drawn", type=int, default=2000)
    parser.add_argument("--detectors", default="network,cascade,cascade+rotations,cascade-example")
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--show", type=Path, help="write the missed and the false here (real pictures: do not share)"
    )
    args = parser.parse_args()
    names, precision = args.detectors.split(","), best_precision(torch.device("cpu"))
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores(), spawn, make_detectors, (names, args.weights, precision)) as pool:
        for title, looks in (
            ("illustrations with boxes", pool.map(partial(look_at_real, show=args.show), real(args.data))),
            (f"{args.drawn:,} drawn", pool.map(look_at_drawn, range(args.drawn), chunksize=8)),
        ):
            found: dict[str, list] = {name: [] for name in names}
            seconds = dict.fromkeys(names, 0.0)
            for told, boxes in looks:
                for name, (findings, spent) in told.items():
                    found[name].append((findings, boxes))
                    seconds[name] += spent
            for name in names:
                each = seconds[name] / max(len(found[name]), 1)
                for least in LEAST if name == "network" else (0.0,):
                    called = f"{name} ≥ {least:g}" if least else name
                    rows.append(_row(title, called, found[name], least, each))
            print("\n".join(rows), flush=True)
    table = ["| pictures | detector | recall | precision | CPU a picture |", "|---|---|---|---|---|", *rows]
    if not args.weights:
        about = f"{date.today()}, `python bench/detectors.py --drawn {args.drawn}`, network in {precision}."
        example = "`cascade-example` is the cascade with the settings of its author's example."
        text = ["# Face detectors", "", about, example, "", *table, ""]
        (HERE / "results" / "detectors.md").write_text("\n".join(text))


def _row(title: str, name: str, found: list, least: float, seconds: float) -> str:
    hits = sum(matched([f for f in findings if f.score >= least], boxes) for findings, boxes in found)
    n = sum(len(boxes) for _, boxes in found)
    m = sum(f.score >= least for findings, _ in found for f in findings)
    recall, precision = f"{hits}/{n}, {wilson(hits, n)}", f"{hits}/{m}, {wilson(hits, m)}"
    return f"| {title} | {name} | {recall} | {precision} | {1000 * seconds:.0f} ms |"


def _show(picture: np.ndarray, findings: list[Face], boxes: list, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    shown = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    thick = max(1, shown.shape[1] // 300)
    for x, y, w, h in boxes:
        cv2.rectangle(shown, (x, y), (x + w, y + h), (0, 0, 255), thick)
    for f in findings:
        colour = (0, 255, 0) if f.score > 0.3 else (255, 200, 0)
        cv2.rectangle(shown, (int(f.x), int(f.y)), (int(f.x + f.width), int(f.y + f.height)), colour, thick)
        cv2.putText(
            shown, f"{f.score:.2f}", (int(f.x), int(f.y) + 12 * thick), 0, 0.45 * thick, colour, thick
        )
    scale = min(1, 600 / max(shown.shape[:2]))
    cv2.imwrite(str(out), cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    main()
