"""Explorations as files: walks, traversals, truncation and mixing of faces, and pictures made again.

Commands, the studio and notebooks call these functions. Each takes faces from
`omokage.explore.inputs.gather`, writes one file and returns what it made. The recipe in a PNG names the
function and its arguments, so that `remake` makes the picture again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import __version__
from .errors import UserError
from .explore import mixing, traversal, walks
from .explore.directions import SHARED, Direction, Goal
from .explore.faces import Faces
from .explore.history import Stage, spread, stages
from .explore.inputs import Gathered, of_recipe
from .explore.points import Points, drawn, joined, stacked
from .explore.provenance import Provenance, edited, faces_of, packed, settings_for, unpacked
from .explore.truncation import at_psi, psis_for, truncated
from .model import PLAIN, Model, load_model
from .pages import figures
from .pages import montage as pages_montage
from .pages.files import checked_file, count_not_finite, recipe_text
from .pages.sheet import bands
from .pages.upscale import AS_THEY_ARE, Upscale
from .pages.video import FORMATS, check_film, checked_film, tiled, write_video
from .progress import Progress, opened
from .report.read import MINUTES, Run, number, read_runs
from .samples import write_grid, write_sheet
from .sampling import FILM_SEEDS, seed_ranges
from .settings import Settings

Pixels = tuple[np.ndarray, np.ndarray]  # faces uint8 (N, H, W, 3), and which of them are finite

SECONDS = 1.5  # from one face of a film to the next, unless a length is asked for


@dataclass(frozen=True)
class Made:
    """What an exploration made.

    Attributes:
        path: the file.
        points: the points of the new faces, for a latent file; those of the faces given, if there are none.
        names, origins: of these points, as in `omokage.explore.inputs.Gathered`.
        not_finite: how many faces are not finite and shown black.
        told: lines to say to the user.
    """

    path: Path
    points: Points
    names: Sequence[str]
    origins: Sequence[dict[str, Any]]
    not_finite: int = 0
    told: Sequence[str] = ()


def _recipe(
    kind: str, model: Model, faces: Gathered, settings: Settings, enlarge: Upscale, **arguments: Any
) -> Provenance:
    height, width = model.resolution
    return Provenance(
        kind,
        model.about,
        faces_of(faces.points, faces.origins),
        settings_for(faces.points, settings),
        {**arguments, "in": faces.points.space},
        enlarge.text,
        (width, height),
    )


def _line(model: Model, faces: Gathered, settings: Settings) -> str:
    """The small print of a page: the model, the faces and psi."""
    named = f"seeds {seed_ranges(faces.seeds)}" if faces.seeds else f"{len(faces):,} faces"
    if faces.seeds and len(faces.seeds) == 1:
        named = f"seed {faces.seeds[0]}"
    return model.about.line(named, f"psi {settings.text()['psi']}")


def walk(
    model: Model,
    faces: Gathered,
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    seconds: float | None = None,
    frames_per_second: float = 30,
    path: walks.Path = "auto",
    ease: str = "smooth",
    loop: bool | None = None,
    steps: int = 8,
    tiles: tuple[int, int] = (1, 1),
    enlarge: Upscale = AS_THEY_ARE,
    text: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Made:
    """Faces that turn into one another: a film (.mp4, .webp, .gif) or a strip (.png), by the name of ``out``.

    Every face that was given is met exactly. The memory needed does not grow with the length of a film.

    Args:
        seconds: length of the film; None: `SECONDS` from face to face.
        path: see `omokage.explore.walks.at_places`.
        ease: "smooth" rests a moment at each face, "long" rests longer, "linear" does not rest.
        loop: back to the first face. None: films return, strips do not.
        steps: faces in a strip from one face to the next, both included.
        tiles: (columns, rows) of walks side by side in a film. Each takes every n-th face, n being the number
            of walks.
        text: what a film's file says of its making; None: its recipe.

    Raises:
        UserError: fewer than two faces for a walk, impossible values, or a name that cannot be written.
    """
    columns, rows = tiles
    if min(columns, rows) < 1:
        raise UserError(f"--tiles: got {columns}x{rows}, both must be 1 or more")
    number = columns * rows
    if len(faces) < 2 * number or len(faces) % number:
        many = f"{columns}x{rows} walks need a multiple of {number} faces, at least {2 * number}"
        raise UserError(f"{many if number > 1 else 'a walk needs two faces or more'}; got {len(faces)}")
    suffix = Path(out).suffix.lower()
    if suffix not in (*FORMATS, ".png"):
        raise UserError(f"{out}: the name must end in {', '.join(FORMATS)} (a film) or .png (a strip)")
    if suffix == ".png":
        if number > 1:
            raise UserError(f"{out}: tiles are for films, which end in {', '.join(FORMATS)}")
        return _strip(model, faces, out, settings, path, ease, bool(loop), steps, enlarge, progress)
    height, width = (side * enlarge.factor for side in model.resolution)
    check_film((height, width), tiles)
    written, loop = checked_film(out), loop is not False
    stops = len(faces) // number
    seconds = SECONDS * (stops if loop else stops - 1) if seconds is None else seconds
    if not (0 < seconds <= 86_400 and 0 < frames_per_second <= 240):
        raise UserError(
            f"a film has up to 86,400 seconds and 240 frames a second, got {seconds:g} and "
            f"{frames_per_second:g}"
        )
    along = walks.places(stops, round(seconds * frames_per_second), loop=loop, ease=ease)
    side_by_side = [
        [walks.Place(at.start * number + own, at.end * number + own, at.t) for own in range(number)]
        for at in along
    ]
    told = _recipe(
        "walk", model, faces, settings, enlarge, seconds=seconds, frames_per_second=frames_per_second,
        path=path, ease=ease, loop=loop, tiles=f"{columns}x{rows}",
    )  # fmt: skip
    lost: list[int] = []
    with opened(progress, "filming", len(along)) as task:

        def pictures() -> Any:
            shown = walks.film(model, faces.points, side_by_side, settings, path)
            for frame, (pixels, finite) in enumerate(shown):
                lost.extend([frame] * (not finite.all()))
                yield enlarge(pixels)
                task.advance()

        said = recipe_text(told) if text is None else dict(text)
        write_video(tiled(pictures(), columns), written, frames_per_second=frames_per_second, text=said)
    lines = [f"not finite, shown black: frames {seed_ranges(lost)}"] if lost else []
    return Made(written, faces.points, faces.names, faces.origins, 0, lines)


def _strip(
    model: Model,
    faces: Gathered,
    out: str | Path,
    settings: Settings,
    path: walks.Path,
    ease: str,
    loop: bool,
    steps: int,
    enlarge: Upscale,
    progress: Progress | None,
) -> Made:
    written = checked_file(out, ".png")
    if not 2 <= steps <= 100:
        raise UserError(f"--steps {steps}: allowed is 2 to 100, both faces included")
    if ease not in walks.EASINGS:
        raise UserError(f"--ease {ease}: there are {', '.join(walks.EASINGS)}")
    stops = len(faces)
    legs = [(leg, (leg + 1) % stops) for leg in range(stops if loop else stops - 1)]
    shares = [walks.EASINGS[ease](step / (steps - 1)) for step in range(steps)]
    points = [
        walks.at_places(faces.points, [walks.Place(start, end, t) for t in shares], path)
        for start, end in legs
    ]
    pixels, finite = stacked(drawn(model, joined(points), settings, progress), model.resolution)
    shown = []
    for leg, (start, end) in enumerate(legs):
        part, names = slice(leg * steps, (leg + 1) * steps), (faces.names[start], faces.names[end])
        captions = [names[0], *(f"{t:.2f}" for t in shares[1:-1]), names[1]]
        heading = f"{names[0]} to {names[1]}"
        shown.append(Faces(enlarge(pixels[part]), captions, heading, finite[part]))
    lost = int((~finite).sum())
    told = _recipe(
        "walk", model, faces, settings, enlarge, path=path, ease=ease, loop=loop, steps=steps
    )
    bands(
        shown,
        written,
        title="From face to face",
        line=_line(model, faces, settings),
        columns=steps,
        text=recipe_text(told) | count_not_finite(lost),
    )
    return Made(written, faces.points, faces.names, faces.origins, lost)


def traverse(
    model: Model,
    faces: Gathered,
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    entries: Sequence[int] | None = None,
    times: Sequence[float] = traversal.TIMES,
    moves: Sequence[Direction] = (),
    title: str | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
) -> Made:
    """One row for each entry of the latent, one column for each K that it is multiplied by; 1 is the face.

    This is the figure of liao2021. ``entries`` are counted from 1; None: the first and tenths of all. With
    ``moves``, named directions, there is one row for each of them instead, and ``times`` are added amounts; 0
    is then the face itself.

    Raises:
        UserError: no such entry, no K, or a name that cannot be written.
    """
    written = checked_file(out, ".png")
    space = faces.points.space
    if moves:
        groups = traversal.along(model, faces.points, moves, times, settings, progress)
        arguments: dict[str, Any] = {**_moves_told(moves), "times": list(times)}
        title = "Along directions" if title is None else title
        columns, rows, still = [f"{time:+g}" for time in times], "direction", 0.0
    else:
        if entries is None:
            entries = traversal.default_entries(traversal.entries_in(model, space))
        groups = traversal.traversal(model, faces.points, entries, times, settings, progress)
        arguments = {"entries": list(entries), "times": list(times)}
        title = f"Traversal of {space}" if title is None else title
        columns, rows, still = [f"K = {time:g}" for time in times], "entry", 1.0
    lost = sum(row.not_finite for group in groups for row in group)
    told = _recipe("traverse", model, faces, settings, enlarge, **arguments, title=title)
    figures.table(
        [[replace(row, pixels=enlarge(row.pixels)) for row in group] for group in groups],
        written,
        title=title,
        line=_line(model, faces, settings),
        columns=columns,
        names=faces.names if len(faces) > 1 else [],
        rows=rows,
        marked=[place for place, time in enumerate(times) if time == still],
        text=recipe_text(told) | {"Title": title} | count_not_finite(lost),
    )
    return Made(written, faces.points, faces.names, faces.origins, lost)


def truncate(
    model: Model,
    faces: Gathered,
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    psis: Sequence[float] | None = None,
    title: str | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
) -> Made:
    """One row for each face, one column for each psi: from full variety to the average face, and beyond it.

    As in Karras et al. 2019, figure 8. ``psis`` None: `omokage.explore.truncation.psis_for`. ``settings``:
    all but psi.

    Raises:
        UserError: a psi that the family does not have, or a name that cannot be written.
    """
    written = checked_file(out, ".png")
    chosen = [float(psi) for psi in (psis_for(model) if psis is None else psis)]
    columns = truncated(model, faces.points, chosen, settings, progress)
    title = "Truncation" if title is None else title
    rows = [
        Faces(
            enlarge(np.stack([column.pixels[row] for column in columns])),
            heading=name.removeprefix("seed ") if faces.seeds else name,
        )
        for row, name in enumerate(faces.names)
    ]
    lost = sum(column.not_finite for column in columns)
    told = _recipe("truncate", model, faces, settings, enlarge, psis=chosen, title=title)
    if faces.points.z is not None:  # it is what was truncated, see `at_psi`; their styles have another psi
        told = replace(told, faces=faces_of(Points(z=faces.points.z), faces.origins))
    said = {"Title": title, "psi": ",".join(f"{psi:g}" for psi in chosen)} | count_not_finite(lost)
    figures.table(
        [rows],
        written,
        title=title,
        line=model.about.line(),
        columns=[column.heading for column in columns],
        text=recipe_text(told) | said,
    )
    stacks = [at_psi(model, faces.points, psi, settings) for psi in chosen]
    plain = [Points(w=one.w) if one.w is not None else one for one in stacks]
    names = [f"{name} psi {psi:g}" for psi in chosen for name in faces.names]
    origins = [edited(origin, {"psi": psi}) for psi in chosen for origin in faces.origins]
    return Made(written, joined(plain), names, origins, lost)


def mix(
    model: Model,
    faces: Gathered,
    others: Gathered,
    out: str | Path,
    *,
    settings: Settings = PLAIN,
    styles: str | None = None,
    title: str | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
) -> Made:
    """Faces of A (rows) with some styles of the faces of B (columns), as in Karras et al. 2019, figure 3.

    Both must be gathered with ``settings``.
    ``styles``: "coarse", "middle", "fine", several of them with commas, or layers such as "1-3,8", counted
    from 1. None: as in `omokage.explore.mixing.mixing`.

    Raises:
        UserError: a family without styles, layers that do not exist, or a name that cannot be written.
    """
    written = checked_file(out, ".png")
    choices = None if styles is None else mixing.parse_choices(model, styles)
    mixed = mixing.mixing(model, faces.points, others.points, settings, progress, choices)
    both = Gathered(
        joined([_only_w(faces.points), _only_w(others.points)]),
        [*faces.names, *others.names],
        [*faces.origins, *others.origins],
    )
    arguments = {} if styles is None else {"styles": styles}
    arguments |= {} if title is None else {"title": title}
    told = _recipe("mix", model, both, settings, enlarge, of_a=len(faces), **arguments)
    large = replace(
        mixed,
        of_a=enlarge(mixed.of_a),
        of_b=enlarge(mixed.of_b),
        mixed=np.stack([enlarge(row) for row in mixed.mixed]),
    )
    figures.mixing(model.about, large, written, text=recipe_text(told), settings=settings, title=title)
    names, origins = [], []
    for row, kind in zip(mixed.rows, mixed.kinds, strict=True):
        for name, origin in zip(others.names, others.origins, strict=True):
            what = mixed.names[kind].lower()
            names.append(f"{faces.names[row]}, {what} of {name}")
            new = edited(faces.origins[row], {"styles": what, "from": name})
            other = {key: value for key, value in origin.items() if key not in ("z", "w")}
            origins.append({**new, "parents": [*new["parents"], other]})
    return Made(written, Points(w=mixed.w.flatten(0, 1)), names, origins, mixed.not_finite)


def steered(
    model: Model,
    faces: Gathered,
    moved: Gathered,
    out: str | Path,
    *,
    captions: Sequence[str],
    title: str,
    settings: Settings = PLAIN,
    shown: Sequence[Pixels] | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
    **arguments: Any,
) -> Made:
    """Faces before and after they were moved, with ``captions`` below the moved ones.

    ``shown``: pixels uint8 (N, H, W, 3) of both, and which of them are finite, if they are drawn already. Who
    takes faces from the picture gets the moved ones. ``arguments`` are kept in the recipe.

    Raises:
        UserError: a name that cannot be written.
    """
    written = checked_file(out, ".png")
    both = shown or [
        stacked(drawn(model, one.points, settings, progress), model.resolution) for one in (faces, moved)
    ]
    (before, whole), (after, finite) = both
    arguments |= {"captions": list(captions), "title": title}
    told = _recipe(
        "steer", model, moved, settings, enlarge, before=faces_of(faces.points, faces.origins), **arguments
    )
    bands(
        [
            Faces(enlarge(before), faces.names, "before", whole),
            Faces(enlarge(after), captions, title, finite),
        ],
        written,
        title=title,
        line=model.about.line(),
        columns=min(len(faces), 8),
        text=recipe_text(told, finite),
    )
    lost = int((~finite).sum())
    return Made(written, moved.points, moved.names, moved.origins, lost)


def selected(
    model: Model,
    faces: Gathered,
    out: str | Path,
    *,
    captions: Sequence[str],
    title: str,
    among: int,
    settings: Settings = PLAIN,
    shown: Pixels | None = None,
    enlarge: Upscale = AS_THEY_ARE,
    progress: Progress | None = None,
    **arguments: Any,
) -> Made:
    """Faces that were chosen ``among`` so many samples, with ``captions``; the rest is as in `steered`."""
    written = checked_file(out, ".png")
    pixels, finite = shown or stacked(drawn(model, faces.points, settings, progress), model.resolution)
    arguments |= {"captions": list(captions), "title": title, "among": among}
    told = _recipe("select", model, faces, settings, enlarge, **arguments)
    bands(
        [Faces(enlarge(pixels), captions, finite=finite)],
        written,
        title=title,
        line=model.about.line(f"{len(faces):,} of {among:,} samples"),
        columns=min(8, len(faces)),
        text=recipe_text(told, finite),
    )
    return Made(written, faces.points, faces.names, faces.origins, int((~finite).sum()))


def _only_w(points: Points) -> Points:
    return Points(w=points.w) if points.w is not None else points


def montage(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    seeds: Sequence[int] = FILM_SEEDS,
    settings: Settings = PLAIN,
    source: str = "auto",
    clock: str = "images",
    seconds: float | None = None,
    rows: int = 8,
    title: str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, int, list[str]]:
    """The film of a training: fixed seeds over the images seen, FID and losses drawing themselves beneath.

    Several runs stand side by side on one clock. A name that ends in .png makes a picture of one run: a row
    for each moment, a column for each seed.

    Args:
        runs: run folders.
        seeds, source: as `omokage.explore.history.stages`. Training keeps pictures of the seeds 0 to 15.
        clock: "images" seen or "minutes" of training.
        seconds: length without the last picture; None: 15 moments a second, 6 seconds at least.
        rows: of a picture, at most so many moments, at about equal ratios of images seen.
        title: of a picture; None: "Progression".

    Returns:
        The path, how many faces shown are not finite, and lines to say to the user.

    Raises:
        UserError: no run, a run with fewer than two moments, several runs for a picture, an unknown clock,
            or a name that cannot be written.
    """
    if clock not in ("images", "minutes"):
        raise UserError(f"--clock {clock}: there are images and minutes")
    picture = Path(out).suffix.lower() == ".png"
    if picture and len(runs) != 1:
        raise UserError(f"{out}: a picture shows one run, got {len(runs)}; a film (.mp4) shows several")
    if not picture:
        checked_film(out)
    read, problems = read_runs(runs)
    if len(read) < len({str(run) for run in runs}):
        raise UserError(problems[0])
    films, told, largest = [], list[str](), (1, 1)
    for run in read:
        if run.snapshot is None:
            raise UserError(f"{run.folder}: no snapshot yet; let omokage train run longer")
        model = load_model(run.snapshot)
        model.check(settings)
        moments = stages(run.folder, model, seeds, settings, source)
        if picture:
            shown = spread(moments, rows)
            written, lost = figures.progression(
                model.about, shown, model.resolution, out, seeds=seeds, settings=settings, title=title,
                progress=progress,
            )  # fmt: skip
            return written, lost, [f"{run.name}: {len(shown):,} of {len(moments):,} moments"]
        largest = max(largest, model.resolution)
        films.append(_filmed(run, model, moments, clock))
        told.append(f"{run.name}: {len(moments):,} moments")
    text = {
        "Software": f"omokage {__version__}",
        "runs": ", ".join(f"{run.name} ({run.snapshot.name})" for run in read if run.snapshot),
        "seeds": seed_ranges(seeds),
    } | settings.text()
    written, lost = pages_montage.montage(
        films,
        largest,
        len(seeds),
        out,
        unit_of_clock="images seen" if clock == "images" else "minutes of training",
        seconds=seconds,
        text=text,
        progress=progress,
    )
    return written, lost, told


def _filmed(run: Run, model: Model, moments: Sequence[Stage], clock: str) -> pages_montage.Filmed:
    """A run for `omokage.pages.montage.montage`: its moments and curves on the clock."""
    known = [(0.0, 0.0)]  # images seen and minutes
    for line in run.lines:
        minutes = number(line.get(MINUTES))
        if minutes is not None and line["images"] > known[-1][0] and minutes >= known[-1][1]:
            known.append((float(line["images"]), float(minutes)))
    images, minutes_ = zip(*known, strict=True)

    def minutes_at(seen: float) -> float:
        return float(np.interp(seen, images, minutes_))

    def place(seen: float) -> float:
        return float(seen) if clock == "images" else minutes_at(seen)

    def said(at: float) -> str:
        seen = at if clock == "images" else float(np.interp(at, minutes_, images))
        spent = minutes_at(seen)
        words = f"{seen:,.0f} images"
        return f"{words}, {spent:.0f} min" if len(known) > 1 else words

    charts: dict[str, list[pages_montage.Curve]] = {}
    names = list(dict.fromkeys(name for line in run.lines for name in line))
    for title, prefix in (("FID", "fid/"), ("losses", "loss/")):
        for name in names:
            if name.startswith(prefix):
                pairs = [(line["images"], number(line.get(name))) for line in run.lines]
                kept = [(place(x), y) for x, y in pairs if y is not None]
                curve = pages_montage.Curve(name.removeprefix(prefix), *_columns(kept))
                charts.setdefault(title, []).append(curve)
    if "FID" not in charts:
        found: dict[str, list[tuple[float, float]]] = {}
        for record in run.evaluations:
            seen, fid = number(record.get("images")), number(record.get("fid"))
            if seen is not None and fid is not None:
                found.setdefault(str(record["protocol"]), []).append((place(seen), fid))
        curves = [pages_montage.Curve(name, *_columns(sorted(pairs))) for name, pairs in found.items()]
        charts |= {"FID": curves} if curves else {}
    charts = {title: charts[title] for title in ("FID", "losses") if title in charts}
    shown = [(place(moment.images), moment.faces) for moment in moments if place(moment.images) > 0]
    if len(shown) < 2:
        raise UserError(f"{run.folder}: its log does not say the minutes; use --clock images")
    small = f"{model.about.recipe}  ·  {model.about.images_seen:,} images seen"
    return pages_montage.Filmed(run.name, small, shown, said, charts)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def remake(
    model: Model, told: Provenance, out: str | Path, progress: Progress | None = None
) -> Path:
    """Make a picture again from its recipe. Returns the path written.

    On the machine that made it the pixels are the same, bit for bit. Another processor may differ in the last
    bit of a value, and so rarely by one level of a colour.

    Raises:
        UserError: the recipe is of another model, has no faces, or is of a picture that needs more than a
            recipe, such as a figure.
    """
    if told.about.snapshot_hash != model.about.snapshot_hash:
        raise UserError(
            f"made by another model ({told.about.recipe}, {told.about.images_seen:,} images seen, snapshot "
            f"{told.about.snapshot_hash[:12]}); name that one with --model"
        )
    model.check(replace(told.settings, psi=1.0))
    if told.kind not in MADE_AGAIN:
        raise UserError(f"a picture of kind {told.kind!r} is not made from its recipe; call its command")
    if not told.complete:
        raise UserError("its recipe has no latents; they were too many for the picture's text")
    method = {"lanczos": "lanczos"}.get(str(told.upscale.get("name", "")), "auto")
    cut = told.upscale.get("transparent") is True
    enlarge = Upscale(int(told.upscale.get("factor", 1)), method, transparent=cut)
    if enlarge.name != told.upscale.get("name", ""):
        raise UserError(f"it was enlarged by {told.upscale.get('name')}, and this machine has {enlarge.name}")
    how: dict[str, Any] = {"enlarge": enlarge, "progress": progress}
    given = dict(told.arguments)
    space = given.pop("in", None)
    try:
        faces = of_recipe(model, told, space)
        return MADE_AGAIN[told.kind](model, faces, Path(out), replace(told.settings), given, how)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"its recipe is damaged ({error})") from error


def _again_face(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    pixels, _ = stacked(drawn(model, faces.points, settings), model.resolution)
    told = replace(_recipe("face", model, faces, settings, how["enlarge"]), arguments={})
    from .pages.files import save_png

    return save_png(how["enlarge"](pixels)[0], checked_file(out, ".png"), recipe_text(told))


def _again_grid(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    columns = int(given["columns"])
    return write_grid(model, faces.seeds or faces, out, settings=settings, columns=columns, **how)


def _again_sheet(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    given = {"columns": int(given["columns"]), "title": given.get("title")}
    return write_sheet(model, faces.seeds or faces, out, settings=settings, **given, **how)


def _again_walk(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    return walk(model, faces, out, settings=settings, **given, **how).path


def _again_traverse(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    moves = _moves_again(given.pop("directions", []), given.pop("goals", {}))
    given |= {"moves": moves} if moves else {}
    return traverse(model, faces, out, settings=settings, **given, **how).path


def _moves_told(moves: Sequence[Direction]) -> dict[str, Any]:
    """Directions for a recipe, with all that `_moves_again` needs."""
    told, goals = [], dict[str, dict[str, Any]]()
    for move in moves:
        one = {"name": move.name, "layers": list(move.layers), "vector": packed(move.vector)}
        if move.goal is not None:
            one |= {"attribute": move.attribute, "place": packed(move.goal.place)}
            goals[move.attribute] = {part: packed(getattr(move.goal, part)) for part in SHARED}
        told.append(one)
    return {"directions": told, **({"goals": goals} if goals else {})}


def _moves_again(told: Sequence[Mapping[str, Any]], goals: Mapping[str, Any]) -> list[Direction]:
    moves = []
    for move in told:
        size = int(move["vector"]["shape"][0])
        if size > 10**7:
            raise ValueError("a direction too long")
        goal = None
        if "place" in move:
            parts, values = goals[str(move["attribute"])], int(move["place"]["shape"][0])
            if values > 1000:
                raise ValueError("too many values")
            shapes = {"reading": [values, size], "way": [values, size], "spread": [values, values]}
            found = {part: unpacked(parts[part], shape).double() for part, shape in shapes.items()}
            goal = Goal(**found, place=unpacked(move["place"], [values]).double())
        layers = tuple(int(layer) for layer in move.get("layers", ()))
        vector = unpacked(move["vector"], [size])
        moves.append(Direction(str(move["name"]), vector, layers=layers, goal=goal))
    return moves


def _again_truncate(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    return truncate(model, faces, out, settings=settings, **given, **how).path


def _again_mix(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    of_a = int(given.pop("of_a"))
    a, b = (
        Gathered(faces.points[part], faces.names[part], faces.origins[part])
        for part in (slice(of_a), slice(of_a, None))
    )
    return mix(model, a, b, out, settings=settings, **given, **how).path


def _again_steer(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    told = Provenance("steer", model.about, given.pop("before"), settings)
    before = of_recipe(model, told, faces.points.space)
    return steered(model, before, faces, out, settings=settings, **given, **how).path


def _again_select(model: Model, faces: Any, out: Path, settings: Any, given: Any, how: Any) -> Path:
    return selected(model, faces, out, settings=settings, **given, **how).path


MADE_AGAIN: dict[str, Callable[..., Path]] = {
    "face": _again_face,
    "grid": _again_grid,
    "sheet": _again_sheet,
    "walk": _again_walk,
    "traverse": _again_traverse,
    "truncate": _again_truncate,
    "mix": _again_mix,
    "steer": _again_steer,
    "select": _again_select,
}


def same_pixels(one: str | Path, other: str | Path) -> str:
    """How two pictures compare: "the same, bit for bit", or how many values differ, and by how much."""
    with Image.open(one) as first, Image.open(other) as second:
        a, b = (np.asarray(picture.convert("RGB")).astype(np.int16) for picture in (first, second))
    if a.shape != b.shape:
        return f"another size: {b.shape[1]}×{b.shape[0]} instead of {a.shape[1]}×{a.shape[0]} px"
    differ = np.abs(a - b)
    if not differ.any():
        return "the same, bit for bit"
    return f"{(differ > 0).mean():.2%} of values differ, by {differ.max()} levels of 256 at most"


__all__ = [
    "Made",
    "mix",
    "montage",
    "remake",
    "same_pixels",
    "selected",
    "steered",
    "traverse",
    "truncate",
    "walk",
]
