"""What a model has and lacks: the controls that the page shows, and for each missing one a sentence why."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import cutout
from ..abilities import Encodes, HasStyles
from ..attributes import ATTRIBUTES, AttributeNetwork
from ..errors import UserError
from ..explore.directions import Directions, beside, read_directions
from ..explore.mixing import KINDS, style_ranges
from ..explore.points import default_space
from ..model import Model, load_model
from ..terms import terms
from .faces import ID

TERMS = """Terms of the weights that come with Omokage

They are for research and personal use. You may use them, and what they draw, for study, teaching, measurement
and your own pleasure, and share both with these terms.

The pictures that they were trained on belong to their artists, who were not asked. The contributors of
Omokage hold no rights in those pictures and can pass none on. To sell what a model draws, train one on
pictures that you have the rights to.

There is no warranty of any kind.
"""

# Middle colours of the values of hair and eyes.
SWATCHES: Mapping[str, str] = {
    "aqua": "#4fc4cf",
    "black": "#2b2730",
    "blonde": "#ecd08a",
    "blue": "#4468c8",
    "brown": "#7b4f33",
    "gray": "#8f8f98",
    "green": "#4f9a55",
    "orange": "#e58a3c",
    "pink": "#ec93b4",
    "purple": "#8458b3",
    "red": "#c23b40",
    "white": "#f1eff3",
    "yellow": "#e3c83f",
}


@dataclass(frozen=True)
class Offered:
    """A model that the studio offers.

    Attributes:
        model: the model.
        source: as commands name it: a run, a snapshot, or "shipped".
        directions: along which its faces are steered; None: there are none.
        no_directions: why there are none, in one sentence.
        place: their file, for commands.
    """

    model: Model
    source: str
    directions: Directions | None = None
    no_directions: str = ""
    place: str = "directions"

    @property
    def id(self) -> str:
        """The model's name in face documents."""
        return self.model.snapshot_hash[:ID]


def directions_for(
    model: Model, given: Path | None, source: str
) -> tuple[Directions | None, str, Path | None]:
    """The directions of a model and their file, and if there are none, the sentence that says why.

    They are looked for in ``given``, then beside the model: in its folder, in a folder ``directions`` in it,
    or in a file with the snapshot's name and ``.directions.safetensors``.

    Raises:
        UserError: a file that was given and cannot be read.
    """
    make = f"omokage directions {source} -o directions/ makes them"
    places = [] if model.path is None else beside(model.path)
    if given is not None:
        found = read_directions(given)
        if found.snapshot == model.snapshot_hash:
            return *_usable(found, model, make), given
    for place in places:
        if place.is_file():
            try:
                found = read_directions(place)
            except UserError:
                continue
            if found.snapshot == model.snapshot_hash:
                return *_usable(found, model, make), place
    return None, f"This model has no directions yet; {make}.", None


def _usable(found: Directions, model: Model, make: str) -> tuple[Directions | None, str]:
    if found.space != default_space(model):
        return None, f"Its directions are in {found.space}, and the studio steers in w; {make}."
    return found, ""


def name_of(source: str) -> str:
    """A short name of a model for people: the last part of its path.

    >>> name_of("runs/fast-128"), name_of("shipped")
    ('fast-128', 'shipped')
    """
    path = Path(source)
    if path.suffix == ".safetensors" and path.stem.startswith("snapshot-"):
        path = path.parent
    return (path.resolve() if source in (".", "..") else path).stem or source


def described(offered: Offered, network: AttributeNetwork | None, language: str = "en") -> dict[str, Any]:
    """What the page must know of a model. ``network``: chooses samples of a model without conditions."""
    model = offered.model
    styles, steer, told = model.can(HasStyles), offered.directions is not None, terms(model, language)
    chosen = choices(model, network)
    can = {
        "styles": styles,
        "encode": model.can(Encodes),
        "steer": steer,
        "mix_layers": styles,
        "conditions": bool(model.conditions),
        "critic": model.critic is not None,
        "invert": True,
        "cutout": cutout.available(),
        "video": True,
    }
    return {
        "id": offered.id,
        "name": name_of(offered.source),
        "title": model.recipe.title,
        "resolution": list(model.resolution),
        "images_seen": model.images_seen,
        "terms": told.sentence,
        "terms_url": "/terms" if told.shipped else "",
        "shipped": told.shipped,
        "can": can,
        "why_not": _why_not(offered, can, chosen),
        "settings": _settings(model),
        "layers": _layers(model),
        "directions": _directions(offered.directions),
        "choices": chosen,
        "conditions": {name: list(values) for name, values in model.conditions.items()},
        "keeps": [] if network is None or not steer else list(network.trusted),
        "seeds_start": 0,
    }


def _why_not(offered: Offered, can: Mapping[str, bool], model_choices: Mapping[str, Any]) -> dict[str, str]:
    family = offered.model.recipe.model["name"]
    told = {
        "styles": f"A {family} has no styles, so psi below 0 and layers do nothing here.",
        "encode": f"A {family} has no encoder: drawings are searched for step by step, which takes longer.",
        "steer": offered.no_directions,
        "mix_layers": f"A {family} has no layers of styles to exchange; glide between two faces instead.",
        "conditions": "This model was trained without labels: faces are chosen by what is seen in them.",
        "critic": "This model has no critic; omokage critic trains one. "
        "A network that finds broken faces stands in for it.",
        "cutout": "The network that cuts faces out is not installed.",
        "choose": "The network that sees attributes cannot be read, so nothing can be fixed.",
    }
    lacks = [name for name, has in can.items() if not has]
    if not model_choices:
        lacks.append("choose")
    return {name: told[name] for name in lacks if name in told}


def _settings(model: Model) -> list[dict[str, Any]]:
    found = []
    for setting in model.settings:
        told: dict[str, Any] = {"name": setting.name, "help": setting.help, "default": setting.default}
        if setting.choices:
            told["choices"] = list(setting.choices)
        else:
            told |= {"low": setting.low, "high": setting.high}
            if setting.name == "layers":
                told["high"] = model.layers
        found.append(told)
    return found


def _layers(model: Model) -> dict[str, list[int]]:
    """The layers of each kind, counted from 1; none without styles."""
    if not model.can(HasStyles):
        return {}
    ranges = style_ranges(model.layer_sizes)
    return {kind: [layer + 1 for layer in layers] for kind, layers in zip(KINDS, ranges, strict=True)}


def _directions(directions: Directions | None) -> list[dict[str, Any]]:
    if directions is None:
        return []
    return [
        {
            "name": row.name,
            "attribute": row.attribute,
            "value": row.value,
            "low": -row.limit,
            "high": row.limit,
            "chosen": round(row.chosen, 1),
            "reach": row.reach,
            "leakage": row.worst[1] if row.leakage else None,
            "swatch": SWATCHES.get(row.value) if row.attribute in ("hair", "eyes") else None,
        }
        for row in directions.rows
        if row.offered
    ]


def choices(model: Model, network: AttributeNetwork | None) -> dict[str, list[str]]:
    """What may be fixed when faces are rolled: conditions, or else attributes that are recognised well."""
    if model.conditions:
        return {
            name: [value for value in values if value != "unknown"]
            for name, values in model.conditions.items()
        }
    if network is None:
        return {}
    return {name: list(ATTRIBUTES[name].values) for name in network.offered}


def open_model(source: str, directions: Path | None = None) -> Offered:
    """A model for the studio, with its directions if there are any.

    Raises:
        UserError: as `omokage.model.load_model`.
    """
    model = load_model(source)
    found, why_not, place = directions_for(model, directions, source)
    return Offered(model, source, found, why_not, str(place or "directions"))
