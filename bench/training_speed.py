"""The speed of training with data loading, compared with a plain loop on the same networks.

    python bench/training_speed.py --faces ../shared/data/getchu-faces-64.tar [--seconds 30] [--rounds 3]

The plain loop is rewritten from the well-known PyTorch DCGAN tutorial: a dataset that opens and decodes a
JPEG file for each item, a DataLoader with two workers, float32, the default memory layout, one Adam for each
network, three passes through the discriminator in each step, and losses read at every step. Ours is
`omokage.training`, as a user runs it.

The two trainings run in separate processes on all cores and take turns: while one trains for a slice of time,
the other waits between two steps. A slice counts only whole steps. Rates are medians over slices; the first
steps of each process (start-up, compilation of kernels) are left out.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.families import DISCRIMINATORS, MODELS
from omokage.hardware import processor
from omokage.objectives.adversarial import ADVERSARIAL_LOSSES
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.schedule import value_at
from omokage.training.augment import augmenter

Tick = Callable[[int], None]
RESULTS = Path(__file__).parent / "results" / "training_speed.md"
WARM_UP_STEPS = 3
LEAST_RATIO = {"dcgan": 2.2}
MOST_WAITING = 0.02
SPAWN = multiprocessing.get_context("spawn")


class FolderOfFaces(Dataset):
    """A JPEG file for each item, decoded at each access; resize, centre crop, flip, scale to [-1, 1]."""

    def __init__(self, folder: Path, size: int, mirror: bool) -> None:
        self.paths = sorted(folder.iterdir())
        self.size, self.mirror = size, mirror

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(self.paths[index]).convert("RGB")
        scale = self.size / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        if self.mirror and torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        return (pixels - 0.5) / 0.5


def plain(name: str, overrides: list[str], folder: Path, tick: Tick) -> None:
    """The tutorial's loop on the networks, loss and settings of a recipe."""
    recipe = load_recipe(name, overrides)
    generator = MODELS[recipe.model["name"]].build(recipe.model)
    discriminator = DISCRIMINATORS[recipe.discriminator["name"]].build(recipe.discriminator)
    losses = ADVERSARIAL_LOSSES[recipe.objective["loss"]]()
    augment = augmenter(recipe.training.augment)
    rates = recipe.training.learning_rate
    optimiser_d, optimiser_g = (
        torch.optim.Adam(
            [p for p in network.parameters() if p.requires_grad],
            lr=value_at(rates.get(phase, rates["default"]), 0),
            betas=tuple(recipe.training.betas),
        )
        for phase, network in (("discriminator", discriminator), ("generator", generator))
    )

    def judge(images: torch.Tensor) -> list[torch.Tensor]:
        images = augment(images)
        if hasattr(discriminator, "features"):
            return discriminator(discriminator.features(images))
        return [discriminator(images)]

    loader = DataLoader(
        FolderOfFaces(folder, generator.resolution[0], recipe.training.mirror),
        batch_size=recipe.training.batch,
        shuffle=True,
        num_workers=2,
        drop_last=True,
    )
    while True:
        for real in loader:
            # Update D network.
            optimiser_d.zero_grad()
            logits = judge(real)
            fake = generator(torch.randn(len(real), *generator.latent_shape))
            pairs = zip(logits, judge(fake.detach()), strict=True)
            loss_d = sum(losses.discriminator(r, f) for r, f in pairs)
            loss_d.backward()
            optimiser_d.step()

            # Update G network.
            optimiser_g.zero_grad()
            loss_g = sum(losses.generator(f) for f in judge(fake))
            loss_g.backward()
            optimiser_g.step()
            _ = loss_d.item(), loss_g.item()
            tick(len(real))


def ours(name: str, overrides: list[str], faces: Path, run: Path, tick: Tick) -> None:
    """A training as `omokage train` starts it, except that every step is logged; each line is a tick."""

    class Ticking:
        training = False

        @contextmanager
        def task(self, label: str, total: float | None) -> Iterator["Ticking"]:
            self.training = label.startswith("train ")
            yield self

        def advance(self, n: float = 1, note: str = "") -> None:
            if self.training:
                tick(int(n))

    train(load_recipe(name, [*overrides, "training.log_kimg=0.001"]), faces, run, progress=Ticking())


def waiting_share(run: Path) -> float:
    """The share of time in which a run waited for data, without the first step; from its log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()][WARM_UP_STEPS:]
    seconds = [1 / line["speed/images per second"] for line in lines]
    waited = [s * line["speed/waiting for data"] for s, line in zip(seconds, lines, strict=True)]
    return sum(waited) / sum(seconds)


class Done(BaseException):
    """The last slice is over. It is not an Exception, so that no training handles it as an error."""


@dataclass
class Slice:
    """The work of one training in one turn."""

    images: int
    seconds: float


def take_turns(link: Connection, work: Callable[[Tick], None]) -> None:
    """Run ``work`` in this process, in slices; their lengths come through ``link``."""
    steps, images, began, until = 0, 0, 0.0, 0.0

    def tick(n: int) -> None:
        nonlocal steps, images, began, until
        steps += 1
        if steps < WARM_UP_STEPS:
            return
        images += n
        now = time.perf_counter()
        if steps > WARM_UP_STEPS and now < until:
            return
        link.send(Slice(images, now - began))
        seconds = link.recv()
        if seconds is None:
            raise Done
        images, began = 0, time.perf_counter()
        until = began + seconds

    try:
        work(tick)
    except Done:
        link.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@dataclass
class Runner:
    """A training in its own process."""

    name: str
    work: Callable[[Tick], None]
    slices: list[Slice] = field(default_factory=list)
    peak_mib: float = 0.0  # of the process itself, without the workers of a DataLoader
    start_seconds: float = 0.0  # from the start of the process to the end of its first steps

    def start(self) -> None:
        """Start and wait until the first steps are done."""
        self.link, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=take_turns, args=(other, self.work))
        began = time.perf_counter()
        self.process.start()
        other.close()
        self.link.recv()
        self.start_seconds = time.perf_counter() - began

    def train(self, seconds: float) -> None:
        self.link.send(seconds)
        self.slices.append(self.link.recv())

    def stop(self) -> None:
        self.link.send(None)
        self.peak_mib = self.link.recv()
        self.process.join(20)
        if self.process.is_alive():
            self.process.kill()

    @property
    def rate(self) -> float:
        """Images per second, median over slices."""
        return statistics.median(s.images / s.seconds for s in self.slices)


def contest(
    name: str,
    ours_work: Callable[[Tick], None],
    plain_work: Callable[[Tick], None],
    seconds: float,
    rounds: int,
) -> tuple[Runner, Runner]:
    """Run both trainings in turns; the order alternates between rounds."""
    pair = Runner(f"{name}, ours", ours_work), Runner(f"{name}, plain", plain_work)
    for runner in pair:
        runner.start()
    for round_ in range(rounds):
        for runner in pair if round_ % 2 == 0 else pair[::-1]:
            runner.train(seconds)
            last = runner.slices[-1]
            print(f"{runner.name}: {last.images} images in {last.seconds:.1f} s", flush=True)
    for runner in pair:
        runner.stop()
    return pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True, help="a folder or an archive of face images")
    parser.add_argument("--recipes", nargs="+", default=["dcgan", "fast"])
    parser.add_argument("--seconds", type=float, default=30, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--set", nargs="+", default=[], help="key=value for both; nothing is then written")
    settings = parser.parse_args()
    rows, failures = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build([settings.faces], work / "faces", as_faces=True)
        faces = FaceSet.open(work / "faces")
        (work / "jpegs").mkdir()
        for i in range(len(faces)):
            (work / "jpegs" / f"{i:06d}.jpg").write_bytes(faces.image_bytes(i))
        for name in settings.recipes:
            fast, slow = contest(
                name,
                partial(ours, name, settings.set, work / "faces", work / name),
                partial(plain, name, settings.set, work / "jpegs"),
                settings.seconds,
                settings.rounds,
            )
            ratio, waiting = fast.rate / slow.rate, waiting_share(work / name)
            rows.append(
                f"| `{name}` | {fast.rate:.1f} | {slow.rate:.1f} | {ratio:.2f} | {waiting:.2%} "
                f"| {fast.peak_mib:,.0f} | {slow.peak_mib:,.0f} | {fast.start_seconds:.0f} |"
            )
            print(rows[-1], flush=True)
            if ratio < LEAST_RATIO.get(name, 1):
                failures.append(f"{name} is {ratio:.2f} times as fast, wanted {LEAST_RATIO.get(name, 1)}")
            if waiting > MOST_WAITING:
                failures.append(f"{name} waits for data {waiting:.2%} of the time, wanted {MOST_WAITING:.0%}")
    if settings.set:
        return
    count = f"{len(faces):,} faces"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        "\n".join(
            [
                "# Training speed",
                "",
                f"`python bench/training_speed.py --seconds {settings.seconds:g} --rounds {settings.rounds}`,"
                f" {date.today()}, {processor()}, {len(os.sched_getaffinity(0))} cores,"
                f" PyTorch {torch.__version__}, Python {platform.python_version()}; {count}. Images a"
                " second are end to end with data loading, medians over rounds in one run. The plain loop is"
                " that of the PyTorch DCGAN tutorial, in float32, on the same networks.",
                "",
                "| recipe | ours, images/s | plain loop, images/s | ratio | ours waits for data"
                " | ours, peak MiB | plain, peak MiB (without its 2 workers)"
                " | ours, start-up and first steps, s |",
                "|---|---|---|---|---|---|---|---|",
                *rows,
                "",
            ]
        ),
        encoding="utf-8",
    )
    sys.exit("; ".join(failures) or 0)


if __name__ == "__main__":
    main()
