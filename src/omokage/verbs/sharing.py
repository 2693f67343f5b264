"""``omokage export`` and ``omokage publish``: a model for programs and people without Omokage."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

RUN = typer.Argument(metavar="[RUN]", help="A run, a snapshot, or shipped (the default).")


def _told(line: str) -> None:
    print(line, file=sys.stderr)


def export(
    model: Annotated[str | None, RUN] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The ONNX file. Default: model.onnx.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights in half precision.")] = False,
    parts: Annotated[
        bool,
        typer.Option("--parts", help="Also write mapping and synthesis, or the encoder, beside the file."),
    ] = False,
) -> None:
    """Write a model as an ONNX file: latents z in, faces out; compared with PyTorch beforehand."""
    from ..interop.onnx import export_onnx
    from ..model import load_model
    from .options import default_out

    loaded = load_model(model, "cpu")
    for path in export_onnx(loaded, default_out(out, "model.onnx"), half=half, with_parts=parts, tell=_told):
        print(path)


def publish(
    model: Annotated[str | None, RUN] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder to write.")] = Path("page"),
    directions: Annotated[
        Path | None,
        typer.Option(
            "--directions", "-d", help="From omokage directions: sliders. Default: those beside the model."
        ),
    ] = None,
    memorised: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The JSON file of omokage neighbours. Default: the run's."),
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Publish without that figure; the card says so.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="ONNX Runtime's files for browsers. Default: npm fetches them."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the card and the page. Default: the recipe.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="Of the weights, like cc-by-4.0.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds in the grid and on the page.")] = "0-63",
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also upload the folder to that hub repository.")
    ] = None,
) -> None:
    """Write a folder for others: card, weights, ONNX, and a page that draws faces in any browser."""
    from ..errors import UserError
    from ..explore.directions import directions_of
    from ..hub import push as upload
    from ..hub import repository
    from ..model import load_model
    from ..publish.folder import publish as run
    from ..settings import parse_seeds

    if push is not None:
        repository(push)
    loaded, ways = load_model(model, "cpu"), None
    try:
        ways = directions_of(loaded, directions)
    except UserError as error:
        if directions is not None:
            raise
        _told(f"the page has no sliders for attributes: {error}")
    folder = run(
        loaded,
        out,
        directions=ways,
        memorised=memorised,
        unchecked=unchecked,
        runtime=runtime,
        title=title,
        licence=licence,
        seeds=parse_seeds(seeds),
        tell=_told,
    )
    print(folder)
    if (folder / "index.html").is_file():
        _told(f"look at it: python -m http.server -d {shlex.quote(str(folder))}, then open localhost:8000")
    if push is not None:
        print(upload(folder, push))
