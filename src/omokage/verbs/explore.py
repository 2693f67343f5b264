"""``omokage explore``: encodes the user's own pictures, and works with their latents."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from .options import default_out, progress, tell_count, within

app = typer.Typer(
    help="Encode your own pictures, walk between them, find bad ones in a face set.",
)

MODEL = typer.Option("--model", "-m", help="A run or snapshot. Default: the model that ships.")
FILES = typer.Argument(metavar="FILE...", help="Pictures: PNG, JPEG, WebP and others.")


def _sheet(name: str) -> Any:
    return typer.Option("--out", "-o", help=f"The PNG to write. Default: {name}.")


SEED = typer.Option(callback=within(0, 2**62), help="Seed of the random numbers.")


@app.command()
def reconstruct(
    files: Annotated[list[Path], FILES],
    model: Annotated[Path | None, MODEL] = None,
    out: Annotated[Path | None, _sheet("reconstructions.png")] = None,
    double: Annotated[bool, typer.Option("--double", help="Count in float64: slower, more exact.")] = False,
) -> None:
    """Encode pictures, decode them again, and print how much they changed."""
    from ..abilities import Encodes
    from ..explore.inversion import names, read_pictures, reconstructions, round_trip
    from ..model import load_model
    from ..pages.files import checked_file
    from ..pages.sheet import bands_of_model

    path, loaded = checked_file(default_out(out, "reconstructions.png"), ".png"), load_model(model)
    loaded.require(Encodes)
    pictures, called = read_pictures(files, loaded.resolution), names(files)
    trip = round_trip(loaded.double() if double else loaded, pictures, progress())
    precision = "float64" if double else "float32"
    bands_of_model(
        loaded.about,
        reconstructions(trip, called),
        path,
        title="There and back",
        columns=min(len(files), 8),
        text={"pictures": ", ".join(called), "precision": precision},
    )
    for name, largest, mean, changed in zip(called, trip.largest, trip.mean, trip.changed, strict=True):
        print(f"{name}: largest error {largest:.3g}, mean {mean:.3g}, {changed:.2%} of values changed level")
    print(f"errors are of images in [-1, 1], in {precision}; one level is 0.0078")
    print(path)
    tell_count(int((~trip.finite).sum()))


@app.command()
def interpolate(
    files: Annotated[list[Path], FILES],
    model: Annotated[Path | None, MODEL] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A PNG strip. Default: walk.png, unless --video.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="The walk as MP4, back to the first picture.")] = None,
    steps: Annotated[
        int, typer.Option(callback=within(2, 100), help="Faces from one picture to the next, both included.")
    ] = 8,
) -> None:
    """The same as omokage walk, for pictures that the model encodes without a search."""
    from ..abilities import Encodes
    from ..explore.inputs import Gathered
    from ..explore.inversion import names, read_pictures, round_trip
    from ..explore.points import Points
    from ..exploring import walk
    from ..model import load_model
    from ..pages.files import checked_file

    if len(files) < 2:
        raise UserError(f"a walk needs two pictures or more, got {len(files)}")
    strip = default_out(out, "walk.png") if video is None else out
    strip = None if strip is None else checked_file(strip, ".png")
    moving = None if video is None else checked_file(video, ".mp4")
    loaded, called = load_model(model), names(files)
    loaded.require(Encodes)
    trip = round_trip(loaded, read_pictures(files, loaded.resolution), progress())
    for name, largest in zip(called, trip.largest, strict=True):
        print(f"{name}: reconstructed with a largest error of {largest:.3g} (images in [-1, 1])")
    origins = [{"name": name, "file": name, "inverted": True} for name in called]
    faces = Gathered(Points(trip.latents), called, origins)
    made = []
    if strip is not None:
        made.append(walk(loaded, faces, strip, ease="linear", steps=steps, progress=progress()))
    if moving is not None:
        made.append(walk(loaded, faces, moving, progress=progress()))
    for one in made:
        print(one.path)
        for line in one.told:
            typer.echo(line, err=True)
    tell_count(sum(one.not_finite for one in made))


@app.command()
def outliers(
    faces: Annotated[Path, typer.Argument(metavar="FACES", help="A face set.")],
    model: Annotated[Path | None, MODEL] = None,
    out: Annotated[Path | None, _sheet("outliers.png")] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Scores of all faces. Default: beside the PNG.")
    ] = None,
    show: Annotated[int, typer.Option(callback=within(1, 200), help="Faces shown of each kind.")] = 16,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """Rank a face set by likelihood corrected for complexity: bad crops come first."""
    from ..data.store.faceset import FaceSet
    from ..explore.outliers import COLUMNS, compressors, ranked
    from ..model import load_model
    from ..pages.files import checked_file, save_table
    from ..pages.sheet import bands_of_model

    path = checked_file(default_out(out, "outliers.png", *([".csv"] if table is None else [])), ".png")
    listed = checked_file(path.with_suffix(".csv") if table is None else table, ".csv")
    loaded, opened = load_model(model), FaceSet.open(faces)
    ranking = ranked(loaded, opened, show=show, seed=seed, progress=progress())
    lost = ranking.scores.not_finite
    save_table(COLUMNS, ranking.rows(opened), listed)
    bands_of_model(
        loaded.about,
        ranking.bands,
        path,
        title=f"{len(opened):,} faces, from least to most typical",
        columns=min(8, show, len(opened)),
        text={
            "face set": opened.content_hash,
            "score": "bits per dimension less compressed bits a colour value (arXiv 1909.11480)",
            "compressors": ", ".join(compressors()),
            "seed": str(seed),
            **({"not finite": f"likelihood of {lost:,} of {len(opened):,} faces"} if lost else {}),
        },
    )
    print(path)
    print(listed)
    if lost:
        told = f"the likelihood of {lost:,} of {len(opened):,} faces is not finite; they come first"
        typer.echo(told, err=True)


@app.command()
def attribute(
    data: Annotated[Path, typer.Option(help="A face set with labels (omokage build --labels).")],
    start: Annotated[str, typer.Option("--from", help="A tag of the faces, like hair=blonde.")],
    end: Annotated[str, typer.Option("--to", help="The tag to go to, like hair=black.")],
    model: Annotated[Path | None, MODEL] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Pictures. Default: faces of the set with the tag --from."),
    ] = None,
    out: Annotated[Path | None, _sheet("attribute.png")] = None,
    strengths: Annotated[str, typer.Option(help="Multiples of the change.")] = "0,0.5,1,1.5,2",
    max_faces: Annotated[
        int,
        typer.Option(
            "--max-faces",
            "--most",
            callback=within(1, 10**6),
            help="How many faces of each tag to average.",
        ),
    ] = 500,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """Change an attribute: add the difference between two tags' mean latents to the latents of faces."""
    from math import isfinite

    try:
        multiples = [float(part) for part in strengths.split(",")]
    except ValueError:
        multiples = []
    if not multiples or not all(map(isfinite, multiples)):
        raise UserError(f"--strengths: {strengths!r} is not a list of numbers; write it like 0,0.5,1")
    from ..abilities import Encodes
    from ..data.store.faceset import FaceSet
    from ..data.text import one_line
    from ..explore.arithmetic import direction, parse_tag, pictures_along
    from ..explore.inversion import names, read_pictures
    from ..model import load_model
    from ..pages.files import checked_file
    from ..pages.sheet import bands_of_model

    path = checked_file(default_out(out, "attribute.png"), ".png")
    loaded, faces = load_model(model), FaceSet.open(data)
    loaded.require(Encodes)
    begin, aim = parse_tag(start, "--from"), parse_tag(end, "--to")
    pictures = read_pictures(files, loaded.resolution) if files else None
    way = direction(loaded, faces, begin, aim, max_faces=max_faces, seed=seed, progress=progress())
    if pictures is None:
        if not len(way.others):
            raise UserError(f"too few faces have {begin}; name pictures of your own")
        pictures = faces.pixels(way.others, loaded.resolution)
    called = names(files or []) or [one_line(faces.keys[i], 40) for i in way.others]
    rows = pictures_along(loaded, pictures, called, way, multiples)
    bands_of_model(
        loaded.about,
        rows,
        path,
        title=f"From {begin} to {aim}",
        columns=len(multiples),
        text={
            "from": f"{begin}, mean of {way.counts[0]:,} faces{_left_out(way.not_finite[0])}",
            "to": f"{aim}, mean of {way.counts[1]:,} faces{_left_out(way.not_finite[1])}",
            "strengths": ", ".join(f"{strength:g}" for strength in multiples),
            "face set": faces.content_hash,
            "pictures": ", ".join(called),
        },
    )
    print(f"mean of {way.counts[0]:,} faces with {start}, of {way.counts[1]:,} with {end}")
    print(path)
    for tag, number in zip((begin, aim), way.not_finite, strict=True):
        if number:
            typer.echo(f"{number:,} faces with {tag} are left out of the mean: latent not finite", err=True)
    tell_count(sum(row.not_finite for row in rows))


def _left_out(number: int) -> str:
    """How many faces a mean leaves out, as text for the picture."""
    return f", {number:,} left out: latent not finite" if number else ""
