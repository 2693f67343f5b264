"""Inception features: speed compared with the original TorchScript, and the effect on FID.

    python bench/feature_extraction.py --faces ../shared/data/getchu-faces-64.tar --count 10000

Two sets are compared: real faces, and other real faces that were shrunk, enlarged and made noisy, in place of
generated ones. (With --samples RUN, samples of a run are used instead.) Both sets go through the TorchScript
in float32 and through our network. The features of the TorchScript, the slow part, are computed in pieces and
kept in --cache, so the command can be stopped and repeated. Speeds are measured alternately, batch by batch
in one process, so that other work on the machine affects both.
"""

import argparse
import io
import json
import platform
import resource
import statistics as medians
import tarfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from omokage.files import cache_folder
from omokage.metrics.features import InceptionExtractor, inception_file
from omokage.metrics.fid import fid, statistics
from omokage.model import load_model
from omokage.sampling import gathered, sample

BATCH = 16
PIECE = 25 * BATCH


def torchscript(file: Path):
    """The original network in float32; images are resized by the grid of the usual implementation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(file)).eval()

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        batch, channels, height, width = x.shape
        theta = torch.eye(2, 3)
        theta[0, 2] += 1 / width - 1 / 299
        theta[1, 2] += 1 / height - 1 / 299
        shape = [batch, channels, 299, 299]
        grid = F.affine_grid(theta[None].repeat(batch, 1, 1), shape, align_corners=False)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return module((x - 128) / 128).numpy()

    return features


def spoiled(image: np.ndarray, seed: int) -> np.ndarray:
    """A face as a weak generator would draw it: blurred, then noisy."""
    small = Image.fromarray(image).resize((36, 36), Image.Resampling.BOX)
    soft = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(seed).normal(0, 3, soft.shape)
    return (soft + noise).round().clip(0, 255).astype(np.uint8)


def read_faces(tar: Path) -> np.ndarray:
    """All pictures of a tar, sorted by name, uint8 (N, 64, 64, 3)."""
    faces = []
    with tarfile.open(tar) as archive:
        for member in sorted((m for m in archive if m.isfile()), key=lambda m: m.name):
            file = archive.extractfile(member)
            assert file is not None
            image = Image.open(io.BytesIO(file.read())).convert("RGB")
            faces.append(np.asarray(image if image.size == (64, 64) else image.resize((64, 64))))
    return np.stack(faces)


def in_pieces(features, images: np.ndarray, cache: Path, name: str) -> np.ndarray:
    """Features of ``images``, piece by piece; finished pieces are read from ``cache``."""
    found = []
    for start in range(0, len(images), PIECE):
        piece = images[start : start + PIECE]
        path = cache / f"{name}-{start}-{len(piece)}.npy"
        if not path.exists():
            made = np.concatenate([features(piece[i : i + BATCH]) for i in range(0, len(piece), BATCH)])
            part = path.with_suffix(".part.npy")
            np.save(part, made)
            part.rename(path)
            print(f"{name}: {start + len(piece):,} of {len(images):,}", flush=True)
        found.append(np.load(path, allow_pickle=False))
    return np.concatenate(found)


def speeds(ways: dict, images: np.ndarray, rounds: int) -> dict[str, tuple[float, float]]:
    """Median images per second, and per second of processor time, for each network; measured alternately."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, features in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            features(images[:BATCH])
            if round_:  # the first round is a warm-up
                taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: tuple(BATCH / medians.median(one) for one in zip(*t, strict=True)) for name, t in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, default=Path("../shared/data/getchu-faces-64.tar"))
    parser.add_argument("--count", type=int, default=1000, help="images of each of the two sets")
    parser.add_argument("--samples", type=Path, help="a run whose samples are compared with real faces")
    parser.add_argument("--rounds", type=int, default=15, help="batches of 16 that each way is timed with")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "bench")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)

    faces = read_faces(arguments.faces)
    count = min(arguments.count, len(faces) if arguments.samples else len(faces) // 2)
    order = np.random.default_rng(0).permutation(len(faces))
    real = faces[order[:count]]
    if arguments.samples:
        model = load_model(arguments.samples)
        other, title = gathered(sample(model, range(count)))[0], f"s{model.snapshot_hash[:12]}"
        what = f"samples of the snapshot {model.snapshot_hash[:12]}"
    else:
        other = np.stack([spoiled(faces[i], int(i)) for i in order[count : 2 * count]])
        title, what = f"spoiled{count}", "other real faces, softened and made noisy"

    file = inception_file()
    reference, ours = torchscript(file), InceptionExtractor(file)
    rates = speeds(
        {"TorchScript, fp32": reference, f"omokage, {ours.precision}": ours}, real, arguments.rounds
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ours_real, ours_other = (
        np.concatenate([ours(images[i : i + BATCH]) for i in range(0, count, BATCH)])
        for images in (real, other)
    )
    seconds = time.perf_counter() - start
    reference_real = in_pieces(reference, real, arguments.cache, f"real{count}")
    reference_other = in_pieces(reference, other, arguments.cache, title)
    by_reference = fid(*statistics(reference_other), *statistics(reference_real))
    by_ours = fid(*statistics(ours_other), *statistics(ours_real))

    given = " --samples RUN" if arguments.samples else ""
    (slow_wall, slow_processor), (fast_wall, fast_processor) = rates.values()
    lines = [
        "# Inception features",
        "",
        f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}; "
        f"`python bench/feature_extraction.py --count {count}{given}`",
        "",
        "| | images/s | images per second of processor time | ratio (processor time) |",
        "|---|---|---|---|",
        f"| TorchScript, fp32 | {slow_wall:.1f} | {slow_processor:.1f} | 1 |",
        f"| omokage, {ours.precision} | {fast_wall:.1f} | {fast_processor:.1f} "
        f"| {fast_processor / slow_processor:.2f} |",
        "",
        f"Ratio by the clock: {fast_wall / slow_wall:.2f} (batches in turn). Ours over all {2 * count:,} "
        f"images: {2 * count / seconds:.1f} images/s.",
        "",
        f"FID of {count:,} real faces and {count:,} of {what}: {by_reference:.4f} by the TorchScript, "
        f"{by_ours:.4f} by ours, difference {by_ours - by_reference:+.4f}.",
        "",
        f"Peak memory of the process: {before / 1e3:,.0f} MB with both networks loaded and timed.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "feature_extraction.md").write_text(text)
    numbers = {"count": count, "fid_reference": by_reference, "fid_ours": by_ours, "rates": rates}
    (arguments.out / "feature_extraction.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
