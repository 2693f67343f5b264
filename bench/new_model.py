"""Everything that pages say of exploring the model that ships, made anew for another model, by one command.

    python bench/new_model.py runs/style --faces faces/ --unseen other-faces/ --work runs/new
    python bench/new_model.py --faces faces/ --unseen other-faces/ --work runs/new --steps neighbours,tables

It writes the model that ships, its directions, its evaluation, the records of steering, inversion and
memorising, the pictures of the model in the docs, and the tables in the pages. ``--faces`` is the face set
that the model was trained on, ``--unseen`` one of which it has seen no face. ``--steps`` names some of the
steps; ``--from`` goes on at one. Directions go on where they were interrupted. ``--quick`` tries all steps
with few faces: its figures are worth nothing, so use it in a copy of the tree that is thrown away.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from omokage.explore.neighbours import Trained, searched
from omokage.model import load_model
from omokage.progress import TerminalProgress
from omokage.sampling import gathered, sample

BENCH = Path(__file__).resolve().parent
RECORD = BENCH / "results" / "neighbours.json"
SHIPPED = BENCH / "results" / "shipped.jsonl"
STEPS = (
    "model", "directions", "evaluation", "steering", "inversion", "neighbours", "pictures", "tables",
)  # fmt: skip


def memorising(faces: Path, number: int) -> None:
    """Write the shares of samples that are near to a training face; never the faces, which others own."""
    model, progress = load_model(None), TerminalProgress()
    pixels, finite = gathered(sample(model, range(number), progress=progress))
    trained = Trained.open(faces, model.progress.get("face_set"))
    for line in trained.told:
        print(line)
    found = searched(pixels[np.flatnonzero(finite)], trained, k=4, progress=progress)
    for space in found.report.spaces:
        print(space.words())
    record = {
        "snapshot": model.snapshot_hash,
        "face_set": trained.faces.content_hash,
        "heldout": None if trained.heldout is None else trained.heldout.content_hash,
        **found.report.as_dict(),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(RECORD)


def main() -> None:
    """Do the steps in order; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="left out: the model that ships stays as it is")
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--note", default="", help="a sentence that says what the unseen faces are")
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is kept between steps")
    parser.add_argument("--beside", type=Path, help="a DCGAN, whose traversal stands beside the model's")
    parser.add_argument("--samples", type=int, default=50_000, help="of the directions")
    parser.add_argument("--steered", type=int, default=500, help="samples that are steered")
    parser.add_argument("--quick", action="store_true", help="few faces everywhere")
    parser.add_argument("--steps", default=",".join(STEPS), help="some of " + ", ".join(STEPS))
    parser.add_argument("--from", dest="first", choices=STEPS, help="this step and those after it")
    asked = parser.parse_args()
    chosen = asked.steps.split(",")
    if unknown := set(chosen) - set(STEPS):
        parser.error(f"--steps: there is no {sorted(unknown)[0]!r}; there are {', '.join(STEPS)}")
    if asked.first is not None:
        chosen = list(STEPS[STEPS.index(asked.first) :])
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.quick:
        asked.samples, asked.steered = min(asked.samples, 1024), min(asked.steered, 16)
    few = asked.quick

    def bench(script: str, *arguments: object) -> list[str]:
        return [sys.executable, str(BENCH / script), *map(str, arguments)]

    def omokage(*arguments: object) -> list[str]:
        return [sys.executable, "-m", "omokage", *map(str, arguments)]

    folder, shown = asked.work / "directions", ["pictures"]
    if asked.run is not None and (asked.run / "film").is_dir():
        shown += ["--runs", asked.run]
    if asked.beside is not None:
        shown += ["--beside", asked.beside]
    find = ["directions", "shipped", "--data", asked.faces, "-o", folder, "--samples", asked.samples]
    evaluations = asked.work / "evaluations.jsonl"
    measured = ["evaluate", "shipped", "--data", asked.faces, "--out", evaluations]
    protocol = ["--protocol", "fid256-full-tags"] if few else ["--also", "tags", "--two-sample"]
    steered = ["--samples", asked.steered, "--drawn", 20 if few else 300]
    inverted = ["shipped", "--faces", asked.unseen, "--note", asked.note]
    commands: dict[str, list[list[str]]] = {
        "model": [] if asked.run is None else [bench("ship_model.py", asked.run)],
        "directions": [
            omokage(*find, *(["--check", 8, "--least", 20] if few else [])),
            bench("ship_model.py", "--directions", folder),
        ],
        "evaluation": [omokage(*measured, *protocol)],
        "steering": [bench("steering.py", *steered)],
        "inversion": [
            bench("inversion.py", *inverted, *(["-n", 2, "--drawn", 2, "--samples", 64] if few else []))
        ],
        "neighbours": [],
        "pictures": [bench("exploration.py", *shown), bench("studio_pictures.py")],
        "tables": [bench("tables.py")],
    }
    for step in (step for step in STEPS if step in chosen):
        print(f"== {step}", flush=True)
        if step == "neighbours":
            memorising(asked.faces, 100 if few else 1000)
        for command in commands[step]:
            if code := subprocess.run(command).returncode:
                sys.exit(f"error: {step}: exit code {code}; --from {step} goes on from there")
        if step == "evaluation":  # the last line is the newest
            SHIPPED.write_text(evaluations.read_text().splitlines(keepends=True)[-1])


if __name__ == "__main__":
    main()
