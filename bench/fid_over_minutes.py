"""Quality during a training: one row for each snapshot, by one protocol.

    python bench/fid_over_minutes.py runs/fast --data faces/ [--minutes 10 20 30] [--protocol NAME] [--full]

Train with `training.keep=0`, so that all snapshots are kept. `--full` adds, for the last snapshot, the
Fréchet distance in the second feature space and the classifier two-sample test. Rows are appended to
`--out`, a JSON lines file from which the table is made. Existing rows are not measured again.
"""

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path

import torch

from omokage.data.store.faceset import FaceSet
from omokage.listing import snapshots
from omokage.metrics.protocol import DEFAULT_PROTOCOL
from omokage.metrics.records import append_line, read_lines
from omokage.metrics.report import evaluate
from omokage.model import load_model
from omokage.progress import TerminalProgress
from omokage.snapshot import read_snapshot


def nearest(run: Path, minutes: list[float]) -> dict[float, Path]:
    """The snapshot nearest to each of ``minutes``; without ``minutes``, the newest one."""
    reached = {path: read_snapshot(path, "none.")[2]["seconds"] / 60 for path in snapshots(run)}
    wanted = minutes or [max(reached.values())]
    return {minute: min(reached, key=lambda path: abs(reached[path] - minute)) for minute in wanted}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minutes", type=float, nargs="*", default=[])
    parser.add_argument("--protocol", default=DEFAULT_PROTOCOL)
    parser.add_argument("--full", action="store_true")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "fid_over_minutes.jsonl"
    )
    arguments = parser.parse_args()

    faces = FaceSet.open(arguments.data)
    chosen = nearest(arguments.run, arguments.minutes)
    for minute, path in chosen.items():
        model = load_model(path)
        full = arguments.full and minute == max(chosen)
        have = read_lines(arguments.out) if arguments.out.exists() else []
        if any(
            row["snapshot_hash"] == model.snapshot_hash
            and row["protocol"] == arguments.protocol
            and (not full or "two_sample" in row)
            for row in have
        ):
            continue
        record = evaluate(
            model,
            faces,
            arguments.protocol,
            progress=TerminalProgress(),
            also=["tags"] if full else [],
            two_sample=full,
        )
        record |= {
            "recipe": model.recipe.name,
            "training_seed": model.recipe.training.seed,
            "trained_minutes": round(model.progress["seconds"] / 60, 1),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
            "date": date.today().isoformat(),
        }
        append_line(arguments.out, record)
    print("| recipe | seed | minutes | images | FID | KID x 1000 | precision | recall | density | coverage |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in read_lines(arguments.out):
        print(
            f"| {row['recipe']} | {row['training_seed']} | {row['trained_minutes']} | {row['images_seen']:,} "
            f"| {row['fid']:.2f} | {1000 * row['kid']:.2f} ± {1000 * row['kid_standard_error']:.2f} "
            f"| {row['precision']:.3f} | {row['recall']:.3f} | {row['density']:.3f} | {row['coverage']:.3f} |"
        )
        for other in row.get("also", []):
            print(json.dumps({key: other[key] for key in ("protocol", "fid", "recall", "coverage")}))
        if "two_sample" in row:
            print(json.dumps(row["two_sample"]))


if __name__ == "__main__":
    main()
