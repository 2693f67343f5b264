"""`omokage sheet`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import Given, default_out, face_options, progress


@face_options
def sheet(
    given: Given,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .png or .pdf. Default: character.png.")
    ] = None,
    name: Annotated[str, typer.Option(help="The character's name.")] = "",
    notes: Annotated[str, typer.Option(help="What to write beside the face.")] = "",
    transparent: Annotated[
        bool, typer.Option("--transparent", help="Cut the faces out of their background.")
    ] = False,
    language: Annotated[str, typer.Option(help="Of headings and small print: en or ja.")] = "en",
) -> None:
    """Write a character sheet: the first face large, the others as variations, colours, name and notes."""
    from ..studio.exports import items_of, write_sheet
    from ..terms import LANGUAGES

    if language not in LANGUAGES:
        raise UserError(f"--language {language}: there are {', '.join(LANGUAGES)}")
    target = default_out(out, "character.png")
    opened = given.open("0")
    written = write_sheet(
        items_of(opened.model, opened.faces, opened.settings, progress()),
        target,
        name=name,
        notes=notes.replace("\\n", "\n"),
        transparent=transparent,
        recipe=given.metadata,
        language=language,
        progress=progress(),
    )
    print(written.path)
    for line in dict.fromkeys(line for line in written.told if not line.startswith("Enlarged")):
        typer.echo(line, err=True)
    opened.save()
