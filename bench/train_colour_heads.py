"""Train the classifiers of hair and eye colour on features of the tag encoder (`omokage.data.steps.colours`).

    python bench/train_colour_heads.py --data ../shared/data --out src/omokage/assets/colour-heads.safetensors

The encoder is not changed. Two multinomial regressions on its features are fitted to the tags of
`tagged-faces-96`, on the faces that the encoder was trained on. Each face is used whole and in ``--views``
crops that vary like a detector's boxes. The held-out faces are those of `train_tag_encoder.py`. They are
tested whole, and as in a build: found by the detector and cropped to its box. Drawn faces, which have known
colours and were not used for training, are tested too. All results go into the file's metadata.
"""

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from train_tag_encoder import EYES, HAIR, HELD_OUT, multi_hot, read_tagged, tag_loss

from omokage.data.drawn import draw_face
from omokage.data.steps.colours import DOWN, ENLARGED, ColourNames, around
from omokage.data.steps.crop import cut
from omokage.data.steps.detect import open_detector
from omokage.data.steps.face import Face
from omokage.tag_encoder import SIDE, WEIGHTS_SHA256, network_input, tag_encoder

DECAY = 1e-3
DRAWN = 600


def views(faces: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Each face whole, then in ``count`` crops that vary like a detector's boxes; uint8, 64 pixels."""
    out = []
    for face in faces:
        height = len(face)
        out.append(face)
        for _ in range(count):
            side = height / ENLARGED * draw.uniform(0.86, 1.14)
            x, y = np.array([0.5, DOWN]) * height + draw.normal(0, 0.04, 2) * side
            out.append(cut(face, around(Face(x - side / 2, y - side / 2, side, side, 1.0))))
    return np.stack([cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for view in out])


@torch.inference_mode()
def features(pictures: np.ndarray) -> Tensor:
    encoder = tag_encoder()
    parts = []
    for i in range(0, len(pictures), 64):
        parts.append(encoder(network_input(pictures[i : i + 64])))
        if i % 6400 == 0:
            print(f"{i:,} of {len(pictures):,}", flush=True)
    return torch.cat(parts)


def fit(x: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of a multinomial regression, by L-BFGS; faces without a tag do not count."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    weight = torch.zeros(tags.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(tags.shape[1], dtype=torch.float64, requires_grad=True)
    scaled = ((x - mean) / spread).double()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (
            tag_loss(scaled @ weight.T + bias, tags.double(), smoothing=0.0) + DECAY * weight.square().sum()
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    weight, bias = weight.detach(), bias.detach()
    return (weight / spread).float(), (bias - (weight / spread) @ mean.double()).float()


def agreement(names: list[tuple[str, str]], hair: np.ndarray, eyes: np.ndarray) -> dict[str, float | int]:
    """The share of tagged faces whose estimated colour is among their tags."""
    out: dict[str, float | int] = {"faces": len(names)}
    for at, (what, known, tags) in enumerate((("hair", HAIR, hair), ("eyes", EYES, eyes))):
        hits = [
            one[at] in np.array(known)[tag > 0] for one, tag in zip(names, tags, strict=True) if tag.any()
        ]
        out[what] = round(float(np.mean(hits)), 4)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tagged-faces-96.tar and .csv")
    parser.add_argument("--out", type=Path, required=True, help="the weight file to write")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)

    faces, hair, eyes = read_tagged(args.data)
    held, used = np.split(
        np.random.default_rng(args.seed).permutation(len(faces)), [int(HELD_OUT * len(faces))]
    )
    x = features(views(faces[used], args.views, np.random.default_rng(args.seed)))
    weights = {}
    for name, tags in (("hair", hair), ("eyes", eyes)):
        fitted = fit(x, torch.from_numpy(tags[used]).repeat_interleave(args.views + 1, 0))
        weights[f"{name}.weight"], weights[f"{name}.bias"] = fitted

    colours = ColourNames(weights)
    detector = open_detector("network")
    judged = {"whole": agreement([colours(face, None) for face in faces[held]], hair[held], eyes[held])}
    # With a border, so that there is something around the crop, as in an illustration.
    framed = {i: cv2.copyMakeBorder(faces[i], *[24] * 4, cv2.BORDER_REFLECT_101) for i in held.tolist()}
    boxes = {i: found[0] for i, picture in framed.items() if (found := detector(picture))}
    judged["found by the detector"] = agreement(
        [colours(framed[i], box) for i, box in boxes.items()], hair[list(boxes)], eyes[list(boxes)]
    )
    drawn = [draw_face(10_000 + seed, 96) for seed in range(DRAWN)]
    judged["drawn"] = agreement(
        [colours(np.asarray(one.image), None) for one in drawn],
        np.stack([multi_hot(one.factors["hair"], HAIR) for one in drawn]),
        np.stack([multi_hot(one.factors["eyes"], EYES) for one in drawn]),
    )
    training = {
        "what": "names of hair and eye colours on features of the tag encoder, omokage.data.steps.colours",
        "data": f"tagged-faces-96: {len(used)} faces used, {len(held)} held out",
        "encoder": WEIGHTS_SHA256,
        "seed": args.seed,
        "command": f"python bench/train_colour_heads.py --views {args.views} --seed {args.seed}",
        "torch": torch.__version__,
        "agreement": judged,
    }
    data = safetensors.torch.save(weights, {"training": json.dumps(training)})
    temporary = args.out.with_name(args.out.name + ".part")
    temporary.write_bytes(data)
    os.replace(temporary, args.out)
    print(json.dumps(judged, indent=1))


if __name__ == "__main__":
    main()
