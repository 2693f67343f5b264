"""`omokage report` and `omokage card`: pages about runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..listing import not_a_run
from .options import default_out, parse_seeds, progress


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, like runs/*.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write. Default: report.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The page's heading.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of faces that every run draws; '' draws none.")] = "0-31",
    neighbours: Annotated[
        bool, typer.Option(help="Show the runs' nearest training faces, where measured: real faces.")
    ] = True,
) -> None:
    """Compare runs on an HTML page (figures, faces of the same seeds, curves) and in a CSV file."""
    chosen = parse_seeds(seeds) if seeds.strip() else []
    if all(map(not_a_run, runs)):
        raise UserError(f"{not_a_run(runs[0])}; omokage train makes a run")
    from ..report.page import write_report

    folder = default_out(out, "report")
    page, problems = write_report(
        runs, folder, title=title, seeds=chosen, neighbours=neighbours, progress=progress()
    )
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(page)
    print(page.with_name("report.csv"))


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; default: print.")
    ] = None,
) -> None:
    """Write a run's model card: the model, its data with licences and artists, its figures and limits."""
    if told := not_a_run(run):
        raise UserError(told)
    from ..report.card import write_card

    text = write_card(run)
    if out is None:
        print(text, end="")
        return
    from ..pages.files import replacing

    with replacing(out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(out)
