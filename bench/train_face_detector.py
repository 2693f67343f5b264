"""Train the face detector that ships with the package.

    python bench/train_face_detector.py --data DATA --out face-detector.safetensors

DATA holds the three archives of faces and the cascade (see face_scenes.py). The whole illustrations that
detectors are measured on are not used. Training takes about 25 minutes on one core. The same seed gives the
same training pictures. The same command resumes from the last checkpoint (OUT with the suffix .checkpoint).
"""

import argparse
import json
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from face_scenes import SIDE, Scenes, contact_sheet, load_crops
from safetensors.torch import save_file

from omokage.data.steps.detector_network import STRIDE, UNIT, DetectorNetwork

CELLS = SIDE // STRIDE


def targets(faces: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Target centre map (CELLS, CELLS), and (8, CELLS, CELLS): weight, the other outputs, and one unused."""
    centre = np.zeros((CELLS, CELLS), np.float32)
    rest = np.zeros((7, CELLS, CELLS), np.float32)
    y, x = np.mgrid[:CELLS, :CELLS].astype(np.float32)
    for cx, cy, w, h, turn in faces:
        px, py = cx / STRIDE - 0.5, cy / STRIDE - 0.5
        spread = max(0.6, 0.09 * math.sqrt(w * h) / STRIDE)
        bump = np.exp(-((x - round(px)) ** 2 + (y - round(py)) ** 2) / (2 * spread**2))
        near = bump > np.maximum(centre, 0.3)
        centre = np.maximum(centre, bump)
        rest[0][near] = bump[near]
        values = (px - x, py - y, math.log(w / UNIT), math.log(h / UNIT), math.sin(turn), math.cos(turn))
        for channel, value in enumerate(values, 1):
            rest[channel][near] = value[near] if isinstance(value, np.ndarray) else value
    return centre, rest


def loss(out: torch.Tensor, centre: torch.Tensor, rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal loss on the centres as in the paper, L1 loss on the rest near centres; both per face."""
    score = out[:, 0].float()
    log_p, log_not = torch.nn.functional.logsigmoid(score), torch.nn.functional.logsigmoid(-score)
    p = score.sigmoid()
    peak = centre > 0.999
    focal = torch.where(peak, (1 - p) ** 2 * log_p, (1 - centre) ** 4 * p**2 * log_not)
    n = peak.sum().clamp(min=1)
    weight = rest[:, :1]
    differences = (out[:, 1:].float() - rest[:, 1:]).abs() * weight
    return -focal.sum() / n, differences.sum() / weight.sum().clamp(min=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--crops", type=int, default=3000, help="of each set")
    parser.add_argument("--drawn", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    started = time.process_time()
    cascade = cv2.CascadeClassifier(str(args.data / "lbpcascade_animeface.xml"))
    # The first 200 faces of every set, in the fixed order, are left out, as unseen faces for tests.
    scenes = Scenes(load_crops(args.data, cascade, args.crops, skip=200), args.drawn, 10**6 + args.seed)
    args.out.with_suffix(".png").write_bytes(contact_sheet(scenes, 1))
    print(f"{len(scenes.crops)} crops, {time.process_time() - started:.0f} s", flush=True)

    network = DetectorNetwork().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoint, first, spent = args.out.with_suffix(".checkpoint"), 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, first, spent = state["average"], state["step"], state["seconds"]
    started = time.process_time() - spent
    sums = np.zeros(2)
    for step in range(first, args.steps):
        rng = np.random.default_rng([args.seed, step])
        windows = [scenes.window(rng) for _ in range(args.batch)]
        images = torch.from_numpy(np.stack([image for image, _ in windows])).permute(0, 3, 1, 2)
        wanted = [targets(faces) for _, faces in windows]
        centre, rest = (torch.from_numpy(np.stack([w[i] for w in wanted])) for i in (0, 1))
        # Constant, then falling to zero over the last third, so the end can be chosen late.
        rate = 2e-3 * min(1, (step + 1) / 100, (args.steps - step) / (0.35 * args.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            out = network((images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last))
        centres, others = loss(out, centre, rest)
        optimiser.zero_grad(set_to_none=True)
        (centres + others).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        keep = min(0.995, (step + 1) / (step + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - keep)
        sums += centres.item(), others.item()
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            seconds = time.process_time() - started
            done = (step + 1) % 100 or 100
            print(
                f"step {step + 1} centres {sums[0] / done:.3f} rest {sums[1] / done:.3f} {seconds:.0f} s",
                flush=True,
            )
            sums[:] = 0
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
            part = checkpoint.with_suffix(".part")
            torch.save({**state, "step": step + 1, "seconds": seconds}, part)
            part.replace(checkpoint)
            weights = {
                name: value.half().contiguous()
                for name, value in average.items()
                if value.is_floating_point()
            }
            about = {"steps": step + 1, "batch": args.batch, "crops": len(scenes.crops), "seed": args.seed}
            save_file(weights, args.out, {"omokage": "face detector 1", "training": json.dumps(about)})


if __name__ == "__main__":
    main()
