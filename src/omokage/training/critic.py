"""Training of a critic for a finished model (`omokage.critic`)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..critic import QUANTILES, Critic
from ..data.store.faceset import FaceSet
from ..errors import UserError
from ..model import CRITIC_PART, Model, critic_file
from ..models.efficientnet_lite import EfficientNetLite0
from ..progress import Progress, opened
from ..sampling import latents, sample
from ..snapshot import write_snapshot

FIRST_SEED = 1_000_000_000  # seeds that nobody samples, so that figures are not of the critic's own samples
# Chosen on the tag features of 5,000 samples of a `fast-style` at 80,000 images: with 16 or 256 dimensions
# FID fell less. Logistic regression on the same features in place of neighbours made FID worse.
DIMENSIONS = 128
NEAREST = 10
SHARE = 0.5  # of the estimates: they are rough, and the whole of them would reject nearly everything
EPOCHS = 20
BATCH = 128
SIDE = 128  # faces are resized to this for the frozen network
LEAST = 500  # faces and samples


@dataclass(frozen=True)
class CriticReport:
    """What training a critic found.

    Attributes:
        faces, samples: how many of each taught it.
        seed: as given.
        explained: share of the variance of the teacher's estimates that the critic explains on held-out
            samples.
        snapshot: SHA-256 of the model's snapshot.
    """

    faces: int
    samples: int
    seed: int
    explained: float
    snapshot: str


def train_critic(
    model: Model, faces: FaceSet, *, samples: int = 10_000, seed: int = 0, progress: Progress | None = None
) -> tuple[Critic, CriticReport]:
    """Teach a critic for ``model`` with the faces that the model learned from.

    1. A teacher sees pictures. In the pooled deepest features of EfficientNet-Lite0 it compares how near a
       sample is to faces and to other samples, which estimates the ratio of their densities.
    2. The critic learns these estimates from the generator's first features.

    Args:
        samples: samples and faces that teach it; fewer if the set has fewer different faces.
        seed: chooses the faces and the order of training.

    Raises:
        UserError: the family has no features for a critic, the model has conditions, or there are fewer than
            `LEAST` different faces or samples.
    """
    model.first_features(latents([0], model.latent_shape))  # refused at once where it cannot work
    different = list({digest: i for i, digest in enumerate(faces.index["sha256"].to_pylist())}.values())
    count = min(samples, len(different))
    if count < LEAST:
        raise UserError(
            f"a critic needs {LEAST} different faces and samples or more, got {len(different):,} faces and "
            f"{samples:,} samples"
        )
    chosen = np.sort(np.random.default_rng(seed).choice(different, count, replace=False))
    network = EfficientNetLite0.pretrained().eval().to(model.device)

    real = []
    with opened(progress, "faces", count) as task:
        for part in np.array_split(chosen, -(-count // 64)):
            real.append(_seen(network, faces.pixels(part, model.resolution), model.device))
            task.advance(len(part))
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    drawn, kept, features, done = [], [], [], 0
    with opened(progress, "samples", count) as task:
        for pixels, finite in sample(model, seeds):
            z = latents(seeds[done : done + len(pixels)], model.latent_shape)
            drawn.append(_seen(network, pixels, model.device))
            features.append(model.first_features(z).cpu())
            kept.append(torch.from_numpy(finite))
            done += len(pixels)
            task.advance(len(pixels))
    rows = torch.cat(kept)
    if int(rows.sum()) < LEAST:
        raise UserError(f"only {int(rows.sum()):,} of {count:,} samples are finite: this model is broken")
    logits = _taught(torch.cat(real), torch.cat(drawn)[rows])
    critic, explained = _fitted(torch.cat(features)[rows], logits, seed, progress)
    return critic, CriticReport(count, int(rows.sum()), seed, explained, model.snapshot_hash)


def write_critic(model: Model, critic: Critic, report: CriticReport) -> Path:
    """Write the critic beside the model's snapshot, where `omokage.model.load_model` finds it. Its path.

    Raises:
        UserError: the model has no file, or the folder cannot be written.
    """
    if model.path is None:
        raise UserError("this model was not loaded from a file; a critic lies beside the file")
    path = critic_file(model.path)
    tensors = {f"{CRITIC_PART}{name}": tensor for name, tensor in critic.state_dict().items()}
    progress: dict[str, Any] = {**model.progress, "critic": asdict(report), "snapshot": model.snapshot_hash}
    write_snapshot(path, tensors, model.recipe, progress)
    return path


@torch.no_grad()
def _seen(network: EfficientNetLite0, pixels: np.ndarray, device: torch.device) -> Tensor:
    """Faces uint8 (N, H, W, 3) to pooled features (N, F): only the deepest, which know no single pixels."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return network(images.contiguous(memory_format=torch.channels_last))[-1].float().mean((2, 3)).cpu()


def _taught(real: Tensor, drawn: Tensor) -> Tensor:
    """Estimates of log(p_real / p_model) at the samples, (N,), up to a constant.

    In D dimensions they are D log(distance to the k-th sample / distance to the k-th face), which follows
    from the nearest-neighbour estimates of both densities (Wang, Kulkarni & Verdú 2009, IEEE Transactions on
    Information Theory 55, section 2), times `SHARE`.
    """
    x = torch.cat([real, drawn])
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    variances, axes = torch.linalg.eigh(x.T.double() @ x.double() / len(x))
    # With as many dimensions as points, all distances would be equal.
    dimensions = min(DIMENSIONS, len(x) // 4, int((variances > 1e-6 * variances[-1]).sum()))
    x = (x.double() @ axes[:, -dimensions:] / variances[-dimensions:].sqrt()).float()
    faces, samples = x[: len(real)], x[len(real) :]
    k = min(NEAREST, len(faces), len(samples) - 1)
    found = []
    for part in samples.split(1024):
        to_face = torch.cdist(part, faces).topk(k, largest=False).values[:, -1]
        to_sample = torch.cdist(part, samples).topk(k + 1, largest=False).values[:, -1]  # itself is the first
        found.append((to_sample.clamp_min(1e-6) / to_face.clamp_min(1e-6)).log())
    return SHARE * dimensions * torch.cat(found)


def _fitted(x: Tensor, logits: Tensor, seed: int, progress: Progress | None) -> tuple[Critic, float]:
    """A critic for the logits (N,) of samples with features (N, F), and the share of variance explained."""
    cut = len(x) * 9 // 10
    batch = min(BATCH, cut)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic(x.shape[1])
        critic.mean.copy_(x.mean(0))
        critic.scale.copy_(x.std(0).clamp_min(1e-6))
        middle, spread = logits.mean(), logits.std().clamp_min(1e-6)
        steps = EPOCHS * (cut // batch)
        optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
        with opened(progress, "critic", steps * batch) as task:
            for _ in range(EPOCHS):
                for rows in torch.randperm(cut)[: cut // batch * batch].split(batch):
                    loss = (critic(x[rows]) - (logits[rows] - middle) / spread).square().mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    schedule.step()
                    task.advance(batch)
    with torch.no_grad():
        last = critic.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight *= spread
        last.bias.copy_(last.bias * spread + middle)
        error = (critic(x[cut:]) - logits[cut:]).square().mean()
        explained = 1 - float(error / logits[cut:].var())
        critic.quantiles.copy_(critic(x).sort().values.quantile(torch.linspace(0, 1, QUANTILES)))
    return critic.eval().requires_grad_(False), explained
