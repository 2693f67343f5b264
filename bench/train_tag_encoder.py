"""Train the tag encoder of `omokage.tag_encoder` from scratch.

    OMP_NUM_THREADS=1 python bench/train_tag_encoder.py --data ../shared/data --out tag-encoder.safetensors

It reads `tagged-faces-96.tar` and `.csv` from the data folder and writes half-precision weights. The metadata
of the file describes the training, as JSON under `training`. The same seed on the same kind of processor
gives the same bytes. To ship the file, copy it to `src/omokage/assets/`, and its printed SHA-256 to
`WEIGHTS_SHA256`.

Three losses share one pass over two views of each face:
 * hair and eye colour: cross-entropy with label smoothing, because people's tags have errors;
 * which of the 8x8 cells were pasted over, from another face or from this face upside down (after Li et al.
   2021, "CutPaste"): colours do not show this, so the features must learn the structure of faces;
 * which two views show one face: InfoNCE (Chen et al. 2020, "SimCLR") without colour jitter, so the features
   must distinguish faces of the same colours.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from omokage.data.steps.colours import EYE_COLOURS, HAIR_COLOURS
from omokage.tag_encoder import SIDE, TagEncoder, network_input

HAIR, EYES = list(HAIR_COLOURS), list(EYE_COLOURS)
HELD_OUT = 0.1
CHUNKS = 8  # views in a chunk have one crop size, so that one antialiased resize is enough for all


def multi_hot(text: str, names: list[str]) -> np.ndarray:
    """The tags in one cell of the table; all zeros if the cell is empty."""
    tags = text.split("|") if text else []
    return np.array([name in tags for name in names], np.float32)


def read_tagged(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces uint8 (N, 96, 96, 3), hair (N, 12) and eyes (N, 11), in the order of the table."""
    with tarfile.open(data / "tagged-faces-96.tar") as tar:
        bytes_of = {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}
    with open(data / "tagged-faces-96.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    faces = np.stack([np.asarray(Image.open(io.BytesIO(bytes_of[r["file"]])).convert("RGB")) for r in rows])
    hair = np.stack([multi_hot(r["hair"], HAIR) for r in rows])
    eyes = np.stack([multi_hot(r["eyes"], EYES) for r in rows])
    return faces, hair, eyes


def views(faces: Tensor, rng: torch.Generator) -> Tensor:
    """One random view of each face: crop of 70 to 100 percent, flip, slight light and contrast; in [-1, 1].

    Colours are not changed, because the tags are about colours.
    """
    side = faces.shape[2]
    parts = []
    for chunk in faces.chunk(CHUNKS):
        size = torch.randint(int(0.7 * side), side + 1, (2,), generator=rng)
        h, w = int(size[0]), int(size[1].clamp(size[0] * 9 // 10, size[0] * 10 // 9).clamp(max=side))
        tops = torch.randint(side - h + 1, (len(chunk),), generator=rng).tolist()
        lefts = torch.randint(side - w + 1, (len(chunk),), generator=rng).tolist()
        crops = torch.stack(
            [f[:, t : t + h, x : x + w] for f, t, x in zip(chunk, tops, lefts, strict=True)]
        ).float()
        parts.append(F.interpolate(crops, size=(SIDE, SIDE), mode="bilinear", antialias=True))
    x = torch.cat(parts) / 127.5 - 1
    flip = torch.rand(len(x), 1, 1, 1, generator=rng) < 0.5
    x = torch.where(flip, x.flip(3), x)
    contrast = 1 + 0.2 * (torch.rand(len(x), 1, 1, 1, generator=rng) - 0.5)
    light = 0.2 * (torch.rand(len(x), 1, 1, 1, generator=rng) - 0.5)
    return (x * contrast + light).clamp(-1, 1)


def paste(x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another picture into half of the faces; also returns its mask (B, 1, 64, 64)."""
    n = len(x)
    size = torch.randint(12, 33, (2, n, 1), generator=rng)
    start = (torch.rand(2, n, 1, generator=rng) * (SIDE + 1 - size)).long()
    along = torch.arange(SIDE)[None, None]
    inside = (along >= start) & (along < start + size)
    chosen = torch.rand(n, 1, 1, generator=rng) < 0.5
    mask = ((inside[0][:, :, None] & inside[1][:, None, :]) & chosen)[:, None]
    own = torch.rand(n, 1, 1, 1, generator=rng) < 0.5
    donor = torch.where(own, x.flip(2), x.roll(1, 0))
    return torch.where(mask, donor, x), mask.float()


class Heads(nn.Module):
    """The heads that train the features; they are not kept afterwards."""

    def __init__(self, encoder: TagEncoder) -> None:
        super().__init__()
        d = encoder.dimensions
        self.hair, self.eyes = nn.Linear(d, len(HAIR)), nn.Linear(d, len(EYES))
        self.pasted = nn.Conv2d(encoder.at4.conv.out_channels + encoder.at8[0].conv.out_channels, 1, 1)
        self.project = nn.Sequential(nn.Linear(d, 256), nn.ReLU(), nn.Linear(256, 64))


def tag_loss(logits: Tensor, tags: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy against a face's tags with equal weights; faces without a tag do not count."""
    known = tags.sum(1) > 0
    target = tags[known] / tags[known].sum(1, keepdim=True)
    target = (1 - smoothing) * target + smoothing / tags.shape[1]
    return -(target * logits[known].log_softmax(1)).sum(1).mean()


def contrast_loss(z: Tensor, temperature: float = 0.2) -> Tensor:
    """InfoNCE of (2B, D): row i and row i + B are two views of one face."""
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z) // 2))


def train(faces: np.ndarray, hair: np.ndarray, eyes: np.ndarray, *, epochs: int, batch: int, seed: int):
    """The trained encoder and heads."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    encoder = TagEncoder().to(memory_format=torch.channels_last)
    heads = Heads(encoder)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05, fused=True)
    steps = epochs * (len(faces) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps, pct_start=0.15)
    pixels = torch.from_numpy(faces).permute(0, 3, 1, 2).contiguous()
    hair_tags, eye_tags = torch.from_numpy(hair), torch.from_numpy(eyes)
    for epoch in range(epochs):
        sums = torch.zeros(3)
        began = time.monotonic()
        order = torch.randperm(len(faces), generator=rng)
        for chosen in order[: len(faces) // batch * batch].split(batch):
            x = torch.cat([views(pixels[chosen], rng), views(pixels[chosen], rng)])
            x, mask = paste(x, rng)
            with torch.autocast("cpu", torch.bfloat16):
                at16, at8, at4 = encoder.maps(x.contiguous(memory_format=torch.channels_last))
                features = torch.cat([m.mean(dim=(2, 3)) for m in (at16, at8, at4)], dim=1)
                both = torch.cat([at8, F.interpolate(at4, scale_factor=2.0)], dim=1)
                pasted = heads.pasted(both).float()
                logits = heads.hair(features).float(), heads.eyes(features).float()
                z = heads.project(features).float()
            tags = tag_loss(logits[0], hair_tags[chosen].repeat(2, 1)) + tag_loss(
                logits[1], eye_tags[chosen].repeat(2, 1)
            )
            structure = F.binary_cross_entropy_with_logits(pasted, F.avg_pool2d(mask, 8))
            contrast = contrast_loss(z)
            optimiser.zero_grad()
            (tags + 3 * structure + 0.5 * contrast).backward()
            optimiser.step()
            schedule.step()
            sums += torch.stack([tags, structure, contrast]).detach()
        means = (sums / (len(faces) // batch)).tolist()
        rate = 2 * len(faces) / (time.monotonic() - began)
        print(
            f"epoch {epoch + 1}/{epochs}  tags {means[0]:.3f}  pasted {means[1]:.3f}  "
            f"views {means[2]:.3f}  {rate:.0f} views/s",
            flush=True,
        )
    return encoder.eval(), heads.eval()


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the precision-recall curve, as a sum over the hits."""
    hits = truth[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


@torch.inference_mode()
def judge_tags(encoder: TagEncoder, head: nn.Linear, faces: np.ndarray, tags: np.ndarray) -> dict[str, float]:
    """Accuracy on faces with one tag, the share of the most frequent tag, and mean average precision."""
    parts = [faces[i : i + 256] for i in range(0, len(faces), 256)]
    logits = torch.cat([head(encoder(network_input(p))) for p in parts]).numpy()
    single = tags.sum(1) == 1
    known = tags.sum(1) > 0
    present = [i for i in range(tags.shape[1]) if tags[known, i].any()]
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    return {
        "accuracy": round(float((logits.argmax(1) == tags.argmax(1))[single].mean()), 4),
        "commonest": round(float(tags[single].mean(0).max()), 4),
        "mean_average_precision": round(
            float(np.mean([average_precision(probabilities[known, i], tags[known, i]) for i in present])), 4
        ),
        "faces": int(single.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tagged-faces-96.tar and .csv")
    parser.add_argument("--out", type=Path, required=True, help="the weight file to write")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=128, help="faces a step; each gives two views")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use only so many faces, to try the script")
    args = parser.parse_args()
    torch.use_deterministic_algorithms(True)

    began = time.monotonic()
    faces, hair, eyes = (a[: args.limit] for a in read_tagged(args.data))
    order = np.random.default_rng(args.seed).permutation(len(faces))
    held, used = np.split(order, [int(HELD_OUT * len(faces))])
    print(f"{len(used)} faces to train on, {len(held)} held out, read in {time.monotonic() - began:.0f} s")
    encoder, heads = train(
        faces[used], hair[used], eyes[used], epochs=args.epochs, batch=args.batch, seed=args.seed
    )

    weights = {
        k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in encoder.state_dict().items()
    }
    encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    judged = {
        "hair": judge_tags(encoder, heads.hair, faces[held], hair[held]),
        "eyes": judge_tags(encoder, heads.eyes, faces[held], eyes[held]),
    }
    metadata = {
        "what": "anime face encoder for feature distances, omokage.tag_encoder",
        "data": f"tagged-faces-96: {len(used)} faces used, {len(held)} held out; never getchu-faces-64",
        "seed": args.seed,
        "command": f"OMP_NUM_THREADS=1 python bench/train_tag_encoder.py --epochs {args.epochs} "
        f"--batch {args.batch} --seed {args.seed}",
        "torch": torch.__version__,
        "held_out": judged,
    }
    temporary = args.out.with_name(args.out.name + ".part")
    # One entry only: the order of several would change between runs, and with it the hash.
    data = safetensors.torch.save(weights, {"training": json.dumps(metadata)})
    temporary.write_bytes(data)
    os.replace(temporary, args.out)
    print(json.dumps(judged, indent=1))
    print(f"{args.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
