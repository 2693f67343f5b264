"""The recipe of a picture: what is needed to make its faces again, as text in a PNG.

Two text chunks hold it. ``omokage`` is JSON with everything. ``parameters`` has the form that gallery tools
of this field read: a line of words, then ``Name: value`` pairs.
"""

import base64
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from omokage import __version__
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.points import Points, joined, of_latents, of_seeds
from omokage.model import About, Model
from omokage.sampling import seed_ranges
from omokage.settings import Settings

KEY, PARAMETERS = "omokage", "parameters"
FORMAT = 1
# Readers such as Pillow refuse a text chunk of 1 MiB or more.
MAX_CHUNK = 1_000_000
MAX_FACES = 1_000_000
PAGE = "page"  # a picture that shows faces, but that is not made again from them alone


@dataclass(frozen=True)
class Provenance:
    """The recipe of a picture.

    Attributes:
        kind: what the picture is: "face", "grid", "sheet" or the name of a command, such as "walk".
        about: the model that drew it.
        faces: the faces that it was made from, one entry each. An entry has "seed", or "z" or "w" with the
            coordinates (see `packed`), and what is known about where the face comes from: "name", "file",
            "parents", "edits".
        settings: the settings of sampling; psi may have one number for each face.
        arguments: how the picture was made from the faces, such as columns or strengths.
        upscale: how the faces were enlarged: "factor" and "name"; "transparent": their background was cut
            out; empty: neither.
        size: width and height of a face in pixels, (0, 0): unknown.

    >>> told = Provenance("face", About("fast", 12, "ab" * 32), [{"seed": 17}], Settings(psi=0.7))
    >>> Provenance.of_text(told.text()) == told
    True
    """

    kind: str
    about: About
    faces: Sequence[Mapping[str, Any]]
    settings: Settings = field(default_factory=Settings)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    upscale: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the faces that are seeds alone."""
        return [int(face["seed"]) for face in self.faces if "seed" in face]

    @property
    def complete(self) -> bool:
        """Whether every face has a seed or coordinates, so that it can be drawn again."""
        return bool(self.faces) and all({"seed", "z", "w"} & set(face) for face in self.faces)

    def text(self) -> dict[str, str]:
        """The text chunks. Coordinates that would make a chunk too large are left out; the text says so."""
        written = self._json()
        if len(written) > MAX_CHUNK:
            bare = [_without_points(face) for face in self.faces]
            written = replace(self, faces=bare, arguments={**self.arguments, "latents": "left out"})._json()
        if len(written) > MAX_CHUNK:
            written = replace(self, faces=[], arguments={"faces": "left out"})._json()
        return {KEY: written, PARAMETERS: self.parameters()}

    def _json(self) -> str:
        told = {
            "format": FORMAT,
            "version": __version__,
            "kind": self.kind,
            "model": {
                "recipe": self.about.recipe,
                "images": self.about.images_seen,
                "snapshot": self.about.snapshot_hash,
            },
            "settings": settings_json(self.settings),
            "faces": _grouped(self.faces),
            "arguments": dict(self.arguments),
            "upscale": dict(self.upscale),
            "size": list(self.size),
        }
        return json.dumps({key: value for key, value in told.items() if value not in ({}, [0, 0])})

    def parameters(self) -> str:
        """The recipe as gallery tools read it: words, then ``Name: value`` pairs in one line.

        >>> about = About("fast", 12_000, "0123456789abcdef")
        >>> told = Provenance("face", about, [{"seed": 17}], Settings(psi=0.7), size=(64, 64))
        >>> print(told.parameters())  # doctest: +ELLIPSIS
        anime face
        Steps: 1, Sampler: Omokage, Seed: 17, Size: 64x64, Model hash: 0123456789, Model: fast, psi: 0.7, ...
        """
        words = ["anime face" if len(self.faces) == 1 else "anime faces"]
        words += [f"{name} {value}" for name, value in self.settings.conditions.items()]
        for face in self.faces[:1]:
            for edit in face.get("edits", ()):
                words += [f"{key} {value}" for key, value in dict(edit).items()]
        pairs: dict[str, str] = {"Steps": "1", "Sampler": "Omokage"}
        if self.seeds:
            pairs["Seed"] = str(self.seeds[0])
        if self.size != (0, 0):
            factor = int(self.upscale.get("factor", 1))
            pairs["Size"] = f"{self.size[0] * factor}x{self.size[1] * factor}"
        pairs |= {"Model hash": self.about.snapshot_hash[:10], "Model": self.about.recipe}
        pairs |= {name: value for name, value in self.settings.text().items() if name != "conditions"}
        if len(self.seeds) > 1:
            pairs["Seeds"] = seed_ranges(self.seeds)
        pairs["Version"] = f"omokage {__version__}"
        line = ", ".join(f"{name}: {_quoted(value)}" for name, value in pairs.items())
        return f"{', '.join(' '.join(one_line(word).split(',')) for word in words)}\n{line}"

    def lines(self) -> list[tuple[str, str]]:
        """The recipe in words, as names with values, for a terminal."""
        found = [
            ("kind", self.kind),
            ("model", f"{self.about.recipe}, {self.about.images_seen:,} images seen"),
            ("snapshot", self.about.snapshot_hash),
        ]
        found += list(self.settings.text().items())
        if self.seeds and len(self.seeds) == len(self.faces):
            found.append(("seeds", seed_ranges(self.seeds)))
        else:
            for row, face in enumerate(self.faces[:100], 1):
                told = {key: value for key, value in face.items() if key not in ("z", "w")}
                where = " ".join(f"latent in {space}" for space in ("z", "w") if space in face)
                words = [where, *(f"{key} {_words(value)}" for key, value in told.items())]
                found.append((f"face {row}", ", ".join(word for word in words if word)))
            if len(self.faces) > 100:
                found.append(("faces", f"{len(self.faces):,} in all"))
        found += [(name, _words(value)) for name, value in self.arguments.items() if name not in _NUMBERS]
        if self.upscale.get("transparent"):
            found.append(("background", "cut out"))
        if "factor" in self.upscale:
            found.append(("upscale", f"{self.upscale.get('factor')} times by {self.upscale.get('name')}"))
        return [(one_line(name, 40), value) for name, value in found]

    @classmethod
    def of_text(cls, text: Mapping[str, Any], most: int = MAX_FACES) -> "Provenance | None":
        """The recipe in the text chunks of a picture; None: there is none.

        Pictures of earlier versions have a chunk for each of recipe, snapshot, seeds and psi. With more
        than ``most`` faces, a recipe is refused.

        Raises:
            ValueError: a recipe that cannot be read.
        """
        if isinstance(text.get(KEY), str):
            return cls._of_json(text[KEY], most)
        if str(text.get("Software", "")).startswith("omokage ") and "snapshot" in text and "seeds" in text:
            return cls._of_earlier(text, most)
        return None

    @classmethod
    def _of_json(cls, written: str, most: int) -> "Provenance":
        told = json.loads(written)
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise ValueError("a recipe of another version")
        model = told["model"]
        about = About(str(model["recipe"]), int(model["images"]), str(model["snapshot"]))
        width, height = told.get("size", (0, 0))
        return cls(
            str(told["kind"]),
            about,
            _ungrouped(told.get("faces", []), most),
            settings_of(told.get("settings", {})),
            dict(told.get("arguments", {})),
            dict(told.get("upscale", {})),
            (int(width), int(height)),
        )

    @classmethod
    def _of_earlier(cls, text: Mapping[str, Any], most: int) -> "Provenance":
        about = About(str(text["recipe"]), int(text["images seen"]), str(text["snapshot"]))
        faces = _ungrouped([{"seeds": str(text["seeds"])}], most)
        psis = tuple(float(psi) for psi in str(text.get("psi", "1")).split(","))
        pairs = [pair.partition("=") for pair in str(text.get("conditions", "")).split(", ") if pair]
        settings = Settings(
            psi=psis[0] if len(psis) == 1 else psis,
            conditions={name: value for name, _, value in pairs},
            guidance=float(text.get("guidance", 0)),
            jacobi=int(text.get("Jacobi iterations", 0)),
            noise=str(text.get("noise", "constant")),
            layers=int(text.get("layers truncated", 0)),
            critic=float(text.get("critic", 1)),
        )
        columns: dict[str, Any] = {"columns": int(text["columns"])} if "columns" in text else {}
        if "Title" in text:
            kind = "sheet" if columns else PAGE
            columns |= {"title": str(text["Title"])} if columns else {}
        else:
            kind = "grid" if columns else "face" if len(faces) == 1 else PAGE
        return cls(kind, about, faces, settings, columns)


def _without_points(face: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in face.items() if key not in ("z", "w")}


def _quoted(value: str) -> str:
    return json.dumps(value) if "," in value or ":" in value else value


def _words(value: Any) -> str:
    """A value of a recipe in words; lists and entries without brackets and quotes.

    >>> _words([{"seed": 3}, {"hair": "blue"}])
    'seed 3; hair blue'
    """
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_words(one)}" for key, one in value.items() if key not in _NUMBERS)
    if isinstance(value, list | tuple):
        mark = "; " if any(isinstance(one, Mapping) for one in value) else ","
        return mark.join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


_NUMBERS = ("z", "w", "vector", "place", "goals")  # keys of coordinates, which are not printed


def settings_json(settings: Settings) -> dict[str, Any]:
    """Settings as JSON, without defaults.

    >>> settings_json(Settings(psi=0.7, conditions={"hair": "red"}))
    {'psi': 0.7, 'conditions': {'hair': 'red'}}
    """
    plain, told = asdict(Settings()), asdict(settings)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in told.items()
        if value != plain[key]
    }


def settings_of(told: Mapping[str, Any]) -> Settings:
    """Settings from `settings_json`.

    Raises:
        ValueError: something else.
    """
    known = {each.name for each in fields(Settings)}
    if not isinstance(told, dict) or set(told) - known:
        raise ValueError("unknown settings")
    given = dict(told)
    for name in ("guidance", "jacobi", "layers", "critic", "sampler_steps"):
        if name in given and not isinstance(given[name], int | float):
            raise ValueError(f"{name} is not a number")
    if not isinstance(given.get("sampler", ""), str):
        raise ValueError("sampler is not a name")
    psi = given.get("psi", 1.0)
    given["psi"] = tuple(float(one) for one in psi) if isinstance(psi, list) else float(psi)
    conditions = given.get("conditions", {})
    if not isinstance(conditions, dict):
        raise ValueError("conditions are not names with values")
    given["conditions"] = {str(name): str(value) for name, value in conditions.items()}
    if isinstance(given.get("noise"), list):
        given["noise"] = [str(one) for one in given["noise"]]
    try:
        return Settings(**given)
    except UserError as error:
        raise ValueError(str(error)) from None


def _grouped(faces: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries with neighbouring plain seeds as one entry {"seeds": "0-63"}."""
    found: list[dict[str, Any]] = []
    run: list[int] = []

    def flush() -> None:
        if len(run) == 1:
            found.append({"seed": run[0]})
        elif run:
            found.append({"seeds": seed_ranges(run)})
        run.clear()

    for face in faces:
        if set(face) == {"seed"}:
            run.append(int(face["seed"]))
        else:
            flush()
            found.append(dict(face))
    flush()
    return found


def _ungrouped(entries: Any, most: int) -> list[dict[str, Any]]:
    if not isinstance(entries, list):
        raise ValueError("faces are not a list")
    found: list[dict[str, Any]] = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError("a face is not an entry")
        if "seeds" in entry:
            for part in str(entry["seeds"]).split(","):
                first, _, last = part.partition("-")
                low, high = int(first), int(last or first)
                if not 0 <= low <= high < 2**63 or len(found) + high - low >= most:
                    raise ValueError("too many seeds")
                found += [{"seed": seed} for seed in range(low, high + 1)]
        else:
            found.append(entry)
    return found


def packed(values: Tensor) -> dict[str, Any]:
    """Coordinates of one point as an entry: exact, as float32 in base64.

    Equal rows of a style (L, width), which mapping gives, are stored once.

    >>> packed(torch.zeros(2, 3))
    {'shape': [2, 3], 'rows': 1, 'float32': 'AAAAAAAAAAAAAAAA'}
    """
    array = np.ascontiguousarray(values.detach().cpu().numpy(), "<f4")
    alike = array.ndim == 2 and len(array) > 1 and bool((array == array[:1]).all())
    stored = array[:1] if alike else array
    written = base64.b64encode(stored.tobytes()).decode("ascii")
    return {"shape": list(array.shape), **({"rows": 1} if alike else {}), "float32": written}


def unpacked(entry: Any, shape: Sequence[int]) -> Tensor:
    """The coordinates that `packed` wrote, float32 of ``shape``.

    Raises:
        ValueError: another shape, or damaged.
    """
    if not isinstance(entry, dict) or list(entry.get("shape", ())) != list(shape):
        told = entry.get("shape") if isinstance(entry, dict) else None
        raise ValueError(f"coordinates of shape {told}, this model has {list(shape)}")
    values = np.frombuffer(base64.b64decode(str(entry["float32"]), validate=True), "<f4")
    stored = (1, *shape[1:]) if entry.get("rows") == 1 else tuple(shape)
    if values.size != int(np.prod(stored)) or not np.isfinite(values).all():
        raise ValueError("damaged coordinates")
    return torch.from_numpy(values.reshape(stored).astype(np.float32)).expand(*shape).clone()


def settings_for(points: Points, settings: Settings) -> Settings:
    """``settings`` for the recipe of points: in z with the psi of each point."""
    if points.space == "w":
        return settings
    return replace(settings, psi=points.psi[0] if len(set(points.psi)) == 1 else points.psi)


def faces_of(points: Points, origins: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries for `Provenance.faces`: the origins, with coordinates for those that have no seed.

    An origin with a seed must be that seed's point with the settings of the recipe, not an edited one: pass
    `edited` for those. In z the settings of the recipe must have each point's psi, see `settings_for`.
    """
    return [
        dict(origin) if "seed" in origin else {**origin, points.space: packed(value)}
        for origin, value in zip(origins, points.values, strict=True)
    ]


def fits(points: Points, origins: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the coordinates of the faces that have no seed fit into the text of a picture."""
    number = sum("seed" not in origin for origin in origins)
    return number * (points.values[0].numel() * 16 / 3 + 200) < MAX_CHUNK


def edited(origin: Mapping[str, Any], *edits: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """The origin of a face that was made from another one by ``edits``. The other one becomes its parent.

    >>> edited({"seed": 3}, {"hair": "blue"})
    {'parents': [{'seed': 3}], 'edits': [{'hair': 'blue'}]}
    """
    if "edits" in origin and "seed" not in origin:
        earlier, parents = [*origin["edits"]], [*origin.get("parents", ())]
    else:
        earlier, parents = [], [_without_points(origin)]
    found: dict[str, Any] = {"parents": parents, "edits": [*earlier, *map(dict, edits)]}
    return {"name": name, **found} if name else found


def points_of(model: Model, told: Provenance, space: str) -> Points:
    """The points of a recipe's faces, in order. In w, points that are known in z are mapped to w.

    Raises:
        UserError: faces without coordinates, coordinates of another model, or w is asked back to z.
        ValueError: damaged coordinates.
    """
    settings, psis = told.settings, told.settings.psi
    settings.of(len(told.faces))
    stacks = []
    for row, face in enumerate(told.faces):
        psi = psis[row] if isinstance(psis, tuple) else psis
        own = replace(settings, psi=psi)
        if "seed" in face:
            stacks.append(of_seeds(model, [int(face["seed"])], own, space))  # type: ignore[arg-type]
        elif "z" in face:
            z = unpacked(face["z"], model.latent_shape)[None]
            stacks.append(of_latents(model, z, own, space))  # type: ignore[arg-type]
        elif "w" in face:
            if space != "w":
                raise UserError("it is a face in w, which has no z; leave --in z out")
            stacks.append(Points(w=unpacked(face["w"], _style_shape(model))[None]))
        else:
            raise UserError("its recipe has no latents; they were too many for the picture's text")
    return joined(stacks)


def _style_shape(model: Model) -> tuple[int, int]:
    """Shape of one point in w: (layers, width)."""
    z = torch.zeros(1, *model.latent_shape)
    _, layers, width = model.mapping(z).shape
    return layers, width


def read_provenance(path: Path) -> Provenance | None:
    """The recipe in a PNG file; None: it is another file, or a PNG without one.

    Raises:
        UserError: it has a recipe, and this version cannot read it.
    """
    try:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                return None
    except OSError as error:
        raise UserError(f"{one_line(path)}: cannot read: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG",)) as picture:
                text: dict[str, Any] = {str(key): value for key, value in picture.info.items()}
                if KEY not in text and "Software" not in text:
                    picture.load()  # text chunks may follow the pixels
                    text = {str(key): value for key, value in picture.info.items()}
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None  # damaged: whoever reads its pixels says so
    try:
        return Provenance.of_text(text)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{one_line(path)}: its recipe cannot be read ({one_line(error, 80)}); it may be "
            "of a later version"
        ) from None
