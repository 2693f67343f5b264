"""`omokage invert`: finds the face of a model that is most like a picture."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from .helptexts import TYPED
from .options import default_out, progress, within

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="RUN|SNAPSHOT|NAME", help="The model. Default: the one that ships."
    ),
]


def invert(
    files: Annotated[
        list[Path], typer.Argument(metavar="PICTURE", help="Pictures: PNG, JPEG, WebP and others.")
    ],
    model: ModelName = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The PNG to write. Default: inverted.png.")
    ] = None,
    film: Annotated[Path | None, typer.Option(help="Also a film of the search, as MP4.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Take each picture as a face; look for none in it.")
    ] = False,
    crop: Annotated[
        Literal["model", "tight", "portrait"],
        typer.Option(help="How a face is cropped: as the model's own faces are, or as face sets are."),
    ] = "model",
    space: Annotated[
        Literal["z", "w", "w+"] | None,
        typer.Option("--space", help="Where to search. Default: w+ if the model has styles, else z."),
    ] = None,
    steps: Annotated[
        int, typer.Option(callback=within(0, 10_000), help="Steps in w, or in z; 0: the start alone.")
    ] = 50,
    more: Annotated[
        int, typer.Option("--more", callback=within(1, 10_000), help="Steps in w+, after those in w.")
    ] = 250,
    data: Annotated[
        Path | None, typer.Option(help="A face set to compare the fit with, in place of samples.")
    ] = None,
    samples: Annotated[
        int, typer.Option(callback=within(16, 100_000), help="How many faces the fit is compared with.")
    ] = 256,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Write no text into the picture and film.")
    ] = False,
) -> None:
    """Find the faces of a model that are most like pictures, and their latents.

    Writes the pictures beside their faces, a latent file (.safetensors) that other commands take, and a run
    file (.json).
    """
    import numpy as np

    from ..abilities import HasDensity
    from ..data.store.faceset import FaceSet
    from ..data.text import one_line
    from ..errors import UserError
    from ..explore.fits import Judge
    from ..explore.inversion import Effort, aligned_pictures, default_space, inverted, names
    from ..explore.latents import write_latents
    from ..explore.provenance import PAGE, Provenance, faces_of
    from ..model import load_model
    from ..pages.files import checked_file, metadata, recipe_text, run_file
    from ..pages.inversion import FILMED, Film, write_inversion
    from ..settings import Settings

    path = checked_file(default_out(out, "inverted.png", ".safetensors"), ".png")
    beside = path.with_suffix(".safetensors")
    moving = None if film is None else checked_file(film, ".mp4")
    loaded, effort = load_model(model), Effort(steps=steps, more=more, samples=samples)
    chosen = default_space(loaded, space)
    if moving is not None and loaded.can(HasDensity):
        raise UserError("--film: this model encodes without a search, so there is nothing to film")
    judge = None
    if data is not None:
        faces = FaceSet.open(data)
        rows = np.sort(np.random.default_rng(0).permutation(len(faces))[:samples])
        judge = Judge.of(faces.pixels(rows, loaded.resolution), f"faces of {one_line(data, 60)}")
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        print(line, flush=True)

    pictures = aligned_pictures(files, loaded, crop=crop, whole=whole, tell=tell, progress=progress())
    filmed = None
    if moving is not None:
        filmed = Film(pictures, steps + (more if chosen == "w+" else 0))
        filmed.check()
    found = inverted(
        loaded, pictures, space=chosen, effort=effort, judge=judge, watch=filmed, progress=progress()
    )
    called = names(files)
    for row, name in enumerate(called):
        tell(f"{name}: {found.words(row)}")
        if found.editable is not None:
            tell(f"{name}: {found.editable.words(row)}")
    print(f"{found.seconds:.1f} s for each picture")
    points, settings = found.points, Settings()
    origins = [{"name": name, "file": name, "inverted": True} for name in called]
    recipe = Provenance(PAGE, loaded.about, faces_of(points, origins), settings, {"space": found.space})
    outputs = [path, beside]
    with metadata(not no_metadata):
        text = recipe_text(recipe)
        print(write_inversion(loaded.about, found, called, path, text))
        print(write_latents(beside, points, called, loaded.about, origins=origins, settings=settings))
        if filmed is not None and moving is not None:
            print(filmed.write(moving, found.faces, text))
            outputs.append(moving)
            if len(pictures) > FILMED:
                tell(f"the film shows the first {FILMED} of {len(pictures):,} pictures")
    fits = [
        {
            "name": name,
            "started from": found.began[row],
            "distance": float(found.fit.distances[row]),
            "nearer than it": float(found.fit.nearer[row]),
            "largest error": float(found.largest[row]),
        }
        for row, name in enumerate(called)
    ]
    how = {
        "space": found.space,
        "effort": replace(effort).__dict__,
        "whole": whole,
        "crop": crop,
        "fits": fits,
        "features": found.fit.space,
        "compared with": f"{found.fit.others.shape[1]:,} {found.fit.kind}",
        "seconds": round(found.seconds, 2),
    }
    record = faces_of(points, origins)
    print(
        run_file(
            outputs,
            command=TYPED.get(),
            model=loaded,
            settings=settings,
            faces=record,
            arguments=how,
            told=told,
        )
    )
