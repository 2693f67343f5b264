"""``omokage figure``: pictures for publication, one command for each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UserError
from ..settings import TRUNCATION, Settings
from .options import (
    Named,
    default_out,
    each_within,
    metadata_option,
    one_model,
    parse_seeds,
    progress,
    tell_count,
    within,
)

if TYPE_CHECKING:
    from ..model import Model

app = typer.Typer(
    help="Figures for publication: each command writes a PNG with margins and labels.",
)

Source = Annotated[Path | None, typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships.")]
Styled = Annotated[Path | None, typer.Argument(metavar="RUN|SNAPSHOT", help="Of a family with styles.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The PNG. Default: the figure's name.")]
Psi = Annotated[float, typer.Option(callback=within(-2, 2), help=TRUNCATION.help)]
Title = Annotated[str | None, typer.Option(help="Another title; an empty one leaves the heading out.")]


def _model(source: Path | None, named: str | None, figure: str, *psis: float) -> "Model":
    from ..explore.truncation import check_psis
    from ..model import load_model

    model = load_model(one_model(source, named))
    if psis:
        check_psis(model, psis, figure)
    return model


def _numbers(text: str, option: str) -> list[float]:
    """``1.2,1,0.5`` as numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option}: got {text!r}; write numbers with commas between, like 1,0.5,0") from None


@app.command()
@metadata_option
def uncurated(
    source: Source = None,
    named: Named = None,
    out: Out = None,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="The first seed.")] = 0,
    psi: Psi = 1.0,
    rows: Annotated[int, typer.Option(callback=within(1, 64), help="Rows of the largest faces.")] = 2,
    sizes: Annotated[
        str, typer.Option(help="For each column, how many times its faces are halved in size.")
    ] = "0,0,1,1,2,2,3,3",
    title: Title = None,
) -> None:
    """Faces of consecutive seeds in several sizes, without selection."""
    from ..explore.faces import Faces
    from ..pages import figures
    from ..pages.files import checked_file
    from ..sampling import gathered, sample

    halvings = _numbers(sizes, "--sizes")
    if any(halving != int(halving) for halving in halvings):
        raise UserError(f"--sizes: got {sizes}; write whole numbers like 0,1,2,2,3,3")
    columns = [int(halving) for halving in halvings]
    model, settings = _model(source, named, "uncurated", psi), Settings(psi=psi)
    seeds = range(seed, seed + sum(figures.uncurated_counts(rows, columns)))
    path = checked_file(default_out(out, "uncurated.png"), ".png")
    pixels, finite = gathered(sample(model, seeds, settings, progress()))
    faces = Faces(pixels, finite=finite)
    print(
        figures.uncurated(
            model.about,
            faces,
            path,
            seeds=seeds,
            settings=settings,
            rows=rows,
            halvings=columns,
            title=title,
        )
    )
    tell_count(faces.not_finite)


@app.command()
@metadata_option
def mixing(
    source: Styled = None,
    named: Named = None,
    out: Out = None,
    a: Annotated[str, typer.Option("--a", help="Seeds of the rows: coarse, middle, fine.")] = "100-105",
    b: Annotated[str, typer.Option("--b", help="Seeds of the columns, whose styles are copied.")] = "200-204",
    psi: Psi = 0.7,
    title: Title = None,
) -> None:
    """The same as omokage mix, for seeds."""
    from ..abilities import HasStyles
    from ..explore.inputs import of_numbers
    from ..exploring import mix
    from ..pages.files import checked_file

    rows, columns, settings = parse_seeds(a), parse_seeds(b), Settings(psi=psi)
    path = checked_file(default_out(out, "mixing.png"), ".png")
    model = _model(source, named, "mixing")
    model.require(HasStyles)
    of_a, of_b = (of_numbers(seeds, model, settings) for seeds in (rows, columns))
    made = mix(model, of_a, of_b, path, settings=settings, title=title, progress=progress())
    print(made.path)
    tell_count(made.not_finite)


@app.command()
@metadata_option
def truncation(
    source: Source = None,
    named: Named = None,
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="Seeds, one row for each.")] = "0-5",
    psi: Annotated[
        list[float] | None,
        typer.Option(
            callback=each_within(-2, 2), help="Columns. Default: 1.2,1,0.7,0.5,0.25,0,-0.25,-0.5,-1."
        ),
    ] = None,
    title: Title = None,
) -> None:
    """The same as omokage truncate, for seeds."""
    from ..explore.inputs import of_numbers
    from ..explore.truncation import check_psis
    from ..exploring import truncate
    from ..pages.files import checked_file

    rows = parse_seeds(seeds)
    path = checked_file(default_out(out, "truncation.png"), ".png")
    model = _model(source, named, "truncation")
    columns = check_psis(model, psi, "truncation") if psi else None
    faces = of_numbers(rows, model, Settings())
    made = truncate(model, faces, path, psis=columns, title=title, progress=progress())
    print(made.path)
    tell_count(made.not_finite)


@app.command()
@metadata_option
def noise_detail(
    source: Styled = None,
    named: Named = None,
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-2",
    psi: Psi = 0.7,
    noise_seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="Seed of the noise.")] = 0,
    title: Title = None,
) -> None:
    """What noise changes in a face: a detail, and the standard deviation over a hundred noises."""
    from ..explore.noise import noise_detail as look
    from ..pages import figures
    from ..pages.files import checked_file

    rows, settings = parse_seeds(seeds), Settings(psi=psi)
    path = checked_file(default_out(out, "noise-detail.png"), ".png")
    model = _model(source, named, "noise-detail")
    details = look(model, rows, settings, noise_seed=noise_seed, progress=progress())
    print(
        figures.noise_detail(
            model.about,
            details,
            path,
            seeds=rows,
            settings=settings,
            noise_seed=noise_seed,
            title=title,
        )
    )
    tell_count(sum(detail.not_finite for detail in details))


@app.command()
@metadata_option
def noise_components(
    source: Styled = None,
    named: Named = None,
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-2",
    psi: Psi = 0.7,
    title: Title = None,
) -> None:
    """Noise in all layers, in none, in the fine ones, and in the coarse ones."""
    from ..explore.noise import noise_components as look
    from ..pages import figures
    from ..pages.files import checked_file

    rows, settings = parse_seeds(seeds), Settings(psi=psi)
    path = checked_file(default_out(out, "noise-components.png"), ".png")
    model = _model(source, named, "noise-components")
    components = look(model, rows, settings, progress())
    print(
        figures.noise_components(
            model.about, components, path, seeds=rows, settings=settings, title=title
        )
    )
    tell_count(components.not_finite)


@app.command()
@metadata_option
def progression(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="Seeds, one column for each.")] = "0-7",
    rows: Annotated[int, typer.Option(callback=within(2, 64), help="At most this many moments.")] = 8,
    stages: Annotated[
        Literal["auto", "snapshots", "grids"],
        typer.Option("--from", help="snapshots; grids that training drew (seeds 0-63); auto: the most."),
    ] = "auto",
    psi: Psi = 1.0,
    video: Annotated[Path | None, typer.Option(help="Also the film of all moments, as MP4.")] = None,
    title: Title = None,
) -> None:
    """The same as omokage montage of one run, as a picture and, with --video, as a film too."""
    from ..exploring import montage
    from ..pages.files import checked_file

    if not run.is_dir():
        raise UserError(f"figure progression: {run} is no run folder; give the folder, not a snapshot in it")
    path = checked_file(default_out(out, "progression.png"), ".png")
    films = [] if video is None else [checked_file(video, ".mp4")]
    shown, settings = parse_seeds(seeds), Settings(psi=psi)
    _model(run, None, "progression", psi)
    most = 0
    for file in (path, *films):
        written, lost, _ = montage(
            [run],
            file,
            seeds=shown,
            settings=settings,
            source=stages,
            rows=rows,
            title=title,
            progress=progress(),
        )
        print(written)
        most = max(most, lost)
    tell_count(most)
