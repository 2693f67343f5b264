"""`omokage critic`: trains the critic of a finished model."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import progress, within


def critic(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|SNAPSHOT", help="A run (its newest snapshot), or a snapshot.")
    ],
    data: Annotated[Path | None, typer.Option(help="The face set that it learned from.")] = None,
    samples: Annotated[
        int, typer.Option(callback=within(500, 10**6), help="Samples, and as many faces, that teach it.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="Seed of the training.")] = 0,
) -> None:
    """Train a critic for a model: `sample --critic 3` then draws samples of lower FID.

    It prefers kinds of faces that the model draws too rarely, and does not see single broken faces. It is
    written beside the snapshot. For models with styles and for skipgan.
    """
    if data is None:
        raise UserError("critic: --data is missing: the face set that the model learned from")
    from ..data.store.faceset import FaceSet
    from ..model import load_model
    from ..training.critic import train_critic, write_critic

    faces, model = FaceSet.open(data), load_model(source)
    if model.progress.get("face_set") not in (None, faces.content_hash):
        typer.echo("warning: the model learned from another face set", err=True)
    found, report = train_critic(model, faces, samples=samples, seed=seed, progress=progress())
    print(
        f"{report.faces:,} faces and {report.samples:,} samples; the critic explains "
        f"{report.explained:.0%} of how their pictures are judged"
    )
    print(write_critic(model, found, report))
