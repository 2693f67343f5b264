"""Time and memory of duplicates, split and stats for a million faces.

    python bench/million_rows.py [DATA] [--rows N ...]

DATA is the folder that has `getchu-faces-64.tar` (else the environment variable OMOKAGE_DATA, else
../shared/data beside the repository). N is a million by default; several numbers give a table with a part for
each. A synthetic face is a blend of two real ones in about equal parts, which keeps the statistics of
frequencies and colours. Cosine transforms are blended, so no million pictures need decoding. A tenth of the
rows are copies of others with some bits flipped; artists have 1 to 400 pictures. Every step runs in its own
process, so that its peak memory is measured alone. Prints a table and writes it to
bench/results/million_rows.md.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from duplicates import all_faces
from setting import data_argument

from omokage.data.derive import signatures
from omokage.data.derive.duplicates import duplicate_groups
from omokage.data.derive.pairs import ALIKE
from omokage.data.derive.signatures import SIGNATURE
from omokage.data.derive.split import held_out, split_groups
from omokage.data.derive.stats import index_statistics
from omokage.data.engines.processes import cores
from omokage.data.store.columns import COLUMNS

HERE = Path(__file__).resolve().parent
REAL = 6000
SHARE = (0.42, 0.58)  # with a wider range, blends that share a face would count as variants of one drawing
TURNED = 10


def megabytes() -> float:
    """Peak memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would include the peak of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synthetic(faces: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Signatures (n,), and for each row the index of its original (its own index if it is no copy)."""
    draw = np.random.default_rng(1)
    waves = np.concatenate([signatures.waves(faces[i : i + 200]) for i in range(0, len(faces), 200)])
    colour = signatures.signatures(faces)["colour"].astype(np.float32)
    rows = np.empty(n, SIGNATURE)
    rows["width"] = rows["height"] = 64
    rows["content"] = draw.integers(0, 2**63, (n, 2), dtype=np.uint64)
    original = n - n // 10
    for start in range(0, original, 2000):
        size = min(2000, original - start)
        a, b = draw.integers(0, len(faces), (2, size))
        share = draw.uniform(*SHARE, size).astype(np.float32)[:, None, None]
        blend = share * waves[a] + (1 - share) * waves[b]
        rows["hashes"][start : start + size] = signatures.packed(blend)
        share = share[..., None]
        rows["colour"][start : start + size] = np.rint(share * colour[a] + (1 - share) * colour[b])
    of = np.arange(n)
    of[original:] = draw.integers(0, original, n - original)
    for start in range(original, n, 2000):
        part = slice(start, min(start + 2000, n))
        rows["hashes"][part] = rows["hashes"][of[part]]
        rows["colour"][part] = rows["colour"][of[part]]
        turn = draw.random((part.stop - start, 9, 256)) < TURNED / 256
        rows["hashes"][part] ^= np.packbits(turn, axis=-1, bitorder="little").view("<u8")
    return rows, of


def synthetic_index(of: np.ndarray) -> pa.Table:
    """An index with as many rows; a copy has the artist of its original."""
    n = len(of)
    draw = np.random.default_rng(2)
    digests = np.frombuffer(draw.bytes(32 * n), "S32")
    artist = np.minimum(draw.zipf(1.6, n), n // 400 + 10)
    artist = [f"artist {a}-{i % 400}" if a > 1 else None for i, a in enumerate(artist)]
    columns = {
        "key": pa.array([f"face-{i}" for i in range(n)]),
        "shard": pa.array(np.arange(n) // 4096, pa.int32()),
        "offset": pa.array(np.arange(n) % 4096 * 3500, pa.int64()),
        "length": pa.array(draw.integers(2500, 4500, n), pa.int32()),
        "bytes": pa.array(draw.integers(2500, 4500, n), pa.int32()),
        "width": pa.array(draw.choice([64, 96, 128], n), pa.int32()),
        "height": pa.array(draw.choice([64, 96, 128], n), pa.int32()),
        "format": pa.array(np.full(n, "jpg")),
        "done": pa.array(np.full(n, "")),
        "source": pa.array([f"archive-{i % 7}.tar" for i in range(n)]),
        "file": pa.array([f"face-{i}.jpg" for i in range(n)]),
        "sha256": pa.array([bytes(d).ljust(32, b"\0") for d in digests.tolist()], pa.binary(32)),
        "artist": pa.array([artist[i] for i in of]),
        "hair": pa.array(draw.choice(["blonde", "black", "blue", "black|blue"], n)),
        "sharpness": pa.array(draw.gamma(2, 3, n)),
    }
    assert set(COLUMNS) <= set(columns)
    return pa.table(columns)


def step(name: str, folder: Path) -> dict[str, object]:
    """Run one step on the files in ``folder``; returns its seconds, its peak memory and its results."""
    index = pq.read_table(folder / "index.parquet") if name != "groups" else None
    rows = np.load(folder / "rows.npy") if name != "stats" else None
    of = np.load(folder / "of.npy")
    n, copies = len(of), np.nonzero(of != np.arange(len(of)))[0]
    before = megabytes()
    wall, cpu = time.perf_counter(), time.process_time()
    if name == "stats":
        index_statistics(index)
    elif name == "groups":
        groups = duplicate_groups(rows)
    else:
        sides = split_groups(index, rows, ["artist"])
        held = held_out(index["sha256"], sides, 0.05, 0)
    told: dict[str, object] = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "given": before,
        "peak": megabytes(),
    }
    if name == "groups":
        others = np.unique(np.r_[copies, of[copies]])
        plain = np.setdiff1d(np.arange(n), others, assume_unique=True)
        false = int((np.bincount(groups, minlength=n)[groups[plain]] > 1).sum())
        found = (groups[copies] == groups[of[copies]]).mean()
        told["found"] = (
            f"{found:.2%} of {len(copies):,} copies; {false:,} of {len(plain):,} others in a group"
        )
    if name == "split":
        crossing = int((held[copies] != held[of[copies]]).sum())
        told["found"] = (
            f"{len(np.unique(sides)):,} groups, the largest of {np.bincount(sides).max():,}; "
            f"{held.sum():,} held out, {crossing:,} copies on another side than their original"
        )
    return told


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(step(sys.argv[2], Path(sys.argv[3]))))
        return
    from omokage.hardware import processor  # brings PyTorch, whose memory would count in every step

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data_argument(parser)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    args = parser.parse_args()
    faces = all_faces(args.data / "getchu-faces-64.tar")
    faces = faces[np.random.default_rng(0).choice(len(faces), min(REAL, len(faces)), replace=False)]
    alike = duplicate_groups(signatures.signatures(faces), likeness=ALIKE, chaining=True)
    faces = faces[alike == np.arange(len(faces))]
    lines = [
        "| rows | step | CPU | wall | peak memory | of it the data | found |",
        "|---|---|---|---|---|---|---|",
    ]
    load = os.getloadavg()[0]
    for n in args.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows, of = synthetic(faces, n)
            np.save(folder / "rows.npy", rows)
            np.save(folder / "of.npy", of)
            pq.write_table(synthetic_index(of), folder / "index.parquet")
            del rows, of
            for what in ("stats", "groups", "split"):
                run = subprocess.run(
                    [sys.executable, __file__, "--step", what, folder], capture_output=True, check=True
                )
                t = json.loads(run.stdout)
                lines.append(
                    f"| {n:,} | {what} | {t['cpu']:,.1f} s | {t['wall']:,.0f} s | {t['peak']:,.0f} MB "
                    f"| {t['given']:,.0f} MB | {t.get('found', '')} |"
                )
                print(lines[-1], flush=True)
    about = (
        f"{date.today()}, {processor()}, {cores()} cores, other work beside it (load {load:.1f} at "
        f"the start), Python {platform.python_version()}, numpy {np.__version__}. Every step ran in a "
        "process of its own; duplicates are sought on all cores. “of it the data” is the memory of the "
        f"process when the step began, libraries included. Signatures take {SIGNATURE.itemsize} bytes a row. "
        "With more rows, more blends happen to be of the same faces. “others in a group” counts these. They "
        "can draw a copy into the group of another face. Artists are assigned at random, so they also join "
        "artists to one large group in the split."
    )
    text = "\n".join(["# Many rows: duplicates, split, stats", "", about, "", *lines, ""])
    print(text)
    (HERE / "results" / "million_rows.md").write_text(text)


if __name__ == "__main__":
    main()
