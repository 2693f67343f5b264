"""How well faces are cut out of their background: drawn faces, and generated faces with masks made by hand.

    python bench/judge_cutout.py

Prints a table in Markdown. The drawn faces have seeds that no training picture has. The masks by hand are
those of tests/cutout_masks.json. Takes about a minute of one core.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from omokage.cutout import cut_out
from omokage.data.drawn import draw_face, draw_figure
from omokage.model import load_model
from omokage.sampling import gathered, sample

MASKS = Path(__file__).resolve().parents[1] / "tests" / "cutout_masks.json"
FIRST_SEED = 30_000_000


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def area(polygons: list) -> np.ndarray:
    """Polygons of a face of 64 pixels as a mask, bool (64, 64)."""
    large = Image.new("L", (512, 512))
    for polygon in polygons:
        ImageDraw.Draw(large).polygon([(x * 8, y * 8) for x, y in polygon], fill=255)
    return np.asarray(large.resize((64, 64), Image.Resampling.BOX)) > 127


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=100, help="drawn faces of each size")
    args = parser.parse_args()
    print("| faces | IoU, mean | worst | 0.95 or more | called clean | CPU, ms a face |")
    print("|---|---|---|---|---|---|")
    for side in (64, 128, 256):
        drawn = [draw_face(FIRST_SEED + i, side).image for i in range(args.faces)]
        known = [draw_figure(FIRST_SEED + i, side)[..., 3] > 127 for i in range(args.faces)]
        cut_out(drawn[0])
        started = time.process_time()
        cuts = [cut_out(face) for face in drawn]
        spent = (time.process_time() - started) / args.faces * 1e3
        found = [overlap(cut.alpha > 0.5, mask) for cut, mask in zip(cuts, known, strict=True)]
        row(f"{args.faces} drawn, {side} px", found, [cut.clean for cut in cuts], spent)
    masks = json.loads(MASKS.read_text(encoding="utf-8"))["masks"]
    faces, _ = gathered(sample(load_model("fast-64", "cpu"), [int(seed) for seed in masks]))
    found, clean = [], []
    started = time.process_time()
    for face, mask in zip(faces, masks.values(), strict=True):
        cut, kept = cut_out(face), ~area(mask["unknown"])
        found.append(overlap((cut.alpha > 0.5) & kept, ~area(mask["background"]) & kept))
        clean.append(cut.clean)
    row("20 generated, 64 px, by hand", found, clean, (time.process_time() - started) / len(faces) * 1e3)
    both = np.array(found), np.array(clean)
    good, other = both[0][both[1]].mean(), both[0][~both[1]].mean()
    print(f"\nby hand: {good:.3f} where called clean, {other:.3f} where not")


def row(name: str, found: list[float], clean: list[bool], spent: float) -> None:
    """Print one row of the table."""
    values = np.array(found)
    print(f"| {name} | {values.mean():.3f} | {values.min():.3f} | {(values >= 0.95).mean():.0%} "
          f"| {np.mean(clean):.0%} | {spent:.0f} |")  # fmt: skip


if __name__ == "__main__":
    main()
