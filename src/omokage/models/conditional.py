"""Conditions, such as hair and eye colours, for any generator, discriminator or flow that supports them.

A generator takes them joined to its latent (Mirza & Osindero 2014, section 3.2). A discriminator judges them
by projection (Miyato & Koyama 2018, equation 3): besides its logit it outputs one number for each value of
each condition, and the numbers of the image's own values are added to the logit. A flow has a conditional
density.
"""

from collections.abc import Mapping, Sequence
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from .flow import in_range, normal_log_density

Given = Sequence[int | None]  # for each condition the number of a value, or None to draw one


def one_hot(conditions: Tensor, sizes: Sequence[int]) -> Tensor:
    """Value numbers (B, n) to one-hot floats (B, sum of sizes); an unknown number, such as -1, gives zeros.

    >>> one_hot(torch.tensor([[1, 0], [0, -1]]), (2, 3))
    tensor([[0., 1., 1., 0., 0.],
            [1., 0., 0., 0., 0.]])
    """
    columns = [
        conditions[:, i, None] == torch.arange(size, device=conditions.device) for i, size in enumerate(sizes)
    ]
    return torch.cat(columns, 1).float()


def dropped(given: Sequence[Tensor], share: float) -> list[Tensor]:
    """Value numbers (B, n) of conditions, all unknown (-1) for a random ``share`` of the rows."""
    kept = [torch.rand(len(conditions), 1).to(conditions.device) >= share for conditions in given]
    return [torch.where(keep, conditions, -1) for keep, conditions in zip(kept, given, strict=True)]


class Conditional(nn.Module):
    """The base of models with conditions: it chooses values for conditions that are not given.

    The last entries of a latent, one for each value, are used for that. From these normal numbers, `drawn`
    samples values with the frequencies of training. So code that samples by seed works with conditional
    models too.
    """

    def __init__(self, network: Any, values: Mapping[str, Sequence[str]], latent: int) -> None:
        super().__init__()
        self.network = network
        self.sizes = tuple(len(known) for known in values.values())
        self.latent, self.latent_shape = latent, (latent + sum(self.sizes),)
        self.resolution: tuple[int, int] = network.resolution
        self.image_channels: int = getattr(network, "image_channels", 3)
        # How many training faces had each combination of values; the last condition varies fastest.
        self.register_buffer("seen", torch.ones(prod(self.sizes)))

    def drawn(self, noise: Tensor, given: Given | None = None) -> Tensor:
        """Normal numbers (B, sum of sizes) to values (B, n), sampled with the frequencies of training.

        The frequencies are those among the faces with the ``given`` values. Conditions are sampled one after
        the other by the Gumbel-max trick (Maddison et al. 2014): a small change of the noise rarely changes a
        value, and zero noise gives the most frequent one.
        """
        given = given or [None] * len(self.sizes)
        # In double precision and on the CPU, so that a seed gives the same values on every device.
        noise, seen = noise.cpu().double(), self.seen.cpu().double().view(self.sizes)  # type: ignore[operator]
        gumbel = -(-torch.special.ndtr(noise).clamp(1e-12, 1 - 1e-12).log()).log()
        table = seen
        for axis, value in enumerate(given):
            if value is not None:
                only = torch.zeros(self.sizes[axis]).index_fill(0, torch.tensor(value), 1)
                table = table * only.view([-1 if i == axis else 1 for i in range(seen.dim())])
        if any(value is not None for value in given) and table.sum() == 0:  # never seen together
            table = seen
        rows = table.expand(noise.shape[0], *self.sizes)
        found = []
        for axis, scores in enumerate(gumbel.split(self.sizes, 1)):
            weights = rows.flatten(2).sum(2) if rows.dim() > 2 else rows
            alone = seen.movedim(axis, 0).reshape(self.sizes[axis], -1).sum(1)
            weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, alone)
            value = given[axis]
            chosen = (weights.log() + scores).argmax(1)
            chosen = chosen if value is None else torch.full_like(chosen, value)
            rows = rows[torch.arange(rows.shape[0]), chosen]
            found.append(chosen)
        return torch.stack(found, 1)


def unconditioned(network: nn.Module) -> nn.Module:
    """The inner network, without the wrapper for conditions. Ask this one what the network can do.

    >>> unconditioned(nn.Identity())
    Identity()
    """
    around = isinstance(network, Conditional | ConditionalDiscriminator)
    return network.network if around else network  # type: ignore[return-value]


class ConditionalGenerator(Conditional):
    """A generator with conditions: latents and numbers of values to images.

    >>> from omokage.models.dcgan import Generator
    >>> inner = Generator(latent=8, channels=(8, 8), joined=5)
    >>> generator = ConditionalGenerator(inner, {"hair": ["blue", "red"], "eyes": ["blue", "green", "red"]})
    >>> generator.decode(torch.randn(4, 13), given=(1, None)).shape  # red hair, random eyes
    torch.Size([4, 3, 16, 16])
    """

    def __init__(
        self,
        network: Any,  # takes latents with `sum of values` further entries joined to them
        values: Mapping[str, Sequence[str]],  # the values of each condition, in the order of their numbers
        truncates: bool = False,  # whether the network's `decode` has its own truncation
    ) -> None:
        super().__init__(network, values, network.latent_shape[0] - sum(map(len, values.values())))
        self.truncates = truncates

    def joined(self, z: Tensor, conditions: Tensor, psi: float = 1.0) -> Tensor:
        """Latents (B, *latent_shape) times psi, with the last entries replaced by conditions (B, n).

        The one-hot entries are scaled to the length of a normal vector of the same size. Otherwise they
        would be small compared with the entries of the latent.
        """
        lengths = [sqrt(size) for size in self.sizes for _ in range(size)]
        hot = one_hot(conditions, self.sizes) * torch.tensor(lengths, device=conditions.device)
        return torch.cat([z[:, : self.latent] * psi, hot.to(z)], 1)

    def forward(self, z: Tensor, conditions: Tensor) -> Tensor:
        """(B, *latent_shape) and (B, n) to (B, image_channels, H, W) in [-1, 1]."""
        return self.network(self.joined(z, conditions))

    def decode(self, z: Tensor, psi: float = 1.0, given: Given | None = None) -> Tensor:
        """(B, *latent_shape) to images; conditions that are not ``given`` are drawn from the latents."""
        if hasattr(self.network, "mapping"):
            return in_range(self.synthesis(self.mapping(z, psi, given)))
        conditions = self.drawn(z[:, self.latent :] * psi, given).to(z.device)
        if self.truncates:
            return self.network.decode(self.joined(z, conditions), psi)
        return self.network.decode(self.joined(z, conditions, psi))

    def mapping(self, z: Tensor, psi: float = 1.0, given: Given | None = None) -> Tensor:
        """The network's styles (B, layers, width), truncated towards the average style of their conditions.

        This way truncation does not change the conditions of a face.
        """
        conditions = self.drawn(z[:, self.latent :] * abs(psi), given).to(z.device)
        w = self.network.mapping(self.joined(z, conditions))
        if psi == 1:
            return w
        rows, which = conditions.unique(dim=0, return_inverse=True)
        return torch.stack([self.average_style(row) for row in rows])[which].lerp(w, psi)

    def average_style(self, conditions: Tensor, number: int = 256) -> Tensor:
        """The mean style (1, width) of ``number`` latents with these conditions (n,)."""
        z = torch.randn(number, self.latent_shape[0], generator=torch.Generator().manual_seed(0))
        joined = self.joined(z.to(conditions.device), conditions.expand(number, -1))
        return self.network.mapping(joined)[:, :1].mean(0)

    def styles(self, z: Tensor, conditions: Tensor) -> Tensor:
        """Styles for training, as in the network."""
        return self.network.styles(self.joined(z, conditions))

    def synthesis(self, w: Tensor, noise: Any = "constant") -> Tensor:
        """Styles to images, as in the network. The styles already contain the conditions."""
        return self.network.synthesis(w, noise)

    @property
    def layers(self) -> int:
        """The number of styles of an image, as in the network."""
        return self.network.layers

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """Height and width of the features of each layer, as in the network."""
        return self.network.layer_sizes

    def recovered(self, z: Tensor, conditions: Tensor) -> Tensor:
        """The predicted latents (B, latent), as in the network."""
        return self.network.recovered(self.joined(z, conditions))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), as in the network; they do not depend on conditions."""
        return self.network.posterior(images)

    def logits(self, z: Tensor, conditions: Tensor) -> Tensor:
        """The logits of p(x|z, conditions), as in the network."""
        return self.network.logits(self.joined(z, conditions))

    def encode(self, images: Tensor, given: Given | None = None) -> Tensor:
        """Images to latents (B, *latent_shape); conditions that are not given take the most frequent values.

        The network's encoder ignores conditions, so ``given`` changes nothing.
        """
        z = self.network.encode(images)
        return torch.cat([z, z.new_zeros(z.shape[0], sum(self.sizes))], 1)


class ConditionalFlow(Conditional):
    """A flow with conditions: its density is conditional on numbers of values, or unconditional.

    An unknown number, such as -1, leaves that condition open. Without any condition, the density is that of
    all faces.

    >>> from omokage.models.tarflow import TarFlow
    >>> inner = TarFlow(size=8, patch=4, width=8, heads=2, blocks=2, layers=1, joined=5)
    >>> flow = ConditionalFlow(inner, {"hair": ["blue", "red"], "eyes": ["blue", "green", "red"]})
    >>> images, conditions = torch.rand(2, 3, 8, 8) * 2 - 1, torch.tensor([[0, 2], [1, -1]])
    >>> flow.log_prob(images, conditions).shape, flow.latent_shape
    (torch.Size([2]), (197,))
    >>> flow.decode(flow.encode(images, (1, None)), given=(1, None), guidance=2.0).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, network: Any, values: Mapping[str, Sequence[str]]) -> None:
        super().__init__(network, values, network.latent_shape[0])
        self.noise: float = getattr(network, "noise", 0.0)

    def labels(self, conditions: Tensor) -> Tensor:
        """Numbers of values (B, n) to the network's label vectors (B, sum of sizes)."""
        return one_hot(conditions, self.sizes).to(next(self.network.parameters()))

    def transform(self, images: Tensor, conditions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] to the network's latents and the log-determinants (B,) in nats."""
        return self.network.transform(images, None if conditions is None else self.labels(conditions))

    def log_prob(self, images: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(B,) log-density in nats of images (B, C, H, W) in [-1, 1], given conditions (B, n) or None."""
        z, log_det = self.transform(images, conditions)
        return normal_log_density(z) + log_det

    def encode(self, images: Tensor, given: Given | None = None) -> Tensor:
        """Images to latents (B, *latent_shape); `decode` with the same ``given`` inverts it.

        Conditions that are not given take the most frequent values.
        """
        rest = images.new_zeros(images.shape[0], sum(self.sizes))
        z = self.network.encode(images, self.labels(self.drawn(rest, given).to(images.device)))
        return torch.cat([z, rest], 1)

    def denoised(self, noisy: Tensor, level: Tensor, conditions: Tensor | None = None) -> Tensor:
        """The clean images behind noisy ones, as in the network; conditions (B, n) or None."""
        return self.network.denoised(noisy, level, None if conditions is None else self.labels(conditions))

    def inverse(self, z: Tensor, given: Given | None = None, guidance: float = 0.0, **how: Any) -> Tensor:
        """(B, *latent_shape) to images, not clamped and not denoised; see `decode`."""
        conditions = self.drawn(z[:, self.latent :], given).to(z.device)
        own = z[:, : self.latent]
        return self.network.inverse(own, labels=self.labels(conditions), guidance=guidance, **how)

    def decode(
        self, z: Tensor, psi: float = 1.0, given: Given | None = None, guidance: float = 0.0, **how: Any
    ) -> Tensor:
        """(B, *latent_shape) to images (B, C, H, W) in [-1, 1].

        Conditions that are not ``given`` are drawn from the latents. ``psi`` is the temperature.
        ``guidance`` is the weight of classifier-free guidance: 0 is plain conditional sampling, larger values
        follow the conditions more strongly. ``how``: further settings of the network's sampler.
        """
        conditions = self.drawn(z[:, self.latent :] * psi, given).to(z.device)
        own = z[:, : self.latent] * psi
        return self.network.decode(own, labels=self.labels(conditions), guidance=guidance, **how)

    def forward(self, z: Tensor, conditions: Tensor) -> Tensor:
        """(B, *latent_shape) and (B, n) to images, as `decode`; the last entries of latents are ignored."""
        return self.network.decode(z[:, : self.latent], labels=self.labels(conditions))


class ConditionalDiscriminator(nn.Module):
    """A discriminator with conditions: features of images and numbers of values to logits.

    >>> from omokage.models.dcgan import Discriminator
    >>> inner = Discriminator(channels=(8, 8), outputs=1 + 5)
    >>> ConditionalDiscriminator(inner, (2, 3))(torch.randn(4, 3, 16, 16), torch.tensor([[0, 2]] * 4)).shape
    torch.Size([4])
    """

    def __init__(self, network: Any, sizes: Sequence[int]) -> None:
        super().__init__()
        self.network, self.sizes = network, tuple(sizes)

    def features(self, images: Tensor) -> Any:
        """The network's own ``features`` of the images; if it has none, the images."""
        return self.network.features(images) if hasattr(self.network, "features") else images

    def forward(self, seen: Any, conditions: Tensor) -> Tensor | list[Tensor]:
        """The result of `features` and values (B, n) to logits (B, ...), or to a list of them."""
        hot = one_hot(conditions, self.sizes)
        own = torch.cat([torch.ones_like(hot[:, :1]), hot], 1)

        def chosen(outputs: Tensor) -> Tensor:
            return (outputs * own.view(*own.shape, *[1] * (outputs.dim() - 2)).to(outputs)).sum(1)

        outputs = self.network(seen)
        return [chosen(scale) for scale in outputs] if isinstance(outputs, list) else chosen(outputs)
