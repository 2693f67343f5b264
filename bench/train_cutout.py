"""Train the network that cuts faces out of their background, which ships with the package.

    python bench/train_cutout.py --out cutout.safetensors

It sees drawn faces alone, whose masks are known, laid over backgrounds that are made up here. No picture by
a person is used. Training takes about half an hour on one core. The same seed gives the same training
pictures. The same command resumes from the last checkpoint (OUT with the suffix .checkpoint).
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from omokage.cutout import CutoutNetwork
from omokage.data.drawn import draw_figure
from omokage.data.drawn.backgrounds import paint_background, paint_clutter
from omokage.data.drawn.canvas import Canvas, smooth
from omokage.data.drawn.factors import BACKGROUNDS

FIRST_SEED = 20_000_000  # of the drawn faces; tests and figures use faces with smaller seeds
VIEW, ROOM = 224, 1.8  # the stored figures: side in pixels, and how wide the view is
SIDES = ((64, 32), (96, 16), (128, 8))  # sides of training pictures, with the number in a batch


def figures(number: int, store: Path) -> np.ndarray:
    """Drawn characters without background, uint8 (number, VIEW, VIEW, 4); kept in the file ``store``."""
    if store.exists():
        return np.load(store)
    drawn = np.stack([draw_figure(FIRST_SEED + i, VIEW, room=ROOM) for i in range(number)])
    np.save(store, drawn)
    return drawn


def scenes(number: int) -> list[np.ndarray]:
    """Backgrounds of drawn faces, uint8 (160, 160, 3), some with things in front."""
    found = []
    for i in range(number):
        canvas, rng = Canvas(160, 160), np.random.default_rng([FIRST_SEED, i])
        paint_background(canvas, rng, BACKGROUNDS[i % len(BACKGROUNDS)])
        if rng.random() < 0.5:
            paint_clutter(canvas, rng)
        found.append(canvas.finished())
    return found


def _colour(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.5:  # pale
        return 255 - rng.uniform(0, 60, 3) * rng.uniform(0, 1)
    if kind < 0.6:  # dark
        return rng.uniform(0, 70, 3)
    return rng.uniform(0, 255, 3)


def _cloud(rng: np.random.Generator, side: int, channels: int) -> np.ndarray:
    """Noise of many scales, like an unsharp photograph: float (side, side, channels) around 0."""
    found, size, weight = np.zeros((side, side, channels), np.float32), 2, 1.0
    fall = rng.uniform(0.45, 0.9)
    while size <= side:
        small = rng.standard_normal((size, size, channels)).astype(np.float32)
        large = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
        found += weight * large.reshape(side, side, channels)
        size, weight = size * 2, weight * fall
    return found


def background(rng: np.random.Generator, side: int, drawn: list[np.ndarray], hair: np.ndarray) -> np.ndarray:
    """A background, float (side, side, 3) in 0..255. ``hair``: a colour of the figure, for hard ones."""
    kind = rng.random()
    if kind < 0.27:  # white paper, sometimes with faint stains
        paper = np.full((side, side, 3), 255.0, np.float32)
        if rng.random() < 0.5:
            stain = _cloud(rng, side, 3).clip(0, None) * rng.uniform(0, 40)
            paper -= stain * (_cloud(rng, side, 1) > rng.uniform(-0.3, 1.2))
        return paper
    if kind < 0.37:
        return np.full((side, side, 3), _colour(rng), np.float32)
    if kind < 0.42:  # nearly the colour of the hair
        return np.full((side, side, 3), hair + rng.uniform(-40, 40, 3), np.float32)
    if kind < 0.52:
        turn = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:side, :side] / side - 0.5
        along = (x * np.cos(turn) + y * np.sin(turn))[..., None] + 0.5
        return (_colour(rng) * (1 - along) + _colour(rng) * along).astype(np.float32)
    if kind < 0.76:
        scene = drawn[int(rng.integers(len(drawn)))]
        size = int(rng.integers(60, 161))
        top, left = rng.integers(0, 161 - size, 2)
        return cv2.resize(
            scene[top : top + size, left : left + size], (side, side), interpolation=cv2.INTER_AREA
        ).astype(np.float32)
    if kind < 0.90:
        colour = _cloud(rng, side, 3) * rng.uniform(10, 50) * rng.uniform(0.2, 1)
        return _colour(rng) + colour + _cloud(rng, side, 1) * rng.uniform(5, 45)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    turn, wave = rng.uniform(0, np.pi), rng.uniform(8, 60)
    across = np.sin(wave * (x * np.cos(turn) + y * np.sin(turn)) + rng.uniform(0, 6))
    if rng.random() < 0.5:  # checks and dots
        across = across * np.sin(wave * (y * np.cos(turn) - x * np.sin(turn)))
    share = (across > rng.uniform(-0.6, 0.6)).astype(np.float32)[..., None]
    return _colour(rng) * share + _colour(rng) * (1 - share)


def _recoloured(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """The figure in other colours and with other shading: float (H, W, 3) in 0..1 -> the same."""
    side = colour.shape[0]
    if rng.random() < 0.35:  # flat areas, inner lines lost
        flat = (colour * 255).astype(np.uint8)
        colour = cv2.medianBlur(flat, int(rng.choice([3, 5]))).astype(np.float32) / 255
    if rng.random() < 0.5:  # strands
        fine = rng.standard_normal((side, side)).astype(np.float32)
        kernel = np.zeros((15, 15), np.float32)
        turn = rng.normal(np.pi / 2, 0.5)
        end = (round(7 + 7 * np.cos(turn)), round(7 + 7 * np.sin(turn)))
        cv2.line(kernel, (14 - end[0], 14 - end[1]), end, 1.0)
        strands = cv2.filter2D(fine, -1, kernel / kernel.sum())
        colour = colour * (1 + strands[..., None] * rng.uniform(0.1, 0.7))
    if rng.random() < 0.5:  # light falls off
        colour = colour * (1 + _cloud(rng, side, 1) * rng.uniform(0, 0.15))
    colour = colour.clip(0, 1) ** rng.uniform(0.55, 1.6)
    if rng.random() < 0.4:  # overexposed skin
        colour = colour * rng.uniform(1.0, 1.3)
    if rng.random() < 0.3:
        colour = colour * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    grey = colour.mean(2, keepdims=True)
    return (grey + (colour - grey) * rng.uniform(0.5, 1.5)).clip(0, 1).astype(np.float32)


def _fuller(
    rng: np.random.Generator, colour: np.ndarray, alpha: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The figure with more hair behind the neck and the shoulders, as most painted faces have it."""
    unit, middle = VIEW / ROOM / 3.2, VIEW / 2
    hair = colour[int(middle - rng.uniform(0.9, 1.25) * unit), int(middle + rng.uniform(-0.5, 0.5) * unit)]
    left, right = rng.uniform(0.75, 1.5, 2)
    down = rng.uniform(0.9, 3.0)
    shape = [(-left * 0.9, -0.6), (-left, 0.4), (-left * rng.uniform(0.6, 1.2), down), (0, down * 0.97),
             (right * rng.uniform(0.6, 1.2), down), (right, 0.4), (right * 0.9, -0.6)]  # fmt: skip
    behind = np.zeros(alpha.shape, np.float32)
    points = (np.array(smooth(shape, closed=True)) * unit + middle) * 16
    cv2.fillPoly(behind, [points.round().astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    dark = hair * rng.uniform(0.6, 1.0)
    mixed = colour * alpha[..., None] + dark * (1 - alpha[..., None])
    return np.where(behind[..., None] > 0, mixed, colour).astype(np.float32), np.maximum(alpha, behind)


def _bent(
    rng: np.random.Generator, colour: np.ndarray, alpha: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The figure bent, and its outline frayed into strands."""
    side = len(alpha)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = cv2.resize(rng.standard_normal((5, 5, 2)).astype(np.float32), (side, side), interpolation=2)
    bend = bend * rng.uniform(0, 6)
    if rng.random() < 0.6:
        fine = rng.standard_normal((side // 2, side // 2, 2)).astype(np.float32)
        fine = cv2.GaussianBlur(fine, (0, 0), 0.8, sigmaY=rng.uniform(0.8, 4))
        bend = bend + cv2.resize(fine / fine.std(), (side, side)) * rng.uniform(0, 3)
    at = (x + bend[..., 0], y + bend[..., 1])
    colour = cv2.remap(colour, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colour, cv2.remap(alpha, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def example(
    rng: np.random.Generator, side: int, drawn: np.ndarray, behind: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """One training picture, uint8 (side, side, 3), and its alpha, uint8 (side, side)."""
    figure = drawn[int(rng.integers(len(drawn)))].astype(np.float32) / 255
    alpha, colour = figure[..., 3], figure[..., :3]
    if rng.random() < 0.35:
        colour, alpha = _fuller(rng, colour, alpha)
    if rng.random() < 0.5:
        alpha = cv2.erode(alpha, np.ones((3, 3)))  # without its outline
    colour = _recoloured(rng, colour)
    if rng.random() < 0.6:
        colour, alpha = _bent(rng, colour, alpha)
    # A window as crops of faces are: from hair that reaches every border to shoulders.
    unit = VIEW / ROOM / 3.2
    span = unit * rng.uniform(2.2, 4.2)
    turn, flip = np.deg2rad(rng.normal(0, 9)), rng.choice([-1.0, 1.0])
    middle = VIEW / 2 + rng.uniform(-0.35, 0.35, 2) * unit * (1, 1)
    cosine, sine = np.cos(turn), np.sin(turn)
    scale = span / side * np.array([[cosine * flip, -sine], [sine * flip, cosine]])
    matrix = np.concatenate([scale, (middle - scale @ [side / 2, side / 2])[:, None]], 1)
    premultiplied = np.concatenate([colour * alpha[..., None], alpha[..., None]], 2)
    if span > side * 1.5:  # so that the reduction does not leave steps
        premultiplied = cv2.GaussianBlur(premultiplied, (0, 0), 0.35 * span / side)
    warped = cv2.warpAffine(
        premultiplied, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    colour, alpha = warped[..., :3] * 255, warped[..., 3].clip(0, 1)
    upper = colour[: side // 3][alpha[: side // 3] > 0.9]
    hair = upper[int(rng.integers(len(upper)))] if len(upper) else np.full(3, 128.0)
    back = background(rng, side, behind, hair)
    if rng.random() < 0.35:
        back = cv2.GaussianBlur(back.astype(np.float32), (0, 0), rng.uniform(0.5, 4))
    if rng.random() < 0.12:  # a glow or a shadow around the figure
        halo = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(1, 6))[..., None]
        back = back * (1 - halo) + halo * (255 if rng.random() < 0.7 else 40)
    picture = colour + back.clip(0, 255) * (1 - alpha[..., None])
    return _worn(rng, picture, side), (alpha * 255).round().astype(np.uint8)


def _worn(rng: np.random.Generator, picture: np.ndarray, side: int) -> np.ndarray:
    """The picture as networks and cameras give it: unsharp, oversharp, noisy, JPEG, brighter."""
    picture = np.ascontiguousarray(picture, np.float32)
    if rng.random() < 0.5:
        small = int(side * rng.uniform(0.35, 1))
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (side, side), interpolation=int(rng.choice([1, 2, 4])))
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.1))
    if rng.random() < 0.4:
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.5))
        picture = picture + (picture - soft) * rng.uniform(0.3, 1.8)
    if rng.random() < 0.4:
        picture = picture + rng.standard_normal(picture.shape) * rng.uniform(1, 9)
    if rng.random() < 0.15:  # the chequered pattern of upsampling networks
        y, x = np.mgrid[:side, :side]
        picture = picture + (((x + y) % 2) * 2 - 1)[..., None] * rng.uniform(1, 6)
    if rng.random() < 0.4:
        picture = (picture - 128) * rng.uniform(0.8, 1.35) + 128 + rng.uniform(-12, 25)
    picture = picture.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
    return picture


def batch(seed: int, step: int, drawn: np.ndarray, behind: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, step])
    side, number = SIDES[int(rng.choice(3, p=[0.35, 0.2, 0.45]))]
    pairs = [example(rng, side, drawn, behind) for _ in range(number)]
    return np.stack([picture for picture, _ in pairs]), np.stack([alpha for _, alpha in pairs])


def loss(out: torch.Tensor, alpha: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cross entropy and L1 on alpha with more weight near edges, overlap (soft Dice), and of the doubt."""
    near = F.max_pool2d(alpha, 5, 1, 2) + F.max_pool2d(-alpha, 5, 1, 2)  # 1 near an edge, else 0
    weight = 1 + 2 * near
    found = out[:, :1].sigmoid()
    entropy = F.binary_cross_entropy_with_logits(out[:, :1], alpha, weight)
    level = ((found - alpha).abs() * weight).mean()
    both = (found * alpha).sum((1, 2, 3))
    dice = 1 - (2 * both + 1) / (found.sum((1, 2, 3)) + alpha.sum((1, 2, 3)) + 1)
    wrong = ((found.detach() - alpha).abs() > 0.3).float()
    doubt = F.binary_cross_entropy_with_logits(out[:, 1:], wrong)
    return entropy + level + 0.5 * dice.mean(), doubt, level.detach()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--figures", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    started = time.process_time()
    drawn, behind = figures(args.figures, args.out.with_suffix(".figures.npy")), scenes(210)
    print(f"{len(drawn)} figures, {time.process_time() - started:.0f} s", flush=True)

    network = CutoutNetwork().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoint, first, spent = args.out.with_suffix(".checkpoint"), 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, first, spent = state["average"], state["step"], state["seconds"]
    started = time.process_time() - spent
    sums = np.zeros(3)
    for step in range(first, args.steps):
        pictures, alpha = (torch.from_numpy(part).float() for part in batch(args.seed, step, drawn, behind))
        x = (pictures.permute(0, 3, 1, 2) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        rate = 3e-3 * min(1, (step + 1) / 100, (args.steps - step) / (0.4 * args.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        cut, doubt, level = loss(out, alpha[:, None] / 255)
        optimiser.zero_grad(set_to_none=True)
        (cut + 0.3 * doubt).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        keep = min(0.99, (step + 1) / (step + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - keep)
        sums += cut.item(), doubt.item(), level.item()
        if (step + 1) % 50 == 0 or step + 1 == args.steps:
            seconds = time.process_time() - started
            done = (step + 1) % 50 or 50
            print(f"step {step + 1} loss {sums[0] / done:.3f} doubt {sums[1] / done:.3f} "
                  f"level {sums[2] / done:.4f} {seconds:.0f} s", flush=True)  # fmt: skip
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
            about = {"steps": step + 1, "figures": len(drawn), "seed": args.seed}
            save_file(weights, args.out, {"omokage": "cutout 1", "training": json.dumps(about)})


if __name__ == "__main__":
    main()
