"""`omokage evaluate`: measures samples or held-out faces, and records the figures as a line of JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .options import Named, free_path, one_model, progress, within

if TYPE_CHECKING:
    from ..data.store.faceset import FaceSet
    from ..explore.neighbours import Trained
    from ..model import Model

NEIGHBOURS = 16  # number of samples whose nearest training faces are shown


def evaluate(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|SNAPSHOT", help="Default: the model that ships with the package."),
    ] = None,
    named: Named = None,
    data: Annotated[Path | None, typer.Option(help="The face set to compare with.")] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="How to measure: samples, faces, feature network. Or fid2k-full-tags, bpd-heldout-8bit, ..."
        ),
    ] = "fid10k-full-inception2015",
    psi: Annotated[float, typer.Option(callback=within(0, 2), help="Truncation; 1 is usual.")] = 1.0,
    critic: Annotated[
        float, typer.Option(callback=within(1, 20), help="Faces tried for each sample; 1: no critic.")
    ] = 1.0,
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
    path_length: Annotated[
        bool, typer.Option("--path-length", help="Also measure how entangled z and w are (path length).")
    ] = False,
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
    wanted = one_model(source, named)
    from ..metrics.protocol import HELDOUT_PREFIX, parse_bits, parse_protocol
    from ..settings import Settings

    settings = Settings()
    heldout = protocol.startswith(HELDOUT_PREFIX)
    if heldout:
        parse_bits(protocol)
        if psi != 1 or critic != 1 or also or two_sample or path_length or neighbours or repeats != 1:
            raise UserError(
                f"evaluate: {protocol} draws no samples; drop --psi, --also, --two-sample, "
                "--critic, --path-length, --neighbours, --repeats"
            )
    else:
        settings = parse_protocol(protocol).at(psi, critic).settings
    from ..data.store.faceset import FaceSet
    from ..metrics.report import print_results
    from ..model import SHIPPED_MODELS, load_model

    faces, model = FaceSet.open(data), load_model(wanted)
    ships = model.path is None or model.path in SHIPPED_MODELS.values()
    if neighbours and ships:
        raise UserError("evaluate: --neighbours writes into the run folder; name a run")
    folder = Path() if ships or model.path is None else model.path.parent
    lines = folder / "evaluations.jsonl" if out is None else out
    picture, trained = folder / "neighbours.png", None
    if neighbours:
        picture = free_path(picture)
        trained = _trained(model, faces, picture)
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
            critic=critic,
            seed=seed,
            also=also or (),
            two_sample=two_sample,
            repeats=repeats,
            path_length=path_length,
            tell=_warn,
        )
    print_results([record], warnings=False)
    print(f"appended to {lines}")
    if trained is not None:
        from .neighbours import samples_of, write_neighbours

        shown, names = samples_of(model, range(seed, seed + NEIGHBOURS), Settings())
        for line in write_neighbours(model, trained, shown, names, picture, seed=0):
            print(line)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


def _trained(model: "Model", faces: "FaceSet", picture: Path) -> "Trained":
    """Check, before sampling, everything that `omokage neighbours` would refuse afterwards."""
    from ..explore.neighbours import Trained
    from ..metrics.features import load_extractor
    from ..metrics.perceptual import perceptual_extractor
    from ..metrics.records import check_writable

    check_writable(picture)
    load_extractor("tags", device=model.device)
    perceptual_extractor()
    trained = Trained.open(faces.path, model.progress.get("face_set"))
    for line in trained.told:
        _warn(line)
    return trained
