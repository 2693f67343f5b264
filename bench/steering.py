"""How well does steering work on a model? Writes the steering table, and checks the estimates on drawn faces.

    python bench/steering.py runs/fast-128 --directions directions/ --samples 500

For each value with a direction: on how many samples without it is it reached, by how many steps, how much
more often another attribute changes than along a null direction, and how far the middle of the face moves
(1 is the mean distance of two different faces). ``--drawn N`` steers no model: it draws N faces, changes one
factor of each exactly, and counts how often the estimate of another attribute changes.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np

from omokage.attributes import ATTRIBUTES, AttributeNetwork, Estimates, attribute_network
from omokage.data.drawn import draw_face
from omokage.explore.directions import directions_of
from omokage.explore.finding import FIRST_CHECK
from omokage.explore.points import of_seeds
from omokage.explore.steering import Want, steer
from omokage.hardware import machine_name
from omokage.model import load_model
from omokage.progress import TerminalProgress
from omokage.settings import Settings

RESULT = Path(__file__).parent / "results" / "steering.md"
FIRST = FIRST_CHECK + 2**20  # seeds of the samples: neither those of the regression nor those of its check
FIRST_DRAWN = 700_000

# Factors of drawn faces that are changed, and the attribute that each of them is.
CHANGED = {
    "hair": ("hair", ("pink", "blue", "blonde", "black")),
    "eyes": ("eyes", ("green", "red", "blue")),
    "glasses": ("glasses", (True,)),
    "mouth": ("mouth", ("laugh",)),
    "hair_style": ("length", ("long",)),
}


def steered_rows(model, directions, network: AttributeNetwork, samples: int, names: list[str]) -> list[dict]:
    """What was measured, a row a value. ``names``: of attributes or directions; none: all with a slider."""
    points = of_seeds(model, range(FIRST, FIRST + samples), Settings(), directions.space)
    rows = []
    for row in directions.rows:
        if not row.attribute or not row.offered or (names and not {row.attribute, row.name} & set(names)):
            continue
        want = Want(row.name, row.value)
        steered = steer(model, network, points, [want], directions, null=True, progress=TerminalProgress())
        place = ATTRIBUTES[row.attribute].values.index(row.value)
        before = steered.before.estimates.probabilities[row.attribute]
        without = ~((before.argmax(1) == place) & (before[:, place] >= 0.5))
        got = without & steered.reached[:, 0]
        leakage = steered.leakage(got)
        worst = max(leakage.items(), key=lambda each: each[1], default=("", float("nan")))
        mean = np.mean(list(leakage.values())) if leakage else float("nan")
        steps = np.abs(steered.steps[got, 0]).mean() if got.any() else float("nan")
        identity = steered.identity()[got].mean() if got.any() else float("nan")
        rows.append(
            {
                "value": row.name,
                "support": row.support,
                "reached": int(got.sum()),
                "without": int(without.sum()),
                "steps": float(steps),
                "leakage": float(mean),
                "largest": [worst[0], float(worst[1])],
                "moved": float(identity),
            }
        )
        print(table(rows)[-1], flush=True)
    return rows


def table(rows: list[dict]) -> list[str]:
    """The rows in Markdown."""
    lines = [
        "| value | support | reached | mean steps | mean leakage | largest leakage | face moved |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        which, worst = row["largest"]
        lines.append(
            f"| {row['value']} | {row['support']:,} "
            f"| {row['reached']} of {row['without']} ({row['reached'] / max(row['without'], 1):.0%}) "
            f"| {row['steps']:.1f}σ | {100 * row['leakage']:+.1f} | {100 * worst:+.1f} ({which}) "
            f"| {row['moved']:.2f} |"
        )
    return lines


def sentence(record: dict) -> str:
    """What was measured, on which machine, and what the columns say."""
    return (
        f"{record['date']}, {record['machine']}, {record['seconds']:,} s. Model {record['model']}; "
        f"directions from {record['regressed']:,} samples in {record['space']}; {record['samples']} other "
        "samples. Leakage: how much more often another attribute's estimate changes than after as many steps "
        "along a null direction, in points. Face moved: perceptual distance of eyes, nose and mouth, with "
        "what hair lies over them; 1 is that of two different faces."
    )


def drawn_table(network: AttributeNetwork, number: int) -> tuple[list[str], float]:
    """Exact changes of one factor of drawn faces: how often each other estimate changes; and the largest."""
    seeds = range(FIRST_DRAWN, FIRST_DRAWN + number)
    first = [draw_face(seed, 64) for seed in seeds]
    before = network(np.stack([one.image for one in first]))
    lines = [
        "| changed factor | its estimate follows | largest change of another estimate |",
        "|---|---|---|",
    ]
    largest = 0.0
    for factor, (attribute, values) in CHANGED.items():
        parts, rows, goals = [], [], []
        for value in values:
            for row, (seed, one) in enumerate(zip(seeds, first, strict=True)):
                if one.factors[factor] != value:
                    parts.append(draw_face(seed, 64, **{factor: value}).image)
                    rows.append(row)
                    goals.append(value)
        after: Estimates = network(np.stack(parts))
        follows = _follows(attribute, after, goals)
        changes = {
            name: before.rows(np.array(rows)).changes(after, name)
            for name in ATTRIBUTES
            if name != attribute and name in network.trusted
        }
        worst = max(changes.items(), key=lambda each: each[1])
        largest = max(largest, worst[1])
        lines.append(f"| {factor} ({len(rows)} changes) | {follows:.1%} | {worst[1]:.1%} ({worst[0]}) |")
        print(lines[-1], flush=True)
    return lines, largest


def _follows(attribute: str, after: Estimates, goals: list) -> float:
    values = ATTRIBUTES[attribute].values
    known = {True: "yes", "laugh": "open", "long": "long"}
    wanted = [known.get(goal, goal) for goal in goals]
    return float(
        np.mean([values[p] == goal for p, goal in zip(after.places(attribute), wanted, strict=True)])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a run or snapshot; left out: the model that ships")
    parser.add_argument("--directions", type=Path, help="left out: those beside the model")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--only", default="", help="attributes or values, like hair,eyes=red; empty: all")
    parser.add_argument("--drawn", type=int, default=0, help="check the estimates on so many drawn faces too")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    began, network = time.monotonic(), attribute_network()
    model = load_model(args.model)
    directions = directions_of(model, args.directions)
    only = [name for name in args.only.split(",") if name]
    rows = steered_rows(model, directions, network, args.samples, only)
    drawn = drawn_table(network, args.drawn)[0] if args.drawn else []
    refused = [f"- {named_}: {reason}" for named_, reason in directions.refused.items()]
    record = {
        "date": str(datetime.date.today()),
        "machine": machine_name(),
        "seconds": round(time.monotonic() - began),
        "snapshot": model.snapshot_hash,
        "model": model.about.line(),
        "regressed": directions.samples,
        "space": directions.space,
        "samples": args.samples,
        "rows": rows,
    }
    text = [
        "# Steering: is what was asked for reached, and what else changes?",
        "",
        sentence(record),
        "",
        *table(rows),
        "",
        *(["Without a direction:", "", *refused, ""] if refused else []),
        *(["Drawn faces with one factor changed exactly:", "", *drawn, ""] if drawn else []),
    ]
    args.out.write_text("\n".join(text))
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(args.out)


if __name__ == "__main__":
    main()
