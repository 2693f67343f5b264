"""``omokage figure``: pictures to publish, one command each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UserError
from .options import parse_seeds, progress, within

if TYPE_CHECKING:
    from ..snapshot import Model

app = typer.Typer(
    help="Figures to publish: one command, one PNG with margins and labels.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[Path | None, typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships.")]
Styled = Annotated[Path, typer.Argument(metavar="RUN|SNAPSHOT", help="Of a family with styles.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The PNG. Default: the figure's name.")]
Psi = Annotated[float, typer.Option(callback=within(-2, 2), help="Truncation: 1 all variety, 0 the average.")]
Title = Annotated[str | None, typer.Option(help="Another title; an empty one for no heading at all.")]


def _model(source: Path | None) -> "Model":
    from ..snapshot import load_model

    return load_model(source)


def _numbers(text: str, option: str) -> list[float]:
    """``1.2,1,0.5`` as numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option}: got {text!r}; write numbers with commas between, like 1,0.5,0") from None


@app.command()
def uncurated(
    source: Source = None,
    out: Out = None,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="The first seed.")] = 0,
    psi: Psi = 1.0,
    rows: Annotated[int, typer.Option(callback=within(1, 64), help="Rows of the largest faces.")] = 2,
    sizes: Annotated[
        str, typer.Option(help="Columns: how many times each one's faces are half as large.")
    ] = "0,0,1,1,2,2,3,3",
    title: Title = None,
) -> None:
    """Faces of consecutive seeds in several sizes, none left out."""
    from ..explore.figures import write_uncurated

    halvings = _numbers(sizes, "--sizes")
    if any(halving != int(halving) for halving in halvings):
        raise UserError(f"--sizes: got {sizes}; write whole numbers like 0,1,2,2,3,3")
    target = out or Path("uncurated.png")
    print(
        write_uncurated(
            _model(source),
            target,
            seed=seed,
            psi=psi,
            rows=rows,
            halvings=[int(halving) for halving in halvings],
            title=title,
            progress=progress(),
        )
    )


@app.command()
def mixing(
    source: Styled,
    out: Out = None,
    a: Annotated[str, typer.Option("--a", help="Seeds of the rows: coarse, middle, fine.")] = "100-105",
    b: Annotated[str, typer.Option("--b", help="Seeds of the columns, whose styles are copied.")] = "200-204",
    psi: Psi = 0.7,
    title: Title = None,
) -> None:
    """Faces of A with the coarse, middle or fine styles of B."""
    from ..explore.figures import write_mixing

    target = out or Path("mixing.png")
    print(
        write_mixing(
            _model(source),
            target,
            sources_a=parse_seeds(a),
            sources_b=parse_seeds(b),
            psi=psi,
            title=title,
            progress=progress(),
        )
    )


@app.command()
def truncation(
    source: Source = None,
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-5",
    psi: Annotated[
        str | None, typer.Option(help="One column each. Default: 1.2,1,0.7,0.5,0.25,0,-0.25,-0.5,-1.")
    ] = None,
    title: Title = None,
) -> None:
    """The same seeds at many psi: from all variety to the average face, and to the other side of it."""
    from ..explore.figures import write_truncation

    psis = None if psi is None else _numbers(psi, "--psi")
    target = out or Path("truncation.png")
    print(
        write_truncation(
            _model(source), target, seeds=parse_seeds(seeds), psis=psis, title=title, progress=progress()
        )
    )


@app.command()
def noise_detail(
    source: Styled,
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-2",
    psi: Psi = 0.7,
    noise_seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="Other noises.")] = 0,
    title: Title = None,
) -> None:
    """What noise changes in a face: near, and its deviation over a hundred noises."""
    from ..explore.figures import write_noise_detail

    target = out or Path("noise-detail.png")
    print(
        write_noise_detail(
            _model(source),
            target,
            seeds=parse_seeds(seeds),
            psi=psi,
            noise_seed=noise_seed,
            title=title,
            progress=progress(),
        )
    )


@app.command()
def noise_components(
    source: Styled,
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-2",
    psi: Psi = 0.7,
    title: Title = None,
) -> None:
    """Noise in all layers, in none, in the fine ones and in the coarse ones."""
    from ..explore.figures import write_noise_components

    target = out or Path("noise-components.png")
    print(
        write_noise_components(
            _model(source), target, seeds=parse_seeds(seeds), psi=psi, title=title, progress=progress()
        )
    )


@app.command()
def progression(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    out: Out = None,
    seeds: Annotated[str, typer.Option(help="One column each.")] = "0-7",
    rows: Annotated[int, typer.Option(callback=within(2, 64), help="At most so many moments.")] = 8,
    stages: Annotated[
        Literal["auto", "snapshots", "grids"],
        typer.Option("--from", help="snapshots; grids that training drew (seeds 0-63); auto: the most."),
    ] = "auto",
    psi: Psi = 1.0,
    video: Annotated[Path | None, typer.Option(help="Also a montage of all moments as MP4.")] = None,
    title: Title = None,
) -> None:
    """The same seeds over a run, as a picture and as a film."""
    from ..explore.figures import write_progression

    target = out or Path("progression.png")
    print(
        write_progression(
            run,
            target,
            seeds=parse_seeds(seeds),
            psi=psi,
            rows=rows,
            source=stages,
            title=title,
            video=video,
            progress=progress(),
        )
    )
    if video is not None:
        print(video)
