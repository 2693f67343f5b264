"""How exactly trained flows lead real faces back: the largest error of |x - f⁻¹(f(x))|.

    python bench/flow_round_trip.py RUN... --data faces/ [--count 64] [--write]

Images are in [-1, 1]; faces are the first of an order drawn by the seed, the same for every run. The aims
are 1e-9 in float64 and 1e-3 in float32. ``--write`` writes the table to bench/results.
"""

import argparse
import platform
from datetime import date
from pathlib import Path

import numpy as np
import torch

from omokage.data.faceset import FaceSet
from omokage.explore.encode import round_trip
from omokage.progress import TerminalProgress
from omokage.snapshot import load_model

RESULTS = Path(__file__).parent / "results" / "flow_round_trip.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    faces, progress = FaceSet.open(options.data), TerminalProgress()
    chosen = np.sort(np.random.default_rng(options.seed).permutation(len(faces))[: options.count])
    lines = ["| model | images seen | float32 | float64 |", "|---|---|---|---|"]
    for run in options.runs:
        model = load_model(run)
        pictures = faces.pixels(chosen, model.resolution)
        errors = [
            round_trip(model, pictures, dtype, progress).largest.max()
            for dtype in (torch.float32, torch.float64)
        ]
        name = f"{model.recipe.name} ({model.snapshot_hash[:8]})"
        lines.append(f"| {name} | {model.images_seen:,} | {errors[0]:.1e} | {errors[1]:.1e} |")
        print(lines[-1], flush=True)
    table = "\n".join(lines)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            "# Flows there and back\n\n"
            f"`python bench/flow_round_trip.py RUN... --data faces/ --count {options.count}`, {date.today()},"
            f" {platform.machine()}, PyTorch {torch.__version__}."
            f" Largest absolute error of {len(chosen)} real faces, images in [-1, 1].\n\n{table}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
