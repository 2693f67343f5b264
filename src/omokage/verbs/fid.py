"""`omokage fid`: the FID between two folders of pictures."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import progress, within


def fid(
    a: Annotated[
        str, typer.Argument(metavar="A", help="Pictures to measure: a folder, an archive or a face set.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Pictures to compare with, in the same forms.")],
    protocol: Annotated[
        str,
        typer.Option(
            help="A feature network, for all pictures of A; or fid2k-full-inception2015 for the first 2,000."
        ),
    ] = "inception2015",
    size: Annotated[
        int | None,
        typer.Option(callback=within(1, 8192), help="Pixels a side. Default: the most frequent size in A."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON lines to append to.")] = None,
) -> None:
    """Measure FID between two folders of pictures, without a run."""
    from ..metrics.folders import counted, fid_folders, skipped_in_words
    from ..metrics.records import append_line, check_writable

    if out is not None:
        check_writable(out)
    found = fid_folders(a, b, protocol, size=size, progress=progress(), tell=_warn)
    print(f"FID {found.fid:.2f}  ({found.protocol}, pictures at {found.size[0]}×{found.size[1]})")
    for side, (name, path) in enumerate((("A", a), ("B", b))):
        resized = f", {found.resized[side]:,} of another size and resized" if found.resized[side] else ""
        pictures = counted(found.pictures[side], "picture")
        print(f"{name}: {pictures} in {path}{resized}{skipped_in_words(found.skipped[side])}")
    if out is not None:
        append_line(out, found.record)
        print(f"appended to {out}")


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
