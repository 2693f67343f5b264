"""`omokage sample`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import (
    MAX_SEEDS,
    check_psi,
    check_temperature,
    each_within,
    parse_conditions,
    parse_seeds,
    progress,
    tell_broken,
    tell_finite,
    within,
)


def sample(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships with the package."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Like 0-63,100,200-210. Default: 0-63, for a video 0-7.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A PNG, or with --each a folder. Default: faces.png."),
    ] = None,
    psis: Annotated[
        list[float] | None,
        typer.Option(
            "--psi",
            callback=each_within(-2, 2),
            help="Truncation: 1 all variety, 0 the average face, below 0 its opposite side (models with "
            "styles). Several, like --psi 1 0.5 -0.5, write a folder each into the folder -o.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 2),
            help="What --psi is for flows: the spread of all they draw; 0.7 gives cleaner faces, more alike.",
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            callback=within(0, 20),
            help="How far faces go beyond their conditions (a TarFlow trained with some); 0: not.",
        ),
    ] = 0.0,
    jacobi: Annotated[
        int,
        typer.Option(
            callback=within(0, 65_536),
            help="TarFlow: so many Jacobi iterations a block, faster and nearly the same; 0: token by token.",
        ),
    ] = 0,
    number: Annotated[
        int | None, typer.Option("-n", "--number", callback=within(1, MAX_SEEDS), help="Seeds from 0 on.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="One file a seed.")] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="A contact sheet: larger, with seeds.")] = False,
    columns: Annotated[
        int | None, typer.Option(callback=within(1, 1000), help="Faces a row. Default: near a square.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="A walk from seed to seed as MP4; also -o if both are given.")
    ] = None,
    hair: Annotated[str | None, typer.Option(help="Short for --condition hair=...")] = None,
    eyes: Annotated[str | None, typer.Option(help="Short for --condition eyes=...")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only faces with this value of a condition trained with."),
    ] = None,
) -> None:
    """Draw new faces with a trained model: a picture, one file a seed, or a video."""
    if each and out is None:
        raise UserError("sample: --each needs a folder, for example -o samples/")
    if each and sheet:
        raise UserError("sample: --each and --sheet exclude each other; make two calls")
    if seeds is not None and number is not None:
        raise UserError("sample: --seeds and -n exclude each other; -n 100 is --seeds 0-99")
    if temperature is not None:
        if psis:
            raise UserError("sample: --temperature and --psi are the same for a flow; give one of them")
        psis = [temperature]
    chosen = parse_seeds(seeds) if seeds is not None else list(range(number)) if number else None
    psi, *others = psis or [1.0]
    if others and (out is None or sheet or video):
        raise UserError(
            "sample: several --psi write files into a folder; give it by -o, no --sheet or --video"
        )
    broken: list[int] = []
    given = parse_conditions(condition or [], hair=hair, eyes=eyes)
    from ..snapshot import load_model

    model = load_model(source).conditioned(given).guided(guidance).iterating(jacobi)
    check_psi(model, min(psi, *others) if others else psi)
    if temperature is not None:
        check_temperature(model)
    if others:
        from ..explore.grid import write_each

        faces = list(range(64)) if chosen is None else chosen
        for value in (psi, *others):
            folder, broken = Path(out or ".") / f"psi{value:+.2f}", []
            written = write_each(model, faces, folder, psi=value, progress=progress(), broken=broken)
            print(f"{len(written):,} files in {folder}")
            tell_finite(model, len(faces), broken)
        return
    if video is not None:
        from ..explore.video import write_walk

        broken = []
        stops = list(range(8)) if chosen is None else chosen
        print(write_walk(model, stops, video, psi=psi, progress=progress(), broken=broken))
        tell_broken("frames of the video are", "frames", broken)
        if out is None:
            return
    from ..explore.contact_sheet import write_contact_sheet
    from ..explore.grid import write_each, write_grid

    faces = list(range(64)) if chosen is None else chosen
    broken = []
    target = Path("faces.png") if out is None else out
    if each:
        written = write_each(model, faces, target, psi=psi, progress=progress(), broken=broken)
        print(f"{len(written):,} files in {target}")
    else:
        write = write_contact_sheet if sheet else write_grid
        print(write(model, faces, target, psi=psi, columns=columns, progress=progress(), broken=broken))
    tell_finite(model, len(faces), broken)
