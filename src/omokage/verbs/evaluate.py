"""`omokage evaluate`: measures samples or held-out faces, and records the figures as a line of JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .options import free_path, progress, tell_broken, within

if TYPE_CHECKING:
    from ..data.faceset import FaceSet
    from ..model import Model

NEIGHBOURS = 16  # number of samples whose nearest training faces are shown


def evaluate(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships with the package."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The face set to compare with.")] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="How to measure: samples, faces, feature network. Or fid2k-full-tags, bpd-heldout-8bit, ..."
        ),
    ] = "fid10k-full-inception2015",
    psi: Annotated[float, typer.Option(callback=within(0, 2), help="Truncation; 1 is usual.")] = 1.0,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="The first seed.")] = 0,
    also: Annotated[
        list[str] | None, typer.Option(help="Another feature network for the same samples: tags.")
    ] = None,
    two_sample: Annotated[
        bool, typer.Option("--two-sample", help="Also train a network to tell real from generated.")
    ] = False,
    repeats: Annotated[
        int,
        typer.Option(
            callback=within(1, 1000), help="Measure so many ranges of seeds; FID then has its 95% interval."
        ),
    ] = 1,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Also show the nearest training faces of 16 samples.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="JSON lines to append to. Default: evaluations.jsonl in the run."),
    ] = None,
) -> None:
    """Measure samples against a face set: FID, KID, precision, recall, density, coverage.

    With a protocol like bpd-heldout-8bit: the likelihood of held-out faces, in bits per dimension.
    """
    if data is None:
        raise UserError("evaluate: --data is missing, for example --data faces/")
    if neighbours and source is None:
        raise UserError("evaluate: --neighbours writes into the run folder; name a run")
    from ..metrics.protocol import HELDOUT_PREFIX, parse_bits, parse_protocol
    from ..settings import Settings

    settings = Settings()
    heldout = protocol.startswith(HELDOUT_PREFIX)
    if heldout:
        parse_bits(protocol)
        if psi != 1 or also or two_sample or neighbours or repeats != 1:
            raise UserError(
                f"evaluate: {protocol} draws no samples; drop --psi, --also, --two-sample, --neighbours, "
                "--repeats"
            )
    else:
        settings = Settings(psi=parse_protocol(protocol).at(psi).psi)
    from ..data.faceset import FaceSet
    from ..metrics.report import print_results
    from ..model import load_model

    faces, model = FaceSet.open(data), load_model(source)
    folder = Path() if source is None or model.path is None else model.path.parent
    lines = folder / "evaluations.jsonl" if out is None else out
    picture = folder / "neighbours.png"
    if neighbours:
        picture = free_path(picture)
        _check_neighbours(model, faces, picture)
    if heldout:
        from ..metrics.heldout import evaluate_heldout

        record = evaluate_heldout(model, faces, protocol, lines, progress(), seed=seed, tell=_warn)
    else:
        from ..metrics.report import evaluate as run

        model.check(settings)

        record = run(
            model,
            faces,
            protocol,
            lines,
            progress(),
            psi=psi,
            seed=seed,
            also=also or (),
            two_sample=two_sample,
            repeats=repeats,
            tell=_warn,
        )
    print_results([record], warnings=False)
    print(f"appended to {lines}")
    if neighbours:
        print(_show_neighbours(model, faces, seed, picture))


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


def _check_neighbours(model: "Model", faces: "FaceSet", picture: Path) -> None:
    """Check, before sampling, everything that `_show_neighbours` would refuse afterwards."""
    from ..metrics.features import load_extractor
    from ..metrics.neighbours import check_neighbours
    from ..metrics.records import check_writable

    check_neighbours(len(faces))
    check_writable(picture)
    load_extractor("tags", device=model.device)


def _show_neighbours(model: "Model", faces: "FaceSet", seed: int, out: Path) -> Path:
    from ..metrics.features import load_extractor
    from ..metrics.neighbours import neighbours
    from ..pages.neighbours import neighbour_sheet
    from ..sampling import gathered
    from ..sampling import sample as draw

    seeds = range(seed, seed + NEIGHBOURS)
    samples, finite = gathered(draw(model, seeds))
    lost = [seed for seed, whole in zip(seeds, finite, strict=True) if not whole]
    tell_broken(f"of {NEIGHBOURS} samples are", "seeds", lost)
    trained_on = faces.everything(model.resolution, progress())
    names = [str(number) for number in seeds]
    extractor = load_extractor("tags", device=model.device)
    report = neighbours(samples, trained_on, extractor=extractor, progress=progress())
    return neighbour_sheet(samples, trained_on, report.spaces, out, labels=names)
