"""Training of a critic for a finished model (`omokage.critic`)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from ..critic import QUANTILES, Critic, tensors_of
from ..data.store.faceset import FaceSet
from ..errors import UserError
from ..model import CRITIC_PART, Model, critic_file
from ..models.efficientnet_lite import EfficientNetLite0
from ..progress import Progress, opened
from ..sampling import latents, sample
from ..snapshot import write_snapshot

FIRST_SEED = 1_000_000_000  # seeds that nobody samples, so that figures are not of the critic's own samples
FOLDS = 4
STRENGTH = 0.1  # of the penalty on the teacher's weights; a strong teacher rejects nearly everything
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
        teacher_auc: how well the teacher tells held-out faces from samples, 0.5 to 1.
        explained: share of the variance of the teacher's logits that the critic explains on held-out samples.
        snapshot: SHA-256 of the model's snapshot.
    """

    faces: int
    samples: int
    seed: int
    teacher_auc: float
    explained: float
    snapshot: str


def train_critic(
    model: Model, faces: FaceSet, *, samples: int = 10_000, seed: int = 0, progress: Progress | None = None
) -> tuple[Critic, CriticReport]:
    """Teach a critic for ``model`` with the faces that the model learned from.

    1. A teacher sees pictures: logistic regression on the pooled deepest features of EfficientNet-Lite0. It
       is cross-fitted: the logits of a picture are of a regression that has not seen it.
    2. The critic learns the logits of the samples from the generator's first features.

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
    logits, auc = _taught(torch.cat(real), torch.cat(drawn)[rows], seed)
    critic, explained = _fitted(torch.cat(features)[rows], logits, seed, progress)
    return critic, CriticReport(count, int(rows.sum()), seed, auc, explained, model.snapshot_hash)


def write_critic(model: Model, critic: Critic, report: CriticReport) -> Path:
    """Write the critic beside the model's snapshot, where `omokage.model.load_model` finds it. Its path.

    Raises:
        UserError: the model has no file, or the folder cannot be written.
    """
    if model.path is None:
        raise UserError("this model was not loaded from a file; a critic lies beside the file")
    path = critic_file(model.path)
    tensors = {f"{CRITIC_PART}{name}": tensor for name, tensor in tensors_of(critic).items()}
    progress: dict[str, Any] = {**model.progress, "critic": asdict(report), "snapshot": model.snapshot_hash}
    write_snapshot(path, tensors, model.recipe, progress)
    return path


@torch.no_grad()
def _seen(network: EfficientNetLite0, pixels: np.ndarray, device: torch.device) -> Tensor:
    """Faces uint8 (N, H, W, 3) to pooled features (N, F): only the deepest, which know no single pixels."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return network(images.contiguous(memory_format=torch.channels_last))[-1].float().mean((2, 3)).cpu()


def _taught(real: Tensor, drawn: Tensor, seed: int) -> tuple[Tensor, float]:
    """The cross-fitted logits of the samples, (N,), and the area under the ROC curve."""
    x = torch.cat([real, drawn])
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    truth = torch.cat([torch.ones(len(real)), torch.zeros(len(drawn))])
    folds = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)) % FOLDS
    logits = torch.zeros(len(x))
    for fold in range(FOLDS):
        weights = _logistic_regression(x[folds != fold], truth[folds != fold])
        logits[folds == fold] = x[folds == fold] @ weights[:-1] + weights[-1]
    higher = mannwhitneyu(logits[: len(real)].numpy(), logits[len(real) :].numpy()).statistic
    return logits[len(real) :], float(higher) / (len(real) * len(drawn))


def _logistic_regression(x: Tensor, truth: Tensor) -> Tensor:
    """Weights (F + 1,), the last one the constant."""
    weights = torch.zeros(x.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ weights[:-1] + weights[-1], truth)
        loss = loss + STRENGTH * weights[:-1].square().sum() / 2
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return weights.detach()


def _fitted(x: Tensor, logits: Tensor, seed: int, progress: Progress | None) -> tuple[Critic, float]:
    """A critic for the logits (N,) of samples with features (N, F), and the share of variance explained."""
    cut = len(x) * 9 // 10
    batch = min(BATCH, cut)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic(x.shape[1])
        critic.mean.copy_(x.mean(0))
        critic.scale.copy_(x.std(0).clamp_min(1e-6))
        middle, spread = logits.mean(), logits.std()
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
