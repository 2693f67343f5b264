"""How well and how fast does inversion find faces? Writes a table.

    OMP_NUM_THREADS=1 python bench/inversion.py runs/style --faces heldout/ --drawn 20

Two kinds of pictures are inverted. Faces of a face set that the model has not seen: how far is the face
found from the picture, in features that the search did not use, and how far is the best of 1,000 samples?
The best sample is chosen with these very features, so it has an advantage. And faces drawn by program, in
another style than the model's: do hair and eyes keep their colours? The attribute network names the colours
of both sides. It is not always right, so eyes are told by their pixels too. Each drawn face is drawn again
with eyes of every colour. The mean colour of the irises of the face found is nearest, in CIELAB, to that of
one of these. ``--sheet`` writes pictures and faces found, enlarged, to look at. Both kinds are cut out as
`omokage invert` does it.
"""

import argparse
import datetime
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from omokage.attributes import attribute_network, lab
from omokage.data.drawn import draw_face
from omokage.data.drawn.factors import EYE_COLOURS
from omokage.data.steps.crop import cut as cropped
from omokage.data.steps.detect import open_detector
from omokage.data.steps.read import cover
from omokage.data.store.faceset import FaceSet
from omokage.explore.alignment import Aligned, aligned, framing
from omokage.explore.encoders import encoder_of
from omokage.explore.fits import Judge
from omokage.explore.inversion import Effort, Inversion, inverted
from omokage.hardware import machine_name
from omokage.model import Model, load_model
from omokage.progress import TerminalProgress
from omokage.sampling import gathered, sample

RESULT = Path(__file__).parent / "results" / "inversion.md"
FIRST_DRAWN = 2 * 10**6  # seed of the first drawn face; the search's settings were chosen on other seeds
DRAWN_AT = 256  # px; drawn faces are made at this size and cut out
FRAMED = 32
ENLARGED = 4  # times, on the sheet
IN_A_ROW = 10


Cut = Callable[[np.ndarray], Aligned | None]


def cutter(model: Model, samples: np.ndarray) -> Cut:
    """What cuts a face out of a picture as the model frames its own, both uint8 (H, W, 3); None: no face."""
    detector = open_detector()
    frame = framing(samples[:FRAMED], detector)
    assert frame is not None, "no faces are found in the model's samples"

    return lambda picture: aligned(picture, model.resolution, frame, detector)


def faces_of(cut: Cut, faces: FaceSet, count: int) -> tuple[np.ndarray, int]:
    """Faces of a set, uint8 (N, H, W, 3), and in how many pictures none was found."""
    found, lost = [], 0
    for row in np.random.default_rng(0).permutation(len(faces)):
        one = cut(np.asarray(faces.image(int(row))))
        lost += one is None
        if one is not None:
            found.append(one.pixels)
        if len(found) == count:
            break
    return np.stack(found), lost


@dataclass(frozen=True)
class Drawn:
    """A drawn face.

    Attributes:
        pixels: uint8 (H, W, 3), cut out.
        hair, eyes: their colours.
        iris: float (H, W), how much of each pixel the irises fill.
        irises: the mean colour of the irises if they were of each colour of eyes, in CIELAB, float (3,).
    """

    pixels: np.ndarray
    hair: str
    eyes: str
    iris: np.ndarray
    irises: dict[str, np.ndarray]


def drawn_face(cut: Cut, number: int) -> Drawn:
    """A drawn face with eyes of its own colour, and what its eyes look like in every other."""
    seed = FIRST_DRAWN + number
    drawn = draw_face(seed, DRAWN_AT, masks=True)
    one = cut(drawn.image)
    assert one is not None, f"no face is found in drawn face {number}"
    height, width = one.pixels.shape[:2]

    def same_cut(picture: np.ndarray) -> np.ndarray:
        part = picture if one.box is None else cropped(picture, one.box, "reflect")
        return np.asarray(cover(Image.fromarray(part), (height, width)))

    iris = same_cut(np.repeat(drawn.masks["iris"][..., None], 3, 2))[..., 0]
    share = iris / max(1.0, float(iris.max()))
    assert (same_cut(drawn.image) == one.pixels).all()
    irises = {
        colour: mean_colour(same_cut(draw_face(seed, DRAWN_AT, eyes=colour).image), share)
        for colour in EYE_COLOURS
    }
    return Drawn(one.pixels, drawn.factors["hair"], drawn.factors["eyes"], share, irises)


def mean_colour(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mean colour in CIELAB, float (3,), of pixels uint8 (H, W, 3) by their ``share`` (H, W)."""
    values = lab(torch.from_numpy(picture / 255)).numpy()
    return (values * share[..., None]).sum((0, 1)) / share.sum()


def eyes_by_pixels(found: Inversion, drawn: list[Drawn]) -> list[str]:
    """The colour of eyes that the irises of each face found are nearest to."""
    told = []
    for face, one in zip(found.faces, drawn, strict=True):
        own = mean_colour(face, one.iris)
        told.append(min(one.irises, key=lambda colour: float(np.linalg.norm(one.irises[colour] - own))))
    return told


def sheet(found: Inversion) -> np.ndarray:
    """Pictures with the faces found below them, enlarged, uint8 (H, W, 3)."""
    rows = []
    for first in range(0, len(found.pictures), IN_A_ROW):
        for each in (found.pictures, found.faces):
            line = np.concatenate(each[first : first + IN_A_ROW], 1)
            width = IN_A_ROW * each.shape[2] - line.shape[1]
            rows.append(np.pad(line, ((0, 0), (0, width), (0, 0)), constant_values=255))
    return np.concatenate(rows)


def measured(model: Model, pictures: np.ndarray, effort: Effort, judge: Judge) -> tuple[Inversion, dict]:
    """What was found, with its figures. The processor's seconds do not depend on what else a machine does."""
    began = time.process_time()
    found = inverted(model, pictures, effort=effort, judge=judge, progress=TerminalProgress())
    spent = (time.process_time() - began) / len(pictures)
    return found, {"number": len(pictures), **likeness(found), "processor_seconds": spent}


def likeness(found: Inversion) -> dict[str, float]:
    """Median distances of one set of pictures; ``in_w``: before the steps in w+."""
    best = found.fit.others.min(1)
    told = {
        "distance": float(np.median(found.fit.distances)),
        "best_sample": float(np.median(best)),
        "nearer_samples": float(np.median(found.fit.nearer)),
        "seconds": found.seconds,
    }
    if found.fit_in_w is not None:
        told["distance_in_w"] = float(np.median(found.fit_in_w.distances))
    if found.editable is not None:
        for space, strange in zip(found.editable.spaces, found.editable.strange, strict=True):
            told[f"strange in {space}"] = float(strange[:, 0].mean())
            told[f"strange in {space} after moves"] = float(strange[:, 1:].mean())
    return told | {"ratio": told["distance"] / told["best_sample"]}


def colours_kept(found: Inversion, drawn: list[Drawn]) -> dict[str, float]:
    """Shares of faces whose colours are named as those of their picture, and as they were drawn."""
    network = attribute_network()
    seen, kept = network(found.pictures), network(found.faces)
    by_pixels = _same(eyes_by_pixels(found, drawn), [one.eyes for one in drawn])
    shares: dict[str, float] = {"eyes_kept_by_pixels": by_pixels}
    for part in ("hair", "eyes"):
        right = [getattr(one, part) for one in drawn]
        shares[f"{part}_kept"] = _same(seen.values(part), kept.values(part))
        shares[f"{part}_as_drawn"] = _same(kept.values(part), right)
        shares[f"{part}_picture_right"] = _same(seen.values(part), right)
    return shares


def _same(one: list[str], other: list[str]) -> float:
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))


def table(record: dict) -> str:
    """The record in Markdown."""
    effort, told = record["effort"], record["sets"]
    lines = [
        "# Inversion",
        "",
        f"`python bench/inversion.py`, {record['date']}; {record['machine']}; model `{record['recipe']}` "
        f"after {record['images']:,} images (snapshot `{record['snapshot'][:12]}`), "
        f"{'started from its encoder' if record['encoder'] else 'without an encoder'}; "
        f"{effort['steps']} steps in w, {effort['more']} in w+, features at {effort['side']} px.",
        "",
        "Distances are medians, in the features of the tag encoder, which the search does not use. The best "
        f"of {record['samples']:,} samples is chosen with these features.",
        "",
        "| pictures | number | face found | in w | best sample | ratio | samples nearer | seconds each "
        "| of a processor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in told.items():
        in_w = one.get("distance_in_w")
        lines.append(
            f"| {name} | {one['number']} | {one['distance']:.2f} | {'' if in_w is None else f'{in_w:.2f}'} | "
            f"{one['best_sample']:.2f} | {one['ratio']:.2f} | {one['nearer_samples']:.1%} | "
            f"{one['seconds']:.1f} | {one['processor_seconds']:.1f} |"
        )
    for name, one in told.items():
        if "strange in w+" in one:
            lines += [
                "",
                f"Of samples, so many are less strange than the {name} that were found: "
                f"{one['strange in w']:.0%} in w and {one['strange in w+']:.0%} in w+; after the same moves "
                f"{one['strange in w after moves']:.0%} and {one['strange in w+ after moves']:.0%}.",
            ]
    for name, one in told.items():
        if "hair_kept" in one:
            lines += [
                "",
                f"Of the {one['number']} {name}, {one['hair_kept']:.0%} keep the colour of their hair and "
                f"{one['eyes_kept']:.0%} that of their eyes, as the attribute network names picture and "
                "face. By the pixels of the irises, "
                f"{one['eyes_kept_by_pixels']:.0%} keep the colour of their eyes. "
                f"The network names {one['hair_picture_right']:.0%} of the hair and "
                f"{one['eyes_picture_right']:.0%} of the eyes in the pictures as they were drawn, and "
                f"{one['hair_as_drawn']:.0%} and {one['eyes_as_drawn']:.0%} in the faces found.",
            ]
    if record["note"]:
        lines += ["", record["note"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a run or snapshot")
    parser.add_argument("--faces", type=Path, help="a face set that the model has not seen")
    parser.add_argument("-n", "--number", type=int, default=50, help="how many of its faces")
    parser.add_argument("--drawn", type=int, default=20, help="how many drawn faces")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=Effort.steps)
    parser.add_argument("--more", type=int, default=Effort.more)
    parser.add_argument("--sheet", type=Path, help="where to write drawn faces and what was found, a PNG")
    parser.add_argument("--note", default="", help="a sentence for the table, such as what the faces are")
    parser.add_argument("--join", type=Path, help="a record (JSON) whose other sets are added")
    parser.add_argument("-o", "--out", type=Path, default=RESULT)
    args = parser.parse_args()
    model, progress = load_model(args.model), TerminalProgress()
    samples, finite = gathered(sample(model, range(args.samples), progress=progress))
    judge = Judge.of(samples[finite])
    effort = Effort(steps=args.steps, more=args.more, samples=args.samples)
    cut = cutter(model, samples[finite])
    sets: dict[str, dict[str, float]] = {}
    if args.faces is not None:
        pictures, lost = faces_of(cut, FaceSet.open(args.faces), args.number)
        print(f"{lost} pictures without a face were passed over")
        found, sets["unseen faces"] = measured(model, pictures, effort, judge)
        print(json.dumps(sets))
    if args.drawn:
        drawn = [drawn_face(cut, number) for number in range(args.drawn)]
        found, told = measured(model, np.stack([one.pixels for one in drawn]), effort, judge)
        sets["drawn faces"] = told | colours_kept(found, drawn)
        print(json.dumps(sets))
        if args.sheet is not None:
            shown = Image.fromarray(sheet(found))
            size = (ENLARGED * shown.width, ENLARGED * shown.height)
            shown.resize(size, Image.Resampling.LANCZOS).save(args.sheet)
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": machine_name(),
        "recipe": model.recipe.name,
        "images": model.images_seen,
        "snapshot": model.snapshot_hash,
        "encoder": encoder_of(model) is not None,
        "effort": effort.__dict__,
        "samples": int(finite.sum()),
        "sets": sets,
        "note": args.note,
    }
    if args.join is not None:
        other = json.loads(args.join.read_text(encoding="utf-8"))
        for key in ("snapshot", "effort", "samples"):
            assert other[key] == record[key], f"{args.join} has another {key}"
        record["sets"] = other["sets"] | sets
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(table(record), encoding="utf-8")
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
