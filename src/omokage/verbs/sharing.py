"""``omokage export`` and ``omokage publish``: a model for programs and people without Omokage."""

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
