"""The attribute network: estimates hair colour, eye colour, glasses and more of a face, with a confidence.

Two frozen descriptions of a picture go in: feature maps of EfficientNet-Lite0, which tell where things are,
and a map of how much of each of 32 colours there is, which tells what colour they have. A few thousand
weights for each attribute decide where to look and what is seen. For the colours of hair and eyes, the
regressions on the tag encoder's features (`omokage.data.steps.colours`) have a say too: the probabilities of
both are multiplied, theirs with a small weight. Attributes of two values are judged as if both were equally
frequent.
``bench/train_attributes.py`` trains the weights.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UserError
from .models.efficientnet_lite import EfficientNetLite0
from .tag_encoder import network_input, tag_encoder

WEIGHTS = "attributes.safetensors"
SIDE = 128  # px, what EfficientNet-Lite0 sees
COLOUR_SIDE = 64  # px, where colours are counted
GRID = 16  # cells along a side of the maps
FINE, COARSE, COLOURS = 64, 112, 32  # channels of the maps
BLOCKS = 11  # of EfficientNet-Lite0: up to stride 16
TAPS = (3, 5, 11)
COLOUR_WIDTH = 12.0  # of a colour, in Lab
INNER = slice(6, 14), slice(4, 12)  # rows and columns of cells: eyes, nose and mouth
LEAST = 0.8  # balanced accuracy below which an attribute has no slider
FEWEST = 20  # faces of its rarest value below which that is not known well enough
SURE = 0.6  # estimates with less confidence count neither in regressions nor as changes
TRUSTED = 0.75, 0.95  # balanced accuracy on real faces, and accuracy on drawn ones: changes are told
SAY = 0.3  # weight of the regressions on the tag encoder, which know tags well and drawn faces badly


@dataclass(frozen=True)
class Attribute:
    """One thing that the network estimates.

    Attributes:
        name: its name in commands, tables and files.
        values: what it can be. With two values, a positive step goes towards the second.
        what: in words.
    """

    name: str
    values: tuple[str, ...]
    what: str

    @property
    def binary(self) -> bool:
        """Whether there are just two values."""
        return len(self.values) == 2


_COMMON = ("aqua", "black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red")
ATTRIBUTES: dict[str, Attribute] = {
    each.name: each
    for each in (
        Attribute("hair", tuple(sorted((*_COMMON, "blonde", "white"))), "hair colour"),
        Attribute("eyes", (*_COMMON, "yellow"), "eye colour"),
        Attribute("glasses", ("no", "yes"), "glasses"),
        Attribute("mouth", ("closed", "open"), "open mouth"),
        Attribute("lids", ("open", "shut"), "an eye that is shut: asleep, laughing or winking"),
        Attribute("length", ("short", "long"), "hair that goes on below the chin"),
        Attribute("fringe", ("short", "long"), "fringe that reaches over the eyes or between them"),
        Attribute("presentation", ("feminine", "masculine"), "masculine look"),
        Attribute("skin", ("light", "dark"), "tanned or dark skin"),
    )
}


def known(name: str) -> Attribute:
    """The attribute of that name; `UserError` with the list of names if there is none."""
    from difflib import get_close_matches

    if name in ATTRIBUTES:
        return ATTRIBUTES[name]
    near = get_close_matches(name, ATTRIBUTES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"no attribute {name!r}: {hint}there are {', '.join(ATTRIBUTES)}")


def known_value(name: str, value: str) -> int:
    """The place of ``value`` among the values of an attribute; `UserError` if there is no such value.

    >>> known_value("glasses", "yes")
    1
    """
    values = known(name).values
    if value not in values:
        raise UserError(f"{name} {value!r}: choose from {', '.join(values)}")
    return values.index(value)


@dataclass(frozen=True)
class Maps:
    """The frozen description of pictures.

    Attributes:
        fine: (B, 64, 16, 16), features at strides 4 and 8.
        coarse: (B, 112, 8, 8), features at stride 16.
        colours: (B, 32, 16, 16), the share of each colour in a cell; they sum to 1.
    """

    fine: Tensor
    coarse: Tensor
    colours: Tensor


@dataclass(frozen=True)
class Estimates:
    """What the network sees in N faces.

    probabilities: for each attribute float32 (N, values); rows sum to 1.
    """

    probabilities: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.probabilities.values())))

    def places(self, name: str) -> np.ndarray:
        """The most likely value of each face as its place among the values, int (N,)."""
        return self.probabilities[name].argmax(1)

    def values(self, name: str) -> list[str]:
        """The most likely value of each face."""
        return [ATTRIBUTES[name].values[i] for i in self.places(name)]

    def confidence(self, name: str) -> np.ndarray:
        """The probability of the most likely value, float32 (N,)."""
        return self.probabilities[name].max(1)

    def changes(self, after: "Estimates", name: str) -> float:
        """The share of faces whose value differs in ``after``, among those with sure estimates in both.

        Estimates below `SURE` do not count, because they flip for no reason; 0 if there are no sure ones.
        """
        sure = (self.confidence(name) >= SURE) & (after.confidence(name) >= SURE)
        return float((self.places(name) != after.places(name))[sure].mean()) if sure.any() else 0.0

    def rows(self, chosen: np.ndarray) -> "Estimates":
        """Some of the faces; ``chosen``: bool (N,) or their numbers."""
        return Estimates({name: each[chosen] for name, each in self.probabilities.items()})

    def face(self, number: int) -> dict[str, tuple[str, float]]:
        """For each attribute the value of one face and its confidence, rounded to three digits."""
        return {
            name: (ATTRIBUTES[name].values[int(row[number].argmax())], round(float(row[number].max()), 3))
            for name, row in self.probabilities.items()
        }

    @staticmethod
    def joined(parts: "Sequence[Estimates]") -> "Estimates":
        """The faces of all parts, in order."""
        names = parts[0].probabilities
        return Estimates(
            {name: np.concatenate([part.probabilities[name] for part in parts]) for name in names}
        )


def lab(rgb: Tensor) -> Tensor:
    """sRGB (..., 3) in 0 to 1 to CIE Lab with the white point D65 (IEC 61966-2-1, CIE 15).

    >>> lab(torch.ones(1, 3)).round().abs().tolist()
    [[100.0, 0.0, 0.0]]
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    to_xyz = rgb.new_tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    )
    xyz = linear @ to_xyz.T / rgb.new_tensor([0.950456, 1.0, 1.088754])
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


class Describer:
    """Pictures to `Maps`, with EfficientNet-Lite0 and the colours of the weight file; nothing is trained.

    colours: Lab (32, 3).
    """

    def __init__(self, colours: Tensor) -> None:
        self.network = EfficientNetLite0.pretrained()
        self.colours = colours.float()

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> Maps:
        """uint8 (B, H, W, 3). Sides are resized to 128 px and 64 px by antialiased bilinear filters."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
        x = torch.from_numpy(np.require(images, requirements=("C", "W"))).permute(0, 3, 1, 2).float()
        seen = (_resized(x, SIDE) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        taps = []
        seen = self.network.stem(seen)
        for number, block in enumerate(self.network.blocks[:BLOCKS], 1):
            seen = block(seen)
            if number in TAPS:
                taps.append(seen)
        shares = []
        for picture in _resized(x, COLOUR_SIDE):  # one at a time: the distances to 32 colours are large
            pixels = lab((picture / 255).clamp(0, 1).permute(1, 2, 0))
            near = (-(pixels[:, :, None] - self.colours).square().sum(-1) / (2 * COLOUR_WIDTH**2)).softmax(-1)
            shares.append(F.avg_pool2d(near.permute(2, 0, 1), COLOUR_SIDE // GRID))
        fine = torch.cat([F.avg_pool2d(taps[0], 2), taps[1]], 1)
        return Maps(fine.contiguous(), taps[2].contiguous(), torch.stack(shares))


def _resized(x: Tensor, side: int) -> Tensor:
    if x.shape[2:] == (side, side):
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)


class AttributeHeads(nn.Module):
    """`Maps` to logits of every attribute.

    The maps are joined at 16x16 cells. For each attribute, two maps of attention over the cells are learned;
    the joined features and the shares of colours under each of them go through a small network.
    """

    def __init__(self, width: int = 64, looks: int = 2, hidden: int = 64, dropout: float = 0.25) -> None:
        super().__init__()
        self.looks = looks
        self.fine = nn.Conv2d(FINE, width, 1)
        self.coarse = nn.Conv2d(COARSE, width, 1)
        self.colour = nn.Conv2d(COLOURS, width, 1)
        self.spread = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mix = nn.Conv2d(width, width, 1)
        self.look = nn.Conv2d(width, looks * len(ATTRIBUTES), 1)
        seen = looks * (width + COLOURS)
        self.decide = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(seen),
                    nn.Linear(seen, hidden),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(hidden, len(each.values)),
                )
                for name, each in ATTRIBUTES.items()
            }
        )

    def forward(self, maps: Maps) -> dict[str, Tensor]:
        """Logits (B, values) for each attribute."""
        coarse = F.interpolate(self.coarse(maps.coarse), scale_factor=2.0, mode="bilinear")
        x = F.relu(self.fine(maps.fine) + coarse + self.colour(maps.colours * 4))
        x = F.relu(x + self.mix(F.relu(self.spread(x))))
        look = self.look(x).flatten(2).softmax(2)  # (B, attributes * looks, cells)
        seen = torch.cat([x, maps.colours * 8], 1).flatten(2)  # (B, width + colours, cells)
        pooled = (look @ seen.transpose(1, 2)).unflatten(1, (len(ATTRIBUTES), self.looks)).flatten(2)
        return {name: self.decide[name](pooled[:, i]) for i, name in enumerate(ATTRIBUTES)}


def is_offered(name: str, judged: dict[str, Any]) -> bool:
    """Whether an attribute is estimated well enough for a slider; ``judged``: what was measured.

    Colours of hair and eyes are: people agree no better on them than the network does.

    >>> is_offered("glasses", {"balanced": 0.92, "fewest": 22}), is_offered("lids", {"balanced": 0.79})
    (True, False)
    """
    if name in ("hair", "eyes"):
        return True
    return judged.get("balanced", 0) >= LEAST and judged.get("fewest", 0) >= FEWEST


class AttributeNetwork:
    """The attribute network with its weights.

    Attributes:
        judged: for each attribute how good it is on faces that it has not learned from, as
            ``bench/train_attributes.py`` measured it.
        file_hash: SHA-256 of the weight file; empty if the weights are not from a file.
    """

    def __init__(
        self,
        heads: AttributeHeads,
        colours: Tensor,
        temperatures: dict[str, float] | None = None,
        judged: dict[str, Any] | None = None,
        file_hash: str = "",
        on_tags: dict[str, tuple[Tensor, Tensor]] | None = None,
        shifts: dict[str, float] | None = None,
    ) -> None:
        self.describe = Describer(colours)
        self.heads = heads.eval().requires_grad_(False)
        self.temperatures = temperatures or {}
        self.judged = judged or {}
        self.file_hash = file_hash
        self.on_tags = on_tags or {}
        self.shifts = shifts or {}

    @property
    def offered(self) -> list[str]:
        """The attributes that are estimated well enough for a direction."""
        return [name for name in ATTRIBUTES if is_offered(name, self.judged.get(name, {}))]

    @property
    def trusted(self) -> list[str]:
        """The attributes whose changes mean something: those offered, and those that are nearly so."""
        return [
            name
            for name in ATTRIBUTES
            if name in self.offered
            or all(
                self.judged.get(name, {}).get(kind, 0) >= least
                for kind, least in zip(("balanced", "drawn"), TRUSTED, strict=True)
            )
        ]

    def why_not(self, name: str) -> str:
        """One line that says why an attribute has no direction."""
        judged = self.judged.get(name, {})
        if "balanced" not in judged:
            return f"{name}: not measured on real faces, so there is no slider"
        if judged["balanced"] >= LEAST:
            return (
                f"{name}: measured on only {judged['fewest']} faces of its rarest value, {FEWEST} are "
                "needed, so there is no slider"
            )
        return (
            f"{name}: recognised right in {judged['balanced']:.0%} of cases (mean of its values, "
            f"{judged['faces']:,} faces), below {LEAST:.0%}, so there is no slider"
        )

    def __call__(self, images: np.ndarray) -> Estimates:
        """Estimates for uint8 faces (N, H, W, 3) of one size, in batches of 32."""
        if not len(images):
            return Estimates({name: np.empty((0, len(a.values)), "f4") for name, a in ATTRIBUTES.items()})
        parts = [self._estimated(images[i : i + 32]) for i in range(0, len(images), 32)]
        return Estimates.joined(parts)

    def over(self, batches: Iterable[np.ndarray]) -> Estimates:
        """Estimates for batches of faces in order."""
        return Estimates.joined([self(batch) for batch in batches])

    def _estimated(self, images: np.ndarray) -> Estimates:
        return self.seen(images)[0]

    @torch.inference_mode()
    def seen(self, images: np.ndarray) -> tuple[Estimates, np.ndarray]:
        """Estimates of one batch, and what identifies each face: float32 (B, cells, channels).

        The latter are unit vectors of features in the cells of the middle of the picture, from the brows to
        the chin, where there is little hair. `apart` compares them.
        """
        maps = self.describe(images)
        logits = self.heads(maps)
        if self.on_tags:
            features = tag_encoder()(network_input(images))
            for name, regression in self.on_tags.items():
                logits[name] = both(logits[name], features, regression)
        for name, shift in self.shifts.items():
            logits[name][:, 1] += shift
        found = {
            name: (x / self.temperatures.get(name, 1.0)).softmax(1).numpy() for name, x in logits.items()
        }
        inner = maps.fine[:, :, INNER[0], INNER[1]].flatten(2).transpose(1, 2)
        return Estimates(found), F.normalize(inner, dim=2).numpy()


def both(logits: Tensor, features: Tensor, regression: tuple[Tensor, Tensor]) -> Tensor:
    """Logits of the product of two probabilities: of the heads, and of a regression on the tag encoder.

    The latter has the weight `SAY`.

    logits: (B, values). features: (B, 416). regression: weights (values, 416) and biases (values,).
    """
    weight, bias = regression
    return logits.log_softmax(1) + SAY * (features @ weight.T + bias).log_softmax(1)


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Perceptual distance of faces, float (N,), from `AttributeNetwork.seen`: 0 the same, about 1 at most.

    It is the mean over the cells of the squared distance of unit vectors, as in LPIPS without learned weights
    (Zhang et al. 2018, arXiv 1801.03924).
    """
    return np.square(one - other).sum(2).mean(1)


@lru_cache(maxsize=1)
def attribute_network() -> AttributeNetwork:
    """The shipped network.

    Raises:
        UserError: the weight file is missing or damaged.
    """
    import safetensors.torch

    file = resources.files("omokage") / "assets" / WEIGHTS
    try:
        data = file.read_bytes()
        weights = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        training = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["training"])
        colours = weights.pop("colours")
        on_tags = {
            name: (weights.pop(f"tags.{name}.weight").float(), weights.pop(f"tags.{name}.bias").float())
            for name in ("hair", "eyes")
        }
        heads = AttributeHeads()
        heads.load_state_dict({name: value.float() for name, value in weights.items()})
    except Exception as error:  # safetensors and torch raise many kinds of errors
        raise UserError(f"{file} cannot be read ({error}); reinstall omokage") from None
    return AttributeNetwork(
        heads,
        colours,
        training["temperatures"],
        training["judged"],
        hashlib.sha256(data).hexdigest(),
        on_tags,
        training["shifts"],
    )


def estimate(pixels: np.ndarray) -> dict[str, tuple[str, float]]:
    """What the shipped network sees in one face: for each attribute its value and a confidence, 0 to 1.

    pixels: uint8 (H, W, 3), a face with its hair.

    >>> sorted(estimate(np.zeros((64, 64, 3), np.uint8)))[:3]
    ['eyes', 'fringe', 'glasses']
    """
    return attribute_network()(pixels[None]).face(0)
