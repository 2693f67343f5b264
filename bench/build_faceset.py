"""The time to build and read a face set, and its size on disk.

    python bench/build_faceset.py [DATA]

DATA is the folder that has `getchu-faces-64.tar` (else the environment variable OMOKAGE_DATA, else
../shared/data beside the repository). Prints a table and writes it to bench/results/build_faceset.md.
"""

import argparse
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from setting import data_argument

from omokage.data.build import build
from omokage.data.engines.processes import cores
from omokage.data.store.faceset import FaceSet
from omokage.hardware import processor

HERE = Path(__file__).resolve().parent


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_memory_of_a_build(source: Path, out: Path) -> float:
    """Peak memory in MB of a process that only builds."""
    code = (
        "import resource, sys; from omokage.data.build import build;"
        "build([sys.argv[1]], sys.argv[2], as_faces=True);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, source, out], capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data_argument(parser)
    data = parser.parse_args().data
    source = data / "getchu-faces-64.tar"
    rows: list[tuple[str, str]] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(source) as archive:
            archive.extractall(folder / "pictures", filter="data")
        for label, given in (("tar", source), ("folder", folder / "pictures")):
            for workers in (1, cores()):
                report = build([given], folder / f"{label}{workers}", as_faces=True, workers=workers)
                speed = f"{report.found / report.seconds:,.0f} images/s ({report.seconds:.1f} s)"
                rows.append((f"build from the {label}, {workers} worker{'s' * (workers > 1)}", speed))
        finished = folder / f"tar{cores()}"
        faces = FaceSet.open(finished)
        images = faces.manifest["counts"]["bytes"]
        rows += [
            (
                "faces found / kept / rejected",
                "{found:,} / {kept:,} / {rejected:,}".format(**faces.manifest["counts"]),
            ),
            ("exact duplicates among them", f"{faces.manifest['counts']['duplicates']:,}"),
            ("bytes of the images", f"{images:,}"),
            ("face set on disk / images (at most 1.05)", f"{size_of(finished) / images:.4f}"),
            ("the plain tar / images", f"{source.stat().st_size / images:.4f}"),
            ("peak memory of a build", f"{peak_memory_of_a_build(source, folder / 'again'):,.0f} MB"),
            ("open the face set", f"{seconds(lambda: FaceSet.open(finished)):.3f} s"),
        ]
        for workers in (1, cores()):
            took = seconds(lambda workers=workers: faces.everything(64, workers=workers))
            rows.append(
                (
                    f"decode everything, {workers} worker{'s' * (workers > 1)}",
                    f"{len(faces) / took:,.0f} images/s",
                )
            )
        some = np.random.default_rng(0).integers(0, len(faces), 4096)
        took = seconds(lambda: faces.pixels(some, 64))
        rows.append(("random access, one thread", f"{len(some) / took:,.0f} images/s"))
        rows.append(("same content hash from every build", str(len(hashes(folder)) == 1)))
    machine = f"{processor()}, {cores()} cores, load {load:.1f} at the start"
    about = f"{date.today()}, {machine}, Python {platform.python_version()}"
    table = ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    text = "\n".join(["# Building a face set from `getchu-faces-64.tar`", "", about, "", *table, ""])
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "build_faceset.md").write_text(text)


def hashes(folder: Path) -> set[str]:
    """Content hashes of all face sets in ``folder``; a tar and a folder must give the same ones."""
    return {FaceSet.open(path.parent).content_hash for path in folder.glob("*/manifest.json")}


if __name__ == "__main__":
    main()
