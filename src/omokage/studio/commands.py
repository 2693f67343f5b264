"""Faces as the command lines that draw them again, pixel for pixel.

Seeds are named as seeds. Whatever seeds and settings alone do not give, such as a variation, needs a latent
file beside the command, which the server writes.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..abilities import HasDensity, HasStyles
from ..model import Model
from ..sampling import seed_ranges
from . import faces
from .controls import Offered
from .faces import Face, Mix, Seed

LATENTS = "{latents}"  # stands for the name of the latent file


@dataclass(frozen=True)
class Line:
    """A command line.

    Attributes:
        text: the command; several are joined by ``&&``.
        latents: the faces whose points the latent file has; empty: no file is needed.
        name: of that file.
    """

    text: str
    latents: Sequence[Face] = ()
    name: str = ""


def command(
    offered: Offered, action: str, wanted: Sequence[Face], *, name: str = "", directions: str = "directions"
) -> Line:
    """The command that makes a face, a picture of several, a film, or an inversion.

    Args:
        action: "walk" or "film": a film from face to face; "invert": the search for a picture; anything
            else: the faces themselves.
        name: of the picture that was brought.
        directions: where the directions of the model are, for a command.
    """
    if action == "invert":
        picture = name if name and not name.startswith("-") else "drawing.png"
        return Line(_joined("omokage invert", shlex.quote(picture), _model(offered), "-o inverted.png"))
    film = action in ("walk", "film") and len(wanted) > 1
    if (plain := _seeds(wanted)) is not None:
        settings = _settings(offered.model, wanted[0])
        if film:
            given = " ".join(map(str, plain))
            return Line(_joined("omokage walk", given, settings, _model(offered), "-o walk.mp4"))
        return Line(_joined("omokage sample", seed_ranges(plain), settings, _model(offered), _out(wanted)))
    if len(wanted) == 1 and (made := _made(offered, wanted[0], directions)):
        return Line(made)
    file = "face.safetensors" if len(wanted) == 1 else "faces.safetensors"
    drawing = _drawing(offered.model, wanted[0])
    if film:
        return Line(_joined("omokage walk", file, drawing, _model(offered), "-o walk.mp4"), wanted, file)
    return Line(_joined("omokage sample", file, drawing, _model(offered), _out(wanted)), wanted, file)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _out(wanted: Sequence[Face]) -> str:
    return "-o face.png" if len(wanted) == 1 else "-o faces.png"


def _model(offered: Offered) -> str:
    """Nothing for the model that commands take anyway."""
    return "" if offered.source == "shipped" else f"-m {shlex.quote(offered.source)}"


def _seeds(wanted: Sequence[Face]) -> list[int] | None:
    """The seeds of faces that seeds and the same settings give; None: they need more."""
    if not all(map(faces.is_plain, wanted)) or len({repr(face.sampling) for face in wanted}) > 1:
        return None
    return [face.base.seed for face in wanted if isinstance(face.base, Seed)]


def _settings(model: Model, face: Face) -> str:
    """The options of sampling of a seed's face."""
    given = face.sampling
    psi = f"{'--temperature' if model.can(HasDensity) else '--psi'}={given.psi!r}" if given.psi != 1 else ""
    return _joined(psi, _drawing(model, face, seed=True))


def _drawing(model: Model, face: Face, seed: bool = False) -> str:
    """The options of drawing a point; conditions are in w already."""
    own = dict(face.settings)
    if not seed:  # they have done their work
        own.pop("layers", None)
        own.pop("critic", None)
    options = [f"--{key} {value}" for key, value in own.items() if value != getattr(faces.PLAIN, key)]
    conditions = face.conditions if seed else faces.drawing_settings(model, face).conditions
    options += [f"--condition {shlex.quote(f'{key}={value}')}" for key, value in conditions.items()]
    return " ".join(options)


def _made(offered: Offered, face: Face, directions: str) -> str:
    """Commands that make a face from seeds by steering or mixing; "": there are none."""
    model, again = offered.model, "face.safetensors"
    draw = _joined("omokage sample", again, _drawing(model, face), _model(offered), "-o face.png")
    if isinstance(face.base, Seed) and face.edits:
        along = [f"--along {shlex.quote(f'{key}={steps!r}')}" for key, steps in face.edits.items()]
        keep = f"--keep {shlex.quote(','.join(face.keep))}" if face.keep else ""
        steer = _joined(
            "omokage steer", str(face.base.seed), *along, keep, _settings(model, face), _model(offered),
            f"-d {shlex.quote(directions)} -o steered.png --save-latents {again}",
        )  # fmt: skip
        return f"{steer} && {draw}"
    if isinstance(face.base, Mix) and not face.edits and face.psi == 1 and model.can(HasStyles):
        one, other = face.base.a, face.base.b
        pair = _seeds([one, other])
        if pair is not None and dict(face.settings) == dict(one.settings):
            mix = _joined(
                "omokage mix", str(pair[0]), f"--from {pair[1]} --styles {shlex.quote(face.base.layers)}",
                _settings(model, one), _model(offered), f"-o mixed.png --save-latents {again}",
            )  # fmt: skip
            return f"{mix} && {draw}"
    return ""
