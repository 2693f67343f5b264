"""How often do the attribute network and the eye name the tagged colours? Writes a record of mean recalls.

    OMP_NUM_THREADS=1 python bench/judge_attributes.py --data ../shared/data

The faces are those of `tagged-faces-96` whose hair and eyes were named by eye (`bench/attribute_labels.csv`)
and have one tag each. The network has not learned from them. Mean recall is the mean over colours of the
share of faces with this tag that are named so. The interval of the difference comes from drawing the faces
again. Afterwards `python bench/tables.py` writes the sentence in docs/steering.md.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from train_attributes import labels_by_eye
from train_tag_encoder import read_tagged

from omokage.attributes import ATTRIBUTES, attribute_network

RESULT = Path(__file__).parent / "results" / "attributes_by_eye.json"
AGAIN = 2000  # times that the faces are drawn again


def mean_recall(named: np.ndarray, tags: np.ndarray) -> float:
    """The mean over the tags of the share of their faces that are named so."""
    return float(np.mean([(named[tags == tag] == tag).mean() for tag in np.unique(tags)]))


def difference(one: np.ndarray, other: np.ndarray, tags: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean recall of ``one`` less that of ``other``."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(AGAIN):
        rows = rng.integers(0, len(tags), len(tags))
        found.append(mean_recall(one[rows], tags[rows]) - mean_recall(other[rows], tags[rows]))
    low, high = np.quantile(found, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def main() -> None:
    """Judge, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    faces, *marks = read_tagged(data)
    with open(data / "tagged-faces-96.csv", newline="", encoding="utf-8") as file:
        _, seen, _ = labels_by_eye([row["file"] for row in csv.DictReader(file)])
    network = attribute_network()
    record: dict[str, dict] = {}
    for name, mark in zip(("hair", "eyes"), marks, strict=True):
        values = np.array(ATTRIBUTES[name].values)
        rows = np.flatnonzero((mark.sum(1) == 1) & np.isin(seen[name], values))
        tags, eye = values[mark[rows].argmax(1)], np.array(seen[name])[rows]
        guess = np.array(network(faces[rows]).values(name))
        record[name] = {
            "faces": len(rows),
            "eye": round(mean_recall(eye, tags), 4),
            "network": round(mean_recall(guess, tags), 4),
            "network less eye": difference(guess, eye, tags),
        }
    RESULT.write_text(json.dumps({"network": network.file_hash, **record}, indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
