"""Classifier two-sample test (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests").

A small network learns to tell real faces from generated ones. The number is its accuracy on faces that it has
not seen. 0.5 means that it found no difference; 1 means that it recognises every face correctly.

Compression artefacts can decide the result. Real faces are mostly JPEG files; a network finds their 8x8 grid
and their reduced colour at once, although people do not see them. The protocol ``c2st64-lowpass48-jpeg75``
therefore treats both sides alike. It shrinks images to 48x48, which removes the finest quarter of the
frequencies and breaks the grid. It enlarges them to 64x64 again, and encodes and decodes them as JPEG of
quality 75 without colour subsampling, so that both sides have the same new grid. This weakens the effect of
old artefacts but does not remove it, so compare numbers of one protocol only. ``c2st64-plain`` does not
change the pixels; it shows how much the artefacts contribute.
"""

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..progress import Progress, opened
from ..tag_encoder import Down, ResidualBlock, network_input
from .inception import best_precision
from .metric import LOWER, Column, Metric

if TYPE_CHECKING:
    from .context import Context

PROTOCOLS = ("c2st64-lowpass48-jpeg75", "c2st64-plain")
SIDE = 64
EPOCHS = 12
BATCH = 64
TRAIN_SHARE = 0.75
MIN_FACES = 64
# The test keeps its pictures in memory, and more of them would not improve it.
MAX_FACES = 5_000
CPU = torch.device("cpu")


@dataclass(frozen=True)
class TwoSampleResult:
    """What the test found.

    Attributes:
        accuracy: share of held-out faces that are classified correctly, in [0, 1]; 0.5 is chance.
        interval: exact (Clopper-Pearson) 95 percent interval of the accuracy.
        p_value: probability of this accuracy or more if real and generated faces had one distribution.
        n_train, n_test: number of faces used; half of them are real.
        protocol: how the faces were prepared, one of ``PROTOCOLS``.
        seed: as given.
        precision: arithmetic of the network: ``bf16`` if the processor supports it, else ``fp32``.
    """

    accuracy: float
    interval: tuple[float, float]
    p_value: float
    n_train: int
    n_test: int
    protocol: str
    seed: int
    precision: str

    def as_dict(self) -> dict:
        """Plain values, for a JSON line."""
        return asdict(self)


def _lowpass_jpeg(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((48, 48), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=75, subsampling=0)
    return np.asarray(Image.open(buffer))


def prepare(images: np.ndarray, protocol: str = PROTOCOLS[0]) -> np.ndarray:
    """uint8 (N, H, W, 3) to uint8 (N, 64, 64, 3) by ``protocol``; the same for both sides.

    Images of other sizes are first resized to 64x64, by the rule ``antialiased-bilinear-64`` of the tag
    features.

    >>> prepare(np.zeros((2, 96, 96, 3), np.uint8)).shape
    (2, 64, 64, 3)
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown two-sample protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    if images.shape[1:3] != (SIDE, SIDE):
        parts = [network_input(images[i : i + 256]) for i in range(0, len(images), 256)]
        x = ((torch.cat(parts) + 1) * 127.5).round().clamp(0, 255).byte()
        images = x.permute(0, 2, 3, 1).contiguous().numpy()
    if protocol == "c2st64-plain":
        return images
    return np.stack([_lowpass_jpeg(image) for image in images])


class Classifier(nn.Module):
    """(B, 3, 64, 64) in [-1, 1] to logits (B,); above zero means real. 0.37 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Down(3, 24, kernel=5), Down(24, 48), Down(48, 96), ResidualBlock(96), Down(96, 160)
        )
        self.out = nn.Linear(160, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=best_precision(CPU) == "bf16"):
            features = self.body(x).float().mean(dim=(2, 3))
        return self.out(features)[:, 0]


def _augment(x: Tensor, rng: torch.Generator) -> Tensor:
    """Random mirroring, and shifts by up to three pixels; this helps when there are few faces."""
    flip = torch.rand(len(x), 1, 1, 1, generator=rng) < 0.5
    x = torch.where(flip, x.flip(3), x)
    top, left = torch.randint(0, 7, (2,), generator=rng).tolist()
    padded = F.pad(x, (3, 3, 3, 3), mode="replicate")
    return padded[:, :, top : top + SIDE, left : left + SIDE].contiguous(memory_format=torch.channels_last)


def _fitted(images: np.ndarray, labels: np.ndarray, seed: int, progress: Progress | None) -> Classifier:
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier()
    steps = len(images) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, EPOCHS * steps, pct_start=0.2)
    truth = torch.from_numpy(labels)
    with opened(progress, "two-sample classifier", EPOCHS * steps * BATCH) as task:
        for _ in range(EPOCHS):
            order = torch.randperm(len(images), generator=rng)
            for chosen in order[: steps * BATCH].split(BATCH):
                x = _augment(network_input(images[chosen.numpy()]), rng)
                loss = F.binary_cross_entropy_with_logits(network(x), truth[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                task.advance(len(x))
    return network.eval()


def two_sample_accuracy(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    seed: int = 0,
    protocol: str = PROTOCOLS[0],
    progress: Progress | None = None,
) -> TwoSampleResult:
    """How well a network trained from ``seed`` tells held-out real faces from held-out generated ones.

    The same number of real and generated faces is drawn with ``seed``. Three quarters of each train the
    network; the last quarter is held out. The same arguments on one machine give the same result.

    Args:
        real: uint8 (N, H, W, 3). Give each face once: a copy in both parts would make the test too easy.
        fake: uint8 (M, H, W, 3).
        seed: for the split, the initial weights and the order of training.
        protocol: one of ``PROTOCOLS``.

    Raises:
        UserError: a side has fewer than 64 faces, or the protocol is unknown.
    """
    n = min(len(real), len(fake))
    if n < MIN_FACES:
        raise UserError(f"the two-sample test got {n} faces on one side; give at least {MIN_FACES}")
    rng = np.random.default_rng(seed)
    sides = [prepare(images[rng.permutation(len(images))[:n]], protocol) for images in (real, fake)]
    cut = int(TRAIN_SHARE * n)
    labels = np.repeat(np.array([1, 0], np.float32), cut)
    network = _fitted(np.concatenate([s[:cut] for s in sides]), labels, seed, progress)

    held_out = np.concatenate([s[cut:] for s in sides])
    with torch.inference_mode():
        parts = [network(network_input(held_out[i : i + 256])) for i in range(0, len(held_out), 256)]
    said_real = (torch.cat(parts) > 0).numpy()
    right = int((said_real == (np.arange(len(held_out)) < n - cut)).sum())
    low, high = stats.binomtest(right, len(held_out)).proportion_ci(0.95, method="exact")
    return TwoSampleResult(
        accuracy=right / len(held_out),
        interval=(float(low), float(high)),
        p_value=float(stats.binomtest(right, len(held_out), alternative="greater").pvalue),
        n_train=2 * cut,
        n_test=len(held_out),
        protocol=protocol,
        seed=seed,
        precision=best_precision(CPU),
    )


def _faces(context: "Context", count: int) -> np.ndarray:
    """``count`` different faces, drawn with the seed: a copy in both parts would make the test too easy."""

    def drawn() -> np.ndarray:
        rng = np.random.default_rng(context.seed)
        return context.real_pixels(np.sort(rng.choice(context.different, count, replace=False)))

    return context.once(f"{count} different faces", drawn)


def check(context: "Context") -> None:
    """Refuse too few faces or samples, and decode the faces beforehand.

    Raises:
        UserError: there are fewer than `MIN_FACES` different faces or samples.
    """
    for count, what in ((len(context.different), "different faces"), (context.asked.samples, "samples")):
        if count < MIN_FACES:
            raise UserError(
                f"{count:,} {what} are too few for the two-sample test, it needs {MIN_FACES} on each side: "
                "drop --two-sample"
            )
    _faces(context, min(len(context.different), context.asked.samples, MAX_FACES))


def measure(context: "Context") -> dict[str, Any]:
    """The table ``two_sample`` for a record; empty if too few samples are finite."""
    fake = context.fake_pixels
    count = min(len(context.different), len(fake), MAX_FACES)
    if count < MIN_FACES:
        context.warn(f"the two-sample test is left out: only {count:,} samples are finite")
        return {}
    result = two_sample_accuracy(
        _faces(context, count), fake[:count], seed=context.seed, progress=context.progress
    )
    return {"two_sample": result.as_dict()}


METRIC = Metric(
    "two_sample",
    (
        Column(
            "two-sample",
            "two_sample.accuracy",
            "{:.3f}",
            LOWER,
            "accuracy of a small network, trained to tell samples from faces, on held-out ones",
            "Lopez-Paz & Oquab 2017",
            ideal="0.5 is chance",
            interval="two_sample.interval",
            name="two-sample accuracy",
        ),
    ),
    measure,
    check,
    of_pixels=True,
    option="--two-sample",
    max_pixels=MAX_FACES,
)
