"""`omokage neighbours`: the training faces nearest to faces, and whether a model has memorised any."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .helptexts import TYPED
from .options import Given, default_out, face_options, gather_faces, progress, tell_broken, within

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model
    from ..settings import Settings

SHOWN = 16  # rows of the picture


@face_options
def neighbours(
    given: Given,
    data: Annotated[
        Path | None, typer.Option(help="The training set, or a folder with the parts train and heldout.")
    ] = None,
    heldout: Annotated[
        Path | None, typer.Option(help="Faces that were not trained on. Default: the part beside --data.")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", callback=within(1, 10**6), help="Samples, if no faces are named.")
    ] = 1000,
    nearest: Annotated[int, typer.Option(callback=within(1, 20), help="Training faces for each face.")] = 4,
    crop: Annotated[
        bool, typer.Option("--crop", help="Find and crop the face in pictures; else they are taken whole.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The PNG to write. Default: neighbours.png.")
    ] = None,
) -> None:
    """Show the nearest training faces of samples or given faces; measure memorising.

    Nearest in perceptual features, in those of the tag encoder, and in pixels. The picture shows training
    faces: do not publish it where their terms forbid it.
    """
    if data is None:
        raise UserError("neighbours: --data is missing: the face set that the model was trained on")
    if given.save_latents is not None or given.upscale != 1:
        raise UserError("neighbours: --save-latents and --upscale make no sense here; leave them out")
    import numpy as np

    from ..explore.neighbours import Trained
    from ..pages.files import checked_file

    path = checked_file(default_out(out, "neighbours.png"), ".png")
    model, named = given.load()
    trained = Trained.open(data, model.progress.get("face_set"), heldout)
    for line in trained.told:
        typer.echo(line, err=True)
    if named:
        parts = [_named(one, model, given, crop) for one in named]
        faces = np.concatenate([pixels for pixels, _ in parts])
        names = [name for _, called in parts for name in called]
    else:
        faces, names = samples_of(model, range(number), given.settings)
    for line in write_neighbours(model, trained, faces, names, path, nearest=nearest):
        print(line)


def _named(argument: str, model: "Model", given: Given, crop: bool) -> "tuple[np.ndarray, list[str]]":
    """The faces of one argument: drawn for seeds and latents, and the pixels of pictures as they are."""
    from ..explore.inversion import aligned_pictures, names
    from ..explore.latents import is_latent_file
    from ..explore.points import drawn
    from ..sampling import gathered

    file = Path(argument)
    if file.is_file() and not is_latent_file(file):
        pixels = aligned_pictures(
            [file], model, whole=not crop, tell=lambda line: typer.echo(line, err=True), progress=progress()
        )
        return pixels, names([file])
    faces = gather_faces([argument], model, settings=given.settings, space=given.space)
    pixels, finite = gathered(drawn(model, faces.points, given.settings, progress()))
    if not finite.all():
        raise UserError(f"{argument}: {int((~finite).sum()):,} of its faces are not finite")
    return pixels, faces.names


def samples_of(model: "Model", seeds: range, settings: "Settings") -> "tuple[np.ndarray, list[str]]":
    """Faces of seeds that are finite, uint8 (N, H, W, 3), and their names; the others are told."""
    from ..sampling import gathered
    from ..sampling import sample as draw

    pixels, finite = gathered(draw(model, seeds, settings, progress()))
    lost = [seed for seed, whole in zip(seeds, finite, strict=True) if not whole]
    tell_broken(f"of {len(seeds):,} samples are", "seeds", lost)
    kept = [str(seed) for seed, whole in zip(seeds, finite, strict=True) if whole]
    return pixels[finite], kept


def write_neighbours(
    model: "Model",
    trained: "object",
    faces: "np.ndarray",
    names: list[str],
    path: Path,
    *,
    nearest: int = 4,
    seed: int = 0,
) -> list[str]:
    """Write the picture of the first `SHOWN` faces and a JSON file of the figures; returns what to print."""
    from dataclasses import replace

    from .. import __version__
    from ..explore.neighbours import Trained, searched
    from ..files import replacing
    from ..pages.files import about_text
    from ..pages.neighbours import neighbour_sheet

    assert isinstance(trained, Trained)
    found = searched(
        faces,
        trained,
        k=nearest,
        seed=seed,
        progress=progress(),
        tell=lambda line: typer.echo(line, err=True),
    )
    rows = slice(0, SHOWN)
    shown = [
        replace(space, indices=space.indices[rows], distances=space.distances[rows])
        for space in found.report.spaces
    ]
    text = about_text(model.about)
    picture = neighbour_sheet(faces[rows], found.faces, shown, path, labels=names[rows], text=text)
    record = {
        "omokage": __version__,
        "command": TYPED.get(),
        "model": {"recipe": model.about.recipe, "images": model.images_seen, "snapshot": model.snapshot_hash},
        "face_set": trained.faces.content_hash,
        "heldout": None if trained.heldout is None else trained.heldout.content_hash,
        "faces": names,
        **found.report.as_dict(),
    }
    beside = path.with_name(path.name + ".json")
    with replacing(beside) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*(space.words() for space in found.report.spaces), str(picture), str(beside)]
