"""``omokage explain``: figures that show what a latent space does, from the user's own model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .helptexts import TYPED
from .options import Named, default_out, metadata_option, one_model, progress, tell_count, within

if TYPE_CHECKING:
    import numpy as np

    from ..explore.explain import Explained
    from ..model import Model

app = typer.Typer(
    help="What a latent space does, as figures with three sentences from your own model.",
)

Source = Annotated[
    str | None, typer.Argument(metavar="RUN|SNAPSHOT|NAME", help="Default: the model that ships.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The PNG. Default: the figure's name.")]
Seeds = Annotated[str, typer.Option(help="Two seeds: the ends of the walk.")]
Pictures = Annotated[
    list[Path] | None, typer.Option("--picture", help="A picture of your own; several times.")
]


def _write(explained: "Explained", model: "Model", path: Path, inputs: dict[str, Any]) -> None:
    from .. import __version__
    from ..files import replacing
    from ..pages.explain import write_explained

    for sentence in explained.sentences:
        print(sentence)
    print(write_explained(model.about, explained, path))
    record = {
        "omokage": __version__,
        "command": TYPED.get(),
        "model": {"recipe": model.about.recipe, "images": model.images_seen, "snapshot": model.snapshot_hash},
        "inputs": inputs,
        "sentences": list(explained.sentences),
        **explained.numbers,
    }
    beside = path.with_name(path.name + ".json")
    with replacing(beside) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(beside)
    tell_count(explained.not_finite)


def _path(out: Path | None, name: str) -> Path:
    from ..pages.files import checked_file

    return checked_file(default_out(out, name), ".png")


def _faces(data: Path, model: "Model", most: int) -> "np.ndarray":
    """At most ``most`` faces of a face set, drawn with a fixed seed, uint8 (N, H, W, 3)."""
    import numpy as np

    from ..data.store.faceset import FaceSet

    faces = FaceSet.open(data)
    rows = np.sort(np.random.default_rng(0).permutation(len(faces))[:most])
    return faces.pixels(rows, model.resolution)


def _pictures(files: list[Path], model: "Model") -> "np.ndarray":
    from ..explore.inversion import aligned_pictures

    return aligned_pictures(files, model, tell=lambda line: typer.echo(line, err=True), progress=progress())


@app.command()
@metadata_option
def truncation(
    source: Source = None,
    named: Named = None,
    out: Out = None,
    data: Annotated[
        Path | None, typer.Option(help="A face set to compare with. Default: other samples at psi 1.")
    ] = None,
    samples: Annotated[
        int,
        typer.Option(callback=within(100, 100_000), help="Samples for each psi, and at most so many faces."),
    ] = 1000,
) -> None:
    """What truncation trades: precision and recall over psi."""
    from ..data.text import one_line
    from ..explore.explain import truncation as explain
    from ..model import load_model

    path, model = _path(out, "explain-truncation.png"), load_model(one_model(source, named))
    real = None if data is None else _faces(data, model, samples)
    called = "faces" if data is None else f"faces of {one_line(data.name, 40)}"
    found = explain(model, real, samples=samples, called=called, progress=progress())
    _write(found, model, path, {"data": None if data is None else str(data), "samples": samples})


@app.command()
@metadata_option
def entanglement(
    source: Source = None,
    named: Named = None,
    out: Out = None,
    pairs: Annotated[
        int, typer.Option(callback=within(20, 100_000), help="Pairs of latents for the path lengths.")
    ] = 200,
    seeds: Seeds = "0,1",
) -> None:
    """How entangled z and w are: perceptual path lengths."""
    from ..abilities import HasStyles
    from ..errors import UserError
    from ..explore.explain import entanglement as explain
    from ..model import load_model
    from .options import parse_seeds

    ends = parse_seeds(seeds)
    if len(ends) != 2:
        raise UserError(f"--seeds: {len(ends)} seeds; the walk has two ends, like 0,1")
    path, model = _path(out, "explain-entanglement.png"), load_model(one_model(source, named))
    model.require(HasStyles)
    found = explain(model, pairs=pairs, seeds=(ends[0], ends[1]), progress=progress())
    _write(found, model, path, {"pairs": pairs, "seeds": ends})


@app.command()
@metadata_option
def blur(
    source: Source = None,
    named: Named = None,
    out: Out = None,
    data: Annotated[Path | None, typer.Option(help="A face set; 64 of its faces are used.")] = None,
    picture: Pictures = None,
) -> None:
    """Why a VAE blurs: reconstructions beside means of decodings, and their spectra."""
    import numpy as np

    from ..abilities import HasPosterior
    from ..errors import UserError
    from ..explore.explain import blur as explain
    from ..model import load_model

    path, model = _path(out, "explain-blur.png"), load_model(one_model(source, named))
    model.require(HasPosterior)
    parts = [_pictures(picture, model)] if picture else []
    parts += [_faces(data, model, 64)] if data is not None else []
    if not parts:
        raise UserError("explain blur: needs pictures: --data faces/, or --picture twice or more")
    found = explain(model, np.concatenate(parts), progress=progress())
    _write(found, model, path, {"data": None if data is None else str(data), "pictures": len(picture or [])})


@app.command()
@metadata_option
def inverse(
    source: Source = None,
    named: Named = None,
    out: Out = None,
    data: Annotated[
        Path | None, typer.Option(help="A face set; 64 of its faces are used. Default: samples.")
    ] = None,
    picture: Pictures = None,
) -> None:
    """A flow's exact inverse: pictures to latents and back, and lengths of latents."""
    import numpy as np

    from ..abilities import Exact
    from ..explore.explain import inverse as explain
    from ..model import load_model

    path, model = _path(out, "explain-inverse.png"), load_model(one_model(source, named))
    model.require(Exact)
    parts = [_pictures(picture, model)] if picture else []
    parts += [_faces(data, model, 64)] if data is not None else []
    found = explain(model, np.concatenate(parts) if parts else None, progress=progress())
    _write(found, model, path, {"data": None if data is None else str(data), "pictures": len(picture or [])})
