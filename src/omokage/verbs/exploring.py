"""`omokage walk`, `traverse`, `truncate`, `mix` and `show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..settings import TRUNCATION
from .helptexts import TYPED
from .options import Given, default_out, face_options, gather_faces, progress, tell_count, within

if TYPE_CHECKING:
    from ..exploring import Made
    from .options import Opened

Title = Annotated[str | None, typer.Option(help="Another title; an empty one leaves the heading out.")]


def _out(text: str) -> Any:
    return typer.Option("--out", "-o", help=text)


def _finish(opened: "Opened", made: "Made", **arguments: Any) -> None:
    """Print what was made, write the latent file and the run file."""
    print(made.path)
    more = opened.save(made.points, made.names, made.origins)
    opened.record(made.path, *more, **arguments)
    for line in made.told:
        typer.echo(line, err=True)
    tell_count(made.not_finite)


def _numbers(text: str, option: str) -> list[float]:
    """``-3,0,2`` or the range ``-3:3`` in whole steps, as numbers."""
    from math import isfinite

    first, colon, last = text.partition(":")
    try:
        if colon:
            low, high = int(first), int(last)
            found = [float(number) for number in range(low, high + 1)]
        else:
            found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(map(isfinite, found)) or len(found) > 1000:
        raise UserError(f"{option}: got {text!r}; write numbers like {option}=-3,0,3 or a range like -3:3")
    return found


@face_options
def walk(
    given: Given,
    out: Annotated[
        Path | None, _out("A film .mp4, .webp or .gif, or a strip .png. Default: walk.mp4.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(callback=within(0.01, 86_400), help="Length of the film. Default: 1.5 a face."),
    ] = None,
    fps: Annotated[
        float, typer.Option("--fps", callback=within(1, 240), help="Frames a second of a film.")
    ] = 30,
    path: Annotated[
        str,
        typer.Option(help="linear, spherical, or auto: spherical in z, linear in w."),
    ] = "auto",
    ease: Annotated[
        str, typer.Option(help="smooth rests a moment at each face, long rests longer, linear does not.")
    ] = "smooth",
    loop: Annotated[
        bool | None, typer.Option("--loop/--no-loop", help="Back to the first face. Default: in films.")
    ] = None,
    steps: Annotated[
        int, typer.Option(callback=within(2, 100), help="Faces of a strip from face to face, both counted.")
    ] = 8,
    tiles: Annotated[str, typer.Option(metavar="COLUMNSxROWS", help="Several walks side by side.")] = "1x1",
) -> None:
    """Faces that turn into one another: a film or a strip. Default: seeds 0 to 7."""
    columns, _, rows = tiles.partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise UserError(f"--tiles: got {tiles!r}; write columns and rows like 3x2")
    from ..exploring import walk as make

    target = default_out(out, "walk.mp4", ".mp4.json")
    opened = given.open("0-7")
    how: dict[str, Any] = {"path": path, "ease": ease, "loop": loop}
    if target.suffix == ".png":
        how |= {"steps": steps}
    else:
        how |= {"seconds": seconds, "frames_per_second": fps, "tiles": (int(columns), int(rows))}
    made = make(
        opened.model,
        opened.faces,
        target,
        settings=opened.settings,
        enlarge=opened.enlarge,
        progress=progress(),
        **how,
    )
    _finish(opened, made, **{**how, "tiles": tiles})


@face_options
def traverse(
    given: Given,
    out: Annotated[Path | None, _out("The PNG. Default: traverse.png.")] = None,
    entries: Annotated[
        str | None,
        typer.Option(help="Entries from 1 on, like 1,10,20. Default: the first and tenths of all."),
    ] = None,
    times: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Factors of an entry, like --times=-3,0,3 or -3:3.")
    ] = "-3:3",
    directions: Annotated[
        Path | None,
        typer.Option(help="A file of omokage directions: one row for each direction instead of entries."),
    ] = None,
    along: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these, like hair=blue,glasses.")
    ] = None,
    title: Title = None,
) -> None:
    """Multiply one entry of a face's latent at a time: one row an entry. Default: seed 0.

    Without --in it works in z, as the figure of liao2021. With --directions or --along, steps along them are
    added, in their space.
    """
    from dataclasses import replace

    from ..exploring import traverse as make
    from ..settings import parse_seeds

    factors = _numbers(times, "--times")
    rows = None if entries is None else parse_seeds(entries, "--entries")
    if rows is not None and (directions is not None or along is not None):
        raise UserError("traverse: --entries and --directions (or --along) exclude each other")
    target = default_out(out, "traverse.png", ".png.json")
    moves: list[Any] = []
    space: Any = given.space or "z"
    if directions is not None or along is not None:
        from ..explore.directions import directions_of
        read = directions_of(given.load()[0], directions)
        if given.space not in (None, read.space):
            raise UserError(f"--in {given.space}: the directions are in {read.space}")
        wanted = [name.strip() for name in along.split(",")] if along else None
        chosen = [row for row in read.rows if row.offered] if wanted is None else map(read.find, wanted)
        moves = list(chosen)
        space = read.space
    opened = replace(given, space=space).open("0")
    made = make(
        opened.model,
        opened.faces,
        target,
        settings=opened.settings,
        entries=rows,
        times=factors,
        moves=moves,
        title=title,
        enlarge=opened.enlarge,
        progress=progress(),
    )
    names = [move.name for move in moves]
    _finish(opened, made, **({"directions": names} if names else {"entries": rows}), times=factors)


@face_options
def truncate(
    given: Given,
    out: Annotated[Path | None, _out("The PNG. Default: truncate.png.")] = None,
    title: Title = None,
) -> None:
    """The same faces at several --psi, down to the average face and beyond. Default: seeds 0 to 5."""
    from ..exploring import truncate as make
    from ..settings import Settings

    plain = given.chosen.each
    psis = None if len(plain) == 1 and plain[0].psi == Settings().psi else [one.psi for one in plain]
    target = default_out(out, "truncate.png", ".png.json")
    opened = given.open("0-5", settings=_without_psi(plain[0]))
    made = make(
        opened.model,
        opened.faces,
        target,
        settings=opened.settings,
        psis=psis,  # type: ignore[arg-type]
        title=title,
        enlarge=opened.enlarge,
        progress=progress(),
    )
    _finish(opened, made, psi=psis)


def _without_psi(settings: Any) -> Any:
    from dataclasses import replace

    return replace(settings, psi=1.0)


@face_options
def mix(
    given: Given,
    out: Annotated[Path | None, _out("The PNG. Default: mix.png.")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="FACES", help="The faces whose styles are copied. Default: 200-204."),
    ] = None,
    styles: Annotated[
        str | None,
        typer.Option(help="coarse, middle, fine, several with commas, or layers from 1 on like 1-3,8."),
    ] = None,
    title: Title = None,
) -> None:
    """Give faces the coarse, middle or fine styles of other faces. Default: seeds 100 to 105."""
    from ..abilities import HasStyles
    from ..exploring import mix as make

    target = default_out(out, "mix.png", ".png.json")
    given.load()[0].require(HasStyles)
    opened = given.open("100-105")
    b = gather_faces(others or ["200-204"], opened.model, settings=opened.settings, space=given.space)
    made = make(
        opened.model,
        opened.faces,
        b,
        target,
        settings=opened.settings,
        styles=styles,
        title=title,
        enlarge=opened.enlarge,
        progress=progress(),
    )
    _finish(opened, made, **{"from": b.names, "styles": styles})


def montage(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None, _out("A film .mp4, .webp or .gif, or a picture .png. Default: montage.mp4.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Which faces. Training keeps pictures of the seeds 0 to 15.")
    ] = "0-15",
    psi: Annotated[float, typer.Option(callback=within(-2, 2), help=TRUNCATION.help)] = 1.0,
    source: Annotated[
        str,
        typer.Option("--from", metavar="film|grids|snapshots", help="Default: what has the most moments."),
    ] = "auto",
    clock: Annotated[str, typer.Option(help="images (seen) or minutes (of training).")] = "images",
    seconds: Annotated[
        float | None,
        typer.Option(callback=within(0.1, 3600), help="Default: 15 moments a second, at least 6 seconds."),
    ] = None,
    rows: Annotated[int, typer.Option(callback=within(2, 64), help="Moments of a picture, at most.")] = 8,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Write no text into the film about its making.")
    ] = False,
) -> None:
    """The film of a training: fixed seeds over the images seen, FID and losses beneath.

    Several runs stand side by side on one clock. A picture shows one run, a row for each moment.
    """
    from ..explore.history import SOURCES
    from ..exploring import montage as make
    from ..pages.files import metadata, run_file
    from ..settings import Settings, parse_seeds

    if source not in SOURCES:
        raise UserError(f"--from {source}: there are {', '.join(SOURCES)}")
    target, chosen = default_out(out, "montage.mp4", ".mp4.json"), parse_seeds(seeds)
    settings = Settings(psi=psi)
    with metadata(not no_metadata):
        written, lost, told = make(
            runs,
            target,
            seeds=chosen,
            settings=settings,
            source=source,
            clock=clock,
            seconds=seconds,
            rows=rows,
            progress=progress(),
        )
    for line in told:
        print(line)
    print(written)
    run_file(
        [written],
        command=TYPED.get(),
        model=None,
        settings=settings,
        faces=[{"seeds": seeds}],
        arguments={
            "runs": [str(run) for run in runs],
            "from": source,
            "clock": clock,
            "seconds": seconds,
            "rows": rows,
        },
        told=told,
    )
    tell_count(lost)


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PNG that Omokage made, or a latent file.")],
    out: Annotated[Path | None, _out("Make the picture again and write it here, as PNG.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="RUN|SNAPSHOT|NAME",
            help="The model that made it. Default: the one that ships.",
        ),
    ] = None,
) -> None:
    """Print how a picture was made, and make it again: the same faces, bit for bit."""
    import json
    import tempfile

    from ..data.text import one_line
    from ..explore.latents import described, is_latent_file
    from ..explore.provenance import PAGE, read_provenance
    from ..exploring import MADE_AGAIN, remake, same_pixels
    from ..model import load_model

    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if is_latent_file(file):
        for name, value in described(file):
            print(f"{name}: {one_line(value, 2000)}")
        if out is not None:
            raise UserError(f"omokage sample {file} -o {out} draws the faces of a latent file")
        return
    told = read_provenance(file)
    if told is None:
        raise UserError(f"{file}: no recipe in it; Omokage writes one into each PNG, if not --no-metadata")
    for name, value in told.lines():
        print(f"{name}: {one_line(value, 2000)}")
    loaded = load_model(model)
    if told.about.snapshot_hash != loaded.about.snapshot_hash and model is None and out is None:
        print("made again: no, it is of another model; name that one with --model")
        return
    if told.kind not in MADE_AGAIN and out is None:
        what = "omokage " + told.kind if told.kind != PAGE else "the command that drew it"
        print(f"made again: no, {json.dumps(told.kind)} is drawn by {what}")
        return
    if out is not None:
        print(f"made again: {remake(loaded, told, out, progress())}, {same_pixels(file, out)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        again = remake(loaded, told, Path(folder) / "again.png", progress())
        print(f"made again: {same_pixels(file, again)}; -o FILE.png keeps it")
