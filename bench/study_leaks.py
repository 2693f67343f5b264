"""Does anything but the picture tell real from generated? A classifier on each channel of a study's server.

    python bench/study_leaks.py [--quick] [--pictures 2000] [--write]

People open a study of single pictures over HTTP and see every picture once. Before each answer, everything is
noted that a browser gets besides the pixels: the name, the number in the order, the size of the response, its
headers, how long it took, the trial's identifier. A classifier is trained on each of these channels, and its
area under the ROC curve is measured on pictures it was not trained on: 0.5 is guessing. The real pictures are
smooth and the generated ones noisy, so that their files differ as much as they can: with the length of the
files before padding, the classifier is always right, which shows that it would find a leak.

All bodies are also searched for identifiers and names of sources. ``--write`` writes
bench/results/study_leaks.md.
"""

import argparse
import asyncio
import hashlib
import json
import signal
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from study_load import Line, Server, free_port, machine, truths, unpadded

from omokage.study.making import make_study
from omokage.study.stimuli import Source, load_stimuli

RESULTS = Path(__file__).parent / "results" / "study_leaks.md"
TRIALS = 50


class Listener(Line):
    """A connection that also keeps the head of the last response."""

    async def call(self, method: str, path: str, token: Any = None, body: Any = None, **more: Any) -> Any:
        """As `Line.call`, and ``self.head``, ``self.took`` in milliseconds."""
        began = time.perf_counter()
        status, content = await super().call(method, path, token, body, **more)
        self.took = (time.perf_counter() - began) * 1000
        if status >= 400:
            raise RuntimeError(f"{path}: {status} {content!r}")
        return content


def letters(text: str) -> list[float]:
    """A text as numbers: its letters by place, and how many there are of each kind."""
    codes = [float(ord(letter)) for letter in text[:64].ljust(64, "\0")]
    return [*codes, *(float(text.count(letter)) for letter in "0123456789abcdef-_"), float(len(text))]


async def look(folder: Path, port: int, people: int) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What a browser gets for each picture before it answers; and all bodies."""
    line, truth = Listener(port), truths(folder)
    rows: list[dict[str, Any]] = []
    bodies = [await line.call("GET", path) for path in ("/api/study", "/api/openapi.json")]
    consent = [one["id"] for one in json.loads(bodies[0])["consent"]]
    for _ in range(people):
        agreed = {"language": "en", "consents": consent, "age_confirmed": True}
        bodies.append(await line.call("POST", "/api/participants", body=agreed))
        token = json.loads(bodies[-1])["token"]
        while True:
            content = await line.call("GET", "/api/trials/next", token)
            asked, next_head = line.took, line.head
            bodies.append(content)
            trial = json.loads(content)["trial"]
            if trial is None:
                break
            url = trial["pictures"][0]["url"]
            picture = await line.call("GET", f"/{url}", token)
            file = unpadded(picture)
            source = truth[hashlib.sha256(file).hexdigest()][1]
            told = {name: value for name, value in line.head.items() if name != "date"}
            rows.append(
                {
                    "real": source == "real",
                    "names": letters(url),
                    "identifiers of trials": letters(trial["id"]),
                    "order": [float(trial["index"]), float(len(rows))],
                    "sizes": [float(len(picture)), float(len(content) - len(str(trial["index"])))],
                    "headers": [
                        *letters(json.dumps([told, sorted(next_head)], sort_keys=True)[-64:]),
                        float(len(json.dumps(told))),
                    ],
                    "times": [line.took, asked],
                    "the file without padding (must be found)": [float(len(file))],
                }
            )
            answer = {"trial": trial["id"], "response": "real", "rt": 1, "time_elapsed": 1}
            await line.call("POST", "/api/answers", token, answer)
    line.close()
    return rows, bodies


def area(rows: list[dict[str, Any]], channel: str) -> float:
    """The area under the ROC curve of a classifier on one channel, over ten folds."""
    values = np.array([row[channel] for row in rows])
    real = np.array([row["real"] for row in rows])
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    guessed = cross_val_predict(model, values, real, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(real, guessed))


def pictures(count: int, seed: int, smooth: bool, side: int = 64) -> list[tuple[str, Image.Image]]:
    """Pictures of noise, smooth or not."""
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(count):
        image = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        drawn.append((f"{number}.png", image.filter(ImageFilter.GaussianBlur(2)) if smooth else image))
    return drawn


def main() -> None:
    """Look at everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 pictures")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    count = 200 if options.quick else options.pictures
    where = machine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        sources = [
            Source("real", pictures(count // 2, 0, True)),
            Source("secretmodel", pictures(count // 2, 1, False)),
        ]
        settings = {"kind": "single", "trials": TRIALS, "practice": 0, "minimum_age": 0}
        make_study(folder, settings, sources)
        server = Server(folder, free_port())
        server.start()
        try:
            rows, bodies = asyncio.run(look(folder, server.port, count // TRIALS))
        finally:
            server.kill(signal.SIGTERM)
        names = ["secretmodel", *load_stimuli(folder).pictures]
    everything = b"\n".join(bodies)
    found = sum(name.encode() in everything for name in names)
    seen = len({tuple(row["names"]) for row in rows})
    channels = [name for name in rows[0] if name != "real"]
    lines = [f"| {name} | {area(rows, name):.3f} |" for name in channels]
    table = "\n".join(
        [
            "# What tells real from generated before an answer",
            "",
            f"Written by `python bench/study_leaks.py --write` on {date.today()} ({where}).",
            f"{len(rows):,} pictures, each shown once, under {seen:,} names; over HTTP. The area under the",
            "ROC curve of a classifier on one channel, on pictures it was not trained on; 0.5 is guessing.",
            "",
            "| channel | area |",
            "|---|---|",
            *lines,
            "",
            f"Identifiers of pictures and names of sources found in {len(bodies):,} bodies: {found}.",
            "",
        ]
    )
    print(table)
    if options.write:
        RESULTS.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
