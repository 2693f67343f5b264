"""``omokage explore``: what a model makes of pictures that the user has."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import progress, within

app = typer.Typer(
    no_args_is_help=True,
    help="Encode your own pictures, walk between them, find bad ones in a face set.",
    rich_markup_mode="rich",
)

MODEL = typer.Option("--model", "-m", help="A run or snapshot whose family can do it.")
FILES = typer.Argument(metavar="FILE...", help="Pictures: PNG, JPEG, WebP and others.")
SHEET = typer.Option("--out", "-o", help="The PNG to write.")
SEED = typer.Option(callback=within(0, 2**62), help="Another seed, other random numbers.")


@app.command()
def reconstruct(
    files: Annotated[list[Path], FILES],
    model: Annotated[Path, MODEL],
    out: Annotated[Path, SHEET] = Path("reconstructions.png"),
    double: Annotated[bool, typer.Option("--double", help="Count in float64: slower, more exact.")] = False,
) -> None:
    """Encode pictures, lead them back, and say how far they are from what they were."""
    import torch

    from ..explore.encode import names, write_reconstructions
    from ..snapshot import load_model

    dtype = torch.float64 if double else torch.float32
    path, trip = write_reconstructions(load_model(model), files, out, dtype=dtype, progress=progress())
    for name, largest, mean, changed in zip(names(files), trip.largest, trip.mean, trip.changed, strict=True):
        print(f"{name}: largest error {largest:.3g}, mean {mean:.3g}, {changed:.2%} of values another level")
    print(f"errors are of images in [-1, 1], in {str(dtype).removeprefix('torch.')}; one level is 0.0078")
    print(path)


@app.command()
def interpolate(
    files: Annotated[list[Path], FILES],
    model: Annotated[Path, MODEL],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A PNG strip. Default: walk.png, unless --video.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="The walk as MP4, back to the first picture.")] = None,
    steps: Annotated[
        int, typer.Option(callback=within(2, 100), help="Faces from a picture to the next, both counted.")
    ] = 8,
) -> None:
    """Walk from picture to picture through latent space."""
    from ..explore.encode import names, write_interpolation
    from ..snapshot import load_model

    strip = Path("walk.png") if out is None and video is None else out
    written, trip = write_interpolation(
        load_model(model), files, strip, video=video, steps=steps, progress=progress()
    )
    for name, largest in zip(names(files), trip.largest, strict=True):
        print(f"{name}: there and back with a largest error of {largest:.3g} (images in [-1, 1])")
    for path in written:
        print(path)


@app.command()
def outliers(
    faces: Annotated[Path, typer.Argument(metavar="FACES", help="A face set.")],
    model: Annotated[Path, MODEL],
    out: Annotated[Path, SHEET] = Path("outliers.png"),
    table: Annotated[
        Path | None, typer.Option("--csv", help="Scores of all faces. Default: beside the PNG.")
    ] = None,
    show: Annotated[int, typer.Option(callback=within(1, 200), help="Faces shown of each kind.")] = 16,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """Rank a face set by likelihood corrected for complexity: bad crops come first."""
    from ..data.faceset import FaceSet
    from ..explore.outliers import write_outliers
    from ..snapshot import load_model

    path, listed, scores = write_outliers(
        load_model(model), FaceSet.open(faces), out, table=table, show=show, seed=seed, progress=progress()
    )
    if lost := int((scores.plain == float("inf")).sum()):
        print(f"of {lost:,} of {len(scores.plain):,} faces the likelihood is not finite; they come first")
    print(path)
    print(listed)


@app.command()
def attribute(
    model: Annotated[Path, MODEL],
    data: Annotated[Path, typer.Option(help="A face set with labels (omokage build --labels).")],
    start: Annotated[str, typer.Option("--from", help="A tag of the faces, like hair=blonde.")],
    end: Annotated[str, typer.Option("--to", help="The tag to go to, like hair=black.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Pictures. Default: faces of the set with the first tag."),
    ] = None,
    out: Annotated[Path, SHEET] = Path("attribute.png"),
    strengths: Annotated[str, typer.Option(help="Multiples of the way.")] = "0,0.5,1,1.5,2",
    most: Annotated[
        int, typer.Option(callback=within(1, 10**6), help="Faces of each tag to take the mean of.")
    ] = 500,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """Change an attribute: add the way from one tag to another to the latents of faces."""
    from math import isfinite

    try:
        multiples = [float(part) for part in strengths.split(",")]
    except ValueError:
        multiples = []
    if not multiples or not all(map(isfinite, multiples)):
        raise UserError(f"--strengths: {strengths!r} is no list of numbers; write it like 0,0.5,1")
    from ..data.faceset import FaceSet
    from ..explore.attributes import parse_tag, write_attribute
    from ..snapshot import load_model

    path, way = write_attribute(
        load_model(model),
        FaceSet.open(data),
        parse_tag(start, "--from"),
        parse_tag(end, "--to"),
        out,
        files=files or [],
        strengths=multiples,
        most=most,
        seed=seed,
        progress=progress(),
    )
    print(f"mean of {way.counts[0]:,} faces with {start}, of {way.counts[1]:,} with {end}")
    print(path)
