"""The recall of planted copies among real faces, and the share of faces wrongly taken for copies.

    python bench/duplicates.py [DATA]

DATA is the folder that has `getchu-faces-64.tar` (else the environment variable OMOKAGE_DATA, else
../shared/data beside the repository). The real faces contain many copies. Faces that resemble another are
left out first, by a comparison of pixels, which is not the method under test. Prints a table and writes it to
bench/results/duplicates.md.
"""

import argparse
import io
import platform
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image
from setting import data_argument

from omokage.data.derive.duplicates import best_of_groups, duplicate_groups
from omokage.data.derive.signatures import signatures
from omokage.data.engines.processes import cores

HERE = Path(__file__).resolve().parent
FACES, COPIES = 5000, 1000
RESEMBLE = 0.9


def all_faces(archive: Path) -> np.ndarray:
    with tarfile.open(archive) as tar:
        members = sorted((m for m in tar if m.isfile()), key=lambda m: m.name)
        pictures = (Image.open(tar.extractfile(m)).convert("RGB").resize((64, 64)) for m in members)
        return np.stack([np.asarray(picture) for picture in pictures])


def without_resemblances(faces: np.ndarray, wanted: int) -> np.ndarray:
    """The first ``wanted`` faces that correlate less than `RESEMBLE` with all before them.

    It compares standardised 16x16 colour pictures at nine shifts of one pixel (four pixels of the face).
    """
    small = faces.reshape(-1, 16, 4, 16, 4, 3).mean((2, 4), dtype=np.float32)

    def standard(part: np.ndarray) -> np.ndarray:
        flat = part.reshape(len(part), -1)
        flat = flat - flat.mean(1, keepdims=True)
        return (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).astype(np.float32)

    centre = standard(small[:, 1:15, 1:15])
    kept: list[int] = []
    # In blocks: first against the kept faces, then within the block.
    for start in range(0, len(faces), 500):
        block = np.arange(start, min(start + 500, len(faces)))
        near = np.zeros((len(block), len(kept) + len(block)), np.float32)
        others = np.concatenate([centre[kept], centre[block]])
        for y in range(3):
            for x in range(3):
                moved = standard(small[block][:, y : y + 14, x : x + 14])
                near = np.maximum(near, moved @ others.T)
        inner = np.maximum(near[:, len(kept) :], near[:, len(kept) :].T)
        free = near[:, : len(kept)].max(1, initial=0) < RESEMBLE
        chosen: list[int] = []
        for i in np.nonzero(free)[0]:
            if not chosen or inner[i, chosen].max() < RESEMBLE:
                chosen.append(int(i))
        kept += block[chosen].tolist()
        if len(kept) >= wanted:
            return np.array(kept[:wanted])
    raise SystemExit(f"only {len(kept)} faces resemble no other")


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out).convert("RGB"))


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def shifted(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
    wide = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="edge")
    return wide[2 - y : 66 - y, 2 - x : 66 - x]


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)


def kinds(draw: np.random.Generator) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    def a_shift() -> tuple[int, int]:
        return [(2, 0), (-2, 0), (0, 2), (0, -2), (2, 2), (-2, 2), (1, 0), (-1, -2)][draw.integers(8)]

    def one_of(*values: float) -> float:
        return values[draw.integers(len(values))]

    return {
        "resized (40, 48, 80, 96, 128 px)": lambda p: resized(p, int(one_of(40, 48, 80, 96, 128))),
        "re-encoded at quality 60": lambda p: jpeg(p, 60),
        "shifted by up to two pixels, quality 90": lambda p: jpeg(shifted(p, *a_shift()), 90),
        "brightness ±5%, quality 90": lambda p: jpeg(scaled(p, one_of(0.95, 1.05)), 90),
        "all four at once": lambda p: jpeg(
            resized(scaled(shifted(p, *a_shift()), one_of(0.95, 1.05)), int(one_of(56, 96))), 60
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data_argument(parser)
    data = parser.parse_args().data
    faces = all_faces(data / "getchu-faces-64.tar")
    draw = np.random.default_rng(0)
    draw.shuffle(faces)
    faces = faces[without_resemblances(faces, FACES)]
    lines = [
        "| planted copies | found | faces grouped that are no copies | signatures | groups |",
        "|---|---|---|---|---|",
    ]
    chosen = draw.choice(FACES, COPIES, replace=False)
    for mirrored in (False, True):
        found: Counter[str] = Counter()
        planted: Counter[str] = Counter()
        copies, names = [], []
        for number, (name, change) in enumerate(kinds(draw).items()):
            for row in chosen[number :: len(kinds(draw))]:
                picture = faces[row, :, ::-1] if mirrored else faces[row]
                copies.append(change(np.ascontiguousarray(picture)))
                names.append(name)
        of = np.concatenate([chosen[number :: len(kinds(draw))] for number in range(len(kinds(draw)))])
        started = time.process_time()
        rows = signatures([*faces, *copies])
        signed = time.process_time()
        groups = duplicate_groups(rows, mirrored=mirrored)
        grouped = time.process_time()
        hit = groups[FACES:] == groups[of]
        planted.update(names)
        found.update(name for name, met in zip(names, hit, strict=True) if met)
        # A face is grouped wrongly if its group has anything other than the face and its own copy.
        belongs = np.concatenate([np.arange(FACES), of])
        kept = best_of_groups(groups, rows)
        _, number = np.unique(groups, return_inverse=True)
        many = np.zeros(number.max() + 1, np.int64)
        np.add.at(many, number[np.unique(np.stack([number, belongs]), axis=1, return_index=True)[1]], 1)
        false = int((many[number[:FACES]] > 1).sum())
        seconds = f"{signed - started:.1f} s | {grouped - signed:.1f} s"
        title = "all, mirrored too" if mirrored else "all"
        lines.append(
            f"| **{title}** | {hit.mean():.1%} of {COPIES:,} | {false} of {FACES:,} ({false / FACES:.2%}) "
            f"| {seconds} |"
        )
        lines += [
            f"| {name} | {found[name] / planted[name]:.1%} of {planted[name]} | | | |" for name in planted
        ]
        print(f"{kept.sum():,} of {len(rows):,} kept")
    from omokage.hardware import processor  # brings PyTorch, whose memory would count in million_rows.py

    machine = f"{processor()}, {cores()} cores"
    about = (
        f"{date.today()}, {machine}, Python {platform.python_version()}, numpy {np.__version__}; seconds of "
        f"one core. {FACES:,} faces that correlate less than {RESEMBLE} with each other (as 16×16 pictures), "
        f"{COPIES:,} of them copied once."
    )
    text = "\n".join(["# Finding duplicates", "", about, "", *lines, ""])
    print(text)
    (HERE / "results" / "duplicates.md").write_text(text)


if __name__ == "__main__":
    main()
