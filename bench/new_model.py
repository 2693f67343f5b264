"""Everything that pages say of exploring the model that ships, made anew for another model, by one command.

    python bench/new_model.py runs/style --faces faces/ --unseen other-faces/ --work runs/new
    python bench/new_model.py --faces faces/ --unseen other-faces/ --work runs/new --steps neighbours,tables

It writes the model that ships, its directions, the records of steering, inversion and memorising, the
pictures of docs/exploration.md, and the tables in the pages. ``--faces`` is the face set that the model was
trained on, ``--unseen`` one of which it has seen no face. ``--steps`` names some of the steps. Directions go
on where they were interrupted.
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
STEPS = ("model", "directions", "steering", "inversion", "neighbours", "pictures", "tables")


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
    parser.add_argument("--samples", type=int, default=50_000, help="of the directions")
    parser.add_argument("--steered", type=int, default=500, help="samples that are steered")
    parser.add_argument("--steps", default=",".join(STEPS), help="some of " + ", ".join(STEPS))
    asked = parser.parse_args()
    chosen = asked.steps.split(",")
    if unknown := set(chosen) - set(STEPS):
        parser.error(f"--steps: there is no {sorted(unknown)[0]!r}; there are {', '.join(STEPS)}")

    def bench(script: str, *arguments: object) -> list[str]:
        return [sys.executable, str(BENCH / script), *map(str, arguments)]

    folder = asked.work / "directions"
    find = ["directions", "shipped", "--data", asked.faces, "-o", folder, "--samples", asked.samples]
    commands: dict[str, list[list[str]]] = {
        "model": [] if asked.run is None else [bench("ship_model.py", asked.run)],
        "directions": [
            [sys.executable, "-m", "omokage", *map(str, find)],
            bench("ship_model.py", "--directions", folder),
        ],
        "steering": [bench("steering.py", "--samples", asked.steered, "--drawn", 300)],
        "inversion": [bench("inversion.py", "shipped", "--faces", asked.unseen, "--note", asked.note)],
        "neighbours": [],
        "pictures": [bench("exploration.py", "pictures")],
        "tables": [bench("tables.py")],
    }
    for step in (step for step in STEPS if step in chosen):
        print(f"== {step}", flush=True)
        if step == "neighbours":
            memorising(asked.faces, 1000)
        for command in commands[step]:
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
