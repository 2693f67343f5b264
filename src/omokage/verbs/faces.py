"""`omokage faces`: shows, counts, chooses, reviews, splits, joins and exports finished face sets."""

from pathlib import Path
from typing import Annotated

import typer

from .options import WORKERS, default_out, need, progress, within

app = typer.Typer(help="Look at finished face sets, choose, review, split, join and export them.")

FACES = typer.Argument(metavar="FACES", help="A face set.")
OUT = typer.Option("--out", "-o", help="The folder to write.")
WHERE = typer.Option(
    "--where", metavar="CONDITION", help="Only these, like hair=blonde or 'width>=96'; may be repeated."
)
OPT_OUT = typer.Option(help="A list of hashes and artists to leave out, one on each line.")


@app.command()
def show(
    faces: Annotated[Path, FACES],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A PNG. Default: faces.png.")] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", callback=within(1, 10_000), help="At most this many faces.")
    ] = 64,
    conditions: Annotated[list[str] | None, WHERE] = None,
    label: Annotated[
        str | None, typer.Option(help="The column written under each face; default: the key.")
    ] = None,
    seed: Annotated[int, typer.Option(callback=within(0, 2**63 - 1), help="Another seed, other faces.")] = 0,
    columns: Annotated[
        int | None, typer.Option(callback=within(1, 1000), help="Faces in a row. Default: about square.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Show groups of similar pictures, one in each row.")
    ] = False,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Write a sheet with random faces of a face set."""
    import numpy as np

    from ..data.derive.choose import chosen_rows, nearest
    from ..data.derive.duplicates import duplicate_groups
    from ..data.derive.pairs import ALIKE
    from ..data.derive.signatures import face_set_signatures
    from ..data.store.faceset import FaceSet
    from ..pages.face_sheet import write_face_sheet

    opened, picture = FaceSet.open(faces), default_out(out, "faces.png")
    rows = chosen_rows(opened, conditions or [])
    filters = "".join(f"  ·  {condition}" for condition in conditions or [])
    line = f"{len(rows):,} of {len(opened):,} faces{filters}  ·  content {opened.content_hash[:12]}"
    _tell_unknown(nearest(opened.index, conditions or []))
    if duplicates:
        signatures = face_set_signatures(opened, rows.tolist(), workers=workers, progress=progress())
        groups = duplicate_groups(signatures, likeness=ALIKE, progress=progress())
        order = np.argsort(groups, kind="stable")
        parts = np.split(rows[order], np.nonzero(np.diff(groups[order]))[0] + 1)
        parts = sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))
        if not parts:
            print("no two faces are alike")
            return
        total = sum(map(len, parts))
        title = f"{len(parts):,} group{'s'[: len(parts) > 1]} of faces alike, {total:,} faces"
        shown: list[list[int]] = []
        for part in parts:
            if shown and sum(map(len, shown)) + min(len(part), 12) > number:
                break
            shown.append(part[:12].tolist())
        print(write_face_sheet(opened, shown, picture, title=title, line=line, label=label))
        return
    if len(rows) > number:
        rows = np.sort(np.random.default_rng(seed).choice(rows, number, replace=False))
    print(write_face_sheet(opened, rows, picture, line=line, label=label, columns=columns))


def _tell_unknown(unknown: str) -> None:
    """Say which conditions name a value that no face has, although other faces meet the conditions."""
    if unknown:
        typer.echo(f"--where: {unknown}", err=True)


@app.command()
def stats(
    faces: Annotated[Path, FACES],
    as_json: Annotated[bool, typer.Option("--json", help="All figures, as JSON.")] = False,
    near: Annotated[
        bool, typer.Option("--near/--no-near", help="Compare all pictures to find near-duplicates.")
    ] = True,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Count sizes, labels, sources and duplicates."""
    import json

    from ..data.derive.stats import show_statistics, statistics

    figures = statistics(faces, near=near, workers=workers, progress=progress())
    if as_json:
        print(json.dumps(figures, indent=1, ensure_ascii=False))
    else:
        show_statistics(figures)


@app.command()
def split(
    faces: Annotated[Path, FACES],
    out: Annotated[Path, OUT],
    holdout: Annotated[float, typer.Option(help="The share to hold out.")] = 0.05,
    seed: Annotated[int, typer.Option(callback=within(0, 2**63 - 1), help="Another seed, other faces.")] = 0,
    together: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Keep equal values on one side; may be repeated. Default: artist, source if many.",
        ),
    ] = None,
    together_from: Annotated[
        str | None,
        typer.Option(
            metavar="folder|PATTERN",
            help="The same for file names: their folder, or a pattern's named groups.",
        ),
    ] = None,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Split into OUT/train and OUT/heldout; copies and groups stay on one side."""
    from ..data.derive.split import split as run
    from ..data.sources.names import told

    report = run(
        faces,
        out,
        holdout=holdout,
        seed=seed,
        together=together,
        together_from=together_from,
        workers=workers,
        progress=progress(),
    )
    if report.already:
        print(f"{out} is complete already")
    kept = ", ".join(["near-duplicates", "faces of one file", *report.together])
    print(f"{report.train:,} faces in {out / 'train'}, {report.heldout:,} in {out / 'heldout'}")
    print(f"{report.groups:,} groups on one side each (largest {report.largest:,}), by {kept}")
    for line in told(report.names):
        print(line)


@app.command()
def merge(
    faces: Annotated[list[Path], typer.Argument(metavar="FACES...", help="Face sets; one to clean it.")],
    out: Annotated[Path, OUT],
    drop: Annotated[
        str, typer.Option(help="Duplicates to drop: none, exact, or near (with copies). The best stays.")
    ] = "none",
    conditions: Annotated[list[str] | None, WHERE] = None,
    opt_out: Annotated[Path | None, OPT_OUT] = None,
    review: Annotated[
        Path | None, typer.Option(help="A list of omokage faces review; the rejected faces are left out.")
    ] = None,
    workers: Annotated[int | None, WORKERS] = None,
) -> None:
    """Join face sets into one, or clean one: drop duplicates and artists who opted out."""
    from ..data.derive.merge import merge as run
    from ..data.derive.optout import OPTED_OUT, told

    report = run(
        faces,
        out,
        drop=drop,
        conditions=conditions or (),
        opt_out=opt_out,
        review=review,
        workers=workers,
        progress=progress(),
    )
    if report.already:
        print(f"{out} is complete already")
    _tell_unknown(report.unknown)
    print(f"{report.kept:,} of {report.found:,} faces kept in {out}")
    for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
        print(f"{count:>9,}  {reason}")
    if opt_out is not None and OPTED_OUT not in report.reasons:
        print(f"{0:>9,}  {OPTED_OUT}: nobody on the list is in these face sets")
    for line in told(report.opt_out):
        print(line)


@app.command("filter")
def filter_(
    faces: Annotated[Path, FACES],
    out: Annotated[Path, OUT],
    conditions: Annotated[list[str] | None, WHERE] = None,
    review: Annotated[
        Path | None, typer.Option(help="A list of omokage faces review; the rejected faces are left out.")
    ] = None,
    opt_out: Annotated[Path | None, OPT_OUT] = None,
) -> None:
    """Write a subset: the faces that meet conditions, without those rejected by eye."""
    from ..errors import UserError

    if not (conditions or review or opt_out):
        raise UserError("faces filter: give --where, --review or --opt-out, for example --where 'width>=96'")
    merge([faces], out, conditions=conditions, opt_out=opt_out, review=review)


@app.command()
def review(
    faces: Annotated[Path, FACES],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The list of verdicts, a CSV. Default: review.csv.")
    ] = None,
    conditions: Annotated[list[str] | None, WHERE] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The faces with the lowest number come first.")
    ] = None,
    port: Annotated[int, typer.Option(callback=within(0, 65535), help="The port; 0: any free one.")] = 7861,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Open a page on which one key keeps or rejects a face; faces filter takes its list."""
    import numpy as np

    from ..data.derive.choose import chosen_rows, numbers_of
    from ..data.store.faceset import FaceSet

    need("faces review", "studio", "fastapi", "uvicorn")
    from ..review.server import serve

    opened = FaceSet.open(faces)
    rows = chosen_rows(opened, conditions or [])
    if sort is not None:
        rows = rows[np.argsort(numbers_of(opened.index, sort)[rows], kind="stable")]
    serve(
        opened,
        rows,
        out or Path("review.csv"),
        port=port,
        browser=not no_browser,
        tell=lambda line: print(line, flush=True),
    )


@app.command()
def export(
    faces: Annotated[Path, FACES],
    out: Annotated[Path, OUT],
    layout: Annotated[
        str, typer.Option("--as", help="folder, parquet, imagefolder or datasets (Hugging Face).")
    ] = "folder",
    conditions: Annotated[list[str] | None, WHERE] = None,
    opt_out: Annotated[Path | None, OPT_OUT] = None,
    name: Annotated[str, typer.Option("--split", help="The split's name for datasets.")] = "train",
) -> None:
    """Write the pictures into a folder, Parquet files, or a folder for Hugging Face datasets."""
    from ..data.derive.export import export as run
    from ..data.derive.optout import told

    report = run(
        faces,
        out,
        layout=layout,
        conditions=conditions or (),
        opt_out=opt_out,
        name=name,
        progress=progress(),
    )
    if report.already:
        print(f"{out} is complete already")
    _tell_unknown(report.unknown)
    print(f"{report.kept:,} of {report.found:,} faces in {out}")
    if opt_out is not None:
        print(f"{report.opted_out:>9,}  opted out")
    if report.unmet:
        print(f"{report.unmet:>9,}  do not meet the conditions")
    for line in told(report.opt_out):
        print(line)


@app.command()
def attributes(
    faces: Annotated[Path, FACES],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV. Default: attributes.csv.")] = None,
    conditions: Annotated[list[str] | None, WHERE] = None,
) -> None:
    """Estimate hair and eye colour, glasses and more of every face, with a confidence each."""
    from ..attributes import ATTRIBUTES, attribute_network
    from ..data.derive.choose import chosen_rows
    from ..data.store.faceset import FaceSet
    from ..explore.finding import estimates_of
    from ..pages.files import checked_file, save_table

    path = checked_file(default_out(out, "attributes.csv"), ".csv")
    opened, network = FaceSet.open(faces), attribute_network()
    rows = chosen_rows(opened, conditions or [])
    seen = estimates_of(network, opened, rows, progress())
    header = ["key", *(column for name in ATTRIBUTES for column in (name, f"{name}_confidence"))]
    values = {name: seen.values(name) for name in ATTRIBUTES}
    sure = {name: seen.confidence(name) for name in ATTRIBUTES}
    lines = (
        [
            opened.keys[row],
            *(cell for name in ATTRIBUTES for cell in (values[name][i], f"{sure[name][i]:.3f}")),
        ]
        for i, row in enumerate(rows)
    )
    print(save_table(header, lines, path))
    for name, about in ATTRIBUTES.items():
        counts = sorted(((values[name].count(value), value) for value in about.values), reverse=True)
        said = ", ".join(f"{value} {count / len(rows):.0%}" for count, value in counts if count)
        weak = "" if name in network.offered else "  (weak: see docs/steering.md)"
        print(f"{name}: {said}{weak}")
