"""Duplicates, split and stats of a million faces: seconds and memory.

    python bench/million_rows.py [DATA] [N]

DATA is the folder that has `getchu-faces-64.tar` (else the environment variable OMOKAGE_DATA, else
../shared/data beside the repository); N is a million by default. A synthetic face is a random blend of two
real ones, which keeps the statistics of frequencies and colours; blending their cosine transforms makes a
million signatures without decoding a million pictures. A tenth of the rows are copies of others with some
bits turned, artists have 1 to 400 pictures. Prints a table and writes it to bench/results/million_rows.md.
"""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from duplicates import all_faces, processor

from omokage.data import duplicates
from omokage.data.duplicates import SIGNATURE, duplicate_groups
from omokage.data.faceset import COLUMNS, cores
from omokage.data.split import held_out, split_groups
from omokage.data.stats import index_statistics

HERE = Path(__file__).resolve().parent
REAL = 4000
TURNED = 10


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synthetic(faces: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Signatures (n,), and for each row the row that it is a copy of, or itself."""
    draw = np.random.default_rng(1)
    waves = np.concatenate([duplicates.waves(faces[i : i + 200]) for i in range(0, len(faces), 200)])
    colour = duplicates.signatures(faces)["colour"].astype(np.float32)
    rows = np.empty(n, SIGNATURE)
    rows["width"] = rows["height"] = 64
    rows["content"] = draw.integers(0, 2**63, (n, 2), dtype=np.uint64)
    original = n - n // 10
    for start in range(0, original, 2000):
        size = min(2000, original - start)
        a, b = draw.integers(0, len(faces), (2, size))
        share = draw.uniform(0.3, 0.7, size).astype(np.float32)[:, None, None]
        blend = share * waves[a] + (1 - share) * waves[b]
        rows["hashes"][start : start + size] = duplicates.packed(blend)
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


def synthetic_index(n: int) -> pa.Table:
    draw = np.random.default_rng(2)
    digests = np.frombuffer(draw.bytes(32 * n), "S32")
    artist = np.minimum(draw.zipf(1.6, n), n // 400 + 10)
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
        "artist": pa.array([f"artist {a}-{i % 400}" if a > 1 else None for i, a in enumerate(artist)]),
        "hair": pa.array(draw.choice(["blonde", "black", "blue", "black|blue"], n)),
        "sharpness": pa.array(draw.gamma(2, 3, n)),
    }
    assert set(COLUMNS) <= set(columns)
    return pa.table(columns)


def main() -> None:
    beside = HERE.parents[1] / "shared" / "data"
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("OMOKAGE_DATA", beside))
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    faces = all_faces(data / "getchu-faces-64.tar")
    faces = faces[np.random.default_rng(0).choice(len(faces), min(REAL, len(faces)), replace=False)]
    rows, of = synthetic(faces, n)
    index = synthetic_index(n)
    lines = ["| what | wall | one core | peak memory of the process |", "|---|---|---|---|"]
    lines.append(
        f"| made: {n:,} signatures ({rows.nbytes / 1e6:,.0f} MB) and rows ({index.nbytes / 1e6:,.0f} MB) "
        f"| | | {megabytes():,.0f} MB |"
    )

    def timed(what: str, work: Callable[[], object]) -> object:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        lines.append(
            f"| {what} | {time.perf_counter() - wall:,.0f} s | {time.process_time() - cpu:,.0f} s "
            f"| {megabytes():,.0f} MB |"
        )
        print(lines[-1], flush=True)
        return result

    timed("stats of the index", lambda: index_statistics(index))
    groups = np.asarray(timed("groups of copies", lambda: duplicate_groups(rows)))
    copies = np.nonzero(of != np.arange(n))[0]
    found = (groups[copies] == groups[of[copies]]).mean()
    others = np.setdiff1d(np.unique(np.r_[copies, of[copies]]), [], assume_unique=True)
    plain = np.setdiff1d(np.arange(n), others, assume_unique=True)
    false = (np.bincount(groups, minlength=n)[groups[plain]] > 1).sum()
    lines.append(f"| copies found | {found:.2%} of {len(copies):,} | | |")
    lines.append(f"| others in a group | {false:,} of {len(plain):,} ({false / len(plain):.2%}) | | |")
    sides = np.asarray(
        timed("split: groups of alike, artists", lambda: split_groups(index, rows, ["artist"]))
    )
    held = np.asarray(timed("split: choosing", lambda: held_out(index["sha256"], sides, 0.05, 0)))
    crossing = (held[copies] != held[of[copies]]).sum()
    lines.append(
        f"| held out; copies on another side than their original | {held.sum():,}; {crossing:,} | | |"
    )
    about = f"{date.today()}, {processor()}, {cores()} cores, Python {platform.python_version()}"
    title = f"# {n:,} rows: duplicates, split, stats"
    text = "\n".join([title, "", about, "", *lines, ""])
    print(text)
    (HERE / "results" / "million_rows.md").write_text(text)


if __name__ == "__main__":
    main()
