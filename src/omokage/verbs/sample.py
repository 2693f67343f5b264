"""`omokage sample`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..settings import MAX_SEEDS
from .options import Given, default_out, face_options, progress, tell_finite, within

if TYPE_CHECKING:
    from ..model import Model
    from ..pages.upscale import Upscale
    from ..samples import Which
    from ..settings import Settings


@face_options
def sample(
    given: Given,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A PNG, or with --each a folder. Default: faces.png."),
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", "--number", callback=within(1, MAX_SEEDS), help="Seeds from 0 on.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="One file for each face.")] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="A contact sheet: larger, with seeds.")] = False,
    columns: Annotated[
        int | None, typer.Option(callback=within(1, 1000), help="Faces in a row. Default: about square.")
    ] = None,
    transparent: Annotated[
        bool, typer.Option("--transparent", help="Cut the faces out of their background.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Pass over seeds whose faces a network judges to be broken.")
    ] = False,
    video: Annotated[
        Path | None,
        typer.Option(help="A walk from face to face, as omokage walk makes it; with -o, also the picture."),
    ] = None,
) -> None:
    """Draw new faces with a trained model: a picture, one file for each face, or a video."""
    if each and out is None:
        raise UserError("sample: --each needs a folder, for example -o samples/")
    if each and sheet:
        raise UserError("sample: --each and --sheet exclude each other; make two calls")
    if given.seeds is not None and number is not None:
        raise UserError("sample: --seeds and -n exclude each other; -n 100 is --seeds 0-99")
    if transparent and (sheet or video):
        raise UserError("sample: --transparent is for pictures of faces; leave --sheet and --video out")
    chosen = given.chosen
    several = len(chosen.each) > 1
    if several and (out is None or sheet or video):
        raise UserError(
            "sample: several --psi write files into a folder; give it with -o, without --sheet or --video"
        )
    if out is not None and not each and not several and (out.is_dir() or not out.suffix):
        raise UserError(
            f"sample: -o {out} is a folder: add --each for one file for each seed, or name one picture, like "
            f"{out / 'faces.png'}"
        )
    if several and given.save_latents is not None:
        raise UserError("sample: --save-latents takes one --psi")
    if whole and (several or video or given.save_latents is not None):
        raise UserError("sample: --whole chooses pictures at one --psi, without --video or --save-latents")
    from ..samples import write_each, write_grid, write_sheet

    model, _ = given.load()
    enlarge, broken = replace(given.enlarge(), transparent=transparent, clean=[]), list[int]()
    default = f"0-{number - 1}" if number else "0-63"
    if several:
        for one in chosen.each:
            faces: Which = given.only_seeds(default) or given.open(default, settings=one).faces
            folder, broken = Path(out or ".") / f"psi{one.psi:+.2f}", []
            how: dict[str, Any] = {"settings": one, "enlarge": enlarge, "broken": broken}
            written = write_each(model, faces, folder, progress=progress(), **how)
            print(f"{len(written):,} files in {folder}")
            _tell_unclean(enlarge, faces)
            tell_finite(model, len(faces), broken, _numbers(faces))
        return
    settings = given.settings
    if video is not None:
        from ..exploring import walk

        filmed = given.open(default if number else "0-7")
        made = walk(model, filmed.faces, video, settings=settings, enlarge=enlarge, progress=progress())
        print(made.path)
        for line in made.told:
            typer.echo(line, err=True)
        if out is None:
            filmed.save()
            return
    target = default_out(out, "faces.png")
    faces = given.only_seeds(default) or []
    if whole:
        faces = _whole(model, faces, number if given.seeds is None else None, settings)
    opened = None if faces else given.open(default)
    if opened is not None:
        faces = opened.faces
    how = {"settings": settings, "enlarge": enlarge, "progress": progress(), "broken": broken}
    if each:
        written = write_each(model, faces, target, **how)
        print(f"{len(written):,} files in {target}")
    else:
        print((write_sheet if sheet else write_grid)(model, faces, target, columns=columns, **how))
    if opened is not None:
        opened.save()
    _tell_unclean(enlarge, faces)
    tell_finite(model, len(faces), broken, _numbers(faces))


def _whole(model: "Model", seeds: "Which", number: int | None, settings: "Settings") -> list[int]:
    """The seeds with whole faces; says how many were passed over."""
    from ..broken import whole_seeds

    if not isinstance(seeds, list) or not seeds:
        raise UserError("sample: --whole judges seeds; name seeds, or give -n")
    kept, passed = whole_seeds(model, seeds, number, settings, progress())
    typer.echo(f"{passed:,} of {len(kept) + passed:,} faces are judged to be broken and left out", err=True)
    return kept


def _tell_unclean(enlarge: "Upscale", faces: "Which") -> None:
    """Say which faces are not cut out cleanly, and forget them."""
    from ..sampling import seed_ranges

    seeds: Any = getattr(faces, "seeds", faces)
    labels = range(1, len(faces) + 1) if seeds is None else seeds
    unclean = [label for label, clean in zip(labels, enlarge.clean, strict=False) if not clean]
    enlarge.clean.clear()
    if unclean:
        told = f"{len(unclean):,} of {len(faces):,} not cut out cleanly, look at the edges:"
        typer.echo(f"{told} {_numbers(faces)} {seed_ranges(unclean)}"[:300], err=True)


def _numbers(faces: "Which") -> str:
    """What the numbers of faces that are not finite are."""
    return "faces" if getattr(faces, "seeds", faces) is None else "seeds"
