"""How exactly trained flows reconstruct real faces: the largest |x - f⁻¹(f(x))|.

    python bench/flow_round_trip.py RUN... --data faces/ [--count 64] [--write]

Images are in [-1, 1]. The faces are drawn with the seed, and are the same for every run. The limits are 1e-9
in float64 and 1e-3 in float32. ``--write`` writes the table to bench/results; rows of other recipes stay.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np

from omokage.data.store.faceset import FaceSet
from omokage.explore.inversion import round_trip
from omokage.hardware import machine_name
from omokage.model import load_model
from omokage.progress import TerminalProgress

RESULTS = Path(__file__).parent / "results" / "flow_round_trip.md"
HEAD = """# Flows there and back

`python bench/flow_round_trip.py RUN... --data faces/ --write`. Largest absolute error of |x - f⁻¹(f(x))|
over real faces, images in [-1, 1], after training.

| model | snapshot | images seen | faces | float32 | float64 | where | date |
|---|---|---|---|---|---|---|---|"""


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
    rows = {}
    for run in options.runs:
        model = load_model(run)
        pictures = faces.pixels(chosen, model.resolution)
        errors = [
            round_trip(one, pictures, progress).largest.max() for one in (model, model.double())
        ]
        cells = [
            model.recipe.name,
            model.snapshot_hash[:12],
            f"{model.images_seen:,}",
            str(len(chosen)),
            *(f"{error:.1e}" for error in errors),
            machine_name(),
            str(date.today()),
        ]
        rows[model.recipe.name] = f"| {' | '.join(cells)} |"
        print(rows[model.recipe.name], flush=True)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([HEAD, *({**written(), **rows}).values()]) + "\n", encoding="utf-8")


def written() -> dict[str, str]:
    """The rows of the existing table, by recipe."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| model ")]
    return {row.split(" | ")[0][2:]: row for row in rows}


if __name__ == "__main__":
    main()
