"""``omokage import``: makes a snapshot of a model that others trained."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .pkl of NVIDIA's stylegan2-ada-pytorch or stylegan3, or rosinality's .pt."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The snapshot to write (.safetensors).")],
) -> None:
    """Convert a StyleGAN2 generator of others into a snapshot; nothing in the file is executed."""
    from ..interop.stylegan2 import import_stylegan2

    print(import_stylegan2(file, out, tell=lambda line: print(line, file=sys.stderr)))
