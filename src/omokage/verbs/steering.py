"""``omokage directions``, ``steer`` and ``select``."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import UserError
from .options import Given, Named, default_out, face_options, one_model, progress, within

if TYPE_CHECKING:
    from ..explore.steering import Steered

_CONDITIONS = ("hair", "eyes", "condition")

# Each attribute's option; the network of `omokage.attributes` estimates them.
_ATTRIBUTES = {
    "hair": "Hair colour, like blue.",
    "eyes": "Eye colour, like green.",
    "glasses": "yes or no.",
    "mouth": "open or closed.",
    "lids": "open, or shut: an eye is closed.",
    "length": "Hair: short or long.",
    "fringe": "short or long.",
    "presentation": "feminine or masculine.",
    "skin": "light or dark.",
}


def attribute_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace a verb's parameter ``wanted`` by an option for each attribute.

    These take the place of the conditions of the same names, which a model was trained with; the verb is
    called with ``wanted``: the texts by attribute.
    """
    signature = inspect.signature(verb)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name in _CONDITIONS:
            continue
        if parameter.name == "wanted":
            for name, text in _ATTRIBUTES.items():
                kind = Annotated[str | None, typer.Option(f"--{name}", metavar="VALUE", help=text)]
                parameters.append(
                    inspect.Parameter(
                        f"wanted_{name}",
                        inspect.Parameter.POSITIONAL_OR_KEYWORD,
                        default=None,
                        annotation=kind,
                    )
                )
        else:
            parameters.append(parameter)

    @wraps(verb)
    def called(**given: Any) -> None:
        texts = {name: given.pop(f"wanted_{name}") for name in _ATTRIBUTES}
        wanted = {name: text for name, text in texts.items() if text is not None}
        without = {name: None for name in _CONDITIONS if name in signature.parameters}
        verb(**given, **without, wanted=wanted)

    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def directions(
    model: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run, a snapshot, or shipped (the default).")
    ] = None,
    named: Named = None,
    data: Annotated[
        Path | None, typer.Option(help="A face set: its faces are estimated too, to compare shares.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("directions"),
    samples: Annotated[
        int, typer.Option(callback=within(200, 10**7), help="Faces to draw and estimate.")
    ] = 50_000,
    space: Annotated[
        Literal["z", "w"] | None,
        typer.Option("--in", help="Latent space. Default: w if the model has styles, else z."),
    ] = None,
    check: Annotated[
        int, typer.Option(callback=within(0, 10_000), help="Faces each direction is measured on; 0: none.")
    ] = 128,
    least: Annotated[
        int, typer.Option(callback=within(10, 10**6), help="Sure samples that a value needs.")
    ] = 100,
    confidence: Annotated[
        float, typer.Option(callback=within(0, 1), help="Estimates below this do not count.")
    ] = 0.6,
    unnamed: Annotated[
        int, typer.Option(callback=within(0, 64), help="Directions without labels, of each kind.")
    ] = 6,
) -> None:
    """Find directions in latent space that change one attribute of a face: hair colour, glasses and more.

    The same command goes on where it was interrupted.
    """
    from ..attributes import attribute_network
    from ..data.store.faceset import FaceSet
    from ..explore.directions import FILE, write_directions
    from ..explore.finding import find, table
    from ..model import load_model
    from ..pages.files import checked_folder, run_file

    folder, loaded, network = checked_folder(out), load_model(one_model(model, named)), attribute_network()
    found = find(
        loaded,
        network,
        folder,
        samples=samples,
        space=space,
        faces=None if data is None else FaceSet.open(data),
        check=check,
        unnamed=unnamed,
        least=least,
        confident=confidence,
        progress=progress(),
    )
    path = write_directions(folder / FILE, found)
    for line in table(found):
        print(line)
    if found.told.get("not finite"):
        typer.echo(f"{found.told['not finite']:,} samples were not finite and are left out", err=True)
    agreement = found.told.get("face set", {}).get("agreement", {})
    for name, (share, number) in agreement.items():
        print(f"on {data}: {name} agrees with the labels of {share:.0%} of {number:,} faces")
    from .helptexts import TYPED

    arguments = {
        "samples": samples, "in": found.space, "check": check, "least": least, "confidence": confidence,
        "attribute network": network.file_hash,
    }  # fmt: skip
    from ..settings import Settings

    run_file([path], command=TYPED.get(), model=loaded, settings=Settings(), faces=[], arguments=arguments)
    print(path)


DIRECTIONS = typer.Option(
    "--directions",
    "-d",
    help="The folder or file of omokage directions. Default: beside the model, else directions.",
)


@attribute_options
@face_options
def steer(
    given: Given,
    wanted: dict[str, str] | None = None,
    directions: Annotated[Path | None, DIRECTIONS] = None,
    along: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=STEPS", help="Along any direction, like 'sefa 1=2'; may be repeated."),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Attributes to keep as they are, like mouth,length.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A PNG. Default: steered.png.")] = None,
) -> None:
    """Change attributes of faces, and say what was reached and what else changed.

    A value (--hair blue) is sought step by step; a number (--glasses -2, --hair blue:1.5) is that many
    standard deviations along the direction.
    """
    from ..attributes import attribute_network
    from ..explore.directions import directions_of
    from ..explore.inputs import Gathered
    from ..explore.provenance import edited
    from ..explore.steering import parse_want
    from ..explore.steering import steer as run
    from ..exploring import steered as write
    from ..pages.files import checked_file

    wants = [parse_want(name, text) for name, text in (wanted or {}).items()]
    wants += [_parse_along(text) for text in along or []]
    if not wants:
        raise UserError("nothing to change; name an attribute, like --hair blue, or --along 'sefa 1=2'")
    path = checked_file(default_out(out, "steered.png"), ".png")
    kept = [name.strip() for name in (keep or "").split(",") if name.strip()]
    ways = directions_of(given.load()[0], directions)
    if given.space is None and ways.space == "z":
        from dataclasses import replace

        given = replace(given, space="z")
    opened = given.open("0-7")
    faces = opened.faces
    steered = run(
        opened.model,
        attribute_network(),
        faces.points,
        wants,
        ways,
        keep=kept,
        settings=opened.settings,
        null=len(faces) >= 20,
        progress=progress(),
    )
    edits = [
        {want.direction: round(float(steps), 3) for want, steps in zip(wants, row, strict=True)}
        for row in steered.steps
    ]
    origins = [
        edited(origin, edit, name=name)
        for origin, edit, name in zip(faces.origins, edits, faces.names, strict=True)
    ]
    wanted_ = [want.text() for want in steered.wants]
    made = write(
        opened.model,
        faces,
        Gathered(steered.points, faces.names, origins),
        path,
        captions=_captions(steered),
        title=", ".join(wanted_),
        settings=opened.settings,
        shown=[(look.pixels, look.finite) for look in (steered.before, steered.after)],
        enlarge=opened.enlarge,
        wants=wanted_,
        keep=kept,
        directions=ways.snapshot[:12],
    )
    for line in _said(steered, faces.names, kept):
        print(line)
    print(made.path)
    more = opened.save(made.points, made.names, made.origins)
    opened.record(made.path, *more, wants=wanted_, keep=kept, directions=str(directions or ""), edits=edits)


def _captions(steered: "Steered") -> list[str]:
    captions = []
    for row, hit in zip(steered.steps, steered.reached, strict=True):
        steps = " ".join(f"{number:+.2g}" for number in row)
        captions.append(f"{steps} steps" if hit.all() else f"{steps}: not reached")
    return captions


def _said(steered: "Steered", names: list[str], keep: list[str]) -> list[str]:
    """What was reached and what else changed: face by face if there are few, else in shares."""
    lines = []
    number = len(steered.points)
    for column, want in enumerate(steered.wants):
        if want.value:
            hits = int(steered.reached[:, column].sum())
            lines.append(f"{want.text()}: reached in {hits:,} of {number:,} faces")
        else:
            lines.append(f"{want.text()}: all faces moved by {want.steps:g} steps")
    if number <= 12:
        for row, name in enumerate(names):
            changed = steered.changed(row)
            lines.append(f"{name}: " + ("; ".join(changed) + " too" if changed else "nothing else changed"))
    else:
        counts = {
            name: sum(
                a != b
                for a, b in zip(
                    steered.before.estimates.values(name), steered.after.estimates.values(name), strict=True
                )
            )
            for name in steered.others()
        }
        said = ", ".join(f"{name} in {count / number:.0%}" for name, count in counts.items() if count)
        lines.append(f"what else changed: {said or 'nothing'}")
        leakage = steered.leakage()
        if leakage:
            said = ", ".join(f"{name} {100 * share:+.0f}" for name, share in leakage.items())
            lines.append(f"more than along a null direction, in points: {said}")
    if keep:
        lines.append(f"kept as before ({', '.join(keep)}): {int(steered.kept.sum()):,} of {number:,} faces")
    identity = steered.identity()
    if number > 1:
        mean = float(identity.mean())
        lines.append(
            f"the middle of the face moved by {mean:.0%} of the distance between two different faces"
        )
    return lines


def _parse_along(text: str) -> Any:
    from ..explore.steering import Want

    name, _, number = text.rpartition("=")
    try:
        steps = float(number)
    except ValueError:
        steps = float("nan")
    if not name.strip() or not abs(steps) <= 20:
        raise UserError(f"--along {text!r}: write NAME=STEPS with steps from -20 to 20, like 'sefa 1=2'")
    return Want(name.strip(), steps=steps)


@attribute_options
@face_options
def select(
    given: Given,
    wanted: dict[str, str] | None = None,
    number: Annotated[
        int, typer.Option("-n", "--number", callback=within(1, 10_000), help="How many faces.")
    ] = 16,
    most: Annotated[
        int, typer.Option("--most", callback=within(1, 10**7), help="Draw at most so many.")
    ] = 20_000,
    confidence: Annotated[
        float, typer.Option(callback=within(0, 1), help="Least probability of each value.")
    ] = 0.5,
    first: Annotated[int, typer.Option(callback=within(0, 2**62), help="The first seed to try.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A PNG. Default: selected.png.")] = None,
) -> None:
    """Draw faces until some have the wanted attributes; the model needs no labels."""
    from ..attributes import attribute_network
    from ..explore.inputs import of_numbers
    from ..explore.steering import select as run
    from ..exploring import selected as write
    from ..pages.files import checked_file
    from ..sampling import seed_ranges
    from .options import Opened

    if given.seeds or (given.faces and given.load()[1]):
        raise UserError("select draws its own faces; give no seeds or faces (--first names the first seed)")
    wants = wanted or {}
    path = checked_file(default_out(out, "selected.png"), ".png")
    model, _ = given.load()
    enlarge = given.enlarge()
    found = run(
        model,
        attribute_network(),
        wants,
        number,
        settings=given.settings,
        first=first,
        most=most,
        confidence=confidence,
        progress=progress(),
    )
    asked = ", ".join(f"{name} {value}" for name, value in wants.items())
    if found.look is None:
        alone = ", ".join(f"{name} in {count:,}" for name, count in found.nearest.items())
        raise UserError(
            f"{asked}: none of {found.drawn:,} samples has it (each alone: {alone}); "
            "steer has it made, or raise --most"
        )
    sure = [
        " ".join(f"{100 * row:.0f}%" for row in each)
        for each in zip(*(found.look.estimates.confidence(name) for name in wants), strict=True)
    ]
    captions = [f"{seed}: {each}" for seed, each in zip(found.seeds, sure, strict=True)]
    faces = of_numbers(found.seeds, model, given.settings, given.space)
    opened = Opened(model, faces, given.settings, enlarge, given)
    how: dict[str, Any] = {"wants": dict(wants), "confidence": confidence}
    made = write(
        model,
        faces,
        path,
        captions=captions,
        title=asked,
        among=found.drawn,
        settings=given.settings,
        shown=(found.look.pixels, found.look.finite),
        enlarge=enlarge,
        **how,
    )
    print(f"seeds {seed_ranges(found.seeds)}")
    said = f"{len(found.seeds):,} faces with {asked} among {found.drawn:,} samples"
    print(said if found.complete else f"{said}, fewer than the {number:,} asked for; --most draws more")
    print(made.path)
    more = opened.save(faces.points, faces.names, faces.origins)
    opened.record(made.path, *more, **how, first=first, most=most, among=found.drawn)
