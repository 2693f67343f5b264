"""Some generated images reconstruct real images of the batch, so that no kind of face is lost."""

from typing import Any

import torch
from torch import Tensor, nn

from ..models.feature_encoder import FeatureEncoder
from ..models.layers import Location, added_over_processes
from .phase import Step

HALF_LIFE = 10_000  # after this many latents, the weight of a latent in the averages is halved
FIRST = 20_000  # latents before the averages are used: an untrained encoder hardly separates faces


class Following(nn.Module):
    """Running mean and second moments of latents; they set the `Location` of a model."""

    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("square", torch.zeros(latent, latent))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, z: Tensor, location: Location, every: int = 1, first: int = FIRST) -> None:
        """Add the latents (B, latent) of a step, of all processes, to the averages.

        Every ``every`` steps ``location`` is moved, once ``first`` latents were seen.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, count = z.float(), len(z)
            seen = torch.cat([z.mean(0)[None], z.T @ z / count])
            processes = added_over_processes(seen)
            seen /= processes
            self.steps += 1
            # At first a plain average, because there are no old latents to forget yet.
            share = (1 / self.steps).clamp_min(1 - 0.5 ** (count * processes / HALF_LIFE))
            self.mean.lerp_(seen[0], share)
            self.square.lerp_(seen[1:], share)
            if every > 1 and int(self.steps) % every:
                return
            mean = self.mean.double()
            covariance = self.square.double() - mean.outer(mean)
            ridge = 1e-3 * torch.eye(self.latent, dtype=covariance.dtype, device=covariance.device)
            axes, failed = torch.linalg.cholesky_ex(covariance + ridge)
            enough = (failed == 0) & (self.steps * count * processes >= first)
            location.move(
                torch.where(enough, mean, location.centre.double()),
                torch.where(enough, axes, location.axes.double()),
            )


class Reconstruction(Following):
    """The variational half of a VAE/GAN (Larsen et al. 2016, arXiv 1512.09300, equations 5 to 8).

    An encoder maps the first ``share`` of a batch to latents. The generator draws images from these latents,
    and the loss compares their features with those of the faces. As in the paper, the features are the
    discriminator's; here they come from its frozen network. They cost nothing, because the discriminator
    needs them for the same images.

    Without reconstruction, a generator may lose kinds of faces. The face of a latent may also change from
    step to step, so that averaged weights draw blends of faces. Reconstruction ties each face to a latent.

    Over all faces, the encoder's latents do not quite follow the prior. Their running mean and covariance set
    the generator's `Location`, from which samples and the rest of a batch are drawn.
    """

    def __init__(self, discriminator: Any, latent: int, share: float) -> None:
        super().__init__(latent)
        # The finest map is left out: it shows strokes, not faces.
        self.encoder = FeatureEncoder(discriminator.feature_channels[1:], latent)
        self.share = share

    def count(self, batch: int) -> int:
        """The number of images of a batch that are reconstructed."""
        return max(2, round(self.share * batch)) if batch > 1 else 0

    def encoded(self, step: Step, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The encoder's means and log-variances for the reconstructed faces of a step."""
        count = self.count(len(step.real))
        return step.once("encoded", lambda: self.encoder([x[:count] for x in features[1:]]))

    def sampled(self, step: Step, features: list[Tensor]) -> Tensor:
        """A sample from the encoder's distribution for each reconstructed face."""
        mean, log_variance = self.encoded(step, features)
        return mean + (log_variance / 2).exp() * step.latents[: len(mean), : self.latent]

    def latents(self, step: Step, features: list[Tensor], location: Location | None) -> Tensor:
        """The step's latents: first those of its faces, then latents drawn from ``location``."""
        if (count := self.count(len(step.real))) == 0:
            return step.latents
        redrawn = torch.cat([self.sampled(step, features), step.latents[:count, self.latent :]], 1)
        rest = step.latents[count:]
        return torch.cat([redrawn, rest if location is None else location(rest)])

    def observe(self, step: Step, features: list[Tensor], location: Location) -> None:
        """Add the step's latents, of all processes, to the averages, and update ``location``."""
        if self.count(len(step.real)):
            self.follow(self.sampled(step, features).detach(), location)

    def error(self, step: Step, real: list[Tensor], generated: list[Tensor]) -> Tensor:
        """Squared differences of features, averaged over maps: 2 for unrelated faces, 1 for the mean face."""
        count = self.count(len(step.real))
        if count == 0:
            return torch.zeros((), device=step.real.device)
        return feature_error(real, generated, count)

    def divergence(self, step: Step, features: list[Tensor]) -> Tensor:
        """KL divergence of the encoder's normal distributions from the prior, in nats for each face."""
        if self.count(len(step.real)) == 0:
            return torch.zeros((), device=step.real.device)
        mean, log_variance = self.encoded(step, features)
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def feature_error(real: list[Tensor], generated: list[Tensor], count: int) -> Tensor:
    """Squared differences of the first ``count`` images' features, in units of the batch's variance.

    It is a mean over maps: 2 for unrelated faces, 1 for the mean face.
    """
    errors = []
    for x, y in zip(real, generated, strict=True):
        x = x.float()
        difference = (x[:count] - y[:count].float()).square().mean()
        errors.append(difference / x.var(0).mean().clamp_min(1e-6))
    return torch.stack(errors).mean()
