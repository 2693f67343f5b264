"""How well waifu2x and Lanczos restore faces that were shrunk.

    python bench/upscaling.py [DATA] [--faces 400] [--small 64,100] [--methods lanczos,anime,cunet]

DATA is the folder that has `faces-256.tar` (else the environment variable OMOKAGE_DATA, else ../shared/data
beside the repository). Faces of 256 pixels are shrunk by area average and enlarged again by
`omokage.data.steps.upscale.to_size`, as in `omokage build`. Every method gets the same faces.

PSNR is over all three channels of a face, averaged over faces. The perceptual distance has the form of Zhang
et al. 2018 ("The unreasonable effectiveness of deep features as a perceptual metric", equation 1) without
learned weights: differences of features normalised over channels, squared, summed over channels, averaged
over positions, summed over layers. The features are the four maps (strides 4, 8, 16, 32) of
EfficientNet-Lite0 trained on ImageNet. The number compares the methods here; it is not the LPIPS of other
papers. Intervals are 95% intervals of the mean over faces. Prints a table and writes it to
bench/results/upscaling.md.
"""

import argparse
import io
import platform
import tarfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from setting import data_argument

from omokage.data.steps.upscale import Waifu2x, to_size
from omokage.hardware import processor
from omokage.models.efficientnet_lite import EfficientNetLite0

HERE = Path(__file__).resolve().parent
SIDE = 256


def faces(data: Path, n: int) -> Iterator[np.ndarray]:
    with tarfile.open(data / "faces-256.tar") as archive:
        members = sorted((m for m in archive if m.isfile()), key=lambda m: m.name)
        # Evenly spaced, so that the order of the names does not matter.
        for i in np.unique(np.linspace(0, len(members) - 1, min(n, len(members))).astype(int)):
            picture = Image.open(io.BytesIO(archive.extractfile(members[i]).read())).convert("RGB")
            if picture.size == (SIDE, SIDE):
                yield np.asarray(picture)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-9))


class Distance:
    """The perceptual distance to one picture."""

    def __init__(self) -> None:
        self._network = EfficientNetLite0.pretrained()

    def features(self, pixels: np.ndarray) -> list[torch.Tensor]:
        x = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return [f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in self._network(x)]

    @staticmethod
    def between(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
        return sum(float(((x - y) ** 2).sum(1).mean()) for x, y in zip(a, b, strict=True))


def spread(values: list[float], digits: int) -> str:
    mean, error = np.mean(values), 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data_argument(parser)
    parser.add_argument("--faces", type=int, default=400)
    parser.add_argument("--small", default="64,100")
    parser.add_argument("--methods", default="lanczos,anime,cunet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    methods = {name: None if name == "lanczos" else Waifu2x(0, name) for name in args.methods.split(",")}
    distance = Distance()
    lines = ["| from | method | PSNR, dB | perceptual distance | better than Lanczos | CPU a face |"]
    lines.append("|---|---|---|---|---|---|")
    count = 0
    results: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    for truth in faces(args.data, args.faces):
        count += 1
        wanted = distance.features(truth)
        for small in map(int, args.small.split(",")):
            shrunk = cv2.resize(truth, (small, small), interpolation=cv2.INTER_AREA)
            for name, enlarge in methods.items():
                started = time.process_time()
                back, _ = to_size(shrunk, (SIDE, SIDE), enlarge)
                seconds = time.process_time() - started
                far = distance.between(wanted, distance.features(back))
                results.setdefault((small, name), []).append((psnr(back, truth), far, seconds))
    for (small, name), measured in results.items():
        sharp, far, seconds = (list(column) for column in zip(*measured, strict=True))
        base = results.get((small, "lanczos"))
        better = "-"
        if base and name != "lanczos":
            share = [np.mean([m[i] * s > b[i] * s for m, b in zip(measured, base, strict=True)]) for i, s in
                     ((0, 1), (1, -1))]  # fmt: skip
            better = f"{share[0]:.0%} by PSNR, {share[1]:.0%} by distance"
        title = "Lanczos" if name == "lanczos" else f"waifu2x {name}, noise 0"
        cpu = f"{1000 * np.mean(seconds):.0f} ms"
        lines.append(f"| {small} | {title} | {spread(sharp, 2)} | {spread(far, 3)} | {better} | {cpu} |")
    about = (
        f"{date.today()}, {processor()}, one thread of a machine that was shared, Python "
        f"{platform.python_version()}: {count} faces of {SIDE} pixels, shrunk by area average to the side "
        "under “from” and brought back. Distance: squared differences of the normalised features of "
        "EfficientNet-Lite0 (ImageNet), four layers, no learned weights; smaller is better. ± is 95% of the "
        "mean."
    )
    text = "\n".join(["# Upscaling", "", about, "", *lines, ""])
    print(text)
    (HERE / "results" / "upscaling.md").write_text(text)


if __name__ == "__main__":
    main()
