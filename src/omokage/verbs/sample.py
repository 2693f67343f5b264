"""`omokage sample`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import (
    MAX_SEEDS,
    Chosen,
    default_out,
    parse_seeds,
    progress,
    sampling_options,
    tell_broken,
    tell_finite,
    within,
)


@sampling_options
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
    chosen: Chosen = None,  # type: ignore[assignment]
    number: Annotated[
        int | None, typer.Option("-n", "--number", callback=within(1, MAX_SEEDS), help="Seeds from 0 on.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="One file for each seed.")] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="A contact sheet: larger, with seeds.")] = False,
    columns: Annotated[
        int | None, typer.Option(callback=within(1, 1000), help="Faces in a row. Default: about square.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="A walk from seed to seed as MP4; with -o, also the picture.")
    ] = None,
) -> None:
    """Draw new faces with a trained model: a picture, one file for each seed, or a video."""
    if each and out is None:
        raise UserError("sample: --each needs a folder, for example -o samples/")
    if each and sheet:
        raise UserError("sample: --each and --sheet exclude each other; make two calls")
    if seeds is not None and number is not None:
        raise UserError("sample: --seeds and -n exclude each other; -n 100 is --seeds 0-99")
    listed = parse_seeds(seeds) if seeds is not None else list(range(number)) if number else None
    settings, *others = chosen.each
    if others and (out is None or sheet or video):
        raise UserError(
            "sample: several --psi write files into a folder; give it with -o, without --sheet or --video"
        )
    if out is not None and not each and not others and (out.is_dir() or not out.suffix):
        raise UserError(
            f"sample: -o {out} is a folder: add --each for one file for each seed, or name one picture, like "
            f"{out / 'faces.png'}"
        )
    from ..model import load_model
    from ..samples import write_each, write_grid, write_sheet, write_walk

    model = load_model(source)
    chosen.check(model)
    broken: list[int] = []
    faces = list(range(64)) if listed is None else listed
    if others:
        for one in chosen.each:
            folder, broken = Path(out or ".") / f"psi{one.psi:+.2f}", []
            written = write_each(model, faces, folder, settings=one, progress=progress(), broken=broken)
            print(f"{len(written):,} files in {folder}")
            tell_finite(model, len(faces), broken)
        return
    if video is not None:
        stops = list(range(8)) if listed is None else listed
        print(write_walk(model, stops, video, settings=settings, progress=progress(), broken=broken))
        tell_broken("frames of the video are", "frames", broken)
        if out is None:
            return
    broken = []
    target = default_out(out, "faces.png")
    if each:
        written = write_each(model, faces, target, settings=settings, progress=progress(), broken=broken)
        print(f"{len(written):,} files in {target}")
    else:
        write = write_sheet if sheet else write_grid
        shown = progress()
        print(write(model, faces, target, settings=settings, columns=columns, progress=shown, broken=broken))
    tell_finite(model, len(faces), broken)
