"""Freezing: layers of the generator that do not learn for a while, or never."""

from collections.abc import Sequence

from torch import nn

from ..errors import UserError


class Freeze:
    """The generator's parameters whose names begin with one of ``names``.

    With few faces, early layers that keep their weights keep the kinds of faces that they know (Mo et al.
    2020, "Freeze the Discriminator", arXiv 2002.10964, does the same with the discriminator). When a
    generator grows, a new layer learns at first while all others wait (Sauer et al. 2022, arXiv 2202.00273,
    section 3.3). Steps are quicker too, because gradients end where the frozen layers begin.

    Raises:
        UserError: no parameter begins with one of the names.

    >>> network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> Freeze(network, ["0."], kimg=2).at(1999)
    >>> [parameter.requires_grad for parameter in network.parameters()]
    [False, False, True, True]
    """

    def __init__(self, generator: nn.Module, names: Sequence[str], kimg: float = 0.0) -> None:
        """``kimg``: thousands of images until they learn too; 0: never."""
        parameters = dict(generator.named_parameters())
        for name in names:
            if not any(one.startswith(name) for one in parameters):
                parts = sorted({".".join(one.split(".")[:2]) for one in parameters})
                raise UserError(
                    f"training.freeze: no weights of the generator begin with {name!r}; there are "
                    f"{', '.join(parts[:12])}{' …' if len(parts) > 12 else ''}"
                )
        self.parameters = [
            parameter
            for name, parameter in parameters.items()
            if name.startswith(tuple(names)) and parameter.requires_grad
        ]
        learning = [parameter for parameter in parameters.values() if parameter.requires_grad]
        if names and not kimg and len(self.parameters) == len(learning):
            raise UserError("training.freeze: all weights of the generator are named, so nothing would learn")
        self.images = 1000 * kimg if kimg else float("inf")

    def at(self, images: int) -> None:
        """Freeze them, or let them learn, after ``images`` images of training."""
        for parameter in self.parameters:
            parameter.requires_grad_(images >= self.images)
            if images < self.images:
                parameter.grad = None
