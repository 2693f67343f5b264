"""Does a feature distance rise when faces are damaged? Writes a table for the tag encoder.

    OMP_NUM_THREADS=1 python bench/judge_tag_encoder.py --data ../shared/data

One half of the real faces in `getchu-faces-64.tar` is the reference. The other half is damaged more and more.
The Fréchet distance between the two should rise at every step, starting from that of the undamaged halves.
"""

import argparse
import datetime
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F
from train_tag_encoder import HAIR, read_tagged

from omokage.hardware import processor
from omokage.metrics.features import features_of, load_extractor
from omokage.metrics.fid import fid, statistics
from omokage.tag_encoder import WEIGHTS

RESULT = Path(__file__).parent / "results" / "tag_encoder.md"
Damage = Callable[[np.ndarray, float], np.ndarray]


def each(change: Callable[[Image.Image, float], Image.Image]) -> Damage:
    """Apply ``change`` to every image."""
    return lambda images, amount: np.stack(
        [np.asarray(change(Image.fromarray(image), amount)) for image in images]
    )


def jpeg(image: Image.Image, quality: float) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=int(quality))
    return Image.open(buffer).convert("RGB")


def zoom(image: Image.Image, share: float) -> Image.Image:
    """The middle of the image, ``share`` of its sides, enlarged."""
    edge = (1 - share) / 2 * image.width
    box = (edge, edge, image.width - edge, image.height - edge)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def shift(images: np.ndarray, pixels: float) -> np.ndarray:
    """Moved right and down, the edge repeated."""
    p = int(pixels)
    return np.pad(images, ((0, 0), (p, 0), (p, 0), (0, 0)), mode="edge")[:, :64, :64]


def turn_hue(image: Image.Image, degrees: float) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += np.uint8(round(degrees / 360 * 256) % 256)
    return Image.fromarray(hsv, "HSV").convert("RGB")


def noise(images: np.ndarray, sigma: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (images + rng.normal(0, sigma, images.shape)).round().clip(0, 255).astype(np.uint8)


def moved(images: np.ndarray, displacement: torch.Tensor) -> np.ndarray:
    """Images sampled at positions shifted by ``displacement`` (N or 1, 64, 64, 2), in pixels."""
    axis = (torch.arange(64) + 0.5) / 32 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x, y], dim=2) + displacement / 32
    source = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    grid = grid.expand(len(images), -1, -1, -1)
    out = F.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return out.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def swirl(images: np.ndarray, degrees: float) -> np.ndarray:
    """Images rotated by ``degrees`` in the centre, and less towards the edge."""
    axis = torch.arange(64) - 31.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = np.deg2rad(degrees) * torch.exp(-(x**2 + y**2) / (2 * 14**2))
    turned = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=2)
    return moved(images, turned - torch.stack([x, y], dim=2))


def elastic(images: np.ndarray, pixels: float) -> np.ndarray:
    """Random smooth distortion: standard deviation ``pixels``, correlated over about ten pixels."""
    coarse = torch.randn(len(images), 2, 7, 7, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=(64, 64), mode="bicubic")
    return moved(images, (smooth / smooth.std() * pixels).permute(0, 2, 3, 1))


def swap_quarter(images: np.ndarray, share: float) -> np.ndarray:
    """In ``share`` of the faces one quarter (around an eye or a mouth corner) is another face's."""
    out = images.copy()
    for i in range(int(share * len(images))):
        top, left = (i // 2 % 2) * 24 + 8, (i % 2) * 24 + 8
        out[i, top : top + 24, left : left + 24] = images[i - 1, top : top + 24, left : left + 24]
    return out


def collapse(images: np.ndarray, kept: float) -> np.ndarray:
    """Only ``kept`` different faces, repeated."""
    return np.resize(images[: int(kept)], images.shape)


DAMAGES: list[tuple[str, Damage, list[float]]] = [
    ("Gaussian blur, radius in px", each(lambda i, r: i.filter(ImageFilter.GaussianBlur(r))), [0.5, 1, 2, 4]),
    ("Gaussian noise, sigma of 255", noise, [4, 8, 16, 32]),
    ("JPEG again, quality", each(jpeg), [75, 50, 25, 10]),
    ("hue turned, degrees", each(turn_hue), [15, 30, 60, 120]),
    ("less colour, share left", lambda i, s: (i * s + i.mean(3, keepdims=True) * (1 - s)).astype("u1"),
     [0.8, 0.6, 0.3, 0]),
    ("centre zoomed in, share shown", each(zoom), [0.94, 0.88, 0.76, 0.6]),
    ("shift right and down, px", shift, [2, 4, 8, 16]),
    ("swirl, degrees in the centre", swirl, [10, 20, 40, 80]),
    ("elastic bending, px", elastic, [0.5, 1, 2, 4]),
    ("24x24 px of another face, share of faces", swap_quarter, [0.1, 0.25, 0.5, 1]),
    ("mode collapse, different faces left", collapse, [1000, 300, 100, 30]),
]  # fmt: skip


def read_faces(data: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces uint8 (count, 64, 64, 3) and their years, drawn with seed 0."""
    faces, years = [], []
    with tarfile.open(data / "getchu-faces-64.tar") as tar:
        members = [m for m in tar if m.isfile()]
        for i in np.random.default_rng(0).permutation(len(members))[:count]:
            image = Image.open(tar.extractfile(members[i])).convert("RGB")
            faces.append(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)))
            years.append(int(Path(members[i].name).stem.split("_")[1]))
    return np.stack(faces), np.array(years)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--extractor", default="tags")
    parser.add_argument("--count", type=int, default=4000, help="faces a side")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    began = time.monotonic()
    extractor = load_extractor(args.extractor)

    def features(images: np.ndarray) -> np.ndarray:
        return features_of(extractor, images)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return fid(*statistics(a), *statistics(b))

    faces, years = read_faces(args.data, 2 * args.count)
    reference, others = faces[: args.count], faces[args.count :]
    mine, theirs = features(reference), features(others)
    floor = distance(mine, theirs)
    rows = []

    def row(name: str, amounts: list[float] | list[str], found: list[float], start: float) -> None:
        rises = all(a < b for a, b in zip([start, *found], found, strict=False))
        cells = " | ".join(f"{a}: {d:.3f}" for a, d in zip(amounts, found, strict=True))
        rows.append(f"| {name} | {start:.3f} | {cells} | {'yes' if rises else '**no**'} |")
        print(rows[-1], flush=True)

    for name, damage, amounts in DAMAGES:
        row(name, amounts, [distance(mine, features(damage(others, a))) for a in amounts], floor)

    # Missing modes: years of publication, and hair colours by people's tags (not by the encoder's estimates).
    newest = [y for y in range(2009, 1999, -1) if (years == y).any()]
    dropped = [1, 2, 3, 4]
    of_others = years[args.count :]
    row(
        "newest years missing, how many",
        dropped,
        [distance(mine, theirs[~np.isin(of_others, newest[:n])]) for n in dropped],
        floor,
    )
    tagged, hair, _ = read_tagged(args.data)
    vectors = features(tagged)
    halves = np.random.default_rng(0).permutation(len(tagged)) % 2 == 0
    colours = [HAIR.index(c) for c in ("blonde", "brown", "black", "blue", "pink", "purple")]
    row(
        "hair colours missing (tagged faces), how many",
        [1, 2, 4, 6],
        [distance(vectors[halves], vectors[~halves & ~(hair[:, colours[:n]].any(1))]) for n in (1, 2, 4, 6)],
        distance(vectors[halves], vectors[~halves]),
    )

    text = [
        f"# The feature space `{args.extractor}`: which damage raises its Fréchet distance?",
        "",
        f"{datetime.date.today()}, {torch.get_num_threads()} thread(s) of {processor()}, torch "
        f"{torch.__version__}, {time.monotonic() - began:.0f} s:",
        "",
        f"    OMP_NUM_THREADS=1 python bench/judge_tag_encoder.py --data ../shared/data --count {args.count}",
        "",
    ]
    if args.extractor == "tags":
        text += about_encoder()
    text += [
        f"{args.count} real faces of `getchu-faces-64.tar` (never seen in the encoder's training) are "
        "compared with as many other faces that were damaged. Two undamaged halves have a distance of "
        f"**{floor:.3f}**. Weights SHA-256 "
        f"`{extractor.file_hash[:16]}…`, {extractor.dimensions} features, resize rule "
        f"`{extractor.resize_rule}`.",
        "",
        "| damage | none | weakest | | | strongest | rises at every step |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    args.out.write_text("\n".join(text))
    print(args.out)


def about_encoder() -> list[str]:
    """Facts about the encoder's training, from the weight file."""
    import omokage

    file = Path(omokage.__file__).parent / "assets" / WEIGHTS
    with safetensors.safe_open(file, "pt") as weights:
        metadata = json.loads(weights.metadata()["training"])
    held = metadata["held_out"]
    lines = [
        f"Trained from scratch: {metadata['data']}; seed {metadata['seed']}; `{metadata['command']}`; torch "
        f"{metadata['torch']}.",
        "",
        "| held-out faces | accuracy | always the most common tag | mean average precision | faces |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {part} | {h['accuracy']:.3f} | {h['commonest']:.3f} | {h['mean_average_precision']:.3f} | "
        f"{h['faces']} |"
        for part, h in held.items()
    ]
    return [*lines, ""]


if __name__ == "__main__":
    main()
